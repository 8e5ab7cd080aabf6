"""The checks of `vaekit.testing` find what a part declares and does not have, and name that property."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions.kl import register_kl

from vaekit.likelihoods import Bernoulli, Gaussian, Poisson
from vaekit.models.distributions.codes import Factorised
from vaekit.models.distributions.directions import UniformDirection
from vaekit.models.priors.vamp import VampPrior
from vaekit.objectives import Adversary, Critic, Elbo, Regularised, Switch, Terms
from vaekit.posteriors import BernoulliPosterior, CategoricalPosterior, Deterministic, FullGaussian, PowerSpherical
from vaekit.priors import FactorisedCodes, Mixture, StandardNormal, UniformSphere, Vamp
from vaekit.testing import check_likelihood, check_objective, check_posterior, check_prior

pytestmark = pytest.mark.usefixtures("one_thread")


def variant(base: type, settings: Any = None, **members: Any) -> Any:
    """An instance of a class that differs from its base in some members."""
    return type(f"Other{base.__name__}", (base,), members)(**settings or {})


class WithKl(td.Independent):
    """A distribution whose closed KL is its own."""


class WithWrongKl(td.Independent):
    """A distribution whose closed KL is too large by a twentieth."""


@register_kl(WithKl, td.Independent)
def kl(q: td.Independent, p: td.Independent) -> Tensor:
    return td.kl_divergence(td.Independent(q.base_dist, 1), p)


@register_kl(WithWrongKl, td.Independent)
def wrong_kl(q: td.Independent, p: td.Independent) -> Tensor:
    return 1.05 * kl(q, p)


class BentSlope(td.Normal):
    """A density whose gradient in z is not its slope."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value + 0.5 * (value - value.detach()))


class InfiniteSlope(td.Normal):
    """A density whose gradient is not finite, at finite values."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + (self.loc - self.loc.detach() + value - value.detach()).abs().sqrt()


class Denser(td.Normal):
    """A density that integrates to more than 1."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + 0.1


def gaussian(change: Any = td.Normal, kind: type = td.Independent, **members: Any) -> Any:
    """A Gaussian posterior and likelihood whose distribution is changed."""

    def call(self: Any, raw: Tensor, event_shape: Any = (1,), units: Any = None) -> td.Distribution:
        loc, scale = (part.reshape(*raw.shape[:-1], *event_shape) for part in raw.chunk(2, -1))
        return kind(change(loc, nn.functional.softplus(scale) + 0.1), len(event_shape), validate_args=False)

    return variant(Gaussian, __call__=call, **members)


POSTERIORS = {
    "off the sphere": (variant(Gaussian, support_of_z="sphere"), "`support_of_z` is 'sphere', and samples lie off"),
    "no such support": (variant(Gaussian, support_of_z="reals"), "`support_of_z` is 'reals'.*real, sphere, discrete"),
    "no codes": (variant(Gaussian, support_of_z="discrete"), r"`support_of_z` is 'discrete'.*no `code_space"),
    "other codes": (
        gaussian(support_of_z="discrete", code_space=lambda self, shape: BernoulliPosterior().code_space(shape)),
        "samples are no codes of its code space",
    ),
    "not anywhere": (
        gaussian(lambda loc, scale: td.LogNormal(loc, scale, validate_args=False)),
        "`support_of_z` is 'real', and q.z.x. is over the numbers above 0",
    ),
    "no flag": (variant(Gaussian, has_score=1), "`has_score` is 1: it should be True or False"),
    "ignores x": (gaussian(lambda loc, scale: td.Normal(0 * loc, 0 * scale + 1)), "the same for every x"),
    "has a density": (variant(Gaussian, has_density=False), "`has_density` is False, and q.z.x. is no Delta"),
    "has no density": (variant(Deterministic, has_density=True), "`has_density` is True, and q.z.x. is a Delta"),
    "is reparametrised": (
        variant(Gaussian, reparametrised=False),
        "`reparametrised` is False, and gradients reach the encoder through z",
    ),
    "is not reparametrised": (
        variant(CategoricalPosterior, reparametrised=True),
        "`reparametrised` is True, and no gradient reaches the encoder through z",
    ),
    "has a score": (variant(FullGaussian, has_score=False), "`has_score` is False, and a gradient of ln q"),
    "has no score": (
        gaussian(lambda loc, scale: td.Normal(loc.detach(), scale.detach()), reparametrised=False),
        "`has_score` is True, and no gradient of ln q",
    ),
    "bent slope": (gaussian(BentSlope), "`smooth_density` is True, and the gradient of ln q.* is not its slope"),
    "infinite gradient": (gaussian(InfiniteSlope), "the gradient of network.weight is not finite"),
    "normaliser": (gaussian(Denser), r"integrates to 1\.1"),
    "cannot be listed": (
        variant(PowerSpherical, enumerable=True),
        "`enumerable` is True, and its values cannot be listed",
    ),
    "no closed KL": (
        variant(Gaussian, closed_kl_to=("standard_normal", "mixture")),
        "`closed_kl_to` names mixture, and its KL has no closed form",
    ),
    "KL to no prior": (variant(Gaussian, closed_kl_to=("normal",)), "`closed_kl_to` names normal, which no prior is"),
    "KL is not named": (variant(Gaussian, closed_kl_to=()), "KL to the prior standard_normal has a closed form, and"),
    "wrong KL": (gaussian(kind=WithWrongKl), "its closed KL to the prior standard_normal is .* standard errors apart"),
    "seen otherwise": (
        variant(Gaussian, as_seen=lambda self, latent: ((latent + 1,), None)),
        "as_seen says that a decoder sees z of shape",
    ),
    "z of another shape": (
        variant(FullGaussian, z_shape=lambda self, latent: (latent, 1)),
        "the event shape is .1,., and should be .1, 1.",
    ),
}


@pytest.mark.parametrize("wrong", POSTERIORS)
def test_a_posterior_without_what_it_declares_fails(wrong: str) -> None:
    posterior, why = POSTERIORS[wrong]
    with pytest.raises(AssertionError, match=why):
        check_posterior(posterior)


def test_a_posterior_with_a_closed_kl_of_its_own_passes() -> None:
    check_posterior(gaussian(kind=WithKl))


LIKELIHOODS = {
    "a text": (variant(Gaussian, accepts="real"), "`accepts` is 'real': it should be a tuple"),
    "no such support": (variant(Gaussian, accepts=("reals",)), "`accepts` is .'reals',.: it should be a tuple"),
    "more than its support": (variant(Bernoulli, accepts=("binary", "unit")), "it accepts 'unit', and its support is"),
    "negative numbers": (
        gaussian(lambda loc, scale: td.LogNormal(loc, scale, validate_args=False), accepts=("real",)),
        "it accepts 'real', and its support is",
    ),
    "whole numbers": (variant(Poisson, integers=False), "`integers` is False, and it is over whole numbers"),
    "no whole numbers": (variant(Gaussian, integers=True), "`integers` is True, and it is not over whole numbers"),
    "ignores z": (gaussian(lambda loc, scale: td.Normal(0 * loc, 0 * scale + 1)), "the same for every z"),
    "normaliser": (gaussian(Denser), r"integrates to 1\.1"),
    "infinite gradient": (gaussian(InfiniteSlope), "the gradient of network.weight is not finite"),
    "initial parameters": (
        variant(Gaussian, initial_parameters=lambda self, x: torch.zeros(2 * x[0].numel(), dtype=torch.float64) + 2),
        "initial_parameters fit 400 rows worse than the raw numbers that they were drawn by",
    ),
    "infinite initial parameters": (
        variant(Gaussian, initial_parameters=lambda self, x: torch.full((2 * x[0].numel(),), torch.inf)),
        "initial_parameters holds numbers that are not finite",
    ),
    "fitted": (
        variant(Gaussian, fitted=lambda self, x: self.initial_parameters(x) + 1),
        "fitted fits rows worse than initial_parameters",
    ),
    "no units": (variant(Bernoulli, takes_units=True), "as `takes_units` promises, raises TypeError"),
    "ignores units": (
        variant(Gaussian, __call__=lambda self, raw, event_shape=None, units=None: Gaussian()(raw, event_shape)),
        "in units of location 50 and scale 3, samples have the mean",
    ),
}


@pytest.mark.parametrize("wrong", LIKELIHOODS)
def test_a_likelihood_without_what_it_declares_fails(wrong: str) -> None:
    likelihood, why = LIKELIHOODS[wrong]
    with pytest.raises(AssertionError, match=why):
        check_likelihood(likelihood)


class Made(nn.Module):
    """A prior of a function from the context to a distribution."""

    def __init__(self, make: Any):
        super().__init__()
        self.make = make

    def forward(self, context: Tensor | None = None) -> td.Distribution:
        return self.make(context)


def shifted(size: int) -> Any:
    """A Gaussian whose mean is the first number of the context."""

    def make(context: Tensor | None) -> td.Distribution:
        loc = torch.zeros(size, dtype=torch.float64)
        loc = loc if context is None else loc + context[:, :1]
        return td.Independent(td.Normal(loc, torch.ones_like(loc)), 1, validate_args=False)

    return make


def of_the_batch(size: int) -> Any:
    """As `shifted`, less the mean over the batch."""
    return lambda context: shifted(size)(None if context is None else context - context.mean(0))


class Lopsided(UniformDirection):
    """Directions on one side; the density is that of all."""

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return super().rsample(sample_shape).abs()


class OffSphere(UniformDirection):
    """Directions that are too long."""

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return 1.1 * super().rsample(sample_shape)


class TooDense(UniformDirection):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + 0.3


class TooLikely(Factorised):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + 0.3


class OtherBeside(VampPrior):
    """A VampPrior whose pseudo-inputs are others beside a batch."""

    def beside(self, seen: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        joined, contexts = super().beside(seen, context)
        return joined + 0.1 * (torch.arange(len(joined)) >= len(seen))[:, None], contexts


def prior(make: Any, base: type = StandardNormal, **members: Any) -> Any:
    """A prior's spec of a function from the size to a function from the context to a distribution."""
    return variant(base, build=lambda self, size, ctx=None: Made(make(size)), **members)


def on_sphere(kind: type) -> Any:
    return prior(lambda size: lambda context: kind(torch.zeros(size, dtype=torch.float64)), UniformSphere)


def over_codes(kind: type, ctx: Any) -> Any:
    space = ctx.code_space
    return Made(lambda context: kind(torch.zeros(space.positions, space.classes, dtype=torch.float64), space))


PRIORS = {
    "depends on context": (prior(shifted, over=("real",)), "`is_conditional` does not say so"),
    "ignores context": (
        prior(lambda size: lambda context: shifted(size)(None), over=("real",), is_conditional=True),
        "`is_conditional` is True, and p.z. is the same for every context",
    ),
    "other contexts": (
        prior(of_the_batch, over=("real",), is_conditional=True),
        "depends on the other contexts of the batch",
    ),
    "needs a density": (
        variant(Vamp, {"components": 5}, needs_density=False, over=("real",)),
        "posterior without a density, and `needs_density` does not say so",
    ),
    "beside a batch": (
        variant(
            Vamp,
            {"components": 5},
            over=("real",),
            build=lambda self, size, ctx: OtherBeside(
                ctx.posterior, ctx.seen_shape, 5, ctx.context_of("encoder"), ctx.context_of("prior")
            ),
        ),
        "encoded beside a batch, by beside and of_posteriors, p.z. is another",
    ),
    "off the sphere": (on_sphere(OffSphere), "samples lie off it"),
    "lopsided": (on_sphere(Lopsided), "do not follow log_prob on the sphere in 2"),
    "too dense on the sphere": (on_sphere(TooDense), "does not add up to 1"),
    "too likely codes": (
        variant(FactorisedCodes, is_conditional=False, build=lambda self, size, ctx: over_codes(TooLikely, ctx)),
        "adds up to|do not follow log_prob",
    ),
}


@pytest.mark.parametrize("wrong", PRIORS)
def test_a_prior_without_what_it_declares_fails(wrong: str) -> None:
    spec, why = PRIORS[wrong]
    with pytest.raises(AssertionError, match=why):
        check_prior(spec)


def test_priors_with_nothing_wrong_pass() -> None:
    check_prior(prior(shifted, over=("real",), is_conditional=True))
    check_prior(on_sphere(UniformDirection))
    check_prior(Mixture(components=2))


CRITIC = Critic(features=8)
ADVERSARY = Adversary(critic=CRITIC)


def with_terms(change: Any, base: Any = Regularised, **members: Any) -> Any:
    """An objective with an adversary, whose terms are changed."""

    def call(self: Any, draw: Any, ctx: Any = None) -> Terms:
        return change(base(penalties=(ADVERSARY,))(draw, ctx), draw, ctx)

    return variant(base, {"penalties": (ADVERSARY,)}, __call__=call, **members)


OBJECTIVES = {
    "no noise": (
        variant(
            Elbo, __call__=lambda self, draw, ctx=None: replace(Elbo()(draw), value=draw.log_w[0] + torch.randn(5))
        ),
        "draws from torch's global generator",
    ),
    "infinite gradient": (
        variant(Elbo, __call__=lambda self, draw, ctx=None: Terms((draw.log_w[0] - draw.log_w[0].detach()).sqrt(), {})),
        "the gradient of posterior.network.* is not finite",
    ),
    "untrained discriminator": (
        with_terms(lambda terms, draw, ctx: replace(terms, discriminator=None)),
        "makes a discriminator, and it returns no Terms.discriminator",
    ),
    "value trains the discriminator": (
        with_terms(
            lambda terms, draw, ctx: replace(terms, value=terms.value + ctx.discriminator(draw.latents[0].z[0])[0])
        ),
        "its value has a gradient for the weights of the discriminator",
    ),
    "discriminator trains the model": (
        with_terms(
            lambda terms, draw, ctx: replace(terms, discriminator=ctx.discriminator(draw.latents[0].z[0])[0]),
        ),
        "Terms.discriminator has a gradient for the weights of the model",
    ),
    "no discriminator": (
        variant(
            Elbo, __call__=lambda self, draw, ctx=None: replace(Elbo()(draw), discriminator=draw.log_px[0].detach())
        ),
        "returns Terms.discriminator, and its `build` makes no discriminator",
    ),
    "no phase": (variant(Switch, now=lambda self, step, steps: Elbo(samples=9)), "is none of its `phases`"),
    "another phase": (
        variant(Switch, __call__=lambda self, draw, ctx=None: replace(Elbo(), beta=0.5)(draw, ctx)),
        "is not that of the phase that is then",
    ),
}


@pytest.mark.parametrize("wrong", OBJECTIVES)
def test_an_objective_without_what_it_declares_fails(wrong: str) -> None:
    objective, why = OBJECTIVES[wrong]
    with pytest.raises(AssertionError, match=why):
        check_objective(objective)
