# pyright: reportAttributeAccessIssue=false
"""JSON lines: a table with an object in each line, whose keys are the columns."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.json as pa_json

from vaekit.data.bounds import LONGEST_LINE, MOST_COLUMNS, check_whole, size_of
from vaekit.data.formats.arrow import table_of_file
from vaekit.data.spec import DataSpec
from vaekit.data.table import Sizes, Table
from vaekit.errors import DataError


def open(path: Path, spec: DataSpec, sizes: Sizes) -> Table:
    """A table from a file of JSON lines, read at once; a key that a line lacks, or null, is a missing cell.

    Raises:
        DataError: A line is no JSON object, a column holds values of several types, and the like.
    """
    check_whole(path, size_of(path), sizes.whole)
    rows, names = _look(path)
    check_whole(path, 8 * rows * len(names), sizes.whole)
    try:
        arrow = pa_json.read_json(path, read_options=pa_json.ReadOptions(block_size=2 * LONGEST_LINE))
    except MemoryError:  # which is an ArrowException as well
        raise
    except pa.ArrowException as error:
        why = str(error).strip().splitlines()[0][:200].rstrip(".")
        raise DataError(
            f"{path} cannot be read as one table ({why}): give every key values of one type, numbers or texts."
        ) from None
    return table_of_file(path, arrow)


def is_json_lines(head: bytes) -> bool:
    """Whether a file that begins with these bytes holds JSON lines."""
    first = head.lstrip().split(b"\n", 1)[0]
    return first.startswith(b"{") and (first.rstrip().endswith(b"}") or b"\n" not in head)


def _look(path: Path) -> tuple[int, set[str]]:
    """How many rows a file has, and the names of its columns."""
    names: set[str] = set()
    rows = 0
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
            rows += 1
            names.update(found)
            if len(names) > MOST_COLUMNS:
                raise DataError(f"{path} has more than {MOST_COLUMNS:,} different keys, and each is a column.")
    return rows, names
