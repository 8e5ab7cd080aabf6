"""A part of the page: a title, what stands under it, and the floors that it judges."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Floor:
    """At least so much, or with `most` at most."""

    what: str
    measured: float
    required: float
    unit: str = ""
    most: bool = False

    @property
    def passed(self) -> bool:
        return self.measured <= self.required if self.most else self.measured >= self.required

    def row(self) -> list[str]:
        required = f"at {'most' if self.most else 'least'} {self.required:g}{self.unit}"
        return [self.what, f"{self.measured:.3g}{self.unit}", required, "pass" if self.passed else "**FAIL**"]


@dataclass(frozen=True)
class Section:
    title: str
    text: str
    floors: Sequence[Floor] = ()

    def __str__(self) -> str:
        return f"## {self.title}\n\n{self.text}"
