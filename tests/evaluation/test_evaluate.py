"""Estimates against closed forms, and the warnings that come with them."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal
from torch.utils.data import TensorDataset

from naming import naming
from vaekit import VAE, Bernoulli, Conditional, ContinuousBernoulli, Gaussian, StandardNormal, evaluate
from vaekit.errors import DataError, NotFinite, SpecError
from vaekit.evaluation import Estimate, baseline, bound_rows, kl_per_dimension
from vaekit.evaluation.blocks import BLOCK
from vaekit.evaluation.importance import effective_samples
from vaekit.likelihoods import SoftBernoulli
from vaekit.models.linear_gaussian import LinearGaussian
from vaekit.posteriors import Deterministic
from vaekit.randomness import new_generator


class Diagonal(nn.Module):
    """q(z|x) as the exact posterior with its spread stretched: exact for orthogonal loadings and a stretch of 1."""

    def __init__(self, oracle, stretch=1.0):
        super().__init__()
        self.oracle, self.stretch = oracle, stretch

    def forward(self, x):
        exact = self.oracle.true_posterior(x)
        spread = exact.covariance_matrix.diagonal(dim1=-2, dim2=-1).sqrt() * self.stretch
        return Independent(Normal(exact.loc, spread), 1)


@pytest.fixture
def oracle():
    torch.manual_seed(3)
    loadings, _ = torch.linalg.qr(torch.randn(12, 4, dtype=torch.float64))
    return LinearGaussian(loadings * torch.tensor([2.0, 1.0, 0.5, 0.0]), torch.randn(12, dtype=torch.float64), 0.7)


@pytest.fixture
def rows(oracle):
    z = torch.randn(BLOCK + 57, 4, dtype=torch.float64)
    return z @ oracle.loadings.T + oracle.offset + oracle.noise * torch.randn(len(z), 12, dtype=torch.float64)


def test_the_exact_posterior_gives_the_exact_likelihood(oracle, rows):
    estimates = evaluate(oracle.vae(Diagonal(oracle)), rows, samples=7)
    exact = oracle.log_px(rows)
    assert estimates["log_likelihood"].value == pytest.approx(float(exact.mean()), rel=1e-10)
    assert estimates["log_likelihood"].stderr == pytest.approx(float(exact.std() / math.sqrt(len(rows))), rel=1e-8)
    assert estimates["effective_samples"].value == pytest.approx(7)
    assert estimates["elbo"].value == pytest.approx(-estimates["rate"].value - estimates["distortion"].value)
    assert abs(estimates["elbo"].value - float(exact.mean())) < 0.5
    assert estimates["log_likelihood"].warning == ""


class Frame:
    """A data frame, as far as its columns and numbers go."""

    columns = tuple("abcdefghijkl")

    def __init__(self, values):
        self.values = values

    def to_numpy(self):
        return self.values


def test_rows_may_come_in_any_kind_of_container(oracle, rows):
    model = oracle.vae(Diagonal(oracle))
    expected = evaluate(model, rows, samples=2)
    pairs = TensorDataset(rows, torch.zeros(len(rows)))
    for given in (rows.numpy(), Frame(rows.numpy()), TensorDataset(rows), pairs, rows.tolist()):
        assert evaluate(model, given, samples=2) == expected


def test_the_weighted_bound_lies_between_elbo_and_truth_with_a_posterior_too_wide(oracle, rows):
    model, exact = oracle.vae(Diagonal(oracle, 1.5)), float(oracle.log_px(rows).mean())
    few, many = (evaluate(model, rows, samples=k) for k in (4, 2000))
    assert few["elbo"].value < few["log_likelihood"].value < many["log_likelihood"].value
    assert many["log_likelihood"].value == pytest.approx(exact, abs=0.02)


def test_rate_and_active_units_against_closed_form(oracle, rows):
    model = oracle.vae(Diagonal(oracle))
    kl = kl_per_dimension(model, rows)
    q = Diagonal(oracle)(rows).base_dist
    expected = (0.5 * (q.loc**2 + q.scale**2 - 1) - q.scale.log()).mean(0)
    assert [e.value for e in kl] == pytest.approx(expected.tolist())
    estimates = evaluate(model, rows, samples=2)
    assert estimates["rate"].value == pytest.approx(float(expected.sum()))
    assert estimates["active_units"].value == 3  # one column of the loadings is zero
    assert estimates["active_units_by_variance"].value == 3
    assert estimates["active_units"].unit == "of 4 dimensions"


def test_a_posterior_without_closed_form_has_no_kl_of_dimensions(oracle, rows):
    model = oracle.vae()  # a full covariance
    assert kl_per_dimension(model, rows) is None
    unit = evaluate(model, rows, samples=2)["active_units"]
    assert unit.value is None
    assert "factorise" in unit.warning
    assert unit.as_dict()["value"] is None


def test_a_row_does_not_depend_on_the_rows_after_it(oracle, rows):
    model = oracle.vae(Diagonal(oracle, 1.3))
    whole = evaluate(model, rows[: 2 * BLOCK], samples=5, seed=3)
    first, second = (evaluate(model, part, samples=5, seed=3) for part in (rows[:BLOCK], rows[: BLOCK + 1]))
    assert first["log_likelihood"].n == BLOCK
    assert second["log_likelihood"].value * (BLOCK + 1) - first["log_likelihood"].value * BLOCK < 0
    assert whole["log_likelihood"].n == len(rows)
    assert evaluate(model, rows, samples=5, seed=4)["log_likelihood"].value != whole["log_likelihood"].value


def decoder(head, width):
    return VAE(
        Conditional(nn.Linear(6, 4), Gaussian()), StandardNormal().build(2), Conditional(nn.Linear(2, width), head)
    )


def test_bits_per_dimension_only_for_a_mass():
    torch.manual_seed(0)
    x = torch.bernoulli(torch.full((40, 6), 0.5))
    mass = evaluate(decoder(Bernoulli(), 6), x, samples=8)
    assert mass["bits_per_dim"].value == pytest.approx(-mass["log_likelihood"].value / (6 * math.log(2)))
    density = evaluate(decoder(ContinuousBernoulli(), 6), x, samples=8)["bits_per_dim"]
    assert density.value is None
    assert "density" in density.warning
    score = evaluate(decoder(SoftBernoulli(), 6), x, samples=8)
    assert score["bits_per_dim"].value is None
    for name in ("elbo", "log_likelihood", "distortion", "bits_per_dim"):
        assert "not a log-likelihood" in score[name].warning


def test_a_low_effective_sample_size_is_said(oracle, rows):
    wide = evaluate(oracle.vae(Diagonal(oracle, 8.0)), rows, samples=64)
    assert "effective sample size below 10 of 64" in wide["log_likelihood"].warning
    assert "use more samples" in wide["log_likelihood"].warning


def test_the_baseline_is_the_best_independent_model():
    torch.manual_seed(0)
    x = torch.bernoulli(torch.tensor([0.1, 0.5, 0.9]).expand(5000, 3))
    mean = x.mean(0)
    best = (mean * mean.log() + (1 - mean) * (1 - mean).log()).sum()
    likelihood = Conditional(nn.Linear(2, 3), Bernoulli())
    assert baseline(likelihood, x, x).value == pytest.approx(float(best), abs=1e-3)


def test_bound_rows_is_unbiased_and_leaves_the_mode_alone(oracle, rows):
    model = oracle.vae(Diagonal(oracle, 1.3)).train()
    generator = torch.Generator().manual_seed(0)
    passes = torch.stack([torch.stack(bound_rows(model, rows, None, generator)[:2]).sum(0) for _ in range(200)])
    exact = evaluate(model, rows, samples=500)["elbo"].value
    means = -passes.mean(1)
    assert abs(float(means.mean()) - exact) < 4 * float(means.std()) / math.sqrt(200) + 0.01
    assert model.training


def test_bad_arguments_are_refused(oracle, rows):
    with pytest.raises(SpecError, check=naming("data", 0)):
        evaluate(oracle.vae(), rows[:0])
    with pytest.raises(SpecError, check=naming("samples", 0)):
        evaluate(oracle.vae(), rows, samples=0)


def test_effective_samples_stay_between_one_and_all_of_them():
    """At ln w of 1e14 a difference of logarithms is off by hundredths: 64.001 of 64."""
    for height in (0.0, -9.8e6, 1e14, -3e15):
        alike = effective_samples(torch.full((64, 200), height).double(), 64)
        assert alike.tolist() == [64.0] * 200
        one = torch.full((64, 3), height - 1e15).double()
        one[5] = height
        assert effective_samples(one, 64).tolist() == [1.0] * 3


def test_values_outside_the_support_are_refused_with_their_row():
    x = torch.bernoulli(torch.full((5, 6), 0.5))
    x[3, 2] = 7
    with pytest.raises(DataError, check=naming("row", 3)):
        evaluate(decoder(Bernoulli(), 6), x)
    x[3, 2] = float("nan")
    with pytest.raises(DataError, check=naming("row", 3)):
        evaluate(decoder(Gaussian(), 12), x)


def test_a_model_whose_numbers_are_not_finite_is_named():
    model = decoder(Gaussian(), 12)
    with torch.no_grad():
        model.likelihood.network.bias[0] = float("inf")
    with pytest.raises(NotFinite, check=naming("row", 0)):
        evaluate(model, torch.zeros(5, 6))


def test_numpy_data_and_progress(oracle, rows):
    done: list[int] = []
    evaluate(oracle.vae(Diagonal(oracle)), np.asarray(rows), samples=1, progress=done.append)
    assert done == [BLOCK, 57]


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(-92.1349, 0.4123, 180, "nats"), "-92.13 ± 0.41 nats"),
        (Estimate(1234.5, 56.0, 10, "nats"), "1234 ± 56 nats"),
        (Estimate(None, 0.0, 3, "bits/dim", "why"), "not defined"),
        (Estimate(5.0, 0.0, 3, "of 8"), "5 of 8"),
        (Estimate(10.0, 1.7e-8, 60, "of 10"), "10 of 10"),
        (Estimate(0.5, 3e-7, 60, "nats"), "0.5 ± 3e-07 nats"),
        (Estimate(3.1e-9, 1.2e-9, 60, "nats"), "3.1e-09 ± 1.2e-09 nats"),
        (Estimate(-3.0, float("nan"), 1, "nats"), "-3 nats"),
        (Estimate(-9820201.4, 1234.6, 50, "nats"), "-9820201 ± 1235 nats"),
        (Estimate(-9820201.4, float("nan"), 1, "nats"), "-9820201 nats"),
        (Estimate(-1.234567e14, 4.2e12, 50, "nats"), "-1.235e+14 ± 4.2e+12 nats"),
        (Estimate(1e14, 0.3, 50, "nats"), "1e+14 nats"),
        (Estimate(0.0, 0.0, 50, "nats"), "0 nats"),
        (Estimate(0.0, 2e-9, 50, "nats"), "0 ± 2e-09 nats"),
        (Estimate(1e-9, 2.0, 50, "nats"), "0.0 ± 2.0 nats"),
        (Estimate(float("nan"), float("nan"), 3, "nats"), "nan nats"),
        (Estimate(float("-inf"), 1.0, 3, "nats"), "-inf nats"),
    ],
)
def test_an_estimate_prints_as_many_digits_as_its_error_allows(estimate, text):
    assert str(estimate) == text


def test_a_point_posterior_has_a_distortion_and_no_bound() -> None:
    vae = VAE(
        Conditional(nn.Linear(6, 2), Deterministic(), (2,)),
        StandardNormal().build(2),
        Conditional(nn.Linear(2, 6), Bernoulli()),
    )
    x = torch.bernoulli(torch.full((50, 6), 0.5), generator=new_generator(1))
    found = evaluate(vae, x, samples=3)
    without = {name for name, estimate in found.items() if estimate.value is None}
    assert without == set(found) - {"distortion"}
    assert all("no density" in found[name].warning for name in ("elbo", "log_likelihood", "bits_per_dim", "rate"))
    wanted = -vae.likelihood(vae.posterior(x).mean).log_prob(x).mean()
    assert found["distortion"].value == pytest.approx(wanted.item(), rel=1e-6)
    distortion, rate, _ = bound_rows(vae, x, None, new_generator(0))
    assert distortion.mean().item() == pytest.approx(wanted.item(), rel=1e-6)
    assert not rate.any()
