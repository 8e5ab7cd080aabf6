"""CSV: a table of numbers, with at most one column of labels."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from vaekit.data.bounds import LONGEST_LINE, MOST_COLUMNS, check_labels
from vaekit.data.raw import (
    LABEL_NAMES,
    Raw,
    are_classes,
    check_distinct,
    check_drop,
    check_left,
    drop_setting,
    find_name,
    listing,
    nearest,
)
from vaekit.data.spec import NO_LABEL
from vaekit.errors import DataError

_BLOCK = 1 << 24
_NO_VALUE = frozenset(pa_csv.ConvertOptions().null_values)


def read_csv(path: Path, label: str | None, drop: Sequence[str]) -> Raw:
    """A table from a CSV file in UTF-8, separated by commas, semicolons or tabs.

    The first row is a header unless all of its cells are numbers. An empty cell is NaN.

    Args:
        path: of the file.
        label: the column of labels.
        drop: the columns left out.

    Raises:
        DataError: rows have different numbers of cells, text stands where numbers belong, and the like.
    """
    delimiter = _delimiter(path)
    columns, header_lines = _columns(path, delimiter)
    check_drop(drop, columns, str(path))
    if label not in (None, NO_LABEL, *columns):
        raise DataError(
            f"DataSpec.label names the column {label!r}, which {path} does not have{nearest(label, columns)}; "
            f"its columns are {listing(columns)}.",
            field="DataSpec.label",
            value=label,
        )
    table = _parse(path, delimiter, columns, header_lines)
    if len(table) == 0:
        raise DataError(f"{path} holds a header but no rows; at least three rows are needed.")
    _check_text(table.drop_columns(list(drop)), path)
    label = None if label == NO_LABEL else label or _default_label(table, drop, path)
    dropped = {label, *drop}
    kept = [name for name in columns if name not in dropped]
    check_left(kept, str(path))
    if text := [name for name in kept if not is_numeric(table.schema.field(name).type)]:
        refuse_text(table, path, text)
    values = np.empty((len(table), len(kept)))
    for place, name in enumerate(kept):
        values[:, place] = pc.cast(table[name], pa.float64(), safe=False).to_numpy()
    labels = None if label is None else to_labels(table[label], f"{path}: the label")
    return Raw(values, labels, columns=tuple(kept))


def column_names(path: Path) -> tuple[str, ...]:
    """The names of the columns of a CSV file, by their numbers where there is no header."""
    return tuple(_columns(path, _delimiter(path))[0])


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file, as `csv.reader` takes them: text in UTF-8, with their ends, each of bounded length."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise DataError(
                    f"{path}: line {number} has more than {LONGEST_LINE:,} characters; a table has a row per line, and "
                    "a large array is better saved as .npy."
                )
            try:
                line.encode()
            except UnicodeEncodeError as error:
                byte = ord(line[error.start]) - 0xDC00
                raise DataError(
                    f"{path} is not text in UTF-8: line {number} has the byte {byte:#04x}; save it as UTF-8."
                ) from None
            yield line


def _rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file that are not blank, each with the number of the line on which it ends."""
    reader = csv.reader(_lines(path), delimiter=delimiter)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        long = f"a cell of more than {csv.field_size_limit():,} characters" if "limit" in str(error) else str(error)
        raise DataError(
            f"{path}: the row that ends on line {reader.line_num} or later has {long}: close the quote that is open."
        ) from None


def _delimiter(path: Path) -> str:
    first = next((line for line in _lines(path) if line.strip()), "")
    return next((mark for mark in ",;\t" if mark in first), ",")


def _columns(path: Path, delimiter: str) -> tuple[list[str], int]:
    """Names of the columns, and how many lines there are up to the end of the header; 0 without one."""
    line, first = next(_rows(path, delimiter), (0, []))
    if not first:
        raise DataError(f"{path} holds only blank lines; expected a table with a row per line.")
    if len(first) > MOST_COLUMNS:
        raise DataError(
            f"{path} has {len(first):,} columns, and at most {MOST_COLUMNS:,} are read as text: save it as .npy."
        )
    # A table without names is often saved with the numbers of its columns for a header.
    numbered = len(first) > 1 and first == [str(i) for i in range(len(first))]
    headed = numbered or not all(_is_number(cell) for cell in first)
    names = [cell.strip() if headed and cell.strip() else f"column {place}" for place, cell in enumerate(first)]
    check_distinct(names, str(path))
    return names, line if headed else 0


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
    except pa.ArrowInvalid as error:
        raise DataError(_ragged(path, delimiter, len(columns)) or f"{path}: {str(error)[:200]}") from None


def _check_text(table: pa.Table, path: Path) -> None:
    """Raise DataError where a column holds bytes, as one does for Arrow whose text is not UTF-8."""
    if any(pa.types.is_binary(kind) for kind in table.schema.types):
        for _ in _lines(path):  # which names the line
            pass


def _ragged(path: Path, delimiter: str, width: int) -> str | None:
    """What to say about the first row that has too few or too many cells."""
    for line, row in _rows(path, delimiter):
        if len(row) != width:
            text = delimiter.join(row)
            shown = text if len(text) < 40 else f"{text[:40]}..."
            return (
                f"{path}: line {line} has {len(row)} cells ({shown}), the first row has {width}; "
                "every row needs as many: mend that line."
            )
    return None


def _default_label(table: pa.Table, drop: Sequence[str], path: Path) -> str | None:
    name = find_name((name for name in table.column_names if name not in drop), LABEL_NAMES)
    return name if name is not None and are_classes(to_labels(table[name], f"{path}: the label")) else None


def to_labels(column: pa.ChunkedArray, what: str) -> np.ndarray:
    """A column as labels: numbers (floats where some are missing), or text, in which a missing one is empty.

    Args:
        column: of numbers or text.
        what: how the column is called in errors.

    Raises:
        DataError: its texts are too long to be names of classes.
    """
    if is_numeric(column.type):
        return column.to_numpy() if column.null_count == 0 else pc.cast(column, pa.float64()).to_numpy()
    texts = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    texts = texts.unify_dictionaries().combine_chunks()  # a text that many rows share is kept once
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.chunk(0)
    names = [*pc.cast(texts.dictionary, pa.string()).to_pylist(), ""]
    check_labels(what, len(texts), max(map(len, names)))
    return np.array(names, dtype=str)[pc.fill_null(texts.indices, len(names) - 1).to_numpy()]


def is_numeric(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers."""
    return (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    )


def refuse_text(table: pa.Table | pa.RecordBatch, path: Path, text: Sequence[str]) -> None:
    """Raise DataError, which shows a cell of the first of the columns `text` that do not hold numbers."""
    row, cell = _first_text(table[text[0]])
    fix = f"or make it the labels with DataSpec.label={text[0]}" if len(text) == 1 else "or turn them into numbers"
    if _is_number(cell.replace(",", ".")):
        fix = "or write decimals with a point"
    raise DataError(
        f"{path}: the column {text[0]!r} holds {cell[:60]!r} in row {row} (counted from 0), and columns must be "
        f"numbers: leave out what is text with {drop_setting(text)}, {fix}."
    )


def _first_text(column: pa.ChunkedArray | pa.Array) -> tuple[int, str]:
    """The first cell of a column that is not a number, nor missing, and its row; else the first cell."""
    start = 0
    for part in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        for row, cell in enumerate(part):
            text = str(cell.as_py())
            if text not in _NO_VALUE and not _is_number(text):
                return start + row, text
        start += len(part)
    return 0, str(column[0].as_py())
