"""Whether a posterior keeps to its contract."""

import math
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models import Prior
from vaekit.models.building import BuildContext
from vaekit.models.compatibility import broken_rule, posterior_row, prior_row
from vaekit.models.conditional import Conditional
from vaekit.models.distributions import Delta, in_words, measure, support_of
from vaekit.models.distributions.noise import draw_from
from vaekit.models.drawing import draw_latent, enumerated_latent
from vaekit.models.families import PosteriorFamily
from vaekit.models.protocols import DiscreteHead, InitialisedFromEncodings
from vaekit.randomness import new_generator
from vaekit.registry import parts
from vaekit.testing.basics import (
    KINDS,
    ROUNDING,
    OneRow,
    check_alone,
    check_gradients,
    check_modes,
    check_rows_alone,
    check_saved,
    check_shapes,
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
from vaekit.testing.densities import MOST_SIGMA, SAMPLES, check_density, compare_cells, compare_directions

FLAGS = ("has_density", "has_score", "smooth_density", "enumerable", "reparametrised")
STEP = 1e-5  # of a difference quotient


@contract_check
def check_posterior(posterior: PosteriorFamily, latents: tuple[int, ...] = (1, 2, 5)) -> None:
    """Check a posterior family: `features`, `z_shape` and `build`, whose head makes q(z|x) of a network's raw numbers.

    q(z|x) is one distribution for each row, over z of `z_shape`, and depends on x. Samples are finite and a function of
    the generator. If it is a density or a mass, log_prob is in float64, finite, one number for each row whatever else
    is in the batch; it adds up to 1, and samples follow it. Every weight has a finite gradient; saved weights load.

    What it declares holds: z lies in `support_of_z`; q(z|x) is a single z unless `has_density`; gradients reach the
    encoder through z if and only if it is `reparametrised`, and through ln q(z|x) at a given z if and only if
    `has_score`; with `smooth_density`, the gradient of ln q(z|x) in z is its slope; with `enumerable`, all values of z
    have probabilities that add up to 1; its KL has a closed form for the priors of `closed_kl_to` and no others, and
    that is the mean of ln q(z|x) - ln p(z) over samples; `as_seen` gives the shape that it says.

    Args:
        posterior: The family.
        latents: How many units of z it has. A number that `build` refuses with ValueError is left out.

    Raises:
        AssertionError: Says what does not hold.
        TypeError: It is a class, not an instance.

    Example:
        >>> from vaekit.posteriors import Gaussian
        >>> check_posterior(Gaussian())
    """
    members = ("features(shape)", "z_shape(latent)", "build(context)", "as_seen(latent)")
    require_members(posterior, *members, "support_of_z", "closed_kl_to", *FLAGS)
    _check_declared(posterior)
    built, refused = 0, ""
    for latent in latents:
        shape = posterior.z_shape(latent)

        def make(shape: Any = shape) -> Any:
            return Conditional(nn.Linear(3, posterior.features(shape)), posterior, shape).double()

        try:
            module = make().eval()
            x = inputs(4)
            q = distribution_of(module, "the posterior", x)
        except ValueError as error:
            refused = str(error)
            continue
        built += 1
        check_shapes(q, (4,), shape)
        z = checked_samples(q, (2,))
        _check_support(module, q, z, posterior.support_of_z)
        _check_depends(module)
        _check_seen(posterior, latent, z)
        _check_path_through_z(posterior, make())
        _check_initialised(make())
        single = isinstance(q, Delta)
        require(
            posterior.has_density != single,
            f"`has_density` is {posterior.has_density}, and q(z|x) is {'a' if single else 'no'} Delta, a single z",
        )
        if not posterior.has_density:
            continue
        log_q = checked_log_prob(q, z, (2, 4))
        check_rows_alone(lambda part, _, q=q: q.log_prob(part), z, log_q, 1)
        for i in range(4):
            check_alone(module(x[i : i + 1]).log_prob(z[:, i : i + 1])[:, 0], log_q[:, i], "log_prob")
        _check_score(posterior, module, log_q)
        if posterior.smooth_density:
            _check_slope(q, z)
        check_saved(module, lambda make=make: make().eval(), lambda other, x=x, z=z: other(x).log_prob(z), log_q)
        if posterior.support_of_z == "real":
            check_modes(module, lambda module=module, x=x, z=z: module(x).log_prob(z))
            check_density(OneRow(module(x[:1])))
        elif posterior.support_of_z == "sphere":
            compare_directions(OneRow(module(x[:1])))
        elif measure(q) == "mass":
            compare_cells(OneRow(module(x[:1])))
        if posterior.enumerable and built == 1:
            _check_enumerated(q)
        _check_closed_kl(posterior, module, x)
    require(built > 0, f"it was built for none of {latents} latents: {refused}")


def _check_declared(posterior: PosteriorFamily) -> None:
    kind, named_kinds = posterior.support_of_z, posterior.closed_kl_to
    require(kind in KINDS, f"`support_of_z` is {kind!r}: it should be one of {', '.join(KINDS)}")
    for name in FLAGS:
        value = getattr(posterior, name)
        require(isinstance(value, bool), f"`{name}` is {value!r}: it should be True or False")
    text = f"`closed_kl_to` is {named_kinds!r}: it should be a tuple of kinds of priors"
    require(isinstance(named_kinds, (tuple, list)), text)
    unknown = [name for name in named_kinds if name not in {prior.kind for prior in _priors()}]
    require(not unknown, f"`closed_kl_to` names {', '.join(unknown)}, which no prior is called that vaekit knows")


def _priors() -> list[Any]:
    """Every prior of vaekit, and those that are registered, with its defaults."""
    own = get_args(get_args(Prior)[0])
    found = []
    for spec in (*own, *parts(Prior)):
        try:
            found.append(spec())
        except (TypeError, ValueError):  # one that needs arguments has no default to try
            continue
    return found


def _check_support(module: Any, q: Distribution, z: Tensor, kind: str) -> None:
    """Samples lie where `support_of_z` says, and real z may be anywhere."""
    text = f"`support_of_z` is {kind!r}, and "
    if kind == "sphere":
        require(bool((z.norm(dim=-1) - 1).abs().max() < 1e-5), f"{text}samples lie off the unit sphere")
    elif kind == "discrete":
        require(isinstance(module.head, DiscreteHead), f"{text}its head has no `code_space(event_shape)`")
        space = module.head.code_space(tuple(q.event_shape))
        one_hot = space.one_hot(z)
        written = space.z_of(one_hot.argmax(-1)).to(z.dtype)
        require(torch.allclose(written, z, 1e-6, 1e-6), f"{text}samples are no codes of its code space")
    else:
        support = support_of(q)
        anywhere = 10 * torch.randn(z.shape, dtype=z.dtype, generator=new_generator(4))
        inside = support is None or isinstance(q, Delta) or bool(support.check(anywhere).all())
        require(inside, f"{text}q(z|x) is over {in_words(support)}")


@torch.no_grad()
def _check_depends(module: Any) -> None:
    """Over many x, samples by the same noise differ."""
    x = inputs(16)
    found = [draw_from(module(x[i : i + 1]), (50,), new_generator(3)) for i in range(16)]
    text = "q(z|x) is the same for every x: it does not depend on the raw numbers"
    require(any(not torch.equal(found[0], other) for other in found[1:]), text)


def _check_seen(posterior: PosteriorFamily, latent: int, z: Tensor) -> None:
    shape, module = posterior.as_seen(latent)
    with named("the module of as_seen, called with z,"):
        seen = z if module is None else module.double()(z)
    found = tuple(seen.shape[2:])
    require(found == tuple(shape), f"as_seen says that a decoder sees z of shape {tuple(shape)}, and it is {found}")


def _check_path_through_z(posterior: PosteriorFamily, module: nn.Module) -> None:
    """In training, gradients reach the encoder through z if it says so."""
    z = draw_from(module.train()(inputs(4)), (2,), new_generator(3))
    reached = False
    if z.requires_grad:
        weighed = (z * torch.randn(z.shape, dtype=z.dtype)).sum()
        found = torch.autograd.grad(weighed, list(module.parameters()), allow_unused=True)
        require(all(g is None or bool(g.isfinite().all()) for g in found), "gradients through z are not finite")
        reached = any(g is not None and bool(g.any()) for g in found)
    says = posterior.reparametrised
    text = f"`reparametrised` is {says}, and {'gradients reach' if reached else 'no gradient reaches'} the encoder"
    require(reached == says, f"{text} through z in training")


def _check_score(posterior: PosteriorFamily, module: nn.Module, log_q: Tensor) -> None:
    """At a given z, ln q(z|x) leads to the encoder if it says so."""
    reached = False
    if log_q.requires_grad:
        check_gradients(log_q.sum(), module, every=False)
        found = torch.autograd.grad(log_q.sum(), list(module.parameters()), allow_unused=True, retain_graph=True)
        reached = any(g is not None and bool(g.any()) for g in found)
    says = posterior.has_score
    text = f"`has_score` is {says}, and {'a gradient' if reached else 'no gradient'} of ln q(z|x) at a given z"
    require(reached == says, f"{text} reaches the encoder")


def _check_slope(q: Distribution, z: Tensor) -> None:
    """The gradient of ln q in z is its slope, by a difference quotient along one direction."""
    leaf = z.detach().requires_grad_()
    log_q = q.log_prob(leaf)
    require(log_q.requires_grad, "`smooth_density` is True, and ln q(z|x) has no gradient in z")
    (slope,) = torch.autograd.grad(log_q.sum(), leaf, retain_graph=True)
    require(bool(slope.isfinite().all()), "the gradient of ln q(z|x) in z is not finite")
    direction = torch.randn(z.shape, dtype=z.dtype, generator=new_generator(4))
    with torch.no_grad():
        along = (slope * direction).reshape(*log_q.shape, -1).sum(-1)
        quotient = (q.log_prob(z + STEP * direction) - q.log_prob(z - STEP * direction)) / (2 * STEP)
    same = torch.allclose(along, quotient, 1e-4, 1e-4)
    require(same, "`smooth_density` is True, and the gradient of ln q(z|x) in z is not its slope")


def _check_enumerated(q: Distribution) -> None:
    try:
        latent = enumerated_latent(q, q)
    except ValueError as error:
        raise AssertionError(f"`enumerable` is True, and its values cannot be listed: {error}") from error
    total = latent.log_q.exp().sum(0)
    ones = torch.ones_like(total)
    require(torch.allclose(total, ones, 1e-6), f"the probabilities of all values of z add up to {total.tolist()}")


@torch.no_grad()
def _check_closed_kl(posterior: PosteriorFamily, module: Any, x: Tensor) -> None:
    """The KL to each prior that goes with it has a closed form if `closed_kl_to` names it, and that is right."""
    size = math.prod(module(x).event_shape)
    for prior in _priors():
        if broken_rule(prior=prior_row(prior), posterior=posterior_row(posterior)) is not None:
            continue
        try:
            built = perturbed(prior.build(size, BuildContext((3,), posterior=module)).double())
        except ValueError:
            continue
        latent = draw_latent(module(x), built(), (SAMPLES if prior.kind in posterior.closed_kl_to else 1,))
        with named(f"the closed form of the KL to {prior.kind}"):
            closed = latent.closed_kl()
        if prior.kind not in posterior.closed_kl_to:
            text = f"its KL to the prior {prior.kind} has a closed form, and `closed_kl_to` does not name it"
            require(closed is None, text)
            continue
        require(closed is not None, f"`closed_kl_to` names {prior.kind}, and its KL has no closed form")
        if closed is None:
            continue
        require(
            closed.shape == (len(x),), f"its closed KL to {prior.kind} has shape {tuple(closed.shape)}, not (batch,)"
        )
        ratio = latent.log_q - latent.log_p
        error = ratio.std(0) / math.sqrt(SAMPLES) + ROUNDING * (1 + ratio.abs().mean(0)) + 1e-6
        sigmas = float(((ratio.mean(0) - closed).abs() / error).max())
        require(
            sigmas < MOST_SIGMA,
            f"its closed KL to the prior {prior.kind} is {closed.tolist()}, and the mean of ln q(z|x) - ln p(z) over "
            f"samples is {ratio.mean(0).tolist()}, {sigmas:.1f} standard errors apart",
        )


@torch.no_grad()
def _check_initialised(module: Any) -> None:
    if not isinstance(module.head, InitialisedFromEncodings):
        return
    with named("initialise_from_encodings(raw, generator)"):
        module.head.initialise_from_encodings(module.raw(inputs(100)), new_generator(4))
    require(all(bool(w.isfinite().all()) for w in module.parameters()), "initialised weights are not finite")
    checked_samples(module.eval()(inputs(4)), (2,))
