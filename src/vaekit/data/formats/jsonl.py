# pyright: reportAttributeAccessIssue=false
"""JSON lines: a table with an object in each line, whose keys are the columns."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.json as pa_json

from vaekit.data.bounds import LONGEST_LINE, MOST_COLUMNS, check_whole, size_of
from vaekit.data.formats.arrow import MIXED, table_of_file
from vaekit.data.spec import DataSpec
from vaekit.data.table import Sizes, Table
from vaekit.errors import DataError


def open(path: Path, spec: DataSpec, sizes: Sizes) -> Table:
    """A table from a file of JSON lines, read at once; a key that a line lacks, or null, is a missing cell.

    A column of numbers in some lines and texts in others is one of texts, as in a CSV file.

    Raises:
        DataError: A line is no JSON object, a column holds values of other types together, and the like.
    """
    check_whole(path, size_of(path), sizes.whole)
    rows, names = _look(path)
    check_whole(path, 8 * rows * len(names), sizes.whole)
    try:
        arrow = _read(path)
    except MemoryError:  # which is an ArrowException as well
        raise
    except pa.ArrowException:
        arrow = _read_mixed(path)
    return table_of_file(path, arrow, spec)


def _read(source: Path | IO[bytes]) -> pa.Table:
    return pa_json.read_json(source, read_options=pa_json.ReadOptions(block_size=2 * LONGEST_LINE))


def _read_mixed(path: Path) -> pa.Table:
    """The table in a file that has texts and numbers in one column: texts, as they would stand in a CSV file."""
    mixed = _mixed(path)
    try:
        with tempfile.TemporaryFile() as file:
            file.writelines(_with_texts(path, mixed))
            file.seek(0)
            arrow = _read(file)
    except MemoryError:
        raise
    except pa.ArrowException as error:
        why = str(error).strip().splitlines()[0][:200].rstrip(".")
        raise DataError(
            f"{path} cannot be read as one table ({why}): give every key values of one type, numbers or texts."
        ) from None
    fields = [field.with_metadata(MIXED) if field.name in mixed else field for field in arrow.schema]
    return arrow.cast(pa.schema(fields))


def _mixed(path: Path) -> set[str]:
    """The keys that have texts in some lines and numbers or truth values in others."""
    texts: set[str] = set()
    others: set[str] = set()
    for row in _rows(path):
        for name, cell in row.items():
            if isinstance(cell, str):
                texts.add(name)
            elif isinstance(cell, int | float):
                others.add(name)
    return texts & others


def _with_texts(path: Path, mixed: set[str]) -> Iterator[bytes]:
    """The lines of a file, with texts for the numbers and truth values of some keys."""
    for row in _rows(path):
        texts = {name: str(row[name]) for name in mixed & row.keys() if isinstance(row[name], int | float)}
        yield json.dumps({**row, **texts}).encode() + b"\n"


def is_json_lines(head: bytes) -> bool:
    """Whether a file that begins with these bytes holds JSON lines."""
    first = head.lstrip().split(b"\n", 1)[0]
    return first.startswith(b"{") and (first.rstrip().endswith(b"}") or b"\n" not in head)


def _look(path: Path) -> tuple[int, set[str]]:
    """How many rows a file has, and the names of its columns."""
    names: set[str] = set()
    rows = 0
    for row in _rows(path):
        rows += 1
        names.update(row)
        if len(names) > MOST_COLUMNS:
            raise DataError(f"{path} has more than {MOST_COLUMNS:,} different keys, and each is a column.")
    return rows, names


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects in a file, one after another."""
    decode = json.JSONDecoder().decode
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise DataError(f"{path}: line {number} has more than {LONGEST_LINE:,} bytes; a row has one line.")
            if not line.strip():
                continue
            try:
                found = decode(str(line, "utf-8", "surrogatepass"))
            except (ValueError, RecursionError) as error:
                why = "it is nested too deep" if isinstance(error, RecursionError) else str(error)[:100]
                raise DataError(f"{path}: line {number} is not JSON ({why}): write one object in each line.") from None
            if not isinstance(found, dict):
                raise DataError(f"{path}: line {number} is not a JSON object, such as {{'a': 1}}: write one a line.")
            yield found
