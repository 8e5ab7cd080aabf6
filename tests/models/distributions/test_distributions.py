"""Densities sum or integrate to one, and the continuous Bernoulli agrees with 60-digit arithmetic everywhere."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributions as td
from torch.distributions import constraints

from vaekit.models import Categorical, Conditional
from vaekit.models.distributions.bernoulli import (
    Bernoulli,
    ContinuousBernoulli,
    SoftBernoulli,
    log_normaliser,
    logits_of_mean,
)
from vaekit.models.distributions.support import in_words, measure

mpmath.mp.dps = 60
LOGITS = [
    sign * size
    for size in (0.0, 1e-300, 1e-9, 1e-4, 0.01, 0.1, 0.2999, 0.3, 0.3001, 1.0, 5.0, 20.0, 40.0, 100.0, 500.0, 1e4, 1e6)
    for sign in (1, -1)
]


def reference_log_normaliser(logit: float) -> mpmath.mpf:
    exact = mpmath.mpf(logit)
    return mpmath.log(mpmath.expm1(exact) / exact) if abs(exact) > 1e-25 else exact / 2


def reference_mean(logit: float) -> mpmath.mpf:
    exact = mpmath.mpf(logit)
    return -1 / mpmath.expm1(-exact) - 1 / exact if abs(exact) > 1e-12 else mpmath.mpf(1) / 2 + exact / 12


def reference_variance(logit: float) -> mpmath.mpf:
    exact = mpmath.mpf(logit)
    if abs(exact) < 1e-12:
        return mpmath.mpf(1) / 12
    return 1 / exact**2 - mpmath.exp(-abs(exact)) / mpmath.expm1(-abs(exact)) ** 2


def as_tensor(values: list[mpmath.mpf]) -> torch.Tensor:
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def logits(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(LOGITS, dtype=dtype, requires_grad=True)


def rounded(dtype: torch.dtype) -> list[float]:
    """The logits as this precision holds them, so that a reference answers the same question."""
    return logits(dtype).double().tolist()


@pytest.mark.parametrize("levels", [2, 3])
def test_categorical_sums_to_one_over_all_images(levels: int) -> None:
    head = Categorical(levels)
    images = torch.tensor(list(itertools.product(range(levels), repeat=4))).reshape(-1, 1, 2, 2)
    raw = 3 * torch.randn(1, head.features((1, 2, 2)), dtype=torch.float64)
    probability = head(raw, (1, 2, 2)).log_prob(images).exp()
    assert len(probability) == levels**4
    assert probability.sum().item() == pytest.approx(1, abs=1e-12)


def test_categorical_reads_the_layout_that_features_counts() -> None:
    raw = torch.zeros(1, 12)
    raw[0, 8:] = torch.tensor([5.0, 6.0, 7.0, 8.0])  # the third level of each of four pixels
    px = Conditional(torch.nn.Identity(), Categorical(3), event_shape=(1, 2, 2))(raw)
    third = px.log_prob(torch.full((1, 1, 2, 2), 2))
    assert third.item() == pytest.approx(sum(5 + i - math.log(2 + math.exp(5 + i)) for i in range(4)), rel=1e-5)
    assert px.mean.shape == (1, 1, 2, 2)
    assert px.mean.flatten().diff().min() > 0


def test_categorical_moments_are_those_of_the_level_and_its_entropy_that_of_torch() -> None:
    probabilities = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    px = Categorical(3)(probabilities.log())
    assert px.mean.item() == pytest.approx(1.3)
    assert px.variance.item() == pytest.approx(0.3 + 4 * 0.5 - 1.3**2)
    assert px.entropy().item() == pytest.approx(td.Categorical(probabilities).entropy().item())


def test_soft_bernoulli_sums_to_one_over_binary_x_and_integrates_to_less_over_the_interval() -> None:
    px = SoftBernoulli(torch.tensor([-3.0, 0.0, 20.0], dtype=torch.float64))
    binary = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    torch.testing.assert_close(px.log_prob(binary).exp().sum(0), torch.ones(3, dtype=torch.float64))
    x = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:, None]
    mass = torch.trapezoid(
        SoftBernoulli(torch.tensor([0.0, 6.9067548], dtype=torch.float64)).log_prob(x).exp(), x, dim=0
    )
    torch.testing.assert_close(mass, torch.tensor([0.5, 0.1445], dtype=torch.float64), atol=2e-4, rtol=0)


def test_soft_bernoulli_is_the_mean_bernoulli_score_over_binarisations() -> None:
    weights = torch.tensor([0.3, 0.9], dtype=torch.float64)
    logit = torch.tensor(0.7, dtype=torch.float64)
    binary = td.Bernoulli(logits=logit)
    one, zero = binary.log_prob(torch.ones(())), binary.log_prob(torch.zeros(()))
    torch.testing.assert_close(SoftBernoulli(logit).log_prob(weights), weights * one + (1 - weights) * zero)
    torch.testing.assert_close(SoftBernoulli(logit).mean, binary.mean)
    torch.testing.assert_close(SoftBernoulli(logit).variance, binary.variance)


@pytest.mark.parametrize("family", [Bernoulli, SoftBernoulli])
def test_bernoulli_scores_and_their_slopes_are_those_of_torch(family: type[td.Distribution]) -> None:
    logit = logits()
    x = torch.tensor([0.0, 1.0] if family is Bernoulli else [0.0, 0.2, 0.5, 1.0], dtype=torch.float64)[:, None]
    ours, theirs = family(logits=logit).log_prob(x), td.Bernoulli(logits=logit, validate_args=False).log_prob(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-15, atol=0)
    (ours,), (theirs,) = (torch.autograd.grad(y.sum(), logit, create_graph=True) for y in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-15)
    (ours,), (theirs,) = (torch.autograd.grad(y.sum(), logit) for y in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("family", [Bernoulli, SoftBernoulli])
def test_bernoulli_scores_are_finite_and_right_at_the_largest_logits(family: type[td.Distribution]) -> None:
    largest = torch.finfo(torch.float32).max
    logit = torch.tensor([largest, -largest, 200.0, -200.0], requires_grad=True)
    score = family(logits=logit).log_prob(torch.tensor([[1.0], [0.0]]))
    assert score.tolist() == [[0, -largest, 0, -200], [-largest, 0, -200, 0]]
    (slope,) = torch.autograd.grad(score.sum(), logit)
    assert slope.tolist() == [-1, 1, -1, 1]
    assert family(logits=torch.zeros(3)).log_prob(torch.ones(2, 4, 3)).shape == (2, 4, 3)


def test_bernoulli_is_one_of_torch() -> None:
    p, q = Bernoulli(logits=torch.tensor([0.3, -1.0])), Bernoulli(probs=torch.tensor([0.4, 0.9]))
    plain = [td.Bernoulli(logits=px.logits) for px in (p, q)]
    torch.testing.assert_close(td.kl_divergence(p, q), td.kl_divergence(*plain))
    assert isinstance(p.expand((4, 2)), Bernoulli)
    with pytest.raises(ValueError, match="within the support"):
        Bernoulli(logits=torch.zeros(2), validate_args=True).log_prob(torch.tensor([0.0, 0.5]))


def test_measure_tells_mass_density_and_score_apart() -> None:
    logit = torch.zeros(3)
    assert measure(td.Independent(td.Bernoulli(logits=logit), 1)) == "mass"
    assert measure(td.Independent(td.Independent(ContinuousBernoulli(logit), 0), 1)) == "density"
    assert measure(td.Independent(SoftBernoulli(logit), 1)) == "score"


def test_continuous_bernoulli_integrates_to_one() -> None:
    nodes, weights = np.polynomial.legendre.leggauss(40)
    ends = np.array([0.0, *(10.0 ** np.arange(-7, 0)), 0.5])
    edges = np.concatenate([ends, 1 - ends[-2::-1]])
    width = np.diff(edges)[:, None]
    x = torch.tensor((edges[:-1, None] + width * (nodes + 1) / 2).ravel())
    weight = torch.tensor((width * weights / 2).ravel())
    mass = weight @ ContinuousBernoulli(logits()).log_prob(x[:, None]).exp()
    # 1 - x is known to 1e-16 only, which the largest logits magnify
    torch.testing.assert_close(mass, torch.ones_like(mass), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-9), (torch.float32, 2e-5)])
def test_continuous_bernoulli_moments_and_entropy_match_the_reference(dtype: torch.dtype, tolerance: float) -> None:
    px, values = ContinuousBernoulli(logits(dtype)), rounded(dtype)
    close = {"rtol": tolerance, "atol": 1e-300}
    torch.testing.assert_close(px.mean.double(), as_tensor([reference_mean(v) for v in values]), **close)
    variance = as_tensor([reference_variance(v) for v in values])
    torch.testing.assert_close(px.variance.double(), variance, rtol=5 * tolerance, atol=1e-300)
    entropy = as_tensor([reference_log_normaliser(v) - v * reference_mean(v) for v in values])
    torch.testing.assert_close(px.entropy().double(), entropy, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.parametrize("x", [0.0, 0.25, 0.5, 1.0])
def test_continuous_bernoulli_log_prob_and_its_gradient(dtype: torch.dtype, tolerance: float, x: float) -> None:
    logit, values = logits(dtype), rounded(dtype)
    log_prob = ContinuousBernoulli(logit).log_prob(torch.tensor(x, dtype=dtype))
    expected = as_tensor([v * mpmath.mpf(x) - reference_log_normaliser(v) for v in values])
    torch.testing.assert_close(log_prob.double(), expected, rtol=tolerance, atol=tolerance)
    (gradient,) = torch.autograd.grad(log_prob.sum(), logit)
    slope = as_tensor([mpmath.mpf(x) - reference_mean(v) for v in values])
    torch.testing.assert_close(gradient.double(), slope, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_continuous_bernoulli_kl_matches_the_reference(dtype: torch.dtype, tolerance: float) -> None:
    p, q, values = logits(dtype), logits(dtype), rounded(dtype)
    kl = td.kl_divergence(ContinuousBernoulli(p[:, None]), ContinuousBernoulli(q))
    expected = [
        (a - b) * reference_mean(a) - reference_log_normaliser(a) + reference_log_normaliser(b)
        for a in values
        for b in values
    ]
    torch.testing.assert_close(kl.double(), as_tensor(expected).reshape(kl.shape), rtol=tolerance, atol=tolerance)
    for gradient in torch.autograd.grad(kl.sum(), (p, q)):
        assert gradient.isfinite().all()


def test_continuous_bernoulli_kl_is_positive_where_that_of_torch_is_not() -> None:
    apart = td.kl_divergence(ContinuousBernoulli(torch.tensor(-500.0)), ContinuousBernoulli(torch.tensor(20.0)))
    assert apart.item() == pytest.approx(22.1789, abs=1e-4)


def test_continuous_bernoulli_gradients_of_everything_are_finite_and_that_of_the_mean_is_the_variance() -> None:
    for dtype in (torch.float64, torch.float32):
        logit = logits(dtype)
        px, half = ContinuousBernoulli(logit), torch.tensor(0.5, dtype=dtype)
        for quantity in (px.mean, px.variance, px.entropy(), px.cdf(half), px.icdf(half), log_normaliser(logit)):
            assert quantity.isfinite().all()
            (gradient,) = torch.autograd.grad(quantity.sum(), logit)
            assert gradient.isfinite().all()
    logit = logits()
    (gradient,) = torch.autograd.grad(ContinuousBernoulli(logit).mean.sum(), logit)
    torch.testing.assert_close(gradient, as_tensor([reference_variance(v) for v in LOGITS]), rtol=1e-7, atol=1e-300)


def test_continuous_bernoulli_samples_at_the_ends_have_finite_gradients() -> None:
    logit = logits(torch.float32)
    for end in (0.0, 1.0):
        x = ContinuousBernoulli(logit).icdf(torch.tensor(end))
        torch.testing.assert_close(x, torch.full_like(x, end), rtol=0, atol=1e-6)
        (gradient,) = torch.autograd.grad(x.sum(), logit)
        assert gradient.isfinite().all()


@given(logit=st.floats(-300, 300), u=st.floats(0, 1))
def test_continuous_bernoulli_icdf_inverts_cdf_and_cdf_is_the_integral(logit: float, u: float) -> None:
    px, probability = (
        ContinuousBernoulli(torch.tensor(logit, dtype=torch.float64)),
        torch.tensor(u, dtype=torch.float64),
    )
    x = px.icdf(probability)
    assert 0 <= x <= 1
    assert px.cdf(x).item() == pytest.approx(u, abs=1e-6 if abs(logit) < 1e-2 else 1e-12 * max(1.0, abs(logit)))
    exact = mpmath.mpf(logit)
    integral = mpmath.expm1(exact * mpmath.mpf(x.item())) / mpmath.expm1(exact) if logit else mpmath.mpf(x.item())
    assert px.cdf(x).item() == pytest.approx(float(integral), abs=1e-7)


@given(logit=st.floats(-1e3, 1e3))
def test_logits_of_mean_inverts_the_mean(logit: float) -> None:
    mean = ContinuousBernoulli(torch.tensor(logit, dtype=torch.float64)).mean
    again = ContinuousBernoulli(logits_of_mean(mean)).mean
    assert again.item() == pytest.approx(mean.item(), abs=1e-9)


@pytest.mark.parametrize(("support", "words"), [
    (td.Independent(td.Normal(torch.zeros(2), 1.0), 1).support, "the real numbers"),
    (td.Independent(td.Bernoulli(torch.ones(2) / 2), 1).support, "{0, 1}"),
    (constraints.integer_interval(0, 16), "the whole numbers from 0 to 16"),
    (constraints.unit_interval, "the numbers from 0 to 1"),
    (constraints.nonnegative_integer, "the whole numbers from 0"),
])  # fmt: skip
def test_a_support_has_words(support, words):
    assert in_words(support) == words
