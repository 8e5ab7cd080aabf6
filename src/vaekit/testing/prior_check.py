"""Whether a prior keeps to its contract."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributions import Distribution

from vaekit.models.building import BuildContext
from vaekit.models.conditional import Conditional
from vaekit.models.families import PosteriorFamily
from vaekit.models.networks import Mlp
from vaekit.models.networks.context import with_context
from vaekit.models.posteriors import Deterministic
from vaekit.models.protocols import EncodedBesideBatch, InitialisedFromInputs
from vaekit.testing.basics import (
    CONTEXT,
    KINDS,
    ROUNDING,
    check_gradients,
    check_modes,
    check_rows_alone,
    check_saved,
    checked_log_prob,
    checked_samples,
    contract_check,
    distribution_of,
    inputs,
    named,
    perturbed,
    require,
    require_members,
)
from vaekit.testing.densities import check_density, compare_cells, compare_directions

ROWS = 4  # of a context


@contract_check
def check_prior(prior: Any, sizes: tuple[int, ...] = (1, 2, 5)) -> None:
    """Check a prior: a spec with `over` and `build(size, ctx)`, whose module returns p(z) when it is called.

    p(z) is one distribution over z. Samples have its shape, are finite, follow log_prob, and are a function of the
    generator; log_prob is in float64, finite, one number for each z whatever else is in the batch, and integrates to 1
    in one and two dimensions (for real z). In every dimension, statistics of samples are compared with those under
    log_prob by identities that need no integral: each fails a right prior once in a million. The module takes a
    context, is the same in train and eval mode, every weight has a finite gradient, and saved weights load.

    What it declares holds: it depends on the context if `is_conditional` is True, and else not; it is built for a
    posterior without a density unless `needs_density` is True; what it makes of inputs that are encoded beside a batch
    is what its call returns.

    Args:
        prior: The spec.
        sizes: Of z. A size that `build` refuses with ValueError is left out; one at least must build.

    Raises:
        AssertionError: Says what does not hold.
        TypeError: It is a class, not an instance.

    Example:
        >>> from vaekit.priors import Mixture
        >>> check_prior(Mixture(components=3))
    """
    require(bool(getattr(prior, "over", ())), "it has no `over`, which says what z it is over: real, sphere, discrete")
    kinds = f'`over` is {prior.over!r}: it should be a tuple of kinds of z, as in over = ("real",)'
    require(isinstance(prior.over, (tuple, list)), kinds)
    require_members(prior, "build(self, size, ctx=ALONE)")
    built, refused = 0, ""
    for kind in prior.over:
        require(kind in KINDS, f"it is over {kind!r}: it should be one of {', '.join(KINDS)}")
        for size in sizes:
            try:
                family, shape = KINDS[kind], KINDS[kind].z_shape(size)
                ctx = BuildContext((3,), posterior=_posterior(family, shape))
                event = _posterior(family, shape)(torch.zeros(1, 3, dtype=torch.float64)).event_shape
                total = math.prod(shape)
                make = functools.partial(_built, prior, total, ctx)
                make()
                conditional = bool(getattr(prior, "is_conditional", False))
                widths = (CONTEXT,) if conditional else (0, CONTEXT)
                contexts = [BuildContext((3,), width, posterior=_posterior(family, shape, width)) for width in widths]
                with_one = [_built(prior, total, ctx) for ctx in contexts]
            except ValueError as error:
                refused = str(error)
                continue
            built += 1
            _check_module(make, event, kind)
            for module, ctx in zip(with_one, contexts, strict=True):
                _check_context(module, conditional)
                _check_beside(module, ctx)
            if kind == "real":
                _check_needs_density(prior, total)
    require(built > 0, f"it was built for none of the sizes {sizes}: {refused}")


def _posterior(family: PosteriorFamily, shape: Any, context: int = 0) -> Conditional:
    network = with_context(lambda in_shape: Mlp((4,)).build(in_shape, family.features(shape)), (3,), context)
    return Conditional(network, family, shape).double()


def _built(spec: Any, size: int, ctx: BuildContext) -> nn.Module:
    with named("build(size, ctx), which should take a number and a BuildContext,"):
        module = spec.build(size, ctx)
    require(isinstance(module, nn.Module), f"build returned {type(module).__name__}, not a torch module")
    return module.double()


def _check_module(make: Callable[[], nn.Module], event: torch.Size, kind: str) -> None:
    module = make()
    p = distribution_of(module, "the prior")
    require(p.event_shape == event, f"p(z) has event shape {tuple(p.event_shape)}, and z has {tuple(event)}")
    require(p.batch_shape == (), f"p(z) has batch shape {tuple(p.batch_shape)}: it should be one distribution")
    z = checked_samples(p, (4, 3))
    if kind == "sphere":
        require(bool((z.norm(dim=-1) - 1).abs().max() < 1e-5), "it is over the sphere, and samples lie off it")
    log_p = checked_log_prob(p, z, (4, 3))
    check_rows_alone(lambda part, _: p.log_prob(part), z, log_p)
    check_modes(module, lambda: distribution_of(module, "the prior").log_prob(z))
    check_gradients(log_p.sum(), module)
    check_saved(module, make, lambda other: distribution_of(other, "the prior").log_prob(z), log_p)
    if kind == "real":
        check_density(p)
    elif kind == "sphere":
        compare_directions(p)
    else:
        compare_cells(p)


@torch.no_grad()
def _check_context(module: nn.Module, conditional: bool) -> None:
    """It takes a context, as training passes one, and depends on it if it says so."""
    perturbed(module)
    contexts = torch.randn(ROWS, CONTEXT, dtype=torch.float64)
    with named("calling the prior with a context, as training does, by forward(self, context=None),"):
        p = module(contexts)
    require(isinstance(p, Distribution), f"the prior returns {type(p).__name__} with a context, not a Distribution")
    rows = tuple(p.batch_shape)
    require(rows in ((), (ROWS,)), f"p(z) has batch shape {rows} for {ROWS} rows of context: it should be () or (4,)")
    z = checked_samples(p, (3,) if rows else (3, ROWS))
    log_p = p.log_prob(z)
    if not conditional:
        same = torch.allclose(log_p, distribution_of(module, "the prior").log_prob(z), ROUNDING, ROUNDING)
        require(same, "it depends on the context, and `is_conditional` does not say so: set is_conditional = True")
        return
    one = z[:, :1].expand_as(z)
    differs = bool(rows) and not torch.allclose(p.log_prob(one), p.log_prob(one)[:, :1].expand(3, ROWS))
    require(differs, "`is_conditional` is True, and p(z) is the same for every context")
    for i in range(ROWS):
        alone = module(contexts[i : i + 1]).log_prob(z[:, i : i + 1])[:, 0]
        same = torch.allclose(alone, log_p[:, i], ROUNDING, ROUNDING)
        require(same, "p(z) given a context depends on the other contexts of the batch")


@torch.no_grad()
def _check_beside(module: nn.Module, ctx: BuildContext) -> None:
    """What is encoded beside a batch, and initialised from it, gives the same prior as a call."""
    posterior, x = ctx.posterior, inputs(ROWS)
    context = torch.randn(ROWS, CONTEXT, dtype=torch.float64) if ctx.context_size else None
    if posterior is None:
        return
    if isinstance(module, InitialisedFromInputs):
        with named("initialise_from_inputs(seen, context)"):
            module.initialise_from_inputs(posterior.see(x), context)
        require(all(bool(w.isfinite().all()) for w in module.parameters()), "initialised weights are not finite")
    if isinstance(module, EncodedBesideBatch):
        p = module(context)
        z = checked_samples(p, (3,) if p.batch_shape else (3, ROWS))
        with named("beside(seen, context), or of_posteriors(posteriors, context),"):
            raw = posterior.raw(*module.beside(posterior.see(x), context))
            other = module.of_posteriors(posterior.of(raw[len(x) :]), context)
        same = torch.allclose(other.log_prob(z), p.log_prob(z), ROUNDING, ROUNDING)
        require(same, "encoded beside a batch, by beside and of_posteriors, p(z) is another than when it is called")


def _check_needs_density(prior: Any, size: int) -> None:
    if getattr(prior, "needs_density", False):
        return
    ctx = BuildContext((3,), posterior=_posterior(Deterministic(), (size,)))
    try:
        _built(prior, size, ctx)
    except (ValueError, AssertionError) as error:
        raise AssertionError(
            f"it cannot be built beside a posterior without a density, and `needs_density` does not say so: {error}"
        ) from error
