"""What is distributed, and which names it has: an sdist from which the tests can be run; `.ci/run` builds it."""

import fnmatch
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import vaekit
from vaekit.public_names import NAMESPACES as searched
from vaekit.public_names import homes

ROOT = Path(__file__).parent.parent
NAMES = """
    VAE HierarchicalVAE Draw Latent Conditional Gaussian Bernoulli Categorical ContinuousBernoulli Columns Mlp Conv
    ResNet StandardNormal Elbo Iwae Run train fit load open_run evaluate Estimate register
"""
NAMESPACES = """
    likelihoods posteriors priors networks objectives gradients evaluation samplers data training runs errors
    testing uses sklearn
"""


def test_the_sdist_has_all_that_a_checkout_has():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = {name.strip("/") for name in settings["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]}
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()] if _is_checkout() else []
    here = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    here = {name for name in here if not any(fnmatch.fnmatch(name, pattern) for pattern in ignored)}
    assert here - {"pyproject.toml", "PKG-INFO"} == included


def _is_checkout() -> bool:
    return (ROOT / ".git").exists()


def test_the_top_level_has_the_public_names_and_namespaces():
    assert set(dir(vaekit)) == {*NAMES.split(), *NAMESPACES.split()}


@pytest.mark.parametrize("name", NAMESPACES.split())
def test_a_namespace_is_a_module_of_which_every_name_loads(name):
    module = importlib.import_module(f"vaekit.{name}")
    assert getattr(vaekit, name) is module
    assert all(hasattr(module, public) for public in module.__all__)


@pytest.mark.parametrize("name", sorted({*NAMESPACES.split()} - {"data"}))
def test_a_namespace_shows_its_public_names_alone(name):
    module = importlib.import_module(f"vaekit.{name}")
    assert dir(module) == sorted(module.__all__)


def test_importing_vaekit_loads_no_library():
    libraries = {"torch", "numpy", "pydantic", "matplotlib", "sklearn"}
    check = f"import sys, vaekit; print(sorted({libraries} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("Train", "vaekit.training.Train"),
        ("Mixture", "vaekit.priors.Mixture"),
        ("Mmd", "objectives"),
        ("kid", "vaekit.evaluation.kid"),
    ],
)
def test_a_name_that_lives_in_a_namespace_is_found(name, home):
    with pytest.raises(AttributeError, match=f"has no attribute '{name}': it is .*{home}"):
        getattr(vaekit, name)


def test_a_name_that_lives_nowhere_has_no_attribute_and_no_hint():
    with pytest.raises(AttributeError, match=r"has no attribute 'Nothing'$"):
        _ = vaekit.Nothing
    assert not hasattr(vaekit, "__wrapped__")


def test_every_namespace_is_searched_for_a_name():
    assert set(searched) == set(NAMESPACES.split())


@pytest.mark.parametrize("namespace", sorted(NAMESPACES.split()))
def test_every_public_name_of_a_namespace_is_found_there(namespace):
    module = importlib.import_module(f"vaekit.{namespace}")
    assert [name for name in module.__all__ if namespace not in homes(name)] == []
