"""The components of a page: sections with text, pictures and tables. The template knows no others."""

import re
from dataclasses import dataclass

from PIL import Image

# By name, since on the screen they are easily taken for letters and hyphens.
MINUS, TIMES, SIGMA, NOTHING = (
    "\N{MINUS SIGN}",
    "\N{MULTIPLICATION SIGN}",
    "\N{GREEK SMALL LETTER SIGMA}",
    "\N{EN DASH}",
)


@dataclass(frozen=True)
class Picture:
    """An image with the words that belong to it; `density` is its pixels for each pixel of the page."""

    name: str  # of its file, without the ending
    image: Image.Image
    alt: str
    caption: str = ""
    density: int = 1


@dataclass(frozen=True)
class Clip:
    """A sound that the page plays, as a wav file, and what it is."""

    wav: bytes
    caption: str


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, a smaller remark below it, and whether it stands out."""

    text: str
    remark: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under a head; the first cell of a row names it. Notes stand below."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str
    notes: tuple[str, ...] = ()
    numeric: bool = True  # whether all but the first column are numbers, aligned to the right


@dataclass(frozen=True)
class Section:
    """One part of a page: paragraphs, then pictures, then sounds, then tables."""

    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    clips: tuple[Clip, ...] = ()


@dataclass(frozen=True)
class Card:
    """One key number of the headline."""

    label: str
    value: str
    error: str = ""
    unit: str = ""
    remark: str = ""


def cells(*texts: str) -> tuple[Cell, ...]:
    """A row of plain cells."""
    return tuple(Cell(text) for text in texts)


def typeset(formula: str) -> str:
    """A formula written in ASCII with typographic minus signs and bars."""
    return re.sub(r"(?<![\w-])-(?=\w)", MINUS, formula).replace("||", "‖")
