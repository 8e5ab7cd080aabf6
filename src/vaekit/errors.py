"""The errors that vaekit raises on purpose: one sentence each, with the value, the rule and the fix."""


class VaekitError(Exception):
    """Something that the user can mend. `exit_code` is what the command line leaves with."""

    exit_code = 1


class ConfigError(VaekitError):
    """A setting, an option or a path on the command line is wrong."""

    exit_code = 2


class DataError(VaekitError):
    """The data cannot be found, read or modelled as asked."""

    exit_code = 3


class ModelFileError(VaekitError):
    """A run folder or a file of weights is missing, damaged or of another model."""

    exit_code = 4


class Diverged(VaekitError):
    """Training produced a number that is not finite."""

    exit_code = 5
