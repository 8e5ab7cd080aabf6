"""Evaluation of models to which a measure does not apply, and of models with a context."""

import pytest
import torch
from torch import nn

from naming import naming
from vaekit import VAE, Bernoulli, Conditional, Gaussian, StandardNormal
from vaekit.data import Rows
from vaekit.errors import NotApplicable, SpecError
from vaekit.evaluation import (
    Annealing,
    aggregate_posterior,
    annealed_bound,
    bound_curve,
    evaluate,
    kl_per_group,
    representation,
)
from vaekit.models import Mixture
from vaekit.models.building import BuildContext
from vaekit.models.distributions.codes import OneHot, Quantised
from vaekit.models.distributions.delta import Delta
from vaekit.models.networks.context import with_context
from vaekit.samplers.fitting import check_real

pytestmark = pytest.mark.usefixtures("one_thread")


class Deterministic(nn.Module):
    """q(z|x): the first two numbers of x."""

    def forward(self, x):
        return Delta(x[:, :2])


class CodeVectors(nn.Module):
    """q(z|x): the one code vector that the first number of x names."""

    def forward(self, x):
        space = OneHot(1, 2)
        return Quantised(space.z_of(x[:, :1].long()), space)


def model_of(posterior):
    return VAE(posterior, StandardNormal().build(2), Conditional(nn.Linear(2, 5), Bernoulli())).requires_grad_(False)


def with_labels(prior):
    """A model that is conditioned on the label of each row, and 250 rows with labels."""
    torch.manual_seed(0)
    encoder = with_context(lambda shape: nn.Linear(shape[0], 4), (5,), 2)
    decoder = with_context(lambda shape: nn.Linear(shape[0], 5), (2,), 2)
    x, labels = torch.bernoulli(torch.full((250, 5), 0.5)), torch.arange(250) % 2
    rows = Rows(x, labels=labels, context=torch.eye(2)[labels])
    return VAE(Conditional(encoder, Gaussian()), prior, Conditional(decoder, Bernoulli())), rows


def test_a_deterministic_posterior_has_no_bounds():
    model, x = model_of(Deterministic()), torch.ones(7, 5)
    (point,) = bound_curve(model, x, (4,))
    (group,) = kl_per_group(model, x)
    for estimate in (point.bound, point.effective_samples, group, *aggregate_posterior(model, x).values()):
        assert estimate.value is None
        assert "no density" in estimate.warning
    with pytest.raises(NotApplicable, match="no density"):
        annealed_bound(model, x, Annealing(chains=2, temperatures=2))


def test_code_vectors_are_neither_annealed_nor_fitted():
    x = torch.ones(7, 5)
    with pytest.raises(NotApplicable, match="code vectors"):
        annealed_bound(model_of(CodeVectors()), x, Annealing(chains=2, temperatures=2))
    with pytest.raises(SpecError, check=naming("q")):
        check_real(CodeVectors()(x))


def test_rows_bring_the_context_of_the_aggregate_posterior():
    model, rows = with_labels(StandardNormal().build(2))
    found = aggregate_posterior(model, rows)
    assert found == aggregate_posterior(model, rows.batch(slice(0, 250)), context=rows.context_of(slice(0, 250)))
    swapped = torch.eye(2)[torch.arange(250) % 2].flip(1)
    assert found != aggregate_posterior(model, rows.batch(slice(0, 250)), context=swapped)
    assert found["rate"].value == pytest.approx(evaluate(model, rows)["rate"].value, abs=0.2)
    assert all(estimate.value is not None for estimate in found.values())


def test_a_prior_given_the_context_is_no_single_prior():
    prior = Mixture(3).build(2, BuildContext(context_size=2))
    model, rows = with_labels(prior)
    found = aggregate_posterior(model, rows)
    for name, estimate in found.items():
        assert (estimate.value is None) == (name in ("marginal_kl", "dimension_wise_kl"))
        assert ("depends on the context" in estimate.warning) == (estimate.value is None)


def test_probes_see_codes_that_are_made_with_the_context():
    model, rows = with_labels(StandardNormal().build(2))
    with torch.no_grad():  # the first latent is the label, scaled up; the rest is noise
        weight = model.get_parameter("posterior.network.network.weight")
        weight.zero_()
        weight[0, 5] = 9.0
    found = representation(model, rows, rows)
    assert found["linear_codes"].value == found["neighbours_codes"].value == 1.0


def test_the_kl_of_groups_adds_up_to_the_rate():
    model, rows = with_labels(StandardNormal().build(2))
    (only,) = kl_per_group(model, rows)
    assert only.value == pytest.approx(evaluate(model, rows)["rate"].value, rel=1e-5)
    assert only.n == 250
