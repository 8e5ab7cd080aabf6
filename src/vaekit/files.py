"""Files on disk: written whole or not at all, and read only if they are regular files of a bounded size."""

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]  # a process is known to its own machine alone
_TEMPORARY = re.compile(rf"^\..+\.(\d+)-{_MACHINE}-[0-9a-f]{{8}}\.tmp$")


class NotRegular(OSError):
    """A path that names something other than a regular file: a folder, a device, a FIFO, a symbolic link."""


class TooLarge(OSError):
    """A file with more bytes than its reader allows."""


@contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Replace a file: the block writes aside, and only when it ends well is the result synced and renamed.

    So whoever reads `path` sees the old file or the new one, whole, whenever the writer is killed, interrupted or out
    of disk. Permissions are those of the umask, or of the file that is replaced. A symbolic link stays one: what it
    names is replaced.

    Args:
        path: Of the file. What is there already must be a regular file.

    Yields:
        A binary file to write to; its `name` is the path of the temporary file, in the same folder.

    Raises:
        NotRegular: `path` names a folder, a device or a FIFO.
        OSError: It cannot be written; the old file is as it was.
    """
    target = Path(os.path.realpath(path))
    found = _mode(target)
    if found is not None and not stat.S_ISREG(found):
        raise NotRegular(errno.EINVAL, f"it is {_kind(found)}, not a file")
    sweep(target.parent)
    aside = temporary(target)
    try:
        with open(aside, "xb") as file:
            yield file
            file.flush()
            if found is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(found))
            os.fsync(file.fileno())
        os.replace(aside, target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Replace a file with `content`; see `written`."""
    with written(path) as file:
        file.write(content)


def temporary(path: Path) -> Path:
    """A fresh name beside `path` for what is to replace it; `sweep` knows by it whose it is."""
    # the name is cut, so that even one of 255 bytes leaves room
    stem = os.fsdecode(os.fsencode(path.name)[:200])
    return path.parent / f".{stem}.{os.getpid()}-{_MACHINE}-{secrets.token_hex(4)}.tmp"


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders in a folder whose writers, on this machine, no longer live."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (match := _TEMPORARY.match(entry.name)) and not _alive(int(match[1])):
                with suppress(OSError):
                    shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)


def is_within(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether a path is another, or lies in it, by whatever links and spellings: the files themselves are compared."""
    try:
        wanted = os.stat(other)
    except OSError:
        return False
    real = Path(os.path.realpath(path))
    for place in (real, *real.parents):
        with suppress(OSError):
            if os.path.samestat(os.stat(place), wanted):
                return True
    return False


def read_regular(path: str | os.PathLike[str], most: int, *, follow: bool = False) -> bytes:
    """The bytes of a regular file of at most `most` bytes; nothing else is opened, waited for or followed.

    Args:
        path: Of the file.
        most: Bytes that it may have.
        follow: Whether `path` itself may be a symbolic link.

    Raises:
        NotRegular: It is a folder, a device, a FIFO or, unless `follow`, a symbolic link.
        TooLarge: It has more bytes.
        OSError: It cannot be read.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0) | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise NotRegular(errno.EINVAL, "it is a symbolic link, not a file") from None
        if error.errno in (errno.ENXIO, errno.EISDIR):
            raise NotRegular(errno.EINVAL, "it is not a regular file") from None
        raise
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise NotRegular(errno.EINVAL, f"it is {_kind(facts.st_mode)}, not a file")
        if facts.st_size > most:
            raise TooLarge(errno.EFBIG, f"it has {facts.st_size:,} bytes, and at most {most:,} are read")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(content) > most:
        raise TooLarge(errno.EFBIG, f"it grows while it is read, beyond {most:,} bytes")
    return content


def inside(folder: str | os.PathLike[str], name: str) -> Path:
    """The path of `name` in a folder, without a symbolic link on the way.

    So a folder from elsewhere cannot send its reader, or its writer, to files outside it.

    Args:
        folder: May itself be a symbolic link.
        name: Relative to it, with slashes; it need not exist.

    Raises:
        NotRegular: A part of the name is a symbolic link, or what should be a folder is something else.
        OSError: The way cannot be followed.
    """
    path, parts = Path(folder), name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise NotRegular(errno.EINVAL, f"'{name}' is not a name in a folder")
    for place, part in enumerate(parts, 1):
        path = path / part
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return Path(folder, name)
        last = place == len(parts)
        if stat.S_ISLNK(mode) or not (last or stat.S_ISDIR(mode)):
            what = "it" if last else part
            raise NotRegular(errno.EINVAL, f"{what} is {_kind(mode)}, not a {'file' if last else 'folder'}")
    return path


def parse_json(content: bytes | str, *, unique: bool = False) -> Any:
    """The value of a JSON text, as ValueError whatever is wrong with it: depth and length of numbers included.

    Args:
        content: The text.
        unique: Refuse a key that stands twice, of which one would silently be dropped.
    """
    try:
        return json.loads(content, object_pairs_hook=_once if unique else None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key '{twice[:100]}' stands twice")
    return found


def sync_folder(path: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mode(path: Path) -> int | None:
    """The type and permissions of what is at a path; None if nothing is."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _kind(mode: int) -> str:
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a FIFO",
        stat.S_ISLNK: "a symbolic link",
        stat.S_ISSOCK: "a socket",
        stat.S_ISREG: "a file",
    }
    return next((name for test, name in kinds.items() if test(mode)), "a device")
