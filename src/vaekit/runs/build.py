"""Where settings meet data and become parts: the likelihood, the model, and whether they fit in memory."""

import math
import os
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from vaekit.data import Dataset, Schema, prepare
from vaekit.data.schema import Binary, Count, Levels, Real, Support, Unit
from vaekit.errors import ConfigError
from vaekit.memory import free_bytes
from vaekit.models import (
    VAE,
    Bernoulli,
    CalibratedGaussian,
    Categorical,
    Conditional,
    ContinuousBernoulli,
    Gaussian,
    Hamiltonian,
    HierarchicalVAE,
    Likelihood,
    Log1p,
    NegativeBinomial,
    Prior,
    Rescale,
    SoftBernoulli,
)
from vaekit.models.distributions.codes import check_enumerable
from vaekit.models.likelihoods.categorical import OverLevels
from vaekit.models.likelihoods.location_scale import LocationScale
from vaekit.models.networks.context import with_context
from vaekit.models.networks.convolutional import Upwards
from vaekit.models.networks.units import Units
from vaekit.models.parameters import Shape
from vaekit.models.posteriors.deterministic import Deterministic
from vaekit.models.posteriors.discrete import DiscreteHead
from vaekit.models.posteriors.quantised import Codebooks
from vaekit.models.priors.vamp import VampPrior
from vaekit.objectives import Gradient, Regularised, StepContext, Switch
from vaekit.randomness import Purpose, new_generator
from vaekit.runs.tree import HierarchicalSpec, ModelSpec, Run

MOST_LEVELS = 64  # with more, a softmax for each value is wasteful, and neighbouring levels are nearly alike
ROWS_TO_START_FROM = 10_000
BYTES_PER_WEIGHT = 32  # single precision: weight, gradient, two moments; of the last good state 3; the best weight
BYTES_PER_WEIGHT_READ = 12  # single precision: a file's bytes, the tensors in it, the weight
BYTES_PER_ACTIVATION = 8  # single precision, forward and backward


def open_data(run: Run) -> tuple[Run, Dataset]:
    """The data of a run, and the run with its likelihood settled: by the data's support, where it was left open.

    Raises:
        ConfigError: there is no data, or the likelihood does not fit it.
        DataError: the data cannot be had.
    """
    if run.data.source is None:
        raise ConfigError("no data: name a set or a path, as in `vaekit train digits`, or set data.source")
    head = run.model.likelihood
    data = prepare(run.data, run.limit, discrete=_default_is_discrete if head is None else head.integers)
    if head is None:
        head = default_likelihood(data.schema.support, data.schema.kind)
    check_likelihood(head, data.schema)
    return run.model_copy(update={"model": replace(run.model, likelihood=head)}), data


def _default_is_discrete(stored: Support, kind: Literal["image", "table"]) -> bool:
    """Whether the family that fits values as they are stored takes them as they are: so no data is read twice."""
    return stored.kind in default_likelihood(stored, kind).accepts


def default_likelihood(support: Support, kind: str) -> Likelihood:
    """The family that fits values of this support."""
    if support.kind == "binary":
        return Bernoulli()
    if isinstance(support, Levels) and support.count <= MOST_LEVELS:
        return Categorical(support.count)
    if support.kind == "count":
        return NegativeBinomial()
    if support.kind in ("levels", "unit"):
        return ContinuousBernoulli()
    return CalibratedGaussian(per_dimension=kind == "table")


def log_scale_of(run: Run, schema: Schema) -> float:
    """What a log-density of x is above that of the row as it is stored, in nats; 0 where p(x|z) is no density."""
    return 0.0 if isinstance(run.model.likelihood, SoftBernoulli) else schema.log_scale


def check_likelihood(head: Likelihood, schema: Schema) -> None:
    """Refuse a likelihood whose support is not the data's, and name the one that fits."""
    support = schema.support
    fits = support.kind in head.accepts
    if fits and isinstance(head, OverLevels):
        count = support.count if isinstance(support, Levels) else 2
        fits = head.levels == count
    if fits:
        return
    right = default_likelihood(support if schema.loc is None else schema.stored, schema.kind)
    levels = f", levels: {right.levels}" if isinstance(right, Categorical) else ""
    given = f"{head.kind} with {head.levels} levels" if isinstance(head, OverLevels) else head.kind
    raise ConfigError(
        f"model.likelihood is {given}, which does not fit {schema.name}: its values are {schema.stored}"
        f"{'' if support == schema.stored else f', scaled to {support}'}; use "
        f"model.likelihood={{kind: {right.kind}{levels}}}"
        + (", or make the values binary with data.binarise=dynamic" if head.kind == "bernoulli" else "")
    )


def build_model(run: Run, schema: Schema) -> VAE | HierarchicalVAE:
    """The untrained model of a run, on the CPU; its weights are a function of run.seed alone.

    Raises:
        ConfigError: the parts do not fit the data.
    """
    generator = new_generator(run.seed, Purpose.WEIGHTS)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(generator.initial_seed())
        model = _assemble(run, schema)
    return convert_conv2d_weight_memory_format(model, torch.channels_last)  # convolutions are a fifth faster so


def build_discriminator(run: Run, schema: Schema) -> nn.Module | None:
    """The untrained second player of a run's objective; None where it has none."""
    if not isinstance(run.objective, Regularised):
        return None
    if isinstance(run.model, HierarchicalSpec):
        raise ConfigError("objective.kind is regularised, whose penalties are over one group of latents: use elbo")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(new_generator(run.seed, Purpose.WEIGHTS, 2).initial_seed())
        try:
            return run.objective.build(math.prod(run.model.posterior.z_shape(run.model.latent)), tuple(schema.shape))
        except ValueError as error:
            raise ConfigError(f"objective: {error}") from None


@torch.no_grad()
def check_objective(run: Run, model: VAE | HierarchicalVAE, data: Dataset) -> None:
    """Refuse an objective that does not go with the model, which one trial of it on a few rows shows."""
    some, discriminator = data.train.some(2), build_discriminator(run, data.schema)
    x, told = data.train.batch(some, new_generator(run.seed)), data.train.context_of(some)
    objective = run.objective
    model.eval()
    for phase in objective.phases if isinstance(objective, Switch) else (objective,):
        draw = model.draw(
            x, phase.samples, context=told, generator=new_generator(run.seed), enumerate=phase.gradient.enumerate
        )
        phase(draw, StepContext(model=model, generator=new_generator(run.seed), discriminator=discriminator))
    model.train()


def start_from_data(model: VAE | HierarchicalVAE, data: Dataset, run: Run) -> None:
    """Start what is best started from training rows: units of data, with `model.bias_start` the decoder's output bias
    at the best fit without latents, a vamp prior's pseudo-inputs at some rows, and code vectors at what the encoder
    makes of some."""
    assert isinstance(model.posterior, Conditional)
    assert isinstance(model.likelihood, Conditional)
    codebooks = model.posterior.head
    units = model.likelihood.units is not None
    if not (units or run.model.bias_start or isinstance(model.prior, VampPrior) or isinstance(codebooks, Codebooks)):
        return
    some = data.train.some(ROWS_TO_START_FROM)
    x = data.train.batch(some, new_generator(run.seed, Purpose.WEIGHTS, 1))
    if isinstance(model.posterior.transform, Units):
        model.posterior.transform.measure(x, Gaussian())
    if run.model.bias_start:
        model.likelihood.start_from(x)
    else:
        model.likelihood.measure(x)
    if isinstance(model.prior, VampPrior):
        model.prior.start_from(x, data.train.context_of(some))
    if isinstance(codebooks, Codebooks):
        with torch.no_grad():
            raw = model.posterior.raw(model.posterior.transform(x), data.train.context_of(some))
            codebooks.start_from(raw, new_generator(run.seed, Purpose.WEIGHTS, 2))


def check_memory(run: Run, schema: Schema, model: VAE | HierarchicalVAE | None = None, training: bool = True) -> None:
    """Refuse a model whose weights, moments and activations cannot fit, before they are allocated.

    Args:
        model: the untrained model. Without it, only what the weights take is known; with it, activations count, too.
        training: whether the model is to be trained; else it is only to be used, a row at a time at least, and the
            run's own limit, which is for training, is not asked.
    """
    rows, numbers = min(run.train.batch_size, run.limit.train or run.train.batch_size) * run.objective.samples, 0
    if model is None:
        weights = _count_weights(run, schema)
    else:
        weights = sum(p.numel() for p in model.parameters())
        numbers = _numbers_per_sample(model, schema)
    if not training:
        rows, numbers = 1, math.prod(schema.shape)
    each = BYTES_PER_WEIGHT if training else BYTES_PER_WEIGHT_READ
    needed = (weights * each + rows * numbers * BYTES_PER_ACTIVATION) / 1e9
    allowed = min((run.limit.memory_gb if training else None) or _physical_memory_gb() / 2, free_bytes() / 1e9)
    if needed > allowed:
        model_is = f"{weights:,} weights, {run.model.summary}"
        if not training:
            raise ConfigError(f"it needs about {needed:.1f} GB ({model_is}), and {allowed:.1f} GB is allowed here")
        raise ConfigError(
            f"this model needs about {needed:.1f} GB to train ({model_is}, {rows} samples of z at a time), and "
            f"{allowed:.1f} GB is allowed, and free: make model.latent or the networks smaller, lower "
            "train.batch_size, or raise limit.memory_gb"
        )


def _count_weights(run: Run, schema: Schema) -> int:
    """How many numbers a model keeps, without making it."""
    try:
        with torch.device("meta"):
            model = _assemble(run, schema)
    except (RuntimeError, OverflowError, MemoryError):  # of sizes that no computer counts to
        raise ConfigError(
            f"this model ({run.model.summary}) has a layer with more weights than can be counted: make model.latent or "
            "the networks smaller"
        ) from None
    return sum(values.numel() for values in (*model.parameters(), *model.buffers()))


def choose_device(name: str, local: int = 0) -> torch.device:
    """The device that `train.device` names; `auto` takes a GPU if there is one.

    local: number of this process on its machine; each takes the GPU of its number.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        name = f"cuda:{local}"
    device = torch.device("cpu" if name == "auto" else name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        have = f"{torch.cuda.device_count()} CUDA devices are here"
        raise ConfigError(f"train.device is {name}, but {have}: use train.device=auto or cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("train.device is mps, but this machine has none: use train.device=auto or cpu")
    return device


def _assemble(run: Run, schema: Schema) -> VAE | HierarchicalVAE:
    spec, shape = run.model, tuple(schema.shape)
    if spec.likelihood is None:
        raise ConfigError("model.likelihood is not set: a model cannot be built without one")
    _check_latents(run)
    support, context = schema.support, 0 if schema.context is None else len(schema.context.names)
    transform = Rescale(0, support.count - 1) if isinstance(support, Levels) else None
    if isinstance(support, Count):
        transform = Log1p()
    if isinstance(support, Real) and schema.loc is None:  # values as they are stored, in any units
        transform = Units(shape)
    try:
        if isinstance(spec, HierarchicalSpec):
            model = spec.groups.build(shape, spec.posterior, spec.prior, spec.likelihood, transform, context)
        else:
            model = _vae(spec, shape, spec.likelihood, transform, context)
        _check_enumerable(run, model.posterior)
    except ValueError as error:
        raise ConfigError(f"model: {error}") from None
    if isinstance(spec.likelihood, LocationScale) and not isinstance(support, Unit | Binary):
        assert isinstance(model.likelihood, Conditional)
        model.likelihood.units = Units(shape)
    return model


def _vae(spec: ModelSpec, shape: Shape, likelihood: Likelihood, transform: nn.Module | None, context: int) -> VAE:
    head = spec.posterior
    z_shape, (seen, view) = head.z_shape(spec.latent), head.as_seen(spec.latent)

    def decoder(in_shape: Shape) -> nn.Module:
        return spec.decoder.build(in_shape, likelihood.features(shape), shape)

    encoder = with_context(lambda in_shape: spec.encoder.build(in_shape, head.features(z_shape)), shape, context)
    posterior = Conditional(encoder, head, z_shape, transform)
    prior = spec.prior.build(math.prod(z_shape), posterior, shape, context)
    px = Conditional(with_context(decoder, seen, context), likelihood, shape, view)
    return VAE(posterior, prior, px, None if spec.refine is None else spec.refine.build(z_shape))


def _check_latents(run: Run) -> None:
    """Refuse a prior that is not over this kind of z, and a gradient that such z do not carry."""
    head, prior, objective = run.model.posterior, run.model.prior, run.objective
    if head.support_of_z not in prior.over:
        fitting = [kind.kind for kind in get_args(get_args(Prior)[0]) if head.support_of_z in kind.over]
        raise ConfigError(
            f"model.prior is {prior.kind}, over {' or '.join(prior.over)} z, and model.posterior is {head.kind}, whose "
            f"z is {head.support_of_z}: use model.prior={' or '.join(fitting)}, or another posterior"
        )
    if isinstance(run.model, HierarchicalSpec) and head.support_of_z == "discrete":
        raise ConfigError(f"model.posterior is {head.kind}, and a hierarchical VAE's z are not discrete: use gaussian")
    for phase in objective.phases if isinstance(objective, Switch) else (objective,):
        gradient = phase.gradient
        if why := head.why_not(gradient.reparametrised, gradient.score, gradient.enumerate):
            raise ConfigError(f"objective.gradient {gradient.kind} does not go with model.posterior {head.kind}: {why}")
        if isinstance(run.model, ModelSpec) and run.model.refine is not None:
            _check_refined(run, run.model.refine, gradient)
    if isinstance(objective, Switch) and run.train.budget is not None:
        raise ConfigError("train.budget needs steps of one length, and objective.kind is switch: set train.epochs")


def _check_refined(run: Run, refine: Hamiltonian, gradient: Gradient) -> None:
    """Refuse what does not go with draws that are moved, and can be scored only as they are drawn."""
    head = run.model.posterior
    if head.support_of_z != "real" or isinstance(head, Deterministic):
        raise ConfigError(
            f"model.refine is {refine.kind}, which moves draws of a density over real z, and model.posterior is "
            f"{head.kind}: use gaussian, full_gaussian or a flow, or set model.refine=null"
        )
    if not (gradient.reparametrised and gradient.score):
        raise ConfigError(
            f"model.refine is {refine.kind}, whose draws carry all their gradients along, and objective.gradient is "
            f"{gradient.kind}: use pathwise"
        )
    if isinstance(run.objective, Regularised):
        raise ConfigError(
            f"model.refine is {refine.kind}, whose draws have no density in closed form for the penalties of a "
            "regularised objective: use elbo or iwae"
        )


def _check_enumerable(run: Run, posterior: nn.Module) -> None:
    """Refuse to enumerate more values of z than can be."""
    if (
        run.objective.gradient.enumerate
        and isinstance(posterior, Conditional)
        and isinstance(posterior.head, DiscreteHead)
    ):
        space = posterior.head.space(posterior.event_shape or ())
        check_enumerable(space.positions, space.classes)


@torch.no_grad()
def _numbers_per_sample(model: VAE | HierarchicalVAE, schema: Schema) -> int:
    """How many numbers the layers of a model give out for one row and one z, z and its density included."""
    counts: list[int] = []
    layers = [layer for layer in model.modules() if not list(layer.children()) or isinstance(layer, Upwards)]

    def count(module: nn.Module, given: object, out: object) -> None:
        if isinstance(out, torch.Tensor):
            counts.append(out.numel())

    hooks = [layer.register_forward_hook(count) for layer in layers]
    context = None if schema.context is None else torch.zeros(1, len(schema.context.names))
    draw = model.draw(torch.zeros(1, *schema.shape), context=context, generator=new_generator(0))
    for hook in hooks:
        hook.remove()
    return sum(counts) + 4 * sum(latent.z.numel() for latent in draw.latents)


def _physical_memory_gb() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, OSError, ValueError):
        return float("inf")
