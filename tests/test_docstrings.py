"""The examples in docstrings run, and print what they say."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

PACKAGES = tuple(
    f"vaekit.{name}" for name in ("models", "objectives", "evaluation", "training", "runs", "uses", "sklearn")
)
SOURCE = Path(__file__).parents[1] / "src" / "vaekit"
MATHEMATICS = ("ln", "log", "exp")
NAMESPACE = "\n".join(["import torch", "from torch import nn", *(f"from {package} import *" for package in PACKAGES)])


def _examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = [
        module.name
        for package in PACKAGES
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
    ]
    found = [test for name in names for test in finder.find(importlib.import_module(name), name)]
    return [test for test in found if test.examples]


@pytest.mark.parametrize("example", _examples(), ids=lambda example: example.name)
def test_example_in_docstring(example: doctest.DocTest) -> None:
    exec(NAMESPACE, example.globs)
    failures, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert failures == 0


def _modules() -> list[ModuleType]:
    return [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(importlib.import_module("vaekit").__path__, "vaekit.")
        if not module.name.endswith("__main__")
    ]


def _without_docstring(cls: type, of_protocols: set[str]) -> Iterator[str]:
    """Public methods and properties without a docstring that neither a base class nor a protocol documents."""
    for name, member in vars(cls).items():
        if name.startswith("_") or any(name in vars(base) for base in cls.__mro__[1:]):
            continue
        if name in of_protocols and not getattr(cls, "_is_protocol", False):
            continue
        found = member.fget if isinstance(member, property) else getattr(member, "func", member)
        found = getattr(found, "__func__", found)
        if inspect.isfunction(found) and found.__qualname__ == f"{cls.__qualname__}.{name}" and not found.__doc__:
            yield f"{cls.__module__}.{cls.__name__}.{name}"


def test_every_public_method_that_no_base_class_documents_has_a_docstring() -> None:
    """Ruff checks the form of docstrings, but cannot know which methods override one that has its docstring."""
    classes = {
        member
        for module in _modules()
        for name, member in vars(module).items()
        if inspect.isclass(member) and member.__module__ == module.__name__ and not name.startswith("_")
    }
    protocols = [cls for cls in classes if getattr(cls, "_is_protocol", False)]
    of_protocols = {name for cls in protocols for name in vars(cls)}
    missing = sorted(line for cls in classes for line in _without_docstring(cls, of_protocols))
    assert not missing, "\n".join(missing)


def _uncapitalised(docstring: str) -> Iterator[str]:
    """Lines of Args, Attributes and Raises whose description begins with an ordinary word in lower case."""
    described = False
    for line in inspect.cleandoc(docstring).splitlines():
        if line and not line.startswith(" "):
            described = line in ("Args:", "Attributes:", "Raises:")
        entry = re.match(r" {4}\*{0,2}[\w.]+: (a|[a-z]{2,})(?=[ ,;:.]|$)(?! ?\()", line)
        if described and entry and entry[1] not in MATHEMATICS:
            yield line.strip()


def test_descriptions_of_arguments_begin_with_a_capital_letter() -> None:
    of_example = "A test.\n\nArgs:\n    x: of it.\n    y: x of it.\n    z: Right.\n    u: ln p.\n    v: codes (n, d)."
    assert list(_uncapitalised(of_example)) == ["x: of it."]
    found = [
        f"{path.relative_to(SOURCE)}: {line}"
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        for line in _uncapitalised(ast.get_docstring(node) or "")
    ]
    assert not found, "\n".join(found)
