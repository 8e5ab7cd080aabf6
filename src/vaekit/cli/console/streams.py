"""The standard streams, as a command needs them: whatever their encoding, and whether or not anybody reads them."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TextIO, cast

PLAIN = str.maketrans({"±": "+/-", "\N{MINUS SIGN}": "-", "\N{MULTIPLICATION SIGN}": "x", "…": "...", "‖": "||"})


LEAST_WIDTH, MOST_WIDTH = 10, 10_000  # columns in which text can be laid out


class ReaderLeft(BaseException):
    """Whoever read stdout, `head` for example, has closed it: there is nobody to go on for."""


class Stream:
    """A text stream that never fails for an encoding, a full disk or a reader that left.

    Characters that its encoding lacks are written in ASCII. What cannot be written is lost, and `failed` says why; on
    stdout, a reader that left raises ReaderLeft.
    """

    def __init__(self, stream: Any, leaves: bool):
        self.stream, self.leaves = stream, leaves
        self.failed: OSError | None = None

    def write(self, text: str) -> int:
        """Write text; a reader that has left is `ReaderLeft`."""
        encoding = self.stream.encoding or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.translate(PLAIN).encode(encoding, "replace").decode(encoding)
        with self._forgiving():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered; a reader that has left is `ReaderLeft`."""
        with self._forgiving():
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = error
            with suppress(OSError):  # what is still buffered would fail again, the next time and when Python ends
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.stream.fileno())
                os.close(nowhere)
            if self.leaves and isinstance(error, BrokenPipeError):
                raise ReaderLeft from None


@contextmanager
def standard_streams() -> Iterator[tuple[Stream, Stream]]:
    """Within, sys.stdout and sys.stderr are `Stream`s; one that was closed before the process began writes nowhere."""
    before = sys.stdout, sys.stderr
    for descriptor in range(3):  # else the next file that is opened would be taken for a standard stream
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    with ExitStack() as nowhere:
        out, err = (stream or nowhere.enter_context(open(os.devnull, "w")) for stream in before)
        streams = Stream(out, leaves=True), Stream(err, leaves=False)
        sys.stdout, sys.stderr = cast(tuple[TextIO, TextIO], streams)
        try:
            yield streams
        finally:
            with suppress(ReaderLeft):
                for stream in streams:
                    stream.flush()
            sys.stdout, sys.stderr = before


@contextmanager
def possible_width() -> Iterator[None]:
    """Within, COLUMNS is left out of the environment where it is no width of a screen.

    Some terminals and schedulers set it to 0, in which rich would lay out words for ever.
    """
    given = os.environ.get("COLUMNS")
    if given is None or (len(given) < 9 and given.isdecimal() and LEAST_WIDTH <= int(given) <= MOST_WIDTH):
        yield
        return
    del os.environ["COLUMNS"]
    try:
        yield
    finally:
        os.environ["COLUMNS"] = given
