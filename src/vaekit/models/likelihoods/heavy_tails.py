"""Likelihood families of real values with outliers: Laplace and Student's t."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch import distributions as td

from vaekit.models.building import BuildContext
from vaekit.models.families import LikelihoodFamily
from vaekit.models.likelihoods.gaussian import LEAST_OF_COLUMN, PACE, LearnedScale
from vaekit.models.likelihoods.location_scale import REAL, LocationScale
from vaekit.models.networks.units import CONSTANT
from vaekit.models.parameters import Shape, parameters, soft_bound
from vaekit.spec import spec

ROUNDS = 500  # of expectation and maximisation
DEGREES = (2.5, 4.0, 8.0, 20.0, 100.0, 900.0)  # of freedom, of which the best is where learning begins
LEAST_DEGREES, MOST_DEGREES = 2.0, 1000.0  # at the first there is no variance; at the second it is a Gaussian
FEW_ROUNDS, FEW_ROWS = 50, 2000  # for each of `DEGREES`
LEAST_SQUARE = 1e-290  # of a residual: what rows leave of it is still a number other than 0


class WithTails(td.StudentT):
    """torch's Student's t, without the chi-squared of its samples until one is drawn: the density alone needs none.

    Args:
        df, loc, scale: Of shapes that go together.
        validate_args: Nothing is checked.
    """

    def __init__(self, df: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None):
        self.df, self.loc, self.scale = torch.broadcast_tensors(df, loc, scale)
        td.Distribution.__init__(self, self.df.shape, validate_args=False)

    @property
    def _chi2(self) -> td.Chi2:
        return td.Chi2(self.df, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: "WithTails | None" = None) -> "WithTails":
        return WithTails(*(part.expand(batch_shape) for part in (self.df, self.loc, self.scale)))


@spec
class Laplace(LocationScale):
    """Laplace: the network gives mu and 2 ln b, bounded as in `Gaussian`. Its mean absolute deviation is b.

    Example:
        >>> Laplace()(torch.zeros(5, 6)).event_shape
        torch.Size([3])
    """

    kind: Literal["laplace"] = "laplace"

    family = td.Laplace

    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.flatten(1).double()
        median = x.quantile(0.5, dim=0)
        return median, (x - median).abs().mean(0)


@spec
class StudentT(LocationScale):
    """Student's t: the network gives mu and ln sigma^2, bounded as in `Gaussian`.

    Args:
        df: Degrees of freedom; the fewer, the heavier the tails. Above 2, so that it has a variance.

    Source: Takahashi et al., 2018, "Student-t variational autoencoder for robust density estimation".

    Example:
        >>> StudentT()(torch.zeros(5, 6)).event_shape
        torch.Size([3])
    """

    df: Annotated[float, Field(gt=2)] = 4.0
    kind: Literal["student_t"] = "student_t"

    family = WithTails

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        found = super().arguments(raw, event_shape)
        return found | {"df": torch.full_like(found["loc"], self.df)}

    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """By expectation and maximisation, with the t as a Gaussian of unknown precision."""
        x = x.flatten(1).double()
        loc, square = x.quantile(0.5, dim=0), x.var(0, correction=0)
        for _ in range(ROUNDS):
            weight = (self.df + 1) / (self.df + (x - loc) ** 2 / square.clamp_min(torch.finfo(x.dtype).tiny))
            loc = (weight * x).sum(0) / weight.sum(0)
            square = (weight * (x - loc) ** 2).mean(0)
        return loc, square.sqrt()


@spec
class CalibratedStudentT(LikelihoodFamily):
    """Student's t whose sigma and degrees of freedom are learned, of each dimension, and do not depend on z.

    From a Gaussian, of many degrees of freedom, to tails under which a far outlier costs little: what fits a column of
    a table that no one has looked at. Sigma moves as that of `CalibratedGaussian`, and is estimated as if one more row
    of training had been a standard deviation of the data off: rows that are few do not pin it down.

    Source: Takahashi et al., 2018, "Student-t variational autoencoder for robust density estimation"; sigma as in
    Rybkin, Daniilidis and Levine, 2021, arXiv 2006.13202.

    Example:
        >>> head = CalibratedStudentT().build(BuildContext(event_shape=(3,)))
        >>> head(torch.zeros(5, 3)).event_shape
        torch.Size([3])
    """

    kind: Literal["calibrated_student_t"] = "calibrated_student_t"

    accepts = REAL
    takes_units = True

    def build(self, context: BuildContext) -> "LearnedTails":
        return LearnedTails(context.event_shape)


class LearnedTails(LearnedScale):
    """The head of `CalibratedStudentT`.

    Args:
        event_shape: Of x.

    Attributes:
        log_variance: ln sigma^2, of the event's shape; moved by a rule of its own, see `LearnedScale`.
        tails: A tenth of the logit of where the degrees of freedom are between 2 and 1000: so Adam, at its usual rate,
            changes it by a hundredth a step.
        spread: The variance of the data, in its units.
        one_more: The share that one more row has beside those of training; 0 until these are known.
    """

    family = WithTails
    spread: Tensor
    one_more: Tensor

    def __init__(self, event_shape: Shape):
        super().__init__(event_shape, per_dimension=True)
        self.tails = nn.Parameter(torch.zeros(event_shape))
        self.register_buffer("spread", torch.ones(event_shape))
        self.register_buffer("one_more", torch.zeros(()))

    @property
    def df(self) -> Tensor:
        """The degrees of freedom, of the event's shape."""
        return LEAST_DEGREES + (MOST_DEGREES - LEAST_DEGREES) * (10 * self.tails).sigmoid()

    def arguments(self, raw: Tensor, event_shape: Shape | None = None) -> dict[str, Tensor]:
        (loc,) = parameters(raw, 1, event_shape)
        scale = (0.5 * soft_bound(self.log_variance)).exp()
        return {"df": self.df.expand_as(loc), "loc": loc, "scale": scale.expand_as(loc)}

    def best(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loc, square, _ = _fitted(x, x.flatten(1).double().var(0, correction=0))
        return loc, square.sqrt()

    def initial_parameters(self, x: Tensor) -> Tensor:
        """The location; sigma and the degrees of freedom are set to those that fit best beside it.

        A column that is constant in the rows, and is in its units, is taken to vary by 1 elsewhere.
        """
        spread = x.flatten(1).double().var(0, correction=0)
        spread = torch.where(spread > CONSTANT**2, spread, 1.0)
        loc, square, df = _fitted(x, spread)
        shape = self.log_variance.shape
        with torch.no_grad():
            self.spread.copy_(spread.reshape(shape))
            self.one_more.fill_(1 / (len(x) + 1))
            self.log_variance.copy_(square.log().reshape(shape))
            self.tails.copy_((((df - LEAST_DEGREES) / (MOST_DEGREES - LEAST_DEGREES)).logit() / 10).reshape(shape))
            self.least.copy_((LEAST_OF_COLUMN * self.spread.max()).log())
        return loc

    @torch.no_grad()
    def follow_gradient(self) -> None:
        """Take one step by the gradient of ln sigma^2, towards the mean of weighted squared residuals.

        A residual has the weight (df + 1) / (df + (residual / sigma)^2) of expectation and maximisation, and one more
        row the variance of the data for its square.
        """
        if self.log_variance.grad is None:
            return
        variance = self.log_variance.exp()
        residual = variance * (1 - 2 * self.log_variance.grad).clamp_min(0)
        wanted = (1 - self.one_more) * residual + self.one_more * self.spread
        self.log_variance.copy_(((1 - PACE) * variance + PACE * wanted).log())
        self.log_variance.clamp_(min=float(self.least))


def _fitted(x: Tensor, spread: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The location, sigma^2 and degrees of freedom that fit rows and one more, (columns,) each in double precision.

    Args:
        x: Rows, (n, *event), of which some even quantiles are taken where they are many.
        spread: Squared residuals of the one more, (columns,).
    """
    spread, one_more = spread.clamp_min(LEAST_SQUARE), 1 / (len(x) + 1)
    x = x.flatten(1).double()
    if len(x) > FEW_ROWS:
        places = torch.linspace(0, len(x) - 1, FEW_ROWS, dtype=torch.float64, device=x.device).round().long()
        x = x.sort(0).values[places]
    found, scores = [], []
    for df in DEGREES:
        loc, square = x.quantile(0.5, dim=0), spread
        for _ in range(FEW_ROUNDS):
            weight = (df + 1) / (df + (x - loc) ** 2 / square)
            loc = (weight * x).sum(0) / weight.sum(0)
            square = (1 - one_more) * (weight * (x - loc) ** 2).mean(0) + one_more * spread
        log_p = td.StudentT(df, loc, square.sqrt(), validate_args=False).log_prob(x).mean(0)
        scores.append((1 - one_more) * log_p - one_more * (square.log() + spread / square) / 2)
        found.append((loc, square, torch.full_like(loc, df)))
    best = torch.stack(scores).argmax(0, keepdim=True)
    loc, square, df = (torch.stack(parts).gather(0, best)[0] for parts in zip(*found, strict=True))
    return loc, square, df
