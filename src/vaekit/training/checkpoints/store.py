"""Checkpoints that survive kill, full disks and flipped bits.

A checkpoint is a folder `checkpoints/NUMBER-step-STEP`. Its files are written under a temporary name and synced, then
`MANIFEST.json` with their sizes and SHA-256, and last the folder is renamed: it is there whole or not at all. Reading
takes the newest whose manifest agrees, and says which it passed over. Only the files that are wanted are read: weights
can be used where the rest of a checkpoint is gone.
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
from vaekit.files import NotRegular, TooLarge, inside, parse_json, read_regular, sync_folder
from vaekit.training.run_files import FORMAT_VERSION, MOST_BYTES, Manifest, check_format, parsed
from vaekit.words import counted

MANIFEST = "MANIFEST.json"
KEPT = 2
_NAME = re.compile(r"^(\d{6,12})-step-\d{1,15}$")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of which the files that were wanted are as they were written."""

    path: Path
    files: Mapping[str, bytes]


class Checkpoints:
    """The checkpoints of one run, in the folder `path`."""

    def __init__(self, path: Path):
        self.path = path

    def save(self, step: int, files: Mapping[str, bytes]) -> str:
        """Add a checkpoint, then drop all but the newest few; returns a warning, mostly empty.

        Raises:
            OSError: It could not be written; those that were there still are.
        """
        self._check()
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

    def newest(self, wanted: Mapping[str, int] | None = None, trained: bool = False) -> Checkpoint:
        """The newest checkpoint that is whole; warns of each newer one that is not.

        Args:
            wanted: The files to read where a checkpoint has them, and how many bytes each may have; None reads all.
            trained: Pass over the one that a run begins with.

        Raises:
            ModelFileError: There is none, or one is of a newer format.
        """
        self._check()
        problems, found_here = [], self._found()
        for _, path in found_here:
            if trained and path.name.endswith("-step-0"):
                problems += [f"{path.name} is of before training"]
                continue
            found, problem = self._verify(path, wanted)
            if found is not None:
                for text in problems:
                    warnings.warn(f"{text}; the checkpoint before it, {path.name}, is used", stacklevel=2)
                return found
            problems += [problem]
        if self._found() != found_here:  # a trainer at work has replaced what was being read
            return self.newest(wanted, trained)
        raise ModelFileError(
            f"{self.path} holds no checkpoint that can be used: {'; '.join(problems) or 'there is none'}; "
            "train again, or give another run"
        )

    def any(self) -> bool:
        """Whether there is a checkpoint, whole or not."""
        self._check()
        return bool(self._found())

    def newest_step(self) -> int | None:
        """The step of the newest checkpoint, whole or not; None where there is none of after step 0."""
        self._check()
        steps = (int(path.name.rpartition("-")[2]) for _, path in self._found())
        return next((step for step in steps if step > 0), None)

    def tidy(self, wanted: Mapping[str, int] | None = None) -> None:
        """Remove what saves that never ended left behind, and put damaged checkpoints aside.

        These become `damaged-NAME`, so that none of the good ones is dropped for them. Only the holder of the run's
        lock may call it.

        wanted: see `newest`.
        """
        self._check()
        self.path.mkdir(exist_ok=True)
        for path in self.path.glob("step-*.tmp-*"):
            shutil.rmtree(path, ignore_errors=True)
        for _, path in self._found():
            if self._verify(path, wanted)[0] is None:
                aside = path.with_name(f"damaged-{path.name}")
                shutil.rmtree(aside, ignore_errors=True)
                path.rename(aside)

    def _found(self) -> list[tuple[int, Path]]:
        """Number and folder of each, newest first."""
        named = [(match, path) for path in self.path.glob("*-step-*") if (match := _NAME.match(path.name))]
        return sorted(((int(match[1]), path) for match, path in named), reverse=True)

    def _verify(self, path: Path, wanted: Mapping[str, int] | None) -> tuple[Checkpoint | None, str]:
        """The checkpoint, or the first thing that is wrong with it."""
        try:
            listed = _read_manifest(self._file(path, MANIFEST))
        except OSError as error:
            return None, f"{path / MANIFEST} cannot be read ({error.strerror})"
        except ValueError:
            return None, f"{path / MANIFEST} is damaged"
        contents = {}
        for name, facts in listed.files.items():
            most = facts.bytes if wanted is None else wanted.get(name)
            if most is None:
                continue
            if facts.bytes > most:
                return None, f"{path / name} has {facts.bytes:,} bytes, and those of this run at most {most:,}"
            try:
                content = contents[name] = read_regular(self._file(path, name), facts.bytes)
            except TooLarge as error:
                return None, f"{path / name} is damaged: {error.strerror}"
            except OSError as error:
                return None, f"{path / name} cannot be read ({error.strerror})"
            if len(content) != facts.bytes:
                return (
                    None,
                    f"{path / name} is damaged: it has {counted(len(content), 'byte')}, not {facts.bytes}",
                )
            if _hash(content) != facts.sha256:
                return None, f"{path / name} is damaged: its SHA-256 is not the one in {MANIFEST}"
        return Checkpoint(path, contents), ""

    def _check(self) -> None:
        """Refuse to look for checkpoints outside the run's folder."""
        try:
            inside(self.path.parent, self.path.name)
        except NotRegular as error:
            raise ModelFileError(f"{self.path} is not a folder of checkpoints: {error.strerror}") from None

    def _file(self, path: Path, name: str) -> Path:
        return inside(self.path, f"{path.name}/{name}")


def _manifest(step: int, files: Mapping[str, bytes]) -> str:
    listed = {name: {"bytes": len(content), "sha256": _hash(content)} for name, content in sorted(files.items())}
    body = {"format_version": FORMAT_VERSION, "step": step, "files": listed}
    return _dump({**body, "sha256": _hash(_dump(body).encode())})


def _read_manifest(path: Path) -> Manifest:
    """A manifest that agrees with its own hash; ValueError for one that does not, ModelFileError for a newer one."""
    content = read_regular(path, MOST_BYTES[MANIFEST])
    found = parse_json(content)
    if not isinstance(found, dict):
        raise ValueError("not a mapping")
    check_format(found.get("format_version"), path)
    claimed = found.pop("sha256", None)
    if claimed != _hash(_dump(found).encode()) or content != _dump({**found, "sha256": claimed}).encode():
        raise ValueError("changed since it was written")
    try:
        return parsed(Manifest, content, path)
    except ModelFileError as error:
        raise ValueError(str(error)) from None


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
