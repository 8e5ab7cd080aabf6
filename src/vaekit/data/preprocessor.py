"""From stored values to the rows of a split: scaled, or binarised."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from vaekit.data.rows import Rows
from vaekit.data.scaling import Scaling
from vaekit.data.schema import Binary, Context, Levels, Support, log_scale
from vaekit.data.source import Source
from vaekit.data.spec import DataSpec

# The test set is drawn once, from NumPy's legacy generator with the seed of VampPrior's code (jmtomczak/vae_vampprior,
# utils/load_data.py), and with the same probabilities. That code draws its validation set, the last 10,000 training
# images, first and from the same generator, so its draws are others: a fifth of MNIST's grey pixels differ.
TEST_SEED = 777
_VALID_SEED = TEST_SEED + 1


@dataclass(frozen=True, eq=False)
class Preprocessor:
    """Turns rows of `source`, given by number or as a slice, into what a model takes.

    Attributes:
        spec: says whether they are binarised.
        stored: the support of the values.
        scaling: for those not binarised.
        context: how the context is scaled.
    """

    source: Source
    spec: DataSpec
    stored: Support
    scaling: Scaling
    context: Context | None = None

    def train(self, index: np.ndarray | slice) -> Rows:
        """Training rows: with dynamic binarisation they keep their grey values."""
        if self.spec.binarise != "dynamic":
            return self._fixed(index)
        grey = self.source.values[index]
        grey = _integers(grey, self.stored) if isinstance(self.stored, Levels) else grey.astype(np.float32)
        return replace(self._rows(index, grey), scale=float(_top(self.stored)), dynamic=True)

    def valid(self, index: np.ndarray) -> Rows:
        """Validation rows: with dynamic binarisation they are drawn once."""
        if self.spec.binarise != "dynamic":
            return self._fixed(index)
        return self._rows(index, self._drawn(index, _VALID_SEED))

    def test(self, index: np.ndarray | slice) -> Rows:
        """Test rows: with dynamic binarisation they are drawn once."""
        if self.spec.binarise != "dynamic":
            return self._fixed(index)
        source = self.source
        index = np.arange(len(source.values))[index]
        # The official test set is drawn whole, so that its rows never depend on how it is then divided.
        whole = np.arange(source.train_rows, len(source.values)) if source.test_rows else index
        return self._rows(index, self._drawn(whole, TEST_SEED)[np.isin(whole, index)])

    def protocol(self, split: str) -> str:
        """How the rows were made, in words; split: how they were chosen."""
        if self.spec.binarise == "dynamic":
            return (
                f"dynamic binarisation in training; validation and test binarised once, RandomState({_VALID_SEED}) "
                f"and RandomState({TEST_SEED}); {split}"
            )
        return f"binarised by a threshold at one half; {split}" if self.spec.binarise == "threshold" else split

    def _fixed(self, index: np.ndarray | slice) -> Rows:
        """Binarised by a threshold, or scaled.

        Integers that one scale serves are kept, and scaled a batch at a time; all else is scaled now.
        """
        values, stored, scaling = self.source.values[index], self.stored, self.scaling
        if self.spec.binarise == "threshold":
            return self._rows(index, (values / _top(stored) >= 0.5).astype(np.uint8))
        if not isinstance(stored, Binary | Levels) or len(scaling.scale or (1.0,)) != 1:
            return self._rows(index, scaling.apply(values, self.source))
        kept = self._rows(index, _integers(values, stored))
        if scaling.loc is None or scaling.scale is None:
            return replace(kept, discrete=isinstance(stored, Levels))
        return replace(kept, loc=scaling.loc[0], scale=scaling.scale[0])

    def _drawn(self, index: np.ndarray, seed: int) -> np.ndarray:
        p = self.source.values[index] / _top(self.stored)
        return np.random.RandomState(seed).binomial(1, p).astype(np.uint8)

    def _rows(self, index: np.ndarray | slice, values: np.ndarray) -> Rows:
        known = (self.source.labels, self.source.factors)
        labels, factors = (None if part is None else torch.from_numpy(part[index]) for part in known)
        context = None
        if self.context is not None and self.source.context is not None:
            stored = self.source.context[index]
            context = torch.from_numpy(stored if stored.dtype == np.uint8 else self.context.scaled(stored))
        height = log_scale(self.scaling.scale, self.source.values.shape[1:])
        return Rows(torch.from_numpy(np.ascontiguousarray(values)), labels, context, factors=factors, log_scale=height)


def _integers(values: np.ndarray, stored: Support) -> np.ndarray:
    """Levels or binary values in the smallest type that torch gathers well."""
    return values.astype(np.uint8 if _top(stored) <= 255 else np.int64, copy=False)


def _top(stored: Support) -> int:
    """The value that stands for one: the highest level, or 1."""
    return stored.count - 1 if isinstance(stored, Levels) else 1
