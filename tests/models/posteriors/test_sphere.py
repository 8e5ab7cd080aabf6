"""Directions against Bessel functions, closed forms, and what draws have on average."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor
from torch.distributions import kl_divergence

from naming import naming
from vaekit.errors import SpecError
from vaekit.models import PowerSpherical, VonMisesFisher
from vaekit.models.distributions import directions
from vaekit.models.distributions.directions import UniformDirection, log_area
from vaekit.models.distributions.noise import draw_from
from vaekit.randomness import new_generator

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = [2, 3, 4, 10, 50]
CONCENTRATIONS = [1e-3, 0.1, 1.0, 10.0, 1e3, 1e4]
FAMILIES = [directions.VonMisesFisher, directions.PowerSpherical]
SAMPLES = 20_000

every_size = pytest.mark.parametrize("size", SIZES)
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)


def pole(size: int, rows: int, dtype: torch.dtype = torch.float64) -> Tensor:
    loc = torch.zeros(rows, size, dtype=dtype)
    loc[:, 0] = 1
    return loc


def concentrations(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(CONCENTRATIONS, dtype=dtype, requires_grad=True)


def mean_cosine(size: int, k: np.ndarray) -> np.ndarray:
    """A_d(k), a ratio of two Bessel functions."""
    return special.ive(size / 2, k) / special.ive(size / 2 - 1, k)


@every_size
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 2e-4)])
def test_the_kl_of_a_von_mises_fisher_from_uniform_is_that_of_bessel_functions(size, dtype, tolerance) -> None:
    """Davidson et al., 2018, equation 14; its slope in k is k A'(k)."""
    k = concentrations(dtype)
    q = directions.VonMisesFisher(pole(size, len(k), dtype), k)
    kl = kl_divergence(q, UniformDirection(torch.zeros(len(k), size, dtype=dtype)))
    known, order = k.detach().double().numpy(), size / 2 - 1
    a = mean_cosine(size, known)
    constant = order * np.log(known) - size / 2 * math.log(2 * math.pi) - np.log(special.ive(order, known)) - known
    expected = torch.from_numpy(known * a + constant + log_area(size))
    torch.testing.assert_close(kl.double(), expected, rtol=tolerance, atol=tolerance)
    (slope,) = torch.autograd.grad(kl.sum(), k)
    expected = torch.from_numpy(known * (1 - a**2 - (size - 1) / known * a))
    torch.testing.assert_close(slope.double(), expected, rtol=20 * tolerance, atol=tolerance)


@every_size
def test_a_power_spherical_has_its_closed_constant_and_mean(size: int) -> None:
    """De Cao and Aziz, 2020: (1 + cos t) / 2 has the beta distribution of (d - 1) / 2 + k and (d - 1) / 2."""
    k = concentrations()
    q = directions.PowerSpherical(pole(size, len(k)), k)
    known, b = k.detach(), (size - 1) / 2
    a = b + known
    at_mean = -b * math.log(math.pi) + torch.lgamma(a + b) - torch.lgamma(a) - (a + b) * math.log(2)
    found = q.log_prob(q.loc) - known * math.log(2)
    torch.testing.assert_close(found.detach(), at_mean, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(q.mean[:, 0].detach(), (a - b) / (a + b), rtol=1e-3, atol=1e-5)
    if size > 2:
        torch.testing.assert_close(found.detach(), at_mean, rtol=1e-8, atol=1e-6)


@every_family
@pytest.mark.parametrize("size", [2, 3, 10])
@pytest.mark.parametrize("k", [0.05, 2.0, 300.0])
def test_draws_follow_the_density(family, size: int, k: float) -> None:
    q = family(pole(size, 1), torch.tensor([k], dtype=torch.float64))
    z = draw_from(q, (SAMPLES,), new_generator(5))[:, 0]
    assert q.support.check(z).all()
    angle = torch.acos(z[:, 0].clamp(-1, 1)).numpy()
    grid = np.linspace(0, math.pi, 200_001)
    points = torch.from_numpy(np.stack([np.cos(grid), np.sin(grid), *[0 * grid] * (size - 2)], -1))
    density = q.log_prob(points[:, None])[:, 0].exp().numpy() * np.sin(grid) ** (size - 2)
    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)]) * math.exp(log_area(size - 1))
    cumulative = cumulative * (grid[1] - grid[0])
    assert cumulative[-1] == pytest.approx(1, abs=1e-4)  # a density over the sphere's area
    assert stats.kstest(np.interp(angle, grid, cumulative), "uniform").pvalue > 2e-5
    away = z[:, 1:] / z[:, 1:].norm(dim=-1, keepdim=True)
    score = away.mean(0) * math.sqrt(SAMPLES * (size - 1))  # uniform directions have variance 1 / (d - 1)
    assert score.abs().max() < 4.5


@every_family
@pytest.mark.parametrize("size", [2, 3, 10])
@pytest.mark.parametrize("k", [0.3, 5.0, 2000.0])
def test_the_gradient_through_draws_is_that_of_the_mean(family, size: int, k: float) -> None:
    """E[m.z] is the mean's length, and E of a linear function of z has that of the mean in m, too."""
    concentration = torch.tensor(k, dtype=torch.float64, requires_grad=True)
    vector = torch.randn(size, dtype=torch.float64, generator=new_generator(1)).requires_grad_()
    onto = torch.randn(size, dtype=torch.float64, generator=new_generator(2))
    rows = vector.expand(8000, -1).detach().requires_grad_()
    k_of = concentration.expand(8000).detach().requires_grad_()
    loc = rows / rows.norm(dim=-1, keepdim=True)
    z = draw_from(family(loc, k_of), (), new_generator(3))
    for function in (lambda z, loc: (z * loc.detach()).sum(-1), lambda z, loc: z @ onto):
        found = torch.autograd.grad(function(z, loc).sum(), (k_of, rows), retain_graph=True)
        mean = family(vector / vector.norm(), concentration).mean
        wanted = torch.autograd.grad(function(mean, vector / vector.norm()), (concentration, vector))
        for each, exact in zip(found, wanted, strict=True):
            each = each.reshape(8000, -1)
            error = (each.mean(0) - exact.reshape(-1)) / (each.std(0) / math.sqrt(8000) + 1e-12)
            assert error.abs().max() < 4.5


@every_family
def test_the_angle_is_the_inverse_of_its_cumulative_in_value_and_gradient(family) -> None:
    k = torch.tensor([0.4, 30.0], dtype=torch.float64)
    share = torch.linspace(0.001, 0.999, 31, dtype=torch.float64)[:, None].expand(-1, 2)

    def angles(k: Tensor) -> Tensor:
        return family(pole(5, 2), k).angle_at(share)

    assert (angles(k).diff(dim=0) > 0).all()
    assert torch.autograd.gradcheck(angles, k.clone().requires_grad_(), eps=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", [VonMisesFisher(), PowerSpherical()], ids=lambda head: head.kind)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [2, 3, 50])
def test_directions_are_finite_at_extreme_raw_numbers(head, size: int, dtype: torch.dtype) -> None:
    for vector, log_concentration in ((0.0, 0.0), (1e4, 1e4), (-1e-4, -1e4), (1.0, 9.2)):
        raw = torch.full((3, size + 1), vector, dtype=dtype)
        raw[:, -1] = log_concentration
        raw.requires_grad_()
        q = head(raw, (size,))
        z = draw_from(q, (2000,), new_generator(1))
        assert q.support.check(z).all()
        value = q.log_prob(z).sum() + z.sum() + q.entropy().sum() + q.variance.sum()
        assert value.isfinite()
        assert torch.autograd.grad(value, raw)[0].isfinite().all()


@every_family
def test_the_moments_of_a_direction_are_those_of_its_draws(family) -> None:
    loc = torch.nn.functional.normalize(torch.randn(1, 4, dtype=torch.float64, generator=new_generator(1)), dim=-1)
    q = family(loc, torch.tensor([3.0], dtype=torch.float64))
    z = draw_from(q, (50_000,), new_generator(2))
    assert ((z.mean(0) - q.mean).abs() < 4.5 * (q.variance / 50_000).sqrt()).all()
    torch.testing.assert_close(z.var(0), q.variance, rtol=0.03, atol=0)
    sampled = -q.log_prob(z)
    assert abs(sampled.mean() - q.entropy()) < 4.5 * sampled.std() / 50_000**0.5


def test_gradients_reach_the_density_of_draws_made_without_them() -> None:
    """As the score-function estimator needs them."""
    k = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    q = directions.VonMisesFisher(pole(3, 1), k)
    with torch.no_grad():
        z = draw_from(q, (5,), new_generator(1))
    (slope,) = torch.autograd.grad(q.log_prob(z).sum(), k)
    expected = z[..., 0].sum() - 5 * (1 / math.tanh(2.0) - 0.5)
    torch.testing.assert_close(slope, expected[None])


def test_a_sphere_needs_two_dimensions() -> None:
    with pytest.raises(SpecError, check=naming("size", 1)):
        VonMisesFisher().features((1,))


@every_family
@pytest.mark.parametrize("concentration", [1e-6, 1e-3, 0.1, 10.0, 1e4])
@pytest.mark.parametrize("size", [2, 3, 10])
def test_draws_in_single_precision_lie_on_the_sphere(family, size: int, concentration: float) -> None:
    """Noise that points along the mean leaves nothing but rounding at right angles to it: 5 % off in two dimensions."""
    loc = torch.nn.functional.normalize(torch.randn(size, generator=new_generator(1)), dim=0)
    z = draw_from(family(loc, torch.tensor(concentration)), (100_000,), new_generator(2))
    assert (z.norm(dim=-1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("concentration", [1e-3, 0.5, 20.0])
def test_angles_in_two_dimensions_are_those_of_scipy(concentration: float) -> None:
    """Fails by chance once in 10,000 times."""
    q = directions.VonMisesFisher(torch.tensor([0.6, 0.8]), torch.tensor(concentration))
    z = draw_from(q, (20_000,), new_generator(3)).double()
    angle = torch.remainder(torch.atan2(z[:, 1], z[:, 0]) - math.atan2(0.8, 0.6) + math.pi, 2 * math.pi) - math.pi
    assert stats.kstest(angle.numpy(), stats.vonmises(concentration).cdf).pvalue > 1e-4
