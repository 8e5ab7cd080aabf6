"""Which parts of a model go together: their properties in rows, and the rules over these in one table.

The properties are attributes of the parts' classes, so that a part from elsewhere has its row, too. Checks of settings,
the page docs/models.md and the tests of all combinations read them here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vaekit.errors import SpecError
from vaekit.models.families import LikelihoodFamily, PosteriorFamily


@dataclass(frozen=True)
class Row:
    """Properties of a part; of some, such as how the KL is had, the kind is all.

    Attributes:
        kind: By which settings choose it.
    """

    kind: str


@dataclass(frozen=True)
class PosteriorRow(Row):
    """Properties of a posterior family; see `PosteriorFamily` for what they mean."""

    z: str
    has_density: bool
    reparametrised: bool
    has_score: bool
    smooth_density: bool
    enumerable: bool
    closed_kl_to: tuple[str, ...]
    known_covariance: bool
    diagonal_gaussian: bool

    @property
    def refinable(self) -> bool:
        """Whether draws can be moved along the gradient of ln p(x, z): see `Hamiltonian`."""
        return self.z == "real" and self.has_density


@dataclass(frozen=True)
class PriorRow(Row):
    """Properties of a prior.

    Attributes:
        over: The kinds of z that it can be over.
        needs_density: Whether it is made of the posterior's density.
        is_conditional: Whether it depends on the context.
    """

    over: tuple[str, ...]
    needs_density: bool
    is_conditional: bool

    @property
    def z(self) -> str:
        """The kinds of z in words."""
        return " or ".join(self.over)


COLOURED = (3, 2, 2)  # the shape of an image of colours


@dataclass(frozen=True)
class LikelihoodRow(Row):
    """Properties of a likelihood family; see `LikelihoodFamily` for what they mean."""

    accepts: tuple[str, ...]
    integers: bool
    takes_units: bool
    levels: int | None
    ties_cells: bool
    ties_colours: bool
    needs_size: bool

    @property
    def in_words(self) -> str:
        """Its kind, and the levels that x must have."""
        return self.kind if self.levels is None else f"{self.kind} with {self.levels} levels"


@dataclass(frozen=True)
class GradientRow(Row):
    """Properties of a gradient estimator: how it draws z; see `VAE.draw`."""

    reparametrised: bool
    score: bool
    enumerate: bool


@dataclass(frozen=True)
class ObjectiveRow(Row):
    """Properties of an objective that is maximised as one.

    Attributes:
        importance_weighted: Whether its samples are weighted by p(x, z) / q(z|x).
        penalises: Whether it takes penalties off a bound.
    """

    importance_weighted: bool
    penalises: bool


@dataclass(frozen=True)
class PenaltyRow(Row):
    """Properties of a penalty.

    Attributes:
        needs_covariance: Whether the covariance of q(z|x) must be known in closed form.
        needs_diagonal_gaussian: Whether q(z|x) must be a Gaussian with independent dimensions.
    """

    needs_covariance: bool
    needs_diagonal_gaussian: bool


@dataclass(frozen=True)
class SamplerRow(Row):
    """Properties of a sampler of z.

    Attributes:
        over: The kinds of z that it can be over.
        is_prior: Whether it is the model's prior.
    """

    over: tuple[str, ...]
    is_prior: bool


@dataclass(frozen=True)
class ModelRow(Row):
    """Properties of a model.

    Attributes:
        several_groups: Whether it has several groups of latents.
    """

    several_groups: bool


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
        family.known_covariance,
        family.diagonal_gaussian,
    )


def prior_row(prior: Any) -> PriorRow:
    """The properties of a prior."""
    return PriorRow(
        _kind(prior), prior.over, getattr(prior, "needs_density", False), getattr(prior, "is_conditional", False)
    )


def likelihood_row(family: LikelihoodFamily) -> LikelihoodRow:
    """The properties of a likelihood family with its settings."""
    return LikelihoodRow(
        _kind(family),
        family.accepts,
        family.integers,
        family.takes_units,
        family.levels_of_x,
        family.ties_cells((2,)),
        family.ties_cells(COLOURED),
        family.needs_size,
    )


def gradient_row(gradient: Any) -> GradientRow:
    """The properties of a gradient estimator."""
    return GradientRow(_kind(gradient), gradient.reparametrised, gradient.score, gradient.enumerate)


def objective_row(objective: Any) -> ObjectiveRow:
    """The properties of an objective; each phase of one that has some has its own."""
    return ObjectiveRow(
        _kind(objective), getattr(objective, "importance_weighted", False), getattr(objective, "penalises", False)
    )


def penalty_row(penalty: Any) -> PenaltyRow:
    """The properties of a penalty with its settings."""
    needs = (getattr(penalty, name, False) for name in ("needs_covariance", "needs_diagonal_gaussian"))
    return PenaltyRow(_kind(penalty), *needs)


def sampler_row(sampler: Any) -> SamplerRow:
    """The properties of a sampler; one that does not say over which z it is has all."""
    over = getattr(sampler, "over", ("real", "sphere", "discrete"))
    return SamplerRow(_kind(sampler), over, getattr(sampler, "is_prior", False))


@dataclass(frozen=True)
class Rule:
    """What parts do not go together.

    Attributes:
        parts: Names of the parts whose rows it compares; the first is the one to choose otherwise.
        broken: Whether these rows do not go together.
        reason: What the first part is or needs, in words that follow its kind; it may hold rows in braces.
        but: What the second is or lacks, likewise.
        instead: Kinds of the first that do go; where there are none, those that break no rule.
        otherwise: What else would help, in words.
    """

    parts: tuple[str, ...]
    broken: Callable[..., bool]
    reason: str
    but: str
    instead: tuple[str, ...] = ()
    otherwise: str = ""


RULES = (
    Rule(
        ("prior", "posterior"),
        lambda prior, posterior: posterior.z not in prior.over,
        "over {prior.z} z",
        "whose z is {posterior.z}",
        otherwise="another posterior",
    ),
    Rule(
        ("prior", "posterior"),
        lambda prior, posterior: prior.needs_density and not posterior.has_density,
        "made of the posterior's density",
        "which has none",
        otherwise="another posterior",
    ),
    Rule(
        ("posterior", "model"),
        lambda posterior, model: posterior.z == "discrete" and model.several_groups,
        "whose z is discrete",
        "whose z are not",
        ("gaussian",),
    ),
    Rule(
        ("objective", "model"),
        lambda objective, model: objective.penalises and model.several_groups,
        "whose penalties are over one group of latents",
        "which has several",
        ("elbo",),
    ),
    Rule(
        ("gradient", "posterior"),
        lambda gradient, posterior: not (gradient.reparametrised or posterior.has_score),
        "which works through ln q(z|x)",
        "whose z is a function of x, so that ln q(z|x) teaches the encoder nothing",
        ("pathwise",),
    ),
    Rule(
        ("gradient", "posterior"),
        lambda gradient, posterior: gradient.enumerate and not posterior.enumerable,
        "which lists all values of z",
        "whose z cannot be listed",
        ("pathwise",),
    ),
    Rule(
        ("gradient", "posterior"),
        lambda gradient, posterior: gradient.reparametrised and not posterior.reparametrised,
        "which goes through z",
        "whose samples are discrete, so that no gradient does",
        ("score", "enumerate"),
        otherwise="relax z by a temperature of the posterior",
    ),
    Rule(
        ("gradient", "posterior"),
        lambda gradient, posterior: not (gradient.score or posterior.smooth_density),
        "which drops the gradient of ln q(z|x)",
        "whose q(z|x) is no density",
        ("pathwise",),
    ),
    Rule(
        ("objective", "posterior"),
        lambda objective, posterior: objective.importance_weighted and not posterior.has_density,
        "which weighs samples by the posterior's density",
        "which has none",
        ("elbo",),
        otherwise="another posterior",
    ),
    Rule(
        ("objective", "gradient"),
        lambda objective, gradient: objective.importance_weighted and gradient.enumerate,
        "which weighs samples",
        "which lists all values of z and leaves none",
        ("elbo",),
    ),
    Rule(
        ("gradient", "penalty"),
        lambda gradient, _: not gradient.reparametrised,
        "which does not reach the encoder through z",
        "whose gradient does",
        ("pathwise", "stick_the_landing"),
    ),
    Rule(
        ("posterior", "penalty"),
        lambda posterior, penalty: penalty.needs_covariance and not posterior.known_covariance,
        "whose covariance has no closed form",
        "which needs it",
        ("gaussian", "full_gaussian", "deterministic"),
        otherwise="another penalty",
    ),
    Rule(
        ("posterior", "penalty"),
        lambda posterior, penalty: penalty.needs_diagonal_gaussian and not posterior.diagonal_gaussian,
        "which is no diagonal Gaussian",
        "which needs one",
        ("gaussian",),
        otherwise="the penalty factor",
    ),
    Rule(
        ("kl", "posterior", "prior"),
        lambda kl, posterior, prior: kl.kind == "closed" and prior.kind not in posterior.closed_kl_to,
        "which needs KL(q(z|x) || p(z)) in closed form",
        "whose KL to the prior {prior.kind} has none",
        ("auto", "sampled"),
    ),
    Rule(
        ("refine", "posterior"),
        lambda _, posterior: not posterior.refinable,
        "which moves draws of a density over real z",
        "which has none",
        ("null",),
        otherwise="another posterior",
    ),
    Rule(
        ("gradient", "refine"),
        lambda gradient, _: not (gradient.reparametrised and gradient.score),
        "which drops a part of the gradient",
        "whose draws carry all of it along",
        ("pathwise",),
    ),
    Rule(
        ("objective", "refine"),
        lambda objective, _: objective.penalises,
        "whose penalties need a density in closed form",
        "whose draws have none",
        ("elbo", "iwae"),
    ),
    Rule(
        ("sampler", "posterior"),
        lambda sampler, posterior: posterior.z not in sampler.over,
        "which is fitted to vectors of real numbers",
        "whose z is {posterior.z}",
        ("prior", "aggregated"),
    ),
    Rule(
        ("sampler", "context"),
        lambda sampler, _: not sampler.is_prior,
        "which takes no context",
        "on which z depends",
        ("prior",),
    ),
    Rule(
        ("kl", "refine"),
        lambda kl, _: kl.kind == "closed",
        "which needs a density in closed form",
        "whose draws have none",
        ("auto", "sampled"),
    ),
)


def broken_rule(**rows: Row) -> Rule | None:
    """The first rule that parts break; None where they go together.

    Args:
        rows: Of the parts, by name: posterior, prior, model, objective, penalty, gradient, kl, refine, sampler,
            context. Rules over a part that is not given are left out.
    """
    for rule in RULES:
        if rows.keys() >= set(rule.parts) and rule.broken(*(rows[part] for part in rule.parts)):
            return rule
    return None


def go_together(**rows: Row) -> bool:
    """Whether parts break no rule: see `broken_rule`."""
    return broken_rule(**rows) is None


def refusal(
    rule: Rule, rows: Mapping[str, Row], names: Mapping[str, str] | None = None, instead: Sequence[str] = ()
) -> str:
    """What a rule says of parts that break it, in one line.

    Args:
        rule: The rule.
        rows: Of the parts, by name.
        names: How the parts are called; by default as in the table.
        instead: Kinds of the first part that go; by default those that the rule names.
    """
    first, second = rule.parts[:2]
    of_first, of_second = ((names or {}).get(part, part) for part in (first, second))
    reason, but = (text.format(**rows) for text in (rule.reason, rule.but))
    return (
        f"{of_first} is {rows[first].kind}, {reason}, and {of_second} is {rows[second].kind}, {but}: use "
        f"{of_first}={' or '.join(rule.instead or instead)}{', or ' if rule.otherwise else ''}{rule.otherwise}"
    )


def refuse(field: str, value: object, /, **rows: Row) -> None:
    """Refuse parts that break a rule: see `broken_rule`.

    Args:
        field: The setting that chose one of them.
        value: What was given for it.
        rows: Of the parts, by name.

    Raises:
        SpecError: Parts do not go together.
    """
    if rule := broken_rule(**rows):
        raise SpecError(refusal(rule, rows), field=field, value=value)


def likelihood_fits(likelihood: LikelihoodRow, support: str, levels: int | None) -> bool:
    """Whether a likelihood models values.

    Args:
        likelihood: Its row.
        support: Of the values, by `kind`.
        levels: How many levels they have; None where they are no levels.
    """
    return support in likelihood.accepts and likelihood.levels in (None, levels)


def takes_missing_cells(likelihood: LikelihoodRow, shape: tuple[int, ...]) -> bool:
    """Whether a likelihood has a density of the observed cells of rows, and so goes with a mask.

    Args:
        likelihood: Its row.
        shape: Of one row of x.
    """
    coloured = len(shape) == len(COLOURED) and shape[0] == COLOURED[0]
    return not (likelihood.ties_colours if coloured else likelihood.ties_cells)


def _kind(part: Any) -> str:
    return str(getattr(part, "kind", type(part).__name__))
