"""Findings: what is wrong with a run, the measurement that shows it, and the fix."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Severity = Literal["error", "warning", "info"]


Sentences = Annotated[str, Field(max_length=2000)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Finding:
    """One thing that is wrong with a run, or may be.

    Attributes:
        id: Its name, the same for every run that has it.
        severity: Error where the trained model should not be used as it is, warning where it is likely to be worse
            than it could be, info for other facts worth knowing.
        value: The number that was measured; None where there is none, or it is not finite.
        threshold: The number that it was compared with.
        why: What was found and why it matters, in at most two sentences.
        fix: What to do: a setting as path=value, or in words.
    """

    id: Annotated[str, Field(pattern=r"^[a-z_]{1,50}$")]
    severity: Severity
    value: float | None
    threshold: float | None
    why: Sentences
    fix: Sentences

    @property
    def text(self) -> str:
        """The finding in one line."""
        return f"{self.why} Fix: {self.fix}."


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether one of them is an error."""
    return any(finding.severity == "error" for finding in findings)


def as_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """The findings as plain values."""
    return [asdict(finding) for finding in findings]  # pyright: ignore[reportArgumentType]
