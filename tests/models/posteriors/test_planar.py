"""Planar and radial flows: determinants against autograd's Jacobian, and inverses."""

from typing import Any

import pytest
import torch
from torch import Tensor

from naming import naming
from vaekit.errors import SpecError
from vaekit.models import Planar, Radial
from vaekit.models.distributions.noise import draw_from, draw_scored
from vaekit.models.posteriors.planar import PlanarStep, RadialStep
from vaekit.randomness import new_generator

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 3
STEPS = [(PlanarStep, 2 * SIZE + 1), (RadialStep, SIZE + 2)]

every_step = pytest.mark.parametrize(("step", "numbers"), STEPS, ids=["planar", "radial"])
every_flow = pytest.mark.parametrize("flow", [Planar(steps=4), Radial(steps=4)], ids=lambda flow: flow.kind)


def flow_of(flow: Any, rows: int, spread: float = 1.5, dtype: torch.dtype = torch.float64):
    raw = spread * torch.randn(rows, flow.features((SIZE,)), dtype=torch.float64, generator=new_generator(2))
    return flow(raw.to(dtype), (SIZE,))


@every_step
@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_a_step_has_the_determinant_of_its_jacobian_and_is_inverted(step: Any, numbers: int, spread: float) -> None:
    for seed in range(20):
        made = step.of(spread * torch.randn(numbers, dtype=torch.float64, generator=new_generator(seed)))
        z = 2 * torch.randn(SIZE, dtype=torch.float64, generator=new_generator(seed, 1))
        there, log_slope = made.push(z)
        jacobian = torch.autograd.functional.jacobian(lambda z, made=made: made.push(z)[0], z)
        torch.testing.assert_close(log_slope, torch.linalg.det(jacobian).log(), rtol=1e-8, atol=1e-8)
        back, inverse = made.pull(there)
        torch.testing.assert_close(back, z, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(inverse, -log_slope, rtol=1e-6, atol=1e-6)


@every_step
def test_a_step_of_zeros_moves_nothing(step: Any, numbers: int) -> None:
    z = torch.randn(5, SIZE, dtype=torch.float64)
    moved, log_slope = step.of(torch.zeros(numbers, dtype=torch.float64)).push(z)
    torch.testing.assert_close(moved, z)
    torch.testing.assert_close(log_slope, torch.zeros(5, dtype=torch.float64))


@every_step
def test_the_inverse_of_a_step_has_the_gradient_of_an_inverse(step: Any, numbers: int) -> None:
    raw = torch.randn(numbers, dtype=torch.float64, generator=new_generator(3)).requires_grad_()
    z = torch.randn(4, SIZE, dtype=torch.float64, generator=new_generator(4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda raw, z: step.of(raw).pull(z), (raw, z), eps=1e-5, atol=1e-6)


@every_flow
def test_the_density_of_a_draw_is_that_of_its_noise_over_the_jacobian(flow: Any) -> None:
    q = flow_of(flow, 1)
    noise = torch.randn(SIZE, dtype=torch.float64, generator=new_generator(1))
    z, log_q = draw_scored(q, (), noise=noise[None])
    assert log_q is not None

    def push(noise: Tensor) -> Tensor:
        return draw_from(q, (), noise=noise[None])[0]

    determinant = torch.linalg.det(torch.autograd.functional.jacobian(push, noise))
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum() - determinant.abs().log()
    torch.testing.assert_close(log_q[0], expected)
    torch.testing.assert_close(q.log_prob(z), log_q, rtol=1e-6, atol=1e-6)


@every_flow
@pytest.mark.parametrize("size", [1e4, -1e4, 30.0])
def test_a_flow_is_finite_at_large_raw_numbers_even_in_single_precision(flow: Any, size: float) -> None:
    mixed = torch.tensor([1.0, -1.0, 0.3]).repeat(flow.features((SIZE,)))[: flow.features((SIZE,))]
    raw = (size * mixed).expand(2, -1).clone().requires_grad_()
    z, log_q = draw_scored(flow(raw, (SIZE,)), (50,), new_generator(1))
    assert log_q is not None
    value = z.sum() + log_q.sum()
    assert value.isfinite()
    assert torch.autograd.grad(value, raw)[0].isfinite().all()


@every_flow
def test_a_flow_needs_its_event_shape(flow: Any) -> None:
    with pytest.raises(SpecError, check=naming("event_shape", None)):
        flow(torch.zeros(2, flow.features((SIZE,))))


@every_flow
def test_a_density_sums_to_one(flow: Any) -> None:
    raw = torch.randn(1, flow.features((2,)), dtype=torch.float64, generator=new_generator(5))
    side = torch.linspace(-15, 15, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    density = flow(raw, (2,)).log_prob(grid[:, None]).exp()
    assert density.sum() * (30 / 300) ** 2 == pytest.approx(1, abs=2e-3)
