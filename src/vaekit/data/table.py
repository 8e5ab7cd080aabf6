"""CSV: a table of numbers, with at most one column of labels."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from vaekit.data.raw import LABEL_NAMES, Raw, are_classes, check_drop, check_left, drop_setting, find_name, nearest
from vaekit.errors import DataError

_BLOCK = 1 << 24
_NO_VALUE = frozenset(pa_csv.ConvertOptions().null_values)


def read_csv(path: Path, label: str | None, drop: Sequence[str]) -> Raw:
    """A table from a CSV file in UTF-8, separated by commas, semicolons or tabs.

    The first row is a header unless all of its cells are numbers. label: the column of labels; drop: the columns
    left out. An empty cell is NaN. Raises DataError for ragged rows, text where numbers belong, and the like.
    """
    delimiter = _delimiter(path)
    columns, header_lines = _columns(path, delimiter)
    check_drop(drop, columns, str(path))
    if label is not None and label not in columns:
        raise DataError(
            f"data.label names the column {label!r}, which {path} does not have{nearest(label, columns)}; "
            f"its columns are {', '.join(columns[:20])}."
        )
    table = _parse(path, delimiter, columns, header_lines)
    if len(table) == 0:
        raise DataError(f"{path} holds a header but no rows; at least three rows are needed.")
    label = label or _default_label(table, drop)
    kept = [name for name in columns if name != label and name not in drop]
    check_left(kept, str(path))
    refuse_text(table.select(kept), path)
    values = np.empty((len(table), len(kept)))
    for place, name in enumerate(kept):
        values[:, place] = pc.cast(table[name], pa.float64(), safe=False).to_numpy()
    labels = None if label is None else to_labels(table[label])
    return Raw(values, labels, columns=tuple(kept))


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not text in UTF-8 (byte {error.object[error.start]:#04x}); save it as UTF-8."
        ) from None


def _delimiter(path: Path) -> str:
    first = next((line for line in _lines(path) if line.strip()), "")
    return next((mark for mark in ",;\t" if mark in first), ",")


def _columns(path: Path, delimiter: str) -> tuple[list[str], int]:
    """Names of the columns, and how many lines there are up to the end of the header; 0 without one."""
    reader = csv.reader(_lines(path), delimiter=delimiter)
    try:
        first = next((row for row in reader if row), [])
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file: {error} in its first row.") from None
    if not first:
        raise DataError(f"{path} holds only blank lines; expected a table with a row per line.")
    # A table without names is often saved with the numbers of its columns for a header.
    numbered = len(first) > 1 and first == [str(i) for i in range(len(first))]
    headed = numbered or not all(_is_number(cell) for cell in first)
    names = [cell.strip() if headed and cell.strip() else f"column {place}" for place, cell in enumerate(first)]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise DataError(f"{path} has two columns named {twice!r}; names must differ: rename one of them.")
    return names, reader.line_num if headed else 0


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parse(path: Path, delimiter: str, columns: list[str], header_lines: int) -> pa.Table:
    try:
        return pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(block_size=_BLOCK, column_names=columns, skip_rows=header_lines),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        )
    except (pa.ArrowInvalid, csv.Error) as error:
        raise DataError(_ragged(path, delimiter, len(columns)) or f"{path}: {error}") from None


def _ragged(path: Path, delimiter: str, width: int) -> str | None:
    """What to say about the first row that has too few or too many cells."""
    reader = csv.reader(_lines(path), delimiter=delimiter)
    for row in reader:
        if row and len(row) != width:
            text = delimiter.join(row)
            shown = text if len(text) < 40 else f"{text[:40]}..."
            return (
                f"{path}: line {reader.line_num} has {len(row)} cells ({shown}), the first row has {width}; "
                "every row needs as many: mend that line."
            )
    return None


def _default_label(table: pa.Table, drop: Sequence[str]) -> str | None:
    name = find_name((name for name in table.column_names if name not in drop), LABEL_NAMES)
    return name if name is not None and are_classes(to_labels(table[name])) else None


def to_labels(column: pa.ChunkedArray) -> np.ndarray:
    """A column as labels: numbers (floats where some are missing), or text, in which a missing one is empty."""
    if is_numeric(column.type):
        return column.to_numpy() if column.null_count == 0 else pc.cast(column, pa.float64()).to_numpy()
    return np.array(pc.fill_null(pc.cast(column, pa.string()), "").to_pylist(), dtype=str)


def is_numeric(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers."""
    return (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    )


def refuse_text(table: pa.Table | pa.RecordBatch, path: Path) -> None:
    """Raise DataError where a column holds something that is not a number."""
    text = [name for name in table.schema.names if not is_numeric(table[name].type)]
    if not text:
        return
    cells = [str(cell) for cell in table[text[0]].to_pylist()]
    odd = (row for row, cell in enumerate(cells) if cell not in _NO_VALUE and not _is_number(cell))
    row = next(odd, 0)
    fix = f"or make it the labels with data.label={text[0]}" if len(text) == 1 else "or turn them into numbers"
    if _is_number(cells[row].replace(",", ".")):
        fix = "or write decimals with a point"
    raise DataError(
        f"{path}: the column {text[0]!r} holds {cells[row][:60]!r} in row {row} (counted from 0), and columns must be "
        f"numbers: leave out what is text with {drop_setting(text)}, {fix}."
    )
