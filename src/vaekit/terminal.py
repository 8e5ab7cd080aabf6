"""What standard error is connected to."""

import os
import sys


def shows_bars() -> bool:
    """Whether stderr is a terminal that a bar can be redrawn on.

    FORCE_COLOR does not count: notebooks set it, and would show every frame as a line of its own.
    """
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
