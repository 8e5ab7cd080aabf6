"""The errors that vaekit raises on purpose: one sentence each, with the value, the rule and the fix."""

_LONGEST = 2000  # characters of a message


class VaekitError(Exception):
    """Something that the user can mend. `exit_code` is what the command line leaves with.

    The message is legible whatever names and values it quotes: what cannot be printed is escaped, line breaks too
    where `one_line`, and the middle of one that is too long is left out.
    """

    exit_code = 1
    one_line = True

    def __init__(self, message: str = "") -> None:
        kept = "" if self.one_line else "\n"
        super().__init__(_legible(message, kept))


class ConfigError(VaekitError):
    """A setting, an option or a path on the command line is wrong."""

    exit_code = 2
    one_line = False  # one for each setting that is wrong


class SpecError(ConfigError, ValueError):
    """A part was given a setting that it does not take."""


class DataError(VaekitError):
    """The data cannot be found, read or modelled as asked."""

    exit_code = 3


class ModelFileError(VaekitError):
    """A run folder or a file of weights is missing, damaged or of another model."""

    exit_code = 4


class Diverged(VaekitError):
    """Training produced a number that is not finite."""

    exit_code = 5


def _legible(message: str, kept: str) -> str:
    if len(message) > _LONGEST:
        message = f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 2 :]}"
    return "".join(mark if mark.isprintable() or mark == kept else ascii(mark)[1:-1] for mark in message)
