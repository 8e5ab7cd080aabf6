"""The errors that vaekit raises on purpose: one sentence each, with the value, the rule and the fix.

A program can catch them by kind, and read which setting, option or argument is wrong from `field` and `value`.
"""

__all__ = [
    "ConfigError",
    "DataError",
    "Diverged",
    "ModelFileError",
    "NotApplicable",
    "NotFinite",
    "SpecError",
    "VaekitError",
]

_LONGEST = 2000  # characters of a message


def __dir__() -> list[str]:
    return __all__


class VaekitError(Exception):
    """Something that the user can mend. `exit_code` is what the command line leaves with.

    The message is legible whatever names and values it quotes: what cannot be printed is escaped, line breaks too
    where `one_line`, and the middle of one that is too long is left out.

    Args:
        message: What is wrong, the rule, and the fix.
        field: The setting, option or argument that is wrong, by its name.
        value: What was given for it.

    Example:
        >>> error = ConfigError("--rows is 0: it should be at least 1", field="rows", value=0)
        >>> error.field, error.value
        ('rows', 0)
    """

    exit_code = 1
    one_line = True

    def __init__(self, message: str = "", *, field: str = "", value: object = None) -> None:
        super().__init__(_legible(message, "" if self.one_line else "\n"))
        self.field = field
        self.value = value


class ConfigError(VaekitError):
    """A setting, an option or a path on the command line is wrong."""

    exit_code = 2
    one_line = False  # one for each setting that is wrong


class SpecError(ConfigError, ValueError):
    """A spec or a function was given a setting that it does not take, or that does not go with data or model."""


class DataError(VaekitError, ValueError):
    """The data cannot be found, read or modelled as requested."""

    exit_code = 3


class ModelFileError(VaekitError):
    """A run folder or a file of weights is missing, damaged or of another model."""

    exit_code = 4


class NotApplicable(VaekitError, ValueError):
    """A method does not apply to this model, as annealing does not to discrete latents."""


class NotFinite(VaekitError, ArithmeticError):
    """A trained model gives a number that is not finite."""


class Diverged(VaekitError):
    """Training produced a number that is not finite."""

    exit_code = 5


def _legible(message: str, printable: str) -> str:
    if len(message) > _LONGEST:
        message = f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 2 :]}"
    return "".join(mark if mark.isprintable() or mark in printable else ascii(mark)[1:-1] for mark in message)
