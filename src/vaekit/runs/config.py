"""From YAML, presets and `path=value` to a Run, and from a mistake to one helpful line."""

import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from vaekit.errors import ConfigError
from vaekit.runs.tree import Run

Tree = dict[str, Any]
_RULE = re.compile("it (?:should|must) be(.*)")
_DROPPED: Any = object()
_IN_WORDS = {
    "name": "a folder's name, without slashes",
    "train.device": "one of auto, cpu, mps, cuda and cuda:0, cuda:1",
}


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping that gives a key twice, of which YAML would silently drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key '{twice}' stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def presets() -> dict[str, Tree]:
    """The bundled presets by name, as plain trees."""
    folder = files("vaekit") / "presets"
    found = {f.name.removesuffix(".yaml"): f for f in folder.iterdir() if f.name.endswith(".yaml")}
    return {name: yaml.safe_load(found[name].read_text()) for name in sorted(found)}


def preset(name: str) -> Tree:
    """One preset as a plain tree."""
    known = presets()
    if name not in known:
        raise ConfigError(f"there is no preset '{name}'{_nearest(name, known)}; known: {', '.join(known)}")
    return {"name": name, **known[name]}


def read_yaml(path: str | Path) -> Tree:
    """A tree from a YAML file."""
    try:
        return parse_yaml(Path(path).read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the config {path}: {getattr(error, 'strerror', 'it is not text')}") from None


def parse_yaml(text: str, name: str) -> Tree:
    """A tree from the text of a YAML file; `name` is for errors."""
    try:
        tree = yaml.load(text, _UniqueKeys)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{name} holds {type(tree).__name__}, not settings: write `key: value` lines")
    tree.pop("format_version", None)
    return tree


def override(tree: Tree, assignments: Iterable[str]) -> Tree:
    """The tree with each `path=value` set; values are read as YAML.

    Choosing another `kind` (or naming one, as in `model.encoder=conv`) drops the settings of the one before.
    """
    tree = _copy(tree)
    for assignment in assignments:
        path, found, text = assignment.partition("=")
        keys = path.strip().split(".")
        if not found or not all(keys):
            raise ConfigError(f"'{assignment}' is not a setting: write path=value, as in train.epochs=20")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"the value in '{assignment}' is not YAML: quote it") from None
        node = tree
        for place, key in enumerate(keys[:-1], 1):
            if isinstance(items := node.get(key), list):
                above, whole = (
                    ".".join(keys[:place]),
                    yaml.safe_dump(items, default_flow_style=True, sort_keys=False, width=10_000).strip(),
                )
                raise ConfigError(f"'{assignment}': {above} is a list, so write it whole, as in {above}='{whole}'")
            if not isinstance(node.get(key), dict):
                node[key] = {"kind": node[key]} if isinstance(node.get(key), str) else {}
            node = node[key]
        if keys[-1] == "kind" and node.get("kind", _default_kind(keys[:-1])) not in (None, value):
            node.clear()
        node[keys[-1]] = value
    return tree


def override_in_order(tree: Tree, assignments: Sequence[str]) -> Tree:
    """As `override`; refuses an assignment that a later one drops by choosing another kind, as ConfigError."""
    found = override(tree, assignments)
    for place, earlier in enumerate(assignments):
        path, node = earlier.partition("=")[0].strip(), found
        for key in path.split("."):
            node = node.get(key, _DROPPED) if isinstance(node, dict) else _DROPPED
        if node is _DROPPED:
            chosen = [(later.partition("=")[0].strip().removesuffix(".kind"), later) for later in assignments[place:]]
            later = next(later for above, later in chosen if path.startswith(f"{above}."))
            raise ConfigError(f"'{later}' comes after '{earlier}' and drops it: write '{later}' first")
    return found


def _default_kind(keys: Sequence[str]) -> str | None:
    """The kind that settings at a path are of where none is given."""
    node: Any = Run().model_dump()
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node.get("kind") if isinstance(node, Mapping) else None


def with_source(tree: Tree, source: str) -> Tree:
    """The tree with DATA of the command line as its `data.source`."""
    data = tree.get("data")
    return {**tree, "data": {**(data if isinstance(data, dict) else {}), "source": source}}


def make_run(tree: Mapping[str, Any]) -> Run:
    """A Run from a plain tree; every mistake in it is named in one error."""
    try:
        return Run.model_validate(_with_default_kinds(tree, [Run], Run()))
    except ValidationError as error:
        raise ConfigError("\n".join(_explanations(error.errors(include_url=False)))) from None


def to_yaml(run: Run) -> str:
    """Every setting of the run, defaults written out."""
    tree = {"format_version": 1, **run.model_dump(mode="json", exclude={"run_dir"})}
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=120)


def _with_default_kinds(tree: Any, members: Sequence[Any], default: Any) -> Any:
    """Settings given without their `kind` are of the default's kind, among the members of a union."""
    if not isinstance(tree, Mapping):
        return tree
    kind = tree.get("kind", getattr(default, "kind", None))
    chosen = [m for m in members if len(members) == 1 or (kind is not None and getattr(m, "kind", None) == kind)]
    if not chosen or not isinstance(chosen[0], type):
        return tree
    settings, default = _settings(chosen[0]), default if isinstance(default, chosen[0]) else chosen[0]
    given = {**tree, "kind": kind} if "kind" in settings and kind is not None else tree
    return {
        key: _with_default_kinds(value, _members(settings[key]), getattr(default, key, None))
        if key in settings
        else value
        for key, value in given.items()
    }


def _explanations(errors: Sequence[Any]) -> list[str]:
    """One line for each mistake; the alternatives of a union that all refuse one value share theirs."""
    by_path: dict[str, list[str]] = {}
    for error in errors:
        path, known, kinds = _locate([str(key) for key in error["loc"]])
        by_path.setdefault(path, []).append(_explain(error, path, known, kinds))
    deepest = {p: lines for p, lines in by_path.items() if not any(q.startswith(f"{p}.") for q in by_path)}
    return [
        lines[0] + "".join(f", or{rule.group(1)}" for rule in map(_RULE.search, lines[1:]) if rule)
        for lines in deepest.values()
    ]


def _explain(error: Any, path: str, known: Tree, kinds: Mapping[str, str]) -> str:
    kind, ctx, given = error["type"], error.get("ctx", {}), _show(error["input"])
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown setting '{path}'{_nearest_setting(path, known, kinds)}"
    if kind == "union_tag_invalid":
        tags = [tag.strip(" '") for tag in ctx["expected_tags"].split(",")]
        return f"{path}.kind is '{ctx['tag']}'{_nearest(str(ctx['tag']), tags)}; it must be one of {', '.join(tags)}"
    if kind in ("missing", "missing_argument"):
        return f"{path} is missing: set {path}=..."
    if kind in ("union_tag_not_found", "model_attributes_type"):
        return f"{path} is {given}: it should be settings with a kind, as in {path}.kind=..."
    if kind == "dataclass_type":
        return f"{path} is {given}: it should be settings, as in {path}.name=value"
    if kind == "value_error":
        return f"{path}: {ctx['error']}"
    if kind in ("too_short", "too_long"):
        bound = f"at least {ctx['min_length']}" if kind == "too_short" else f"at most {ctx['max_length']}"
        return f"{path} is {given}: it should have {bound} items"
    if kind == "tuple_type":
        return f"{path} is {given}: it should be a list, as in [2, 3] or [a, b]"
    if kind == "string_pattern_mismatch" and path in _IN_WORDS:
        return f"{path} is {given}: it should be {_IN_WORDS[path]}"
    rule = error["msg"].split(", unable to parse")[0]
    if not rule.startswith("Input should be "):
        return f"{path} is {given}: {rule[0].lower()}{rule[1:]}"
    return f"{path} is {given}: it should be {rule.removeprefix('Input should be ')}"


def _locate(keys: list[str]) -> tuple[str, Tree, dict[str, str]]:
    """The dotted path of an error without the names of union members, the settings known beside its end, with their
    types, and the kinds that have other settings there."""
    path: list[str] = []
    known: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    current: list[Any] = [Run]
    for key in keys:
        settings = {name: hint for member in current for name, hint in _settings(member).items()}
        chosen = [m for m in current if key in (_settings(m) and getattr(m, "kind", ""), getattr(m, "__name__", ""))]
        if chosen and len(current) > 1:
            kinds = {}
            for other in (member for member in current if member not in chosen and getattr(member, "kind", "")):
                for name in _settings(other):
                    kinds[name] = f"{kinds[name]} or {other.kind}" if name in kinds else other.kind
            current = chosen
        elif key in settings:
            path, known, kinds, current = [*path, key], settings, {}, _members(settings[key])
        elif all(_settings(member) for member in current):
            path, known, current = [*path, key], settings, []
    return ".".join(path), {name: known[name] for name in known if name != "kind" or len(known) > 1}, kinds


def _settings(member: Any) -> dict[str, Any]:
    """Names and types of the settings of a spec or a tree; none for a plain type."""
    if isinstance(member, type) and issubclass(member, BaseModel):
        return {name: info.annotation for name, info in member.model_fields.items()}
    if isinstance(member, type) and is_dataclass(member):
        hints = typing.get_type_hints(member)
        return {f.name: hints[f.name] for f in fields(member)}
    return {}


def _members(hint: Any) -> list[Any]:
    """The alternatives of a union, or the one type itself."""
    if typing.get_origin(hint) is typing.Annotated:
        return _members(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [m for arg in typing.get_args(hint) for m in _members(arg) if m is not type(None)]
    return [hint]


def _all_settings(member: Any = Run, prefix: str = "") -> set[str]:
    paths: set[str] = set()
    for name, hint in _settings(member).items():
        paths |= {prefix + name}
        for deeper in _members(hint):
            paths |= _all_settings(deeper, f"{prefix}{name}.")
    return paths


def _nearest_setting(path: str, known: Tree, kinds: Mapping[str, str]) -> str:
    """Where the setting stands that was probably meant: beside it under a like name, below, with another kind, or
    elsewhere in the tree."""
    parent, _, last = path.rpartition(".")
    before = f"{parent}." if parent else ""
    if near := difflib.get_close_matches(last, known, 1):
        return f": did you mean '{before}{near[0]}'?"
    below = {p for name, hint in known.items() for m in _members(hint) for p in _all_settings(m, f"{before}{name}.")}
    if inside := sorted((p for p in below if p.rpartition(".")[2] == last), key=lambda p: (p.count("."), p)):
        return f": did you mean '{inside[0]}'?"
    if last in kinds:
        return f": it is a setting of {before}kind={kinds[last]}"
    elsewhere = sorted(p for p in _all_settings() if p.rpartition(".")[2] == last and p != path)
    if elsewhere:
        return f": did you mean '{elsewhere[0]}'?"
    return f": known here are {', '.join(known)}" if known else ""


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _copy(tree: Mapping[str, Any]) -> Tree:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in tree.items()}
