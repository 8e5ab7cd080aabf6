"""A run at work: build its parts, train them, keep its folder."""

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from vaekit.data import Dataset, Schema, names
from vaekit.errors import ConfigError, DataError, ModelFileError, VaekitError
from vaekit.evaluation import fingerprint
from vaekit.files import is_within
from vaekit.models import VAE, HierarchicalVAE
from vaekit.models.distributions import check_values
from vaekit.processes import World
from vaekit.randomness import Purpose, new_generator
from vaekit.registry import origins
from vaekit.runs.config import to_yaml
from vaekit.runs.factory import (
    build_discriminator,
    build_model,
    choose_device,
    initialise_from_data,
    log_scale_of,
    open_data,
)
from vaekit.runs.initialise import inherit
from vaekit.runs.memory import check_memory
from vaekit.runs.preflight import foreseen
from vaekit.runs.trained_run import ROWS_AT_A_TIME, check_same, read_run, rebuilt, same_data
from vaekit.runs.tree import Run, finding_in_settings, in_settings, naming_settings
from vaekit.runs.validation import check_objective
from vaekit.runs.writer import SAVE_SECONDS, RunWriter
from vaekit.training import Event, RunFolder, State, Step, environment, train_model, unpack, wanted


@dataclass(frozen=True)
class TrainingRun:
    """A run with its parts built and its folder made: iterate `events()` to train."""

    run: Run
    data: Dataset
    model: VAE | HierarchicalVAE
    state: State
    folder: RunFolder | None  # none where nothing is kept, and at all processes but the leading one
    notice: str = ""

    @classmethod
    def start(cls, run: Run, above: Path | None = None, data: Any = None) -> "TrainingRun":
        """Open the data, build the model, make the folder. Everything that can be refused is refused here.

        above: where `run.run_dir` is not set, the folder in which the next free one of NAME-1, NAME-2, ... is taken.
        data: rows in memory in place of `run.data.source`; such a run cannot be resumed.
        """
        world = World.join()
        device = choose_device(run.train.device, world.local)
        run, data = open_data(run, data)
        check_same_at_all(world, run, data.schema)
        check_apart_from_data(run, above)
        check_memory(run, data.schema)
        model = build_model(run, data.schema)
        check_memory(run, data.schema, model)
        check_objective(run, model, data, build_discriminator(run, data.schema))
        run = inherit(run, model)
        folder = None
        if world.leads and run.run_dir:
            with naming_settings():
                folder = RunFolder.create(run.run_dir)
        elif world.leads and above:
            folder = RunFolder.create_next(above, run.name)
        if above and not run.run_dir:
            run = run.model_copy(update={"run_dir": world.agree(folder and str(folder.path))})
        try:
            if folder:
                about = {"device": str(device), "processes": world.size, "parts": origins(run)}
                folder.write_json("environment.json", environment() | about)
                folder.write("data.json", data.schema.to_json().encode())
                folder.write("run.yaml", to_yaml(run).encode())  # last: from here on it is a run, which can be resumed
            if run.initialise_from is None:
                initialise_from_data(model, data, run)
            return cls._assemble(run, data, model.to(device), folder, world)
        except BaseException as error:
            if folder:
                folder.end(f"failed before step 1: {str(error) or type(error).__name__}")
            raise

    @classmethod
    def of(cls, run: Run, data: Dataset, model: VAE | HierarchicalVAE) -> "TrainingRun":
        """A training of modules of one's own, which writes no folder.

        Args:
            run: The settings of training; its model is not read.
            data: In memory.
            model: It is trained in place, on the device of `run.train.device`.

        Raises:
            ValueError: The objective does not go with the model, or the model with the data.
        """
        world = World.join()
        run = run.model_copy(update={"train": run.train.of_rows(len(data.train))})
        check_same(world, "data", data.schema.fingerprint, DataError)
        check_same(world, "weights", fingerprint(model), ModelFileError)
        model.cpu().eval()
        with torch.no_grad():
            draw = model.draw(**data.train.inputs(slice(0, 1)), generator=new_generator(run.seed, Purpose.TRIAL))
        for part in (data.train, data.valid):
            for start in range(0, len(part), ROWS_AT_A_TIME):
                index = slice(start, start + ROWS_AT_A_TIME)
                check_values(draw.px, part.batch(index), part.mask_of(index))
        size = sum(latent.z[0, 0].numel() for latent in draw.latents)
        check_objective(run, model, data, build_discriminator(run, data.schema, size))
        model.to(choose_device(run.train.device, world.local))
        return cls._assemble(run, data, model, None, world, size)

    @classmethod
    def resume(cls, run_folder: str | Path) -> "TrainingRun":
        """A run that was stopped, ready to go on from its newest checkpoint as if it never had been.

        The numbers that follow are bitwise those of a run without a stop on the same device, with as many threads and
        processes; otherwise they are close, and `notice` says so.

        Raises:
            ModelFileError: The folder is not a run's, or none of its checkpoints can be used.
            DataError: Its data is gone, or has changed.
        """
        world = World.join()
        folder = RunFolder(run_folder)
        run, schema = read_run(folder)
        run = run.model_copy(update={"run_dir": str(run_folder)})
        device = choose_device(run.train.device, world.local)
        model = rebuilt(folder, run, schema, training=True)
        data = same_data(run, schema, folder)
        check_same_at_all(world, run, data.schema)
        begun = folder.checkpoints.any()
        if not begun and folder.history():
            raise ModelFileError(
                f"{folder.path} has a history but no checkpoint, so it cannot go on: put its checkpoints back, or "
                "start a new run"
            )
        if not begun and run.initialise_from is None:
            initialise_from_data(model, data, run)
        elif not begun and inherit(run, model).provenance != run.provenance:
            raise ModelFileError(
                f"the weights of {run.initialise_from} have changed since {folder.path} was begun",
                field="initialise_from",
                value=run.initialise_from,
            )
        training = cls._assemble(run, data, model.to(device), folder if world.leads else None, world)
        if not begun:
            return training
        checkpoint = folder.checkpoints.newest(wanted(training.state))
        return replace(training, notice=unpack(checkpoint, training.state, run.train.batch_size))

    @classmethod
    def _assemble(
        cls,
        run: Run,
        data: Dataset,
        model: VAE | HierarchicalVAE,
        folder: RunFolder | None,
        world: World,
        size: int | None = None,
    ) -> "TrainingRun":
        device = next(model.parameters()).device
        data = Dataset(data.schema, data.train.to(device), data.valid.to(device), data.test.to(device))
        discriminator = build_discriminator(run, data.schema, size)
        discriminator = None if discriminator is None else discriminator.to(device)
        model.scaling = data.schema.scaling
        with naming_settings():
            state = State(Step(model, run.objective, len(data.train), world, discriminator), run.train)
        return cls(run, data, cast(VAE | HierarchicalVAE, state.twin or model), state, folder)

    @property
    def log_scale(self) -> float:
        """By how much its metrics, which are of x as the model sees it, are above those of rows as they are stored."""
        return log_scale_of(self.run, self.data.schema)

    def stop(self) -> None:
        """Ask training to end after the step that it is in; safe to call from a signal handler."""
        self.state.stop_requested = True

    def events(
        self, clock: Callable[[], float] = time.perf_counter, save_seconds: float = SAVE_SECONDS
    ) -> Generator[Event, None, None]:
        """Train, yielding events. Ended early, by `stop` or by closing the iterator, it can be resumed.

        Args:
            clock: The time in seconds, by which a time budget is kept and speeds are measured.
            save_seconds: Between checkpoints, where `train.save_every` does not say after how many steps.

        Raises:
            Diverged: A number that training needs was not finite, again and again.
            VaekitError: Another process trains into the folder, or checkpoints cannot be written.
        """
        if self.state.status == "finished":
            raise VaekitError(
                "this run has been trained already: start a new one, or use TrainingRun.resume on its folder"
            )
        run, data, writer = self.run, self.data, RunWriter(self.folder, self.state, self.run, save_seconds)
        with self.folder.lock() if self.folder else nullcontext():
            if self.folder:
                self.folder.checkpoints.tidy(wanted(self.state))
            try:
                yield from writer.follow(
                    _naming_settings(train_model(self.state, data.train, data.valid, run.train, run.seed, clock)),
                    self.notice,
                    foreseen(run, data),
                )
            finally:
                writer.load_weights(self.model)


def _naming_settings(events: Iterator[Event]) -> Iterator[Event]:
    """The events, whose messages and findings, like the errors, name settings; see `in_settings`."""
    with naming_settings():
        for event in events:
            finding = None if event.finding is None else finding_in_settings(event.finding)
            yield replace(event, message=in_settings(event.message), finding=finding)


def train(run: Run) -> Iterator[Event]:
    """Train a run: an iterator of events, which the caller may stop reading at any time.

    With `run.run_dir` set, everything is written there. Settings are checked when the first event is drawn.

    Raises:
        ConfigError, DataError: the run cannot be built.
        Diverged: A number that training needs was not finite, again and again.
    """
    yield from TrainingRun.start(run).events()


def check_same_at_all(world: World, run: Run, schema: Schema) -> None:
    """Refuse, at every process, a run whose processes do not work on the same data with the same settings."""
    anywhere = run.model_copy(update={"data": replace(run.data, source=None)})  # which may be another path there
    check_same(world, "data", schema.fingerprint, DataError)
    check_same(world, "settings", to_yaml(anywhere), ConfigError)


def check_apart_from_data(run: Run, above: Path | None = None) -> None:
    """Refuse a run folder within a folder of data, whose pictures would be data the next time."""
    place, source = run.run_dir or above, run.data.source
    if place and source and source not in names() and is_within(place, os.path.expanduser(source)):
        raise ConfigError(
            f"the run folder would lie in the data {source}: give another run_dir (the option --run-dir), outside of "
            "it",
            field="run_dir",
            value=str(place),
        )


@contextmanager
def stop_signals(training: TrainingRun) -> Iterator[list[int]]:
    """Stop training cleanly at the first SIGINT, SIGTERM or SIGHUP, which is listed.

    A second SIGINT acts at once. Where SIGHUP was ignored before, as under nohup, it still is.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def receive(number: int, frame: object) -> None:
        received.append(number)
        training.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers += [signal.SIGHUP]
    before = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
