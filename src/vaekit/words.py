"""Numbers of things, in words."""


def plural(number: float, one: str, many: str | None = None) -> str:
    """What so many things are called: `one` of a single one, else `many`, by default `one` with an s."""
    return one if number == 1 else f"{one}s" if many is None else many


def counted(number: int, one: str, many: str | None = None) -> str:
    """How many things there are: 1 row, 1,200 rows; see `plural`."""
    return f"{number:,} {plural(number, one, many)}"
