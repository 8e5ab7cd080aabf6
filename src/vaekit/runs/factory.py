"""From settings and data to the parts of a run: its data, its model, the discriminator, initial values, the device."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from vaekit.data import Dataset, Schema, prepare
from vaekit.data.dataset import Each
from vaekit.data.rows import in_their_weights
from vaekit.data.schema import Binary, Count, Levels, Real, Support, Unit
from vaekit.data.table import Kind
from vaekit.errors import ConfigError
from vaekit.models import (
    VAE,
    Conditional,
    HierarchicalVAE,
    Likelihood,
    Log1p,
    Rescale,
)
from vaekit.models.building import BuildContext, FieldEvent, code_space_of
from vaekit.models.likelihoods.initialisation import without_gaps
from vaekit.models.networks.columns import ColumnsAsNumbers, WithMask
from vaekit.models.networks.context import with_context
from vaekit.models.networks.convolutional import with_weights_channels_last
from vaekit.models.networks.inputs import CellDropout, InputDropout, Log1pOfShares, UnitLength
from vaekit.models.networks.units import SharedScale, Units
from vaekit.models.protocols import (
    InitialisedFromEncodings,
    InitialisedFromInputs,
    Measured,
    MeasuredHead,
    OverFields,
)
from vaekit.models.size_factor import SizeFactor
from vaekit.objectives import Penalised
from vaekit.randomness import Purpose, new_generator
from vaekit.runs.defaults import default_likelihood, with_defaults
from vaekit.runs.tree import HierarchicalSpec, ModelSpec, Run, naming_settings
from vaekit.runs.validation import check_enumerable_latents, check_likelihood, check_parts

ROWS_TO_INITIALISE_FROM = 10_000

# Which values of a row have one scale: each column of a table is a quantity of its own, as is each channel of a
# sequence or a volume; the pixels of an image are all of one kind.
_SHARED_SCALE: dict[str, SharedScale] = {
    "table": "none",
    "image": "event",
    "sequence": "channel",
    "volume": "channel",
}


def open_data(run: Run, data: Any = None) -> tuple[Run, Dataset]:
    """Open the data of a run, and choose by it what was left open; see `vaekit.runs.defaults`.

    Args:
        run: Its settings.
        data: Rows in memory, as `vaekit.data.prepare` takes them, in place of the data that the settings name.

    Returns:
        The run with nothing left open, and its data.

    Raises:
        ConfigError: There is no data, or the likelihood does not fit it.
        DataError: The data cannot be read.
    """
    if run.data.source is None and data is None:
        raise ConfigError(
            "no data: name a set or a path, as in `vaekit train digits`, or set data.source", field="data.source"
        )
    family = run.model.likelihood
    with naming_settings():
        discrete = _default_is_discrete if family is None else family.integers
        sized = family is not None and family.needs_size
        by_column = _by_column(family)
        shares = family is not None and family.ties_cells((2,))
        found = prepare(
            run.data, run.limit, discrete=discrete, by_column=by_column, sized=sized, shares=shares, data=data
        )
    run = with_defaults(run, found)
    assert run.model.likelihood is not None
    check_likelihood(run.model.likelihood, found.schema)
    return run, found


def _by_column(family: Likelihood | None) -> Each:
    """Whether each column of a table has a likelihood of its own: as the data shows, unless a family is set."""
    if family is None:
        return "auto"
    return "always" if "mixed" in family.accepts else "never"


def _default_is_discrete(stored: Support, kind: Kind) -> bool:
    """Whether the default likelihood of values as they are stored takes them unscaled: so no data is read twice."""
    return stored.kind in default_likelihood(stored, kind).accepts


def log_scale_of(run: Run, schema: Schema) -> float:
    """By how much a log-density of x exceeds that of the row as it is stored.

    Args:
        run: Its settings, with a likelihood.
        schema: Of its data.

    Returns:
        The logarithm of the scale, in nats; 0 where p(x|z) is no density.
    """
    return 0.0 if getattr(run.model.likelihood, "is_score", False) else schema.log_scale


def build_model(run: Run, schema: Schema) -> VAE | HierarchicalVAE:
    """Build the untrained model of a run, on the CPU; its weights are a function of run.seed alone.

    Args:
        run: Its settings, with a likelihood.
        schema: Of its data.

    Raises:
        ConfigError: The parts do not fit one another or the data.
    """
    generator = new_generator(run.seed, Purpose.WEIGHTS)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(generator.initial_seed())
        model = assemble(run, schema)
    return with_weights_channels_last(model)


def build_discriminator(run: Run, schema: Schema, size: int | None = None) -> nn.Module | None:
    """Build the untrained discriminator of a run's objective; None where it has none.

    Args:
        run: Its settings.
        schema: Of its data.
        size: Of z, flat; by default as the run's settings say.

    Raises:
        ConfigError: The objective does not go with the model.
    """
    if not isinstance(run.objective, Penalised):
        return None
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(new_generator(run.seed, Purpose.DISCRIMINATOR).initial_seed())
        try:
            if size is None:
                assert isinstance(run.model, ModelSpec)  # the table has no penalties with several groups of latents
                size = math.prod(run.model.posterior.z_shape(run.model.latent))
            return run.objective.build(BuildContext(tuple(schema.shape), event_shape=(size,)))
        except ValueError as error:
            raise ConfigError(f"objective: {error}", field="objective", value=run.objective) from None


def initialise_from_data(model: VAE | HierarchicalVAE, data: Dataset, run: Run) -> None:
    """Initialise what is best initialised from training rows.

    These are the units of the data, with `model.bias_start` the decoder's output bias at the best fit without latents,
    a vamp prior's pseudo-inputs at some rows, and code vectors at what the encoder makes of some.

    Args:
        model: Changed in place.
        data: Whose training rows are read.
        run: Its settings.
    """
    posterior, prior, likelihood = model.posterior, model.prior, model.likelihood
    assert isinstance(posterior, Conditional)
    assert isinstance(likelihood, Conditional)
    from_inputs, from_encodings = (
        isinstance(prior, InitialisedFromInputs),
        isinstance(posterior.head, InitialisedFromEncodings),
    )
    measured = likelihood.units is not None or isinstance(likelihood.head, MeasuredHead)
    if not (measured or run.model.bias_start or from_inputs or from_encodings):
        return
    some = data.train.some(ROWS_TO_INITIALISE_FROM)
    x, context = data.train.batch(some, new_generator(run.seed, Purpose.START_ROWS)), data.train.context_of(some)
    mask = data.train.mask_of(some)
    if isinstance(posterior.transform, Measured):
        posterior.transform.measure(without_gaps(x, mask))
    of_likelihood = x, context, mask
    if data.train.weight_of(some[:1]) is not None:
        often = in_their_weights(data.train, some, ROWS_TO_INITIALISE_FROM)
        of_likelihood = data.train.batch(often), data.train.context_of(often), data.train.mask_of(often)
    if run.model.bias_start:
        likelihood.initialise_from(*of_likelihood)
    else:
        likelihood.measure(*of_likelihood)
    if isinstance(prior, InitialisedFromInputs):
        prior.initialise_from_inputs(posterior.see(x, mask), context)
    if isinstance(posterior.head, InitialisedFromEncodings):
        with torch.no_grad():
            raw = posterior.raw(posterior.see(x, mask), context)
        posterior.head.initialise_from_encodings(raw, new_generator(run.seed, Purpose.CODEBOOKS))


def events_of(schema: Schema) -> tuple[FieldEvent, ...]:
    """The columns of a table of several kinds, as the parts of a model need to know them; none of other data."""
    if schema.support.kind != "mixed":
        return ()
    return tuple(FieldEvent(field.name, field.kind, len(field.categories)) for field in schema.fields or ())


def size_factor_of(schema: Schema) -> SizeFactor | None:
    """Where the context holds the sizes of rows; None where it holds none."""
    context = schema.context
    if context is None or context.size is None:
        return None
    return SizeFactor(len(context.names) - 1, context.loc[-1], context.scale[-1])


def choose_device(name: str, local: int = 0) -> torch.device:
    """The device that `train.device` names; `auto` takes a GPU if there is one.

    Args:
        name: `auto`, or a device of torch.
        local: Number of this process on its machine; each takes the GPU of its number.

    Raises:
        ConfigError: This machine has no such device.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        name = f"cuda:{local}"
    device = torch.device("cpu" if name == "auto" else name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        have = f"{torch.cuda.device_count()} CUDA devices are here"
        raise ConfigError(
            f"train.device is {name}, but {have}: use train.device=auto or cpu", field="train.device", value=name
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(
            "train.device is mps, but this machine has none: use train.device=auto or cpu",
            field="train.device",
            value=name,
        )
    return device


def assemble(run: Run, schema: Schema) -> VAE | HierarchicalVAE:
    """Make the parts of a model and put them together, with torch's global random state and default device.

    Args:
        run: Its settings, with a likelihood.
        schema: Of its data.

    Raises:
        ConfigError: The parts do not fit one another or the data.
    """
    spec, shape = run.model, tuple(schema.shape)
    if spec.likelihood is None:
        raise ConfigError("model.likelihood is not set: a model cannot be built without one", field="model.likelihood")
    check_parts(run)
    support, context = schema.support, 0 if schema.context is None else len(schema.context.names)
    transform = Rescale(0, support.count - 1) if isinstance(support, Levels) else None
    if isinstance(support, Count):
        transform = Log1p()
    if isinstance(support, Real) and schema.loc is None:  # values as they are stored, in any units
        transform = Units(shape, _SHARED_SCALE[schema.kind])
    fields = events_of(schema)
    if isinstance(spec, ModelSpec):
        transform = _input_of(spec, support, transform)
    hidden = spec.input_dropout if isinstance(spec, ModelSpec) else 0.0
    missing = schema.missing or run.data.missing == "mask"  # in rows to come, if not in those of training
    if fields or missing:
        marked = missing or hidden > 0
        transform = ColumnsAsNumbers(fields, marked) if fields else WithMask(shape, transform)
        transform = CellDropout(transform, hidden) if hidden else transform
    elif hidden:
        transform = InputDropout(transform, hidden)
    ctx = BuildContext(
        shape,
        context,
        transform=transform,
        fields=fields,
        size_factor=size_factor_of(schema),
        context_to=run.data.context_to,
    )
    try:
        likelihood = spec.likelihood
        if isinstance(likelihood, OverFields):
            likelihood = likelihood.of_fields(fields)
        if isinstance(spec, HierarchicalSpec):
            model = spec.groups.build(spec.posterior, spec.prior, likelihood, ctx)
        else:
            model = _vae(spec, likelihood, ctx)
        check_enumerable_latents(run, code_space_of(model.posterior))
    except ValueError as error:
        raise ConfigError(f"model: {error}", field="model", value=spec) from None
    if spec.likelihood.takes_units and not isinstance(support, Unit | Binary):
        assert isinstance(model.likelihood, Conditional)
        model.likelihood.units = Units(shape, _SHARED_SCALE[schema.kind], standardised=schema.loc is not None)
    return model


def _input_of(spec: ModelSpec, support: Support, transform: nn.Module | None) -> nn.Module | None:
    """What is applied to x before the encoder, by the settings; `transform` is what the support asks for."""
    if spec.input_scale != "auto":
        if not isinstance(support, Count | Binary):
            raise ConfigError(
                f"model.input_scale is {spec.input_scale}, for counts, and x is {support}: use auto",
                field="model.input_scale",
                value=spec.input_scale,
            )
        transform = UnitLength() if spec.input_scale == "unit_length" else Log1pOfShares()
    return transform


def _vae(spec: ModelSpec, likelihood: Likelihood, ctx: BuildContext) -> VAE:
    assert spec.encoder is not None
    assert spec.decoder is not None
    make_encoder, make_decoder = spec.encoder.build, spec.decoder.build
    family, shape, context, to = spec.posterior, ctx.data_shape, ctx.context_size, ctx.context_to
    z_shape, (seen, view) = family.z_shape(spec.latent), family.as_seen(spec.latent)

    encoder = with_context(
        lambda in_shape: make_encoder(in_shape, family.features(z_shape)), ctx.seen_shape, context, "encoder" in to
    )
    posterior = Conditional(encoder, family.build(ctx.over(z_shape)), z_shape, ctx.transform)
    of_z = replace(ctx.over(z_shape), posterior=posterior)
    prior, head = spec.prior.build(math.prod(z_shape), of_z), likelihood.build(ctx.over(shape))
    decoder = with_context(
        lambda in_shape: make_decoder(in_shape, head.features(shape), shape), seen, context, "decoder" in to
    )
    px = Conditional(decoder, head, shape, view)
    return VAE(posterior, prior, px, None if spec.refine is None else spec.refine.build(of_z))
