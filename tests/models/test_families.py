"""Heads: the soft bound of the log-variance, and the raw numbers that a model starts from."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from naming import naming
from unions import examples, name
from vaekit.errors import SpecError
from vaekit.models import (
    CalibratedGaussian,
    Conditional,
    Conv,
    CountMixture,
    Gaussian,
    Likelihood,
    LogisticMixture,
    Mlp,
)
from vaekit.models.building import BuildContext
from vaekit.models.distributions.noise import draw_from
from vaekit.models.families import LikelihoodFamily
from vaekit.models.likelihoods.autoregressive_columns import AutoregressiveColumns
from vaekit.models.likelihoods.gaussian import LearnedScale
from vaekit.models.parameters import LOG_VARIANCE_BOUND, soft_bound
from vaekit.randomness import new_generator

EVENT = (1, 2, 3)
CONTEXT = BuildContext(event_shape=EVENT)
ANY_FLOAT = st.floats(allow_nan=False, allow_infinity=False, width=32)


def bounded(*raw: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return soft_bound(torch.tensor(raw, dtype=dtype))


@given(raw=st.floats(-LOG_VARIANCE_BOUND, LOG_VARIANCE_BOUND, width=32))
def test_soft_bound_is_the_identity_inside(raw: float) -> None:
    assert bounded(raw).item() == raw


@given(one=ANY_FLOAT, other=ANY_FLOAT)
def test_soft_bound_is_finite_monotone_and_odd(one: float, other: float) -> None:
    below, above = bounded(min(one, other), max(one, other))
    assert below <= above
    assert below.abs() < 43
    torch.testing.assert_close(bounded(-one), -bounded(one), rtol=0, atol=0)


@pytest.mark.parametrize("ratio", [0.5, 2, 3])
def test_soft_bound_is_narrower_or_wider_by_its_ratio(ratio: float) -> None:
    raw = torch.tensor([-1e6, -20 / ratio - 1, -5.0, 0.1, 20 / ratio, 50.0], dtype=torch.float64)
    torch.testing.assert_close(soft_bound(raw, ratio), soft_bound(ratio * raw) / ratio, rtol=1e-15, atol=0)
    torch.testing.assert_close(soft_bound(raw, ratio)[2:5], raw[2:5], rtol=1e-15, atol=0)
    assert 20 / ratio < soft_bound(raw, ratio)[5] < 20 / ratio + 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_soft_bound_never_overflows_and_its_slope_falls_as_one_over_raw(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    assert bounded(largest, -largest, float("inf"), dtype=dtype).exp().isfinite().all()
    raw = torch.tensor([3.0, 20.0, 20.01, -20.01, 1e6, -1e6, 1e30], dtype=dtype, requires_grad=True)
    (slope,) = torch.autograd.grad(soft_bound(raw).sum(), raw)
    expected = torch.tensor([1, 1, 1 / 1.04, 1 / 1.04, 0.25e-6, 0.25e-6, 0.25e-30], dtype=dtype)
    torch.testing.assert_close(slope, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("raw", [1e6, -1e6])
def test_a_gaussian_keeps_a_gradient_at_extreme_log_variances(raw: float) -> None:
    numbers = torch.tensor([0.0, raw], requires_grad=True)
    log_prob = Gaussian()(numbers).log_prob(torch.tensor([0.5]))
    (gradient,) = torch.autograd.grad(log_prob, numbers)
    assert log_prob.isfinite()
    assert gradient[1] != 0
    assert gradient.isfinite().all()


def rows(head: LikelihoodFamily, n: int = 400) -> Tensor:
    """Rows that the head can model, none of whose values are constant."""
    raw = torch.randn(head.features(EVENT), dtype=torch.float64)
    built = head.build(CONTEXT)
    return draw_from(built(raw, EVENT), (n,), new_generator(5))


OF_EVENTS = [head for head in examples(Likelihood) if not isinstance(head, AutoregressiveColumns)]  # of any shape
# the start of a mixture comes near the best, which is one of many
BY_FORMULA = [head for head in OF_EVENTS if not isinstance(head, LogisticMixture | CountMixture)]


@pytest.mark.parametrize("head", BY_FORMULA, ids=name)
def test_start_is_the_best_constant(head: LikelihoodFamily) -> None:
    x, built = rows(head), head.build(CONTEXT)
    start = built.initial_parameters(x)
    assert start.shape == (built.features(EVENT),)

    def mean_log_prob(raw: Tensor) -> Tensor:
        return built(raw, EVENT).log_prob(x).mean()

    best = mean_log_prob(start)
    raw = start.clone().requires_grad_()
    (slope,) = torch.autograd.grad(mean_log_prob(raw), raw)
    assert slope.abs().max() < 0.01  # not 0: counts are smoothed by one
    for _ in range(10):
        assert mean_log_prob(start + 0.3 * torch.randn_like(start)) < best
    for log_variance in built.parameters() if isinstance(built, nn.Module) else ():
        for shift in (-0.3, 0.6):
            with torch.no_grad():
                log_variance += shift
            assert mean_log_prob(start) < best


@pytest.mark.parametrize("head", OF_EVENTS, ids=name)
def test_start_is_finite_on_constant_columns_and_on_integers(head: LikelihoodFamily) -> None:
    x = torch.zeros(10, *EVENT)
    for constant in (x, x + 1, (x + 1).to(torch.uint8)):
        assert head.build(CONTEXT).initial_parameters(constant).isfinite().all()


@pytest.mark.parametrize("network", [Mlp(widths=(4,)), Conv(channels=(2,), hidden=4)], ids=name)
@pytest.mark.parametrize("head", OF_EVENTS, ids=name)
def test_initialise_from_makes_the_output_bias_the_start(network: Mlp | Conv, head: LikelihoodFamily) -> None:
    x = rows(head)
    likelihood = Conditional(network.build((2,), head.features(EVENT), EVENT), head, EVENT).double()
    likelihood.initialise_from(x)
    start = head.build(CONTEXT).initial_parameters(x).double()
    torch.testing.assert_close(likelihood.network.output_bias.detach(), start)


def test_a_calibrated_scale_is_one_number_or_one_for_each_dimension() -> None:
    x = rows(Gaussian())
    shared, own = CalibratedGaussian().build(CONTEXT), CalibratedGaussian(per_dimension=True).build(CONTEXT)
    for head, shape in ((shared, ()), (own, EVENT)):
        assert isinstance(head, LearnedScale)
        assert head.log_variance.shape == shape
        px = head(head.double().initial_parameters(x), EVENT)
        variance = x.var(0, correction=0)
        torch.testing.assert_close(px.variance, variance if shape else variance.mean().expand(EVENT))


def test_conditional_builds_a_scale_for_its_event() -> None:
    likelihood = Conditional(nn.Linear(2, 6), CalibratedGaussian(per_dimension=True), event_shape=EVENT)
    assert {name: tuple(weight.shape) for name, weight in likelihood.head.named_parameters()} == {"log_variance": EVENT}


def test_a_family_with_weights_needs_the_shape_of_its_event() -> None:
    with pytest.raises(SpecError, check=naming("event_shape", None)):
        Conditional(nn.Linear(2, 3), CalibratedGaussian())


def test_a_fixed_scale_is_used_as_given() -> None:
    px = Gaussian(scale=0.3)(torch.zeros(2, 5))
    assert px.stddev.unique().item() == pytest.approx(0.3)
