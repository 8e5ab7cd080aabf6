"""In single precision every discrete likelihood is right to 1e-3 nats a row, up to the largest counts it holds exactly,
in rows of a thousand columns; its gradients, too. The truth is scipy's, at the same parameters in double precision.

Rows have about the mass that a fitted model gives them, so that a thousandth of a nat is above half of the last digit
of their sum.
"""

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from vaekit.models import (
    Bernoulli,
    BetaBinomial,
    Categorical,
    LogisticMixture,
    NegativeBinomial,
    Poisson,
    ZeroInflated,
)
from vaekit.models.distributions.gamma import gamma_rest
from vaekit.models.families import LikelihoodFamily

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS, COLUMNS, EXACT = 4, 1000, 2**24
MEANS = [0.3, 20.0, 5_000.0, 60_000.0, 1e6, 1.5e7]


def raws(*parts: float | np.ndarray) -> Tensor:
    return torch.from_numpy(np.concatenate([np.broadcast_to(p, (ROWS, COLUMNS)) for p in parts], -1)).float()


def found(head: LikelihoodFamily, raw: Tensor, x: np.ndarray) -> tuple[np.ndarray, Tensor]:
    """ln p of the rows, and the gradient of their sum."""
    raw = raw.clone().requires_grad_()
    log_px = head(raw).log_prob(torch.from_numpy(x).to(raw.dtype))
    (slope,) = torch.autograd.grad(log_px.sum(), raw)
    return log_px.detach().numpy(), slope


def check(head: LikelihoodFamily, raw: Tensor, x: np.ndarray, cells: np.ndarray, slopes: float = 3e-5) -> None:
    """ln p against the truth, (rows, columns); and the gradients against those of double precision, to `slopes`."""
    x = x.astype(np.float64)
    assert x.max() <= EXACT
    log_px, slope = found(head, raw, x)
    assert log_px.dtype == np.float32
    assert np.abs(log_px - cells.sum(-1)).max() < 1e-3
    _, wide = found(head, raw.double(), x)
    torch.testing.assert_close(slope.double(), wide, rtol=slopes, atol=slopes)


def of(raw: Tensor, part: int) -> np.ndarray:
    return raw[:, part * COLUMNS : (part + 1) * COLUMNS].double().numpy()


@pytest.mark.parametrize("mean", MEANS)
def test_poisson(mean: float) -> None:
    rng = np.random.default_rng(0)
    raw = raws(np.log(mean) + 0.3 / np.sqrt(mean) * rng.standard_normal((ROWS, COLUMNS)))
    x = np.minimum(rng.poisson(mean, (ROWS, COLUMNS)), EXACT)
    check(Poisson(), raw, x, stats.poisson.logpmf(x, np.exp(of(raw, 0))))


@pytest.mark.parametrize("log_r", [-3.0, 0.5, 6.0, 12.0, 19.0])
@pytest.mark.parametrize("mean", MEANS)
def test_negative_binomial_with_and_without_more_zeros(mean: float, log_r: float) -> None:
    rng, r = np.random.default_rng(0), np.exp(log_r)
    spread = np.sqrt(1 / mean + 1 / r)
    raw = raws(np.log(mean) + 0.3 * min(1, spread) * rng.standard_normal((ROWS, COLUMNS)), log_r)
    x = np.minimum(rng.poisson(mean / r * rng.gamma(r, 1, (ROWS, COLUMNS))), EXACT)
    m, r = np.exp(of(raw, 0)), np.exp(of(raw, 1))
    cells = special.gammaln(x + r) - special.gammaln(r) if r.max() < 1e4 else rising(x, r)
    cells = cells - special.gammaln(x + 1.0) - r * np.log1p(m / r) + x * (np.log(m) - np.log(r + m))
    if 1 < r.max() < 1e6:  # scipy itself is right there
        np.testing.assert_allclose(cells, stats.nbinom.logpmf(x, r, r / (r + m)), rtol=1e-6, atol=1e-6)
    check(NegativeBinomial(), raw, x, cells)
    logits = np.float64(np.float32(-1.3))
    more = np.where(x == 0, np.logaddexp(cells - np.log1p(np.exp(logits)), -np.log1p(np.exp(-logits))), cells)
    more = np.where(x == 0, more, cells - np.log1p(np.exp(logits)))
    check(ZeroInflated(), torch.cat([raw, raws(logits)], -1), x, more)


def rising(x: np.ndarray, r: np.ndarray) -> np.ndarray:
    """ln Gamma(x + r) - ln Gamma(r) where r is large, by Stirling's series."""
    return x * np.log(r) + (x + r - 0.5) * np.log1p(x / r) - x + (1 / (x + r) - 1 / r) / 12


@pytest.mark.parametrize("log_c", [-3.0, 0.5, 6.0, 12.0])
@pytest.mark.parametrize("levels", [17, 256, 65536])
def test_beta_binomial(levels: int, log_c: float) -> None:
    rng = np.random.default_rng(0)
    raw = raws(rng.standard_normal((ROWS, COLUMNS)), log_c)
    p, c = special.expit(of(raw, 0)), np.exp(of(raw, 1))
    x = rng.binomial(levels - 1, rng.beta(p * c, (1 - p) * c)).astype(np.float64)
    check(BetaBinomial(levels=levels), raw, x, stats.betabinom.logpmf(x, levels - 1, p * c, (1 - p) * c))


@pytest.mark.parametrize("log_scale", [-8.0, -4.0, -1.0])
@pytest.mark.parametrize("levels", [17, 256, 65536])
def test_logistic_mixture(levels: int, log_scale: float) -> None:
    rng, half = np.random.default_rng(0), 1 / (levels - 1)
    log_scale = max(log_scale, np.log(half) - 2)
    x = rng.integers(0, levels, (ROWS, COLUMNS)).astype(np.float64)
    near = 2 * half * x - 1 + np.exp(log_scale) * rng.standard_normal((ROWS, COLUMNS))
    raw = raws(rng.standard_normal((ROWS, COLUMNS)), 0.3, near, rng.uniform(-1, 1, (ROWS, COLUMNS)), log_scale, -1.0)
    logits = special.log_softmax(np.stack([of(raw, 0), of(raw, 1)]), 0)
    loc, scale = np.stack([of(raw, 2), of(raw, 3)]), np.exp(np.stack([of(raw, 4), of(raw, 5)]))
    middle, width = (2 * half * x - 1 - loc) / scale, half / scale
    up, down = -np.logaddexp(0, -middle - width), -np.logaddexp(0, middle - width)
    each = np.where(x == 0, up, np.where(x == levels - 1, down, up + down + np.log(-np.expm1(-2 * width))))
    check(LogisticMixture(levels=levels, components=2), raw, x, special.logsumexp(each + logits, axis=0), 1e-3)


def test_bernoulli_and_categorical() -> None:
    rng = np.random.default_rng(0)
    raw = raws(4 * rng.standard_normal((ROWS, COLUMNS)))
    x = (rng.random((ROWS, COLUMNS)) < special.expit(of(raw, 0))).astype(np.float64)
    check(Bernoulli(), raw, x, np.where(x == 1, special.log_expit(of(raw, 0)), special.log_expit(-of(raw, 0))))
    levels = 50
    raw = torch.from_numpy(3 * rng.standard_normal((ROWS, levels * COLUMNS))).float()
    log_p = special.log_softmax(raw.double().numpy().reshape(ROWS, levels, COLUMNS), 1)
    x = rng.integers(0, levels, (ROWS, COLUMNS))
    check(Categorical(levels), raw, x, np.take_along_axis(log_p, x[:, None], 1)[:, 0])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 3e-7)])
def test_what_is_left_of_ln_gamma_has_the_right_value_and_slope(dtype: torch.dtype, tolerance: float) -> None:
    import mpmath

    mpmath.mp.dps = 50
    for number in (1e-12, 1e-3, 0.1, 0.5, 1.0, 3.7, 10.0, 99.0, 1e6, 1e12):
        z = torch.tensor(number, dtype=dtype, requires_grad=True)
        value, exact = gamma_rest(z), mpmath.mpf(z.item())
        (slope,) = torch.autograd.grad(value, z)
        truth = float(mpmath.loggamma(exact) - exact * mpmath.log(exact) + exact)
        assert value.item() == pytest.approx(truth, abs=tolerance * (3 + abs(truth)))
        relative = float(exact * (mpmath.digamma(exact) - mpmath.log(exact)))
        assert slope.item() * number == pytest.approx(relative, abs=3 * tolerance)


def test_what_is_left_of_ln_gamma_can_be_differentiated_twice() -> None:
    z = torch.tensor([0.3, 2.5, 70.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(gamma_rest, z)
