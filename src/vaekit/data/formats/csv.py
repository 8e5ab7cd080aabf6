# pyright: reportAttributeAccessIssue=false
"""CSV: a table of text, whose numbers, texts and missing cells are distinguished here."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from vaekit.data.bounds import LONGEST_LINE, MOST_COLUMNS, check_whole, refuse_bomb, size_of
from vaekit.data.columns import check_distinct, is_number
from vaekit.data.formats.arrow import is_text, table_of_arrow
from vaekit.data.schema import Dialect
from vaekit.data.spec import DataSpec
from vaekit.data.table import Sizes, Table
from vaekit.errors import DataError

_BLOCK = 1 << 24
_SAMPLE = 1 << 20
_MISSING = tuple(pa_csv.ConvertOptions().null_values)
_DELIMITERS = ("\t", ";", "|", ",", " ")
_LINES = 50  # that are looked at for the delimiter
_THOUSANDS = r"^[+-]?\d{1,3}(,\d{3})*(\.\d*)?$"
_POINTED = r"^[+-]?(\d{1,3}(\.\d{3})+|\d{1,3}|\d+,\d+|\d{1,3}(\.\d{3})+,\d+)$"
_DECIMAL_COMMA = r"^[+-]?(\d+,\d*|\d*,\d+|\d+)([eE][+-]?\d+)?$"


@dataclass(frozen=True)
class _Layout:
    """How a file is written.

    Attributes:
        encoding: of its text.
        delimiter: between cells.
        names: of the columns.
        header_lines: lines up to the end of the header; 0 without one.
    """

    encoding: str
    delimiter: str
    names: tuple[str, ...]
    header_lines: int


def open(path: Path, spec: DataSpec, sizes: Sizes) -> Table:
    """A table from a CSV file, which may be gzipped, read at once.

    The text is UTF-8, or UTF-16 with a mark at its beginning, unless `spec.encoding` says otherwise; cells are
    separated by commas, semicolons, tabs or bars. The first row is a header unless all of its cells are numbers. An
    empty cell is missing, as are NA, NaN, null and `spec.missing_values`.

    Raises:
        DataError: rows have different numbers of cells, the text is in another encoding, and the like.
    """
    text = _text_bytes(path, sizes.whole)
    found = _look(path, spec)
    check_whole(path, _bytes(path, found.delimiter, text), sizes.whole)
    arrow = _parse(path, found, spec)
    if len(arrow) == 0:
        raise DataError(f"{path} holds a header but no rows; at least three rows are needed.")
    if any(pa.types.is_binary(kind) for kind in arrow.schema.types):  # text that is not in the encoding
        for _ in _lines(path, found.encoding):  # which names the line
            pass
    spaced = _is_spaced(arrow)
    columns = [_read(arrow[name], f"{path}: the column {name!r}", spec, found.delimiter) for name in found.names]
    commas = any(comma for _, comma in columns)
    dialect = Dialect(found.delimiter + " " * spaced, "," if commas else ".", found.header_lines > 0)
    return table_of_arrow(
        path.name, pa.table([cells for cells, _ in columns], names=list(found.names)), dialect=dialect
    )


def column_names(path: Path) -> tuple[str, ...]:
    """The names of the columns of a CSV file, by their numbers where there is no header."""
    return _look(path, DataSpec()).names


def _text_bytes(path: Path, most: float) -> int:
    """How long the text is; DataError where it is gzipped, and damaged or longer than `most`."""
    size = size_of(path)
    if not _is_gzipped(path):
        return size
    text = 0
    try:
        with gzip.open(path) as file:
            while block := file.read(_BLOCK):
                text += len(block)
                refuse_bomb(path, size, text)
                check_whole(path, text, most)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is truncated or damaged ({error}); expected a whole gzip file: copy it anew."
        ) from None
    return text


def _is_gzipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _opened(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path) if _is_gzipped(path) else path.open("rb")


def _bytes(path: Path, delimiter: str, text: int) -> int:
    """Eight bytes for each cell, of which there are as many to a byte as at the beginning of the text."""
    with _opened(path) as file:
        head = file.read(_SAMPLE)
    cells = sum(head.count(mark) for mark in (delimiter.encode(), b"\n"))
    return round(8 * cells / max(1, len(head)) * text)


def _look(path: Path, spec: DataSpec) -> _Layout:
    encoding = spec.encoding or _encoding(path)
    delimiter = spec.delimiter or _delimiter(path, encoding)
    line, first = next(_rows(path, encoding, delimiter), (0, []))
    if not first:
        raise DataError(f"{path} holds only blank lines; expected a table with a row per line.")
    if len(first) > MOST_COLUMNS:
        raise DataError(
            f"{path} has {len(first):,} columns, and at most {MOST_COLUMNS:,} are read as text: save it as .npy."
        )
    # A table without names is often saved with the numbers of its columns for a header.
    numbered = len(first) > 1 and first == [str(i) for i in range(len(first))]
    unnamed = [cell.strip() for cell in first if cell.strip() not in (*_MISSING, *spec.missing_values)]
    headed = numbered or not unnamed or not all(map(_is_written_number, unnamed))
    headed = headed if spec.header == "auto" else spec.header == "yes"
    names = [cell.strip() if headed and cell.strip() else f"column {place}" for place, cell in enumerate(first)]
    check_distinct(names, str(path))
    return _Layout(encoding, delimiter, tuple(names), line if headed else 0)


def _encoding(path: Path) -> str:
    with _opened(path) as file:
        head = file.read(4)
    return "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """The lines of a file, as `csv.reader` takes them: text with its ends, each of bounded length."""
    try:
        errors = "surrogateescape" if "utf-8" in encoding else "strict"
        with _opened(path) as file, io.TextIOWrapper(file, encoding, errors, newline="") as f:
            number = 0
            while line := f.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise DataError(
                        f"{path}: line {number} has more than {LONGEST_LINE:,} characters; a table has a row per line, "
                        "and a large array is better saved as .npy."
                    )
                try:
                    line.encode()
                except UnicodeEncodeError as error:
                    byte = ord(line[error.start]) - 0xDC00
                    raise DataError(
                        f"{path} is not text in UTF-8: line {number} has the byte {byte:#04x}; say how it is encoded "
                        "with DataSpec.encoding, such as latin-1, or save it as UTF-8.",
                        field="DataSpec.encoding",
                        value=None,
                    ) from None
                yield line
    except LookupError:
        raise DataError(
            f"DataSpec.encoding={encoding} is no encoding that Python knows: use utf-8, latin-1, cp1252, ...",
            field="DataSpec.encoding",
            value=encoding,
        ) from None
    except UnicodeError as error:
        raise DataError(
            f"{path} is not text in {encoding} ({str(error)[:100]}): say how it is encoded with DataSpec.encoding, or "
            "save it as UTF-8.",
            field="DataSpec.encoding",
            value=encoding,
        ) from None


def _rows(path: Path, encoding: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file that are not blank, each with the number of the line on which it ends."""
    reader = csv.reader(_lines(path, encoding), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        long = f"a cell of more than {csv.field_size_limit():,} characters" if "limit" in str(error) else str(error)
        raise DataError(
            f"{path}: the row that ends on line {reader.line_num} or later has {long}: close the quote that is open."
        ) from None


def _delimiter(path: Path, encoding: str) -> str:
    """The mark by which the first rows have the same number of cells, and more than one."""
    first = next((line for line in _lines(path, encoding) if line.strip()), "")
    for mark in _DELIMITERS if first else ():
        if mark not in first or (mark == " " and _is_ragged_by_blanks(path, encoding)):
            continue
        try:
            widths = {len(row) for _, row in islice(_rows(path, encoding, mark), _LINES)}
        except DataError:
            continue
        if len(widths) == 1 and widths != {1}:
            return mark
    if found := next((mark for mark in ",;\t|" if mark in first), None):
        return found
    some = [line.split() for line in islice(_lines(path, encoding), _LINES) if line.strip()]
    if some and len(some[0]) > 1 and len({len(cells) for cells in some}) == 1 and all(map(is_number, some[-1])):
        raise DataError(
            f"{path} has cells with several blanks between them, or at the ends of lines: write it with one comma, tab "
            "or blank between cells, or load it with numpy.loadtxt and save it as .npy."
        )
    return ","


def _is_ragged_by_blanks(path: Path, encoding: str) -> bool:
    """Whether a line has several blanks in a row, or some at its ends."""
    some = (line.rstrip("\r\n") for line in islice(_lines(path, encoding), _LINES))
    return any("  " in line or line != line.strip() for line in some)


def _is_written_number(cell: str) -> bool:
    """Whether a cell is a number, perhaps with a decimal comma or with marks between thousands."""
    return is_number(cell) or any(re.match(form, cell) for form in (_THOUSANDS, _POINTED, _DECIMAL_COMMA))


def _parse(path: Path, found: _Layout, spec: DataSpec) -> pa.Table:
    try:
        return pa_csv.read_csv(
            pa.input_stream(path, compression="gzip" if _is_gzipped(path) else None),
            read_options=pa_csv.ReadOptions(
                block_size=_BLOCK,
                column_names=list(found.names),
                skip_rows=found.header_lines,
                encoding="utf-8" if found.encoding == "utf-8-sig" else found.encoding,
            ),
            parse_options=pa_csv.ParseOptions(delimiter=found.delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                null_values=[*_MISSING, *spec.missing_values], strings_can_be_null=True
            ),
        )
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise DataError(_ragged(path, found) or f"{path}: {str(error).splitlines()[0][:200]}") from None


def _ragged(path: Path, found: _Layout) -> str | None:
    """What to say about the first row that has too few or too many cells."""
    width = len(found.names)
    for line, row in _rows(path, found.encoding, found.delimiter):
        if len(row) != width:
            text = found.delimiter.join(row)
            shown = text if len(text) < 40 else f"{text[:40]}..."
            return (
                f"{path}: line {line} has {len(row)} cells ({shown}), the first row has {width}; "
                "every row needs as many: mend that line."
            )
    return None


def _is_spaced(arrow: pa.Table) -> bool:
    """Whether every cell of text begins with a space, as after a delimiter that one follows."""
    texts = [arrow[name] for name in arrow.column_names[1:] if is_text(arrow.schema.field(name).type)]
    return bool(texts) and all(pc.all(pc.starts_with(cells, " ")).as_py() in (True, None) for cells in texts)


def _read(cells: pa.ChunkedArray, what: str, spec: DataSpec, delimiter: str) -> tuple[pa.ChunkedArray, bool]:
    """A column with its missing cells marked, as numbers where all others are; and whether it has decimal commas."""
    if not is_text(cells.type):
        return _without(cells, _numbers(spec.missing_values)), False
    trimmed = pc.utf8_trim_whitespace(cells)
    missing = pc.is_in(trimmed, pa.array([*_MISSING, *spec.missing_values], trimmed.type))
    known = pc.if_else(missing, pa.scalar(None, trimmed.type), trimmed)
    for kind in (pa.int64(), pa.float64()):
        try:
            return _without(pc.cast(known, kind), _numbers(spec.missing_values)), False
        except pa.ArrowInvalid:
            pass
    if spec.decimal != "," and pc.all(pc.match_substring_regex(known, _THOUSANDS)).as_py():
        if delimiter == "," or spec.decimal == "." or pc.any(pc.match_substring_regex(known, r"\.|,\d{3},")).as_py():
            return pc.cast(pc.replace_substring(known, ",", ""), pa.float64()), False
        raise DataError(
            f"{what} has cells such as {_first(known)!r}, whose comma may stand before decimals or thousands: say "
            "which with DataSpec.decimal, a comma or a point.",
            field="DataSpec.decimal",
            value=None,
        )
    if spec.decimal != "." and pc.all(pc.match_substring_regex(known, _POINTED)).as_py():  # 1.234,5
        known = pc.replace_substring(known, ".", "")
    if spec.decimal != "." and pc.all(pc.match_substring_regex(known, _DECIMAL_COMMA)).as_py():
        return pc.cast(pc.replace_substring(known, ",", "."), pa.float64()), True
    return known, False


def _without(cells: pa.ChunkedArray, missing: Sequence[float]) -> pa.ChunkedArray:
    """Numbers, of which some stand for missing cells."""
    if not missing or not (pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type)):
        return cells
    gone = pc.is_in(pc.cast(cells, pa.float64(), safe=False), pa.array(missing, pa.float64()))
    return pc.if_else(gone, pa.scalar(None, cells.type), cells)


def _numbers(texts: Sequence[str]) -> list[float]:
    return [float(text) for text in texts if is_number(text)]


def _first(cells: pa.ChunkedArray) -> str:
    return str(cells.drop_null()[0].as_py())[:60]
