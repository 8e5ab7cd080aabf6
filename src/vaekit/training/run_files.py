"""What each file of a run folder may hold.

A folder may come from anyone, so nothing in it is believed before it is checked: every file has a largest size, every
JSON text a model with types and ranges, and a newer format is refused.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vaekit.errors import ModelFileError
from vaekit.files import parse_json
from vaekit.findings import Finding

FORMAT_VERSION = 1
MOST_BYTES = {
    "run.yaml": 1 << 20,
    "environment.json": 1 << 20,
    "data.json": 1 << 26,  # a line for each column of a table, and for each class
    "metrics.jsonl": 1 << 29,
    "findings.json": 1 << 20,
    "STATUS": 1 << 16,
    "MANIFEST.json": 1 << 20,
    "progress.json": 1 << 26,
    "samplers": 1 << 20,
    "samples": 1 << 24,
}
"""By the name of a file, or of the folder that it is in."""
MOST_EPOCHS = 500_000  # lines of metrics.jsonl

Whole = Annotated[int, Field(ge=0, lt=1 << 53)]
Above0 = Annotated[int, Field(ge=1, lt=1 << 53)]
Text = Annotated[str, Field(max_length=1000)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
T = TypeVar("T")


class NewerFormat(ModelFileError):
    """A file that a later version of vaekit wrote, in a format that this one does not know."""


class _File(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ListedFile(_File):
    """A file of a checkpoint, as its manifest has it."""

    bytes: Whole
    sha256: Sha256


class Manifest(_File):
    """MANIFEST.json of a checkpoint; `sha256` is over the rest."""

    format_version: Literal[1]
    step: Whole
    files: Annotated[
        dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}\.(safetensors|json)$")], ListedFile],
        Field(max_length=100),
    ]
    sha256: Sha256


class Environment(_File):
    """environment.json: what a run ran on. Only shown, never acted upon, so what later versions add is ignored."""

    model_config = ConfigDict(extra="ignore")

    vaekit: Text | None = None
    python: Text | None = None
    torch: Text | None = None
    platform: Text | None = None
    processor: Text | None = None
    threads: Whole | None = None
    gpus: Annotated[list[Text], Field(max_length=1000)] | None = None
    device: Text | None = None
    processes: Above0 | None = None
    parts: Annotated[dict[Text, Text], Field(max_length=1000)] | None = None  # from other packages: kind, origin


class Epoch(_File):
    """A line of metrics.jsonl: numbers by name, None for one that was not finite."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Finite | None]  # pyright: ignore[reportIncompatibleVariableOverride]

    epoch: Above0
    step: Whole = 0


class Findings(_File):
    """findings.json: what was found to be wrong with a run."""

    format_version: Literal[1]
    findings: Annotated[list[Finding], Field(max_length=1000)]


class Circumstances(_File):
    """What the last bits of a number depend on, besides the settings."""

    model_config = ConfigDict(extra="ignore")

    device: Text | None = None
    threads: Whole | None = None
    processes: Above0 | None = None
    torch: Text | None = None


class WeightsFacts(BaseModel):
    """The metadata of a file of weights: numbers, written as text."""

    model_config = ConfigDict(extra="forbid")

    format_version: Literal["1"] = "1"
    step: Whole | None = None
    epoch: Whole | None = None
    best_epoch: Whole | None = None
    valid_elbo: Finite | None = None
    valid_bound: Finite | None = None


def finite(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Metrics as JSON has them: a number that is not finite becomes None."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in metrics.items()}


def parsed(kind: type[T], content: bytes, where: Path) -> T:
    """The value of type `kind` that the JSON text of a file holds.

    Raises:
        ModelFileError: It holds something else, or is of a newer format.
    """
    refuse_newer(content, where)
    try:
        return TypeAdapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        raise ModelFileError(f"{where} is damaged: {first_mistake(error)}") from None


def refuse_newer(content: bytes, where: Path) -> None:
    """Refuse a JSON text of a newer format; what is no JSON is for its reader to refuse."""
    try:
        found = parse_json(content)
    except ValueError:
        return
    check_format(found.get("format_version") if isinstance(found, Mapping) else None, where)


def check_format(version: object, where: Path | str) -> None:
    """Refuse a file of a newer format by the number of that format."""
    number = int(version) if isinstance(version, str) and version.isdecimal() and len(version) < 10 else version
    if isinstance(number, int) and number > FORMAT_VERSION:
        raise NewerFormat(
            f"{where} is of format {number}, and this version of vaekit reads up to {FORMAT_VERSION}: use the version "
            "of vaekit that wrote it, or a newer one"
        )


def first_mistake(error: ValidationError) -> str:
    """Where the first mistake is and what it is, in a few words."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:100] or "it"
    return f"{place}: {first['msg'][0].lower()}{first['msg'][1:200]}"
