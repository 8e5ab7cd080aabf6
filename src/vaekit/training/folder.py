"""The run folder: what a run writes, each file whole or not at all, and how it is read back, whoever wrote it."""

import contextlib
import errno
import fcntl
import json
import os
import platform
import stat
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from vaekit import __version__
from vaekit.errors import ConfigError, ModelFileError, VaekitError
from vaekit.files import NotRegular, inside, parse_json, read_regular, sweep, write_whole
from vaekit.findings import Finding, as_json
from vaekit.training.checkpoints.store import Checkpoints
from vaekit.training.run_files import (
    FORMAT_VERSION,
    MOST_BYTES,
    MOST_EPOCHS,
    Environment,
    Epoch,
    Findings,
    check_format,
    finite,
    first_mistake,
    parsed,
)

STARTING = "starting"
MOST_STATUS = 2000  # characters
MOST_PICTURES = 200


class Taken(ConfigError):
    """A folder that another run has, or that another process has claimed."""


class RunFolder:
    """A run folder.

    It has run.yaml, environment.json, data.json, metrics.jsonl, findings.json, checkpoints/, samples/ and STATUS.

    It may come from anyone: nothing but regular files of a bounded size is opened, and no symbolic link in it is
    followed, neither to read nor to write.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self._held: weakref.finalize[..., Any] | None = None

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """Make an empty run folder and claim it; of several processes that try at once, one succeeds.

        Raises:
            Taken: It holds a run already, or another process has claimed it.
            ConfigError: It cannot be written.
        """
        folder = cls(path)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
            if not folder._claim(starting=True):
                raise Taken(
                    f"another process is training into {folder.path}: give another run folder",
                    field="Run.run_dir",
                    value=str(path),
                )
            if os.path.lexists(folder.path / "run.yaml"):
                raise Taken(
                    f"{folder.path} holds a run already: give another Run.run_dir, or remove it",
                    field="Run.run_dir",
                    value=str(path),
                )
            for part in ("checkpoints", "samples"):
                inside(folder.path, part).mkdir(exist_ok=True)
            folder.write_status(STARTING)
        except BaseException as error:
            folder.release()
            if isinstance(error, OSError):
                raise _cannot_write(folder.path, error) from None
            raise
        return folder

    @classmethod
    def create_next(cls, above: Path, name: str) -> "RunFolder":
        """Make and claim the next free one of the folders NAME-1, NAME-2, ... in the folder `above`."""
        number = 1
        while True:
            path = above / f"{name}-{number}"
            try:
                above.mkdir(parents=True, exist_ok=True)
                path.mkdir()  # which only one process can do
                return cls.create(path)
            except OSError as error:
                if not os.path.lexists(path):
                    raise _cannot_write(path, error) from None
            except Taken:
                pass
            number += 1

    def write(self, name: str, content: bytes) -> None:
        """Replace a file: written aside, synced, renamed, so that a reader sees the old one or the new one."""
        path = inside(self.path, name)
        path.parent.mkdir(exist_ok=True)
        write_whole(path, content)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Replace a file of the folder with a JSON object."""
        self.write(name, (json.dumps({"format_version": FORMAT_VERSION, **value}, indent=2) + "\n").encode())

    def read(self, name: str) -> str:
        """The text of a file, in UTF-8 wherever it is read."""
        try:
            return self.read_bytes(name).decode()
        except FileNotFoundError:
            raise ModelFileError(self._refusal(name, "there is no such file")) from None
        except UnicodeDecodeError:
            raise ModelFileError(self._refusal(name, "it is not text in UTF-8")) from None

    def read_bytes(self, name: str, most: int | None = None) -> bytes:
        """The bytes of a file, of which there may be `most`, by default as many as MOST_BYTES has.

        Raises:
            FileNotFoundError: There is none.
            ModelFileError: It is no regular file, or too large.
        """
        try:
            return read_regular(inside(self.path, name), most or MOST_BYTES[name.partition("/")[0]])
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ModelFileError(self._refusal(name, str(error.strerror))) from None

    def environment(self) -> dict[str, Any]:
        """What environment.json says; nothing where there is none."""
        try:
            content = self.read_bytes("environment.json")
        except FileNotFoundError:
            return {}
        return parsed(Environment, content, self.path / "environment.json").model_dump(exclude_unset=True)

    def log(self, metrics: Mapping[str, float | None]) -> None:
        """Append one line to metrics.jsonl, synced, or nothing; a number that is not finite becomes null."""
        with open(self._open("metrics.jsonl", os.O_WRONLY | os.O_APPEND), "ab", buffering=0) as file:
            before = file.tell()
            line = (json.dumps(finite(metrics)) + "\n").encode()
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, "no space left for a whole line")
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise

    def keep_findings(self, findings: Iterable[Finding]) -> None:
        """Replace findings.json."""
        self.write_json("findings.json", {"findings": as_json(findings)})

    def findings(self) -> tuple[Finding, ...]:
        """What findings.json holds; nothing where there is none, as of a run of an earlier version."""
        try:
            content = self.read_bytes("findings.json")
        except FileNotFoundError:
            return ()
        return tuple(parsed(Findings, content, self.path / "findings.json").findings)

    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, oldest first; one that was cut off while it was written is left out.

        Raises:
            ModelFileError: It is damaged.
        """
        where = self.path / "metrics.jsonl"
        try:
            lines = self.read_bytes("metrics.jsonl").split(b"\n")
        except FileNotFoundError:
            return []
        if len(lines) > MOST_EPOCHS:
            raise ModelFileError(f"{where} has {len(lines):,} lines, and at most {MOST_EPOCHS:,} are read")
        found, adapter = [], TypeAdapter(Epoch)
        for number, line in enumerate(lines, 1):
            try:
                plain = parse_json(line)
                check_format(plain.get("format_version") if isinstance(plain, dict) else None, where)
                adapter.validate_python(plain)
            except ValueError as error:
                if number == len(lines) and not isinstance(error, ValidationError):
                    break  # what is after the last line's end: nothing, or a line that was cut off
                why = first_mistake(error) if isinstance(error, ValidationError) else "it is not JSON"
                raise ModelFileError(f"{where} is damaged in line {number}: {why}") from None
            found += [plain]
        return found

    def sample_pictures(self) -> dict[int, bytes]:
        """Pictures of samples that were written in training, by epoch, as PNG; without what is no regular file."""
        found: dict[int, bytes] = {}
        for path in sorted((self.path / "samples").glob("epoch-*-samples.png"))[:MOST_PICTURES]:
            epoch = path.name.split("-")[1]
            if epoch.isascii() and epoch.isdecimal() and len(epoch) < 10:
                with contextlib.suppress(OSError, ModelFileError):
                    found[int(epoch)] = self.read_bytes(f"samples/{path.name}")
        return found

    def trim_history(self, epoch: int) -> set[int]:
        """Drop the lines of metrics.jsonl after an epoch, and one that was cut off; the epochs that are left."""
        kept = [line for line in self.history() if line["epoch"] <= epoch]
        if os.path.lexists(self.path / "metrics.jsonl"):
            self.write("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept).encode())
        return {line["epoch"] for line in kept}

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one trainer, from here or from `create` on; the lock goes with the process that holds it.

        Raises:
            VaekitError: Another process trains into the folder.
            ModelFileError: LOCK cannot be locked.
        """
        self.hold()
        try:
            self.status()  # refuses what cannot be replaced
            sweep(self.path)
            yield
        finally:
            self.release()

    def hold(self) -> None:
        """Take the lock, if it is not held already, until `release`; see `lock`."""
        try:
            ours = (self._held is not None and self._held.alive) or self._claim()
        except NotRegular as error:
            raise ModelFileError(self._refusal("LOCK", str(error.strerror))) from None
        except OSError as error:
            raise ModelFileError(
                f"cannot lock {self.path}: LOCK: {error.strerror}; change its permissions, or remove LOCK"
            ) from None
        if not ours:
            raise VaekitError(f"another process is training into {self.path}: wait for it, or give another run folder")

    def end(self, status: str) -> None:
        """Say how the run ended, if that can be written, and let other trainers in."""
        with contextlib.suppress(OSError):
            self.write_status(status)
        self.release()

    def write_status(self, status: str) -> None:
        """Replace STATUS by one line."""
        self.write("STATUS", f"{' '.join(status.split())[:MOST_STATUS]}\n".encode(errors="replace"))

    def status(self) -> str:
        """The line in STATUS; unknown where there is none."""
        try:
            text = self.read_bytes("STATUS").decode(errors="replace")
        except FileNotFoundError:
            return "unknown"
        return "".join(c for c in text.strip()[:MOST_STATUS] if c.isprintable()) or "unknown"

    def release(self) -> None:
        """Let other trainers in. Where training has never begun, the status says so."""
        if self._held is not None:
            self._held()

    def _claim(self, starting: bool = False) -> bool:
        """Take the lock, unless another has it; it is let go when this object goes, at the latest.

        It lies on the folder itself, which nobody deletes under its holder, and on the file LOCK in it, for those file
        systems that lock no folders.
        """
        held = [os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)]
        try:
            held += [self._open("LOCK", os.O_RDWR)]
            free = _lock(held[0], needed=False) and _lock(held[1])
        except BaseException:
            _close(held)
            raise
        if not free:
            _close(held)
            return False
        self._held = weakref.finalize(self, _let_go, self.path, held, os.getpid(), starting)
        return True

    def _open(self, name: str, flags: int) -> int:
        """A regular file, opened to be written in place; made where there is none."""
        flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        path = inside(self.path, name)
        if path.exists() and not path.is_file():
            raise NotRegular(errno.EINVAL, "it is not a file")
        descriptor = os.open(path, flags, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotRegular(errno.EINVAL, "it is not a file")
        return descriptor

    def _refusal(self, name: str, reason: str) -> str:
        what = "is not a run folder" if name == "run.yaml" else "is damaged"
        return f"{self.path} {what}: {name}: {reason}; give the folder that a training wrote"


def environment() -> dict[str, Any]:
    """What a run ran on, for environment.json, and the version of vaekit that made it."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "vaekit": __version__,
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def _cannot_write(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot write a run into {path}: {error.strerror}; give another run folder",
        field="Run.run_dir",
        value=str(path),
    )


def _lock(descriptor: int, needed: bool = True) -> bool:
    """Lock an open file or folder for this process; whether it was free, or, unless that is needed, has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        if needed:
            raise
    return True


def _let_go(path: Path, descriptors: list[int], process: int, starting: bool) -> None:
    """Close the locks of a folder; a fork of the process that took them leaves them to it."""
    if os.getpid() != process:
        return
    with contextlib.suppress(OSError):
        status = inside(path, "STATUS")
        if starting and read_regular(status, MOST_BYTES["STATUS"]) == f"{STARTING}\n".encode():
            write_whole(status, b"interrupted at step 0\n")
    _close(descriptors)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
    descriptors.clear()
