"""The likelihood of a table whose columns are of different kinds: a head for each column."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, cast

import torch
from torch import Tensor, nn

from vaekit.errors import SpecError
from vaekit.models.building import ALONE, BuildContext, FieldEvent
from vaekit.models.distributions.columns import Categories, Cells
from vaekit.models.families import LikelihoodFamily, LikelihoodHead
from vaekit.models.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli
from vaekit.models.likelihoods.beta_binomial import BetaBinomial
from vaekit.models.likelihoods.categorical import Categorical
from vaekit.models.likelihoods.count_mixture import CountMixture
from vaekit.models.likelihoods.counts import NegativeBinomial, Poisson, ZeroInflated
from vaekit.models.likelihoods.gaussian import CalibratedGaussian, Gaussian
from vaekit.models.likelihoods.heavy_tails import CalibratedStudentT, Laplace, StudentT
from vaekit.models.likelihoods.histogram import CountHistogram, Histogram
from vaekit.models.likelihoods.initialisation import counts_of_levels
from vaekit.models.likelihoods.location_scale import LocationScale
from vaekit.models.likelihoods.log_normal import LogNormal
from vaekit.models.likelihoods.logistic_mixture import LogisticMixture
from vaekit.models.networks.units import Units
from vaekit.models.parameters import Shape
from vaekit.models.protocols import MeasuredHead
from vaekit.registry import choice
from vaekit.spec import spec

OfColumn = Annotated[
    Bernoulli
    | ContinuousBernoulli
    | Categorical
    | BetaBinomial
    | LogisticMixture
    | Gaussian
    | CalibratedGaussian
    | LogNormal
    | Laplace
    | StudentT
    | CalibratedStudentT
    | Poisson
    | NegativeBinomial
    | ZeroInflated
    | CountMixture
    | Histogram
    | CountHistogram,
    choice("likelihoods"),
]

NUMBERS = "cpu"  # where numbers of columns begin: to sum those on "meta" imports torch._dynamo, which takes seconds

SUPPORTS = {  # of the columns of each kind, by the names that families use; the first is its own
    "real": ("real",),
    "positive": ("positive", "real"),
    "count": ("count",),
    "binary": ("binary", "levels"),
    "categorical": ("levels",),
    "ordinal": ("levels",),
}


@spec
class Columns(LikelihoodFamily):
    """A product of likelihoods, one for each column of a table whose columns are of different kinds.

    ln p(x|z) is the sum of ln p of its columns, of which some may be missing. Numbers of categories are those of the
    data, whatever a family says. A column of categories, or of two, has its most probable one as its mean.

    Args:
        heads: The likelihood of each column, in their order; or those of single columns by name, and all others have
            that of their kind. Columns of which nothing is known are real.
        real, positive, count, binary, categorical, ordinal: The likelihood of columns of a kind.

    Example:
        >>> head = Columns((Gaussian(), Categorical(5))).build(BuildContext(event_shape=(2,)))
        >>> head(torch.zeros(3, 7)).log_prob(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    heads: tuple[OfColumn, ...] | dict[str, OfColumn] = ()
    real: OfColumn = CalibratedStudentT()
    positive: OfColumn = LogNormal()
    count: OfColumn = CountMixture()
    binary: OfColumn = Bernoulli()
    categorical: OfColumn = Categorical(2)
    ordinal: OfColumn = Categorical(2)
    kind: Literal["columns"] = "columns"

    accepts = ("mixed",)

    def of_fields(self, fields: Sequence[FieldEvent]) -> "Columns":
        """The same, with the likelihood of each of these columns in `heads`.

        Raises:
            SpecError: A column has no likelihood that is over values of its kind, or a name in `heads` is of none.
        """
        if isinstance(self.heads, tuple) and self.heads:
            return self
        named = dict(self.heads) if isinstance(self.heads, Mapping) else {}
        known = [field.name for field in fields]
        if unknown := [name for name in named if name not in known]:
            raise SpecError(
                f"heads names the column {unknown[0]!r}, and the columns are {', '.join(known)}: take one of these",
                field="Columns.heads",
                value=unknown[0],
            )
        families: list[Any] = [named.get(field.name, getattr(self, field.kind)) for field in fields]
        return replace(self, heads=tuple(map(_fitting, families, fields)))

    def features(self, event_shape: Shape) -> int:
        return sum(family.features((1,)) for family in self._families(event_shape))

    def build(self, context: BuildContext) -> "ColumnHeads":
        return ColumnHeads(self._families(context.event_shape), standardised=bool(context.fields))

    def _families(self, event_shape: Shape) -> tuple[LikelihoodFamily, ...]:
        count = math.prod(event_shape)
        if not self.heads:
            return (self.real,) * count
        if isinstance(self.heads, Mapping) or len(self.heads) != count:
            given = "by name" if isinstance(self.heads, Mapping) else "in order"
            raise SpecError(
                f"columns has {len(self.heads)} heads {given}, and a row of x has the shape {event_shape}: give one "
                "for each column, as Columns((Gaussian(), Bernoulli()))",
                field="Columns.heads",
                value=self.heads,
            )
        return self.heads


def _fitting(family: LikelihoodFamily, field: FieldEvent) -> Any:
    """The family for a column, with as many categories as that has."""
    if field.kind in ("categorical", "ordinal") and hasattr(family, "levels"):
        return replace(family, levels=max(2, field.categories))  # pyright: ignore[reportCallIssue, reportArgumentType]
    if not set(SUPPORTS[field.kind]) & set(family.accepts):
        raise SpecError(
            f"the column {field.name!r} is {field.kind}, and the likelihood {getattr(family, 'kind', family)} is over "
            f"{' or '.join(family.accepts)}: take another, or another kind of column",
            field=f"Columns.{field.kind}",
            value=family,
        )
    return family


class ColumnHeads(nn.Module, LikelihoodHead):
    """The head of `Columns`. Columns with equal families share one head, so that a step takes few operations.

    Raw numbers are laid out group by group; within one as its head takes them: parameter by parameter, or, of
    categories, column by column. `of_columns` takes them apart.

    Args:
        families: Of each column.
        standardised: Whether real columns are.
    """

    order: Tensor

    def __init__(self, families: Sequence[LikelihoodFamily], standardised: bool = False):
        super().__init__()
        members: dict[Any, list[int]] = {}
        for place, family in enumerate(families):
            members.setdefault(_group_of(family), []).append(place)
        self.columns = len(families)
        self.groups = nn.ModuleList(
            _CategoriesGroup(places, [families[place].levels_of_x or 2 for place in places])
            if families[places[0]].gives_logits
            else _Group(places, families[places[0]], standardised)
            for places in members.values()
        )
        in_groups = torch.tensor([place for places in members.values() for place in places], device=NUMBERS)
        self.register_buffer("order", in_groups.argsort(), persistent=False)

    def features(self, event_shape: Shape) -> int:
        return sum(self._sizes)

    def of_values(self, raw: Tensor, event_shape: Shape | None = None) -> Cells:
        parts = raw.split(self._sizes, -1)
        found = [group.of_values(part) for group, part in zip(self._each, parts, strict=True)]
        like = raw.new_empty(()).expand(*raw.shape[:-1], *(event_shape or (self.columns,)))
        return Cells(found, [group.places for group in self._each], self.order, like)

    def forward(self, raw: Tensor, event_shape: Shape | None = None) -> Any:
        return LikelihoodHead.__call__(self, raw, event_shape)

    def of_columns(self, raw: Tensor) -> tuple[Tensor, ...]:
        """The raw numbers (..., features) of each column, (..., its own)."""
        found: dict[int, Tensor] = {}
        for group, part in zip(self._each, raw.split(self._sizes, -1), strict=True):
            found |= dict(zip(group.places.tolist(), group.of_columns(part), strict=True))
        return tuple(found[place] for place in range(self.columns))

    @torch.no_grad()
    def measure(self, x: Tensor, context: Tensor | None = None) -> None:
        """Measure what units the columns have on rows x (n, columns)."""
        for group in self._each:
            group.measure(x.flatten(1)[:, group.places])

    def initial_parameters(self, x: Tensor) -> Tensor:
        return torch.cat([group.start(x.flatten(1)[:, group.places], best=False) for group in self._each])

    def fitted(self, x: Tensor) -> Tensor:
        return torch.cat([group.start(x.flatten(1)[:, group.places], best=True) for group in self._each])

    @property
    def _each(self) -> "list[_Group | _CategoriesGroup]":
        return cast("list[_Group | _CategoriesGroup]", list(self.groups))

    @property
    def _sizes(self) -> list[int]:
        return [group.features for group in self._each]


class _Group(nn.Module):
    """Columns with one head.

    Args:
        places: Of the columns.
        family: Of each of them.
        standardised: Whether they are, where they are real.
    """

    places: Tensor

    def __init__(self, places: list[int], family: LikelihoodFamily, standardised: bool):
        super().__init__()
        self.event = (len(places),)
        self.register_buffer("places", torch.tensor(places, device=NUMBERS), persistent=False)
        head = family.build(ALONE.over(self.event))
        if not isinstance(head, LikelihoodHead) or head.takes_context:
            lacks = "needs a context" if head.takes_context else "gives no density of single values"
            raise SpecError(
                f"{type(family).__name__} {lacks}, and is for no single column: take another likelihood",
                field="Columns.heads",
                value=family,
            )
        self.head = head
        self.features = family.features(self.event)
        self.units = Units(self.event, standardised=standardised) if family.takes_units else None

    def of_values(self, raw: Tensor) -> Any:
        return self.head.of_values(raw, self.event, *(() if self.units is None else (self.units,)))

    def of_columns(self, raw: Tensor) -> tuple[Tensor, ...]:
        count = self.event[0]
        return raw.unflatten(-1, (-1, count)).unbind(-1)

    def measure(self, x: Tensor) -> None:
        if self.units is not None:
            self.units.measure(x, self._best)
        if isinstance(self.head, MeasuredHead):
            self.head.measure(x, None)

    @property
    def _best(self) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        return cast(LocationScale, self.head).best

    def start(self, x: Tensor, best: bool) -> Tensor:
        if self.units is not None:
            self.units.measure(x, self._best)
            x = self.units(x)
        return (self.head.fitted(x) if best else self.head.initial_parameters(x)).double()


class _CategoriesGroup(nn.Module):
    """Columns of categories, of similar numbers of them.

    Args:
        places: Of the columns.
        counts: Of categories of each of them.
    """

    places: Tensor
    counts: Tensor
    index: Tensor
    absent: Tensor

    def __init__(self, places: list[int], counts: list[int]):
        super().__init__()
        most, self.sizes, self.features = max(counts), counts, sum(counts)
        sizes = torch.tensor(counts, device=NUMBERS)
        first, code = (sizes.cumsum(0) - sizes)[:, None], torch.arange(most, device=NUMBERS)
        absent = code >= sizes[:, None]
        self.register_buffer("places", torch.tensor(places, device=NUMBERS), persistent=False)
        self.register_buffer("counts", sizes, persistent=False)
        self.register_buffer("index", torch.where(absent, 0, first + code).flatten(), persistent=False)
        self.register_buffer("absent", absent, persistent=False)
        self.alike = len(set(counts)) == 1

    def of_values(self, raw: Tensor) -> Categories:
        if self.alike:
            return Categories(raw.unflatten(-1, self.absent.shape), self.counts)
        logits = raw.index_select(-1, self.index).unflatten(-1, self.absent.shape)
        return Categories(logits.masked_fill(self.absent, -math.inf), self.counts)

    def of_columns(self, raw: Tensor) -> tuple[Tensor, ...]:
        return raw.split(self.sizes, -1)

    def measure(self, x: Tensor) -> None:
        """Nothing: codes have no units."""

    def start(self, x: Tensor, best: bool) -> Tensor:
        found = [counts_of_levels(column[:, None], size) for column, size in zip(x.T, self.sizes, strict=True)]
        return torch.cat([((of[:, 0].double() + 1) / (len(x) + len(of))).log() for of in found])


def _group_of(family: LikelihoodFamily) -> Any:
    """Columns with the same of these share a head; categories do where at most three in four are padding."""
    if family.gives_logits:
        return "categories", math.ceil(math.log(family.levels_of_x or 2, 4))
    return family
