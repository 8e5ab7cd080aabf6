"""What an encoder sees of rows whose columns are of different kinds, or of which cells are missing."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vaekit.models.building import FieldEvent
from vaekit.models.networks.units import CONSTANT
from vaekit.models.parameters import Shape, floating
from vaekit.models.protocols import Measured

MOST_ONE_HOT = 32  # categories; a column of more is embedded
WIDEST_EMBEDDING = 32  # numbers


class ColumnsAsNumbers(nn.Module):
    """The columns of a table as numbers for a network: standardised, one-hot, or embedded.

    Numbers are standardised by the mean and the standard deviation of the training rows, counts after ln (1 + x),
    positive numbers after ln x. Categories are one-hot, or, of more than 32, an embedding that is learned. A missing
    cell gives zeros, and, if some may be missing, the mask is appended.

    Args:
        fields: The columns.
        missing: Whether cells may be missing.

    Attributes:
        seen_shape: Of what a network sees of one row.

    Example:
        >>> fields = (FieldEvent("age", "count"), FieldEvent("country", "categorical", 3))
        >>> ColumnsAsNumbers(fields)(torch.tensor([[0.0, 2.0]]))
        tensor([[0., 0., 0., 1.]])
    """

    loc: Tensor
    scale: Tensor
    column: Tensor
    code: Tensor

    def __init__(self, fields: Sequence[FieldEvent], missing: bool = False):
        super().__init__()
        self.missing, self.columns = missing, len(fields)
        named = list(enumerate(fields))
        kinds = {kind: [place for place, field in named if field.kind == kind] for kind in ("count", "positive")}
        plain = [place for place, field in named if field.kind in ("real", "binary", "ordinal")]
        self.plain, self.counts, self.positive = plain, kinds["count"], kinds["positive"]
        self.numbers = [*self.plain, *self.counts, *self.positive]
        few = [(place, f.categories) for place, f in named if f.kind == "categorical" and f.categories <= MOST_ONE_HOT]
        many = [(place, f.categories) for place, f in named if f.kind == "categorical" and f.categories > MOST_ONE_HOT]
        self.register_buffer("loc", torch.zeros(len(self.numbers)))
        self.register_buffer("scale", torch.ones(len(self.numbers)))
        self.one_hot = [place for place, count in few for _ in range(count)]
        column = torch.tensor(self.one_hot, dtype=torch.int64)
        code = torch.tensor([code for _, count in few for code in range(count)], dtype=torch.int64)
        self.register_buffer("column", column, persistent=False)
        self.register_buffer("code", code, persistent=False)
        self.embedded = [place for place, _ in many]
        widths = [min(WIDEST_EMBEDDING, math.ceil(math.sqrt(count))) for _, count in many]
        self.most = [count - 1 for _, count in many]
        self.embeddings = nn.ModuleList(  # torch's start; by itself it imports torch._dynamo where weights are "meta"
            nn.Embedding(count, width, _weight=torch.randn(count, width))
            for (_, count), width in zip(many, widths, strict=True)
        )
        self.seen_shape = (len(self.numbers) + len(code) + sum(widths) + (len(fields) if missing else 0),)

    @property
    def owners(self) -> Tensor:
        """The column of each number that a network sees, (numbers,) int64."""
        embedded = [
            place for place, part in zip(self.embedded, self.embeddings, strict=True) for _ in range(_width(part))
        ]
        masks = list(range(self.columns)) if self.missing else []
        return torch.tensor([*self.numbers, *self.one_hot, *embedded, *masks], dtype=torch.int64, device="cpu")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x if mask is None else torch.where(mask, x, 0)
        numbers = (self._transformed(x) - self.loc) / self.scale
        chosen = x[..., self.column] == self.code
        if mask is not None:
            numbers, chosen = torch.where(mask[..., self.numbers], numbers, 0), chosen & mask[..., self.column]
        found = [numbers, chosen.to(numbers.dtype)]
        for place, most, embedding in zip(self.embedded, self.most, self.embeddings, strict=True):
            vectors = embedding(x[..., place].long().clamp(0, most))
            found += [vectors if mask is None else torch.where(mask[..., place, None], vectors, 0)]
        if self.missing:
            found += [(torch.ones_like(x, dtype=torch.bool) if mask is None else mask).to(numbers.dtype)]
        return torch.cat(found, -1)

    @torch.no_grad()
    def measure(self, x: Tensor) -> None:
        """Take means and standard deviations from rows x (n, columns)."""
        numbers = self._transformed(x).double()
        if numbers.shape[-1] == 0:  # of which torch warns
            return
        spread = numbers.std(0, correction=0)
        self.loc.copy_(numbers.mean(0))
        self.scale.copy_(torch.where(spread > CONSTANT, spread, 1.0))

    def _transformed(self, x: Tensor) -> Tensor:
        """The numbers of x, on the scales that they are standardised on."""
        x = x.to(self.scale.dtype)
        counts, positive = x[..., self.counts].clamp_min(0), x[..., self.positive]
        tiny = torch.finfo(x.dtype).tiny
        return torch.cat([x[..., self.plain], counts.log1p(), positive.clamp_min(tiny).log()], -1)


class Steps(nn.Module):
    """How far columns of numbers are on their way through each of several intervals: 0 before, 1 beyond.

    Intervals hold about equally many training rows, so that a layer after it is piecewise linear in what a column is
    worth. A missing cell gives zeros.

    Source: Gorishniy, Rubachev and Babenko, 2022, arXiv 2203.05556, section 3.2.

    Args:
        places: Of the columns.
        intervals: Of each of them.

    Example:
        >>> Steps([1], intervals=2)(torch.tensor([[7.0, 0.75]]))
        tensor([[1.0000, 0.5000]])
    """

    low: Tensor
    high: Tensor

    def __init__(self, places: Sequence[int], intervals: int = 32):
        super().__init__()
        self.places, self.intervals = list(places), intervals
        ends = torch.linspace(0, 1, intervals + 1).repeat(len(self.places), 1)
        self.register_buffer("low", ends[:, :-1].clone())
        self.register_buffer("high", ends[:, 1:].clone())

    @property
    def owners(self) -> Tensor:
        """The column of each number, (numbers,) int64."""
        return torch.tensor(self.places, dtype=torch.int64, device="cpu").repeat_interleave(self.intervals)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        cells = x[..., self.places].to(self.low.dtype).unsqueeze(-1)
        found = ((cells - self.low) / (self.high - self.low)).clamp(0, 1)
        return (found if mask is None else torch.where(mask[..., self.places].unsqueeze(-1), found, 0)).flatten(-2)

    @torch.no_grad()
    def measure(self, x: Tensor) -> None:
        """Choose the intervals by rows x (n, columns)."""
        for number, place in enumerate(self.places):
            values = x[:, place].double().unique()
            ends = (
                x[:, place].double().quantile(torch.linspace(0, 1, self.intervals + 1).double().to(x.device)).unique()
            )
            if len(values) <= self.intervals + 1:
                ends = values
            ends = torch.cat([ends, ends[-1:] + 1]) if len(ends) == 1 else ends
            more = ends[-1] + torch.arange(1, self.intervals + 2 - len(ends), device=x.device) * (ends[-1] - ends[0])
            ends = torch.cat([ends, more]).to(self.low.dtype)
            self.low[number], self.high[number] = ends[:-1], ends[1:]


def _width(embedding: nn.Module) -> int:
    return cast(nn.Embedding, embedding).embedding_dim


class WithMask(nn.Module):
    """What a network sees of an array with missing cells: x, 0 where they are, and the mask as further channels.

    Args:
        shape: Of one row of x.
        transform: Applied to x first; none for nothing.

    Attributes:
        seen_shape: Of what a network sees of one row.

    Example:
        >>> WithMask((2,))(torch.tensor([[5.0, 7.0]]), torch.tensor([[True, False]]))
        tensor([[5., 0., 1., 0.]])
    """

    def __init__(self, shape: Shape, transform: nn.Module | None = None):
        super().__init__()
        self.transform = nn.Identity() if transform is None else transform
        self.dim = -len(shape)
        self.seen_shape = (2 * shape[0], *shape[1:])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        seen = floating(self.transform(x if mask is None else torch.where(mask, x, 0)))
        if mask is None:
            return torch.cat([seen, torch.ones_like(seen)], self.dim)
        return torch.cat([torch.where(mask, seen, 0), mask.to(seen.dtype)], self.dim)

    def measure(self, x: Tensor) -> None:
        """Have the transform take its constants from rows x (n, *shape), if it has some."""
        if isinstance(self.transform, Measured):
            self.transform.measure(x)
