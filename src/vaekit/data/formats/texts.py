# pyright: reportAttributeAccessIssue=false
"""Texts of a column: which of them differ, which have a form, and which are integers with zeros before them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SHORT = 256  # texts up to which Python takes less time than a call of Arrow
PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
PADDED = r"^0\d+$"
_FEWEST, _SHARE = 2, 0.05  # integers with zeros before them, and of the cells, from which on all are codes
_NO_WIDTH = 1 << 30


def different_texts(cells: pa.Array) -> list[str]:
    """The texts of cells, each once, in the order in which they come."""
    if len(cells) <= SHORT:
        return [text for text in dict.fromkeys(cells.to_pylist()) if text is not None]
    return pc.unique(cells).drop_null().to_pylist()


def matches(texts: Sequence[str], form: str) -> list[bool]:
    """Whether each of some texts, without blanks around them, has a regular expression's form."""
    if len(texts) <= SHORT:
        search = _compiled(form).search
        return [search(text) is not None for text in texts]
    return pc.match_substring_regex(pa.array(texts, pa.string()), form).to_pylist()


@cache
def _compiled(form: str) -> re.Pattern[str]:
    return re.compile(form, re.ASCII)  # as Arrow has digits


@dataclass
class Zeros:
    """Which integers of a column have zeros before them, as codes do.

    Attributes:
        cells: How many integers were seen.
        padded: How many of them have zeros before them.
        narrowest, widest: Characters that an integer has at least, and at most.
    """

    cells: int = 0
    padded: int = 0
    narrowest: int = _NO_WIDTH
    widest: int = 0

    @property
    def of_codes(self) -> bool:
        """Whether they are codes: of one width, or not a mere few with zeros among others."""
        if self.narrowest == self.widest:
            return self.padded > 0
        return self.padded >= max(_FEWEST, _SHARE * self.cells)


def count_zeros(columns: Sequence[Zeros], integers: pa.Array) -> None:
    """Look at the next integers of some columns, as texts: as many of each, column by column, null where missing."""
    lengths = pc.fill_null(pc.binary_length(integers), 0).to_numpy().reshape(len(columns), -1)
    padded = pc.and_(pc.starts_with(integers, "0"), pc.greater(pc.binary_length(integers), 1))
    if pc.any(padded).as_py():  # and no number in base 16
        padded = pc.match_substring_regex(integers, PADDED)
    found = pc.fill_null(padded, False).to_numpy(zero_copy_only=False).reshape(lengths.shape)
    counts = np.stack(
        [
            (lengths > 0).sum(1),
            found.sum(1),
            np.where(lengths > 0, lengths, _NO_WIDTH).min(1, initial=_NO_WIDTH),
            lengths.max(1, initial=0),
        ]
    )
    for zeros, (cells, some, narrowest, widest) in zip(columns, counts.T.tolist(), strict=True):
        zeros.cells += cells
        zeros.padded += some
        zeros.narrowest, zeros.widest = min(zeros.narrowest, narrowest), max(zeros.widest, widest)
