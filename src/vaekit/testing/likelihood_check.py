"""Whether a likelihood keeps to its contract."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.models.conditional import Conditional
from vaekit.models.distributions import in_words, independent, measure, support_of, unwrapped
from vaekit.models.families import LikelihoodFamily, LikelihoodHead
from vaekit.models.networks.units import Units
from vaekit.randomness import new_generator
from vaekit.testing.basics import (
    ROUNDING,
    check_gradients,
    check_inside,
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
    require,
    require_members,
)
from vaekit.testing.densities import MOST_NUMBERS, check_density, compare_cells

FITTED = 400  # rows that initial parameters are found for
WORSE_BY = 0.05  # nats, by which initial parameters may fit worse than those rows were drawn by
VALUES: dict[str, Callable[[Tensor, int], Tensor]] = {  # of each support, from uniform numbers and a count of levels
    "positive": lambda u, levels: 0.01 + 100 * u,
    "binary": lambda u, levels: u.round(),
    "levels": lambda u, levels: (u * levels).floor(),
    "unit": lambda u, levels: u,
    "real": lambda u, levels: 100 * (u - 0.5),
    "count": lambda u, levels: (100 * u**2).floor(),
}
FLAGS = ("integers", "takes_units", "levels_of_x")
MIXED = "mixed"  # columns of different supports, whose samples stand for their values
WHOLE = ("levels", "count")  # supports whose values are not scaled where the likelihood is over integers


@contract_check
def check_likelihood(
    likelihood: LikelihoodFamily, events: tuple[tuple[int, ...], ...] = ((1,), (7,), (1, 3, 5))
) -> None:
    """Check a likelihood family: `features` and `build`, whose head makes p(x|z) of a network's raw numbers.

    p(x|z) has the shapes of the raw numbers and the event, and depends on z. Samples lie in its support, follow
    log_prob, and are a function of the generator; log_prob is in float64, finite, one number for each row whatever else
    is in the batch, finite at raw numbers of 10,000, too, exp(log_prob) of one value adds up to 1, and up to 7 numbers
    follow log_prob jointly. Every weight has a finite gradient; saved weights load.

    What it declares holds: values of every support that it `accepts` have a finite log_prob; `integers` says whether
    such values are whole numbers; with `takes_units` its head can be called with units, and is a density in them.
    `initial_parameters`, where there are some, fit a single number to within 0.05 nats as well as the raw numbers that
    it was drawn by, and `fitted` no worse.

    Args:
        likelihood: The family.
        events: Shapes of x. One that `build` refuses with ValueError is left out; one at least must build.

    Raises:
        AssertionError: Says what does not hold.
        TypeError: It is a class, not an instance.

    Example:
        >>> from vaekit.likelihoods import Gaussian
        >>> check_likelihood(Gaussian())
    """
    require_members(
        likelihood, "features(event_shape)", "build(context)", "accepts", "integers", "takes_units", "levels_of_x"
    )
    _check_declared(likelihood)
    built, refused = 0, ""
    for event in events:

        def make(event: tuple[int, ...] = event) -> nn.Module:
            return Conditional(nn.Linear(3, likelihood.features(event)), likelihood, event_shape=event).double()

        try:
            module = make()
        except ValueError as error:
            refused = str(error)
            continue
        built += 1
        for lead in ((), (4,), (2, 4)):
            p = distribution_of(module, "the likelihood", inputs(*lead))
            check_shapes(p, lead, event)
        z = inputs(4)
        p = module(z)
        x = checked_samples(p, ())
        log_p = checked_log_prob(p, x, (4,))
        check_inside(p, x)
        _check_accepted(likelihood, p, x)
        _check_depends(module, z, x)
        check_rows_alone(lambda part, row, module=module, z=z: module(z[row]).log_prob(part), x, log_p)
        several = checked_samples(p, (3,))
        check_rows_alone(lambda part, _, p=p: p.log_prob(part), several, checked_log_prob(p, several, (3, 4)), 1)
        check_modes(module, lambda module=module, z=z, x=x: module(z).log_prob(x))
        check_gradients(log_p.sum(), module)
        check_saved(module, make, lambda other, z=z, x=x: other(z).log_prob(x), log_p)
        _check_extremes(module, event)
        if measure(p) != "score":
            _check_agreement(module(inputs(1)[0]), event)
        _check_initial(module, event)
        if likelihood.takes_units:
            _check_units(likelihood, event)
    require(built > 0, f"it was built for none of the events {events}: {refused}")


def _check_declared(likelihood: LikelihoodFamily) -> None:
    accepts = likelihood.accepts
    of_kinds = (
        isinstance(accepts, (tuple, list)) and bool(accepts) and all(kind in (*VALUES, MIXED) for kind in accepts)
    )
    text = f"`accepts` is {accepts!r}: it should be a tuple of one or more of {', '.join((*VALUES, MIXED))}"
    require(of_kinds, text)


def _check_agreement(p: Distribution, event: tuple[int, ...]) -> None:
    """Samples follow log_prob; of columns of different kinds, those of each kind by themselves."""
    if parts := getattr(unwrapped(p), "parts", ()):
        for part in parts:
            _check_agreement(independent(part, 1), tuple(part.batch_shape))
    elif math.prod(event) == 1 or measure(p) == "density":
        check_density(p)
    elif math.prod(event) <= MOST_NUMBERS:
        compare_cells(p)


def _check_accepted(likelihood: LikelihoodFamily, p: Distribution, x: Tensor) -> None:
    """Values of the supports that it accepts lie in that of p(x|z)."""
    support, levels = support_of(p), likelihood.levels_of_x or 2
    uniform = torch.rand(50, *x.shape, dtype=torch.float64, generator=new_generator(4))
    for kind in likelihood.accepts:
        values = x if kind == MIXED else VALUES[kind](uniform, levels).to(x.dtype)
        inside = support is None or bool(support.check(values).all())
        require(inside, f"it accepts {kind!r}, and its support is {in_words(support)}, which has other values")
        finite = bool(p.log_prob(values).isfinite().all())
        require(finite, f"it accepts {kind!r}, and log_prob of such values is not finite")
    whole = support is not None and support.is_discrete and any(kind in WHOLE for kind in likelihood.accepts)
    require(
        likelihood.integers == whole,
        f"`integers` is {likelihood.integers}, and it is {'' if whole else 'not '}over whole numbers: set it to "
        f"{whole}",
    )


def _check_depends(module: Any, z: Tensor, x: Tensor) -> None:
    same = torch.allclose(module(z).log_prob(x), module(z.flip(0)).log_prob(x))
    require(not same, "p(x|z) is the same for every z: it does not depend on the raw numbers")


def _check_extremes(module: Any, event: tuple[int, ...]) -> None:
    width = module.head.features(event)
    for size in (1e4, -1e4):
        raw = torch.full((2, width), size, dtype=torch.float64, requires_grad=True)
        p = module.of(raw)
        x = checked_samples(p, (5,), f" at raw numbers of {size:g}")
        log_p = p.log_prob(x)
        require(bool(log_p.isfinite().all()), f"log_prob is not finite at raw numbers of {size:g}")
        (gradient,) = torch.autograd.grad(log_p.sum(), raw)
        require(bool(gradient.isfinite().all()), f"gradients of log_prob are not finite at raw numbers of {size:g}")


@torch.no_grad()
def _check_initial(module: Any, event: tuple[int, ...]) -> None:
    """Where there are initial parameters, they fit one number as well as the raw numbers that it was drawn by."""
    head, width = module.head, module.head.features(event)
    if not isinstance(head, LikelihoodHead):
        return
    raw = module.raw(inputs())
    x = checked_samples(module.of(raw), (FITTED,))
    scores = {"drawn": module.of(raw).log_prob(x).mean()}
    for name in ("initial_parameters", "fitted"):
        with named(f"{name}(x)"):
            found = getattr(head, name)(x)
        require(found.shape == (width,), f"{name} has shape {tuple(found.shape)}, not ({width},)")
        require(bool(found.isfinite().all()), f"{name} holds numbers that are not finite")
        scores[name] = module.of(found.double()).log_prob(x).mean()
    if math.prod(event) > 1:  # of numbers that depend on one another, the best may be out of reach
        return
    worse = scores["drawn"] - scores["initial_parameters"]
    require(
        bool(worse < WORSE_BY),
        f"initial_parameters fit {FITTED} rows worse than the raw numbers that they were drawn by, by {worse:.3g} nats "
        "for each row: they should be those of the best distribution without z",
    )
    worse = scores["initial_parameters"] - scores["fitted"]
    require(bool(worse < WORSE_BY), f"fitted fits rows worse than initial_parameters, by {worse:.3g} nats for each row")


def _check_units(likelihood: LikelihoodFamily, event: tuple[int, ...]) -> None:
    """With units, p(x|z) is a distribution of x in them; units of 0 and 1 change nothing."""
    units = Units(event).double()
    network, z = nn.Linear(3, likelihood.features(event)), inputs(4)
    without = Conditional(network, likelihood, event_shape=event).double()
    with named("calling its head as head(raw, event_shape, units), as `takes_units` promises,"):
        module = Conditional(network, likelihood, event_shape=event, units=units).double()
        p = module(z)
    x = checked_samples(p, ())
    same = torch.allclose(p.log_prob(x), without(z).log_prob(x), ROUNDING, ROUNDING)
    require(same, "units of location 0 and scale 1 change p(x|z)")
    units.loc.fill_(50.0)
    units.scale.fill_(3.0)
    moved = checked_samples(module(z), (200,)).mean()
    require(abs(float(moved) - 50) < 25, f"in units of location 50 and scale 3, samples have the mean {moved:.3g}")
    _check_agreement(module(inputs(1)[0]), event)
