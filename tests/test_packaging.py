"""What is distributed: an sdist from which the tests can be run. `.ci/run` builds it and collects them there."""

import fnmatch
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_sdist_has_all_that_a_checkout_has():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = {name.strip("/") for name in settings["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]}
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()] if _is_checkout() else []
    here = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    here = {name for name in here if not any(fnmatch.fnmatch(name, pattern) for pattern in ignored)}
    assert here - {"pyproject.toml", "PKG-INFO"} == included


def _is_checkout() -> bool:
    return (ROOT / ".git").exists()
