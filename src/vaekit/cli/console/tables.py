"""Tables that commands write as their source has them: CSV in its dialect, Parquet and Feather with its types."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vaekit.cli.console.writing import CSV, FEATHER, PARQUET, outgoing, room_for
from vaekit.data.schema import Dialect

if TYPE_CHECKING:
    import pyarrow as pa


def write_tables(out: Path, tables: "Iterable[pa.Table]", rows: int, dialect: Dialect | None) -> None:
    """Write tables by the ending of `out`, one after another, so that memory holds one at a time.

    Args:
        out: .csv, .parquet or .feather.
        tables: Of Arrow, all with the same columns.
        rows: Of all together.
        dialect: Of a CSV file; by default commas and a header.

    Raises:
        ConfigError: There is no room for so many rows.
        VaekitError: It cannot be written; the old file is as it was.
    """
    ending = out.suffix.lower()
    with outgoing(out) as file:
        found = _if_there_is_room(out, tables, rows)
        if ending == CSV:
            _write_csv(file, found, dialect or Dialect())
        else:
            _write_arrow(file, found, ending)


def _if_there_is_room(out: Path, tables: "Iterable[pa.Table]", rows: int) -> "Iterator[pa.Table]":
    for number, table in enumerate(tables):
        if number == 0:
            room_for(out, rows, 2 * table.num_columns if out.suffix.lower() == CSV else 1)
        yield table


def _write_arrow(file: IO[bytes], tables: "Iterable[pa.Table]", ending: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    writer: Any = None
    for table in tables:
        if writer is None and ending == PARQUET:
            writer = parquet.ParquetWriter(file, table.schema)
        elif writer is None:
            assert ending == FEATHER
            writer = pa.ipc.new_file(file, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _write_csv(file: IO[bytes], tables: "Iterable[pa.Table]", dialect: Dialect) -> None:
    for number, table in enumerate(tables):
        columns = [texts_of(table[name], dialect, name) for name in table.column_names]
        if number == 0 and dialect.header:
            file.write(_line([_quoted(name, dialect) for name in table.column_names], dialect))
        file.writelines(_line(row, dialect) for row in zip(*columns, strict=True))


def _line(cells: Iterable[str], dialect: Dialect) -> bytes:
    """A row; a space after the delimiter stands within the quotes of a cell that has some."""
    text = dialect.delimiter.join(cells)
    if len(dialect.delimiter) > 1:
        text = text.replace(f'{dialect.delimiter}"', f'{dialect.delimiter[0]}"{dialect.delimiter[1:]}')
    return (text + "\n").encode()


def texts_of(column: "pa.ChunkedArray", dialect: Dialect, name: str) -> list[str]:
    """The cells of a column, of some name, as they stand in the file; a missing one is empty."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_floating(column.type):
        numbers = column.to_numpy()
        found = ["" if missing else str(cell) for cell, missing in zip(numbers, np.isnan(numbers), strict=True)]
        return found if dialect.decimal == "." else [_quoted(text.replace(".", ","), dialect) for text in found]
    cells = column.to_pylist()
    if pa.types.is_boolean(column.type) and name in dialect.truths:
        return ["" if cell is None else dialect.truths[name][cell] for cell in cells]
    if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        return ["" if cell is None else str(cell) for cell in cells]
    known = {cell: "" if cell is None else _quoted(cell, dialect) for cell in set(cells)}
    return [known[cell] for cell in cells]


def _quoted(text: str, dialect: Dialect) -> str:
    """A text, in quotes where it would not be read as it is without them."""
    if text and text == text.strip() and not any(mark in text for mark in (dialect.delimiter[0], '"', "\n", "\r")):
        return text
    return '"' + text.replace('"', '""') + '"'
