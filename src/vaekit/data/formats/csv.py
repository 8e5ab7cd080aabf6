# pyright: reportAttributeAccessIssue=false
"""CSV: a table of text, whose numbers, texts and missing cells are distinguished here."""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from vaekit.data.bounds import (
    LONGEST_LINE,
    MOST_COLUMNS,
    MOST_TEXT_BYTES,
    MOST_TEXTS,
    MOST_TEXTS_IN_ALL,
    check_whole,
    refuse_bomb,
    size_of,
)
from vaekit.data.columns import check_distinct, is_number
from vaekit.data.formats.arrow import column_of
from vaekit.data.formats.odd_texts import USUAL, OddTexts, may_have_odd
from vaekit.data.formats.texts import PLAIN, SHORT, Zeros, count_zeros, different_texts, matches
from vaekit.data.schema import Dialect
from vaekit.data.spec import DataSpec
from vaekit.data.table import Column, Sizes, Table
from vaekit.errors import DataError
from vaekit.words import counted

BLOCK = 1 << 24
_SAMPLE = 1 << 20
_MISSING = (*pa_csv.ConvertOptions().null_values, "?")
_DELIMITERS = ("\t", ";", "|", ",", " ")
_LINES = 50  # that are looked at for the delimiter
_THOUSANDS = r"^[+-]?\d{1,3}(,\d{3})*(\.\d*)?$"
_POINTED = r"^[+-]?(\d{1,3}(\.\d{3})+|\d{1,3}|\d+,\d+|\d{1,3}(\.\d{3})+,\d+)$"
_TIME = r"^\d\d:\d\d(:\d\d(\.\d+)?)?$"
_DIGIT = re.compile(r"\d")
_TIMES = tuple(pa.timestamp(unit, zone) for zone in (None, "UTC") for unit in ("s", "ns"))
_BOOLEANS = ("false", "true", "False", "True", "FALSE", "TRUE", "0", "1")
_FORMS = ("bool", "date", "1,234.5", "1.234,5", "1,5")  # that texts may have, in the order in which they are preferred
_STORED = {  # those of other forms are real numbers
    "empty": pa.null(),
    "integer": pa.int64(),
    "text": pa.string(),
    "bool": pa.bool_(),
    "date": pa.timestamp("s"),
}
_FEW = 20  # texts that are looked at first
_COUNTED = 100_000  # rows up to which the line of one is counted
BLANK = 2_000_000  # lines, and rows, that are looked at for some that are not blank
CELLS = 1 << 20  # that are made numbers at once
_DECIMAL_COMMA = r"^[+-]?(\d+,\d*|\d*,\d+|\d+)([eE][+-]?\d+)?$"
_NUMBER = "|".join((PLAIN, _THOUSANDS, _POINTED, _DECIMAL_COMMA))


@dataclass(frozen=True)
class _Layout:
    """How a file is written.

    Attributes:
        encoding: Of its text.
        delimiter: Between cells.
        names: Of the columns.
        header_lines: Lines up to the end of the header; 0 without one.
    """

    encoding: str
    delimiter: str
    names: tuple[str, ...]
    header_lines: int


def open(path: Path, spec: DataSpec, sizes: Sizes) -> Table:
    """A table from a CSV file, which may be gzipped: read in blocks, first for what columns are, then for their cells.

    The text is UTF-8, or UTF-16 with a mark at its beginning, unless `spec.encoding` says otherwise; cells are
    separated by commas, semicolons, tabs or bars. The first row is a header unless all of its cells are numbers. An
    empty cell is missing, as are NA, NaN, null, ? and `spec.missing_values`, and what is usual among numbers.

    Raises:
        DataError: Rows have different numbers of cells, the text is in another encoding, it takes more memory than
            `sizes.whole`, and the like.
    """
    text = _text_bytes(path, sizes.whole)
    found = _look(path, spec)
    check_whole(path, _bytes(path, found.delimiter, text), sizes.whole)
    reader = _Reader(path, found, spec, sizes.whole)
    columns, rows = reader.look()
    if rows == 0:
        raise DataError(f"{path} holds a header but no rows; at least three rows are needed.")
    of_table = tuple(column.column for column in columns)
    values = np.empty((rows, len(columns)), np.result_type(*(column.stored for column in of_table)))
    reader.fill(values, columns)
    texts = [column.spaced for column in columns[1:] if column.spaced is not None]
    commas = any(column.form in ("1.234,5", "1,5") for column in columns)
    notices = [column.notice for column in columns]
    notices += [_notice_of_header(values)] if found.header_lines == 0 and spec.header == "auto" else []
    dialect = Dialect(
        found.delimiter + " " * (bool(texts) and all(texts)),
        "," if commas else ".",
        found.header_lines > 0,
        {column.name: column.truths for column in columns if column.truths is not None},
    )
    return Table.of(path.name, values, columns=of_table, dialect=dialect, notices=tuple(filter(None, notices)))


def _notice_of_header(values: np.ndarray) -> str:
    """What to say where the first of some rows (n, columns) looks like names, such as years; else nothing."""
    first, others = values[0], values[1:]
    if len(first) < 2 or len(others) == 0 or not np.all((np.diff(first) > 0) & (first[1:] == np.floor(first[1:]))):
        return ""
    outside = (first > np.fmax.reduce(others)) | (first < np.fmin.reduce(others))
    if 2 * outside.sum() <= len(first) or first[0] != np.floor(first[0]):
        return ""
    shown = ", ".join(f"{number:.0f}" for number in first[:3])
    more = ", ..." if len(first) > 3 else ""
    return f"the first row ({shown}{more}) is read as numbers, and looks like names: DataSpec.header=yes takes it so"


def column_names(path: Path, spec: DataSpec | None = None) -> tuple[str, ...]:
    """The names of the columns of a CSV file, by their numbers where there is no header."""
    return _look(path, spec or DataSpec()).names


def with_texts(path: Path, spec: DataSpec, texts: Mapping[int, Mapping[int, str]]) -> Iterator[bytes]:
    """The parts of a CSV file with texts in some of its missing cells; all that stands in others is the same bytes.

    Args:
        path: Of the file; of one that is gzipped, the text is given.
        spec: By which it is read.
        texts: By the number of a row below the header, and then by that of a column, what is to stand in a cell, with
            its quotes; a cell that is not missing keeps what it has.
    """
    found = _look(path, spec)
    encoding = "utf-8" if found.encoding == "utf-8-sig" else found.encoding
    if encoding == "utf-16":
        with _opened(path) as file:
            encoding = "utf-16-le" if file.read(1) == b"\xff" else "utf-16-be"
    missing = frozenset((*_MISSING, *spec.missing_values))
    lines = _lines(path, encoding)
    for line in islice(lines, found.header_lines):
        yield line.encode(encoding)
    row = 0
    for line in lines:
        record = line
        while (cells := _raw_cells(record, found.delimiter)) is None and (more := next(lines, "")):
            record += more
        if not record.strip("\r\n\ufeff"):  # Arrow reads no row there
            yield record.encode(encoding)
            continue
        wanted = texts.get(row, {}) if cells is not None and len(cells) == len(found.names) + 1 else {}
        if cells is not None and wanted:
            for place, text in wanted.items():
                if (plain := _plain(cells[place])) in missing or plain.casefold() in USUAL:
                    cells[place] = _in_its_blanks(text, cells[place])
            record = found.delimiter.join(cells[:-1]) + cells[-1]
        yield record.encode(encoding)
        row += 1


def _raw_cells(record: str, delimiter: str) -> list[str] | None:
    """The cells of a row as they are written, and what ends it; None where a quote is open."""
    if '"' not in record:
        text = record.rstrip("\r\n")
        return [*text.split(delimiter), record[len(text) :]]
    mark = re.escape(delimiter)
    pattern = rf'"[^"]*(?:""[^"]*)*"(?!")[^{mark}\r\n]*|[^"{mark}\r\n][^{mark}\r\n]*|(?=[{mark}\r\n]|\Z)'
    each, cells, at = re.compile(pattern), [], 0  # which `re` keeps
    while found := each.match(record, at):
        cells.append(found[0])
        at = found.end()
        if not record.startswith(delimiter, at):
            return [*cells, record[at:]]
        at += 1
    return None


def _plain(cell: str) -> str:
    """What a cell says, without quotes and the blanks around it."""
    text = cell.strip("\ufeff").strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('""', '"').strip()
    return text


def _in_its_blanks(text: str, cell: str) -> str:
    """A text where another stood in a cell; one in quotes cannot follow blanks."""
    if text.startswith('"') or not cell.strip():
        return text
    return cell[: len(cell) - len(cell.lstrip())] + text + cell[len(cell.rstrip()) :]


def _text_bytes(path: Path, most: float) -> int:
    """How long the text is; DataError where it is gzipped, and damaged or longer than `most`."""
    size = size_of(path)
    if not _is_gzipped(path):
        return size
    text = 0
    try:
        with gzip.open(path) as file:
            while block := file.read(BLOCK):
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
    line, first = next(_rows(path, encoding, delimiter, BLANK), (0, []))
    if not first:
        raise DataError(
            f"{path} holds only blank lines, or begins with {BLANK:,} of them; expected a table with a row per line."
        )
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


def _check_encoding(path: Path, encoding: str) -> None:
    """Raise DataError where a file is not text in an encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 0
    try:
        with _opened(path) as file:
            while block := file.read(_SAMPLE):
                decoder.decode(block)
                lines += block.count(b"\n")
            decoder.decode(b"", final=True)
    except UnicodeError as error:
        what = f"{encoding} ({str(error)[:100]})"
        if "utf-8" in encoding and isinstance(error, UnicodeDecodeError):
            lines += error.object[: error.start].count(b"\n")
            what = f"UTF-8: line {lines + 1} has the byte {error.object[error.start]:#04x}"
        raise DataError(
            f"{path} is not text in {what}; say how it is encoded with DataSpec.encoding, such as latin-1, or save it "
            "as UTF-8.",
            field="DataSpec.encoding",
            value=encoding,
        ) from None


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """The lines of a file, as `csv.reader` takes them: text with its ends, each of bounded length."""
    try:
        with _opened(path) as file, io.TextIOWrapper(file, encoding, newline="") as f:
            number = 0
            while line := f.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise DataError(
                        f"{path}: line {number} has more than {LONGEST_LINE:,} characters; a table has a row per line, "
                        "and a large array is better saved as .npy."
                    )
                yield line
    except LookupError:
        raise DataError(
            f"DataSpec.encoding={encoding} is no encoding that Python knows: use utf-8, latin-1, cp1252, ...",
            field="DataSpec.encoding",
            value=encoding,
        ) from None
    except UnicodeError:
        _check_encoding(path, encoding)
        raise


def _rows(path: Path, encoding: str, delimiter: str, most: int) -> Iterator[tuple[int, list[str]]]:
    """Those of the first so many rows of a file that are not blank, each with the number of the line where it ends."""
    reader = csv.reader(_lines(path, encoding), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in islice(reader, most):
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        long = f"a cell of more than {csv.field_size_limit():,} characters" if "limit" in str(error) else str(error)
        raise DataError(
            f"{path}: the row that ends on line {reader.line_num} or later has {long}: close the quote that is open."
        ) from None


def _delimiter(path: Path, encoding: str) -> str:
    """The mark by which the first rows have the same number of cells, and more than one."""
    first = next((line for line in islice(_lines(path, encoding), BLANK) if line.strip()), "")
    for mark in _DELIMITERS if first else ():
        if mark not in first or (mark == " " and _is_ragged_by_blanks(path, encoding)):
            continue
        try:
            widths = {len(row) for _, row in islice(_rows(path, encoding, mark, BLANK), _LINES)}
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


class _Reader:
    """Reads the rows of a file in blocks of cells that are texts, and names what is wrong with a row.

    Args:
        path: Of the file.
        found: How it is written.
        spec: Settings.
        most: Bytes that its cells may take as numbers.
    """

    def __init__(self, path: Path, found: _Layout, spec: DataSpec, most: float) -> None:
        self._path, self._found, self._spec, self._most = path, found, spec, most

    def look(self) -> tuple[list["_Cells"], int]:
        """What the columns hold, and how many rows there are.

        A column that begins with numbers and goes on with texts is looked at a second time, for all of its texts; so is
        one of codes.
        """
        delimiter, width = self._found.delimiter, len(self._found.names)
        columns = [
            _Cells(name, f"{self._path}: the column {name!r}", delimiter, self._spec) for name in self._found.names
        ]
        rows = 0
        for block in self._blocks():
            rows += len(block)
            check_whole(self._path, 8 * rows * width, self._most)
            _add(columns, block)
            _bound_texts(columns)
        late = {column.name: column for column in columns if column.late or column.has_codes}
        if late:
            for column in late.values():
                column.begin_as_text()
            for block in self._blocks(list(late)):
                for column, cells in zip(late.values(), block.columns, strict=True):
                    column.add(cells)
                _bound_texts(columns)
        self._look_at_odd({column.name: column for column in columns if column.may_be_odd})
        for column in columns:
            column.end()
        return columns, rows

    def _look_at_odd(self, columns: Mapping[str, "_Cells"]) -> None:
        """Look again at columns of numbers and a few texts: these are missing, or are said to be wrong."""
        if not columns:
            return
        start = 0
        for block in self._blocks(list(columns)):
            for column, cells in zip(columns.values(), block.columns, strict=True):
                column.count_odd(cells, start)
            start += len(block)
        again = {name: column for name, column in columns.items() if column.has_usual}
        for column in again.values():
            column.without_odd()
        for block in self._blocks(list(again)) if again else ():
            for column, cells in zip(again.values(), block.columns, strict=True):
                column.add(cells)

    def fill(self, values: np.ndarray, columns: list["_Cells"]) -> None:
        """Write the cells of all columns into an array (rows, columns), as numbers."""
        for place, column in enumerate(columns):
            if not column.read:
                values[:, place] = np.nan
        wanted = {place: column for place, column in enumerate(columns) if column.read}
        start = 0
        for block in self._blocks([column.name for column in wanted.values()]) if wanted else ():
            rows = values[start : start + len(block)]
            if len(rows) < len(block):
                break
            _fill(rows, wanted, block)
            start += len(block)
        if wanted and start != len(values):
            raise DataError(f"{self._path} changed while it was read: read it again.")

    def _blocks(self, wanted: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows, of all columns or those wanted, a block at a time."""
        path, found = self._path, self._found
        bad: list[pa_csv.InvalidRow] = []

        def keep(row: pa_csv.InvalidRow) -> str:
            bad.append(row)
            return "error"

        try:
            yield from pa_csv.open_csv(
                pa.input_stream(path, compression="gzip" if _is_gzipped(path) else None),
                read_options=pa_csv.ReadOptions(
                    block_size=BLOCK,
                    column_names=list(found.names),
                    skip_rows=found.header_lines,
                    encoding="utf-8" if found.encoding == "utf-8-sig" else found.encoding,
                    use_threads=False,
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=found.delimiter, newlines_in_values=True, invalid_row_handler=keep
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types={name: pa.string() for name in wanted or found.names},
                    include_columns=wanted,
                    null_values=[*_MISSING, *self._spec.missing_values],
                    strings_can_be_null=True,
                ),
            )
        except (pa.ArrowInvalid, UnicodeError) as error:
            raise self._refused(error, bad[0] if bad else None) from None

    def _refused(self, error: Exception, row: pa_csv.InvalidRow | None) -> DataError:
        """What to say of a file over which Arrow raised an error, at a row with too few or too many cells or not."""
        _check_encoding(self._path, self._found.encoding)
        if row is None:
            if "straddling" in str(error):
                return DataError(
                    f"{self._path} has a row of more than {BLOCK:,} bytes: close the quote that is open, or leave out "
                    "long texts."
                )
            return DataError(f"{self._path}: {str(error).splitlines()[0][:200]}")
        number = row.number - self._found.header_lines  # below the header
        place = f"row {number:,} below the header"
        if number <= _COUNTED:
            some = _rows(self._path, self._found.encoding, self._found.delimiter, 2 * _COUNTED)
            line, _ = next(islice(some, number - (self._found.header_lines == 0), None), (0, []))
            place = f"line {line}" if line else place
        shown = row.text if len(row.text) < 40 else f"{row.text[:40]}..."
        return DataError(
            f"{self._path}: {place} has {counted(row.actual_columns, 'cell')} ({shown}), the first row has "
            f"{row.expected_columns}; every row needs as many: correct that line."
        )


class _Cells:
    """What the cells of a column turn out to be, a block after the other; and their numbers.

    Args:
        name: Of the column.
        what: It is called in errors.
        delimiter: Of the file.
        spec: Settings.

    Attributes:
        form: Integer, real, text, bool, date or empty; 1,234.5 where thousands are marked, 1.234,5 where decimals
            follow a comma, too, and 1,5 where they do and thousands are not marked.
        plain: Whether all cells so far are missing, or numbers without blanks around them.
        late: Whether a text came after blocks of numbers, so that all have to be looked at again.
        zeros: Which integers have zeros before them.
        spaced: Of a column of text, whether each begins with a space; None of numbers.
        lost: (k,) numbers that stand for missing cells.
        truths: How a column of truth values writes false and true, where not as False and True.
        notice: What to say of texts among numbers that count as missing, and of codes.
    """

    def __init__(self, name: str, what: str, delimiter: str, spec: DataSpec) -> None:
        self.name, self._what, self._delimiter, self._decimal = name, what, delimiter, spec.decimal
        self._missing, self._missing_texts, self.lost = _missing(spec.missing_values)
        declared = spec.columns.get(name)
        self._has_categories = declared is not None and declared.has_categories
        self._odd = OddTexts(name, spec, _NUMBER) if may_have_odd(name, spec) else None
        self._is_number = declared is not None and declared.is_number
        self.notice = ""
        self.truths: tuple[str, str] | None = None
        self.form = "empty"
        self.plain = True
        self.late = False
        self.zeros = Zeros()
        self.spaced: bool | None = None
        self._texts: set[str] | None = None
        self._text_bytes = 0
        self._forms: list[str] = []
        self._marked = False
        self._first = ""
        self._seen: set[str] = set()
        self._numbers: dict[str | None, float] = {}

    @property
    def column(self) -> Column:
        """It, as a table has it."""
        categories = tuple(sorted(self._texts)) if self.form == "text" and self._texts is not None else None
        of_arrow = pa.field(self.name, _STORED.get(self.form, pa.float64()))
        odd = self._odd.first(self._different) if self.form == "text" and self._odd is not None else None
        return replace(column_of(of_arrow, categories), odd=odd)

    @property
    def read(self) -> bool:
        """Whether its cells have numbers."""
        return self.form not in ("empty", "date") and not (self.form == "text" and self._texts is None)

    def begin_as_text(self) -> None:
        """Forget what was seen, for cells that are no numbers."""
        codes = self.has_codes
        if codes and self._odd is not None:
            self.notice = (
                f"{self.name!r} holds numbers with zeros before them, and is taken for codes, which are text: "
                "DataSpec.columns takes it as numbers where it says that it is count"
            )
        self.form, self.plain, self.late, self._texts, self._forms = "text", False, False, set(), []
        if codes:
            self._odd = None
        else:
            self._forms = ["bool"] if self._has_categories else list(_FORMS)

    @property
    def has_codes(self) -> bool:
        """Whether all numbers so far are codes, which are texts as they are."""
        if self.form != "integer" or self.zeros.padded == 0 or self._is_number:
            return False
        return self.zeros.of_codes or self._has_categories

    @property
    def may_be_odd(self) -> bool:
        """Whether all texts but a few are numbers."""
        odd = self._odd is not None and self._odd.few and len(self._odd.texts) > 0
        return self.form == "text" and not self._forms and odd and self._different > 1

    @property
    def _different(self) -> int:
        """How many different numbers there are among a few texts."""
        return 0 if self._odd is None else self._odd.different(self._texts)

    @property
    def has_usual(self) -> bool:
        """Whether all texts that are no numbers are usual for missing cells."""
        return self._odd is not None and self._odd.usual and not self._odd.of_codes

    def count_odd(self, cells: pa.Array, start: int) -> None:
        """Count the texts that are no numbers; start: number of the first row."""
        assert self._odd is not None
        self._odd.count(self._known(cells), start)

    def without_odd(self) -> None:
        """Forget what was seen, for cells of which the texts among numbers are missing."""
        assert self._odd is not None
        self.notice = self._odd.notice
        texts = (*self._missing_texts, *sorted(self._odd.texts))
        self._missing, self._missing_texts = pa.array(texts, pa.string()), frozenset(texts)
        self.form, self.late, self.spaced, self._texts, self._forms, self._odd = "empty", False, None, None, [], None
        self._seen, self.zeros = set(), Zeros()

    def add(self, cells: pa.Array) -> None:
        """Look at the next cells, which are texts."""
        if self.late or cells.null_count == len(cells):
            return
        if self.form != "text":
            found = self._as_numbers(cells) if self.may_be_numbers(cells) else None
            if found is not None:
                if found.null_count < len(found):
                    self.form = "real" if self.form == "real" or pa.types.is_floating(found.type) else "integer"
                    count_zeros([self.zeros], self._known(cells))
                return
            if self.form != "empty":
                self.plain, self.late = False, True
                return
            self.begin_as_text()
        self._add_texts(cells)

    def give_up(self) -> None:
        """Keep no texts."""
        self._texts = None

    @property
    def texts(self) -> int:
        """How many different ones are kept."""
        return len(self._texts or ())

    def end(self) -> None:
        """Decide, once all cells were seen.

        Raises:
            DataError: A comma may stand before decimals or thousands.
        """
        if self.form == "integer" and self.zeros.padded and not (self.notice or self._is_number):
            self.notice = (
                f"zeros before numbers of {self.name!r} are left out ({counted(self.zeros.padded, 'cell')}): "
                "DataSpec.columns keeps them where it says that the column is categorical"
            )
        if not self._forms:
            return
        form = self._forms[0]
        if form == "1,234.5" and self._delimiter != "," and self._decimal != "." and not self._marked:
            raise DataError(
                f"{self._what} has cells such as {self._first!r}, whose comma may stand before decimals or thousands: "
                "say which with DataSpec.decimal, a comma or a point.",
                field="DataSpec.decimal",
                value=None,
            )
        pairs = {_BOOLEANS.index(text) // 2 for text in self._texts or ()} if form == "bool" else set()
        if len(pairs) == 1 and (pair := pairs.pop()) != _BOOLEANS.index("False") // 2:
            self.truths = (_BOOLEANS[2 * pair], _BOOLEANS[2 * pair + 1])
        self.form, self.spaced, self._texts = form, None, None

    def numbers(self, cells: pa.Array) -> np.ndarray:
        """Cells as numbers, (n,) float64: NaN where one is missing."""
        if cells.null_count == len(cells):
            return np.full(len(cells), np.nan)
        if self.form in ("text", "bool"):
            return self._codes(cells)
        if self.form in ("integer", "real"):
            found = self._as_numbers(cells)
        else:
            known = self._known(cells)
            if self.form != "1,5":
                known = pc.replace_substring(known, "," if self.form == "1,234.5" else ".", "")
            found = pc.cast(pc.replace_substring(known, ",", "."), pa.float64())
        numbers = pc.cast(found, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return np.where(np.isin(numbers, self.lost), np.nan, numbers) if len(self.lost) else numbers

    def _codes(self, cells: pa.Array) -> np.ndarray:
        """The numbers of texts, each of which is looked up once."""
        if len(cells) <= SHORT:
            texts = cells.to_pylist()
            self._look_up(texts)
            return np.array([self._numbers[text] for text in texts], np.float64)
        coded = cells.dictionary_encode()
        texts = [*coded.dictionary.to_pylist(), None]
        self._look_up(texts)
        of_texts = np.array([self._numbers[text] for text in texts], np.float64)
        return of_texts[pc.fill_null(coded.indices, len(texts) - 1).to_numpy()]

    def _look_up(self, texts: Sequence[str | None]) -> None:
        """Find the numbers of texts, as they stand in the file."""
        if not self._numbers:
            names = sorted(self._texts or ()) if self.form == "text" else _BOOLEANS
            places = ((name, place & 1 if self.form == "bool" else place) for place, name in enumerate(names))
            self._numbers = {name: place for name, place in places if name not in self._missing_texts}
            self._numbers[None] = np.nan
        for text in texts:
            if text is not None and text not in self._numbers:
                self._numbers[text] = self._numbers.get(text.strip(), np.nan)

    def _add_texts(self, cells: pa.Array) -> None:
        """Look at the next texts."""
        if not self._forms and self._texts is None and self._odd is None and self.spaced is False:
            return
        different = different_texts(cells)
        if len(different) <= _FEW:
            before = len(self._seen)
            self._seen.update(different)
            if len(self._seen) == before:
                return
        self.spaced = self.spaced is not False and all(text.startswith(" ") for text in different)
        trimmed = (text.strip() for text in different)
        known = [text for text in trimmed if text not in self._missing_texts]
        if len(known) == 0:
            return
        self._first = self._first or known[0][:60]
        if not all(text in _BOOLEANS or _DIGIT.search(text) for text in known[:_FEW]):
            self._forms = []  # words
        self._forms = [form for form in self._forms if _is_written_as(form, self._decimal, known)]
        if "1,234.5" in self._forms:
            self._marked = self._marked or any(matches(known, r"\.|,\d{3},"))
        if self._odd is not None:
            self._odd.look(known)
            self._odd = self._odd if self._odd.few else None
        if self._texts is None:
            return
        if len(known) > MOST_TEXTS:
            self._texts = None
            return
        new = set(known) - self._texts
        self._texts |= new
        self._text_bytes += sum(map(len, new))
        if len(self._texts) > MOST_TEXTS or self._text_bytes > MOST_TEXT_BYTES:
            self._texts = None

    def may_be_numbers(self, cells: pa.Array) -> bool:
        """Whether the first few are numbers or missing: a quick look, since Arrow takes long over what is none."""
        few = [text.strip() for text in cells[:_FEW].to_pylist() if text is not None]
        return all(is_number(text) or text[:2].lower() == "0x" or text in self._missing_texts for text in few)

    def _as_numbers(self, cells: pa.Array) -> pa.Array | None:
        """Cells as integers, else as floats, as they are or else without blanks and what is missing; None of texts.

        Floats are tried first where cells before were some.
        """
        kinds = (pa.float64(), pa.int64()) if self.form == "real" else (pa.int64(), pa.float64())
        for prepared in (cells, None):
            if prepared is None:
                prepared, self.plain = self._known(cells), False
            for kind in kinds:
                try:
                    pc.cast(prepared[:_FEW], kind)  # Arrow takes long where many cells are no numbers
                    return pc.cast(prepared, kind)
                except pa.ArrowInvalid:
                    pass
        return None

    def _known(self, cells: pa.Array) -> pa.Array:
        """Cells without blanks around them, and without those that are missing."""
        trimmed = pc.utf8_trim_whitespace(cells)
        return pc.if_else(pc.is_in(trimmed, self._missing), pa.scalar(None, pa.string()), trimmed)


@cache
def _missing(values: tuple[str, ...]) -> tuple[pa.Array, frozenset[str], np.ndarray]:
    """The texts of missing cells, besides which `values` are some, and those of these that are numbers."""
    texts = (*_MISSING, *values)
    return (
        pa.array(texts, pa.string()),
        frozenset(texts),
        np.array([float(text) for text in values if is_number(text)]),
    )


def _add(columns: list[_Cells], block: pa.RecordBatch) -> None:
    """Look at the next cells of all columns: at those of plain numbers together, since columns may be many."""
    every = block.columns
    new, alone = [], []
    plain: dict[str, list[int]] = {"integer": [], "real": []}
    for place, column in enumerate(columns):
        if column.form == "empty" and column.plain and column.may_be_numbers(every[place]):
            new.append(place)
        else:
            (plain[column.form] if column.form in plain and column.plain else alone).append(place)
    whole = []
    for some, numbers, _ in _groups(new, every, "real"):
        if numbers is None:
            alone += some
            continue
        fractions = (np.floor(numbers) < numbers).any(1)
        whole += np.array(some)[~fractions].tolist()
        for place in np.array(some)[fractions].tolist():
            columns[place].form = "real"
    for some, numbers, cells in _groups(whole, every, "integer"):
        if numbers is None:
            alone += some
            continue
        for place in np.array(some)[~np.isnan(numbers).all(1)].tolist():
            columns[place].form = "integer"
        count_zeros([columns[place].zeros for place in some], cells)
    for form, places in plain.items():
        for some, numbers, cells in _groups(places, every, form):
            alone += some if numbers is None else ()
            if numbers is not None and form == "integer":
                count_zeros([columns[place].zeros for place in some], cells)
    for place in alone:
        columns[place].add(every[place])


def _fill(values: np.ndarray, columns: dict[int, _Cells], block: pa.RecordBatch) -> None:
    """Write the cells of columns, by their places, into rows of values: those of plain numbers together."""
    every = block.columns
    alone: list[int] = []
    plain: dict[str, list[int]] = {"integer": [], "real": []}
    places, cells = list(columns), list(columns.values())
    for at, column in enumerate(cells):
        (plain[column.form] if column.plain else alone).append(at)
    for form, wanted in plain.items():
        for some, numbers, _ in _groups(wanted, every, form):
            if numbers is None:
                alone += some
                continue
            if len(lost := cells[0].lost):
                numbers = np.where(np.isin(numbers, lost), np.nan, numbers)
            values[:, [places[at] for at in some]] = numbers.T
    for at in alone:
        values[:, places[at]] = cells[at].numbers(every[at])


def _groups(
    places: Sequence[int], every: Sequence[pa.Array], form: str
) -> Iterator[tuple[Sequence[int], np.ndarray | None, pa.Array]]:
    """Some columns of a block at a time, with their numbers: (columns, rows) float64, NaN where a cell is missing.

    None where a cell is no integer or real number as it is, or says NaN. With them come the cells, column by column.
    """
    each = max(1, CELLS // max(1, len(every[0])))
    for start in range(0, len(places), each):
        some = places[start : start + each]
        cells = pa.concat_arrays([every[place] for place in some])
        try:
            found = pc.cast(cells, pa.int64() if form == "integer" else pa.float64())
        except pa.ArrowInvalid:
            yield some, None, cells
            continue
        numbers = pc.cast(found, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        says_nan = np.isnan(numbers).sum() > cells.null_count
        yield some, None if says_nan else numbers.reshape(len(some), -1), cells


def _bound_texts(columns: list[_Cells]) -> None:
    """Where all columns together have too many different texts, those with the most keep none."""
    total = sum(column.texts for column in columns)
    for column in sorted(columns, key=lambda column: column.texts, reverse=True):
        if total <= MOST_TEXTS_IN_ALL:
            break
        total -= column.texts
        column.give_up()


def _is_written_as(form: str, decimal: str | None, known: Sequence[str]) -> bool:
    """Whether texts, each another, are numbers of a form, truth values or dates. The first few are tried first."""
    if decimal is not None and decimal == {"1,234.5": ",", "1.234,5": ".", "1,5": "."}.get(form):
        return False
    parts = (known[:_FEW], known) if len(known) > _FEW else (known,)
    return all(_holds(form, part) for part in parts)


def _holds(form: str, known: Sequence[str]) -> bool:
    if form == "bool":
        return all(text in _BOOLEANS for text in known)
    if form == "date":
        return _are_times(pa.array(known, pa.string())) or all(matches(known, _TIME))
    return all(matches(known, {"1,234.5": _THOUSANDS, "1.234,5": _POINTED, "1,5": _DECIMAL_COMMA}[form]))


def _are_times(known: pa.Array) -> bool:
    for kind in _TIMES:
        try:
            pc.cast(known, kind)
            return True
        except pa.ArrowInvalid:
            pass
    return False
