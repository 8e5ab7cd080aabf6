"""Checkpoints that survive kill, full disks and flipped bits.

A checkpoint is a folder `checkpoints/NUMBER-step-STEP`. Its files are written under a temporary name and synced, then
`MANIFEST.json` with their sizes and SHA-256, and last the folder is renamed: it is there whole or not at all. Reading
takes the newest whose manifest agrees, and says which it passed over.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaekit.errors import ModelFileError
from vaekit.files import sync_folder

FORMAT_VERSION = 1
MANIFEST = "MANIFEST.json"
KEPT = 2
_NAME = re.compile(r"^(\d{6,})-step-\d+$")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are all as they were written."""

    path: Path
    files: Mapping[str, bytes]


class Checkpoints:
    """The checkpoints of one run, in the folder `path`."""

    def __init__(self, path: Path):
        self.path = path

    def save(self, step: int, files: Mapping[str, bytes]) -> str:
        """Add a checkpoint, then drop all but the newest few; returns a warning, mostly empty.

        Raises:
            OSError: it could not be written; those that were there still are.
        """
        needed, free = 2 * sum(map(len, files.values())), shutil.disk_usage(self.path).free
        if needed > free:
            raise OSError(errno.ENOSPC, f"it needs {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB of disk are free")
        aside = self.path / f"step-{step}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            aside.mkdir()
            for name, content in files.items():
                _write(aside / name, content)
            _write(aside / MANIFEST, _manifest(step, files).encode())
            sync_folder(aside)
            number = max((number for number, _ in self._found()), default=0) + 1
            os.rename(aside, self.path / f"{number:06d}-step-{step}")
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        warning = ""
        try:
            sync_folder(self.path)
        except OSError as error:
            warning = f"the checkpoint of step {step} is written, but a power cut might undo it ({error.strerror})"
        for _, path in self._found()[KEPT:]:
            shutil.rmtree(path, ignore_errors=True)
        return warning

    def newest(self, trained: bool = False) -> Checkpoint:
        """The newest checkpoint that is whole; warns of each newer one that is not.

        trained: pass over the one that a run begins with.

        Raises:
            ModelFileError: there is none.
        """
        problems, found_here = [], self._found()
        for _, path in found_here:
            if trained and path.name.endswith("-step-0"):
                problems += [f"{path.name} is of before training"]
                continue
            found, problem = _verify(path)
            if found is not None:
                for text in problems:
                    warnings.warn(f"{text}; the checkpoint before it, {path.name}, is used", stacklevel=2)
                return found
            problems += [problem]
        if self._found() != found_here:  # a trainer at work has replaced what was being read
            return self.newest(trained)
        raise ModelFileError(
            f"{self.path} holds no checkpoint that can be used: {'; '.join(problems) or 'there is none'}; "
            "train again, or give another run"
        )

    def any(self) -> bool:
        """Whether there is a checkpoint, whole or not."""
        return bool(self._found())

    def tidy(self) -> None:
        """Remove what saves that never ended left behind, and put damaged checkpoints aside, as `damaged-NAME`, so that
        none of the good ones is dropped for them. Only the holder of the run's lock may ask for it."""
        self.path.mkdir(exist_ok=True)
        for path in self.path.glob("step-*.tmp-*"):
            shutil.rmtree(path, ignore_errors=True)
        for _, path in self._found():
            if _verify(path)[0] is None:
                aside = path.with_name(f"damaged-{path.name}")
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)

    def _found(self) -> list[tuple[int, Path]]:
        """Number and folder of each, newest first."""
        named = [(match, path) for path in self.path.glob("*-step-*") if (match := _NAME.match(path.name))]
        return sorted(((int(match[1]), path) for match, path in named), reverse=True)


def _manifest(step: int, files: Mapping[str, bytes]) -> str:
    listed = {name: {"bytes": len(content), "sha256": _hash(content)} for name, content in sorted(files.items())}
    body = {"format_version": FORMAT_VERSION, "step": step, "files": listed}
    return _dump({**body, "sha256": _hash(_dump(body).encode())})


def _verify(path: Path) -> tuple[Checkpoint | None, str]:
    """The checkpoint, or the first thing that is wrong with it."""
    try:
        text = (path / MANIFEST).read_text()
        manifest: dict[str, Any] = json.loads(text)
        claimed = manifest.pop("sha256")
        if claimed != _hash(_dump(manifest).encode()) or text != _dump({**manifest, "sha256": claimed}):
            return None, f"{path / MANIFEST} is damaged"
        if manifest["format_version"] != FORMAT_VERSION:
            return None, f"{path / MANIFEST} has format {manifest['format_version']}, and this version reads 1"
        listed: dict[str, dict[str, Any]] = manifest["files"]
    except OSError as error:
        return None, f"{path / MANIFEST} cannot be read ({error.strerror})"
    except (ValueError, KeyError, AttributeError, TypeError):
        return None, f"{path / MANIFEST} is damaged"
    contents = {}
    for name, facts in listed.items():
        try:
            content = contents[name] = (path / name).read_bytes()
        except OSError as error:
            return None, f"{path / name} cannot be read ({error.strerror})"
        if len(content) != facts["bytes"]:
            return None, f"{path / name} is damaged: it has {len(content)} bytes, not {facts['bytes']}"
        if _hash(content) != facts["sha256"]:
            return None, f"{path / name} is damaged: its SHA-256 is not the one in {MANIFEST}"
    return Checkpoint(path, contents), ""


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
