"""More epochs for a run that has ended or was stopped."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vaekit.errors import ConfigError
from vaekit.processes import World
from vaekit.runs.config import make_run, override_in_order, to_tree, to_yaml
from vaekit.runs.trained_run import read_run
from vaekit.runs.training_run import TrainingRun, check_apart_from_data
from vaekit.runs.tree import Run, naming_settings
from vaekit.training import RunFolder, pack
from vaekit.words import counted

FREE = ("epochs", "budget", "patience", "log_every", "save_every")  # settings of train that an extension may change
OVER_THE_LENGTH = ("warmup", "cyclical", "cosine", "anneal", "switch")  # kinds that are computed for a number of steps


def extend(folder: str | Path, settings: Sequence[str], run_dir: str | Path | None = None) -> TrainingRun:
    """A run that goes on, from the whole state of its training, to more epochs than its settings said.

    Without schedules over the length of training, what follows is bitwise what a run of so many epochs would have had
    from the start, as with `TrainingRun.resume`. Schedules over the length were computed for the former
    number of epochs up to here, and are for the new one from here on. The run's provenance says which of the two it is.

    Args:
        folder: Of the run.
        settings: `train.epochs=N`, and any of train.patience, train.log_every and train.save_every.
        run_dir: A new folder for the extended run; without it, the run is extended where it is.

    Raises:
        ConfigError: Other settings, or no more epochs than before.
        ModelFileError, DataError: as `TrainingRun.resume`.
    """
    home, leads = RunFolder(folder), World.join().leads
    read_run(home)  # refuses what is no run folder before it is locked
    if leads:
        home.hold()  # from here to the end of training, so that no two extend one run
    try:
        return _extend(home, settings, run_dir, leads)
    except BaseException:
        home.release()
        raise


def _extend(home: RunFolder, settings: Sequence[str], run_dir: str | Path | None, leads: bool) -> TrainingRun:
    training = TrainingRun.resume(home.path)
    run, at = _extended(training, settings), training.state.at
    before, after = training.run.train.epochs, run.train.epochs
    if training.run.train.budget is not None:
        before = at.epoch
        run = run.model_copy(update={"train": replace(run.train, budget=None)})
    said = f"extended from {before} to {after} epochs after epoch {at.epoch}, step {at.step}"
    if stretched := list(_over_the_length(to_tree(training.run))):
        said += (
            f": {', '.join(stretched)} computed for {counted(before or 0, 'epoch')} up to there and for {after} "
            f"from there on, so the result is not that of {after} epochs from the start"
        )
    run = run.model_copy(update={"provenance": (*run.provenance, said), "run_dir": str(run_dir or home.path)})
    check_apart_from_data(run)
    files = pack(training.state) if run_dir else {}
    if leads and run_dir:
        copy = _copy(home, run_dir, at.step, files)
        home.release()
        home = copy
    if leads:
        home.write("run.yaml", to_yaml(run).encode())
    return replace(training, run=run, folder=home if leads else None)


def _extended(training: TrainingRun, settings: Sequence[str]) -> Run:
    """The settings of the longer run."""
    old = to_tree(training.run)
    run = make_run(override_in_order(old, settings)).model_copy(update={"run_dir": training.run.run_dir})
    kept = replace(run.train, **{name: getattr(training.run.train, name) for name in FREE})
    if run.model_copy(update={"train": kept}) != training.run or run.train.budget != training.run.train.budget:
        raise ConfigError(
            f"--extend goes on with the settings that the run has, and among {', '.join(settings)} are others than "
            "train.epochs and train.patience: leave them out, or start a new run from its weights by --from",
            field="settings",
            value=list(settings),
        )
    epochs, at = run.train.epochs, training.state.at
    done = at.epoch if training.run.train.budget is not None else training.run.train.epochs
    assert epochs is not None
    assert done is not None
    if epochs <= done:
        raise ConfigError(
            f"train.epochs is {epochs}, and {training.run.run_dir} has {done} already: to extend it, give more, as in "
            f"train.epochs={2 * done}",
            field="train.epochs",
            value=epochs,
        )
    patience = training.run.train.patience
    if patience is not None and run.train.patience == patience and at.epoch - at.best_epoch >= patience:
        raise ConfigError(
            f"{training.run.run_dir} was stopped by train.patience={patience} after epoch {at.epoch}: to extend it, "
            "give a larger one, or train.patience=null, too",
            field="train.patience",
            value=patience,
        )
    return run


def _over_the_length(tree: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """The paths of settings that are computed for a number of steps."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            if value.get("kind") in OVER_THE_LENGTH:
                yield above + name
            yield from _over_the_length(value, f"{above}{name}.")


def _copy(folder: RunFolder, to: str | Path, step: int, files: Mapping[str, bytes]) -> RunFolder:
    """A new run folder with what the one before has; but for run.yaml, which makes it one."""
    with naming_settings():
        new = RunFolder.create(to)
    for name in ("environment.json", "data.json", "metrics.jsonl"):
        if (folder.path / name).exists():
            new.write(name, folder.read(name).encode())
    new.checkpoints.save(step, files)
    return new
