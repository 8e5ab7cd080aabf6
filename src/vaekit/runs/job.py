"""A run at work and a run at rest: train, fit, load."""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vaekit.data import Dataset, Rows, Schema, read_like
from vaekit.errors import ConfigError, DataError, ModelFileError, VaekitError
from vaekit.models import VAE
from vaekit.runs.build import build_model, check_memory, choose_device, open_data, start_from_data
from vaekit.runs.config import make_run, parse_yaml, to_yaml
from vaekit.runs.tree import Run
from vaekit.training import Event, RunFolder, State, environment, train_model

SAVE_SECONDS = 60


@dataclass(frozen=True)
class Job:
    """A run with its parts built and its folder made: iterate `events()` to train."""

    run: Run
    data: Dataset
    model: VAE
    folder: RunFolder | None

    @classmethod
    def start(cls, run: Run) -> "Job":
        """Open the data, build the model, make the folder. Everything that can be refused is refused here."""
        device = choose_device(run.train.device)
        run, data = open_data(run)
        check_memory(run, data.schema)
        model = build_model(run, data.schema)
        folder = RunFolder.create(run.run_dir) if run.run_dir else None
        if folder:
            folder.write("run.yaml", to_yaml(run).encode())
            folder.write_json("environment.json", environment() | {"device": str(device)})
            folder.write("data.json", data.schema.to_json().encode())
        if run.model.bias_start:
            start_from_data(model, data, run.seed)
        data = Dataset(data.schema, data.train.to(device), data.valid.to(device), data.test.to(device))
        return cls(run, data, model.to(device), folder)

    def events(self) -> Generator[Event, None, None]:
        """Train, yielding events. Stopped early by the caller or by Ctrl-C, the weights so far are kept."""
        run, state, saved = self.run, State(), time.monotonic()
        status = "running"
        self._status(status)
        try:
            for event in train_model(
                self.model, run.objective, self.data.train, self.data.valid, run.train, run.seed, state
            ):
                if event.kind == "epoch" and self.folder:
                    self.folder.log({"epoch": event.epoch, "step": event.step, **event.metrics})
                    if time.monotonic() - saved > SAVE_SECONDS:
                        self._save(state)
                        saved = time.monotonic()
                yield event
            status = "finished"
        except (GeneratorExit, KeyboardInterrupt):
            status = f"interrupted at step {state.step}"
            raise
        except BaseException as error:
            status = f"failed at step {state.step}: {error}"
            raise
        finally:
            self._save(state)
            self._status(status)
            if run.train.weights == "best" and state.best_weights:
                self.model.load_state_dict(state.best_weights)

    def _save(self, state: State) -> None:
        if self.folder is None:
            return
        try:
            about = {"step": str(state.step), "epoch": str(state.epoch), "best_epoch": str(state.best_epoch)}
            last = self.model.state_dict()
            if all(bool(value.isfinite().all()) for value in last.values()):
                self.folder.save_weights("last", last, about)
            if state.best_weights:
                about = {"epoch": str(state.best_epoch), "valid_elbo": repr(state.best_elbo)}
                self.folder.save_weights("best", state.best_weights, about)
        except OSError as error:
            raise VaekitError(f"cannot save weights into {self.folder.path}: {error.strerror}") from None

    def _status(self, status: str) -> None:
        if self.folder:
            self.folder.write("STATUS", f"{status}\n".encode())


def train(run: Run) -> Iterator[Event]:
    """Train a run: an iterator of events, which the caller may stop reading at any time.

    With `run.run_dir` set, everything is written there. Settings are checked when the first event is asked for.

    Raises:
        ConfigError, DataError: the run cannot be built.
        Diverged: the loss became something that is not finite.
    """
    yield from Job.start(run).events()


def fit(run: Run) -> VAE:
    """Train a run to its end and return the model, with the weights that `train.weights` asks for."""
    job = Job.start(run)
    for _ in job.events():
        pass
    return job.model.eval()


@dataclass(frozen=True)
class Opened:
    """A trained run: its settings, what it knows of its data, its model in evaluation mode, its folder."""

    run: Run
    schema: Schema
    model: VAE
    folder: RunFolder
    weights: dict[str, str]  # which they are, and their metadata


def open_run(folder: str | Path, weights: str | None = None) -> Opened:
    """Read a run folder. `weights` is best or last; by default what the run's settings say.

    Raises:
        ModelFileError: the folder is not a run's, or its files are damaged or do not belong together.
    """
    home = RunFolder(folder)
    text = home.read("run.yaml")
    try:
        run = make_run(parse_yaml(text, str(home.path / "run.yaml")))
        schema = Schema.from_json(home.read("data.json"))
        model = build_model(run, schema)
    except ConfigError as error:
        raise ModelFileError(f"{home.path} does not describe a model that this version can build: {error}") from None
    wanted = weights or run.train.weights
    tensors, metadata = _read_weights(home, wanted, asked=weights is not None)
    _check_match(home, model.state_dict(), tensors)
    model.load_state_dict(tensors)
    return Opened(run, schema, model.eval(), home, metadata)


def load(run_folder: str | Path, weights: str | None = None) -> VAE:
    """The trained model of a run folder, in evaluation mode, on the CPU. See `open_run`."""
    return open_run(run_folder, weights).model


def _read_weights(home: RunFolder, wanted: str, asked: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A run that stopped before its first validation has no best weights: then the last stand in, unless asked for."""
    best = home.path / "checkpoints" / "best.safetensors"
    if wanted == "best" and not asked and not best.exists():
        tensors, metadata = home.load_weights("last")
        if metadata.get("best_epoch") == "0":
            return tensors, {"weights": "last", **metadata}
    tensors, metadata = home.load_weights(wanted)
    return tensors, {"weights": wanted, **metadata}


def _check_match(home: RunFolder, model: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    for name in sorted(model.keys() | tensors.keys()):
        ours, theirs = (t[name].shape if name in t else None for t in (model, tensors))
        if ours != theirs:
            raise ModelFileError(
                f"the weights in {home.path} are of another model: {name} is {theirs and tuple(theirs)} there, and "
                f"{ours and tuple(ours)} by run.yaml"
            )


def reopen(opened: Opened) -> Dataset:
    """The data that a run was trained on, split and scaled as then.

    Raises:
        DataError: it is gone, or has changed.
    """
    run = opened.run
    try:
        _, data = open_data(run)
    except DataError as error:
        what = f"the data of {opened.folder.path} cannot be opened, so give other data by name"
        raise DataError(f"{what}: {error}") from None
    if data.schema.fingerprint != opened.schema.fingerprint:
        raise DataError(
            f"{run.data.source} has changed since {opened.folder.path} was trained: its fingerprint is "
            f"{data.schema.fingerprint[:12]}, and was {opened.schema.fingerprint[:12]}; put the old data back, or give "
            "other data by name"
        )
    return data


def open_rows(opened: Opened, source: str | None = None) -> Rows:
    """The run's test rows, or all rows of another source, scaled as the run's data was."""
    return reopen(opened).test if source is None else read_like(source, opened.run.data, opened.schema)
