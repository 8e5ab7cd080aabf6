"""What an encoder sees of columns of different kinds and of missing cells."""

import math

import pytest
import torch

from vaekit.models import Rescale
from vaekit.models.building import FieldEvent
from vaekit.models.networks.columns import ColumnsAsNumbers, WithMask

FIELDS = (
    FieldEvent("country", "categorical", 3),
    FieldEvent("age", "count"),
    FieldEvent("town", "categorical", 100),
    FieldEvent("income", "positive"),
    FieldEvent("t", "real"),
    FieldEvent("sex", "binary"),
    FieldEvent("grade", "ordinal", 5),
)


def rows(n: int = 200) -> torch.Tensor:
    torch.manual_seed(0)
    columns = [
        torch.randint(3, (n,)),
        torch.poisson(torch.full((n,), 30.0)),
        torch.randint(100, (n,)),
        (2 * torch.randn(n)).exp(),
        1e4 + 1e3 * torch.randn(n),
        torch.randint(2, (n,)),
        torch.randint(5, (n,)),
    ]
    return torch.stack([column.double() for column in columns], 1)


def test_numbers_are_standardised_and_categories_are_one_hot_or_embedded():
    x, transform = rows(), ColumnsAsNumbers(FIELDS).double()
    transform.measure(x)
    seen = transform(x)
    assert seen.shape == (200, *transform.seen_shape) == (200, 5 + 3 + 10)
    torch.testing.assert_close(seen[:, :5].mean(0), torch.zeros(5).double(), rtol=0, atol=1e-10)
    torch.testing.assert_close(seen[:, :5].std(0, correction=0), torch.ones(5).double())
    order = [x[:, 4], x[:, 5], x[:, 6], x[:, 1].log1p(), x[:, 3].log()]
    for column, number in zip(order, seen.T, strict=False):
        torch.testing.assert_close(number, (column - column.mean()) / column.std(correction=0))
    assert torch.equal(seen[:, 5:8].argmax(1).double(), x[:, 0])
    assert torch.equal(seen[:, 8:], transform.embeddings[0](x[:, 2].long()))


def test_a_missing_cell_gives_zeros_whatever_it_holds_and_is_marked():
    x, transform = rows(), ColumnsAsNumbers(FIELDS, missing=True).double()
    transform.measure(x)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) > 0.5
    found = [transform(torch.where(mask, x, junk), mask) for junk in (0.0, math.nan, 1e30, -5.0)]
    assert all(torch.equal(found[0], other) for other in found[1:])
    numbers, chosen, embedded, marked = found[0].split([5, 3, 10, 7], 1)
    assert torch.equal(marked.bool(), mask)
    assert (numbers[~mask[:, [4, 5, 6, 1, 3]]] == 0).all()
    assert (chosen[~mask[:, 0]] == 0).all()
    assert (embedded[~mask[:, 2]] == 0).all()
    everything = transform(x)
    assert (everything[:, -7:] == 1).all()
    assert torch.equal(everything, transform(x, torch.ones_like(mask)))


def test_a_constant_column_is_zero():
    transform = ColumnsAsNumbers((FieldEvent("t", "real"),))
    transform.measure(torch.full((5, 1), 3.0))
    assert torch.equal(transform(torch.full((5, 1), 3.0)), torch.zeros(5, 1))


@pytest.mark.parametrize("shape", [(4,), (2, 6), (3, 5, 5)])
def test_the_mask_of_an_array_is_joined_to_it_as_channels(shape):
    x, transform = torch.rand(6, *shape), WithMask(shape, Rescale(1.0, 2.0))
    mask = torch.rand(6, *shape) > 0.5
    seen = transform(torch.where(mask, x, math.nan), mask)
    assert seen.shape == (6, *transform.seen_shape) == (6, 2 * shape[0], *shape[1:])
    values, marked = seen.chunk(2, 1)
    assert torch.equal(values, torch.where(mask, (x - 1) / 2, 0))
    assert torch.equal(marked.bool(), mask)
    assert torch.equal(transform(x), transform(x, torch.ones_like(mask)))
