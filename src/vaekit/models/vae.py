"""The generative story on one page: VAE, and the record of one pass through it.

z ~ p(z), x ~ p(x|z), and q(z|x) stands in for the posterior p(z|x) that cannot be had. One pass draws K samples of z
for each row of x and scores them; every bound, every estimator and every evaluation is a function of that record.

Shapes: x is (batch, *data), z is (samples, batch, *event), and log-densities are (samples, batch), in nats, summed over
the dimensions of the data or of z.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.errors import SpecError
from vaekit.models.conditional import Conditional, takes_mask
from vaekit.models.distributions.cells import cell_log_prob, observed, observed_log_prob
from vaekit.models.distributions.noise import draw_from
from vaekit.models.distributions.support import check_values
from vaekit.models.drawing import Latent, PerSample, draw_latent, enumerated_latent
from vaekit.models.generative import BLOCK, Generative
from vaekit.models.part_errors import check_module, refuse_context, refuse_input
from vaekit.models.protocols import EncodedBesideBatch
from vaekit.words import counted


@dataclass(frozen=True)
class Draw:
    """One pass through a model: all that objectives and evaluation need."""

    x: Tensor  # (batch, *data), in the support of the likelihood; 0 where a cell was not observed
    mask: Tensor | None  # True where a cell of x was observed, (batch, *data); None where all were
    context: Tensor | None
    latents: tuple[Latent, ...]
    px: Distribution
    log_px: PerSample  # of the observed cells
    reparametrised: bool = True  # how it was drawn: see `VAE.draw`
    score: bool = True
    weights: Tensor | None = None  # of the samples in means over q(z|x), (samples, batch); none has them count alike

    def mean(self, values: PerSample) -> Tensor:
        """The mean over q(z|x) of values (samples, batch), for each row."""
        return values.mean(0) if self.weights is None else (self.weights * values).sum(0)

    @property
    def aux(self) -> dict[str, Tensor]:
        """Named penalties of all latents, (batch,) each, in nats, which objectives subtract."""
        found: dict[str, Tensor] = {}
        for latent in self.latents:
            for name, penalty in latent.aux.items():
                found[name] = found[name] + penalty if name in found else penalty
        return found

    @property
    def has_bound(self) -> bool:
        """Whether E_q[log_w] is a lower bound on ln p(x): not where a group of latents is deterministic."""
        return not any(latent.is_deterministic for latent in self.latents)

    @property
    def log_px_cells(self) -> Tensor:
        """ln p(x|z) of each cell, (samples, batch, *data), and 0 where it was not observed.

        Raises:
            ValueError: The likelihood ties the cells of a row to one another.
        """
        return cell_log_prob(self.px, self.x, self.mask)

    @property
    def log_pz(self) -> PerSample:
        """ln p(z), (samples, batch), summed over the groups."""
        return _total([latent.log_p for latent in self.latents])

    @property
    def log_qz(self) -> PerSample:
        """ln q(z|x), (samples, batch), summed over the groups."""
        return _total([latent.log_q for latent in self.latents])

    @property
    def log_w(self) -> PerSample:
        """ln p(x, z) - ln q(z|x), (samples, batch): its mean is the ELBO."""
        return self.log_px + self.log_pz - self.log_qz


@dataclass(frozen=True)
class Code:
    """What encoding a batch gives: the posterior of each group of latents, and what else `draw` can reuse."""

    posteriors: tuple[Distribution, ...]
    features: tuple[Tensor, ...] = ()


@runtime_checkable
class Model(Protocol):
    """What objectives, training and evaluation need of a model, which is a torch module besides."""

    training: bool

    def train(self, mode: bool = True) -> Any:
        """Enter training mode, or evaluation mode."""
        ...

    def state_dict(self) -> Any:
        """All tensors that are saved, by name."""
        ...

    def encode(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Code:
        """q(z|x) and p(z) of each group of latents, and their mean or most probable values."""
        ...

    def decode(self, latents: Sequence[Tensor], context: Tensor | None = None) -> Distribution:
        """p(x|z) for the z of each group of latents."""
        ...

    def draw(
        self,
        x: Tensor,
        samples: int = 1,
        *,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        code: Code | None = None,
        noise: Sequence[Tensor | None] | None = None,
        generator: torch.Generator | None = None,
        reparametrised: bool = True,
        score: bool = True,
        enumerate: bool = False,
        check: bool = True,
    ) -> Draw:
        """One pass: see `VAE.draw`."""
        ...

    def log_joint(
        self, x: Tensor, latents: Sequence[Tensor], context: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """ln p(x, z) of each row, in nats, for the z of each group of latents; of x its observed cells."""
        ...

    def generate(
        self, n: int, *, generator: torch.Generator | None = None, mean: bool = False, context: Tensor | None = None
    ) -> Tensor:
        """Rows (n, *data) from the model: z from the prior, then x from p(x|z) or its mean."""
        ...

    def simulate(
        self, n: int, *, generator: torch.Generator | None = None, mean: bool = False, context: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Rows with the z that they were made from."""
        ...


class VAE(Generative, nn.Module):
    """A variational autoencoder with one group of latents.

    Args:
        posterior: Called with x (batch, *data), returns q(z|x) with batch shape (batch,).
        prior: Called with nothing, returns p(z).
        likelihood: Called with z (..., *event), returns p(x|z) with batch shape (...).
        refine: Called with q(z|x) and z -> ln p(x, z), (samples, batch), returns the distribution that `draw` draws z
            from in place of q(z|x), as `Hamiltonian` builds it; none leaves q(z|x).

    Any torch modules whose calls return torch distributions will do. With a `context`, all three are called with it as
    their last argument. With a `mask`, the posterior is called with it as `mask=`, if it has such an argument.

    Raises:
        TypeError: A part is no module, such as a spec that is not built.

    Source: Kingma and Welling, 2014, arXiv 1312.6114; Rezende, Mohamed and Wierstra, 2014, arXiv 1401.4082.

    Example:
        >>> model = VAE(
        ...     posterior=Conditional(nn.Linear(8, 4), Gaussian()),
        ...     prior=StandardNormal().build(2),
        ...     likelihood=Conditional(nn.Linear(2, 8), Bernoulli()),
        ... )
        >>> model.draw(torch.ones(5, 8), samples=3).log_w.shape
        torch.Size([3, 5])
    """

    def __init__(self, posterior: nn.Module, prior: nn.Module, likelihood: nn.Module, refine: nn.Module | None = None):
        super().__init__()
        for role, part in (("posterior", posterior), ("prior", prior), ("likelihood", likelihood)):
            check_module(part, role, "size")
        if refine is not None:
            check_module(refine, "refine", "BuildContext(event_shape=z_shape)")
        self.posterior = posterior
        self.prior = prior
        self.likelihood = likelihood
        self.refine = refine

    def encode(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Code:
        """q(z|x) of a batch, to read or to reuse in `draw(..., code=)`; not yet refined, where the model does that."""
        return Code((call_part(self.posterior, "posterior", observed(x, mask), context=context, mask=mask),))

    def decode(self, latents: Tensor | Sequence[Tensor], context: Tensor | None = None) -> Distribution:
        """p(x|z) for latents (z,), or z itself, with z (..., *event)."""
        (z,) = (latents,) if isinstance(latents, Tensor) else latents
        return call_part(self.likelihood, "likelihood", z, context=context)

    def draw(
        self,
        x: Tensor,
        samples: int = 1,
        *,
        context: Tensor | None = None,
        mask: Tensor | None = None,
        code: Code | None = None,
        noise: Sequence[Tensor | None] | None = None,
        generator: torch.Generator | None = None,
        reparametrised: bool = True,
        score: bool = True,
        enumerate: bool = False,
        check: bool = True,
    ) -> Draw:
        """Draw `samples` z from q(z|x) for each row of x, and score them.

        Args:
            x: (batch, *data), in the support of the likelihood.
            samples: K, samples of z for each row.
            context: (batch, ...), passed to posterior, prior and likelihood.
            mask: (batch, *data), True where a cell of x is observed; None where all are. What stands in the other cells
                changes nothing: log-densities are of the observed ones.
            code: An encoding of the same x to reuse.
            noise: Base noise of each group of latents, (samples, batch, *event), where already drawn.
            generator: Source of the noise that is not given.
            reparametrised: Let gradients reach the posterior through z (the reparametrisation trick).
            score: Let gradients of ln q(z|x) reach the posterior's parameters directly.
            enumerate: Instead of samples, list all values of a discrete z, each with the weight q(z|x): means over them
                are exact.
            check: Refuse x outside the support of the likelihood. Training, whose rows have been checked, does without.

        Raises:
            DataError: x holds a value that the likelihood gives no probability.
            SpecError: There is a mask, and the likelihood ties the cells of a row to one another.
        """
        check_samples(samples)
        x = observed(x, mask)
        q, p = self._posterior_and_prior(x, context, mask, code)
        if q.batch_shape != x.shape[:1]:
            raise ValueError(
                f"the posterior has batch shape {tuple(q.batch_shape)} for {counted(len(x), 'row')} of x: it must be "
                "one distribution for each row, every dimension of z in its event (torch.distributions.Independent)"
            )
        if self.refine is not None:
            q = self.refine(q, lambda z: observed_log_prob(self.decode((z,), context), x, mask) + p.log_prob(z))
        if enumerate:
            latent = enumerated_latent(q, p)
        else:
            latent = draw_latent(
                q, p, (samples,), None if noise is None else noise[0], generator, reparametrised, score
            )
        px = self.decode((latent.z,), context)
        check_likelihood(px, x, len(latent.z), check, mask)
        weights = latent.log_q.exp() if enumerate else None
        log_px = observed_log_prob(px, x, mask)
        return Draw(x, mask, context, (latent,), px, log_px, reparametrised, score, weights)

    def _posterior_and_prior(
        self, x: Tensor, context: Tensor | None, mask: Tensor | None, code: Code | None
    ) -> tuple[Distribution, Distribution]:
        posterior, prior = self.posterior, self.prior
        if code is None and isinstance(prior, EncodedBesideBatch) and isinstance(posterior, Conditional):
            try:
                raw = posterior.raw(*prior.beside(posterior.see(x, mask), context))
            except RuntimeError as error:
                refuse_input(error, "posterior", (x,))
                raise
            return posterior.of(raw[: len(x)]), prior.of_posteriors(posterior.of(raw[len(x) :]), context)
        (q,) = (self.encode(x, context, mask) if code is None else code).posteriors
        return q, call_part(prior, "prior", context=context)

    def log_joint(
        self,
        x: Tensor,
        latents: Tensor | Sequence[Tensor],
        context: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """ln p(x, z), (...), for latents (z,), or z itself, with z (..., batch, *event); of x its observed cells."""
        p = call_part(self.prior, "prior", context=context)
        (z,) = (latents,) if isinstance(latents, Tensor) else latents
        return observed_log_prob(self.decode((z,), context), observed(x, mask), mask) + p.log_prob(z)

    def new_block(self, context: Tensor | None, generator: torch.Generator | None, mean: bool) -> tuple[Tensor, ...]:
        p = call_part(self.prior, "prior", context=context)
        z = draw_from(p, () if p.batch_shape else (BLOCK,), generator)
        px = self.decode((z,), context)
        return px.mean if mean else draw_from(px, (), generator), z


def check_samples(samples: int) -> None:
    """Refuse a number of samples that is none."""
    if samples < 1:
        raise SpecError(
            f"samples is {samples}: at least one z must be drawn for each row", field="samples", value=samples
        )


def check_likelihood(px: Distribution, x: Tensor, samples: int, values: bool, mask: Tensor | None = None) -> None:
    """Refuse a p(x|z) that is not over x, or not one for each sample and row.

    Args:
        px: The likelihood.
        x: (batch, *data).
        samples: K.
        values: Whether to refuse values outside of its support, too.
        mask: True where a cell is observed; None where all are.

    Raises:
        ValueError: The likelihood does not fit x.
    """
    if px.event_shape != x.shape[1:]:
        raise ValueError(
            f"the likelihood is over x of shape {tuple(px.event_shape)}, but a row of x has {tuple(x.shape[1:])}: "
            "its event must cover every dimension of the data (torch.distributions.Independent, or event_shape= "
            "of Conditional)"
        )
    if px.batch_shape != (samples, len(x)):
        raise ValueError(
            f"the likelihood has batch shape {tuple(px.batch_shape)} for {samples} samples of z for each of {len(x)} "
            f"rows: it must be one distribution for each sample and row, {(samples, len(x))}"
        )
    if values:
        check_values(px, x, mask)


def call_part(
    module: nn.Module, role: str, *inputs: Tensor, context: Tensor | None, mask: Tensor | None = None
) -> Distribution:
    """Call a part of a model.

    Args:
        module: The part.
        role: Its name, for a message.
        inputs: That it is called with.
        context: Passed to it last, if there is one.
        mask: Passed to it as `mask=`, if there is one and its call has such an argument.

    Raises:
        TypeError: It does not return a distribution, or takes no context.
        ValueError: It does not take an input of this shape or dtype.
    """
    args = inputs if context is None else (*inputs, context)
    try:
        out = module(*args, mask=mask) if mask is not None and takes_mask(module) else module(*args)
    except (RuntimeError, TypeError) as error:
        refuse_input(error, role, inputs)
        refuse_context(error, module, role, args, context is not None)
        raise
    if not isinstance(out, Distribution):
        raise TypeError(
            f"the {role} returned {type(out).__name__}, not a torch.distributions.Distribution: wrap the network in "
            "Conditional(network, head)"
        )
    return out


def _total(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
