"""Tables through pipes: `-` in place of a file is standard input or output, as comma-separated values."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from vaekit.errors import ConfigError, DataError

PIPE = Path("-")
MOST_BYTES = 1 << 30  # of standard input, which is kept in a file while it is worked on


@contextmanager
def piped(source: str | None, out: Path, as_json: bool = False) -> Iterator[tuple[str | None, Path]]:
    """Files to read and to write in place of `-`; what is written is on stdout once the block has ended well.

    Args:
        source: What a command reads; `-` is a table with a header on standard input.
        out: What it writes; `-` is a table on stdout, which then holds nothing else.
        as_json: Whether stdout is to hold a JSON object.

    Raises:
        ConfigError: Standard input is a terminal, several processes would share it, or stdout is taken by JSON.
        DataError: Standard input is longer than 1 GiB.
    """
    reads, writes = source is not None and Path(source) == PIPE, out == PIPE
    if not (reads or writes):
        yield source, out
        return
    import shutil
    from tempfile import TemporaryDirectory

    from vaekit.processes import World

    if World.join().size > 1:
        raise ConfigError("- is a pipe, which several processes cannot share: name files, or leave torchrun out")
    if writes and as_json:
        raise ConfigError("--out - and --json both write to stdout: give one of them", field="out", value=out)
    with TemporaryDirectory(prefix="vaekit-") as folder:
        if reads:
            source = str(_spooled(Path(folder) / "stdin.csv"))
        if not writes:
            yield source, out
            return
        table = Path(folder) / "stdout.csv"
        with redirect_stdout(io.StringIO()):
            yield source, table
        with table.open(encoding="utf-8", newline="") as file:
            shutil.copyfileobj(file, sys.stdout)


def _spooled(path: Path) -> Path:
    """Standard input, in a file."""
    stdin = sys.stdin
    if stdin is None or stdin.isatty():
        raise ConfigError(
            "DATA is -, and standard input is a terminal: pipe a table into it, or name a file",
            field="data",
            value=PIPE,
        )
    with path.open("wb") as file:
        left = MOST_BYTES
        while part := stdin.buffer.read(min(1 << 20, left + 1)):
            left -= len(part)
            if left < 0:
                raise DataError(
                    f"standard input is longer than {MOST_BYTES:,} bytes: write it to a file, and name that"
                )
            file.write(part)
    return path
