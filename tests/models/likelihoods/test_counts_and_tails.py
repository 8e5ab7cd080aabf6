"""Counts and heavy tails against scipy, sums over all counts, and limits."""

import pytest
import torch
from scipy import stats
from torch import Tensor

from vaekit.models import CalibratedStudentT, CountMixture, Laplace, NegativeBinomial, Poisson, StudentT, ZeroInflated
from vaekit.models.building import BuildContext
from vaekit.models.distributions.counts import NegativeBinomialByMean
from vaekit.models.distributions.noise import draw_from
from vaekit.models.likelihoods.heavy_tails import LearnedTails
from vaekit.randomness import new_generator


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("mean", [0.1, 3.0, 40.0])
@pytest.mark.parametrize("r", [0.2, 5.0, 99.0, 101.0, 3000.0])
def test_a_negative_binomial_is_scipys_and_sums_to_one(mean: float, r: float) -> None:
    p = NegativeBinomialByMean(double(mean).log(), double(r).log())
    x = torch.arange(20_000, dtype=torch.float64)[:, None]
    found = p.log_prob(x)[:, 0]
    expected = torch.from_numpy(stats.nbinom.logpmf(x[:400, 0].numpy(), r, r / (r + mean)))
    torch.testing.assert_close(found[:400], expected, rtol=1e-8, atol=1e-8)
    assert abs(found.exp().sum() - 1) < 1e-8
    torch.testing.assert_close((found.exp() * x[:, 0]).sum(), double(mean)[0], rtol=1e-6, atol=0)
    second = (found.exp() * x[:, 0] ** 2).sum() - mean**2
    torch.testing.assert_close(second, p.variance[0], rtol=1e-6, atol=0)


def test_a_negative_binomial_of_large_r_is_a_poisson_in_value_and_gradient_even_in_single_precision() -> None:
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
        mean = torch.tensor([0.5, 7.0, 30.0], dtype=dtype, requires_grad=True)
        x = torch.tensor([1.0, 4.0, 33.0], dtype=dtype)
        ours = NegativeBinomialByMean(mean.log(), torch.full_like(mean, 20.7)).log_prob(x)
        theirs = torch.distributions.Poisson(mean).log_prob(x)
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
        slopes = [torch.autograd.grad(value.sum(), mean, retain_graph=True)[0] for value in (ours, theirs)]
        torch.testing.assert_close(*slopes, rtol=tolerance, atol=tolerance)


def test_a_zero_inflated_count_is_a_zero_or_a_count() -> None:
    p = ZeroInflated()(double(1.2, 0.3, -0.4)[None], (1,))
    counts = NegativeBinomial()(double(1.2, 0.3)[None], (1,))
    x = torch.arange(4000, dtype=torch.float64)[:, None, None]
    zero = double(-0.4).sigmoid()
    expected = (1 - zero) * counts.log_prob(x).exp()
    expected[0] += zero
    found = p.log_prob(x).exp()
    torch.testing.assert_close(found, expected)
    assert found.sum() == pytest.approx(1)
    torch.testing.assert_close((found[..., None] * x).sum(0), p.mean)
    torch.testing.assert_close((found[..., None] * x**2).sum(0) - p.mean**2, p.variance)
    never = ZeroInflated()(torch.tensor([[1.2, 0.3, -1e6]]), (1,)).log_prob(x.float())
    torch.testing.assert_close(never, counts.log_prob(x).float(), rtol=1e-5, atol=1e-4)


def test_the_start_of_zero_inflated_counts_finds_what_they_were_drawn_with() -> None:
    raw = double(2.0, 0.7, -0.5)
    x = draw_from(ZeroInflated()(raw[None], (1,)), (2000,), new_generator(3))[:, 0]
    torch.testing.assert_close(ZeroInflated().initial_parameters(x), raw, rtol=0, atol=0.25)


ZERO = (ZeroInflated(), double(1.2, 0.3, -0.4))


def test_draws_of_counts_have_their_mean_and_variance() -> None:
    for head, raw in ((Poisson(), double(1.2)), (NegativeBinomial(), double(1.2, 0.3)), ZERO):
        p = head(raw[None], (1,))
        x = draw_from(p, (40_000,), new_generator(1))
        assert abs(x.mean() - p.mean) < 4 * (p.variance / 40_000).sqrt()
        torch.testing.assert_close(x.var(0), p.variance[0][None], rtol=0.06, atol=0)


def test_tails_are_those_of_scipy() -> None:
    x = double(-30, -1, 0, 2, 50)[:, None]
    raw = torch.tensor([[0.4, -0.6]], dtype=torch.float64)
    laplace, student = Laplace()(raw, (1,)), StudentT(df=3)(raw, (1,))
    scale = float(torch.tensor(-0.3).double().exp())
    pairs = ((laplace, stats.laplace(0.4, scale)), (student, stats.t(3, 0.4, scale)))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.log_prob(x), torch.from_numpy(theirs.logpdf(x[:, 0].numpy())))


def learned_tails(x: Tensor) -> LearnedTails:
    """The head for columns of x, (n, columns), where training begins."""
    head = CalibratedStudentT().build(BuildContext(event_shape=tuple(x.shape[1:]))).double()
    head.initial_parameters(x)
    return head


def test_learned_tails_begin_at_the_best_sigma_and_degrees_of_freedom() -> None:
    u = torch.linspace(0, 1, 2001, dtype=torch.float64)[1:-1]
    quantiles = [stats.norm.ppf(u, 3, 2), stats.t.ppf(u, 4, 0, 0.5), stats.t.ppf(u, 2.5)]
    x = torch.stack([torch.from_numpy(column) for column in quantiles], 1)
    head = learned_tails(x)
    assert head.df[0] > 99
    torch.testing.assert_close(head.df[1:], double(4, 2.5))
    torch.testing.assert_close((head.log_variance / 2).exp(), double(2, 0.5, 1), rtol=0.02, atol=0)
    raw = double(0.3, -0.1, 0.2)
    expected = stats.t(head.df.detach(), raw, (head.log_variance / 2).exp().detach()).logpdf(x[::100])
    torch.testing.assert_close(head(raw, (3,)).log_prob(x[::100]), torch.from_numpy(expected.sum(1)))


def test_learned_tails_stay_where_expectation_and_maximisation_end() -> None:
    """With one more row, whose square is the variance of the data, so that sigma has a floor where rows are few."""
    torch.manual_seed(0)
    x = torch.cat([torch.randn(30, 2, dtype=torch.float64), double(40, 3)[None]])
    head, loc = learned_tails(x), double(0.1, 0.2)
    for _ in range(400):
        loss = -head(loc.expand(31, 2), (2,)).log_prob(x).mean()
        head.log_variance.grad = torch.autograd.grad(loss, head.log_variance)[0]
        head.follow_gradient()
    square, df = head.log_variance.exp(), head.df
    weight = (df + 1) / (df + (x - loc) ** 2 / square)
    expected = (31 * (weight * (x - loc) ** 2).mean(0) + x.var(0, correction=0)) / 32
    torch.testing.assert_close(square, expected, rtol=1e-4, atol=0)


def test_a_constant_column_has_the_sigma_of_one_row_in_all_that_is_a_unit_off() -> None:
    head = learned_tails(torch.zeros(99, 1, dtype=torch.float64))
    torch.testing.assert_close(head.log_variance.exp(), double(0.01))


def test_few_counts_get_no_component_each() -> None:
    """Ten components for 13 rows: another row of the same distribution is as probable as those, to half a nat."""
    torch.manual_seed(0)
    p = torch.distributions.NegativeBinomial(double(4), logits=double(4))
    few, more = p.sample((13,)), p.sample((5000,))
    head = CountMixture(components=10).build(BuildContext(event_shape=(1,)))
    raw = head.initial_parameters(few)
    of_few, of_more = (head(raw, (1,)).log_prob(x).mean() for x in (few, more))
    best = p.log_prob(more).mean()
    assert of_more > best - 0.5
    assert of_few < best + 0.5


def test_values_that_repeat_among_few_rows_have_a_component_each() -> None:
    torch.manual_seed(0)
    x = torch.where(torch.rand(400, 1) < 0.03, 15_024, (3 * torch.randn(400, 1)).exp().round()).double()
    head = CountMixture(components=10).build(BuildContext(event_shape=(1,)))
    log_p = head(head.initial_parameters(x), (1,)).log_prob(double(15_024)[None])
    assert log_p.exp() > 0.5 * (x == 15_024).double().mean()
