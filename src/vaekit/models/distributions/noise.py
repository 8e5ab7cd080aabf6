"""Randomness of samples: noise from an explicit generator, mapped to samples.

A sample of any posterior is base noise (standard normal or uniform) pushed through a map that the distribution
determines. The noise comes from an explicit generator, or is given as tensors, so a result depends on nothing
that ran before. A distribution without a map here (a mixture, counts, heavy tails, somebody else's flow) samples by its
own code, with torch's global generator seeded from ours for that moment and put back after.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor
from torch import distributions as td
from torch.distributions import Distribution

from vaekit.errors import SpecError
from vaekit.models.distributions.autoregressive import Autoregressive
from vaekit.models.distributions.bernoulli import Bernoulli, ContinuousBernoulli, SoftBernoulli
from vaekit.models.distributions.beta_binomial import BetaBinomialByMean
from vaekit.models.distributions.categorical import Categorical
from vaekit.models.distributions.codes import Factorised, Quantised
from vaekit.models.distributions.delta import Delta
from vaekit.models.distributions.directions import PowerSpherical, UniformDirection, VonMisesFisher
from vaekit.models.distributions.hamiltonian import Refined
from vaekit.models.distributions.logistic_mixture import DiscretisedLogistics
from vaekit.models.distributions.transformed import Transformed


class NoiseMap(NamedTuple):
    """How a family turns base noise into its own samples: sample = push(q, base(samples + shape(q))).

    Attributes:
        base: Draws the noise.
        shape: The shape of the noise behind one sample.
        push: From noise to samples.
        scored: From noise to samples and their log-densities, where that is cheaper than scoring the samples.
    """

    base: Callable[..., Tensor]
    shape: Callable[[Any], Size]
    push: Callable[[Any, Tensor], Tensor]
    scored: Callable[[Any, Tensor], tuple[Tensor, Tensor]] | None = None


def _no_noise(
    size: tuple[int, ...], generator: torch.Generator | None = None, dtype: Any = None, device: Any = None
) -> Tensor:
    return torch.zeros(size, dtype=dtype, device=device)


_BINARY = NoiseMap(torch.rand, lambda q: q.batch_shape, lambda q, u: (u < q.mean).to(q.mean.dtype))

_DIRECTION = NoiseMap(torch.randn, lambda q: q.noise_shape, lambda q, e: q.push(e))

_MAPS: dict[type[Distribution], NoiseMap] = {
    td.Normal: NoiseMap(torch.randn, lambda q: q.batch_shape, lambda q, e: torch.addcmul(q.loc, q.scale, e)),
    td.MultivariateNormal: NoiseMap(
        torch.randn,
        lambda q: q.batch_shape + q.event_shape,
        lambda q, e: q.loc + (q.scale_tril @ e.unsqueeze(-1)).squeeze(-1),
    ),
    td.Bernoulli: _BINARY,
    Bernoulli: _BINARY,
    SoftBernoulli: _BINARY,
    ContinuousBernoulli: NoiseMap(torch.rand, lambda q: q.batch_shape, lambda q, u: q.icdf(u)),
    Categorical: NoiseMap(torch.rand, lambda q: q.log_probs.shape, lambda q, u: q.from_uniform(u)),
    BetaBinomialByMean: NoiseMap(torch.rand, lambda q: q.batch_shape, lambda q, u: q.icdf(u)),
    DiscretisedLogistics: NoiseMap(torch.rand, lambda q: q.noise_shape, lambda q, u: q.from_uniform(u)),
    VonMisesFisher: _DIRECTION,
    PowerSpherical: _DIRECTION,
    UniformDirection: NoiseMap(torch.randn, lambda q: q.batch_shape + q.event_shape, lambda q, e: q.push(e)),
    Factorised: NoiseMap(torch.rand, lambda q: q.log_probs.shape, lambda q, u: q.from_uniform(u)),
    Autoregressive: NoiseMap(torch.rand, lambda q: q.noise_shape, lambda q, u: q.from_uniform(u)),
    Quantised: NoiseMap(  # needs no noise: of each sample there are no numbers of it
        torch.rand,
        lambda q: Size((*q.batch_shape, 0)),
        lambda q, u: q.rsample(u.shape[: u.dim() - 1 - len(q.batch_shape)]),
    ),
    Delta: NoiseMap(
        _no_noise,
        lambda q: q.loc.shape,
        lambda q, e: q.loc + e,
        lambda q, e: (q.loc + e, (0 * e).sum(-1)),
    ),
    Transformed: NoiseMap(
        torch.randn,
        lambda q: q.batch_shape + q.event_shape,
        lambda q, e: q.push(e),
        lambda q, e: q.push_and_score(e),
    ),
    Refined: NoiseMap(
        torch.randn, lambda q: q.noise_shape, lambda q, e: _refined(q, e)[0], lambda q, e: _refined(q, e)
    ),
}


def noise_map(q: Distribution) -> NoiseMap | None:
    """The map from base noise to samples of q, or None if q can only sample by its own code."""
    return _MAPS.get(type(_base(q)))


def noise_shape(q: Distribution) -> Size | None:
    """The shape of the base noise behind one sample of q (its batch included), or None: see `noise_map`."""
    found = noise_map(q)
    return None if found is None else found.shape(_base(q))


def draw_from(
    q: Distribution,
    shape: tuple[int, ...] = (),
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Samples of q, `(*shape, *q.batch_shape, *q.event_shape)`, differentiable where q can be reparametrised.

    The base noise is `noise` if given, else drawn from `generator`, else from torch's global generator.
    """
    z, _ = draw_scored(q, shape, generator, noise)
    return z


def draw_scored(
    q: Distribution,
    shape: tuple[int, ...] = (),
    generator: torch.Generator | None = None,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """As `draw_from`, with ln q of the samples where that came with them; else None."""
    found = noise_map(q)
    if noise is not None:
        _check_noise(noise, None if found is None else (*shape, *found.shape(_base(q))), q)
    if found is None:
        return _draw_by_its_own_code(q, shape, generator), None
    base = _base(q)
    if noise is None:
        like = next(t for t in _tensors(base))
        device = like.device if generator is None else generator.device
        noise = found.base((*shape, *found.shape(base)), generator=generator, dtype=like.dtype, device=device)
        noise = noise.to(like.device)
    return (found.push(base, noise), None) if found.scored is None else found.scored(base, noise)


def _refined(q: Refined, noise: Tensor) -> tuple[Tensor, Tensor]:
    found = noise_map(q.q)
    if found is None or found.base is not torch.randn or noise_shape(q.q) != q.noise_shape[:-1]:
        raise SpecError(
            f"draws of {type(_base(q.q)).__name__} cannot be refined: that takes a posterior over real z, of vaekit's "
            "own or torch's Gaussians",
            field="q",
        )
    of_z, of_momentum = noise.unbind(-1)
    z, log_q = draw_scored(q.q, tuple(of_z.shape[: of_z.dim() - len(q.noise_shape) + 1]), noise=of_z)
    return q.moved(z, q.q.log_prob(z) if log_q is None else log_q, of_momentum)


def _check_noise(noise: Tensor, wanted: tuple[int, ...] | None, q: Distribution) -> None:
    if wanted is None:
        raise SpecError(
            f"{type(q).__name__} samples by its own code and cannot take noise: pass a generator", field="noise"
        )
    if noise.shape != wanted:
        raise SpecError(
            f"the noise has shape {tuple(noise.shape)}, not {wanted}, which these samples need", field="noise"
        )


def _base(q: Distribution) -> Distribution:
    while isinstance(q, td.Independent):
        q = q.base_dist
    return q


def _tensors(q: Distribution):
    if isinstance(q, Transformed):
        q = _base(q.base)
    return (v for v in vars(q).values() if isinstance(v, Tensor) and v.is_floating_point())


def _draw_by_its_own_code(q: Distribution, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    sample = q.rsample if q.has_rsample else q.sample
    if generator is None:
        return sample(Size(shape))
    with seeded_from(generator):
        return sample(Size(shape))


@contextmanager
def seeded_from(generator: torch.Generator) -> Iterator[None]:
    """Within, torch's global generator has a seed that is drawn from ours; put back afterwards."""
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(int(seed))
        yield
