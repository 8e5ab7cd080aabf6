"""The run folder: what a run writes, each file whole or not at all."""

import contextlib
import json
import math
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vaekit.errors import ConfigError, ModelFileError

FORMAT_VERSION = 1
Weights = Mapping[str, Tensor]


class RunFolder:
    """A folder with run.yaml, environment.json, data.json, metrics.jsonl, checkpoints/, samples/ and STATUS."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

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
        target = self.path / name
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as aside:
            try:
                aside.write(content)
                aside.flush()
                os.fsync(aside.fileno())
                os.chmod(aside.name, 0o644)
                os.replace(aside.name, target)
            except BaseException:
                Path(aside.name).unlink(missing_ok=True)
                raise
        _sync_folder(target.parent)

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
        """Append one line to metrics.jsonl; a number that is not finite becomes null."""
        plain = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in metrics.items()}
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(plain) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, oldest first; one that was cut off while it was written is left out."""
        lines = []
        for line in self.read("metrics.jsonl").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                lines += [json.loads(line)]
        if not lines:
            raise ModelFileError(
                f"{self.path / 'metrics.jsonl'} holds no line that can be read: the run has no history"
            )
        return lines

    def save_weights(self, name: str, weights: Weights, metadata: Mapping[str, str]) -> None:
        """checkpoints/NAME.safetensors."""
        tensors = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
        content = save(tensors, {"format_version": str(FORMAT_VERSION), **metadata})
        self.write(f"checkpoints/{name}.safetensors", content)

    def load_weights(self, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The weights and the metadata of checkpoints/NAME.safetensors; weights that are not finite are refused."""
        path = self.path / "checkpoints" / f"{name}.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                weights = {key: file.get_tensor(key) for key in list(file.keys())}
                metadata = dict(file.metadata() or {})
        except (OSError, SafetensorError) as error:
            raise ModelFileError(f"cannot read the weights {path}: {error}; train again, or give another run") from None
        for key, value in weights.items():
            if value.is_floating_point() and not value.isfinite().all():
                raise ModelFileError(f"the weights {path} hold numbers that are not finite, in {key}: train again")
        return weights, metadata


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


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
