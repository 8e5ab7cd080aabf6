"""Checks that a part keeps to what vaekit relies on: run them in the tests of your own priors, families and objectives.

Each check builds the part in float64, tries it on small random inputs, and raises AssertionError that says what is
wrong. They are the contract tests of vaekit's own parts. Nothing of the caller's is changed.
"""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from vaekit.models import (
    VAE,
    Bernoulli,
    CategoricalPosterior,
    Conditional,
    Gaussian,
    Mlp,
    PowerSpherical,
    StandardNormal,
)
from vaekit.models.building import BuildContext
from vaekit.models.distributions import measure, support_of
from vaekit.models.distributions.noise import draw_from
from vaekit.models.families import LikelihoodFamily, PosteriorFamily
from vaekit.objectives import StepContext
from vaekit.randomness import new_generator

ROUNDING = 1e-10
MOST_SIGMA = 5.0  # between a mean over samples and the same mean by quadrature: one in 1.7 million fails by chance
SAMPLES = 20_000
POINTS = {1: 20_001, 2: 301}  # along each axis
OFF_BY = {1: 2e-3, 2: 2e-2}  # what an integral may differ from 1 by
SEVERAL = 50_000  # points at a time
MOST_COUNTED = 100_000  # values of an unbounded count
BESIDE: dict[str, PosteriorFamily] = {
    "real": Gaussian(),
    "sphere": PowerSpherical(),
    "discrete": CategoricalPosterior(),
}

__all__ = ["check_likelihood", "check_objective", "check_posterior", "check_prior"]


def _check(function: Callable[..., None]) -> Callable[..., None]:
    """Give a check random numbers and a precision of its own, and name the part in what it raises."""

    @functools.wraps(function)
    def checked(part: Any, *args: Any, **settings: Any) -> None:
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(0)
            try:
                function(part, *args, **settings)
            except AssertionError as error:
                raise AssertionError(f"{function.__name__}({part!r}): {error}") from error.__cause__

    return checked


@_check
def check_prior(prior: Any, sizes: tuple[int, ...] = (1, 2, 5)) -> None:
    """Check a prior: a spec with `over` and `build(size, ctx)`, whose module returns p(z) when it is called.

    p(z) is one distribution over z. Samples have its shape, are finite, follow log_prob, and are a function of the
    generator; log_prob is in float64, finite, one number for each z whatever else is in the batch, and integrates to 1
    in one and two dimensions (for real z). Every weight has a finite gradient; saved weights load.

    Args:
        prior: the spec.
        sizes: of z. A size that `build` refuses with ValueError is left out; one at least must build.

    Raises:
        AssertionError: says what does not hold.

    Example:
        >>> from vaekit.priors import Mixture
        >>> check_prior(Mixture(components=3))
    """
    _require(bool(getattr(prior, "over", ())), "it has no `over`, which says what z it is over: real, sphere, discrete")
    built, refused = 0, ""
    for kind in prior.over:
        _require(kind in BESIDE, f"it is over {kind!r}: it should be one of {', '.join(BESIDE)}")
        for size in sizes:
            try:
                family, shape = BESIDE[kind], BESIDE[kind].z_shape(size)
                posterior = Conditional(Mlp((4,)).build((3,), family.features(shape)), family, shape).double()
                ctx = BuildContext((3,), posterior=posterior)
                event = posterior(torch.zeros(1, 3, dtype=torch.float64)).event_shape
                total = math.prod(shape)
                make = functools.partial(_built, prior, total, ctx)
                make()
            except ValueError as error:
                refused = str(error)
                continue
            built += 1
            _check_prior(make, event, kind)
    _require(built > 0, f"it was built for none of the sizes {sizes}: {refused}")


def _built(spec: Any, size: int, ctx: BuildContext) -> nn.Module:
    module = spec.build(size, ctx)
    _require(isinstance(module, nn.Module), f"build returned {type(module).__name__}, not a torch module")
    return module.double()


def _check_prior(make: Callable[[], nn.Module], event: torch.Size, kind: str) -> None:
    module = make()
    p = _distribution(module, "the prior")
    _require(p.event_shape == event, f"p(z) has event shape {tuple(p.event_shape)}, and z has {tuple(event)}")
    _require(p.batch_shape == (), f"p(z) has batch shape {tuple(p.batch_shape)}: it should be one distribution")
    z = _samples(p, (4, 3))
    log_p = _log_prob(p, z, (4, 3))
    for i in range(3):
        _alone(p.log_prob(z[:, i : i + 1])[:, 0], log_p[:, i], "log_prob")
    _gradients(log_p.sum(), module)
    _saved(module, make, lambda other: _distribution(other, "the prior").log_prob(z), log_p)
    if kind == "real" and event.numel() in POINTS:
        _check_density(p)


@_check
def check_likelihood(
    likelihood: LikelihoodFamily, events: tuple[tuple[int, ...], ...] = ((1,), (7,), (1, 3, 5))
) -> None:
    """Check a likelihood family: `features` and `build`, whose head makes p(x|z) of a network's raw numbers.

    p(x|z) has the shapes of the raw numbers and the event. Samples lie in its support, follow log_prob, and are a
    function of the generator; log_prob is in float64, finite, one number for each row whatever else is in the batch,
    finite at raw numbers of 10,000, too, and exp(log_prob) of one value adds up to 1. Every weight has a finite
    gradient; saved weights load; `initial_parameters` gives finite raw numbers, where there are some.

    Args:
        likelihood: the family.
        events: shapes of x.

    Raises:
        AssertionError: says what does not hold.

    Example:
        >>> check_likelihood(Gaussian())
    """
    for event in events:
        width = likelihood.features(event)

        def make(event: tuple[int, ...] = event, width: int = width) -> nn.Module:
            return Conditional(nn.Linear(3, width), likelihood, event_shape=event).double()

        module = make()
        for lead in ((), (4,), (2, 4)):
            p = _distribution(module, "the likelihood", _inputs(*lead))
            _shapes(p, lead, event)
        z = _inputs(4)
        p = module(z)
        x = _samples(p, ())
        log_p = _log_prob(p, x, (4,))
        _inside(p, x)
        for i in range(4):
            _alone(module(z[i : i + 1]).log_prob(x[i : i + 1])[0], log_p[i], "log_prob")
        _gradients(log_p.sum(), module)
        _saved(module, make, lambda other, z=z, x=x: other(z).log_prob(x), log_p)
        _check_extremes(module, event)
        head: Any = module.head
        if hasattr(head, "initial_parameters"):
            start = head.initial_parameters(x)
            _require(start.shape == (width,), f"initial_parameters has shape {tuple(start.shape)}, not ({width},)")
            _require(bool(start.isfinite().all()), "initial_parameters holds numbers that are not finite")
        if math.prod(event) == 1 and measure(p) != "score":
            _check_density(module(_inputs(1)[0]))


def _check_extremes(module: Any, event: tuple[int, ...]) -> None:
    width = module.head.features(event)
    for size in (1e4, -1e4):
        raw = torch.full((2, width), size, dtype=torch.float64, requires_grad=True)
        p = module.of(raw)
        x = _samples(p, (5,))
        log_p = p.log_prob(x)
        _require(bool(log_p.isfinite().all()), f"log_prob is not finite at raw numbers of {size:g}")
        (gradient,) = torch.autograd.grad(log_p.sum(), raw)
        _require(bool(gradient.isfinite().all()), f"gradients of log_prob are not finite at raw numbers of {size:g}")


@_check
def check_posterior(posterior: PosteriorFamily, latents: tuple[int, ...] = (1, 2, 5)) -> None:
    """Check a posterior family: `features`, `z_shape` and `build`, whose head makes q(z|x) of a network's raw numbers.

    q(z|x) is one distribution for each row. Samples are finite and a function of the generator. If it is a density or
    a mass, log_prob is in float64, finite, one number for each row whatever else is in the batch; over real z it
    integrates to 1 in one dimension, and samples follow it. Every weight has a finite gradient; saved weights load.

    Args:
        posterior: the family.
        latents: how many units of z it has. A number that `build` refuses with ValueError is left out.

    Raises:
        AssertionError: says what does not hold.

    Example:
        >>> check_posterior(Gaussian())
    """
    built, refused = 0, ""
    for latent in latents:
        shape = posterior.z_shape(latent)

        def make(shape: Any = shape) -> nn.Module:
            return Conditional(nn.Linear(3, posterior.features(shape)), posterior, shape).double()

        try:
            module = make().eval()
            x = _inputs(4)
            q = _distribution(module, "the posterior", x)
        except ValueError as error:
            refused = str(error)
            continue
        built += 1
        _shapes(q, (4,), q.event_shape)
        z = _samples(q, (2,))
        if not posterior.has_density:
            continue
        log_q = _log_prob(q, z, (2, 4))
        for i in range(4):
            _alone(module(x[i : i + 1]).log_prob(z[:, i : i + 1])[:, 0], log_q[:, i], "log_prob")
        if posterior.has_score:
            _gradients(log_q.sum(), module, every=False)
        _saved(module, lambda make=make: make().eval(), lambda other, x=x, z=z: other(x).log_prob(z), log_q)
        if posterior.support_of_z == "real" and q.event_shape == (1,):
            _check_density(_row(module, x))
    _require(built > 0, f"it was built for none of {latents} latents: {refused}")


def _row(module: nn.Module, x: Tensor) -> Distribution:
    return _One(module(x[:1]))


@_check
def check_objective(objective: Any) -> None:
    """Check an objective: a spec with `samples` and `gradient`, called with a `Draw` and a `StepContext`.

    It gives a value, and named parts, for each row, in float64 and finite, with and without gradients; the same for the
    same draw; rows in another order have their values in that order. Every weight of the model that it reads has a
    finite gradient, and some weight of encoder and decoder has one that is not 0.

    Args:
        objective: the spec.

    Raises:
        AssertionError: says what does not hold.

    Example:
        >>> from vaekit.objectives import Elbo
        >>> check_objective(Elbo(beta=0.5))
    """
    posterior = Conditional(Mlp((8,), activation="tanh").build((6,), 4), Gaussian())
    likelihood = Conditional(Mlp((8,), activation="tanh").build((2,), 6), Bernoulli())
    model = VAE(posterior, StandardNormal().build(2), likelihood).double()
    x = torch.bernoulli(torch.full((5, 6), 0.5, dtype=torch.float64), generator=new_generator(1))
    gradient, samples = objective.gradient, objective.samples
    _require(isinstance(samples, int) and samples > 0, f"samples is {samples!r}: it should be a number above 0")
    noise = torch.randn(samples, 5, 2, dtype=torch.float64, generator=new_generator(2))

    def value(order: Tensor) -> Any:
        how = {"reparametrised": gradient.reparametrised, "score": gradient.score}
        draw = model.draw(x[order], samples, noise=(noise[:, order],), **how)
        return objective(draw, StepContext(step=3, steps=10, rows=5, model=model))

    order = torch.tensor([3, 1, 4, 0, 2])
    terms, again, other = value(torch.arange(5)), value(torch.arange(5)), value(order)
    for name, part in {"value": terms.value, **terms.parts}.items():
        _require(isinstance(part, Tensor) and part.shape == (5,), f"{name} is not one number for each row, (batch,)")
        _require(part.dtype == torch.float64, f"{name} is {part.dtype} where the model computes in float64")
        _require(bool(part.isfinite().all()), f"{name} is not finite")
    _require(again.value.equal(terms.value), "the same draw has another value the second time")
    close = torch.allclose(other.value, terms.value[order], ROUNDING, ROUNDING)
    _require(close, "rows in another order have other values: the value of a row depends on its place in the batch")
    _gradients(terms.value.sum(), model, every=False)
    for name, module in (("encoder", posterior), ("decoder", likelihood)):
        gradients = torch.autograd.grad(value(order).value.sum(), list(module.parameters()), allow_unused=True)
        _require(any(g is not None and bool(g.any()) for g in gradients), f"no gradient reaches the {name}")
    with torch.no_grad():
        _require(bool(value(order).value.isfinite().all()), "its value is not finite without gradients")


class _One(Distribution):
    """The only row of a batch of one."""

    def __init__(self, base: Distribution):
        self.base = base
        super().__init__(torch.Size(), base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self.base.support

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base.log_prob(value.unsqueeze(-1 - len(self.event_shape)))[..., 0]

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return draw_from(self.base, (n,), generator)[:, 0]


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise AssertionError(text)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn what a part raises into a failure of the check that tries it."""
    try:
        yield
    except (RuntimeError, TypeError, IndexError, NotImplementedError, AttributeError) as error:
        raise AssertionError(f"{what} raises {type(error).__name__}: {error}") from error


def _inputs(*lead: int) -> Tensor:
    return torch.randn(*lead, 3, dtype=torch.float64, generator=new_generator(1))


def _distribution(module: nn.Module, role: str, *inputs: Tensor) -> Distribution:
    with _named(f"calling {role}"):
        found = module(*inputs)
    _require(isinstance(found, Distribution), f"{role} returns {type(found).__name__}, not a torch Distribution")
    return found


def _shapes(p: Distribution, lead: tuple[int, ...], event: tuple[int, ...]) -> None:
    _require(p.event_shape == event, f"the event shape is {tuple(p.event_shape)}, and should be {tuple(event)}")
    _require(p.batch_shape == lead, f"the batch shape is {tuple(p.batch_shape)}, and should be {tuple(lead)}")


def _samples(p: Distribution, shape: tuple[int, ...]) -> Tensor:
    with _named("sampling"), torch.no_grad():
        before = torch.get_rng_state()
        first, again = draw_from(p, shape, new_generator(3)), draw_from(p, shape, new_generator(3))
        changed = not torch.equal(before, torch.get_rng_state())
    expected = (*shape, *p.batch_shape, *p.event_shape)
    _require(first.shape == expected, f"samples have shape {tuple(first.shape)}, and should have {expected}")
    _require(bool(first.isfinite().all()), "samples are not finite")
    _require(torch.equal(first, again), "samples differ for the same generator")
    _require(not changed, "sampling changes torch's global random state")
    return first


def _log_prob(p: Distribution, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    with _named("log_prob"):
        found = p.log_prob(x)
    _require(found.shape == shape, f"log_prob has shape {tuple(found.shape)}, and should have {shape}")
    _require(found.dtype == torch.float64, f"log_prob is {found.dtype} where its module is in float64")
    _require(bool(found.isfinite().all()), "log_prob of a sample is not finite")
    return found


def _inside(p: Distribution, x: Tensor) -> None:
    support = support_of(p)
    if support is not None:
        _require(bool(support.check(x.double()).all()), f"samples lie outside of the support, {support}")


def _alone(alone: Tensor, together: Tensor, what: str) -> None:
    close = torch.allclose(alone, together, ROUNDING, ROUNDING)
    _require(close, f"{what} of a row depends on the other rows of its batch")


def _gradients(value: Tensor, module: nn.Module, every: bool = True) -> None:
    named = dict(module.named_parameters())
    if not named:
        return
    _require(value.requires_grad, "no gradient reaches its weights")
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True, retain_graph=True)
    for name, gradient in zip(named, found, strict=True):
        _require(gradient is not None or not every, f"no gradient reaches the weight {name}")
        _require(gradient is None or bool(gradient.isfinite().all()), f"the gradient of {name} is not finite")


def _saved(
    module: nn.Module, make: Callable[[], nn.Module], score: Callable[[nn.Module], Tensor], expected: Tensor
) -> None:
    other = make()
    with _named("loading saved weights"):
        other.load_state_dict({name: value.clone() for name, value in module.state_dict().items()}, strict=True)
    with torch.no_grad():
        same = torch.equal(score(other), expected.detach())
    _require(same, "with saved weights it is another: what it depends on is not among its parameters and buffers")


@torch.no_grad()
def _check_density(p: Distribution) -> None:
    """exp(log_prob) over z of one or two numbers adds up to 1, and means over samples are those under it."""
    generator = new_generator(4)
    x = p.draw(SAMPLES, generator) if isinstance(p, _One) else draw_from(p, (SAMPLES,), generator)
    x = x.double().reshape(SAMPLES, -1)
    dims, shape = x.shape[1], p.event_shape
    points, weights = _quadrature(p, x)
    log_p = torch.cat([p.log_prob(part.reshape(-1, *shape)) for part in points.split(SEVERAL)]).double()
    mass = weights * log_p.exp()
    total = float(mass.nansum())
    what = "adds up" if measure(p) == "mass" else "integrates"
    _require(abs(total - 1) < OFF_BY[dims], f"exp(log_prob) {what} to {total:.4f} in {dims} dimension(s), not to 1")
    centre, spread = x.mean(0), x.std(0).clamp_min(1e-6)
    for name, statistic in (
        ("tanh of its deviation", lambda y: torch.tanh((y - centre) / spread)),
        ("tanh of its squared deviation", lambda y: torch.tanh(((y - centre) / spread) ** 2)),
    ):
        by_density = (mass[:, None] * statistic(points)).nansum(0)
        of_samples = statistic(x)
        error = (of_samples.std(0) / math.sqrt(SAMPLES)).clamp_min(1e-9) + OFF_BY[dims] / 10
        sigmas = float(((of_samples.mean(0) - by_density) / error).abs().max())
        _require(
            sigmas < MOST_SIGMA,
            f"samples do not follow log_prob: the mean {name} is {of_samples.mean(0).tolist()} over samples and "
            f"{by_density.tolist()} under the density, {sigmas:.1f} standard errors apart",
        )


def _quadrature(p: Distribution, x: Tensor) -> tuple[Tensor, Tensor]:
    """Points (n, dims) and weights (n,) of a sum or an integral over the support."""
    support = support_of(p)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    dims = x.shape[1]
    low, high = float(getattr(support, "lower_bound", -math.inf)), float(getattr(support, "upper_bound", math.inf))
    if isinstance(support, type(constraints.boolean)):
        low, high = 0.0, 1.0
    if support is not None and support.is_discrete:
        top = min(high, max(float(x.max()) * 20, 1000.0), MOST_COUNTED)
        values = torch.arange(low, top + 1, dtype=torch.float64)
        return values[:, None], torch.ones_like(values)
    u = (torch.arange(POINTS[dims], dtype=torch.float64) + 0.5) / POINTS[dims]
    if math.isfinite(low) and math.isfinite(high):
        axes = [(low + (high - low) * u, torch.full_like(u, (high - low) / len(u)))] * dims
    else:  # by the quantiles of a Cauchy distribution, whose tails are heavier than most
        middle, angle = x.median(0).values, math.pi * (u - 0.5)
        wide = (x.quantile(0.75, 0) - x.quantile(0.25, 0)).clamp_min(1e-6) / 2
        axes = [
            (m + w * angle.tan(), math.pi * w / angle.cos() ** 2 / len(u)) for m, w in zip(middle, wide, strict=True)
        ]
    points = torch.stack([g.flatten() for g in torch.meshgrid(*[axis[0] for axis in axes], indexing="ij")], 1)
    weights = torch.stack([g.flatten() for g in torch.meshgrid(*[axis[1] for axis in axes], indexing="ij")], 1).prod(1)
    return points, weights
