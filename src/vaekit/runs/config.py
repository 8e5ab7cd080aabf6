"""From YAML, presets and `path=value` to a Run."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from vaekit.data.spec import NO_LABEL
from vaekit.errors import ConfigError
from vaekit.files import read_regular
from vaekit.runs.plain_yaml import MOST_BYTES, MOST_DEPTH, Dumper, parse_plain
from vaekit.runs.tree import Run
from vaekit.setting_errors import (
    all_paths,
    explain,
    first_mistake,
    members_of,
    nearest,
    settings_of,
    short,
    show,
    where_is,
)
from vaekit.training.run_files import FORMAT_VERSION, NewerFormat, check_format

Tree = dict[str, Any]
_DROPPED: Any = object()


def preset_files() -> dict[str, Path]:
    """The files of the bundled presets, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parents[1] / "presets").glob("*.yaml"))}


def presets() -> dict[str, Tree]:
    """The bundled presets by name, as plain trees."""
    return {name: parse_yaml(path.read_text("utf-8"), name) for name, path in preset_files().items()}


def preset(name: str) -> Run:
    """The settings of a preset; their `data` names what the preset is for."""
    return make_run(preset_tree(name))


def preset_tree(name: str) -> Tree:
    """One preset as a plain tree."""
    known = preset_files()
    if name not in known:
        raise ConfigError(
            f"there is no preset '{short(name)}'{nearest(name, known)}; known: {', '.join(known)}",
            field="preset",
            value=name,
        )
    return {"name": name, **parse_yaml(known[name].read_text("utf-8"), name)}


def read_yaml(path: str | Path) -> Tree:
    """A tree from a YAML file."""
    try:
        return parse_yaml(read_regular(path, MOST_BYTES, follow=True).decode("utf-8-sig"), str(path))
    except UnicodeDecodeError:
        reason = "it is not text in UTF-8"
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError:
        reason = "no file has such a name"
    raise ConfigError(f"cannot read the config {show(str(path))}: {reason}", field="config", value=str(path))


def parse_yaml(text: str, name: str) -> Tree:
    """A tree from the text of a YAML file; `name` is for errors."""
    try:
        tree = parse_plain(text)
    except ValueError as error:
        raise ConfigError(
            f"{name} is not YAML that settings can be read from: {error}", field="config", value=name
        ) from None
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{name} holds {type(tree).__name__}, not settings: write `key: value` lines", field="config", value=name
        )
    try:
        check_format(tree.pop("format_version", FORMAT_VERSION), name)
    except NewerFormat as error:
        raise ConfigError(str(error), field="config", value=name) from None
    return tree


def override(tree: Tree | Run, assignments: Iterable[str]) -> Tree:
    """The tree, or the settings of a run, with each `path=value` set; values are read as YAML.

    A path may be its end alone, as in `latent=8` for `model.latent=8`, where only one setting of the tree ends so.
    Choosing another `kind` (or naming one, as in `model.encoder=conv`) drops the settings of the one before.
    """
    tree = to_tree(tree) if isinstance(tree, Run) else _copy(tree)
    for assignment in assignments:
        _assign(tree, assignment)
    return tree


def override_in_order(tree: Tree | Run, assignments: Sequence[str]) -> Tree:
    """As `override`; refuses an assignment that a later one drops by choosing another kind, as ConfigError."""
    found = to_tree(tree) if isinstance(tree, Run) else _copy(tree)
    paths = [_assign(found, assignment) for assignment in assignments]
    for place, keys in enumerate(paths):
        node: Any = found
        for key in keys:
            node = node.get(key, _DROPPED) if isinstance(node, dict) else _DROPPED
        if node is _DROPPED:
            earlier, above = assignments[place], ".".join(keys)
            later = next(
                later
                for later, path in zip(assignments[place:], paths[place:], strict=True)
                if above.startswith(f"{'.'.join(path).removesuffix('.kind')}.")
            )
            raise ConfigError(
                f"'{short(later)}' comes after '{short(earlier)}' and drops it: write '{short(later)}' first",
                field=above,
            )
    return found


def _assign(tree: Tree, assignment: str) -> list[str]:
    """Set one `path=value` in the tree; the keys of its whole path."""
    path, found, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not found or not all(keys):
        raise ConfigError(
            f"'{short(assignment)}' is not a setting: write path=value, as in train.epochs=20", field=path
        )
    if len(keys) > MOST_DEPTH:
        raise ConfigError(f"'{short(assignment)}' is not a setting: its path has {len(keys):,} parts", field=path)
    try:
        value = parse_plain(text)
    except ValueError as error:
        raise ConfigError(
            f"the value in '{short(assignment)}' is not YAML that a setting can be: {error}", field=path, value=text
        ) from None
    keys = _whole_path(tree, keys)
    node = tree
    for place, key in enumerate(keys[:-1], 1):
        if isinstance(items := node.get(key), list):
            above, whole = (
                ".".join(keys[:place]),
                yaml.safe_dump(items, default_flow_style=True, sort_keys=False, width=10_000).strip(),
            )
            raise ConfigError(
                f"'{short(assignment)}': {above} is a list, so write it whole, as in {above}='{whole}'", field=above
            )
        if not isinstance(node.get(key), dict):
            node[key] = {"kind": node[key]} if isinstance(node.get(key), str) else {}
        node = node[key]
    if keys[-1] == "kind" and node.get("kind", _default_kind(keys[:-1])) not in (None, value):
        node.clear()
    # said in words, nothing is no label at all; a label that is not set at all is looked for
    node[keys[-1]] = NO_LABEL if keys == ["data", "label"] and value in (None, "") else value
    return keys


def _whole_path(tree: Tree, keys: list[str]) -> list[str]:
    """The keys of a setting from the top of the tree, given as they are or by the end of them alone."""
    if keys[0] in settings_of(Run):
        return keys
    end = "." + ".".join(keys)
    ending = [path for path in _paths(tree, [Run], Run()) if path.endswith(end)]
    if len(ending) > 1:
        raise ConfigError(
            f"'{end[1:]}' may be {', '.join(ending[:-1])} or {ending[-1]}: write it in full", field=end[1:]
        )
    return ending[0].split(".") if ending else keys


def check_known(path: str, word: str, others: Iterable[str]) -> None:
    """Refuse a word that is meant as a setting, and of which no setting's path is or ends so.

    others: words that may have been meant as well.
    """
    known = path.partition(".")[0] in settings_of(Run)  # what is below will be explained by the whole tree
    if not known and not any(f".{whole}".endswith(f".{path}") for whole in all_paths(Run)):
        close = difflib.get_close_matches(word[:100], list(others), 1, 0.75)
        hint = f": did you mean '{close[0]}'?" if close else where_is(path, Run)
        raise ConfigError(f"there is no option or setting {short(word)}{hint}", field=path)


def _paths(tree: Any, members: Sequence[Any], default: Any, above: str = "") -> Iterator[str]:
    """The paths of all settings of a tree, those that it leaves at their defaults among them."""
    chosen = _chosen(tree, members, default)
    default = default if chosen is not None and isinstance(default, chosen) else chosen
    for name, hint in settings_of(chosen).items():
        value = tree.get(name) if isinstance(tree, Mapping) else None
        yield above + name
        yield from _paths(value, members_of(hint), _default_of(default, name), f"{above}{name}.")


def _default_kind(keys: Sequence[str]) -> str | None:
    """The kind that settings at a path are of where none is given."""
    node: Any = Run()
    for key in keys:
        node = _default_of(node, key)
    return getattr(node, "kind", None)


def _default_of(spec: Any, name: str) -> Any:
    """The default of a setting; where it is open, the one whose settings may be given without a kind."""
    found = getattr(spec, name, None)
    return getattr(spec, "assumed", {}).get(name) if found is None else found


def with_source(tree: Tree, source: str) -> Tree:
    """The tree with DATA of the command line as its `data.source`."""
    data = tree.get("data")
    return {**tree, "data": {**(data if isinstance(data, dict) else {}), "source": source}}


def make_run(tree: Mapping[str, Any] | Run) -> Run:
    """A Run from a plain tree; what is wrong with it is one error."""
    if isinstance(tree, Run):
        return tree
    try:
        return Run.model_validate(_with_default_kinds(tree, [Run], Run()))
    except ValidationError as error:
        field, value = first_mistake(error, Run)
        raise ConfigError(explain(error, Run), field=field, value=value) from None


def to_tree(run: Run) -> Tree:
    """Every setting of the run but its folder, as a plain tree."""
    return run.model_dump(mode="json", exclude={"run_dir"})


def to_yaml(run: Run) -> str:
    """Every setting of the run, defaults written out."""
    tree = {"format_version": FORMAT_VERSION, **to_tree(run)}
    return yaml.dump(tree, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)


def _with_default_kinds(tree: Any, members: Sequence[Any], default: Any) -> Any:
    """Settings given without their `kind` are of the default's kind, among the members of a union."""
    chosen = _chosen(tree, members, default) if isinstance(tree, Mapping) else None
    if chosen is None:
        return tree
    kind = tree.get("kind", getattr(default, "kind", None))
    settings, default = settings_of(chosen), default if isinstance(default, chosen) else chosen
    given = {**tree, "kind": kind} if "kind" in settings and kind is not None else tree
    return {
        key: _with_default_kinds(value, members_of(settings[key]), _default_of(default, key))
        if key in settings
        else value
        for key, value in given.items()
    }


def _chosen(value: Any, members: Sequence[Any], default: Any) -> Any:
    """The spec among the members of a union that a value chooses by its `kind`, or by its name alone.

    That of the default, where it chooses none; None where a plain value is meant.
    """
    kind = value.get("kind") if isinstance(value, Mapping) else value if isinstance(value, str) else None
    kind = getattr(default, "kind", None) if kind is None else kind
    specs = [m for m in members if settings_of(m)]
    if len(members) == 1 and specs:
        return specs[0]
    return next((m for m in specs if kind is not None and getattr(m, "kind", None) == kind), None)


def _copy(tree: Mapping[str, Any]) -> Tree:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in tree.items()}
