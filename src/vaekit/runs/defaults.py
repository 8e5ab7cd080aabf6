"""What settings that are left open become, by the data: the one place that decides it."""

from dataclasses import replace

from vaekit.data import Dataset, Schema
from vaekit.data.schema import Levels, Support
from vaekit.models import (
    Bernoulli,
    CalibratedGaussian,
    CalibratedStudentT,
    Categorical,
    Columns,
    ContinuousBernoulli,
    Conv,
    CountMixture,
    Likelihood,
    LogisticMixture,
    Mlp,
    NegativeBinomial,
    Network,
)
from vaekit.runs.tree import ModelSpec, Run

MOST_LEVELS = 64  # with more, a softmax for each value is wasteful, and neighbouring levels are nearly alike
MOST_LEVELS_OF_A_MIXTURE = 256  # with 65,536, it takes gigabytes to start a mixture at every pixel
COMPONENTS = 2  # of the mixture for each pixel: with five, a step over colours takes 1.8 times as long
FEW_ROWS = 5000  # of a table, for which a wider network has more weights than they can tell
ROWS_OF_A_COMPONENT = 20  # of a mixture of counts
LEAST_SIDE = 16  # pixels of a picture, below which convolutions have nothing to share


def with_defaults(run: Run, data: Dataset) -> Run:
    """The run with every setting that it leaves open: its likelihood, networks and number of epochs.

    Args:
        run: Its settings.
        data: Its data.
    """
    schema, model = data.schema, run.model
    if model.likelihood is None:
        model = replace(model, likelihood=default_likelihood(schema.support, schema.kind, len(data.train)))
    if isinstance(model, ModelSpec):
        network = default_network(schema, len(data.train))
        model = replace(model, encoder=model.encoder or network, decoder=model.decoder or network)
    train = run.train.of_rows(len(data.train))
    if run.data.valid_fraction == 0:  # training rows are no judges of when to stop, and of what to keep
        train = replace(train, patience=None, weights="last")
    return run.model_copy(update={"model": model, "train": train})


def default_likelihood(support: Support, kind: str, rows: int | None = None) -> Likelihood:
    """The family that fits values of a support.

    Args:
        support: Of the data.
        kind: `image`, `table`, `sequence` or `volume`.
        rows: Of training; None for many.
    """
    if support.kind == "binary":
        return Bernoulli()
    if isinstance(support, Levels) and support.count <= MOST_LEVELS:
        return Categorical(support.count)
    if isinstance(support, Levels) and kind == "image" and support.count <= MOST_LEVELS_OF_A_MIXTURE:
        return LogisticMixture(support.count, COMPONENTS)
    if support.kind == "mixed":
        counts = CountMixture()
        most = counts.components if rows is None else max(1, rows // ROWS_OF_A_COMPONENT)
        return Columns(count=replace(counts, components=min(counts.components, most)))
    if support.kind == "count":
        return NegativeBinomial()
    if support.kind in ("levels", "unit"):
        return ContinuousBernoulli()
    return CalibratedStudentT() if kind == "table" else CalibratedGaussian()


def default_network(schema: Schema, rows: int) -> Network:
    """The encoder's network, and the decoder's: convolutions over pictures, else fully connected layers.

    Those of tables have a linear layer beside them, and are small where rows are few.

    Args:
        schema: Of the data.
        rows: Of training.
    """
    if schema.kind == "image" and min(schema.shape[1:]) >= LEAST_SIDE:
        return Conv(channels=(32, 64, 128) if min(schema.shape[1:]) >= 2 * LEAST_SIDE else (32, 64))
    if schema.kind == "table":
        return Mlp((64,) if rows < FEW_ROWS else (256, 256), skip=True)
    return Mlp()
