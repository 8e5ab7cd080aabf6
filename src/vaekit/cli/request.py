"""What a verb was asked, checked before anything else is done."""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from vaekit import __version__
from vaekit.data import Dataset, Rows, StreamedRows
from vaekit.distributed import World
from vaekit.errors import ConfigError, VaekitError
from vaekit.memory import free_bytes, in_gb
from vaekit.runs import TrainedRun, open_rows, open_run, reopen

MOST_SAMPLES = 1_000_000  # K
BYTES_PER_SAMPLE = 4 * 8 * 100  # ln w of a block of rows in double precision, and what is computed from them


@dataclass(frozen=True)
class EvaluationRequest:
    """What `vaekit evaluate` was asked: of which run, on which rows, and how."""

    folder: Path
    samples: int
    data: str | None  # other than the run's own, or where that lies now
    split: str  # of the run's own
    rows: int | None
    weights: str | None
    seed: int

    def __post_init__(self) -> None:
        check_samples(self.samples)
        at_least(1, rows=self.rows)
        at_least(0, seed=self.seed)
        if self.data == "":  # as of a variable of the shell that is not set
            raise ConfigError("--data is empty: name the data, or leave --data out for the run's own")

    @property
    def opened(self) -> TrainedRun:
        return self._placed[0]

    @cached_property
    def dataset(self) -> Dataset:
        """The run's own data."""
        return self._given or reopen(self.opened)

    @cached_property
    def is_own(self) -> bool:
        """Whether it is the run's own data that is measured on, wherever that lies now."""
        return self.data is None or self._given is not None

    @cached_property
    def _given(self) -> Dataset | None:
        """The run's own data, where that is what was given; None for other data."""
        if self.data is None:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what is to be said of other data is said when it is read as such
                return reopen(self.opened, self.data)
        except VaekitError:
            return None

    @cached_property
    def held(self) -> Rows | StreamedRows:
        """The rows to measure on."""
        rows = getattr(self.dataset, self.split) if self.is_own else open_rows(self.opened, self.data)
        rows = rows.to(self.device)
        return rows if self.rows is None else rows.take(self.rows)

    @cached_property
    def train(self) -> Rows | StreamedRows:
        """The rows that the model was trained on."""
        return self.dataset.train.to(self.device)

    @property
    def device(self) -> torch.device:
        return self._placed[1]

    @cached_property
    def _placed(self) -> tuple[TrainedRun, torch.device]:
        return open_on_device(self.folder, self.weights)

    @property
    def on_training_rows(self) -> bool:
        return self.is_own and self.split == "train"

    @property
    def told_labels(self) -> bool:
        context = self.opened.schema.context
        return context is not None and context.kind == "label"

    @property
    def facts(self) -> dict[str, Any]:
        """What was measured on, as JSON has it beside the estimates."""
        schema, log_scale = self.opened.schema, self.opened.log_scale
        facts = {
            "run": str(self.folder),
            "data": f"{self.data or schema.name}, {self.split} rows" if self.is_own else self.data,
            "protocol": schema.protocol if self.is_own else self.held.protocol,
            "provenance": list(self.opened.run.provenance),
            "rows": len(self.held),
            "samples": self.samples,
            "seed": self.seed,
            "weights": self.opened.weights,
        }
        return {**facts, "log_scale": log_scale} if log_scale else facts

    def kept(self, what: str) -> Path | None:
        """A folder in the run's for what is done of something, from which the same command goes on if it was stopped.

        None for other data than the run's own, which may change, and where nothing can be written.
        """
        if self.data is not None or not os.access(self.folder, os.W_OK):
            return None
        facts = {**self.facts, "run": "", "version": __version__, "model": str(self.opened.run.model)}
        known = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{what}-{known[:12]}"

    @contextmanager
    def keeping(self, what: str) -> Iterator[Path | None]:
        """`kept` until what is done within is finished."""
        folder = self.kept(what)
        try:
            yield folder
        except KeyboardInterrupt:
            if folder is None:
                raise
            raise KeyboardInterrupt("interrupted; the same command goes on from there") from None
        if folder is not None and World.join().leads:
            try:
                shutil.rmtree(folder)
            except FileNotFoundError:
                pass  # nothing was kept
            except OSError as error:
                warnings.warn(f"{folder} holds what is finished and could not be removed: {error}", stacklevel=2)


def open_on_device(folder: Path, weights: str | None) -> tuple[TrainedRun, torch.device]:
    """A run and the device that its model is now on."""
    opened = open_run(folder, weights)
    use_gpu = torch.cuda.is_available() and opened.run.train.device != "cpu"
    device = torch.device(f"cuda:{World.join().local}" if use_gpu else "cpu")
    opened.model.to(device).requires_grad_(False)
    return opened, device


def alone(verb: str) -> None:
    """Refuse several processes."""
    size = World.join().size
    if size > 1:
        raise ConfigError(f"`vaekit {verb}` works in one process, and torchrun has started {size}: leave torchrun out")


def check_samples(samples: int) -> None:
    """Refuse a K that is no number of samples, or that no memory holds the weights of."""
    at_least(1, samples=samples)
    if samples > MOST_SAMPLES:
        raise ConfigError(f"--samples is {samples}: it should be at most {MOST_SAMPLES}")
    needed, free = samples * BYTES_PER_SAMPLE, free_bytes()
    if needed > free:
        raise ConfigError(
            f"--samples is {samples}: the weights of a block of rows take {in_gb(needed)}, and {in_gb(free)} are free: "
            f"at most {int(free // BYTES_PER_SAMPLE):,} fit"
        )


def at_least(least: int, **numbers: int | None) -> None:
    """Refuse options, by name, that are smaller."""
    for name, number in numbers.items():
        if number is not None and number < least:
            raise ConfigError(f"--{name} is {number}: it should be at least {least}")
