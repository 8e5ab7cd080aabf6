"""The entry point: it imports next to nothing before it handles signals, so Ctrl-C is quiet from the start.

SIGINT, SIGTERM and SIGHUP end any command with one line and exit code 128 + number; `vaekit train` saves first. What
was being written is then the old file. A signal that whoever started the process had ignored (as nohup does) stays so.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)))


def main(tokens: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    received: list[int] = []
    try:
        with interruptible(received):
            try:
                from vaekit.cli.console.running import run
            except ImportError as error:
                sys.exit(f"vaekit: this installation is not whole, or this user may not read all of it: {error}")
            code = run(sys.argv[1:] if tokens is None else tokens, received)
            if tokens is None:  # the process is ours: a signal while Python takes it down needs no words
                for number in SIGNALS:
                    signal.signal(number, signal.SIG_IGN if received else signal.SIG_DFL)
            sys.exit(code)
    except KeyboardInterrupt as interrupt:  # before or after the part of `run` that handles it
        number = received[0] if received else signal.SIGINT
        os.write(2, f"vaekit: {str(interrupt) or in_words(number)}\n".encode())
        sys.exit(128 + number)


@contextmanager
def interruptible(received: list[int]) -> Iterator[None]:
    """Turn the first signal into KeyboardInterrupt.

    A second signal, or one in the middle of an import, where Python may swallow it, ends the process at once.

    Args:
        received: The signals that have come, to which the first is added.
    """

    def receive(number: int, frame: FrameType | None) -> None:
        if received or _importing(frame):
            os.write(2, f"vaekit: {in_words(number)}\n".encode())
            os._exit(128 + number)
        received.append(number)
        raise KeyboardInterrupt(in_words(number))

    before = {}
    try:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, receive)
    except ValueError:  # not the main thread, to which no signal comes
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is receive:
                signal.signal(number, handler)


def in_words(number: int) -> str:
    """What a signal did, in words."""
    return "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
