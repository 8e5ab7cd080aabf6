"""Damage that can be done to any file: cut, flipped, emptied, padded, replaced, or something that is not a file."""

import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

SIZE = 10_000_000_000  # of sparse files, which take no room on disk

Maker = Callable[[Path], object]


def write(content: bytes) -> Maker:
    return lambda path: path.write_bytes(content)


def damaged(whole: bytes, rng: random.Random, times: int) -> Iterator[tuple[str, bytes]]:
    """The content of a file, damaged in ways that any format must stand; `times` of each way that has a choice."""
    yield "empty", b""
    for place in sorted(rng.sample(range(1, len(whole)), min(times, len(whole) - 1))):
        yield f"cut at byte {place}", whole[:place]
    for place in sorted(rng.sample(range(8 * len(whole)), times)):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        yield f"bit {place} flipped", bytes(flipped)
    for _ in range(times):
        bytes_, length = bytearray(whole), rng.randrange(1, 64)
        place = rng.randrange(len(whole))
        bytes_[place : place + length] = rng.randbytes(length)
        yield f"{length} random bytes at {place}", bytes(bytes_)
    yield "random bytes", rng.randbytes(len(whole))
    yield "the wrong magic", b"\0" * 8 + whole[8:]
    yield "padded with NUL", whole + b"\0" * 1000
    yield "twice", whole + whole
    yield "NUL only", b"\0" * 1000
    yield "text", b"this is not what it says\n" * 40


def not_files() -> dict[str, Maker]:
    """What can stand at a path in place of a regular file that may be read."""
    return {
        "missing": lambda path: None,
        "a folder": os.mkdir,
        "a FIFO": os.mkfifo,
        "a socket": _socket,
        "a link to a device": lambda path: path.symlink_to("/dev/zero"),
        "a link to a terminal's device": lambda path: path.symlink_to("/dev/tty"),
        "a link to nothing": lambda path: path.symlink_to("nothing-here"),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a loop of links": _loop,
        "a link to a file of the kernel's": lambda path: path.symlink_to("/proc/self/mem"),
    }


def sparse(path: Path, head: bytes = b"", size: int = SIZE) -> None:
    """A file of `size` bytes that begins with `head` and goes on with zeros that take no room."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)


def _socket(path: Path) -> None:
    # bound by a short name: a socket's path has at most 107 bytes
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(here)


def _loop(path: Path) -> None:
    other = path.with_name(f"{path.name}.other")
    path.symlink_to(other.name)
    other.symlink_to(path.name)
