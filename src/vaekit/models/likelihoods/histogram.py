"""Histograms: likelihoods of numbers of any shape, with spikes, by the probabilities of intervals and single values."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.errors import SpecError
from vaekit.models import distributions as own
from vaekit.models.building import BuildContext
from vaekit.models.families import LikelihoodFamily, LikelihoodHead
from vaekit.models.parameters import Shape, unpack
from vaekit.spec import spec

REPEATED = 3  # rows, or a thousandth of them, from which a value is one by itself
ROWS_OF_AN_INTERVAL = 20
NARROWEST = 1e-6  # cell of a single value, of the range of a column

Parts = Annotated[int, Field(ge=8, le=4096)]


class OfParts(LikelihoodFamily):
    """A family of histograms. Abstract."""

    parts: int

    def features(self, event_shape: Shape) -> int:
        return self.parts * math.prod(event_shape)

    def build(self, context: BuildContext) -> "HistogramHead":
        if len(context.event_shape) != 1:
            raise SpecError(
                f"a histogram is of the columns of a table, and x has the shape {context.event_shape}: take another "
                "likelihood",
                field="BuildContext.event_shape",
                value=context.event_shape,
            )
        return HistogramHead(context.event_shape[0], self.parts, self.integers)


@spec
class Histogram(OfParts):
    """Numbers of any distribution: uniform in one of several intervals, or a value that repeats, or in a tail.

    Intervals hold equally many training rows, and values that repeat are parts of their own: both are measured, and the
    network gives the logits of their probabilities. Outside of all intervals, densities fall as the fourth power of the
    distance. A value that repeats has the density of a cell as wide as the least distance between two numbers of its
    column, and is drawn as it is.

    Args:
        parts: How many intervals and values there are, at most half of these values.

    Example:
        >>> Histogram(parts=20).build(BuildContext(event_shape=(3,)))(torch.zeros(5, 60)).event_shape
        torch.Size([3])
    """

    parts: Parts = 100
    kind: Literal["histogram"] = "histogram"

    accepts = ("real", "positive")


@spec
class CountHistogram(OfParts):
    """Counts of any distribution: those of an interval alike, or one of the counts that repeat; see `Histogram`.

    Args:
        parts: How many intervals and values there are, at most half of these values.

    Example:
        >>> CountHistogram(parts=20).build(BuildContext(event_shape=(3,)))(torch.zeros(5, 60)).event_shape
        torch.Size([3])
    """

    parts: Parts = 100
    kind: Literal["count_histogram"] = "count_histogram"

    accepts = ("count",)
    integers = True


class HistogramHead(nn.Module, LikelihoodHead):
    """The head of `Histogram` and `CountHistogram`, with the intervals and values of each column.

    Args:
        columns: How many there are.
        parts: Of each column.
        whole: Whether numbers are counts.

    Attributes:
        edges: Of the intervals, (intervals + 1, columns).
        values: Those that repeat, (values, columns).
        there: 1 for each part that there is, else 0, (parts, columns).
        cell, spread: Of single values, and of tails, (columns,).
    """

    edges: Tensor
    values: Tensor
    there: Tensor
    cell: Tensor
    spread: Tensor

    def __init__(self, columns: int, parts: int, whole: bool):
        super().__init__()
        self.parts, self.integers, singles = parts, whole, parts // 2
        self.intervals = parts - singles - 2
        steps = torch.arange(self.intervals + 1, dtype=torch.float32)
        edges = steps - 0.5 if whole else 6 * steps / self.intervals - 3
        self.register_buffer("edges", edges[:, None].repeat(1, columns))
        self.register_buffer("values", torch.zeros(singles, columns))
        there = torch.ones(parts, columns)
        there[self.intervals + 2 :] = 0
        if whole:
            there[0] = 0
        self.register_buffer("there", there)
        self.register_buffer("cell", torch.ones(columns))
        self.register_buffer("spread", torch.ones(columns))

    def features(self, event_shape: Shape) -> int:
        return self.parts * math.prod(event_shape)

    def of_values(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        logits = unpack(raw, self.parts, event_shape).masked_fill(self.there == 0, -math.inf)
        return own.Histogram(logits, self.edges, self.values, self.cell, self.spread, self.integers)

    def forward(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        return LikelihoodHead.__call__(self, raw, event_shape)

    @torch.no_grad()
    def measure(self, x: Tensor, context: Tensor | None = None) -> None:
        """Choose intervals and values by rows x (n, *event)."""
        for place, column in enumerate(x.T):
            self._measure(place, column.double().cpu())

    def initial_parameters(self, x: Tensor) -> Tensor:
        """ln of the share of each part, once these are chosen."""
        self.measure(x)
        x = x.to(self.edges.dtype)
        near = (x[:, None] - self.values).abs() * 2 < self.cell  # (n, values, columns)
        near &= self.there[self.intervals + 2 :] == 1
        inside = (x[:, None] >= self.edges).sum(1)  # (n, columns)
        part = torch.where(near.any(1), self.intervals + 2 + near.int().argmax(1), inside)
        counts = torch.stack([torch.bincount(of, minlength=self.parts) for of in part.T], 1)
        return ((counts.double() + 0.5) / (len(x) + 1)).log().flatten()

    def _measure(self, place: int, x: Tensor) -> None:
        """Of one column, (n,)."""
        values, counts = x.sort().values.unique(return_counts=True)
        least, most = float(values[0]), float(values[-1])
        width = max(most - least, 1e-3 * max(abs(least), abs(most)), 1.0 if self.integers else 1e-3)
        gap = float((values[1:] - values[:-1]).min()) if len(values) > 1 else width
        self.cell[place] = 1.0 if self.integers else max(gap, NARROWEST * width)
        order = counts.argsort(descending=True, stable=True)[: len(self.values)]
        single = order[counts[order] >= max(REPEATED, len(x) / 1000)]
        self.values[:, place] = 0
        self.values[: len(single), place] = values[single].to(self.values.dtype)
        rest = counts.clone()
        rest[single] = 0
        edges = self._edges(values, rest, least, most, width)
        self.edges[:, place] = edges[-1]
        self.edges[: len(edges), place] = edges.to(self.edges.dtype)
        self.spread[place] = width / 10
        self.there[:, place] = 0
        self.there[1 : len(edges), place] = 1
        self.there[self.intervals + 1, place] = 1
        self.there[self.intervals + 2 : self.intervals + 2 + len(single), place] = 1
        if not self.integers:
            self.there[0, place] = 1

    def _edges(self, values: Tensor, counts: Tensor, least: float, most: float, width: float) -> Tensor:
        """Edges halfway between values, between which there are about equally many rows."""
        total = int(counts.sum())
        wanted = max(1, min(self.intervals - 1, total // ROWS_OF_AN_INTERVAL))
        below = counts.cumsum(0)[:-1].double() / max(total, 1)
        between = (values[1:] + values[:-1]) / 2
        shares = torch.arange(1, wanted, dtype=torch.float64) / wanted
        inner = (
            between[torch.searchsorted(below, shares).clamp_max(max(0, len(between) - 1))] if len(between) else below
        )
        margin = 0.5 if self.integers else width / (2 * max(len(values), 10))
        edges = torch.cat([torch.tensor([least - margin]).double(), inner, torch.tensor([most + margin]).double()])
        if self.integers:
            edges = torch.cat([torch.tensor([-0.5]).double(), edges.floor() + 0.5])
        return edges.unique()
