"""From a spec to three splits of rows and the schema that describes them."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from vaekit.data.checks import check_cells, stored_support
from vaekit.data.rows import Rows
from vaekit.data.scaling import Scaling, choose_scale, fit_scaling
from vaekit.data.schema import Binary, Levels, Schema, Support
from vaekit.data.source import Source
from vaekit.data.sources import load_source
from vaekit.data.spec import DataSpec, Limit
from vaekit.data.split import Split, split_rows
from vaekit.errors import ConfigError, DataError

# The published protocol for binarised MNIST draws the test set once, with this seed of NumPy's legacy generator.
_TEST_SEED = 777
_VALID_SEED = _TEST_SEED + 1


@dataclass(frozen=True)
class Dataset:
    """A data set, ready for a model."""

    schema: Schema
    train: Rows
    valid: Rows
    test: Rows


def prepare(spec: DataSpec, limit: Limit, *, discrete: bool = True) -> Dataset:
    """Read, check, split, scale and binarise a data set, as `spec` says; the same call gives the same rows.

    limit: how many training and validation rows are kept.
    discrete: whether the likelihood is one of integers, so that levels may stay what they are; for a continuous
        one (discrete=False) they are divided by the highest level, unless `spec.scale` says otherwise.
    Raises ConfigError where settings contradict each other or the data, DataError where the data is at fault.
    """
    if spec.missing == "mask":
        raise ConfigError(
            "data.missing=mask is not available in this version, which cannot yet leave missing cells out of the "
            "likelihood: use data.missing=refuse, and drop or fill what is missing."
        )
    source = load_source(spec)
    check_cells(source)
    stored = stored_support(source, spec)
    how = choose_scale(spec, stored, discrete)
    split = split_rows(source, spec, limit)
    if spec.binarise == "none":
        scaling = fit_scaling(how, stored, source.values[split.train], source)
        train, valid, test = _scaled(source, split, stored, scaling)
        protocol = split.protocol
    else:
        scaling = Scaling(None, None, Binary())
        draw = _drawn if spec.binarise == "dynamic" else _cut
        train, valid, test, how_binarised = draw(source, split, stored)
        protocol = f"{how_binarised}; {split.protocol}"
    schema = Schema(
        name=source.name,
        kind=source.kind,
        shape=source.values.shape[1:],
        support=scaling.support,
        stored=stored,
        loc=scaling.loc,
        scale=scaling.scale,
        columns=source.columns,
        classes=source.classes,
        fingerprint=source.fingerprint(),
        protocol=protocol,
    )
    return Dataset(schema, train, valid, test)


def read_like(source: str, spec: DataSpec, schema: Schema) -> Rows:
    """The rows of another source (its own test rows, where it has any), as a model trained on `schema` sees them.

    Nothing is fitted: the support, the scaling and the classes are those of `schema`, the binarisation is `spec`'s.
    Raises DataError where the rows are of another shape, or break the support.
    """
    other = load_source(replace(spec, source=source))
    check_cells(other)
    if other.values.shape[1:] != schema.shape:
        raise DataError(
            f"{other.name} has rows of shape {other.values.shape[1:]}, and the model was trained on {schema.name} with "
            f"rows of shape {schema.shape}: give data of that shape."
        )
    levels = schema.stored.count if isinstance(schema.stored, Levels) else None
    stored = stored_support(other, replace(spec, support=schema.stored.kind, levels=levels))
    nothing = np.arange(0)
    every = np.arange(other.train_rows if other.test_rows else 0, len(other.values))
    split = Split(nothing, nothing, every, "")
    if spec.binarise == "none":
        _, _, rows = _scaled(other, split, stored, Scaling(schema.loc, schema.scale, schema.support))
    else:
        _, _, rows, _ = (_drawn if spec.binarise == "dynamic" else _cut)(other, split, stored)
    return replace(rows, labels=_relabelled(rows.labels, other.classes, schema.classes))


def _relabelled(
    labels: torch.Tensor | None, classes: tuple[str, ...] | None, known: tuple[str, ...] | None
) -> torch.Tensor | None:
    """Labels by the numbers that the known classes have; new classes follow after them."""
    if labels is None or classes is None or known is None:
        return labels
    numbers = {name: number for number, name in enumerate(dict.fromkeys((*known, *classes)))}
    return torch.tensor([numbers[name] for name in classes])[labels]


def _scaled(source: Source, split: Split, stored: Support, scaling: Scaling) -> tuple[Rows, Rows, Rows]:
    """Integers that one scale serves are kept, and scaled a batch at a time; all else is scaled now."""
    compact = isinstance(stored, Binary | Levels) and len(scaling.scale or (1.0,)) == 1

    def rows(index: np.ndarray) -> Rows:
        values = source.values[index]
        if not compact:
            return _rows(source, index, scaling.apply(values, source))
        kept = _rows(source, index, _integers(values, stored))
        if scaling.loc is None or scaling.scale is None:
            return replace(kept, discrete=isinstance(stored, Levels))
        return replace(kept, loc=scaling.loc[0], scale=scaling.scale[0])

    return rows(split.train), rows(split.valid), rows(split.test)


def _drawn(source: Source, split: Split, stored: Support) -> tuple[Rows, Rows, Rows, str]:
    """Binarised dynamically: training rows keep their grey values, the others are drawn once."""
    top = _top(stored)

    def once(index: np.ndarray, seed: int) -> np.ndarray:
        return np.random.RandomState(seed).binomial(1, source.values[index] / top).astype(np.uint8)

    # The official test set is drawn whole, so that its rows never depend on how it is then divided.
    whole = np.arange(source.train_rows, len(source.values)) if source.test_rows else split.test
    tests = once(whole, _TEST_SEED)[np.isin(whole, split.test)]
    grey = source.values[split.train]
    grey = _integers(grey, stored) if isinstance(stored, Levels) else grey.astype(np.float32)
    return (
        replace(_rows(source, split.train, grey), scale=float(top), dynamic=True),
        _rows(source, split.valid, once(split.valid, _VALID_SEED)),
        _rows(source, split.test, tests),
        f"dynamic binarisation in training; validation and test binarised once, "
        f"RandomState({_VALID_SEED}) and RandomState({_TEST_SEED})",
    )


def _cut(source: Source, split: Split, stored: Support) -> tuple[Rows, Rows, Rows, str]:
    """Binarised by a threshold at one half."""

    def rows(index: np.ndarray) -> Rows:
        return _rows(source, index, (source.values[index] / _top(stored) >= 0.5).astype(np.uint8))

    return rows(split.train), rows(split.valid), rows(split.test), "binarised by a threshold at one half"


def _rows(source: Source, index: np.ndarray, values: np.ndarray) -> Rows:
    labels = None if source.labels is None else torch.from_numpy(source.labels[index])
    return Rows(torch.from_numpy(np.ascontiguousarray(values)), labels)


def _integers(values: np.ndarray, stored: Support) -> np.ndarray:
    """Levels or binary values in the smallest type that torch gathers well."""
    return values.astype(np.uint8 if _top(stored) <= 255 else np.int64)


def _top(stored: Support) -> int:
    """The value that stands for one: the highest level, or 1."""
    return stored.count - 1 if isinstance(stored, Levels) else 1
