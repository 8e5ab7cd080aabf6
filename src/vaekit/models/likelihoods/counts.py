"""Likelihood families of counts 0, 1, 2, ...: Poisson, and negative binomial with and without more zeros."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.errors import SpecError
from vaekit.models.building import BuildContext
from vaekit.models.distributions.base import independent
from vaekit.models.distributions.counts import NegativeBinomialByMean, PoissonByMean, ZeroInflatedNegativeBinomial
from vaekit.models.distributions.gamma import wide
from vaekit.models.families import LikelihoodHead
from vaekit.models.likelihoods.best_counts import ENOUGH, HALF, best_counts, mean_rates
from vaekit.models.likelihoods.initialisation import maximised
from vaekit.models.parameters import LOG_VARIANCE_BOUND, Shape, parameters, soft_bound
from vaekit.models.size_factor import SizeFactor
from vaekit.spec import spec

ROUNDS = 30  # of bisection, over 29 nats: to 3e-8 of them

ASCENT_ROUNDS = 200

ROWS = 2000  # that gradient ascent looks at

LARGE = 20_000_000  # numbers, for which bisection and ascent take minutes

LOG_MEAN = 0.7  # of the soft bound: ln of a mean is itself within ±28, far beyond the counts of single precision

Rates = Literal["free", "softmax"]

Dispersion = Literal["cell", "gene", "shared"]


class Counts(LikelihoodHead):
    """A family of counts by their rates. Abstract.

    With rates that are free, a dispersion that the network gives and no size factor it is its own head; else it builds
    a `CountHead`.

    Attributes:
        rates: See `NegativeBinomial`.
        more: Raw numbers of each value besides those of its rate and its dispersion.
    """

    accepts = ("count",)
    integers = True
    rates: Rates
    more = 0

    @property
    def dispersed(self) -> Dispersion | None:
        """The `dispersion` of `NegativeBinomial`; None for a family that has none."""
        return None

    @abstractmethod
    def by_rates(self, log_mean: Tensor, others: Sequence[Tensor], dtype: torch.dtype) -> Distribution:
        """The distribution of each value, (..., *event).

        Args:
            log_mean: ln of the means.
            others: The raw dispersion, where there is one, and other raw numbers.
            dtype: Of samples and log-densities.
        """

    @property
    def needs_size(self) -> bool:
        """Whether its rates are shares of a size."""
        return self.rates == "softmax"

    @property
    def numbers(self) -> int:
        """Raw numbers of each value."""
        return 1 + (self.dispersed == "cell") + self.more

    def features(self, event_shape: Shape) -> int:
        return self.numbers * math.prod(event_shape)

    def build(self, context: BuildContext) -> "Counts | CountHead":
        return self.with_sizes(context.event_shape, context.size_factor)

    def with_sizes(self, event_shape: Shape, size_factor: SizeFactor | None = None) -> "Counts | CountHead":
        """The head for events of this shape, whose rates are multiplied by a size factor, if there is one."""
        if self.rates == "softmax" and size_factor is None:
            raise SpecError(
                "rates: softmax are shares of a row's size, and no size factor says what that is: give one in "
                "BuildContext(size_factor=), or use rates: free",
                field="size_factor",
            )
        return self if self._stands_alone and size_factor is None else CountHead(self, event_shape, size_factor)

    def of_values(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        if not self._stands_alone:
            raise SpecError(
                f"{self} has weights of its own: give Conditional an event_shape, which says how many, or a head that "
                "is built",
                field="event_shape",
            )
        log_rate, *others = parameters(raw, self.numbers, event_shape)
        return self.by_rates(soft_bound(log_rate, LOG_MEAN), others, raw.dtype)

    @property
    def _stands_alone(self) -> bool:
        return self.rates == "free" and self.dispersed in ("cell", None)


@spec
class Poisson(Counts):
    """Poisson: the network gives ln of the rate, bounded softly within about ±28.

    Args:
        rates: See `NegativeBinomial`.

    Example:
        >>> Poisson()(torch.zeros(5, 3)).mean[0]
        tensor([1., 1., 1.])
    """

    rates: Rates = "free"
    kind: Literal["poisson"] = "poisson"

    def by_rates(self, log_mean: Tensor, others: Sequence[Tensor], dtype: torch.dtype) -> Distribution:
        return PoissonByMean(log_mean, dtype)

    def initial_parameters(self, x: Tensor) -> Tensor:
        return mean_rates(x).log()


@spec
class NegativeBinomial(Counts):
    """Negative binomial, by its mean m and inverse dispersion r; its variance is m + m^2 / r.

    The network gives ln m and ln r, bounded softly within about ±28 and ±20. As r grows it becomes the Poisson.

    Source: Lopez et al., 2018, arXiv 1709.02082 (scVI), for rates that are shares of a size factor.

    Args:
        rates: "free" has the network give ln of each mean, and of each rate that a size factor multiplies, where the
            data has one. "softmax" has it give shares of the size factor, which add up to 1.
        dispersion: Where r is from: the network, for each row and value, "cell"; or a weight, one for each value,
            "gene", or one for all, "shared".

    Example:
        >>> NegativeBinomial()(torch.zeros(5, 6)).variance[0]
        tensor([2., 2., 2.])
    """

    rates: Rates = "free"
    dispersion: Dispersion = "cell"
    kind: Literal["negative_binomial"] = "negative_binomial"

    @property
    def dispersed(self) -> Dispersion:
        return self.dispersion

    def by_rates(self, log_mean: Tensor, others: Sequence[Tensor], dtype: torch.dtype) -> Distribution:
        return NegativeBinomialByMean(log_mean, soft_bound(others[0]), dtype)

    def initial_parameters(self, x: Tensor) -> Tensor:
        """The best r by bisection: the slope of the log-likelihood in it falls through 0 once; Newton for large x."""
        if x.numel() > LARGE:
            return CountHead(self, tuple(x.shape[1:])).initial_parameters(x)
        x = x.to(torch.float64).flatten(1)
        mean = mean_rates(x)
        low, high = torch.full_like(mean, -9.0), (mean.log() + ENOUGH).clamp(9.0, LOG_VARIANCE_BOUND)
        for _ in range(ROUNDS):
            r = ((low + high) / 2).exp()
            off = (x - mean) / (mean + r)
            slope = (off.log1p() - off + torch.digamma(x + r) - (x + r).log()).mean(0) - torch.digamma(r) + r.log()
            low, high = torch.where(slope > 0, (low + high) / 2, low), torch.where(slope > 0, high, (low + high) / 2)
        return torch.cat([mean.log(), (low + high) / 2])


@spec
class ZeroInflated(Counts):
    """Zero-inflated negative binomial (ZINB): 0 with a probability of its own, else a negative binomial.

    The network gives the numbers of a `NegativeBinomial`, and the logit of the probability pi of such a zero.

    Source: Lopez et al., 2018, arXiv 1709.02082, "Deep generative modeling for single-cell transcriptomics" (scVI).

    Args:
        rates: See `NegativeBinomial`.
        dispersion: See `NegativeBinomial`.

    Example:
        >>> ZeroInflated()(torch.zeros(5, 9)).mean[0]
        tensor([0.5000, 0.5000, 0.5000])
    """

    rates: Rates = "free"
    dispersion: Dispersion = "cell"
    kind: Literal["zero_inflated"] = "zero_inflated"

    more = 1

    @property
    def dispersed(self) -> Dispersion:
        return self.dispersion

    def by_rates(self, log_mean: Tensor, others: Sequence[Tensor], dtype: torch.dtype) -> Distribution:
        log_inverse, zero_logits = others
        counts = NegativeBinomialByMean(log_mean, soft_bound(log_inverse), dtype)
        return ZeroInflatedNegativeBinomial(counts, soft_bound(zero_logits))

    def initial_parameters(self, x: Tensor) -> Tensor:
        """The best for the first rows, by gradient ascent from a negative binomial of all but half of the zeros.

        Of large x, by expectation and maximisation: see `best_counts`.
        """
        if x.numel() > LARGE:
            return CountHead(self, tuple(x.shape[1:])).initial_parameters(x)
        x = x[:ROWS].to(torch.float64).flatten(1)
        zeros = HALF * (x == 0).double().mean(0)
        mean = mean_rates(x) / (1 - zeros)
        log_r = NegativeBinomial().initial_parameters(x)[x.shape[1] :]
        raw = torch.cat([mean.log(), log_r, zeros.clamp(0.01, 0.99).logit()])
        return maximised(lambda raw: self(raw).log_prob(x).mean(), raw, ASCENT_ROUNDS)


class CountHead(nn.Module, LikelihoodHead):
    """The head of a family of `Counts` with a size factor, or with weights of its own.

    Args:
        family: With its settings.
        event_shape: Of x.
        size_factor: What the rates are multiplied by; None for nothing.

    Attributes:
        log_inverse: Raw ln r as weights, of the event's shape or (); None where the network gives it, or there is none.
        log_scale: ln of what the rates of a softmax add up to for a row of size 1, about 0 where sizes are the totals
            of rows: 0 until it is measured.
    """

    accepts = Counts.accepts
    integers = True
    log_scale: Tensor

    def __init__(self, family: Counts, event_shape: Shape, size_factor: SizeFactor | None = None):
        super().__init__()
        self.family, self.size_factor = family, size_factor
        has_weights, shape = family.dispersed in ("gene", "shared"), event_shape if family.dispersed == "gene" else ()
        self.log_inverse = nn.Parameter(torch.zeros(shape)) if has_weights else None
        self.register_buffer("log_scale", torch.zeros(()))

    @property
    def takes_context(self) -> bool:
        """Whether it is called with the context, which holds the sizes of the rows."""
        return self.size_factor is not None

    def features(self, event_shape: Shape) -> int:
        return self.family.features(event_shape)

    def forward(self, raw: Tensor, event_shape: Shape | None = None, context: Tensor | None = None) -> Distribution:
        values = self.of_values(raw, event_shape, context)
        return independent(values, 1 if event_shape is None else len(event_shape))

    def of_values(self, raw: Tensor, event_shape: Shape | None = None, context: Tensor | None = None) -> Distribution:
        log_rate, *others = parameters(raw, self.family.numbers, event_shape)
        log_mean, dims = soft_bound(log_rate, LOG_MEAN), 1 if event_shape is None else len(event_shape)
        if self.family.rates == "softmax":
            shares = wide(log_mean).flatten(-dims).log_softmax(-1)
            log_mean = shares.unflatten(-1, log_mean.shape[-dims:]) + self.log_scale
        if self.size_factor is not None:
            log_mean = wide(log_mean) + self.size_factor.log_size(self._given(context))[(..., *[None] * dims)]
        others = [part.expand_as(log_mean) for part in others]
        if self.log_inverse is not None:
            others = [self.log_inverse.flatten() if event_shape is None else self.log_inverse, *others]
        return self.family.by_rates(log_mean, others, raw.dtype)

    @torch.no_grad()
    def measure(self, x: Tensor, context: Tensor | None = None) -> None:
        """Take from rows x (n, *event) and their context what the rates of a softmax add up to."""
        if self.family.rates == "softmax":
            self.log_scale.copy_((x.sum(dtype=torch.float64) / self._sizes(x, context).sum()).log())

    @torch.no_grad()
    def initial_parameters(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The best rates, dispersion and zeros; the weights are set to the dispersion, and what shares add up to."""
        family, sizes = self.family, self._sizes(x, context)
        if family.dispersed is None:
            return mean_rates(x, sizes).log()
        best = best_counts(x, sizes, shared=family.dispersed == "shared", zeros=family.more > 0)
        if self.log_inverse is not None:
            self.log_inverse.copy_(best.log_inverse.reshape(self.log_inverse.shape))
        if family.rates == "softmax":
            self.log_scale.copy_(best.log_rate.logsumexp(0))
        by_network = [best.log_inverse] if self.log_inverse is None else []
        return torch.cat([best.log_rate, *by_network, *[best.zero_logits] * family.more])

    def fitted(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self.initial_parameters(x, context)

    def _sizes(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Of the rows, (n,)."""
        if self.size_factor is None:
            return torch.ones(len(x), dtype=torch.float64, device=x.device)
        return self.size_factor.log_size(self._given(context)).exp()

    def _given(self, context: Tensor | None) -> Tensor:
        if context is None:
            raise SpecError(
                "these counts have rates that are multiplied by sizes, which the context holds: pass context=",
                field="context",
            )
        return context
