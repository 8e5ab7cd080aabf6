"""The moves of annealed chains: what leaves a density as it is, and step sizes that are neither wild nor timid."""

import pytest
import torch
from scipy.stats import kstest

from vaekit.evaluation.hmc import GOAL, Path, move, retuned

pytestmark = pytest.mark.usefixtures("one_thread")


def quartic(z):
    return -z[0].pow(4).sum(-1) / 4


def normal(z):
    return -z[0].square().sum(-1) / 2


GRID = torch.linspace(-6, 6, 20_001, dtype=torch.float64)


def exact(beta, shape):
    """Draws of f_beta between `normal` and `quartic`, by the inverse of its distribution function on a grid."""
    below = ((1 - beta) * normal((GRID[:, None],)) + beta * quartic((GRID[:, None],))).exp().cumsum(0)
    uniform = torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return GRID[torch.searchsorted(below / below[-1], uniform)], below / below[-1]


@pytest.mark.parametrize("beta", [0.5, 1.0])
@pytest.mark.parametrize("step", [0.6, 0.9])
def test_a_move_leaves_its_density_invariant(beta, step):
    """Kolmogorov and Smirnov's test on 100,000 chains in two groups of two dimensions; fails by chance once in 10^4."""
    chains, rows = 12_500, 2
    z, below = exact(beta, (2, chains, rows, 2))
    one = (torch.ones(rows, 2, dtype=torch.float64),) * 2
    path = Path(
        start=lambda z: normal(z[:1]) + normal(z[1:]), end=lambda z: quartic(z[:1]) + quartic(z[1:]),
        start_widths=one, end_widths=one,
    )  # fmt: skip
    here, generator = path.state((z[0], z[1])), torch.Generator().manual_seed(0)
    for _ in range(3):
        there, acceptance = move(path, here, beta, torch.full((rows,), step, dtype=torch.float64), 3, generator)
        assert acceptance.mean() < 0.97  # there is something to reject
        moved = [a != b for a, b in zip(here.z, there.z, strict=True)]
        assert moved[0].double().mean() > 0.2
        assert all(torch.equal(part, moved[0][..., :1].expand_as(part)) for part in moved)
        here = there
    values = torch.cat([part.flatten() for part in here.z])
    assert kstest(values.numpy(), lambda v: below[torch.searchsorted(GRID, torch.as_tensor(v))].numpy()).pvalue > 1e-4


def test_rejections_fall_with_the_third_power_of_the_step_size():
    """As the leapfrog's energy does, whose half steps at both ends make it reversible."""
    one = (torch.ones(1, 2, dtype=torch.float64),)
    path, (z, _) = Path(normal, quartic, one, one), exact(0.5, (20_000, 1, 2))
    here, rejected = path.state((z,)), []
    for step in (0.1, 0.05):
        steps = torch.full((1,), step, dtype=torch.float64)
        _, acceptance = move(path, here, 0.5, steps, 3, torch.Generator().manual_seed(0))
        rejected += [1 - acceptance.mean().item()]
    assert rejected[0] / rejected[1] > 6


def test_a_state_that_was_not_left_keeps_its_numbers():
    one = (torch.ones(3, 1, dtype=torch.float64),)
    path = Path(normal, quartic, one, one)
    here = path.state((torch.linspace(-2, 2, 12, dtype=torch.float64).reshape(4, 3, 1),))
    there, _ = move(path, here, 0.3, torch.full((3,), 1.5, dtype=torch.float64), 2, torch.Generator().manual_seed(0))
    again = path.state(there.z)
    assert torch.equal(there.log_density(0.3), again.log_density(0.3))
    assert torch.equal(there.gradient(0.3)[0], again.gradient(0.3)[0])
    assert torch.allclose(again.gradient(1.0)[0], -(again.z[0] ** 3))


def test_trajectories_that_leave_the_numbers_are_not_taken():
    one = (torch.ones(1, 1, dtype=torch.float64),)
    path = Path(normal, lambda z: -z[0].pow(8).sum(-1), one, one)
    here = path.state((torch.ones(50, 1, 1, dtype=torch.float64),))
    wild = torch.full((1,), 1e30, dtype=torch.float64)
    there, acceptance = move(path, here, 1.0, wild, 5, torch.Generator().manual_seed(0))
    assert torch.equal(there.z[0], here.z[0])
    assert not acceptance.any()


@pytest.mark.parametrize("begin", [0.05, 20.0])
def test_step_sizes_find_the_acceptance_that_is_their_goal(begin):
    one = (torch.ones(1, 20, dtype=torch.float64),)
    path = Path(normal, quartic, one, one)
    generator = torch.Generator().manual_seed(0)
    here, steps = path.state((0.5 * torch.ones(8, 1, 20, dtype=torch.float64),)), torch.tensor([begin]).double()
    acceptances = []
    for _ in range(80):
        here, acceptance = move(path, here, 1.0, steps, 3, generator)
        steps = retuned(steps, acceptance)
        acceptances += [acceptance.mean()]
    assert torch.stack(acceptances[40:]).mean() == pytest.approx(GOAL, abs=0.05)


def test_widths_are_those_of_the_density_between_two_gaussians():
    a, b = (torch.tensor([[1.0, 2.0]]),), (torch.tensor([[0.1, 2.0]]),)
    (width,) = Path(normal, normal, a, b).widths(0.5)
    assert width.tolist() == [[pytest.approx((0.5 + 50) ** -0.5), pytest.approx(2.0)]]
