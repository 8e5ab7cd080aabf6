# pyright: reportAttributeAccessIssue=false
"""Feather, which is Arrow's IPC format: a table in record batches, in a file or as a stream."""

import os
import struct
from pathlib import Path
from typing import IO

import pyarrow as pa
from pyarrow import ipc

from vaekit.data.bounds import check_whole, refuse_bomb, size_of
from vaekit.data.formats.arrow import table_of_file
from vaekit.data.spec import DataSpec
from vaekit.data.table import Sizes, Table
from vaekit.errors import DataError

MAGIC = b"ARROW1"  # of a file, in which a stream follows after eight bytes
CONTINUED = b"\xff\xff\xff\xff"  # before every message of a stream

_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3  # types of messages


def open(path: Path, spec: DataSpec, sizes: Sizes) -> Table:
    """A table from a Feather or Arrow file, read at once.

    Raises:
        DataError: The file is damaged, or takes more memory than `sizes.whole` once it is unpacked.
    """
    size = size_of(path)
    try:
        with path.open("rb") as file:
            start = 8 if file.read(len(MAGIC)) == MAGIC else 0
            file.seek(start)
            unpacked = _unpacked_bytes(file, size)
        refuse_bomb(path, size, unpacked)
        check_whole(path, unpacked, sizes.whole)
        with pa.OSFile(str(path)) as file:
            file.seek(start)
            # By the messages that were looked at, and not by the footer of a file, which may name others.
            arrow = ipc.open_stream(file).read_all()
        arrow.validate(full=True)
    except (MemoryError, DataError):  # the first is an ArrowException as well, the second a ValueError
        raise
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise DataError(
            f"{path} is truncated or damaged ({why}); expected a whole Feather or Arrow file: write it anew."
        ) from None
    return table_of_file(path, arrow, spec)


def _unpacked_bytes(file: IO[bytes], size: int) -> int:
    """What the columns of a stream of messages take in memory, by the headers of the messages."""
    total, columns = 0, 0
    while (head := file.read(8)) not in (b"", CONTINUED + bytes(4)):
        length = struct.unpack("<4xi", head)[0]
        if head[:4] != CONTINUED or not 0 < length <= size:
            raise ValueError("its messages do not follow one another, or it is of Arrow before 0.15")
        content = file.read(length)
        message = _Record(content, struct.unpack_from("<I", content)[0])
        kind, body, start = message.number(1, "B"), message.number(3, "q"), file.tell()
        if not 0 <= body <= size - start:
            raise ValueError(f"a message of {body} bytes, and {size - start} are there")
        if kind == _SCHEMA:
            columns = message.record(2).length(1)
        if kind in (_DICTIONARY, _BATCH):
            batch = message.record(2) if kind == _BATCH else message.record(2).record(1)
            packed = batch.has(3)
            for at, length in batch.pairs(2):
                file.seek(start + at)
                said = struct.unpack("<q", file.read(8))[0] if packed and length >= 8 else -1
                total += length if said < 0 else said
            if kind == _BATCH:  # whose cells become numbers of eight bytes
                total += 8 * columns * batch.number(0, "q")
        file.seek(start + body, os.SEEK_SET)
    return total


class _Record:
    """A table of a flatbuffer, for the sizes in the headers of Arrow's messages, which pyarrow does not show.

    Args:
        content: The flatbuffer.
        at: Where the table lies in it.
    """

    def __init__(self, content: bytes, at: int) -> None:
        self._content, self._at = content, at

    def _read(self, kind: str, at: int) -> int:
        return struct.unpack_from(f"<{kind}", self._content, at)[0]

    def _place(self, field: int) -> int:
        """Where a field is, by its number; 0 where it is not there."""
        offsets = self._at - self._read("i", self._at)
        at = 4 + 2 * field
        offset = self._read("H", offsets + at) if at < self._read("H", offsets) else 0
        return self._at + offset if offset else 0

    def has(self, field: int) -> bool:
        """Whether a field is there."""
        return bool(self._place(field))

    def number(self, field: int, kind: str) -> int:
        """A field that is a number of some type of `struct`."""
        return self._read(kind, place) if (place := self._place(field)) else 0

    def record(self, field: int) -> "_Record":
        """A field that is a table itself."""
        place = self._place(field)
        return _Record(self._content, place + self._read("I", place))

    def length(self, field: int) -> int:
        """Of a field that is a vector."""
        return self._read("I", place + self._read("I", place)) if (place := self._place(field)) else 0

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """A field that is a vector of pairs of 64-bit integers."""
        if not (place := self._place(field)):
            return []
        first = place + self._read("I", place) + 4
        content = self._content[first : first + 16 * self.length(field)]
        return [(at, length) for at, length in struct.iter_unpack("<qq", content)]
