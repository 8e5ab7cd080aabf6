"""The run folder: what a run writes, each file whole or not at all."""

import contextlib
import errno
import json
import math
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from vaekit.errors import ConfigError, ModelFileError, VaekitError
from vaekit.files import write_whole
from vaekit.training.checkpoints import FORMAT_VERSION, Checkpoints


class RunFolder:
    """A folder with run.yaml, environment.json, data.json, metrics.jsonl, checkpoints/, samples/ and STATUS."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.checkpoints = Checkpoints(self.path / "checkpoints")

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """Make an empty run folder; one that holds a run already is refused."""
        folder = cls(path)
        if (folder.path / "run.yaml").exists():
            raise ConfigError(f"{folder.path} holds a run already: give another --run-dir, or remove it")
        try:
            for part in ("checkpoints", "samples"):
                (folder.path / part).mkdir(parents=True, exist_ok=True)
            folder.write("STATUS", b"starting\n")
        except OSError as error:
            raise ConfigError(
                f"cannot write a run into {folder.path}: {error.strerror}; give another --run-dir"
            ) from None
        return folder

    def write(self, name: str, content: bytes) -> None:
        """Replace a file: written aside, synced, renamed, so that a reader sees the old one or the new one."""
        write_whole(self.path / name, content)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        self.write(name, (json.dumps({"format_version": FORMAT_VERSION, **value}, indent=2) + "\n").encode())

    def read_json(self, name: str) -> dict[str, Any]:
        return json.loads(self.read(name))

    def read(self, name: str) -> str:
        try:
            return (self.path / name).read_text()
        except (OSError, UnicodeDecodeError) as error:
            what = "is not a run folder" if name == "run.yaml" else "is damaged"
            reason = getattr(error, "strerror", None) or "not text"
            raise ModelFileError(
                f"{self.path} {what}: {name}: {reason}; give the folder that `vaekit train` wrote"
            ) from None

    def log(self, metrics: Mapping[str, float | int]) -> None:
        """Append one line to metrics.jsonl, synced, or nothing; a number that is not finite becomes null."""
        plain = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in metrics.items()}
        with open(self.path / "metrics.jsonl", "ab", buffering=0) as file:
            before = file.tell()
            line = (json.dumps(plain) + "\n").encode()
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, "no space left for a whole line")
                os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise

    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, oldest first; one that was cut off while it was written is left out."""
        lines = self._lines()
        if not lines:
            raise ModelFileError(
                f"{self.path / 'metrics.jsonl'} holds no line that can be read: the run has no history"
            )
        return lines

    def trim_history(self, epoch: int) -> set[int]:
        """Drop the lines of metrics.jsonl after an epoch, and one that was cut off; the epochs that are left."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return set()
        kept = [line for line in self._lines() if line.get("epoch", 0) <= epoch]
        self.write("metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept).encode())
        return {line["epoch"] for line in kept}

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        for line in self.read("metrics.jsonl").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                lines += [json.loads(line)]
        return lines

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one trainer; the lock goes with the process that holds it.

        Raises:
            VaekitError: another process trains into the folder.
        """
        held = FileLock(self.path / "LOCK")
        try:
            held.acquire(blocking=False)
        except Timeout:
            raise VaekitError(
                f"another process is training into {self.path}: wait for it, or give another --run-dir"
            ) from None
        try:
            for path in self.path.glob(".*.tmp"):
                path.unlink(missing_ok=True)
            self.checkpoints.tidy()
            yield
        finally:
            held.release()


def environment() -> dict[str, Any]:
    """What a run ran on, for environment.json."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }
