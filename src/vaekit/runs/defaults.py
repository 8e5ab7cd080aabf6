"""What settings that are left open become, by the data: the one place that decides it."""

from dataclasses import replace

from vaekit.data import Dataset, Schema
from vaekit.data.schema import Levels, Support
from vaekit.models import (
    Bernoulli,
    CalibratedGaussian,
    Categorical,
    Columns,
    ContinuousBernoulli,
    Conv,
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
LEAST_SIDE = 16  # pixels of a picture, below which convolutions have nothing to share


def with_defaults(run: Run, data: Dataset) -> Run:
    """The run with every setting that it leaves open: its likelihood, networks and number of epochs.

    Args:
        run: Its settings.
        data: Its data.
    """
    schema, model = data.schema, run.model
    if model.likelihood is None:
        model = replace(model, likelihood=default_likelihood(schema.support, schema.kind))
    if isinstance(model, ModelSpec):
        network = default_network(schema)
        model = replace(model, encoder=model.encoder or network, decoder=model.decoder or network)
    train = run.train.of_rows(len(data.train))
    if run.data.valid_fraction == 0:  # training rows are no judges of when to stop, and of what to keep
        train = replace(train, patience=None, weights="last")
    return run.model_copy(update={"model": model, "train": train})


def default_likelihood(support: Support, kind: str) -> Likelihood:
    """The family that fits values of a support.

    Args:
        support: Of the data.
        kind: `image`, `table`, `sequence` or `volume`.
    """
    if support.kind == "binary":
        return Bernoulli()
    if isinstance(support, Levels) and support.count <= MOST_LEVELS:
        return Categorical(support.count)
    if isinstance(support, Levels) and kind == "image" and support.count <= MOST_LEVELS_OF_A_MIXTURE:
        return LogisticMixture(support.count, COMPONENTS)
    if support.kind == "mixed":
        return Columns()
    if support.kind == "count":
        return NegativeBinomial()
    if support.kind in ("levels", "unit"):
        return ContinuousBernoulli()
    return CalibratedGaussian(per_dimension=kind == "table")


def default_network(schema: Schema) -> Network:
    """The encoder's network, and the decoder's: convolutions over pictures, else fully connected layers.

    Args:
        schema: Of the data.
    """
    if schema.kind == "image" and min(schema.shape[1:]) >= LEAST_SIDE:
        return Conv(channels=(32, 64, 128) if min(schema.shape[1:]) >= 2 * LEAST_SIDE else (32, 64))
    return Mlp((256, 256)) if schema.kind == "table" else Mlp()
