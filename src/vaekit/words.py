"""Numbers of things, in words."""

from typing import SupportsInt


def plural(number: SupportsInt, one: str, many: str | None = None) -> str:
    """What so many things are called: `one` of a single one, else `many`, by default `one` with an s."""
    return one if number == 1 else f"{one}s" if many is None else many


def counted(number: SupportsInt, one: str, many: str | None = None) -> str:
    """How many things there are: 1 row, 1,200 rows; see `plural`."""
    return f"{int(number):,} {plural(number, one, many)}"
