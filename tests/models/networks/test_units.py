"""No bound binds on data: heads start at the best constant in any units, which scipy finds by itself."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.datasets import load_digits
from torch import Tensor

from unions import name
from vaekit.models import (
    BetaBinomial,
    CalibratedGaussian,
    Conditional,
    Gaussian,
    Laplace,
    LogisticMixture,
    Mlp,
    NegativeBinomial,
    Poisson,
    StudentT,
    ZeroInflated,
)
from vaekit.models.families import LikelihoodFamily
from vaekit.models.networks.units import SharedScale, Units

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILIES = {Gaussian: stats.norm, CalibratedGaussian: stats.norm, Laplace: stats.laplace, StudentT: stats.t}


def likelihood_of(head: LikelihoodFamily, columns: int) -> Conditional:
    units = Units((columns,)) if head.takes_units else None
    network = Mlp(widths=(4,)).build((2,), head.features((columns,)))
    return Conditional(network, head, (columns,), units=units)


def reached(head: LikelihoodFamily, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean ln p of each column, (columns,), of a decoder that says nothing yet, and of the best constant."""
    rows, likelihood = torch.from_numpy(x).float(), likelihood_of(head, x.shape[1])
    likelihood.initialise_from(rows)
    started = without_input(likelihood, rows)
    return started, likelihood.constant(rows).base_dist.log_prob(rows.double()).mean(0).numpy()


@torch.no_grad()
def without_input(likelihood: Conditional, rows: Tensor) -> np.ndarray:
    """Mean ln p of each column at the output bias alone."""
    px = likelihood.of(likelihood.network.output_bias)
    return px.base_dist.log_prob(rows).double().mean(0).numpy()


def columns(rows: int = 100) -> np.ndarray:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((rows, 6))
    return np.stack(
        [
            1e-6 * z[:, 0],
            z[:, 1] - 3,
            1e6 * z[:, 2] + 2e6,
            np.exp(3 * z[:, 3]),  # heavy tails
            np.where(z[:, 4] > 1, 7.0, -7.0),  # two values
            1e-9 * z[:, 5] + 5e-8,
        ],
        1,
    )


@pytest.mark.parametrize("head", [Gaussian(), CalibratedGaussian(per_dimension=True), Laplace(), StudentT()], ids=name)
def test_real_columns_of_any_spread_start_at_the_best_constant(head: LikelihoodFamily) -> None:
    x = columns().astype(np.float32).astype(np.float64)
    started, constant = reached(head, x)
    family: Any = FAMILIES[type(head)]
    shape = (head.df,) if isinstance(head, StudentT) else ()
    for i, column in enumerate(x.T):
        scale = column.std()

        def loss(p: np.ndarray, column: np.ndarray = column, scale: float = scale) -> float:
            return -family.logpdf(column, *shape, np.median(column) + scale * p[0], scale * np.exp(p[1])).mean()

        if isinstance(head, StudentT) and i == 4:
            continue  # its density of a value that is there again and again has no bound
        bounds = {"method": "Nelder-Mead", "bounds": [(-5, 5), (-12, 3)], "options": {"fatol": 1e-9, "maxiter": 400}}
        with np.errstate(all="ignore"):
            found = [optimize.minimize(loss, at, **bounds) for at in ([0.0, 0.0], [0.0, -6.0])]
        best = min(found, key=lambda one: one.fun)
        assert constant[i] == pytest.approx(-best.fun, abs=1e-4), i
        assert started[i] == pytest.approx(-best.fun, abs=2e-3), i


@pytest.mark.parametrize("mean", [2e5, 1e7])
def test_a_poisson_of_any_mean_starts_at_the_best_constant(mean: float) -> None:
    x = np.random.default_rng(0).poisson(mean, (100, 2)).astype(np.float64)
    started, constant = reached(Poisson(), x)
    best = stats.poisson.logpmf(x, x.mean(0)).mean(0)
    np.testing.assert_allclose(constant, best, atol=1e-6)
    np.testing.assert_allclose(started, best, atol=1e-3)


def best_negative_binomial(column: np.ndarray) -> float:
    mean, largest = column.mean(), -np.inf
    for log_r in np.linspace(-6, 22, 15):
        found = optimize.minimize_scalar(
            lambda log_r: -_log_mass(column, mean, np.exp(log_r)), bounds=(log_r - 2, log_r + 2), method="bounded"
        )
        largest = max(largest, -found.fun)
    return largest


def _log_mass(column: np.ndarray, mean: float, r: float) -> float:
    return stats.nbinom.logpmf(column, r, r / (r + mean)).mean()


def test_counts_of_means_from_40_to_400_000_start_at_the_best_negative_binomial() -> None:
    rng = np.random.default_rng(0)
    means = np.array([40, 1_000, 20_000, 400_000, 0.2, 3_000])
    x = rng.poisson(means * rng.gamma([3, 20, 0.7, 8, 0.5, 1e9], 1, (500, 6)) / [3, 20, 0.7, 8, 0.5, 1e9]).astype(float)
    best = np.array([best_negative_binomial(column) for column in x.T])
    started, constant = reached(NegativeBinomial(), x)
    np.testing.assert_allclose(constant, best, atol=1e-3)
    np.testing.assert_allclose(started, best, atol=1e-3)


def test_counts_with_more_zeros_start_at_the_best_of_their_family() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.array([5, 1e3, 2e5]) * rng.gamma([2, 5, 3], 1, (300, 3)) / [2, 5, 3])
    x = np.where(rng.random((300, 3)) < [0.4, 0.1, 0.7], 0, counts).astype(float)
    started, constant = reached(ZeroInflated(), x)
    for i, column in enumerate(x.T):
        some = column[column > 0]

        def loss(p: np.ndarray, column: np.ndarray = column, scale: float = some.mean()) -> float:
            r, mean, zero = np.exp(p[1]), scale * np.exp(p[0]), 1 / (1 + np.exp(-p[2]))
            mass = stats.nbinom.logpmf(column, r, r / (r + mean)) + np.log1p(-zero)
            return -np.where(column == 0, np.logaddexp(mass, np.log(zero)), mass).mean()

        best = optimize.minimize(loss, [0.0, 0.5, 0.0], method="Nelder-Mead", options={"maxiter": 500})
        assert constant[i] == pytest.approx(-best.fun, abs=1e-3), i
        assert started[i] == pytest.approx(-best.fun, abs=2e-3), i


@pytest.mark.parametrize("head", [Gaussian(), CalibratedGaussian(), Laplace(), StudentT()], ids=name)
@pytest.mark.parametrize("size", [0.0, 3e-5, 7.0, 4e6])
def test_constant_columns_neither_collapse_nor_explode(head: LikelihoodFamily, size: float) -> None:
    """A new decoder misses a constant by a share of its size, which costs tens of nats and not millions."""
    x = torch.full((50, 3), size)
    likelihood = likelihood_of(head, 3)
    likelihood.initialise_from(x)
    px = likelihood(torch.randn(50, 2))
    assert px.log_prob(x).isfinite().all()
    assert px.log_prob(x).min() > -1e5
    assert (px.mean - size).abs().max() < 3 * max(size, 1.0 if size == 0 else 0.0)


def test_units_of_an_image_are_those_of_all_its_pixels() -> None:
    units = Units((1, 2, 2), "event")
    x = torch.tensor([0.0, 200.0])[:, None, None, None] * torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    units.measure(x)
    assert units.loc.flatten().tolist() == [0, 100, 100, 100]
    assert units.scale.unique().item() == pytest.approx(100 * 0.75**0.5)
    torch.testing.assert_close(units(x) * units.scale + units.loc, x)


@pytest.mark.parametrize("sides", [(50,), (4, 5, 6)], ids=str)
def test_units_of_a_channel_are_its_own(sides: tuple[int, ...]) -> None:
    """Channels of deviations .7, 354 and 7e-4 are each near 1 in their units, whatever the others are."""
    deviations = torch.tensor([0.7, 354.0, 7e-4]).reshape(3, *[1] * len(sides))
    noise = torch.randn(2000, 3, *sides, generator=torch.Generator().manual_seed(0))
    x = deviations * noise + 3 * deviations * torch.linspace(0, 1, sides[-1])  # a profile, the same in each row
    units = Units((3, *sides), "channel")
    units.measure(x)
    spread = units(x).flatten(2).std(0).mean(1)
    torch.testing.assert_close(spread, torch.ones(3), rtol=5e-3, atol=0)
    for channel in range(3):
        alone = Units((1, *sides), "channel")
        alone.measure(x[:, channel : channel + 1])
        assert alone.scale.equal(units.scale[channel : channel + 1])
        assert len(alone.scale.unique()) == 1


@pytest.mark.parametrize("shared", ["none", "channel", "event"])
def test_units_of_constants_are_their_size(shared: SharedScale) -> None:
    """A channel that never varies, beside one that does, is divided by its own size where it has one of its own."""
    units = Units((2, 4), shared)
    x = torch.stack([torch.full((6, 4), 5e-3), torch.arange(6.0)[:, None].expand(6, 4)], 1)
    units.measure(x)
    assert units(x).isfinite().all()
    if shared != "event":
        torch.testing.assert_close(units.scale[0], torch.full((4,), 5e-3))


def test_units_are_saved_with_the_weights() -> None:
    likelihood = likelihood_of(Gaussian(), 2)
    assert {"units.loc", "units.scale"} <= likelihood.state_dict().keys()
    likelihood.initialise_from(torch.tensor([[1.0, 1e6], [3.0, 5e6]]))
    again = likelihood_of(Gaussian(), 2)
    again.load_state_dict(likelihood.state_dict())
    z = torch.randn(4, 2)
    torch.testing.assert_close(again(z).mean, likelihood(z).mean, rtol=0, atol=0)


def grey(levels: int) -> np.ndarray:
    """Constant, nearly constant, two-valued, even, peaked, and two bumps."""
    rng, top = np.random.default_rng(0), levels - 1
    rows = 300
    return np.stack(
        [
            np.full(rows, top // 2),
            np.where(np.arange(rows) < 3, 1, 0),
            np.where(rng.random(rows) < 0.3, 0, top),
            rng.integers(0, levels, rows),
            rng.binomial(top, 0.4, rows),
            np.where(rng.random(rows) < 0.5, rng.binomial(top, 0.1, rows), rng.binomial(top, 0.8, rows)),
        ],
        1,
    ).astype(float)


def smoothed(column: np.ndarray, levels: int) -> np.ndarray:
    """How often each level is seen, and once more in equal shares, as starts of levels count."""
    return (np.bincount(column.astype(int), minlength=levels) + 1 / levels) / (len(column) + 1)


@pytest.mark.parametrize("levels", [17, 256])
def test_grey_levels_start_at_the_best_beta_binomial(levels: int) -> None:
    x = grey(levels)
    _, constant = reached(BetaBinomial(levels=levels), x)
    for i, column in enumerate(x.T):
        shares, level = smoothed(column, levels), np.arange(levels)

        def loss(p: np.ndarray, shares: np.ndarray = shares, level: np.ndarray = level) -> float:
            share, c = 1 / (1 + np.exp(-p[0])), np.exp(p[1])
            return -float(shares @ stats.betabinom.logpmf(level, len(level) - 1, share * c, (1 - share) * c))

        bounds = {"method": "Nelder-Mead", "bounds": [(-12, 12), (-8, 16)], "options": {"maxiter": 600}}
        found = [optimize.minimize(loss, at, **bounds) for at in ([0.0, 0.0], [0.0, 4.0], [-3.0, -2.0])]
        best = -min(one.fun for one in found)
        seen = np.bincount(column.astype(int), minlength=levels) / len(column)
        assert constant[i] > best - 0.02 - 2 * np.abs(shares - seen).sum(), i


def test_the_best_logistic_mixture_is_within_a_hundredth_of_a_nat_a_pixel_of_what_scipy_finds() -> None:
    digits = load_digits().images[:, 1:7, 1:7].reshape(-1, 36)[:, [2, 15, 20, 28]]
    head = LogisticMixture(levels=17, components=2)
    _, constant = reached(head, digits)
    level = torch.arange(17, dtype=torch.float64)[:, None]
    for i, column in enumerate(digits.T):
        shares = torch.from_numpy(np.bincount(column.astype(int), minlength=17) / len(column))

        def loss(p: np.ndarray, shares: Tensor = shares) -> tuple[float, np.ndarray]:
            raw = torch.from_numpy(p).requires_grad_()
            value = -(shares * head(raw).log_prob(level)).sum()
            return value.item(), torch.autograd.grad(value, raw)[0].numpy()

        rng = np.random.default_rng(i)
        tried = [rng.normal(0, 1, 6) * [1, 1, 0.7, 0.7, 1, 1] - [0, 0, 0, 0, 2, 2] for _ in range(6)]
        best = -min(
            optimize.minimize(loss, p, jac=True, method="L-BFGS-B", options={"maxiter": 300}).fun for p in tried
        )
        assert constant[i] > best - 0.01, i
