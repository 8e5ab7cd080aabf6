"""Rows: one split of a data set, kept compactly on one device and made into x a batch at a time."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Required, TypedDict

import numpy as np
import torch
from torch import Tensor


class Inputs(TypedDict, total=False):
    """What a model is called with: x of some rows, and their context and mask where there are any."""

    x: Required[Tensor]
    context: Tensor
    mask: Tensor


def inputs_of(x: Tensor, context: Tensor | None, mask: Tensor | None) -> Inputs:
    """The inputs of a model, without those that are None."""
    inputs = Inputs(x=x)
    if context is not None:
        inputs["context"] = context
    if mask is not None:
        inputs["mask"] = mask
    return inputs


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one split.

    Attributes:
        values: (n, *shape), as compact as the data allows: grey levels stay uint8, real numbers are scaled already.
        labels: (n,) int64, or None.
        context: (n, width), what the model is conditioned on, or None.
        loc, scale: x = (values - loc) / scale.
        discrete: x stays integers (levels without scaling).
        dynamic: x is drawn afresh by every call, 1 with probability values / scale, else 0.
        factors: (n, f) int64, what the rows were made from, or None.
        log_scales: ln scale of each value of a row, with as many axes as a row; None where there is no scaling.
        protocol: Which rows these are, and how they were made, where the schema does not say so: of other data.
        mask: (n, *shape) bool, which cells are observed; None where all are. The values of the others are 0.
        weight: (n,) how much each row counts, 1 on average over the training rows; None where all count alike.
        names: (n,) what the source calls the rows, or None.
    """

    values: Tensor
    labels: Tensor | None = None
    context: Tensor | None = None
    loc: float = 0.0
    scale: float = 1.0
    discrete: bool = False
    dynamic: bool = False
    factors: Tensor | None = None
    log_scales: Tensor | None = None
    protocol: str = ""
    mask: Tensor | None = None
    weight: Tensor | None = None
    names: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def device(self) -> torch.device:
        """Where the values are."""
        return self.values.device

    @property
    def shape(self) -> torch.Size:
        """Shape of one row."""
        return self.values.shape[1:]

    def order(self, generator: torch.Generator) -> Tensor:
        """The rows by number in a random order, (n,) int64 on the device of the values: one epoch.

        Args:
            generator: On the CPU, so that the order is the same on every device.
        """
        return torch.randperm(len(self), generator=generator).to(self.values.device)

    def noise(self, n: int, generator: torch.Generator | None) -> Tensor | None:
        """What dynamic binarisation draws for n rows, (n, *shape); None for other data."""
        if not self.dynamic:
            return None
        shape, device = (n, *self.shape), self.values.device
        if self.values.is_floating_point():
            return torch.rand(shape, generator=generator, device=device)
        # An integer below `scale`, uniformly, is less than v with probability v / scale exactly: no rounding, and a
        # byte of noise per pixel in place of four.
        empty = torch.empty(shape, dtype=self.values.dtype, device=device)
        return empty.random_(0, int(self.scale), generator=generator)

    def batch(
        self, index: Tensor | slice, generator: torch.Generator | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """The x of the rows in `index`, in the support that the schema declares.

        Args:
            index: A slice, or (batch,) int64.
            generator: On the device of the values; used by dynamic binarisation only.
            noise: What `noise(batch, generator)` gives, where it has been drawn already.

        Returns:
            (batch, *shape): int64 where the rows are discrete, else float32.
        """
        if isinstance(index, slice):
            values = self.values[index]
        else:
            values = self.values.index_select(0, index.to(self.values.device))
        if self.dynamic:
            drawn = self.noise(len(values), generator) if noise is None else noise
            assert drawn is not None
            return (drawn < values).float()
        if self.discrete:
            return values.long()
        x = values.float()
        if self.loc != 0:
            x = x - self.loc
        return x if self.scale == 1 else x / self.scale

    def context_of(self, index: Tensor | slice) -> Tensor | None:
        """The context of the rows in `index`, (batch, width) float32; None if there is none."""
        return None if self.context is None else self.context[index].float()

    def mask_of(self, index: Tensor | slice) -> Tensor | None:
        """Which cells of the rows in `index` are observed, (batch, *shape) bool; None where all are."""
        return None if self.mask is None else self.mask[index]

    def weight_of(self, index: Tensor | slice) -> Tensor | None:
        """How much the rows in `index` count, (batch,); None where all count alike."""
        return None if self.weight is None else self.weight[index]

    @property
    def log_scale(self) -> float:
        """What a log-density of x is above that of the row as it is stored, in nats, of a row that lacks no cell."""
        return whole_log_scale(self)

    def log_scale_of(self, index: Tensor | slice) -> Tensor | float:
        """The same of the observed cells of the rows in `index`, (batch,); one number where no row lacks any."""
        return observed_log_scale(self, self.mask_of(index))

    def inputs(self, index: Tensor | slice, generator: torch.Generator | None = None) -> Inputs:
        """What a model is called with for the rows in `index`: `x`, and `context` and `mask` where there are any."""
        return inputs_of(self.batch(index, generator), self.context_of(index), self.mask_of(index))

    def at(self, index: Tensor, generator: torch.Generator | None = None) -> "Rows":
        """The rows in `index`, (m,) int64, as rows of their own; those binarised dynamically are drawn once."""
        return drawn_rows(self, index, generator, self.factors)

    def some(self, n: int) -> Tensor:
        """Numbers of n rows (of all, where there are fewer) that stand for all: the first, as they are shuffled."""
        return torch.arange(min(n, len(self)), device=self.values.device)

    def to(self, device: torch.device | str) -> "Rows":
        """The same rows on another device."""
        return self._with(self.values.to(device), lambda part: part.to(device))

    def take(self, n: int) -> "Rows":
        """The first n rows (all of them where there are fewer), sharing memory."""
        names = None if self.names is None else self.names[:n]
        return replace(self._with(self.values[:n], lambda part: part[:n]), names=names)

    def _with(self, values: Tensor, change: Callable[[Tensor], Tensor]) -> "Rows":
        """The values in place of these, and what is known of each row changed as they were."""
        names = ("labels", "context", "factors", "mask", "weight")
        known = {name: getattr(self, name) for name in names}
        return replace(self, values=values, **{k: None if v is None else change(v) for k, v in known.items()})


def whole_log_scale(rows: Any) -> float:
    """Sum of ln scale over the values of a row of some `Rows` or `StreamedRows`."""
    if rows.log_scales is None:
        return 0.0
    return math.fsum(rows.log_scales.flatten().tolist()) * (math.prod(rows.shape) / rows.log_scales.numel())


def observed_log_scale(rows: Any, mask: Tensor | None) -> Tensor | float:
    """Sum of ln scale over the observed cells, (batch,), by the mask of some of the rows; a number without a mask."""
    if mask is None or rows.log_scales is None:
        return whole_log_scale(rows)
    return (mask * rows.log_scales.to(mask.device)).flatten(1).sum(1)


def in_their_weights(rows: Any, index: Tensor, most: int) -> Tensor:
    """Numbers of rows among which each of those in `index` is as often as its weight says, give or take one.

    Where weights are multiples of the least one, it is exactly as often, if so many rows may be given.

    Args:
        rows: Some `Rows` or `StreamedRows`.
        index: (n,) numbers of rows.
        most: Numbers that may be given; n may be in any case.
    """
    weight = rows.weight_of(index)
    if weight is None or not weight.any():
        return index
    weight = weight.double()
    total, least = weight.sum(), weight[weight > 0].min()
    count = max(1, min(round(float(total / least)), max(most, len(weight))))
    ends = weight.cumsum(0) * (count / total)
    places = torch.arange(count, device=weight.device, dtype=torch.float64) + 0.5
    return index[torch.searchsorted(ends, places).clamp_max(len(weight) - 1).to(index.device)]


def drawn_rows(rows: Any, index: Tensor, generator: torch.Generator | None, factors: Tensor | None = None) -> Rows:
    """The x of some `Rows` or `StreamedRows`, kept as rows of their own."""
    x = rows.batch(index, generator)
    labels, factors = (None if part is None else part[index.to(part.device)] for part in (rows.labels, factors))
    return Rows(
        x,
        labels,
        rows.context_of(index),
        discrete=not x.is_floating_point(),
        factors=factors,
        log_scales=rows.log_scales,
        mask=rows.mask_of(index),
        weight=rows.weight_of(index),
        names=None if rows.names is None else rows.names[index.cpu().numpy()],
    )
