# pyright: reportAttributeAccessIssue=false
"""Texts among the numbers of a column: those that are usual for missing cells, and those that are wrong."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from vaekit.data.bounds import MOST_TEXTS
from vaekit.data.columns import LABEL_NAMES, listing
from vaekit.data.formats.texts import PLAIN, Zeros, count_zeros, matches
from vaekit.data.spec import DataSpec

USUAL = frozenset(  # for missing cells among numbers, but perhaps a category elsewhere
    (
        "",
        "?",
        "-",
        "--",
        "---",
        "\u2013",
        "\u2014",
        ".",
        "n/d",
        "n.d.",
        "nd",
        "n/a",
        "n.a.",
        "na",
        "nan",
        "null",
        "missing",
    )
)
_WHOLE = r"^[+-]?\d+$"
_MOST = 5  # different ones
_SHARE = 0.05  # of the cells
_MEASURED = 30  # different numbers, above which they are no names of categories


def may_have_odd(name: str, spec: DataSpec) -> bool:
    """Whether a column of this name may be one of numbers with a few texts among them: not a label, nor categories."""
    declared = spec.columns.get(name)
    as_it_is = declared is not None and not declared.is_number
    apart = {*spec.drop, spec.label, spec.rows, spec.items}
    return not (as_it_is or name in apart or name.casefold() in LABEL_NAMES)


class OddTexts:
    """The texts of a column that are no numbers, while they are few, and how often they occur.

    Args:
        name: Of the column.
        spec: Settings: of a column that is declared to hold numbers, any text is odd.
        number: Regular expression of a number.

    Attributes:
        texts: Those that are no numbers.
        few: Whether there are no more of them than may be mistakes.
        whole: Whether all others are integers.
    """

    def __init__(self, name: str, spec: DataSpec, number: str = PLAIN) -> None:
        self._name, self._number, self._declared = name, number, name in spec.columns
        self.texts: set[str] = set()
        self.few = self.whole = True
        self._zeros = Zeros()
        self._cells = self._count = 0
        self._first: tuple[str, int] | None = None

    def look(self, different: Sequence[str]) -> None:
        """Look at different texts, without blanks around them."""
        if not self.few:
            return
        numbers = []
        for text, is_number in zip(different, matches(different, self._number), strict=True):
            if is_number:
                numbers.append(text)
            elif len(self.texts) <= _MOST:
                self.texts.add(text)
        self.few = len(self.texts) <= _MOST
        self.whole = self.whole and all(matches(numbers, _WHOLE))

    def different(self, texts: set[str] | None) -> int:
        """How many different numbers there are, of so many texts; None where these are too many."""
        return MOST_TEXTS if texts is None else len(texts) - len(self.texts)

    @property
    def usual(self) -> bool:
        """Whether all are usual for missing cells."""
        return all(text.casefold() in USUAL for text in self.texts)

    def count(self, cells: pa.Array, start: int) -> None:
        """Count them among texts, without blanks around them; start: number of the first row."""
        odd = sorted(text for text in self.texts if self.usual or text.casefold() not in USUAL)
        found = pc.is_in(cells, pa.array(odd, cells.type))
        self._cells += len(cells) - cells.null_count
        self._count += pc.sum(found).as_py() or 0
        if self._first is None and (row := pc.index(found, True).as_py()) >= 0:
            self._first = (cells[row].as_py(), start + row)
        if self.whole:
            others = pc.is_in(cells, pa.array(sorted(self.texts), cells.type))
            count_zeros([self._zeros], cells.filter(pc.invert(others)))

    @property
    def of_codes(self) -> bool:
        """Whether the numbers that were counted are codes, which are texts as they are."""
        return not self._declared and self._zeros.of_codes

    def among_numbers(self, different: int) -> bool:
        """Whether the column is one of numbers, of so many different ones: measured, or declared to be."""
        return self._declared or (not self.of_codes and (different > _MEASURED or 2 * different > self._cells))

    def first(self, different: int) -> tuple[str, int] | None:
        """The first of them, and its row, where they are mistakes in a column of so many different numbers."""
        few = self._declared or self._count <= _SHARE * self._cells
        return self._first if few and self.among_numbers(different) else None

    @property
    def notice(self) -> str:
        """What to say where they count as missing, and all others are numbers."""
        if not self.texts:
            return (
                f"the texts of {self._name!r} are numbers, and taken for these: DataSpec.columns keeps them where it "
                "says that the column is categorical"
            )
        return (
            f"cells of {self._name!r} that are {listing([repr(text) for text in sorted(self.texts)])} count as missing "
            f"({self._count}): DataSpec.columns keeps them where it says that the column is categorical"
        )
