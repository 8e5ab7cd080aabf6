"""The entry point: run a command, turn what goes wrong into one line and an exit code."""

import os
import sys
import traceback
import warnings

from cyclopts import CycloptsError
from rich.console import Console

from vaekit.apps.cli import app
from vaekit.errors import VaekitError


def main(tokens: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    arguments = sys.argv[1:] if tokens is None else tokens
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    warnings.showwarning = _warn
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except KeyboardInterrupt as interrupt:
        code = _complain(str(interrupt) or "interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except CycloptsError as error:
        code = _complain(f"{' '.join(str(error).split())} See `vaekit --help`.", 2)
    except Exception as error:
        if debug:
            traceback.print_exc()
        if "torch" in sys.modules:
            from vaekit.world import lost_a_process

            if lost_a_process(error):
                error = VaekitError(
                    "another process of this job has stopped or died, so this one ends: see its messages"
                )
            if isinstance(error, sys.modules["torch"].OutOfMemoryError):
                error = VaekitError("out of memory: make train.batch_size, objective.samples or the networks smaller")
        expected = isinstance(error, VaekitError | OSError)
        note = "" if expected or debug else " (this is a fault in vaekit or in a module given to it; add --debug)"
        text = str(error) if expected else f"{type(error).__name__}: {error}"
        code = _complain(f"{text}{note}", error.exit_code if isinstance(error, VaekitError) else 1)
    sys.exit(code)


def _complain(text: str, code: int) -> int:
    rank = os.environ.get("RANK", "0")
    who = "vaekit" if rank == "0" else f"vaekit (process {rank})"
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]{who}:[/] {_escape(text)}")
    return code


def _warn(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
    """Our own warnings in one line; those of libraries are for developers."""
    if category is UserWarning and os.environ.get("RANK", "0") == "0":
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"[yellow]note:[/] {_escape(str(message))}")


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
