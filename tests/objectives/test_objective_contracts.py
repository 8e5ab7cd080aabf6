"""What every objective, estimator and schedule must do; a member of a union is tested as soon as it is listed there."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from unions import examples, members, name, sampling
from vaekit.models import VAE, Bernoulli, Conditional, Gaussian, Mlp, StandardNormal
from vaekit.objectives import (
    Cosine,
    Elbo,
    Gradient,
    Objective,
    Regularised,
    Regulariser,
    Schedule,
    StepContext,
    Warmup,
)
from vaekit.randomness import new_generator
from vaekit.testing import check_objective

UNIONS = [Objective, Regulariser, Gradient, Schedule]
ROUNDING = {"rtol": 1e-11, "atol": 1e-11}

every_objective = pytest.mark.parametrize("objective", examples(Objective), ids=name)
every_schedule = pytest.mark.parametrize("schedule", examples(Schedule), ids=name)


@pytest.fixture
def model() -> VAE:
    posterior = Conditional(Mlp(widths=(8,), activation="tanh").build((6,), 4), Gaussian())
    likelihood = Conditional(Mlp(widths=(8,), activation="tanh").build((2,), 6), Bernoulli())
    return VAE(posterior, StandardNormal().build(2), likelihood).double()


def rows() -> Tensor:
    return torch.bernoulli(torch.full((5, 6), 0.5, dtype=torch.float64), generator=new_generator(1))


@pytest.mark.parametrize("spec", [spec for union in UNIONS for spec in examples(union)], ids=name)
def test_a_spec_survives_its_configuration_and_refuses_what_it_does_not_know(spec: Any) -> None:
    (union,) = (union for union in UNIONS if type(spec) in members(union))
    adapter = TypeAdapter(union)
    assert adapter.validate_json(adapter.dump_json(spec)) == spec
    settings = adapter.dump_python(spec)
    assert adapter.validate_python(settings) == spec
    with pytest.raises(ValidationError, match="nonsense"):
        adapter.validate_python({**settings, "nonsense": 1})
    with pytest.raises(ValidationError):
        adapter.validate_python({**settings, "kind": "nonsense"})
    with pytest.raises(AttributeError):
        spec.kind = "other"


@pytest.mark.parametrize(
    "objective",
    [
        *(pytest.param(objective, id=name(objective)) for objective in examples(Objective)),
        *(pytest.param(Elbo(gradient=gradient), id=f"elbo, {name(gradient)}") for gradient in examples(Gradient)),
        *(pytest.param(Regularised(penalties=(one,)), id=f"penalty, {name(one)}") for one in examples(Regulariser)),
    ],
)
def test_an_objective_keeps_to_its_contract(objective: Any) -> None:
    check_objective(objective)


@every_objective
@pytest.mark.parametrize("samples", [1, 3])
def test_an_objective_gives_a_finite_value_for_each_row_and_a_gradient_for_each_weight(
    objective: Elbo, samples: int, model: VAE
) -> None:
    draw = model.draw(rows(), samples, reparametrised=objective.gradient.reparametrised, score=objective.gradient.score)
    terms = objective(draw, StepContext(step=3, steps=10, rows=5, model=model))
    for value in (terms.value, *terms.parts.values()):
        assert value.shape == (5,)
        assert value.dtype == torch.float64
        assert value.isfinite().all()
    every_weight_has_a_gradient(terms.value.sum(), model)


@pytest.mark.parametrize("gradient", sampling(Gradient), ids=name)
@pytest.mark.parametrize("samples", [1, 3])
def test_an_estimator_gives_a_gradient_for_each_weight(gradient: Any, samples: int, model: VAE) -> None:
    assert isinstance(gradient.unbiased, bool)
    draw = model.draw(rows(), samples, reparametrised=gradient.reparametrised, score=gradient.score)
    every_weight_has_a_gradient(Elbo(samples=samples, gradient=gradient)(draw).value.sum(), model)


def every_weight_has_a_gradient(value: Tensor, module: nn.Module) -> None:
    names, weights = zip(*module.named_parameters(), strict=True)
    for label, gradient in zip(names, torch.autograd.grad(value, weights, allow_unused=True), strict=True):
        assert gradient is not None, label
        assert gradient.isfinite().all(), label
        assert gradient.any(), label


@every_objective
def test_a_row_alone_has_the_value_it_has_in_a_batch(objective: Elbo, model: VAE) -> None:
    x, noise = rows(), torch.randn(3, 5, 2, dtype=torch.float64)
    together = objective(model.draw(x, 3, noise=(noise,))).value
    for i in range(5):
        alone = objective(model.draw(x[i : i + 1], 3, noise=(noise[:, i : i + 1],))).value
        torch.testing.assert_close(alone[0], together[i], **ROUNDING)


@every_schedule
@given(steps=st.integers(1, 10**7), fraction=st.floats(0, 1))
def test_a_schedule_is_a_factor_in_the_unit_interval_at_every_step(schedule: Any, steps: int, fraction: float) -> None:
    assert 0 <= schedule.at(int(fraction * steps), steps) <= 1


@given(start=st.floats(0, 10), end=st.floats(0, 10), over=st.floats(1e-3, 1), steps=st.integers(1, 10**5))
def test_warm_up_runs_straight_from_start_to_end(start: float, end: float, over: float, steps: int) -> None:
    schedule = Warmup(start=start, end=end, over=over)
    assert schedule.at(0, steps) == start
    assert schedule.at(steps, steps) == pytest.approx(end)
    low, high = min(start, end), max(start, end)
    values = [schedule.at(step, steps) for step in range(0, steps + 1, max(1, steps // 50))]
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in values)
    assert values == sorted(values, reverse=end < start) or max(values) - min(values) < 1e-9


def test_warm_up_is_half_way_at_half_its_length() -> None:
    assert Warmup(start=0.2, end=1.0, over=0.4).at(20, 100) == pytest.approx(0.6)


@given(end=st.floats(0, 1), warmup=st.floats(0, 0.9), steps=st.integers(10, 10**5))
def test_cosine_rises_then_falls_to_its_end(end: float, warmup: float, steps: int) -> None:
    schedule = Cosine(end=end, warmup=warmup)
    assert schedule.at(steps, steps) == pytest.approx(end, abs=1e-9)
    values = [schedule.at(step, steps) for step in range(0, steps + 1, max(1, steps // 100))]
    top = values.index(max(values))
    assert values[: top + 1] == sorted(values[: top + 1])
    assert values[top:] == sorted(values[top:], reverse=True)
    assert 0 < values[0] <= 1


def test_cosine_is_half_way_down_in_the_middle() -> None:
    assert Cosine(end=0.2).at(50, 100) == pytest.approx(0.6)
    assert Cosine(warmup=0.5).at(75, 100) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "warmup", "over": 0.0}, {"kind": "warmup", "over": 1.1}, {"kind": "cosine", "end": -0.1}],
    ids=str,
)
def test_schedules_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Schedule).validate_python(wrong)
