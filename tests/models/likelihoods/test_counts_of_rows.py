"""Counts whose rates depend on a row's size, dispersions that are weights, and rows of a given total: against scipy,
sums over all counts, finite differences and samples.
"""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, special, stats
from torch import Tensor, nn

from naming import naming
from vaekit.errors import SpecError
from vaekit.models import Conditional, Multinomial, NegativeBinomial, Poisson, SizeFactor, ZeroInflated
from vaekit.models.building import BuildContext
from vaekit.models.distributions.noise import draw_from
from vaekit.models.likelihoods import counts
from vaekit.models.likelihoods.counts import CountHead
from vaekit.randomness import new_generator

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = SizeFactor(index=1, loc=2.0, scale=0.5)
RATES: list[Any] = ["free", "softmax"]
DISPERSIONS: list[Any] = ["cell", "gene", "shared"]
FAMILIES = [Poisson(rates=rates) for rates in RATES] + [
    family(rates=rates, dispersion=dispersion)
    for family in (NegativeBinomial, ZeroInflated)
    for rates in RATES
    for dispersion in DISPERSIONS
]
MOST_SIGMA = 5.0  # one statistic in 1.7 million fails by chance

every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f"{f.kind}-{f.rates}-{f.dispersed}")


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def head_of(family: Any, event: tuple[int, ...] = (4,)) -> CountHead:
    """With sizes, and with weights that are not 0."""
    head = family.build(BuildContext(event_shape=event, size_factor=SIZES)).double()
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=new_generator(5), dtype=torch.float64) + 0.5)
    return head


def context_of(log_sizes: Tensor) -> Tensor:
    return torch.stack([torch.full_like(log_sizes, 7.0), (log_sizes - SIZES.loc) / SIZES.scale], -1)


def example(family: Any, rows: int = 5, event: tuple[int, ...] = (4,)) -> tuple[CountHead, Tensor, Tensor]:
    head, generator = head_of(family, event), new_generator(1)
    raw = torch.randn(rows, head.features(event), generator=generator, dtype=torch.float64)
    return head, raw, context_of(torch.randn(rows, generator=generator, dtype=torch.float64) + 2)


def by_scipy(head: CountHead, raw: Tensor, context: Tensor, x: np.ndarray) -> np.ndarray:
    """ln p of each value of rows x (n, columns)."""
    rate, *others = np.split(raw.numpy(), head.family.numbers, -1)
    log_size = SIZES.loc + SIZES.scale * context[:, 1:].numpy()
    log_mean = log_size + (special.log_softmax(rate, -1) if head.family.rates == "softmax" else rate)
    if head.family.dispersed is None:
        return stats.poisson.logpmf(x, np.exp(log_mean))
    log_r = others[0] if head.log_inverse is None else head.log_inverse.detach().numpy()
    r = np.exp(log_r)
    found = stats.nbinom.logpmf(x, r, r / (r + np.exp(log_mean)))
    if head.family.more == 0:
        return found
    logits = others[-1]
    found = found - np.log1p(np.exp(logits))
    return np.where(x == 0, np.logaddexp(found, -np.log1p(np.exp(-logits))), found)


@every_family
def test_counts_given_sizes_are_scipys(family: Any) -> None:
    head, raw, context = example(family)
    x = np.random.default_rng(0).poisson(4, (5, 4)).astype(float)
    x[0] = 0
    found = head.of_values(raw, (4,), context).log_prob(torch.from_numpy(x))
    np.testing.assert_allclose(found.detach().numpy(), by_scipy(head, raw, context, x), rtol=1e-9, atol=1e-9)
    px = head(raw, (4,), context)
    torch.testing.assert_close(px.log_prob(torch.from_numpy(x)), found.sum(-1))


@every_family
def test_gradients_of_counts_given_sizes_are_finite_differences(family: Any) -> None:
    head, raw, context = example(family)
    x = torch.from_numpy(np.random.default_rng(0).poisson(3, (5, 4)).astype(float))
    weights = [*head.parameters()]

    def log_p(raw: Tensor, context: Tensor, *weights: Tensor) -> Tensor:
        values = dict(zip((name for name, _ in head.named_parameters()), weights, strict=True))
        return torch.func.functional_call(head, values, (raw, (4,), context)).log_prob(x)

    assert torch.autograd.gradcheck(log_p, (raw.requires_grad_(), context.requires_grad_(), *weights), eps=1e-6)


@every_family
def test_draws_of_counts_given_sizes_have_their_mean_and_variance(family: Any) -> None:
    head, raw, context = example(family, event=(2, 2))
    px = head(raw, (2, 2), context)
    n = 20_000
    x = draw_from(px, (n,), new_generator(2))
    assert x.shape == (n, 5, 2, 2)
    assert (((x.mean(0) - px.mean).abs() / (px.variance / n).sqrt()) < MOST_SIGMA).all()
    # of the variance, the error is known from the draws themselves
    off = (x - px.mean) ** 2
    assert (((off.mean(0) - px.variance).abs() / (off.std(0) / math.sqrt(n))) < MOST_SIGMA).all()


def test_a_softmax_of_two_genes_is_the_sum_over_all_counts() -> None:
    head = head_of(NegativeBinomial(rates="softmax", dispersion="shared"), (2,))
    raw, context = double(0.4, -0.7)[None], context_of(double(2.5))
    r, size = math.exp(float(head.log_inverse.detach())), math.exp(2.5)
    shares = [1 / (1 + math.exp(-1.1)), 1 / (1 + math.exp(1.1))]
    pairs = torch.tensor([*itertools.product(range(400), repeat=2)], dtype=torch.float64)
    mass = head(raw, (2,), context).log_prob(pairs[:, None])[:, 0].exp().detach()
    assert abs(float(mass.sum()) - 1) < 1e-9
    means = (mass[:, None] * pairs).sum(0)
    torch.testing.assert_close(means, double(*shares) * size, rtol=1e-7, atol=0)
    torch.testing.assert_close(means.sum(), double(size)[0], rtol=1e-7, atol=0)
    by_hand = math.lgamma(3 + r) - math.lgamma(r) - math.lgamma(4) + r * math.log(r / (r + size * shares[0]))
    by_hand += 3 * math.log(size * shares[0] / (r + size * shares[0])) + r * math.log(r / (r + size * shares[1]))
    torch.testing.assert_close(mass[3 * 400].log(), double(by_hand)[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mean", [0.05, 20.0, 1e4, 1e6])
@every_family
def test_single_precision_is_right_to_a_thousandth_of_a_nat_in_rows_of_many_genes(family: Any, mean: float) -> None:
    genes, rng = 13_488, np.random.default_rng(0)
    head = family.with_sizes((genes,), SizeFactor(0))
    raw = torch.from_numpy(rng.standard_normal((2, head.features((genes,))))).float()
    start = math.log(mean) - (0 if family.rates == "free" else math.log(mean * genes))
    raw[:, :genes] = 0.5 * raw[:, :genes] + start
    context = torch.tensor([[0.3], [-1.2]]) + (0 if family.rates == "free" else math.log(mean * genes))
    wide = family.with_sizes((genes,), SizeFactor(0)).double()
    x = draw_from(wide(raw.double(), (genes,), context.double()), (), new_generator(4)).clamp_max(2**24).detach()
    raw = raw.requires_grad_()
    found = head(raw, (genes,), context).log_prob(x.float())
    assert found.dtype == torch.float32
    exact = wide(raw.double(), (genes,), context.double()).log_prob(x)
    # half of the last digit of a sum above 16,384 is a thousandth
    assert ((found.double() - exact).abs() < 1e-3 + exact.abs() * 2**-24).all()
    (slope,) = torch.autograd.grad(found.sum(), raw, retain_graph=True)
    (exact_slope,) = torch.autograd.grad(exact.sum(), raw)
    torch.testing.assert_close(slope, exact_slope, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("log_size", [2.0, 9.0])  # e^9: no row has a zero, whose probability underflows
@every_family
def test_counts_start_at_the_best_without_latents_given_sizes(family: Any, log_size: float) -> None:
    head = head_of(family, (3,))
    rng = np.random.default_rng(1)
    log_sizes = rng.normal(log_size, 0.7, 400)
    r = np.array([0.5, 0.5, 0.5] if family.dispersed == "shared" else [0.4, 2.0, 20.0])
    means = np.exp(log_sizes)[:, None] * np.array([0.2, 0.5, 3.0])
    x = rng.poisson(means * rng.gamma(r, 1, (400, 3)) / r).astype(float)
    if family.more:
        x[rng.random((400, 3)) < [0.5, 0.3, 0.2]] = 0
    context = context_of(torch.from_numpy(log_sizes))
    rows = torch.from_numpy(x)
    head.measure(rows, context)
    start = head.initial_parameters(rows, context)
    found = float(head(start, (3,), context).log_prob(rows).mean().detach())
    best = -np.inf
    weights = [] if head.log_inverse is None else [np.full(head.log_inverse.numel(), 0.1)]

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.from_numpy(numbers).requires_grad_()
        raw, own = leaf[: len(start)], leaf[len(start) :]
        values = {} if head.log_inverse is None else {"log_inverse": own.reshape(head.log_inverse.shape)}
        value = -torch.func.functional_call(head, values, (raw, (3,), context)).log_prob(rows).mean()
        (slope,) = torch.autograd.grad(value, leaf)
        return float(value.detach()), slope.numpy()

    for more in (0.0, 1.0):
        first = np.concatenate([np.full(len(start), 0.1 + more), *weights])
        best = max(best, -float(optimize.minimize(loss, first, jac=True, options={"maxiter": 2000}).fun))
    assert found > best - 1e-3
    assert found < best + 1e-6


@pytest.mark.parametrize("family", [NegativeBinomial(), ZeroInflated()], ids=lambda f: f.kind)
def test_large_counts_start_where_small_ones_do(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    x = generator.poisson([0.3, 2.0, 9.0] * generator.gamma(1.5, 1, (500, 3)) / 1.5)
    x[generator.random((500, 3)) < 0.3 * family.more] = 0
    rows = torch.from_numpy(x.astype(float))
    found = []
    for large in (counts.LARGE, 0):
        monkeypatch.setattr(counts, "LARGE", large)
        found += [float(family(family.initial_parameters(rows)).log_prob(rows).mean())]
    assert found[0] == pytest.approx(found[1], abs=2e-3)


def test_what_a_softmax_adds_up_to_is_measured_so_that_sizes_may_be_relative() -> None:
    x = double(2, 6, 0, 4, 1, 5).reshape(3, 2)
    for factor in (1.0, 20.0):
        head = NegativeBinomial(rates="softmax", dispersion="gene").with_sizes((2,), SIZES).double()
        context = context_of((x.sum(1) / factor).log())
        head.measure(x, context)
        assert float(head.log_scale) == pytest.approx(math.log(factor), abs=1e-12)
        torch.testing.assert_close(head(double(0.2, 0.1), (2,), context).mean.sum(-1), x.sum(1))


def test_counts_refuse_what_is_missing() -> None:
    softmax = NegativeBinomial(rates="softmax")
    with pytest.raises(SpecError, check=naming("size_factor", None)):
        Conditional(nn.Linear(2, 6), softmax, event_shape=(3,))
    with pytest.raises(SpecError, check=naming("event_shape", None)):
        Conditional(nn.Linear(2, 3), NegativeBinomial(dispersion="gene"))(torch.zeros(1, 2))
    with pytest.raises(SpecError, check=naming("context", None)):
        Conditional(nn.Linear(2, 6), softmax.with_sizes((3,), SIZES), event_shape=(3,))(torch.zeros(1, 2))
    with pytest.raises(SpecError, check=naming("BuildContext.event_shape", (1,))):
        Multinomial().build(BuildContext(event_shape=(1,)))


def test_a_dispersion_for_each_gene_is_a_weight_that_learns() -> None:
    likelihood = Conditional(nn.Linear(2, 3), NegativeBinomial(dispersion="gene"), event_shape=(3,))
    assert likelihood.head.log_inverse.shape == (3,)
    assert likelihood(torch.zeros(7, 4, 2)).batch_shape == (7, 4)
    x = draw_from(likelihood(torch.zeros(50, 2)), (), new_generator(1)).detach()
    gradient = torch.autograd.grad(likelihood(torch.zeros(50, 2)).log_prob(x).sum(), likelihood.head.log_inverse)[0]
    assert gradient.all()


TOTAL = 9.0


def multinomial(raw: Tensor, event: tuple[int, ...] = (4,)) -> Any:
    head = Multinomial().build(BuildContext(event_shape=event)).to(raw.dtype)
    head.total.fill_(TOTAL)
    return head(raw, event)


def test_a_multinomial_is_scipys_and_sums_to_one_for_every_total() -> None:
    raw = double(0.3, -1.0, 0.8, 0.0)
    shares = special.softmax(raw.numpy())
    for total in range(7):
        x = np.array([row for row in itertools.product(range(total + 1), repeat=4) if sum(row) == total], float)
        found = multinomial(raw).log_prob(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(found, stats.multinomial.logpmf(x, total, shares), rtol=1e-8, atol=1e-8)
        assert np.exp(found).sum() == pytest.approx(1, abs=1e-8)


def test_gradients_of_a_multinomial_are_finite_differences() -> None:
    raw = torch.randn(3, 2, 4, generator=new_generator(1), dtype=torch.float64, requires_grad=True)
    x = double(0, 3, 1, 7, 0, 0, 0, 0).reshape(2, 4)
    assert torch.autograd.gradcheck(lambda raw: multinomial(raw).log_prob(x), raw, eps=1e-6)
    (slope,) = torch.autograd.grad(multinomial(raw).log_prob(x).sum(), raw)
    torch.testing.assert_close(slope, x - x.sum(-1, keepdim=True) * raw.softmax(-1))


def test_draws_of_a_multinomial_have_their_total_mean_and_covariance() -> None:
    raw, n = torch.randn(2, 6, generator=new_generator(3), dtype=torch.float64), 20_000
    px = multinomial(raw, (2, 3))
    for p, total in ((px, torch.tensor(TOTAL)), (px.given(torch.tensor([40.0, 0.0])), torch.tensor([40.0, 0.0]))):
        x = draw_from(p, (n,), new_generator(2))
        assert x.shape == (n, 2, 2, 3)
        assert (x.sum((-1, -2)) == total).all()
        x, mean, shares = x.flatten(2), p.mean.flatten(1), raw.softmax(-1)
        error = (p.variance.flatten(1) / n).sqrt()
        assert ((x.mean(0) - mean).abs() <= MOST_SIGMA * error).all()
        products = (x - mean).unsqueeze(-1) * (x - mean).unsqueeze(-2)
        expected = total.expand(2)[:, None, None] * (torch.diag_embed(shares) - shares[:, :, None] * shares[:, None])
        assert ((products.mean(0) - expected).abs() <= MOST_SIGMA * products.std(0) / math.sqrt(n)).all()


def test_draws_of_a_multinomial_follow_its_mass() -> None:
    raw, total, n = double(0.3, -1.0, 0.8), 4, 20_000
    px = multinomial(raw, (3,)).given(torch.tensor(float(total)))
    x = draw_from(px, (n,), new_generator(6))
    rows = torch.tensor([row for row in itertools.product(range(total + 1), repeat=3) if sum(row) == total])
    found = (x[:, None] == rows).all(-1).sum(0).numpy()
    assert found.sum() == n
    assert stats.chisquare(found, n * px.log_prob(rows).exp().numpy()).pvalue > 1e-6


def test_a_multinomial_in_single_precision_is_right_to_a_thousandth_of_a_nat() -> None:
    genes, rng = 13_488, np.random.default_rng(0)
    for mean in (0.02, 5.0, 1e4, 1e6):
        raw = torch.from_numpy(rng.standard_normal((2, genes))).float().requires_grad_()
        exact = multinomial(raw.double(), (genes,)).given(torch.tensor(genes * mean))
        x = draw_from(exact, (), new_generator(4)).clamp_max(2**24)
        found = multinomial(raw, (genes,)).log_prob(x.float())
        shares = special.log_softmax(raw.detach().double().numpy(), -1)
        n = x.sum(-1, keepdim=True).numpy()
        truth = (special.gammaln(n + 1) - special.gammaln(x.numpy() + 1).sum(-1, keepdims=True))[:, 0]
        truth += (x.numpy() * shares).sum(-1)
        assert found.dtype == torch.float32
        assert (np.abs(found.detach().numpy() - truth) < 1e-3 + np.abs(truth) * 2**-24 + n[:, 0] * 1e-13).all()
        (slope,) = torch.autograd.grad(found.sum(), raw)
        (exact_slope,) = torch.autograd.grad(exact.log_prob(x).sum(), raw)
        torch.testing.assert_close(slope, exact_slope, rtol=1e-4, atol=1e-4)


def test_a_multinomial_starts_at_the_shares_of_all_draws_and_samples_the_mean_total() -> None:
    likelihood = Conditional(nn.Linear(2, 4), Multinomial(), event_shape=(4,))
    x = torch.tensor([[1.0, 0, 3, 0], [5, 0, 1, 1], [0, 0, 2, 1]])
    px = likelihood.constant(x)
    torch.testing.assert_close(px.mean, 5 * double(6, 0.5, 6, 2) / 14.5)
    assert float(px.total) == 5  # 14 draws in 3 rows
    assert float(likelihood.head.total) == 1
