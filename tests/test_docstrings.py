"""The examples in docstrings run, and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

ROOMS = ("vaekit.models", "vaekit.objectives", "vaekit.evaluation", "vaekit.training", "vaekit.runs")
NAMESPACE = "\n".join(["import torch", "from torch import nn", *(f"from {room} import *" for room in ROOMS)])


def _examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = [
        f"{room}.{module.name}"
        for room in ROOMS
        for module in pkgutil.iter_modules(importlib.import_module(room).__path__)
    ]
    found = [test for name in names for test in finder.find(importlib.import_module(name), name)]
    return [test for test in found if test.examples]


@pytest.mark.parametrize("example", _examples(), ids=lambda example: example.name)
def test_example_in_docstring(example: doctest.DocTest) -> None:
    exec(NAMESPACE, example.globs)
    failures, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert failures == 0
