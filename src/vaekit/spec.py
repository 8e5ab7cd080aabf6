"""What every spec is: a frozen dataclass, checked when it is made, that refuses keys it does not know."""

import functools
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import AfterValidator, BeforeValidator, ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from vaekit.errors import SpecError
from vaekit.setting_errors import explain, first_mistake

T = TypeVar("T")
_CONFIG = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)


@dataclass_transform(frozen_default=True)
def spec(cls: type[T]) -> type[T]:
    """Decorate a class as a spec: its fields are its settings, so it is its own configuration.

    A spec that is one choice among several has a last field `kind: Literal["name"] = "name"`, by which the
    configuration picks it. Made with a setting that it does not take, it raises SpecError, which is a ValueError.
    """
    decorate: Callable[[type[T]], type[T]] = dataclass(frozen=True, config=_CONFIG)  # pyright: ignore
    return in_words(decorate(cls))


def in_words(cls: type[T]) -> type[T]:
    """The class, whose constructor says what is wrong with its arguments in one line or two, as SpecError."""
    init = cls.__init__

    @functools.wraps(init)
    def checked(self: T, *args: Any, **settings: Any) -> None:
        try:
            init(self, *args, **settings)
        except ValidationError as error:
            field, value = first_mistake(error, cls)
            raise SpecError(f"{cls.__name__}: {explain(error, cls)}", field=field, value=value) from None

    cls.__init__ = checked
    return cls


def _as_mapping(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


by_kind = BeforeValidator(_as_mapping)
"""For a choice among specs: the bare name of one stands for it with its defaults."""


def _as_list(value: object) -> object:
    return value if value is None or isinstance(value, list | tuple) else (value,)


Several = Annotated[tuple[T, ...], BeforeValidator(_as_list)]
"""A list of any length; a single value stands for a list of one."""


def words_for(true: str, false: str) -> BeforeValidator:
    """For a setting whose words YAML reads as true and false, such as yes and no, or on and off."""
    return BeforeValidator(lambda given: (true if given else false) if isinstance(given, bool) else given)


def _as_pair(value: object) -> object:
    return (value, value) if isinstance(value, int) else value


Square = Annotated[tuple[T, T], BeforeValidator(_as_pair)]
"""Height and width; a single number stands for both."""


def _is_text(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds a NUL character, which no name or path can")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{text[:100]!a} is not Unicode text: rename what it names, or write it anew") from None
    return text


def _as_text(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


Text = Annotated[str, BeforeValidator(_as_text), AfterValidator(_is_text)]
"""Text that can be written to a file and named in a message; a number, as YAML has it, is its digits."""
