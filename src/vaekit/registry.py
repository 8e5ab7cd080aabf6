"""Parts from outside vaekit: registered in Python, or offered by installed packages through entry points.

A choice among parts, such as `Prior`, is a union of ours with `choice("priors")` beside it. Wherever settings are
validated, parts of the same group from outside are then chosen by their `kind` like our own.
"""

import functools
import importlib
import operator
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from typing import Annotated, Any, TypeVar, get_args

from pydantic import Field, GetCoreSchemaHandler, TypeAdapter
from pydantic_core import PydanticKnownError, core_schema

from vaekit.errors import SpecError

GROUPS: dict[str, tuple[str, ...]] = {  # and what a spec of each has to have
    "priors": ("build(size, ctx)", "over"),
    "posteriors": (
        "features(event_shape)",
        "build(context)",
        "z_shape(latent)",
        "as_seen(latent)",
        "support_of_z",
        "has_density",
        "has_score",
        "smooth_density",
        "enumerable",
        "reparametrised",
        "closed_kl_to",
    ),
    "likelihoods": (
        "features(event_shape)",
        "build(context)",
        "accepts",
        "integers",
        "takes_units",
        "is_score",
        "gives_logits",
        "levels_of_x",
    ),
    "networks": ("build(in_shape, features, out_shape)",),
    "objectives": ("__call__(draw, ctx)", "samples", "gradient"),
    "gradients": (
        "unbiased",
        "reparametrised",
        "score",
        "enumerate",
        "multiplies_score",
        "weighs_paths",
        "has_baseline",
        "surrogate(reward, cost, log_q, signal_mean)",
    ),
    "penalties": ("__call__(draw, ctx)", "needs_noise", "build(context)"),
    "samplers": ("build(context)", "fit(codes, seed)"),
}
BASES = {  # which give all or most of these
    "posteriors": "vaekit.posteriors.PosteriorFamily",
    "likelihoods": "vaekit.likelihoods.LikelihoodFamily",
    "gradients": "vaekit.gradients.GradientEstimator",
}
UNIONS = {  # of our own parts, by their module and name
    "priors": ("vaekit.priors", "Prior"),
    "posteriors": ("vaekit.posteriors", "Posterior"),
    "likelihoods": ("vaekit.likelihoods", "Likelihood"),
    "networks": ("vaekit.networks", "Network"),
    "objectives": ("vaekit.objectives", "Objective"),
    "gradients": ("vaekit.gradients", "Gradient"),
    "penalties": ("vaekit.objectives", "Regulariser"),
    "samplers": ("vaekit.samplers", "Sampler"),
}
Part = TypeVar("Part", bound=type)
_registered: dict[str, dict[str, type]] = {group: {} for group in GROUPS}


def register(group: str, part: Part) -> Part:
    """Make a part known to vaekit, so that settings can choose it by its `kind`, as in `model.prior=laplace`.

    An installed package does the same without being imported, by an entry point in the group `vaekit.priors`,
    `vaekit.likelihoods`, ..., whose name is the kind. Registered again, a class of the same name takes the place of the
    one before.

    Args:
        group: Priors, posteriors, likelihoods, networks, objectives, gradients, penalties or samplers.
        part: A spec, that is a class decorated with `vaekit.spec.spec`, whose last field is `kind: Literal["name"] =
            "name"`, and which has what the others of its group have; `vaekit.testing` checks that it keeps to it.

    Returns:
        The class itself.

    Raises:
        SpecError: There is no such group, the class is no such spec, or its kind is taken.
    """
    _known(group)
    if not isinstance(part, type):
        name = type(part).__name__
        raise SpecError(
            f"an instance of {name} was registered: register its class, as in register({group!r}, {name})",
            field="part",
        )
    kind = _checked(group, part, f"{part.__module__}.{part.__qualname__}")
    other = _own(group).get(kind, _registered[group].get(kind))
    if other is not None and (other.__module__, other.__qualname__) != (part.__module__, part.__qualname__):
        raise SpecError(
            f"the kind {kind!r} of {group} is {other.__module__}.{other.__qualname__} already: rename it",
            field="part",
        )
    _registered[group][kind] = part
    return part


def kinds(group: str) -> tuple[str, ...]:
    """The kinds of a group that come from outside; nothing is imported."""
    return tuple(dict.fromkeys([*_registered[group], *_offered(group)]))


def find(group: str, kind: str) -> type | None:
    """The part of a kind that comes from outside, imported if need be; None where there is none.

    Raises:
        SpecError: The package that offers it cannot be imported, or offers something else.
    """
    if kind in _registered[group]:
        return _registered[group][kind]
    entry = _offered(group).get(kind)
    if entry is None:
        return None
    package = entry.dist.name if entry.dist else entry.value
    try:
        part = entry.load()
    except Exception as error:
        raise SpecError(
            f"the kind {kind!r} of {group} comes from the package {package}, which cannot be imported: "
            f"{type(error).__name__}: {error}",
            field="kind",
            value=kind,
        ) from None
    if _checked(group, part, f"{entry.value} of the package {package}") != kind:
        raise SpecError(
            f"the package {package} offers the kind {kind!r}, and {entry.value} is of kind {part.kind!r}",
            field="kind",
            value=kind,
        )
    _registered[group][kind] = part
    return part


def parts(hint: Any) -> tuple[type, ...]:
    """The parts from outside that a choice, such as `Prior`, takes beside its own; packages that fail are left out."""
    found = []
    for group in (one.group for one in get_args(hint)[1:] if isinstance(one, Choice)):
        for kind in kinds(group):
            with suppress(SpecError):
                found += [find(group, kind)]
    return tuple(part for part in found if part is not None)


def registered() -> int:
    """How many parts from outside are known so far."""
    return sum(map(len, _registered.values()))


def origins(settings: Any) -> dict[str, str]:
    """The parts from outside in some settings: of each kind the package with its version, or else the module.

    Args:
        settings: A spec, or a tree of specs such as a `Run`.
    """
    found = {}
    inside = vars(settings).values() if hasattr(settings, "__pydantic_fields__") else settings
    if hasattr(settings, "kind") and type(settings) in {
        part for known in _registered.values() for part in known.values()
    }:
        found[settings.kind] = _origin(type(settings))
    for value in inside:
        if hasattr(value, "__pydantic_fields__") or isinstance(value, tuple):
            found |= origins(value)
    return found


def _origin(part: type) -> str:
    module = part.__module__.partition(".")[0]
    packages = metadata.packages_distributions().get(module, ())
    return f"the package {packages[0]} {metadata.version(packages[0])}" if packages else f"the module {part.__module__}"


def choice(group: str) -> "Choice":
    """Beside a union of specs: one of them, or one of the group from outside, by its `kind` or the bare name of it."""
    return Choice(_known(group))


class Choice:
    """How pydantic reads and writes a choice among parts; see `choice`."""

    def __init__(self, group: str):
        self.group = group

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        own = {member.kind: member for member in get_args(source)}

        def read(value: Any, inner: Callable[[Any], Any]) -> Any:
            value = {"kind": value} if isinstance(value, str) else value
            kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
            if isinstance(kind, str) and kind not in own:
                if part := find(self.group, kind):
                    return _adapter((*own.values(), part)).validate_python(value)
                tags = ", ".join(map(repr, (*own, *kinds(self.group))))
                raise PydanticKnownError(
                    "union_tag_invalid", {"discriminator": "'kind'", "tag": kind, "expected_tags": tags}
                )
            return inner(value)

        def write(value: Any, inner: Callable[[Any], Any], info: Any) -> Any:
            if getattr(value, "kind", None) in own:
                return inner(value)
            return TypeAdapter(type(value)).dump_python(value, mode="json" if info.mode == "json" else "python")

        schema = handler.generate_schema(Annotated[source, Field(discriminator="kind")])
        written = core_schema.wrap_serializer_function_ser_schema(write, info_arg=True, schema=schema)
        return core_schema.no_info_wrap_validator_function(read, schema, serialization=written)


@functools.cache
def _adapter(members: tuple[type, ...]) -> TypeAdapter:
    union: Any = functools.reduce(operator.or_, members)
    choice: Any = Annotated[union, Field(discriminator="kind")]
    return TypeAdapter(choice)


def _known(group: str) -> str:
    if group not in GROUPS:
        raise SpecError(
            f"there is no group {group!r} of parts: it should be one of {', '.join(GROUPS)}", field="group", value=group
        )
    return group


@functools.cache
def _offered(group: str) -> dict[str, metadata.EntryPoint]:
    """The entry points of a group, by kind. What is installed later is seen by the next process."""
    return {entry.name: entry for entry in metadata.entry_points(group=f"vaekit.{group}")}


def _checked(group: str, part: Any, name: str) -> str:
    """The kind of a part that is such a spec."""
    kind = getattr(part, "kind", None)
    if not isinstance(part, type) or not hasattr(part, "__pydantic_fields__") or not isinstance(kind, str):
        raise SpecError(
            f"{name} is no spec with a kind: decorate a class with vaekit.spec.spec, and end it with "
            'kind: Literal["name"] = "name"',
            field="part",
        )
    if missing := [what for what in GROUPS[group] if not _has(part, what.partition("(")[0])]:
        advice = f": derive it from {BASES[group]}, or add them" if group in BASES else ": add them"
        raise SpecError(f"{name} lacks {', '.join(missing)}, which all {group} have{advice}", field="part")
    return kind


def _has(part: type, name: str) -> bool:
    """Whether instances of a class have a member, or a field of this name."""
    return name in getattr(part, "__pydantic_fields__", {}) or any(name in vars(base) for base in part.__mro__)


@functools.cache
def _own(group: str) -> dict[str, type]:
    """Our own parts of a group, by kind."""
    module, name = UNIONS[group]
    union = get_args(getattr(importlib.import_module(module), name))[0]
    return {part.kind: part for part in get_args(union)}
