"""The arguments of `vaekit train`, and of `vaekit.runs.run` in Python, as a Run: equal arguments, equal runs."""

import os
import re
from pathlib import Path

from vaekit.data import names
from vaekit.errors import ConfigError
from vaekit.runs.config import (
    Tree,
    check_known,
    make_run,
    override_in_order,
    preset_files,
    preset_tree,
    read_yaml,
    to_tree,
    with_source,
)
from vaekit.runs.trained_run import read_run
from vaekit.runs.tree import Run
from vaekit.setting_errors import short
from vaekit.training import RunFolder

OPTIONS = tuple(
    f"--{name}" for name in ("preset", "config", "run-dir", "resume", "extend", "from", "strict", "json", "help")
)
_SETTING = re.compile(r"^[A-Za-z_]\w*(\.\w+)*=")
_DASHED = re.compile(r"^--([A-Za-z_][\w-]*(\.[\w-]+)*)(=.*)?$", re.DOTALL)


def run(
    *words: str,
    preset: str | None = None,
    config: str | Path | None = None,
    initialise_from: str | Path | None = None,
    run_dir: str | Path | None = None,
) -> Run:
    """The run that `vaekit train` with these words would train.

    Data that has a preset of its own name is trained with it, unless another starting point is given. (`Run(...)`, on
    the other hand, has exactly the settings that it is given, and the defaults of all others.)

    Args:
        words: DATA, a name or a path, and settings as path=value, or by the end of a path where only one ends so.
        preset: Start from these settings (see `vaekit.runs.presets`).
        config: Start from the settings in this YAML file.
        initialise_from: Start from the settings of the run in this folder, and from its weights.
        run_dir: Folder to write to; none writes nothing.

    Raises:
        ConfigError: A word is wrong, or the words do not go together.

    Example:
        >>> run("digits", "epochs=5").model.latent
        16
    """
    data, settings = split_words(words)
    tree = _start(data, preset, config, initialise_from)
    found = make_run(override_in_order(tree if data is None else with_source(tree, _place(data)), settings))
    return found if run_dir is None else found.model_copy(update={"run_dir": str(run_dir)})


def split_words(words: tuple[str, ...] | list[str]) -> tuple[str | None, list[str]]:
    """DATA and the settings among some words: path=value, --path=value or --path value."""
    data, settings, left = [], [], iter(words)
    for word in left:
        if dashed := _DASHED.match(word):
            name, value = dashed[1].replace("-", "_"), dashed[3] or next(left, None)
            check_known(name, f"--{dashed[1]}", OPTIONS)
            if value is None or _DASHED.match(value):
                raise ConfigError(f"--{dashed[1]} has no value: write --{dashed[1]} VALUE, or {name}=VALUE", field=name)
            settings += [f"{name}{value}" if dashed[3] else f"{name}={value}"]
        elif _SETTING.match(word) and not os.path.exists(word):
            settings += [word]
        elif word.startswith("-") and not os.path.exists(word):
            raise ConfigError(
                f"there is no option {short(word)}; settings are written path=value or --path value", field=word
            )
        else:
            data += [word]
    if len(data) > 1:
        shown = ", ".join(short(word) for word in data[:4])
        raise ConfigError(
            f"one DATA at a time, not {len(data)}: {shown}; settings are written path=value", field="data", value=data
        )
    return (data[0] if data else None), settings


def _start(data: str | None, named: str | None, config: str | Path | None, initialise_from: str | Path | None) -> Tree:
    """The settings to start from, before those among the words."""
    if named and config:
        raise ConfigError(
            "--preset and --config are two starting points: give one, and change settings by path=value",
            field="preset",
            value=named,
        )
    begun: Tree = {} if initialise_from is None else {"initialise_from": os.path.abspath(initialise_from)}
    if named:
        return {**preset_tree(named), **begun}
    if config:
        return {"name": _name_of(config), **read_yaml(config), **begun}
    if initialise_from is not None:
        return {**to_tree(read_run(RunFolder(initialise_from))[0]), "provenance": [], **begun}
    if data is not None and data in preset_files():
        return preset_tree(data)
    return {} if data is None else {"name": _name_of(data)}


def _place(data: str) -> str:
    """DATA as settings keep it: a name, or a path that holds wherever they are read."""
    if data in preset_files() and data not in names() and not os.path.exists(data):
        raise ConfigError(
            f"{data} is a preset, not data: write --preset {data}, after DATA if it is for other data",
            field="data",
            value=data,
        )
    return os.path.realpath(data) if os.path.exists(data) and data not in names() else data


def _name_of(path: str | Path) -> str:
    """A run's name by the file that it begins with."""
    return Path(os.path.abspath(path)).stem.strip(".")[:100] or "run"
