"""Samplers: where z comes from when a trained model is drawn from. A sampler is a prior that is fitted after training.

Each is a module whose call returns a distribution of z, so `VAE(posterior, sampler, likelihood).generate(n)` draws from
it; encoder and decoder stay as they are.
"""

import warnings
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Size, Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution, constraints

from vaekit.errors import ConfigError
from vaekit.models.codes import Quantised
from vaekit.models.distributions import Unchecked, in_words, support_of
from vaekit.models.families import independent
from vaekit.models.fitting import fit_network, seeded
from vaekit.models.flows import FlowNetwork, Kind, Transformed, Transforms, Widths, zuko
from vaekit.models.ladder import Rung
from vaekit.models.mixtures import mixture
from vaekit.models.noise import Purpose, draw_from, new_generator
from vaekit.spec import by_kind, spec

Posterior = Callable[[Tensor], Distribution]


class AggregatedPosterior(Unchecked):
    """q(z) = (1/N) sum_n q(z|x_n) over training rows: a row at random, then z from its posterior. No density.

    posterior: q(z|x) of a batch.
    take: x of the rows with these numbers, (batch,) int64.
    rows: N.
    """

    def __init__(self, posterior: Posterior, take: Callable[[Tensor], Tensor], rows: int):
        self.posterior, self.take, self.rows = posterior, take, rows
        super().__init__(Size(), posterior(take(torch.zeros(1, dtype=torch.int64))).event_shape)

    def sample(self, sample_shape=()) -> Tensor:
        shape = Size(sample_shape)
        z = draw_from(self.posterior(self.take(torch.randint(self.rows, (shape.numel(),)))))
        return z.reshape(*shape, *self.event_shape)


class Aggregated(nn.Module):
    """`AggregatedPosterior` as a sampler."""

    def __init__(self, posterior: Posterior, take: Callable[[Tensor], Tensor], rows: int):
        super().__init__()
        self.q = (AggregatedPosterior(posterior, take, rows),)  # its weights are the model's already

    def forward(self) -> Distribution:
        return self.q[0]


class FullMixture(nn.Module):
    """A mixture of Gaussians with full covariances."""

    logits: Tensor
    loc: Tensor
    scale_tril: Tensor

    def __init__(self, size: int, components: int):
        super().__init__()
        self.register_buffer("logits", torch.zeros(components))
        self.register_buffer("loc", torch.zeros(components, size))
        self.register_buffer("scale_tril", torch.eye(size).repeat(components, 1, 1))

    def forward(self) -> Distribution:
        return mixture(td.MultivariateNormal(self.loc, scale_tril=self.scale_tril, validate_args=False), self.logits)


class StandardisedFlow(nn.Module):
    """A flow over (z - loc) / scale."""

    loc: Tensor
    scale: Tensor

    def __init__(self, flow: FlowNetwork, size: int):
        super().__init__()
        self.flow = flow
        self.register_buffer("loc", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def forward(self) -> Transformed:
        inner = self.flow()
        standardise = td.AffineTransform(-self.loc / self.scale, 1 / self.scale, event_dim=1)
        return Transformed(zuko().transforms.ComposedTransform(standardise, inner.to_noise), inner.base)


@spec
class FromPrior:
    """z from the model's own prior, p(z)."""

    kind: Literal["prior"] = "prior"

    def __str__(self) -> str:
        return "the prior"


@spec
class FromAggregated:
    """z from the aggregated posterior: q(z|x) of training rows drawn at random."""

    kind: Literal["aggregated"] = "aggregated"

    def __str__(self) -> str:
        return "the aggregated posterior (q(z|x) of random training rows)"


@spec
class FromMixture:
    """z from a mixture of Gaussians with full covariances, fitted to codes of the training rows by EM (scikit-learn).

    Codes are draws of q(z|x), which the decoder was trained on, so what is fitted is the aggregated posterior.

    Source: Ghosh et al., 2020, arXiv 1903.12436, section 4 (ex-post density estimation; there 10 components, too).

    >>> torch.manual_seed(0).initial_seed()
    0
    >>> z = torch.cat([torch.randn(500, 2) - 5, torch.randn(500, 2) + 5])
    >>> FromMixture(components=2).fit(z)().component_distribution.mean.sort(0).values.round()
    tensor([[-5., -5.],
            [ 5.,  5.]])
    """

    components: Annotated[int, Field(ge=1, le=10_000)] = 10
    kind: Literal["mixture"] = "mixture"

    def __str__(self) -> str:
        return f"a mixture of {self.components} Gaussians fitted to the training codes after training"

    def build(self, size: int) -> FullMixture:
        return FullMixture(size, self.components)

    def fit(self, codes: Tensor, seed: int = 0) -> FullMixture:
        """The mixture of the highest likelihood that EM finds for codes (n, size), on the CPU.

        Raises:
            ConfigError: there are fewer codes than components.
        """
        from sklearn.exceptions import ConvergenceWarning  # slow to import
        from sklearn.mixture import GaussianMixture

        if len(codes) < self.components:
            raise ConfigError(f"{len(codes)} codes are too few for {self.components} components: use fewer components")
        em = GaussianMixture(self.components, max_iter=200, reg_covar=1e-6, random_state=seed % 2**32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a mixture that is nearly the best will do
            em.fit(codes.double().cpu().numpy())
        fitted = self.build(codes.shape[1])
        covariances = torch.from_numpy(em.covariances_)
        fitted.logits.copy_(torch.from_numpy(em.weights_).log())
        fitted.loc.copy_(torch.from_numpy(em.means_))
        fitted.scale_tril.copy_(torch.linalg.cholesky(covariances))
        return fitted


@spec
class FromFlow:
    """z from a normalising flow fitted to codes of the training rows (draws of q(z|x)) by maximum likelihood.

    Args:
        flow, transforms, hidden: see `vaekit.models.Flow`.
        steps: updates of its weights, of 256 codes each.
    """

    flow: Kind = "autoregressive"
    transforms: Transforms = 3
    hidden: Widths = (64, 64)
    steps: Annotated[int, Field(ge=1)] = 2000
    kind: Literal["flow"] = "flow"

    def __str__(self) -> str:
        return f"a flow ({self.flow}) fitted to the training codes after training"

    def build(self, size: int) -> StandardisedFlow:
        try:
            return StandardisedFlow(FlowNetwork(self.flow, size, self.transforms, self.hidden), size)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def fit(self, codes: Tensor, seed: int = 0) -> StandardisedFlow:
        """The flow of a high likelihood for codes (n, size), on the CPU."""
        codes = codes.float().cpu()
        generator = new_generator(seed, Purpose.SAMPLER, 1)
        with seeded(generator):
            fitted = self.build(codes.shape[1])
        fitted.loc.copy_(codes.mean(0))
        fitted.scale.copy_(codes.std(0).clamp_min(1e-6))

        def loss(index: Tensor) -> Tensor:
            return -fitted().log_prob(codes[index]).mean()

        fit_network(fitted, loss, len(codes), steps=self.steps, generator=generator)
        return fitted.requires_grad_(False)


Sampler = Annotated[FromPrior | FromAggregated | FromMixture | FromFlow, Field(discriminator="kind"), by_kind]
Fitted = FromMixture | FromFlow


class Tempered(nn.Module):
    """A sampler, or a prior, at a temperature: see `tempered`."""

    def __init__(self, sampler: nn.Module, temperature: float):
        super().__init__()
        self.sampler, self.temperature = sampler, temperature

    def forward(self, context: Tensor | None = None) -> Distribution:
        return tempered(self.sampler() if context is None else self.sampler(context), self.temperature)


class TemperedRung(nn.Module):
    """A `Rung` of a ladder that is drawn from, its prior at a temperature."""

    def __init__(self, rung: Rung, temperature: float):
        super().__init__()
        self.rung, self.temperature = rung, temperature

    def prior(self, state: Tensor) -> Distribution:
        return tempered(self.rung.prior(state), self.temperature)

    def both(self, state: Tensor, features: Tensor) -> tuple[Distribution, Distribution]:
        q, _ = self.rung.both(state, features)
        return q, self.prior(state)

    def merge(self, state: Tensor, z: Tensor) -> Tensor:
        return self.rung.merge(state, z)


def tempered(p: Distribution, temperature: float) -> Distribution:
    """p with the standard deviation of the Gaussian noise behind it multiplied by the temperature, T > 0.

    - a Gaussian: N(mu, T^2 Sigma);
    - a mixture of Gaussians (a vamp prior, too): each component so, around its own mean, with the weights as they are;
    - the aggregated posterior: each q(z|x) so, around its own mean;
    - a flow z = f(e): its noise, e ~ N(0, T^2 I).

    Below 1 draws are more typical and less various; 1 leaves p as it is. (This is not p^(1/T^2), but for a Gaussian.)

    Raises:
        ConfigError: the temperature is not above 0, or p is of another family.

    >>> standard = independent(td.Normal(torch.zeros(3), torch.ones(3)), 1)
    >>> tempered(standard, 0.5).stddev
    tensor([0.5000, 0.5000, 0.5000])
    """
    check_temperature(temperature)
    if temperature == 1:
        return p
    if isinstance(p, td.Independent):
        return independent(tempered(p.base_dist, temperature), p.reinterpreted_batch_ndims)
    if isinstance(p, td.Normal):
        return td.Normal(p.loc, temperature * p.scale, validate_args=False)
    if isinstance(p, td.MultivariateNormal):
        return td.MultivariateNormal(p.loc, scale_tril=temperature * p.scale_tril, validate_args=False)
    if isinstance(p, td.MixtureSameFamily):
        components = tempered(p.component_distribution, temperature)
        return td.MixtureSameFamily(p.mixture_distribution, components, validate_args=False)
    if isinstance(p, Transformed):
        scaled = td.AffineTransform(0.0, 1 / temperature, event_dim=1)
        return Transformed(zuko().transforms.ComposedTransform(p.to_noise, scaled), p.base)
    if isinstance(p, AggregatedPosterior):
        return AggregatedPosterior(lambda x: tempered(p.posterior(x), temperature), p.take, p.rows)
    raise ConfigError(f"a temperature is not defined for z of {type(p).__name__}, only for Gaussian noise: use 1")


def check_temperature(temperature: float) -> None:
    """Refuse one that is not above 0 and finite, as ConfigError."""
    if not 0 < temperature < float("inf"):
        raise ConfigError(f"the temperature is {temperature}: it should be above 0 and finite; 1 changes nothing")


def check_real(q: Distribution) -> None:
    """Refuse to fit a density of vectors to codes that are none.

    Raises:
        ConfigError: z is discrete, bounded, on a surface, or has more than one dimension.
    """
    support = support_of(q)
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if len(q.event_shape) != 1 or support is not constraints.real or isinstance(q, Quantised):
        where = "is one of a few code vectors" if isinstance(q, Quantised) else f"lies in {in_words(support)}"
        raise ConfigError(
            f"z of this model has the shape {tuple(q.event_shape)} and {where}, and a mixture or a flow is fitted "
            "to vectors of real numbers: draw from the prior or from the aggregated posterior"
        )
