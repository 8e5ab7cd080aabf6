"""What is evaluated: a run, the rows, and how; checked before anything is computed."""

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
from typing import Any, get_args

import torch

from vaekit import __version__, registry
from vaekit.cli.console.options import check_at_least
from vaekit.data import Dataset, Rows, StreamedRows
from vaekit.errors import ConfigError, VaekitError
from vaekit.free_memory import free_bytes, in_gb
from vaekit.processes import World
from vaekit.runs import TrainedRun, open_rows, open_run, reopen
from vaekit.samplers import Sampler
from vaekit.setting_errors import members_of, nearest

MOST_SAMPLES = 1_000_000  # K
BYTES_PER_SAMPLE = 4 * 8 * 100  # ln w of a block of rows in double precision, and what is computed from them

SAMPLERS = {member.kind: member() for member in members_of(get_args(Sampler)[0])}  # our own, with their defaults


def samplers() -> dict[str, Any]:
    """The sources of z that rows are drawn from, with their defaults, by name; those from outside vaekit come last."""
    return SAMPLERS | {kind: part() for kind in registry.kinds("samplers") if (part := registry.find("samplers", kind))}


def sampler_named(name: str) -> Any:
    """The sampler of a name, with its defaults."""
    known = samplers()
    if name not in known:
        near = nearest(name, known)
        raise ConfigError(f"--from is '{name}'{near}: it should be one of {', '.join(known)}", field="from", value=name)
    return known[name]


@dataclass(frozen=True)
class EvaluationRequest:
    """The options of `vaekit evaluate`, and what they name: the trained run, its device, the rows.

    Attributes:
        folder: Of the run.
        samples: K of the importance-weighted bound.
        data: Other data than the run's own, or where that lies now; None for the run's own.
        split: Of the run's own data.
        rows: The first so many alone; None for all.
        weights: Best or last; None for what the run's settings name.
        seed: Of the noise.
        target: The column that `--suite table` predicts; None chooses one.
        label: What the labels of the rows are; None for the run's own.
    """

    folder: Path
    samples: int
    data: str | None
    split: str
    rows: int | None
    weights: str | None
    seed: int
    target: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        check_samples(self.samples)
        check_at_least(1, rows=self.rows)
        check_at_least(0, seed=self.seed)
        if self.data == "":  # as of a variable of the shell that is not set
            raise ConfigError("--data is empty: name the data, or leave --data out for the run's own", field="data")

    @property
    def trained(self) -> TrainedRun:
        """The trained run."""
        return self._on_device[0]

    @cached_property
    def dataset(self) -> Dataset:
        """The run's own data."""
        return self._own_data or self.trained.data()

    @cached_property
    def is_own(self) -> bool:
        """Whether the rows are of the run's own data, wherever that lies now."""
        return self.data is None or self._own_data is not None

    @cached_property
    def _own_data(self) -> Dataset | None:
        """The run's own data, where that is what `data` names; None for other data."""
        if self.data is None:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # other data warns when it is read as such
                return reopen(self.trained, self.data)
        except VaekitError:
            return None

    @cached_property
    def held_out(self) -> Rows | StreamedRows:
        """The rows to evaluate on."""
        rows = getattr(self.dataset, self.split) if self.is_own else open_rows(self.trained, self.data)
        rows = rows.to(self.device)
        return rows if self.rows is None else rows.take(self.rows)

    @cached_property
    def train(self) -> Rows | StreamedRows:
        """The rows that the model was trained on."""
        return self.dataset.train.to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._on_device[1]

    @cached_property
    def _on_device(self) -> tuple[TrainedRun, torch.device]:
        trained, device = open_on_device(self.folder, self.weights)
        return (trained if self.label is None else trained.with_label(self.label)), device

    @property
    def on_training_rows(self) -> bool:
        """Whether the rows are those that the model was trained on."""
        return self.is_own and self.split == "train"

    @property
    def has_label_context(self) -> bool:
        """Whether the model is conditioned on labels."""
        context = self.trained.schema.context
        return context is not None and context.kind == "label"

    @property
    def facts(self) -> dict[str, Any]:
        """What was evaluated on what, as JSON has it beside the estimates."""
        schema, log_scale = self.trained.schema, self.trained.log_scale
        facts = {
            "run": str(self.folder),
            "data": f"{self.data or schema.name}, {self.split} rows" if self.is_own else self.data,
            "protocol": schema.protocol if self.is_own else self.held_out.protocol,
            "provenance": list(self.trained.settings.provenance),
            "rows": len(self.held_out),
            "samples": self.samples,
            "seed": self.seed,
            "weights": self.trained.weights,
        }
        return {**facts, "log_scale": log_scale} if log_scale else facts

    def results_folder(self, what: str) -> Path | None:
        """Where finished parts of a computation are kept, so that the same command resumes it if it was interrupted.

        None for other data than the run's own, which may change, and where nothing can be written.
        """
        if self.data is not None or not os.access(self.folder, os.W_OK):
            return None
        facts = {**self.facts, "run": "", "version": __version__, "model": str(self.trained.settings.model)}
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{what}-{key[:12]}"

    @contextmanager
    def resumable(self, what: str) -> Iterator[Path | None]:
        """`results_folder`, which is removed once the block has ended well."""
        folder = self.results_folder(what)
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
    """A trained run and the device that its model is now on."""
    trained = open_run(folder, weights)
    use_gpu = torch.cuda.is_available() and trained.settings.train.device != "cpu"
    device = torch.device(f"cuda:{World.join().local}" if use_gpu else "cpu")
    trained.model.to(device).requires_grad_(False)
    return trained, device


def check_samples(samples: int) -> None:
    """Refuse a K that is no number of samples, or whose weights no memory holds."""
    check_at_least(1, samples=samples)
    if samples > MOST_SAMPLES:
        raise ConfigError(
            f"--samples is {samples}: it should be at most {MOST_SAMPLES}", field="samples", value=samples
        )
    needed, free = samples * BYTES_PER_SAMPLE, free_bytes()
    if needed > free:
        raise ConfigError(
            f"--samples is {samples}: the weights of a block of rows take {in_gb(needed)}, and {in_gb(free)} are free: "
            f"at most {int(free // BYTES_PER_SAMPLE):,} fit",
            field="samples",
            value=samples,
        )
