"""Whether an objective keeps to its contract."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vaekit.models.building import BuildContext
from vaekit.models.conditional import Conditional
from vaekit.models.likelihoods import Bernoulli, Gaussian
from vaekit.models.networks import Mlp
from vaekit.models.posteriors import CategoricalPosterior
from vaekit.models.priors import StandardNormal
from vaekit.models.vae import VAE
from vaekit.objectives import StepContext
from vaekit.objectives.gradients import RunningMean
from vaekit.randomness import new_generator
from vaekit.testing.basics import ROUNDING, check_gradients, contract_check, named, require, require_members

BATCH, WIDTH, LATENT = 5, 6, 2


@contract_check
def check_objective(objective: Any) -> None:
    """Check an objective: a spec with `samples` and `gradient`, called with a `Draw` and a `StepContext`.

    It gives a value, and named parts, for each row, in float64 and finite, with and without gradients; the same for the
    same draw; rows in another order have their values in that order. Every weight of the model that it reads has a
    finite gradient, and some weight of encoder and decoder has one that is not 0.

    It is tried as its gradient estimator needs it: on samples of a Gaussian z, or on all values of a discrete one where
    that is `enumerate`. If it has `needs_noise`, the context brings noise; if its `build(context)` makes a
    discriminator, that learns by `Terms.discriminator` alone, and the model by the value alone. One with `phases` is
    tried in each of them.

    Args:
        objective: The spec.

    Raises:
        AssertionError: Says what does not hold.
        TypeError: It is a class, not an instance.

    Example:
        >>> from vaekit.objectives import Elbo
        >>> check_objective(Elbo(beta=0.5))
    """
    call = "it has no __call__(self, draw, ctx), which gives the value of each row"
    require(callable(objective), call)
    require_members(objective, "samples", "gradient")
    for phase in getattr(objective, "phases", (objective,)):
        _check_phase(phase)
    if hasattr(objective, "phases"):
        _check_switch(objective)


@dataclass(frozen=True)
class Trial:
    """An objective with a small model, and rows to try it on.

    Attributes:
        objective: The spec.
        model: In float64.
        discriminator: That of the objective; None where it has none.
        x: Rows.
        noise: Base noise of a Gaussian z; None where all values are listed.
        more: Noise for the objective; None where it needs none.
    """

    objective: Any
    model: VAE
    discriminator: nn.Module | None
    x: Tensor
    noise: Tensor | None
    more: Tensor | None

    def __call__(self, order: Tensor, step: int = 3) -> Any:
        """Its terms for the rows in an order."""
        gradient, samples = self.objective.gradient, self.objective.samples
        draw = self.model.draw(
            self.x[order],
            samples,
            noise=None if self.noise is None else (self.noise[:, order],),
            reparametrised=gradient.reparametrised,
            score=gradient.score,
            enumerate=gradient.enumerate,
        )
        ctx = StepContext(
            step=step,
            steps=10,
            rows=BATCH,
            model=self.model,
            generator=new_generator(5),
            signal_mean=RunningMean().double(),
            discriminator=self.discriminator,
            noise=None if self.more is None else self.more[order],
        )
        with named("calling it with a Draw and a StepContext"):
            return self.objective(draw, ctx)


def _trial(objective: Any) -> Trial:
    samples, gradient = objective.samples, objective.gradient
    require(isinstance(samples, int) and samples > 0, f"samples is {samples!r}: it should be a number above 0")
    require_members(gradient, "reparametrised", "score", "enumerate")
    family = CategoricalPosterior(classes=3) if gradient.enumerate else Gaussian()
    shape = family.z_shape(LATENT)
    (size,) = shape
    posterior = Conditional(Mlp((8,), activation="tanh").build((WIDTH,), family.features(shape)), family, shape)
    likelihood = Conditional(Mlp((8,), activation="tanh").build(shape, WIDTH), Bernoulli())
    prior = StandardNormal().build(size, BuildContext((WIDTH,), posterior=posterior))
    with named("build(context), which makes its discriminator,"):
        context = BuildContext((WIDTH,), event_shape=(size,))
        discriminator = objective.build(context) if hasattr(objective, "build") else None
    noise = torch.randn(samples, BATCH, size, dtype=torch.float64, generator=new_generator(2))
    more = torch.randn(BATCH, size, dtype=torch.float64, generator=new_generator(4))
    return Trial(
        objective,
        VAE(posterior, prior, likelihood).double(),
        None if discriminator is None else discriminator.double(),
        torch.bernoulli(torch.full((BATCH, WIDTH), 0.5, dtype=torch.float64), generator=new_generator(1)),
        None if gradient.enumerate else noise,
        more if getattr(objective, "needs_noise", False) else None,
    )


def _check_phase(objective: Any) -> None:
    trial = _trial(objective)
    order = torch.tensor([3, 1, 4, 0, 2])
    before = torch.get_rng_state()
    terms, again, other = trial(torch.arange(BATCH)), trial(torch.arange(BATCH)), trial(order)
    require(torch.equal(before, torch.get_rng_state()), "it draws from torch's global generator: use ctx.normal")
    for name, part in {"value": terms.value, **terms.parts}.items():
        _check_per_row(name, part)
    require(again.value.equal(terms.value), "the same draw has another value the second time")
    close = torch.allclose(other.value, terms.value[order], ROUNDING, ROUNDING)
    require(close, "rows in another order have other values: the value of a row depends on its place in the batch")
    check_gradients(terms.value.sum(), trial.model, every=False)
    for name, module in (("encoder", trial.model.posterior), ("decoder", trial.model.likelihood)):
        gradients = torch.autograd.grad(trial(order).value.sum(), list(module.parameters()), allow_unused=True)
        require(any(g is not None and bool(g.any()) for g in gradients), f"no gradient reaches the {name}")
    _check_discriminator(trial, terms)
    with torch.no_grad():
        require(bool(trial(order).value.isfinite().all()), "its value is not finite without gradients")


def _check_per_row(name: str, part: Any) -> None:
    shaped = isinstance(part, Tensor) and part.shape == (BATCH,)
    require(shaped, f"{name} is not one number for each row, (batch,)")
    require(part.dtype == torch.float64, f"{name} is {part.dtype} where the model computes in float64")
    require(bool(part.isfinite().all()), f"{name} is not finite")


def _check_discriminator(trial: Trial, terms: Any) -> None:
    """Model and discriminator learn by values of their own."""
    discriminator, value = trial.discriminator, terms.discriminator
    if discriminator is None:
        require(value is None, "it returns Terms.discriminator, and its `build` makes no discriminator")
        return
    require(value is not None, "its `build` makes a discriminator, and it returns no Terms.discriminator")
    _check_per_row("Terms.discriminator", value)
    check_gradients(value.sum(), discriminator, every=False)
    for name, found, module in (
        ("its value", terms.value, discriminator),
        ("Terms.discriminator", value, trial.model),
    ):
        weights = list(module.parameters())
        gradients = torch.autograd.grad(found.sum(), weights, allow_unused=True, retain_graph=True)
        leaks = any(g is not None and bool(g.any()) for g in gradients)
        other = "discriminator" if module is discriminator else "model"
        require(not leaks, f"{name} has a gradient for the weights of the {other}, which has a value of its own")


def _check_switch(objective: Any) -> None:
    require_members(objective, "now(step, steps)")
    phases = [objective.now(step, 10) for step in range(10)]
    require(all(phase in objective.phases for phase in phases), "now(step, steps) is none of its `phases`")
    for step, phase in enumerate(phases):
        trial = _trial(phase)
        expected = trial(torch.arange(BATCH), step).value
        whole = Trial(objective, trial.model, None, trial.x, trial.noise, trial.more)
        found = _as(whole, phase, step)
        require(torch.equal(found, expected), f"at step {step} of 10 its value is not that of the phase that is then")


def _as(trial: Trial, phase: Any, step: int) -> Tensor:
    """The value of a switching objective on a draw as a phase needs it."""
    gradient = phase.gradient
    how = {"reparametrised": gradient.reparametrised, "score": gradient.score, "enumerate": gradient.enumerate}
    draw = trial.model.draw(trial.x, phase.samples, noise=None if trial.noise is None else (trial.noise,), **how)
    ctx = StepContext(step=step, steps=10, rows=BATCH, model=trial.model, signal_mean=RunningMean().double())
    return trial.objective(draw, ctx).value
