"""A product of likelihoods, one for each column of a table."""

import math

import pytest
import torch
from torch import Tensor, nn

from naming import naming
from vaekit.errors import DataError, SpecError
from vaekit.models import (
    Bernoulli,
    CalibratedGaussian,
    Categorical,
    Columns,
    Conditional,
    CountMixture,
    Gaussian,
    LogNormal,
    Poisson,
    StudentT,
)
from vaekit.models.building import BuildContext, FieldEvent
from vaekit.models.distributions import cell_log_prob, check_values, measure
from vaekit.models.families import FittedHead, LikelihoodFamily, LikelihoodHead
from vaekit.models.likelihoods.columns import ColumnHeads
from vaekit.testing import check_likelihood

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILIES: tuple[LikelihoodFamily, ...] = (
    CalibratedGaussian(per_dimension=True),
    Categorical(3),
    CountMixture(components=4),
    Bernoulli(),
    LogNormal(),
    Categorical(70),
    CalibratedGaussian(per_dimension=True),
    Categorical(4),
    Gaussian(),
    CountMixture(components=4),
    StudentT(),
    Poisson(),
)


def a_table(rows: int = 400) -> Tensor:
    """Rows of these columns, in double precision, in units of their own."""
    torch.manual_seed(0)
    normal = torch.randn(rows, 6, dtype=torch.float64)
    counts = torch.poisson(torch.full((rows, 2), 40.0, dtype=torch.float64))
    spike = torch.where(torch.rand(rows) < 0.9, 0.0, 15_024.0)
    return torch.stack(
        [
            500 + 1e3 * normal[:, 0],
            torch.randint(3, (rows,)).double(),
            spike.double(),
            torch.randint(2, (rows,)).double(),
            (3 * normal[:, 1]).exp(),
            torch.randint(70, (rows,)).double(),
            1e-3 * normal[:, 2],
            torch.randint(4, (rows,)).double(),
            normal[:, 3],
            1e6 + counts[:, 0],
            normal[:, 4] ** 3,
            counts[:, 1],
        ],
        1,
    )


def built(families: tuple[LikelihoodFamily, ...], x: Tensor) -> Conditional:
    """p(x|z) whose network is the identity, with the units of x."""
    module = Conditional(nn.Identity(), Columns(families), (len(families),)).double()
    module.measure(x)
    return module


def raw_numbers(module: Conditional, rows: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(rows, module.head.features((len(FAMILIES),)), dtype=torch.float64)


def test_columns_keep_to_the_contract_of_a_likelihood():
    check_likelihood(LogNormal())
    check_likelihood(Columns(FAMILIES), events=((len(FAMILIES),),))
    check_likelihood(Columns((Gaussian(), Bernoulli())), events=((2,),))
    check_likelihood(Columns((Categorical(3), CountMixture(components=2))), events=((2,),))


def test_the_density_is_the_sum_of_the_heads():
    x = a_table()
    module = built(FAMILIES, x)
    raw = raw_numbers(module, len(x))
    cells = []
    for place, (family, own) in enumerate(zip(FAMILIES, module.head.of_columns(raw), strict=True)):
        alone = Conditional(nn.Identity(), family, (1,)).double()
        if family.takes_units:
            alone.units = module.head.groups[0].units.__class__((1,)).double()
        alone.measure(x[:, place : place + 1])
        cells += [alone.of(own).log_prob(x[:, place : place + 1])]
    px = module.of(raw)
    torch.testing.assert_close(cell_log_prob(px, x), torch.stack(cells, -1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(px.log_prob(x), torch.stack(cells, -1).sum(-1), rtol=1e-12, atol=0)


def test_a_permutation_of_the_columns_changes_nothing_else():
    x, order = a_table(), torch.randperm(len(FAMILIES), generator=torch.Generator().manual_seed(5)).tolist()
    one, other = built(FAMILIES, x), built(tuple(FAMILIES[place] for place in order), x[:, order])
    raw = raw_numbers(one, len(x))
    parts = one.head.of_columns(raw)
    empty = torch.zeros_like(raw)
    index = other.head.of_columns(torch.arange(raw.shape[-1]).expand(1, -1))
    for place, at in zip(order, index, strict=True):
        empty[:, at[0]] = parts[place]
    ours, theirs = one.of(raw), other.of(empty)
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x[:, order]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.mean[:, order], theirs.mean, rtol=1e-12, atol=1e-12)
    best = [module.constant(rows).log_prob(rows).mean() for module, rows in ((one, x), (other, x[:, order]))]
    torch.testing.assert_close(*best, rtol=1e-12, atol=0)


def test_a_missing_cell_changes_no_number_and_gets_no_gradient():
    x = a_table(20)
    module = built(FAMILIES, x)
    raw = raw_numbers(module, len(x)).requires_grad_()
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) > 0.5
    px, found = module.of(raw), []
    for junk in (0.0, math.nan, 1e30):
        cells = cell_log_prob(px, torch.where(mask, x, junk), mask)
        (gradient,) = torch.autograd.grad(cells.sum(), raw, retain_graph=True)
        assert (cells[~mask] == 0).all()
        for place, part in enumerate(module.head.of_columns(gradient)):
            assert (part[~mask[:, place]] == 0).all()
            assert (part[mask[:, place]] != 0).any()
        found += [(cells, gradient)]
    assert all(torch.equal(one, two) for other in found[1:] for one, two in zip(found[0], other, strict=True))
    torch.testing.assert_close(cells[mask], cell_log_prob(px, x)[mask], rtol=1e-12, atol=0)


def test_training_begins_at_the_best_independent_columns():
    x = a_table(2000)
    module = built(FAMILIES, x)
    start = module.head.initial_parameters(x)
    begins, best = module.of(start).log_prob(x).mean(), module.constant(x).log_prob(x).mean()
    torch.testing.assert_close(begins, best, rtol=1e-6, atol=0)
    shares = (x[:, 5].long().bincount(minlength=70).double() + 1) / (len(x) + 70)
    of_categories = cell_log_prob(module.constant(x), x)[:, 5].mean()
    torch.testing.assert_close(of_categories, (shares.log()[x[:, 5].long()]).mean(), rtol=1e-6, atol=0)
    logarithms = x[:, 4].log()
    entropy = -0.5 * math.log(2 * math.pi * math.e) - logarithms.std(correction=0).log() - logarithms.mean()
    torch.testing.assert_close(cell_log_prob(module.constant(x), x)[:, 4].mean(), entropy, rtol=1e-6, atol=0)


def test_missing_cells_do_not_count_in_the_best_independent_columns():
    x = a_table(2000)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) > 0.5
    module = built(FAMILIES, x)
    px = module.constant(torch.where(mask, x, math.nan), mask=mask)
    for place in (0, 3, 6):
        alone = built((FAMILIES[place],), x[mask[:, place], place : place + 1])
        seen = x[mask[:, place], place : place + 1]
        found = cell_log_prob(px, x, mask)[mask[:, place], place].mean()
        torch.testing.assert_close(found, alone.constant(seen).log_prob(seen).mean(), rtol=1e-3, atol=1e-3)


def test_means_are_numbers_of_numbers_and_categories_of_categories():
    module = built((Gaussian(), Categorical(3), Bernoulli(), Categorical(5)), a_table()[:, [8, 1, 3, 7]])
    raw = torch.zeros(2, module.head.features((4,)), dtype=torch.float64)
    for place, at in enumerate(module.head.of_columns(torch.arange(raw.shape[1])[None])):
        raw[0, at[0, -1]] = 2.0 + place
        raw[1, at[0, 0]] = 2.0 + place
    px = module.of(raw)
    torch.testing.assert_close(px.mean[:, 1:], torch.tensor([[2.0, 1, 4], [0, 1, 0]], dtype=torch.float64))
    drawn = px.sample((50,))
    assert drawn.shape == (50, 2, 4)
    assert drawn.dtype == torch.float64
    assert (drawn[..., 1:] % 1 == 0).all()


def test_a_value_outside_of_its_column_is_named():
    x = a_table(5)
    px = built(FAMILIES, x).constant(x)
    check_values(px, x)
    for place, wrong in ((1, 3.0), (3, 0.5), (4, -1.0), (9, 0.5), (5, 70.0), (0, math.inf)):
        bad = x.clone()
        bad[2, place] = wrong
        with pytest.raises(DataError, match=rf"row 2 of x holds {wrong:g} in column {place}", check=naming("row", 2)):
            check_values(px, bad)


def test_a_product_is_a_mass_where_all_columns_are():
    context = BuildContext(event_shape=(2,))
    assert measure(Columns((Categorical(3), CountMixture())).build(context)(torch.zeros(33))) == "mass"
    assert measure(Columns((Categorical(3), Gaussian())).build(context)(torch.zeros(5))) == "density"


def test_ten_thousand_categories_stand_beside_few_without_padding_them():
    families = (Categorical(10_000), *[Categorical(2)] * 50)
    head = Columns(families).build(BuildContext(event_shape=(51,)))
    assert head.features((51,)) == 10_100
    assert [tuple(group.absent.shape) for group in head.groups] == [(1, 10_000), (50, 2)]


def test_equal_heads_are_one():
    assert len(Columns(FAMILIES).build(BuildContext(event_shape=(len(FAMILIES),))).groups) == 9


FIELDS = (
    FieldEvent("age", "count"),
    FieldEvent("sex", "binary"),
    FieldEvent("country", "categorical", 42),
    FieldEvent("income", "positive"),
    FieldEvent("t", "real"),
    FieldEvent("grade", "ordinal", 5),
)


def test_settings_name_families_by_kind_and_by_column():
    families = Columns(heads={"t": StudentT()}, count=Poisson()).of_fields(FIELDS).heads
    assert families == (Poisson(), Bernoulli(), Categorical(42), LogNormal(), StudentT(), Categorical(5))
    with pytest.raises(SpecError, check=naming("Columns.heads", "weight")):
        Columns(heads={"weight": Gaussian()}).of_fields(FIELDS)
    with pytest.raises(SpecError, check=naming("Columns.real", Bernoulli())):
        Columns(real=Bernoulli()).of_fields(FIELDS)
    with pytest.raises(SpecError, check=naming("Columns.heads", (Gaussian(), Gaussian()))):
        Columns((Gaussian(), Gaussian())).build(BuildContext(event_shape=(3,)))


def test_large_counts_are_exact_in_single_precision():
    """Of a count of ten million, single precision holds the number itself but no part of it."""
    torch.manual_seed(0)
    x = torch.poisson(torch.tensor([3.0, 5e3, 2e5, 1e7]).expand(3000, 4).double()).float()
    single, double = (Conditional(nn.Identity(), CountMixture(), (4,)) for _ in range(2))
    single.measure(x)
    double.load_state_dict(single.state_dict())
    raw = 0.3 * torch.randn(3000, single.head.features((4,)))
    apart = single.of(raw).log_prob(x).double() - double.double().of(raw.double()).log_prob(x.double())
    assert apart.abs().max() < 1e-3
    found = cell_log_prob(single.of(torch.zeros_like(raw)), x).mean(0)
    entropy = torch.tensor([3.0, 5e3, 2e5, 1e7]).double()
    best = -0.5 * (2 * math.pi * math.e * entropy).log()
    assert (found[1:] - best[1:]).abs().max() < 0.05


def test_spikes_and_heavy_tails_are_found():
    """Nine in ten zeros, two other frequent values, and values up to millions."""
    torch.manual_seed(0)
    kind = torch.rand(20_000)
    tail = (2 * torch.randn(20_000) + 7).exp().floor()
    x = torch.where(kind < 0.9, 0.0, torch.where(kind < 0.94, 15_024.0, torch.where(kind < 0.97, 99_999.0, tail)))
    train, test = x[:10_000, None], x[10_000:, None]
    px = Conditional(nn.Identity(), CountMixture(), (1,)).constant(train)
    log_p = px.log_prob(test.double())
    of_tail = -0.5 * math.log(2 * math.pi * math.e * 4) - 7  # nats of the density of a value of the tail
    best = 0.9 * math.log(0.9) + 0.04 * math.log(0.04) + 0.03 * math.log(0.03) + 0.03 * (math.log(0.03) + of_tail)
    assert log_p.mean() > best - 0.05
    assert log_p.min() > -40


def test_the_moments_of_a_mixture_of_counts_are_those_of_its_samples():
    torch.manual_seed(0)
    head: LikelihoodHead = CountMixture(components=3).build(BuildContext(event_shape=(40,)))
    head.measure(torch.poisson(torch.logspace(-1, 3, 40).expand(2000, 40)))
    px = head(0.3 * torch.randn(360, dtype=torch.float64))
    drawn = px.sample((40_000,))
    stderr = drawn.std(0) / 200
    assert ((drawn.mean(0) - px.mean).abs() < 5 * stderr + 0.01 * px.mean).all()
    torch.testing.assert_close(drawn.std(0), px.stddev, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("components", [1, 2, 10])
@pytest.mark.parametrize("size", [0, 1, 50, 1_000_000_000])
def test_a_mixture_of_counts_begins_anywhere(components, size):
    torch.manual_seed(0)
    x = torch.poisson(torch.full((500, 1), float(size), dtype=torch.float64))
    px = Conditional(nn.Identity(), CountMixture(components), (1,)).constant(x)
    assert px.log_prob(x).mean() > -1.5 - (0.5 * math.log(size) if size else 0)
    drawn = px.sample((2000,))
    assert drawn.mean() == pytest.approx(float(x.mean()), rel=0.01, abs=0.2)


def test_a_family_that_is_over_whole_rows_is_no_likelihood_of_a_column():
    class OverRows(Gaussian):
        def build(self, *args, **settings):
            return OnlyRows()

    class OnlyRows(FittedHead):
        def __call__(self, raw, event_shape=None):
            return Gaussian()(raw, event_shape)

        def initial_parameters(self, x):
            return x[0]

    with pytest.raises(SpecError, check=naming("Columns.heads", OverRows())):
        ColumnHeads((OverRows(), OverRows()))
