"""Checks that a part keeps to what vaekit relies on: run them in the tests of your own priors, families and objectives.

Each check builds the part in float64, tries it on small random inputs, and raises AssertionError that says what is
wrong. They are the contract tests of vaekit's own parts. Nothing of the caller's is changed.
"""

import functools
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, constraints

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
from vaekit.models.networks.context import with_context
from vaekit.objectives import StepContext
from vaekit.randomness import new_generator

ROUNDING = 1e-10
MOST_SIGMA = 5.0  # between a mean over samples and the same mean by quadrature: one in 1.7 million fails by chance
SAMPLES = 10_000
LEVELS = (65, 33)  # quantiles that a quadrature over one number starts from
GRIDS = (191, 141)  # points along each of two axes; an integral counts where both agree
ROUNDS = 60  # of halving the intervals of a quadrature over one number
CONTEXT = 2  # numbers of context
COMPARED = 4_000  # samples on each side of a comparison without quadrature
CELLS = 1_000  # samples of a discrete distribution in it
CENTRES = 200  # of the kernel density estimate in it
NEAREST = 10  # neighbours that set the bandwidth of a kernel
FAILURE_RATE = 1e-6  # of one statistic in such a comparison, for a right part
MOST_NUMBERS = 7  # of a real value that is compared so
OFF_BY = {1: 2e-3, 2: 2e-2}  # what an integral may differ from 1 by
SEVERAL = 50_000  # points at a time
MOST_COUNTED = 100_000  # values of an unbounded count
BESIDE: dict[str, PosteriorFamily] = {
    "real": Gaussian(),
    "sphere": PowerSpherical(),
    "discrete": CategoricalPosterior(),
}

__all__ = ["check_likelihood", "check_objective", "check_posterior", "check_prior"]


def __dir__() -> list[str]:
    return __all__


def _check(function: Callable[..., None]) -> Callable[..., None]:
    """Give a check random numbers and a precision of its own, and name the part in what it raises."""

    @functools.wraps(function)
    def checked(part: Any, *args: Any, **settings: Any) -> None:
        if isinstance(part, type):
            name = part.__name__
            raise TypeError(f"{name} is a class: give an instance, as in {function.__name__}({name}())")
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
    in one and two dimensions (for real z). In every dimension, statistics of samples are compared with those under
    log_prob by identities that need no integral: each fails a right prior once in a million. The module takes a
    context, is the same in train and eval mode, every weight has a finite gradient, and saved weights load.

    Args:
        prior: the spec.
        sizes: of z. A size that `build` refuses with ValueError is left out; one at least must build.

    Raises:
        AssertionError: says what does not hold.
        TypeError: it is a class, not an instance.

    Example:
        >>> from vaekit.priors import Mixture
        >>> check_prior(Mixture(components=3))
    """
    _require(bool(getattr(prior, "over", ())), "it has no `over`, which says what z it is over: real, sphere, discrete")
    kinds = f'`over` is {prior.over!r}: it should be a tuple of kinds of z, as in over = ("real",)'
    _require(isinstance(prior.over, (tuple, list)), kinds)
    _require(
        callable(getattr(prior, "build", None)), "it has no `build(self, size, ctx=ALONE)`, which makes the module"
    )
    built, refused = 0, ""
    for kind in prior.over:
        _require(kind in BESIDE, f"it is over {kind!r}: it should be one of {', '.join(BESIDE)}")
        for size in sizes:
            try:
                family, shape = BESIDE[kind], BESIDE[kind].z_shape(size)
                ctx = BuildContext((3,), posterior=_posterior(family, shape))
                event = _posterior(family, shape)(torch.zeros(1, 3, dtype=torch.float64)).event_shape
                total = math.prod(shape)
                make = functools.partial(_built, prior, total, ctx)
                make()
                width = CONTEXT if getattr(prior, "is_conditional", False) else 0
                beside = BuildContext((3,), width, posterior=_posterior(family, shape, width))
                with_one = _built(prior, total, beside)
            except ValueError as error:
                refused = str(error)
                continue
            built += 1
            _check_prior(make, event, kind)
            _takes_context(with_one)
    _require(built > 0, f"it was built for none of the sizes {sizes}: {refused}")


def _posterior(family: PosteriorFamily, shape: Any, context: int = 0) -> Conditional:
    network = with_context(lambda in_shape: Mlp((4,)).build(in_shape, family.features(shape)), (3,), context)
    return Conditional(network, family, shape).double()


def _built(spec: Any, size: int, ctx: BuildContext) -> nn.Module:
    with _named("build(size, ctx), which should take a number and a BuildContext,"):
        module = spec.build(size, ctx)
    _require(isinstance(module, nn.Module), f"build returned {type(module).__name__}, not a torch module")
    return module.double()


def _takes_context(module: nn.Module) -> None:
    with _named("calling the prior with a context, as training does, by forward(self, context=None),"):
        p = module(torch.zeros(4, CONTEXT, dtype=torch.float64))
    _require(isinstance(p, Distribution), f"the prior returns {type(p).__name__} with a context, not a Distribution")
    rows = tuple(p.batch_shape)
    _require(rows in ((), (4,)), f"p(z) has batch shape {rows} for 4 rows of context: it should be () or (4,)")


def _check_prior(make: Callable[[], nn.Module], event: torch.Size, kind: str) -> None:
    module = make()
    p = _distribution(module, "the prior")
    _require(p.event_shape == event, f"p(z) has event shape {tuple(p.event_shape)}, and z has {tuple(event)}")
    _require(p.batch_shape == (), f"p(z) has batch shape {tuple(p.batch_shape)}: it should be one distribution")
    z = _samples(p, (4, 3))
    log_p = _log_prob(p, z, (4, 3))
    _rows_alone(lambda part, _: p.log_prob(part), z, log_p)
    _modes(module, lambda: _distribution(module, "the prior").log_prob(z))
    _gradients(log_p.sum(), module)
    _saved(module, make, lambda other: _distribution(other, "the prior").log_prob(z), log_p)
    if kind == "real":
        _check_density(p)
    elif kind == "discrete":
        _compare_cells(p)


@_check
def check_likelihood(
    likelihood: LikelihoodFamily, events: tuple[tuple[int, ...], ...] = ((1,), (7,), (1, 3, 5))
) -> None:
    """Check a likelihood family: `features` and `build`, whose head makes p(x|z) of a network's raw numbers.

    p(x|z) has the shapes of the raw numbers and the event. Samples lie in its support, follow log_prob, and are a
    function of the generator; log_prob is in float64, finite, one number for each row whatever else is in the batch,
    finite at raw numbers of 10,000, too, exp(log_prob) of one value adds up to 1, and up to 7 numbers follow log_prob
    jointly. Every weight has a finite
    gradient; saved weights load; `initial_parameters` gives finite raw numbers, where there are some.

    Args:
        likelihood: the family.
        events: shapes of x. One that `build` refuses with ValueError is left out; one at least must build.

    Raises:
        AssertionError: says what does not hold.
        TypeError: it is a class, not an instance.

    Example:
        >>> check_likelihood(Gaussian())
    """
    _has(likelihood, "features(event_shape)", "build(event_shape)")
    built, refused = 0, ""
    for event in events:
        width = likelihood.features(event)

        def make(event: tuple[int, ...] = event, width: int = width) -> nn.Module:
            return Conditional(nn.Linear(3, width), likelihood, event_shape=event).double()

        try:
            module = make()
        except ValueError as error:
            refused = str(error)
            continue
        built += 1
        for lead in ((), (4,), (2, 4)):
            p = _distribution(module, "the likelihood", _inputs(*lead))
            _shapes(p, lead, event)
        z = _inputs(4)
        p = module(z)
        x = _samples(p, ())
        log_p = _log_prob(p, x, (4,))
        _inside(p, x)
        _rows_alone(lambda part, row, module=module, z=z: module(z[row]).log_prob(part), x, log_p)
        several = _samples(p, (3,))
        _rows_alone(lambda part, _, p=p: p.log_prob(part), several, _log_prob(p, several, (3, 4)), 1)
        _modes(module, lambda module=module, z=z, x=x: module(z).log_prob(x))
        _gradients(log_p.sum(), module)
        _saved(module, make, lambda other, z=z, x=x: other(z).log_prob(x), log_p)
        _check_extremes(module, event)
        head: Any = module.head
        if hasattr(head, "initial_parameters"):
            start = head.initial_parameters(x)
            _require(start.shape == (width,), f"initial_parameters has shape {tuple(start.shape)}, not ({width},)")
            _require(bool(start.isfinite().all()), "initial_parameters holds numbers that are not finite")
        if measure(p) == "score":
            continue
        one = module(_inputs(1)[0])
        if math.prod(event) == 1 or measure(p) == "density":
            _check_density(one)
        elif math.prod(event) <= MOST_NUMBERS:
            _compare_cells(one)
    _require(built > 0, f"it was built for none of the events {events}: {refused}")


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
    integrates to 1, and samples follow it. Every weight has a finite gradient; saved weights load.

    Args:
        posterior: the family.
        latents: how many units of z it has. A number that `build` refuses with ValueError is left out.

    Raises:
        AssertionError: says what does not hold.
        TypeError: it is a class, not an instance.

    Example:
        >>> check_posterior(Gaussian())
    """
    _has(posterior, "features(shape)", "z_shape(latent)", "build(shape)")
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
        _rows_alone(lambda part, _, q=q: q.log_prob(part), z, log_q, 1)
        for i in range(4):
            _alone(module(x[i : i + 1]).log_prob(z[:, i : i + 1])[:, 0], log_q[:, i], "log_prob")
        if posterior.has_score:
            _gradients(log_q.sum(), module, every=False)
        _saved(module, lambda make=make: make().eval(), lambda other, x=x, z=z: other(x).log_prob(z), log_q)
        if posterior.support_of_z == "real":
            _check_density(_One(module(x[:1])))
        elif posterior.support_of_z == "discrete" and measure(q) == "mass":
            _compare_cells(_One(module(x[:1])))
    _require(built > 0, f"it was built for none of {latents} latents: {refused}")


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
        TypeError: it is a class, not an instance.

    Example:
        >>> from vaekit.objectives import Elbo
        >>> check_objective(Elbo(beta=0.5))
    """
    _has(objective, "samples", "gradient")
    call = "it has no __call__(self, draw, ctx), which gives the value of each row"
    _require(callable(objective), call)
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
        with _named("calling it with a Draw and a StepContext"):
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


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise AssertionError(text)


def _has(part: Any, *wanted: str) -> None:
    for what in wanted:
        _require(hasattr(part, what.partition("(")[0]), f"it has no `{what}`")


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn what a part raises into a failure of the check that tries it."""
    try:
        yield
    except NotImplementedError as error:
        missing = f": {error}" if str(error) else ", as the distribution does not define it"
        raise AssertionError(f"{what} raises NotImplementedError{missing}") from error
    except (RuntimeError, TypeError, LookupError, AttributeError) as error:
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
    with _named("sampling, by rsample or sample,"), torch.no_grad():
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
    close = alone.shape == together.shape and torch.allclose(alone, together, ROUNDING, ROUNDING)
    _require(close, f"{what} of a row depends on the other rows of its batch")


def _rows_alone(score: Callable[[Tensor, Any], Tensor], x: Tensor, together: Tensor, axes: int | None = None) -> None:
    """Along each leading axis, or the first few, log_prob of one entry is that in the whole."""
    for axis in range(together.dim() if axes is None else axes):
        for i in range(together.shape[axis]):
            with _named("log_prob of a single row"):
                alone = score(x.narrow(axis, i, 1), slice(i, i + 1))
            _alone(alone, together.narrow(axis, i, 1), "log_prob")


def _modes(module: nn.Module, score: Callable[[], Tensor]) -> None:
    """Dropout or batch normalisation would make log_prob another in training, or at random."""
    training = module.training
    with torch.no_grad():
        found = []
        for mode in (True, False):
            module.train(mode)
            found.append(score())
    module.train(training)
    same = torch.allclose(found[0], found[1], ROUNDING, ROUNDING)
    _require(same, "log_prob differs between train and eval mode: leave out dropout and batch normalisation")


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
    """exp(log_prob) adds up to 1, and means over samples are those under it."""
    numbers = p.event_shape.numel()
    sure = numbers in OFF_BY and not (numbers == 2 and isinstance(p, _One)) and _check_integral(p)
    if not sure and measure(p) == "density" and numbers <= MOST_NUMBERS:
        _compare_densities(p)


def _draws(p: Distribution, n: int, seed: int) -> Tensor:
    """Samples as vaekit draws them; of a subclass of Independent, half by its own `sample`, which vaekit passes by."""
    generator, q = new_generator(seed), p.base if isinstance(p, _One) else p
    with _named("sampling, by rsample or sample,"):
        drawn = draw_from(q, (n,), generator)
        if isinstance(q, Independent) and type(q) is not Independent:
            torch.manual_seed(seed)
            drawn[::2] = q.sample((len(drawn[::2]),))
    return (drawn.select(1, 0) if isinstance(p, _One) else drawn).double()


def _check_integral(p: Distribution) -> bool:
    """By quadrature in one and two dimensions; False where it does not converge."""
    x = _draws(p, SAMPLES, 4).reshape(SAMPLES, -1)
    dims = x.shape[1]
    points, mass, sure = _quadrature(p, x)
    if not sure:
        text = f"the quadrature of exp(log_prob) in {dims} dimension(s) is unsure: samples alone are compared with it"
        warnings.warn(text, stacklevel=2)
        return False
    total = float(mass.sum())
    what = "adds up" if measure(p) == "mass" else "integrates"
    _require(abs(total - 1) < OFF_BY[dims], f"exp(log_prob) {what} to {total:.4f} in {dims} dimension(s), not to 1")
    centre, spread = x.median(0).values, _spread(x)
    for name, statistic in (
        ("tanh of its deviation", lambda y: torch.tanh((y - centre) / spread)),
        ("tanh of its squared deviation", lambda y: torch.tanh(((y - centre) / spread) ** 2)),
        ("product of tanh of its deviations", lambda y: torch.tanh((y - centre) / spread).prod(1, keepdim=True)),
    ):
        by_density = (mass[:, None] * statistic(points)).sum(0)
        of_samples = statistic(x)
        error = (of_samples.std(0) / math.sqrt(SAMPLES)).clamp_min(1e-9) + OFF_BY[dims] / 10
        sigmas = float(((of_samples.mean(0) - by_density) / error).abs().max())
        _require(
            sigmas < MOST_SIGMA,
            f"samples do not follow log_prob: the mean {name} is {of_samples.mean(0).tolist()} over samples and "
            f"{by_density.tolist()} under the density, {sigmas:.1f} standard errors apart",
        )
    return True


def _spread(x: Tensor) -> Tensor:
    """Half the range between the quartiles, of each axis."""
    return ((x.quantile(0.75, 0) - x.quantile(0.25, 0)) / 2).clamp_min(1e-6)


def _quadrature(p: Distribution, x: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Points (n, dims) over the support, the mass at each, and whether their sum has converged."""
    support = support_of(p)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    low = float(torch.as_tensor(getattr(support, "lower_bound", -math.inf)).min())
    high = float(torch.as_tensor(getattr(support, "upper_bound", math.inf)).max())
    if isinstance(support, type(constraints.boolean)):
        low, high = 0.0, 1.0
    if support is not None and support.is_discrete:
        top = min(high, max(float(x.max()) * 20, 1000.0), MOST_COUNTED)
        values = torch.arange(low, top + 1, dtype=torch.float64)[:, None]
        return values, _log_density(p, values).exp(), True
    if x.shape[1] == 1:
        (points, mass, sure), (_, again, too) = (_adaptive(p, x[:, 0], low, high, count) for count in LEVELS)
        return points, mass, sure and too and abs(float(mass.sum() - again.sum())) < OFF_BY[1] / 10
    (points, mass), (_, again) = (_grid(p, x, low, high, count) for count in GRIDS)
    return points, mass, abs(float(mass.sum() - again.sum())) < OFF_BY[2] / 10


def _log_density(p: Distribution, points: Tensor) -> Tensor:
    """log_prob (n,) of points (n, dims); minus infinity where it is not defined."""
    found = torch.cat([p.log_prob(part.reshape(-1, *p.event_shape)) for part in points.split(SEVERAL)]).double()
    return found.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)


def _grid(p: Distribution, x: Tensor, low: float, high: float, count: int) -> tuple[Tensor, Tensor]:
    """Points of a grid over two axes, and the mass at each."""
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    if math.isfinite(low) and math.isfinite(high):
        axes = [(low + (high - low) * u, torch.full_like(u, (high - low) / count))] * 2
    else:  # by the quantiles of a Cauchy distribution, whose tails are heavier than most
        angle = math.pi * (u - 0.5)
        middles = zip(x.median(0).values, _spread(x), strict=True)
        axes = [(m + w * angle.tan(), math.pi * w / angle.cos() ** 2 / count) for m, w in middles]
    points, weights = (torch.cartesian_prod(axes[0][i], axes[1][i]) for i in range(2))
    return points, weights.prod(1) * _log_density(p, points).exp()


def _adaptive(p: Distribution, x: Tensor, low: float, high: float, count: int) -> tuple[Tensor, Tensor, bool]:
    """Quadrature over one number: intervals between quantiles of samples are halved until each has converged."""
    middle, width = x.median(), _spread(x[:, None])[0]

    def of(y: Tensor) -> tuple[Tensor, Tensor]:
        """The number at y, and ln of its derivative; tails of any weight are in reach."""
        if math.isfinite(low) and math.isfinite(high):
            return y, torch.zeros_like(y)
        if math.isfinite(low):
            return low + width * y.exp(), width.log() + y
        return middle + width * y.sinh(), width.log() + torch.logaddexp(y, -y) - math.log(2)

    if math.isfinite(low) and math.isfinite(high):
        ends, known = (low, high), x
    elif math.isfinite(low):
        ends, known = (-200.0, 100.0), ((x - low) / width).clamp_min(1e-80).log()
    else:
        ends, known = (-100.0, 100.0), ((x - middle) / width).asinh()
    known = known.sort().values
    gaps = known.diff().topk(count // 4).indices  # no interval from the midst of one mode to that of another
    levels = known.quantile(torch.linspace(0, 1, count, dtype=torch.float64))
    far = torch.linspace(*ends, 33, dtype=torch.float64)
    edges = torch.cat([levels, known[gaps], known[gaps + 1], far]).clamp(*ends).unique()
    start, end = edges[:-1], edges[1:]
    at = torch.tensor([0.0, math.sqrt(5 - 2 * math.sqrt(10 / 7)) / 3, math.sqrt(5 + 2 * math.sqrt(10 / 7)) / 3])
    share = torch.tensor([128 / 225, (322 + 13 * math.sqrt(70)) / 900, (322 - 13 * math.sqrt(70)) / 900])
    nodes = torch.cat([at, -at[1:]]).double()  # Gauss-Legendre with five points
    shares = torch.cat([share, share[1:]]).double() / 2

    def masses(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        value, log_slope = of((start + end)[:, None] / 2 + (end - start)[:, None] / 2 * nodes)
        log_p = _log_density(p, value.reshape(-1, 1)).reshape(value.shape)
        return value, (log_p + log_slope).exp() * shares * (end - start)[:, None]

    _, mass = masses(start, end)
    points, found = [], []
    for _ in range(ROUNDS):
        halfway = (start + end) / 2
        start, end = torch.stack([start, halfway], 1).flatten(), torch.stack([halfway, end], 1).flatten()
        value, finer = masses(start, end)
        off = (finer.sum(1).reshape(-1, 2).sum(1) - mass.sum(1)).abs() > OFF_BY[1] / 1000
        again = off.repeat_interleave(2)
        points.append(value[~again].flatten())
        found.append(finer[~again].flatten())
        start, end, mass = start[again], end[again], finer[again]
        if not len(start) or len(start) > SEVERAL:
            break
    return torch.cat(points)[:, None], torch.cat(found), not len(start)


def _directions(numbers: int) -> Tensor:
    """The axes, and as many random directions again."""
    random = torch.randn(numbers, numbers, dtype=torch.float64, generator=new_generator(6))
    return torch.cat([torch.eye(numbers, dtype=torch.float64), random / random.norm(dim=0)], 1)


def _statistics(x: Tensor) -> Tensor:
    """Bounded statistics (n, many) of x (n, dims) in units of its spread: the first is 1, others catch dependence."""
    along = torch.tanh(x @ _directions(x.shape[1]))
    i, j = torch.triu_indices(x.shape[1], x.shape[1], 1)
    pairs = along[:, i] * along[:, j]
    return torch.cat([torch.ones_like(x[:, :1]), along, along**2, pairs], 1)


def _compare_densities(p: Distribution) -> None:
    """Samples of p and of a known r near it, by an identity in which nothing is unbounded.

    For every h, E_p[h r / (p + r)] = E_r[h p / (p + r)], if samples of p follow exp(log_prob) and that integrates to 1
    (Meng and Wong, 1996, "Simulating ratios of normalizing constants", equation 2.2, with ratio 1). r is a kernel
    density estimate from other samples, so it is near p whatever its modes and tails.
    """
    x = _draws(p, COMPARED + CENTRES, 7).reshape(COMPARED + CENTRES, -1)
    spread, middle = _spread(x), x.median(0).values
    unit = (x - middle) / spread
    unit, centres = unit[CENTRES:], unit[:CENTRES]
    dims = unit.shape[1]
    nearest = torch.cdist(centres, centres).kthvalue(NEAREST + 1, 1).values
    widths = (nearest / math.sqrt(dims)).clamp_min(1e-9)
    generator = new_generator(8)
    which = torch.randint(CENTRES, (COMPARED,), generator=generator)
    noise = torch.randn(COMPARED, dims, dtype=torch.float64, generator=generator)
    proposed = centres[which] + widths[which, None] * noise

    def gap(y: Tensor) -> Tensor:
        """Ln p - ln r."""
        each = -0.5 * (torch.cdist(y, centres) / widths) ** 2 - dims * (widths.log() + 0.5 * math.log(2 * math.pi))
        log_r = each.logsumexp(1) - math.log(CENTRES) - spread.log().sum()
        value = middle + spread * y
        log_p, support = _log_density(p, value), support_of(p)
        if support is not None:
            inside = support.check(value.reshape(-1, *p.event_shape))
            log_p = log_p.where(inside.reshape(len(y), -1).all(1), -math.inf)
        return log_p - log_r

    _agree(
        torch.sigmoid(-gap(unit))[:, None] * _statistics(unit),
        torch.sigmoid(gap(proposed))[:, None] * _statistics(proposed),
        f"in {dims} dimension(s)",
    )


@torch.no_grad()
def _compare_cells(p: Distribution) -> None:
    """How often samples lie in cells that other samples were in, and the probabilities of those cells."""
    rows = _draws(p, CELLS, 9).reshape(CELLS, -1)
    cells, inverse = rows.unique(dim=0, return_inverse=True)
    known = torch.zeros(len(cells), dtype=torch.bool)
    known[inverse[: CELLS // 2]] = True
    log_p = _log_density(p, cells[known])
    total = float(log_p.exp().sum())
    _require(total < 1 + OFF_BY[1], f"exp(log_prob) adds up to {total:.4f} over {len(log_p)} values, not to at most 1")
    signs = torch.randn(len(cells), 16, dtype=torch.float64, generator=new_generator(6)).sign()
    signs[:, 0] = 1
    signs[~known] = 0
    by_density = (log_p.exp()[:, None] * signs[known]).sum(0, keepdim=True)
    _agree(signs[inverse[CELLS // 2 :]], by_density, f"over {len(log_p)} values")


def _agree(of_samples: Tensor, by_density: Tensor, where: str) -> None:
    """Means of as many values in [-1, 1], or means and exact numbers, agree to what is left to chance.

    By the empirical Bernstein bound: Maurer and Pontil, 2009, arXiv 0907.3740, theorem 4.
    """
    difference = of_samples - by_density
    n, log_rate = len(difference), math.log(4 / FAILURE_RATE)
    bound = (2 * difference.var(0) * log_rate / n).sqrt() + 14 * log_rate / (3 * (n - 1))
    first, second = of_samples.mean(0), by_density.mean(0)
    ratio = (first - second).abs() / bound
    worst = int(ratio.argmax())
    _require(
        float(ratio[worst]) < 1,
        f"samples do not follow log_prob {where}, or exp(log_prob) does not add up to 1: a statistic is "
        f"{first[worst]:.4f} over samples and {second[worst]:.4f} under log_prob, {ratio[worst]:.1f} times what "
        f"is left to chance once in {1 / FAILURE_RATE:,.0f}",
    )
