"""From stored values to the rows of a split: numbers scaled, categories numbered, missing cells marked, binarised."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
import torch

from vaekit.data.context import Conditioning, number_of
from vaekit.data.part import Part
from vaekit.data.roles import Roles
from vaekit.data.rows import Rows
from vaekit.data.scaling import Scaling
from vaekit.data.schema import Binary, Field, Levels, Support, Weight
from vaekit.data.spec import DataSpec
from vaekit.data.table import Column

# The test set is drawn once, from NumPy's legacy generator with the seed of VampPrior's code (jmtomczak/vae_vampprior,
# utils/load_data.py), and with the same probabilities. That code draws its validation set, the last 10,000 training
# images, first and from the same generator, so its draws are others: a fifth of MNIST's grey pixels differ.
TEST_SEED = 777
_VALID_SEED = TEST_SEED + 1


@dataclass(frozen=True, eq=False)
class Preprocessor:
    """Turns stored rows into what a model takes.

    Attributes:
        roles: Which columns are modelled.
        spec: Says whether rows are binarised.
        stored: The support of the values.
        scaling: For those not binarised.
        fields: Of a table of several kinds.
        missing: Whether cells may be missing.
        conditioning: How the context is made; None without one.
        weight: How much rows count; None where all count alike.
    """

    roles: Roles
    spec: DataSpec
    stored: Support
    scaling: Scaling
    fields: tuple[Field, ...] | None = None
    missing: bool = False
    conditioning: Conditioning | None = None
    weight: Weight | None = None

    def train(self, part: Part) -> Rows:
        """Training rows: with dynamic binarisation they keep their grey values."""
        if self.spec.binarise != "dynamic":
            return self._fixed(part)
        grey, mask = self._filled(part)
        grey = _integers(grey, self.stored) if isinstance(self.stored, Levels) else grey.astype(np.float32)
        return replace(self._rows(part, grey, mask), scale=float(_top(self.stored)), dynamic=True)

    def valid(self, part: Part) -> Rows:
        """Validation rows: with dynamic binarisation they are drawn once."""
        return self._fixed(part) if self.spec.binarise != "dynamic" else self._drawn(part, _VALID_SEED)

    def test(self, part: Part, chosen: np.ndarray | None = None) -> Rows:
        """Test rows: with dynamic binarisation they are drawn once.

        Args:
            part: The source's own test set whole, where it has one, so that its rows never depend on how it is divided.
            chosen: Those of these rows that are wanted; all by default.
        """
        if self.spec.binarise == "dynamic":
            rows = self._drawn(part, TEST_SEED)
            return rows if chosen is None else rows.at(torch.from_numpy(chosen))
        return self._fixed(part if chosen is None else part[chosen])

    def protocol(self, split: str) -> str:
        """How the rows were made, in words; split: how they were chosen."""
        if self.spec.binarise == "dynamic":
            return (
                f"dynamic binarisation in training; validation and test binarised once, RandomState({_VALID_SEED}) "
                f"and RandomState({TEST_SEED}); {split}"
            )
        split = split if self.weight is None else f"{split}; rows weighted by the column {self.weight.name!r}"
        return f"binarised by a threshold at one half; {split}" if self.spec.binarise == "threshold" else split

    def _fixed(self, part: Part) -> Rows:
        """Binarised by a threshold, or scaled, a block at a time."""
        return _joined(map(self._fixed_block, part.blocks()), len(part))

    def _fixed_block(self, part: Part) -> Rows:
        """The same for a block.

        Integers that one scale serves are kept, and scaled a batch at a time; all else is scaled now.
        """
        values, mask = self._filled(part)
        stored, scaling = self.stored, self.scaling
        if self.spec.binarise == "threshold":
            return self._rows(part, (values / _top(stored) >= 0.5).astype(np.uint8), mask)
        if not isinstance(stored, Binary | Levels) or len(scaling.scale or (1.0,)) != 1:
            x = scaling.apply(values, self.roles)
            return self._rows(part, x if mask is None else np.where(mask, x, np.float32(0)), mask)
        kept = self._rows(part, _integers(values, stored), mask)
        if scaling.loc is None or scaling.scale is None:
            return replace(kept, discrete=isinstance(stored, Levels))
        return replace(kept, loc=scaling.loc[0], scale=scaling.scale[0])

    def _filled(self, part: Part) -> tuple[np.ndarray, np.ndarray | None]:
        """What is modelled, with zeros in place of missing cells, and the mask of the others."""
        values = self.roles.modelled(part.values)
        if self.fields is not None:
            values = self._coded(values)
        if not self.missing and (self.fields is None or not np.isnan(values).any()):
            return values, None
        mask = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
        return np.where(mask, values, np.zeros((), values.dtype)), mask

    def unseen(self, values: np.ndarray) -> dict[str, int]:
        """How many cells of rows, (n, columns), have categories that the model does not know, by column."""
        stored = self.roles.modelled(values)
        lost = np.isnan(self._coded(stored)) & ~np.isnan(stored) if self.fields else np.zeros((0, 0), bool)
        counts = zip((field.name for field in self.fields or ()), lost.sum(0).tolist(), strict=False)
        return {name: count for name, count in counts if count}

    def _coded(self, values: np.ndarray) -> np.ndarray:
        """Rows of a table with categories by the numbers that they have for the model; one that it has not is NaN."""
        coded = values.astype(np.float64)
        for place, numbers in self._numbers.items():
            cells = coded[:, place]
            at = np.minimum(np.searchsorted(numbers, cells), len(numbers) - 1)
            coded[:, place] = np.where(numbers[at] == cells, self._codes[place][at], np.nan)
        for place, codes in self._codes_of_texts.items():
            cells = coded[:, place]
            coded[:, place] = codes[np.where(np.isnan(cells), -1, cells).astype(np.intp)]
        return coded

    @cached_property
    def _codes_of_texts(self) -> dict[int, np.ndarray]:
        """By place, the category that each text of the file is, by its number there; NaN, as the last is, of none."""
        found = {}
        for place, column in self._coded_columns.items():
            if column.categories is not None:
                categories = (self.fields or ())[place].categories
                numbers = {name: float(number) for number, name in enumerate(categories)}
                found[place] = np.array([*(numbers.get(name, np.nan) for name in column.categories), np.nan])
        return found

    @cached_property
    def _numbers(self) -> dict[int, np.ndarray]:
        """By place, the stored numbers of categories, in rising order."""
        return {place: np.sort(numbers) for place, numbers in self._stored_numbers.items()}

    @cached_property
    def _codes(self) -> dict[int, np.ndarray]:
        """By place, which category has each of `_numbers`."""
        return {place: np.argsort(numbers) for place, numbers in self._stored_numbers.items()}

    @cached_property
    def _stored_numbers(self) -> dict[int, np.ndarray]:
        """By place, the numbers that the categories of a field are, where these are no texts in the file."""
        return {
            place: np.array([number_of(name, column) for name in (self.fields or ())[place].categories])
            for place, column in self._coded_columns.items()
            if column.categories is None
        }

    @cached_property
    def _coded_columns(self) -> dict[int, Column]:
        """By place, the columns of the table whose fields have categories."""
        columns = self.roles.table.columns or ()
        places = range(len(columns)) if self.roles.x is None else self.roles.x
        fields = enumerate(zip(self.fields or (), places, strict=True))
        return {place: columns[at] for place, (field, at) in fields if field.categories}

    def _drawn(self, part: Part, seed: int) -> Rows:
        grey, mask = self._filled(part)
        drawn = np.random.RandomState(seed).binomial(1, grey / _top(self.stored)).astype(np.uint8)
        return self._rows(part, drawn, mask)

    def _rows(self, part: Part, x: np.ndarray, mask: np.ndarray | None) -> Rows:
        labels, factors = (None if one is None else torch.from_numpy(one) for one in (part.labels, part.factors))
        context = (
            None if self.conditioning is None else torch.from_numpy(self.conditioning.of(part.values, part.labels))
        )
        return Rows(
            torch.from_numpy(np.ascontiguousarray(x)),
            labels,
            context,
            factors=factors,
            log_scales=self._log_scales(x.ndim - 1),
            mask=None if mask is None else torch.from_numpy(mask),
            weight=self._weights(part),
        )

    def _weights(self, part: Part) -> torch.Tensor | None:
        """How much the rows count, (n,)."""
        if self.weight is None or self.roles.weight is None:
            return None
        stored = part.values[:, self.roles.weight].astype(np.float64)
        return torch.from_numpy((stored / self.weight.mean).astype(np.float32))

    def _log_scales(self, axes: int) -> torch.Tensor | None:
        """ln scale of each value of a row of so many axes."""
        if self.scaling.scale is None:
            return None
        each = [math.log(one) for one in self.scaling.scale]
        return torch.tensor(each, dtype=torch.float64).reshape(-1, *[1] * (axes - 1))


def _joined(blocks: Iterator[Rows], n: int) -> Rows:
    """Rows that come in blocks, as one; n: how many there are."""
    first = next(blocks)
    if len(first) == n:
        return first
    whole: dict[str, torch.Tensor] = {}
    start = 0
    for rows in chain([first], blocks):
        for name in ("values", "labels", "context", "factors", "mask", "weight"):
            part = getattr(rows, name)
            if part is None:
                continue
            if name not in whole:  # of a mask, blocks without a missing cell have none
                whole[name] = part.new_ones((n, *part.shape[1:]))
            whole[name][start : start + len(rows)] = part
        start += len(rows)
    return replace(first, **whole)


def _integers(values: np.ndarray, stored: Support) -> np.ndarray:
    """Levels or binary values in the smallest type that torch gathers well."""
    return values.astype(np.uint8 if _top(stored) <= 255 else np.int64, copy=False)


def _top(stored: Support) -> int:
    """The value that stands for one: the highest level, or 1."""
    return stored.count - 1 if isinstance(stored, Levels) else 1
