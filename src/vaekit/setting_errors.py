"""Mistakes in specs and settings, as pydantic finds them, explained in at most two lines."""

import difflib
import functools
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from vaekit.errors import VaekitError
from vaekit.registry import parts, registered
from vaekit.words import counted

MOST_EXPLAINED = 50  # of the mistakes of one tree; the others are only counted
_RULE = re.compile("it (?:should|must) be(.*)")
_IN_WORDS = {
    "name": "a folder's name, without slashes",
    "device": "one of auto, cpu, mps, cuda and cuda:0, cuda:1",
}
_ELSEWHERE = {  # the names that other libraries have for settings
    "latent": ("latent_dim", "latent_dims", "latent_size", "latents", "n_latent", "z_dim", "zdim", "z_size", "dim_z"),
    "encoder.widths": ("hidden", "hidden_dim", "hidden_dims", "hidden_size", "hidden_sizes", "hidden_units", "layers"),
    "epochs": ("epoch", "n_epochs", "num_epochs", "max_epochs", "nb_epochs", "n_epoch", "iterations", "steps"),
    "lr": ("learning_rate", "learningrate", "lrate", "step_size"),
    "batch_size": ("batch", "bs", "batchsize", "minibatch"),
    "optimiser": ("optimizer", "optim"),
    "device=cuda": ("gpu", "gpus", "cuda", "accelerator"),
    "device=cpu": ("cpu", "no_cuda", "no_gpu"),
    "patience": ("early_stopping", "early_stop"),
    "clip": ("grad_clip", "clip_grad", "max_norm", "gradient_clip", "clip_norm"),
    "beta": ("kl_weight", "kld_weight", "kl_coef", "warmup", "beta_kl"),
    "likelihood": ("loss", "recon_loss", "reconstruction_loss", "output_distribution", "distribution"),
    "objective": ("loss_function", "criterion", "bound"),
    "source": ("dataset", "data_path", "data_dir", "input", "file"),
    "valid_fraction": ("val_split", "valid_split", "validation_split", "val_fraction"),
    "test_fraction": ("test_split", "test_size"),
    "binarise": ("binarize", "binary"),
    "activation": ("nonlinearity", "act"),
    "run_dir": ("out", "output", "out_dir", "output_dir", "save_dir", "log_dir", "checkpoint_dir"),
}
_MEANT = {word: setting for setting, words in _ELSEWHERE.items() for word in words}
_KINDS = {  # other names of kinds
    "hierarchical": ("ladder", "hvae", "lvae", "top_down"),
    "deterministic": ("point", "delta", "dirac", "ae"),
    "standard_normal": ("normal", "isotropic", "n01"),
    "gaussian": ("normal", "diagonal", "mse"),
    "bernoulli": ("bce", "binary"),
    "categorical": ("softmax", "cross_entropy"),
    "von_mises_fisher": ("vmf",),
    "pathwise": ("reparametrised", "reparam", "path"),
    "score": ("reinforce", "score_function", "vimco"),
    "enumerate": ("every", "exact", "sum"),
    "mixture": ("gmm", "mog"),
    "negative_binomial": ("nb",),
}


def explain(error: ValidationError, root: Any) -> str:
    """What is wrong with settings, in at most two lines.

    Args:
        error: What pydantic found.
        root: The class of the spec or tree that was to be made, from which paths are counted.
    """
    found = _by_path(error, root)
    # the alternatives of a union that all refuse one value share a line
    lines = []
    for path, mistakes in found.items():
        texts = [_explain(mistake, path, known, kinds, root) for mistake, known, kinds in mistakes]
        lines += [texts[0] + "".join(f", or{rule.group(1)}" for rule in map(_RULE.search, texts[1:]) if rule)]
    more = len(lines) - 1 + max(0, error.error_count() - MOST_EXPLAINED)
    if len(lines) < 3 and more == len(lines) - 1:
        return "\n".join(lines)
    others = ", ".join(f"'{short(path)}'" for path in list(found)[1:4])
    return f"{lines[0]}\nand {counted(more, 'more mistake')}{f', first in {others}' if others else ''}"


def first_mistake(error: ValidationError, root: Any) -> tuple[str, object]:
    """The dotted path of the setting that `explain` names first, and what was given for it.

    Where a spec refuses settings for the sake of one another, its error says which of them is meant.
    """
    path, mistakes = next(iter(_by_path(error, root).items()))
    mistake = mistakes[0][0]
    why = mistake.get("ctx", {}).get("error")
    if isinstance(why, VaekitError) and why.field:
        return f"{path}.{why.field}".removeprefix("."), why.value
    return path, mistake["input"]


def _by_path(error: ValidationError, root: Any) -> dict[str, list[tuple[Any, Mapping[str, Any], dict[str, str]]]]:
    """The mistakes at each dotted path, without those whose reason is a mistake further down.

    Each comes with what `_locate` knows of its place.
    """
    by_path: dict[str, list[tuple[Any, Mapping[str, Any], dict[str, str]]]] = {}
    for mistake in error.errors(include_url=False)[:MOST_EXPLAINED]:
        path, known, kinds = _locate(_named(mistake["loc"], root), root)
        by_path.setdefault(path, []).append((mistake, known, kinds))
    return {
        path: mistakes
        for path, mistakes in by_path.items()
        if not any(other.startswith(f"{path}.") for other in by_path)
    }


def short(text: str, most: int = 60) -> str:
    """A text from the user, cut to one short line."""
    plain = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[: most + 1])
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def show(value: object) -> str:
    """A value from the user as text, cut to one short line."""
    return short(repr(value[:100] if isinstance(value, str) else value))


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at a known name that is like this one; empty where there is none."""
    near = difflib.get_close_matches(name[:100], list(known), 1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def settings_of(member: Any) -> Mapping[str, Any]:
    """Names and types of the settings of a spec or a tree; none for a plain type."""
    if isinstance(member, type) and (issubclass(member, BaseModel) or is_dataclass(member)):
        return _settings(member)
    return {}


@functools.cache
def _settings(member: Any) -> Mapping[str, Any]:
    if issubclass(member, BaseModel):
        return {name: info.rebuild_annotation() for name, info in member.model_fields.items()}
    hints = typing.get_type_hints(member, include_extras=True)
    return {f.name: hints[f.name] for f in fields(member)}


def members_of(hint: Any) -> list[Any]:
    """The alternatives of a union, those from outside vaekit among them, or the one type itself."""
    if typing.get_origin(hint) is typing.Annotated:
        return [*members_of(typing.get_args(hint)[0]), *parts(hint)]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [m for arg in typing.get_args(hint) for m in members_of(arg) if m is not type(None)]
    return [hint]


def all_paths(root: Any) -> frozenset[str]:
    """The dotted paths of all settings of a tree or spec, whichever kinds are chosen."""
    return _all_paths(root, registered())


@functools.cache
def _all_paths(root: Any, registered: int) -> frozenset[str]:
    return frozenset(
        path
        for name, hint in settings_of(root).items()
        for path in (
            name,
            *(f"{name}.{inner}" for m in members_of(hint) if settings_of(m) for inner in _all_paths(m, registered)),
        )
    )


def where_is(path: str, root: Any) -> str:
    """A hint at the setting that was probably meant by a path from the top of a tree."""
    return _nearest_setting(path, settings_of(root), {}, root)


def _named(keys: Sequence[str | int], root: Any) -> list[str]:
    """The keys to a mistake, that of an argument given by its position as its name."""
    named, first = list(settings_of(root)), keys[0] if keys else ""
    given = [named[first]] if isinstance(first, int) and first < len(named) else [str(first)]
    return [*given, *(str(key) for key in keys[1:])]


def _explain(error: Any, path: str, known: Mapping[str, Any], kinds: Mapping[str, str], root: Any) -> str:
    kind, ctx, value, given = error["type"], error.get("ctx", {}), error["input"], show(error["input"])
    where = short(path, 200)
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown setting '{where}'{_nearest_setting(path, known, kinds, root)}"
    if kind == "unexpected_positional_argument":
        return f"{given} is one argument too many"
    if kind == "multiple_argument_values":
        return f"{where} is given twice"
    if kind == "union_tag_invalid":
        tag, tags = ctx["tag"], [tag.strip(" '") for tag in ctx["expected_tags"].split(",")]
        meant = next((f" (did you mean '{one}'?)" for one in tags if tag in _KINDS.get(one, ())), nearest(tag, tags))
        return f"{where}.kind is '{short(tag)}'{meant}; it must be one of {', '.join(tags)}"
    if kind in ("missing", "missing_argument"):
        return f"{where} is missing: set {where}=..."
    if kind == "value_error":
        return f"{where}: {ctx['error']}" if where else str(ctx["error"])
    grid = "; to try several values, start a run for each" if isinstance(value, list | tuple) else ""
    if kind in ("union_tag_not_found", "model_attributes_type"):
        return f"{where} is {given}: it should be settings with a kind, as in {where}.kind=...{grid}"
    if kind in ("dataclass_type", "model_type") and value is None:
        colon = ": a space follows the colon, as in {name: value}" if ":" in path else ": give one, or leave it out"
        return f"{where} has no value{colon}"
    if kind in ("dataclass_type", "model_type"):
        return f"{where} is {given}: it should be settings, as in {where}.name=value{grid}"
    if kind in ("too_short", "too_long"):
        bound = f"at least {ctx['min_length']}" if kind == "too_short" else f"at most {ctx['max_length']}"
        return f"{where} is {given}: it should have {bound} {'characters' if isinstance(value, str) else 'items'}"
    if kind in ("dict_type", "mapping_type"):
        return f"{where} is {given}: it should be values by name, as in {{name: value}}"
    if kind == "tuple_type":
        return f"{where} is {given}: it should be a list, as in [2, 3] or [a, b]"
    last = path.rpartition(".")[2]
    if kind == "string_pattern_mismatch" and last in _IN_WORDS:
        return f"{where} is {given}: it should be {_IN_WORDS[last]}"
    rule = _rule(error)
    if not rule.startswith("Input should be "):
        return f"{where} is {given}: {rule[0].lower()}{rule[1:]}"
    return f"{where} is {given}: it should be {rule.removeprefix('Input should be ')}{grid}"


def _rule(error: Any) -> str:
    return error["msg"].split(", unable to parse")[0]


def _locate(keys: Sequence[str], root: Any) -> tuple[str, Mapping[str, Any], dict[str, str]]:
    """The dotted path of an error without the names of union members.

    With it the settings known beside its end, with their types, and the kinds that have other settings there.
    """
    path: list[str] = []
    known: Mapping[str, Any] = {}
    kinds: dict[str, str] = {}
    current: list[Any] = [root]
    for key in keys:
        settings = {name: hint for member in current for name, hint in settings_of(member).items()}
        chosen = [m for m in current if key in (settings_of(m) and getattr(m, "kind", ""), getattr(m, "__name__", ""))]
        if chosen and len(current) > 1:
            kinds = {}
            for other in (member for member in current if member not in chosen and getattr(member, "kind", "")):
                for name in settings_of(other):
                    kinds[name] = f"{kinds[name]} or {other.kind}" if name in kinds else other.kind
            current = chosen
        elif len(current) > 1 and (tagged := [one for one in current if key.startswith(f"{_container(one)}[")]):
            current = tagged
        elif key in settings:
            path, known, kinds, current = [*path, key], settings, {}, members_of(settings[key])
        elif named := [one for member in current for one in _values_of(member)]:
            path, known, kinds, current = [*path, key], {}, {}, named
        elif all(settings_of(member) for member in current):
            path, known, current = [*path, key], settings, []
    return ".".join(path), {name: known[name] for name in known if name != "kind" or len(known) > 1}, kinds


def _values_of(member: Any) -> list[Any]:
    """What the values of a mapping may be; nothing of other types."""
    mapping = _container(member) in ("dict", "Mapping")
    return members_of(typing.get_args(member)[1]) if mapping else []


def _container(member: Any) -> str:
    """The name of a type that holds others, such as dict of dict[str, int]; empty of another."""
    return getattr(typing.get_origin(member), "__name__", "")


def _nearest_setting(path: str, known: Mapping[str, Any], kinds: Mapping[str, str], root: Any) -> str:
    """Where the setting stands that was probably meant.

    Under the name that it has here, beside it under a like name, below, with another kind, or elsewhere in the tree.
    """
    parent, _, last = path.rpartition(".")
    last = last[:100].replace("-", "_")
    before = f"{parent}." if parent else ""
    meant, found, value = _MEANT.get(last.lower(), "").partition("=")
    stands = _path_to(meant, parent, known, root) if meant else ""
    if last in kinds:
        here = f"did you mean '{stands}'? " if stands.rpartition(".")[2] in known else ""
        return f": {here}{last} is a setting of {before}kind={kinds[last]}"
    if stands:
        return f": did you mean '{stands}{found}{value}'?"
    if near := difflib.get_close_matches(last, known, 1):
        return f": did you mean '{before}{near[0]}'?"
    if inside := _path_to(last, parent, known, root):
        return f": did you mean '{inside}'?"
    return f": known here are {', '.join(known)}" if known else ""


def _path_to(name: str, parent: str, known: Mapping[str, Any], root: Any) -> str:
    """The path of a setting by the end of it: beside or below `parent`, or else anywhere; the shortest."""
    last = name.rpartition(".")[2]
    if last in known:
        return f"{parent}.{last}" if parent else last
    below = {
        f"{first}.{path}"
        for first, hint in known.items()
        for m in members_of(hint)
        if settings_of(m)
        for path in all_paths(m)
    }
    for paths, before in ((below, f"{parent}." if parent else ""), (all_paths(root), "")):
        if ends := sorted((p for p in paths if f".{p}".endswith(f".{name}")), key=lambda p: (p.count("."), p)):
            return before + ends[0]
    return ""
