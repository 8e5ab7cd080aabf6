"""A run at rest: its folder read back, its model, its data."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vaekit.data import Dataset, Rows, Schema, StreamedRows, read_like
from vaekit.errors import ConfigError, DataError, ModelFileError
from vaekit.models import VAE, Ladder
from vaekit.models.families import Shape
from vaekit.runs.build import build_model, open_data
from vaekit.runs.config import make_run, parse_yaml
from vaekit.runs.tree import Run
from vaekit.training import Checkpoint, RunFolder, read_weights


@dataclass(frozen=True)
class Opened:
    """A trained run: its settings, what it knows of its data, its model in evaluation mode, its folder."""

    run: Run
    schema: Schema
    model: VAE | Ladder
    folder: RunFolder
    weights: dict[str, str]  # which they are, and their metadata

    def context(self, rows: int) -> Tensor | None:
        """A context of zeros, (rows, width), to try the model with; None where it takes none."""
        return None if self.schema.context is None else torch.zeros(rows, len(self.schema.context.names))

    @property
    def latent_shapes(self) -> tuple[Shape, ...]:
        """The shape of z of each group."""
        with torch.no_grad():
            code = self.model.encode(torch.zeros(1, *self.schema.shape), self.context(1))
        return tuple(tuple(q.event_shape) for q in code.posteriors)


def open_run(folder: str | Path, weights: str | None = None) -> Opened:
    """Read a run folder. `weights` is best or last; by default what the run's settings say.

    Raises:
        ModelFileError: the folder is not a run's, or its files are damaged or do not belong together.
    """
    home = RunFolder(folder)
    run, schema = read_run(home)
    try:
        model = build_model(run, schema)
    except ConfigError as error:
        raise _cannot_build(home, error) from None
    tensors, metadata = _read_weights(home, weights or run.train.weights, asked=weights is not None)
    _check_match(home, model.state_dict(), tensors)
    model.load_state_dict(tensors)
    return Opened(run, schema, model.eval(), home, metadata)


def read_run(home: RunFolder) -> tuple[Run, Schema]:
    """The settings of a run folder, and what it knows of its data."""
    try:
        run = make_run(parse_yaml(home.read("run.yaml"), str(home.path / "run.yaml")))
    except ConfigError as error:
        raise _cannot_build(home, error) from None
    text = home.read("data.json")
    try:
        return run, Schema.from_json(text)
    except ModelFileError as error:
        raise ModelFileError(f"{home.path / 'data.json'}: {error}; train again, or give another run") from None


def _cannot_build(home: RunFolder, error: ConfigError) -> ModelFileError:
    why = "; ".join(str(error).splitlines())
    return ModelFileError(f"{home.path} does not describe a model that this version can build: {why}")


def load(run_folder: str | Path, weights: str | None = None) -> VAE | Ladder:
    """The trained model of a run folder, in evaluation mode, on the CPU. See `open_run`."""
    return open_run(run_folder, weights).model


def _read_weights(home: RunFolder, wanted: str, asked: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A run that stopped before its first validation has no best weights: then the last stand in, unless asked for."""
    checkpoint: Checkpoint = home.checkpoints.newest(trained=True)
    if wanted == "best" and not asked and "best.safetensors" not in checkpoint.files:
        wanted = "last"
    tensors, metadata = read_weights(checkpoint, wanted)
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
    return same_data(opened.run, opened.schema, opened.folder)


def same_data(run: Run, schema: Schema, folder: RunFolder) -> Dataset:
    """The data of a run, which must be what it was: see `reopen`."""
    try:
        _, data = open_data(run)
    except DataError as error:
        what = f"the data of {folder.path} cannot be opened, so give other data by name"
        raise DataError(f"{what}: {error}") from None
    if data.schema.fingerprint != schema.fingerprint:
        raise DataError(
            f"{run.data.source} has changed since {folder.path} was trained: its fingerprint is "
            f"{data.schema.fingerprint[:12]}, and was {schema.fingerprint[:12]}; put the old data back, or give "
            "other data by name"
        )
    return data


def open_rows(opened: Opened, source: str | None = None) -> Rows | StreamedRows:
    """The run's test rows, or all rows of another source, scaled as the run's data was."""
    run = opened.run
    return reopen(opened).test if source is None else read_like(source, run.data, opened.schema, run.limit)
