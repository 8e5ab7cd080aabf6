"""What every spec is: a frozen dataclass, checked when it is made, that refuses keys it does not know."""

from collections.abc import Callable
from typing import TypeVar, dataclass_transform

from pydantic import BeforeValidator, ConfigDict
from pydantic.dataclasses import dataclass

T = TypeVar("T")
_CONFIG = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)


@dataclass_transform(frozen_default=True)
def spec(cls: type[T]) -> type[T]:
    """Decorate a class as a spec: its fields are its settings, so it is its own configuration.

    A spec that is one choice among several has a last field `kind: Literal["name"] = "name"`, by which the
    configuration picks it.
    """
    decorate: Callable[[type[T]], type[T]] = dataclass(frozen=True, config=_CONFIG)  # pyright: ignore
    return decorate(cls)


def _as_mapping(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


by_kind = BeforeValidator(_as_mapping)
"""For a choice among specs: the bare name of one stands for it with its defaults."""
