"""Context: what a model is conditioned on besides x, the label of a row or some columns of a table."""

from dataclasses import replace

import numpy as np

from vaekit.data.raw import nearest
from vaekit.data.schema import Context
from vaekit.data.source import Source
from vaekit.errors import ConfigError, DataError

LABEL = "label"


def take_context(source: Source, wanted: tuple[str, ...]) -> Source:
    """The source with its context, (n, width): labels one-hot, or columns, which are then not among the values."""
    if not wanted:
        return source
    if wanted == (LABEL,):
        if source.labels is None or source.classes is None:
            raise ConfigError(
                f"DataSpec.context=label, but {source.name} has no labels: set DataSpec.label, or leave it out",
                field="DataSpec.context",
                value=list(wanted),
            )
        context = one_hot(source.labels, len(source.classes))
        return replace(source, context=context, context_names=source.classes)
    columns = source.columns
    if columns is None:
        raise ConfigError(
            f"DataSpec.context={list(wanted)} names columns, and {source.name} is no table: use label",
            field="DataSpec.context",
            value=list(wanted),
        )
    twice = next((name for place, name in enumerate(wanted) if name in wanted[:place]), None)
    if twice is not None:
        raise ConfigError(
            f"DataSpec.context names {twice!r} twice: name it once", field="DataSpec.context", value=list(wanted)
        )
    for name in wanted:
        if name == LABEL and name not in columns:
            raise ConfigError(
                f"DataSpec.context is {list(wanted)}: it should be label alone, or columns of numbers",
                field="DataSpec.context",
                value=list(wanted),
            )
        if name not in columns:
            raise ConfigError(
                f"DataSpec.context names {name!r}, which {source.name} does not have{nearest(name, columns)}",
                field="DataSpec.context",
                value=list(wanted),
            )
    if len(wanted) == len(columns):
        raise ConfigError(
            "DataSpec.context names every column: leave some for x", field="DataSpec.context", value=list(wanted)
        )
    inside = [columns.index(name) for name in wanted]
    kept = [i for i in range(len(columns)) if i not in inside]
    context = source.values[:, inside].astype(np.float64)
    if not np.isfinite(context).all():
        row, column = map(int, np.argwhere(~np.isfinite(context))[0])
        place, value = source.place((row, inside[column])), context[row, column]
        raise DataError(f"{place} is {value}: a context must be finite: fill it in, or leave out the row or the column")
    return replace(
        source,
        values=np.ascontiguousarray(source.values[:, kept]),
        columns=tuple(columns[i] for i in kept),
        context=context,
        context_names=wanted,
    )


def fit_context(source: Source, train: np.ndarray) -> Context | None:
    """Names and scaling of a source's context: columns are standardised by the training rows, labels are not."""
    if source.context is None:
        return None
    width = source.context.shape[1]
    if source.context.dtype == np.uint8:
        return Context("label", source.context_names, (0.0,) * width, (1.0,) * width)
    values = source.context[train]
    scale = np.where(np.ptp(values, 0) > 0, values.std(0), 1.0)
    return Context("columns", source.context_names, tuple(values.mean(0).tolist()), tuple(scale.tolist()))


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """(n, classes) of bytes; a label that is none of the classes is all zeros."""
    return (labels[:, None] == np.arange(classes)).astype(np.uint8)
