"""Run a command, and turn errors into one line and an exit code."""

import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from cyclopts import CycloptsError
from rich.console import Console
from rich.text import Text

from vaekit.cli.app import app
from vaekit.cli.console.streams import ReaderLeft, possible_width, standard_streams
from vaekit.cli.main import in_words
from vaekit.errors import ConfigError, VaekitError

SMALLER = "make train.batch_size, objective.samples or the networks smaller, or end what else takes memory"
REPEATED = 60  # seconds after the error that it repeats


def run(arguments: Sequence[str], received: Sequence[int] = ()) -> int:
    """Run a command line.

    Args:
        arguments: Its words.
        received: The signals that have come, which others add to.

    Returns:
        The exit code.
    """
    with standard_streams() as (out, _), possible_width():
        code = _run(arguments, received)
        with suppress(ReaderLeft):  # text that was short enough to wait until now
            out.flush()
        if out.failed and not isinstance(out.failed, BrokenPipeError) and code == 0:
            code = _complain(f"cannot write to standard output: {out.failed.strerror}", 1)
        return code


def _run(arguments: Sequence[str], received: Sequence[int]) -> int:
    debug = "--debug" in arguments
    before, warnings.showwarning = warnings.showwarning, _warner()
    try:
        _check_folder()
        app(
            # a bare - stands for a pipe, and would be taken for an option
            ["./-" if argument == "-" else argument for argument in arguments if argument != "--debug"],
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        return 0
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except ReaderLeft:
        return 0
    except KeyboardInterrupt as interrupt:
        number = received[0] if received else 2
        return _complain(str(interrupt) or in_words(number), 128 + number)
    except CycloptsError as error:
        return _complain(f"{' '.join(str(error).split())} See `vaekit --help`.", 2)
    except Exception as error:
        if debug:
            traceback.print_exc()
        if received:  # some libraries make an error of their own of an interrupt
            return _complain(in_words(received[0]), 128 + received[0])
        return _explain(error, debug)
    finally:
        warnings.showwarning = before


def _check_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise ConfigError("the folder that this command was started in has been removed: cd into another") from None


def _explain(error: Exception, debug: bool) -> int:
    if isinstance(error, MemoryError):
        error = VaekitError(f"out of memory: {SMALLER}")
    if "torch" in sys.modules:
        from vaekit.processes import is_out_of_memory, lost_a_process

        if lost_a_process(error):
            error = VaekitError("another process has stopped or died, so this one ends too: see its messages")
        elif is_out_of_memory(error):
            error = VaekitError(f"out of memory: {SMALLER}")
    expected = isinstance(error, VaekitError | OSError)
    note = "" if expected or debug else " (this is a fault in vaekit or in a module given to it; add --debug)"
    text = str(error) if expected else f"{type(error).__name__}: {error}"
    if "vaekit.runs.tree" in sys.modules:
        text = sys.modules["vaekit.runs.tree"].in_settings(text)
    return _complain(f"{text}{note}", error.exit_code if isinstance(error, VaekitError) else 1)


def _complain(text: str, code: int) -> int:
    rank = os.environ.get("RANK", "0")
    who = "vaekit" if rank == "0" else f"vaekit (process {rank})"
    if "vaekit.processes" in sys.modules and sys.modules["vaekit.processes"].is_said_by_leader(text):
        _note_for_launcher("the same error as process 0", later=REPEATED)
        return code
    _note_for_launcher(f"{who}: {text}")
    _say(who, "bold red", text)
    return code


def _note_for_launcher(text: str, later: int = 0) -> None:
    """Leave a message in the file whose content torchrun prints last, after pages of its own.

    Args:
        text: The message.
        later: Seconds to add to the time of the error, of which torchrun takes the earliest for the cause of all.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        with suppress(OSError):
            note = {"message": text, "extraInfo": {"timestamp": str(int(time.time()) + later)}}
            Path(path).write_text(json.dumps({"message": note}))


def _warner() -> Callable[..., None]:
    """A function that shows our own warnings, each once, in one line; those of libraries are for developers."""
    said: set[str] = set()

    def warn(message: Warning | str, category: type[Warning], *place: object, **more: object) -> None:
        if category is UserWarning and os.environ.get("RANK", "0") == "0" and str(message) not in said:
            said.add(str(message))
            _say("note", "yellow", str(message))

    return warn


def _say(who: str, style: str, text: str) -> None:
    line = Text.assemble((f"{who}:", style), " ", text)
    Console(stderr=True, soft_wrap=True, highlight=False).print(line)
