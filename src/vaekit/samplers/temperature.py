"""Sampling z at a temperature."""

from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution

from vaekit.errors import SpecError
from vaekit.models.distributions.base import independent
from vaekit.models.distributions.transformed import Transformed, zuko
from vaekit.models.hierarchical.model import LatentBlock
from vaekit.samplers.aggregated import AggregatedPosterior


class Tempered(nn.Module):
    """A sampler, or a prior, at a temperature: see `tempered`."""

    def __init__(self, sampler: nn.Module, temperature: float):
        super().__init__()
        self.sampler, self.temperature = sampler, temperature

    def forward(self, context: Tensor | None = None) -> Distribution:
        return tempered(self.sampler() if context is None else self.sampler(context), self.temperature)


class TemperedBlock(nn.Module):
    """A `LatentBlock` of a hierarchical VAE that is drawn from, its prior at a temperature."""

    def __init__(self, block: LatentBlock, temperature: float):
        super().__init__()
        self.block, self.temperature = block, temperature

    def prior(self, state: Tensor) -> Distribution:
        return tempered(self.block.prior(state), self.temperature)

    def both(self, state: Tensor, features: Tensor) -> tuple[Distribution, Distribution]:
        q, _ = self.block.both(state, features)
        return q, self.prior(state)

    def merge(self, state: Tensor, z: Tensor) -> Tensor:
        return self.block.merge(state, z)


def tempered(p: Distribution, temperature: float) -> Distribution:
    """p with the standard deviation of the Gaussian noise behind it multiplied by the temperature, T > 0.

    - a Gaussian: N(mu, T^2 Sigma);
    - a mixture of Gaussians (a vamp prior, too): each component so, around its own mean, with the weights as they are;
    - the aggregated posterior: each q(z|x) so, around its own mean;
    - a flow z = f(e): its noise, e ~ N(0, T^2 I).

    Below 1 draws are more typical and less various; 1 leaves p as it is. (This is not p^(1/T^2), but for a Gaussian.)

    Raises:
        SpecError: The temperature is not above 0, or p is of another family.

    Example:
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
    raise SpecError(
        f"a temperature is not defined for z of {type(p).__name__}, only for Gaussian noise: use 1",
        field="temperature",
        value=temperature,
    )


def check_temperature(temperature: float) -> None:
    """Refuse one that is not above 0 and finite, as SpecError."""
    if not 0 < temperature < float("inf"):
        raise SpecError(
            f"the temperature is {temperature}: it should be above 0 and finite; 1 changes nothing",
            field="temperature",
            value=temperature,
        )
