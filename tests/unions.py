"""The members of a typed union of specs, for tests that run over every choice there is."""

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from vaekit.models import Columns
from vaekit.models.likelihoods.histogram import Histogram

# For specs that cannot be made without arguments, or whose defaults are slow or wild; others are made by calling them.
_NEEDED: dict[str, dict[str, Any]] = {
    "AutoregressiveColumns": {"columns": Columns(real=Histogram(parts=12)), "width": 12},
    "Categorical": {"levels": 3},
    "BetaBinomial": {"levels": 7},
    "CountMixture": {"components": 3},
    "LogisticMixture": {"levels": 7, "components": 3},
    "Planar": {"steps": 2},
    "Radial": {"steps": 2},
    "Vamp": {"components": 20},
}


def members(union: Any) -> list[Any]:
    """What a union lists, those of the unions in it too; a union of one is that class."""
    if get_origin(union) is Annotated:
        return members(get_args(union)[0])
    if get_origin(union) in (Union, UnionType):
        return [member for part in get_args(union) for member in members(part)]
    return [union]


def examples(union: Any) -> list[Any]:
    """One instance of each member, with its defaults."""
    return [member(**_NEEDED.get(member.__name__, {})) for member in members(union)]


def sampling(gradients: Any) -> list[Any]:
    """The estimators that draw samples of z, of whatever kind it is."""
    return [gradient for gradient in examples(gradients) if not gradient.enumerate]


def over_real(specs: Any) -> list[Any]:
    """The posteriors whose z is real, or the priors over such."""
    return [s for s in examples(specs) if "real" in getattr(s, "over", [getattr(s, "support_of_z", "")])]


def name(spec: Any) -> str:
    """What a parametrised test calls a spec, or a size or shape beside it."""
    return str(getattr(spec, "kind", spec))
