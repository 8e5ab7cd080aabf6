"""Options and arguments that several commands share, and checks of their values. Nothing here imports torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token

from vaekit.errors import ConfigError


def whole_number(hint: Any, tokens: Sequence[Token]) -> int:
    """An integer from its text; unlike cyclopts by itself, this refuses 2.7."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value[:40]!r} is not a whole number.") from None


WholeNumber = Annotated[int, Parameter(converter=whole_number)]
RunPath = Annotated[Path, Parameter(help="The run folder.")]
Data = Annotated[
    str | None,
    Parameter(help="Data to use, by name or path, or - for a table on stdin; by default the run's test rows."),
]
Words = Annotated[str, Parameter(allow_leading_hyphen=True)]
Out = Annotated[Path, Parameter(name=["--out", "-o"])]
FLAG = Parameter(negative="", show_default=False)
NoBrowser = Annotated[bool, FLAG, Parameter(help="Print the page's address, and open no browser.")]
Force = Annotated[bool, FLAG, Parameter(help="Replace the file that is to be written, if it exists.")]
WEIGHTS = "Weights to use; by default those that the run's settings name."
Weights = Annotated[Literal["best", "last"] | None, Parameter(help=WEIGHTS)]
Json = Annotated[bool, FLAG, Parameter(name="--json", help="Print one JSON object, and nothing else, on stdout.")]


def check_at_least(least: int, **numbers: int | None) -> None:
    """Refuse options, given by name, whose number is smaller than `least`."""
    for name, number in numbers.items():
        if number is not None and number < least:
            raise ConfigError(f"--{name} is {number}: it should be at least {least}", field=name, value=number)


def check_one_process(command: str) -> None:
    """Refuse to run a command in several processes."""
    from vaekit.processes import World

    size = World.join().size
    if size > 1:
        raise ConfigError(
            f"`vaekit {command}` works in one process, and torchrun has started {size}: leave torchrun out"
        )
