"""Which parts of a model go together: their properties in tables, and the rules over these.

The properties are attributes of the parts' classes, so that a part from elsewhere has its row, too. Checks of settings,
the page docs/models.md and the tests of all combinations read them here.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from vaekit.models.families import LikelihoodFamily, PosteriorFamily


@dataclass(frozen=True)
class PosteriorRow:
    """Properties of a posterior family; see `PosteriorFamily` for what they mean."""

    kind: str
    z: str
    has_density: bool
    reparametrised: bool
    has_score: bool
    smooth_density: bool
    enumerable: bool
    closed_kl_to: tuple[str, ...]

    @property
    def refinable(self) -> bool:
        """Whether draws can be moved along the gradient of ln p(x, z): see `Hamiltonian`."""
        return self.z == "real" and self.has_density


@dataclass(frozen=True)
class PriorRow:
    """Properties of a prior.

    Attributes:
        over: The kinds of z that it can be over.
        needs_density: Whether it is made of the posterior's density.
        is_conditional: Whether it depends on the context.
    """

    kind: str
    over: tuple[str, ...]
    needs_density: bool
    is_conditional: bool


@dataclass(frozen=True)
class LikelihoodRow:
    """Properties of a likelihood family; see `LikelihoodFamily` for what they mean."""

    kind: str
    accepts: tuple[str, ...]
    integers: bool
    takes_units: bool


@runtime_checkable
class GradientProperties(Protocol):
    """How a gradient estimator draws z: see `VAE.draw`."""

    @property
    def reparametrised(self) -> bool:
        """Whether z carries gradients to the parameters of q."""
        ...

    @property
    def score(self) -> bool:
        """Whether ln q carries gradients to its parameters directly."""
        ...

    @property
    def enumerate(self) -> bool:
        """Whether every value of a discrete z is taken in place of samples."""
        ...


def posterior_row(family: PosteriorFamily) -> PosteriorRow:
    """The properties of a posterior family with its settings."""
    return PosteriorRow(
        _kind(family),
        family.support_of_z,
        family.has_density,
        family.reparametrised,
        family.has_score,
        family.smooth_density,
        family.enumerable,
        family.closed_kl_to,
    )


def prior_row(prior: Any) -> PriorRow:
    """The properties of a prior."""
    return PriorRow(
        _kind(prior), prior.over, getattr(prior, "needs_density", False), getattr(prior, "is_conditional", False)
    )


def likelihood_row(family: LikelihoodFamily) -> LikelihoodRow:
    """The properties of a likelihood family."""
    return LikelihoodRow(_kind(family), family.accepts, family.integers, family.takes_units)


@dataclass(frozen=True)
class Conflict:
    """Why a gradient estimator does not go with a posterior.

    Attributes:
        reason: In words.
        instead: Estimators that do, by `kind`.
    """

    reason: str
    instead: tuple[str, ...]


def prior_fits(prior: PriorRow, posterior: PosteriorRow) -> bool:
    """Whether a prior goes with a posterior."""
    return posterior.z in prior.over and (posterior.has_density or not prior.needs_density)


def gradient_conflict(gradient: GradientProperties, posterior: PosteriorRow) -> Conflict | None:
    """Why z of a posterior cannot be drawn as a gradient estimator needs it; None if it can."""
    if not (gradient.reparametrised or posterior.has_score):
        return Conflict("its z is a function of x, so ln q(z|x) teaches the encoder nothing", ("pathwise",))
    if gradient.enumerate and not posterior.enumerable:
        return Conflict("z that is not discrete cannot be enumerated", ("pathwise",))
    if gradient.reparametrised and not posterior.reparametrised:
        return Conflict("its samples are discrete, and no gradient goes through them", ("score", "enumerate"))
    if not (gradient.score or posterior.smooth_density):
        others = ("pathwise", "score") if posterior.has_score else ("pathwise",)
        return Conflict("it drops the gradient of ln q(z|x), which is no density here", others)
    return None


def _kind(part: Any) -> str:
    return str(getattr(part, "kind", type(part).__name__))
