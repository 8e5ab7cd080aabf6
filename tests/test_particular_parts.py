"""No code asks which particular part it has: what it needs to know, the part declares."""

import ast
import importlib
import typing
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any

import pytest
from torch.distributions import Distribution

import vaekit
from unions import members
from vaekit.data.schema import FieldKind
from vaekit.models import Likelihood, Network, Posterior, Prior
from vaekit.objectives import Gradient, Objective, Regulariser
from vaekit.samplers import Sampler

ROOT = Path(vaekit.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
UNIONS = (Prior, Posterior, Likelihood, Network, Objective, Gradient, Regulariser, Sampler)
MEMBERS = {member for union in UNIONS for member in members(union)}
IN_THEIR_FILES = {  # heads and abstract classes beside them, too, but what they return
    value
    for member in MEMBERS
    for value in vars(importlib.import_module(member.__module__)).values()
    if isinstance(value, type) and value.__module__ == member.__module__
    if not (issubclass(value, Distribution) or getattr(value, "_is_protocol", False))
}
PARENTS = {
    parent for member in MEMBERS for parent in member.__mro__ if parent.__module__.startswith("vaekit.models.li")
}
PARTS_OF_KIND = {  # but those that share the name of a kind of columns, which any file may ask for
    kind: {member for member in MEMBERS if member.kind == kind}
    for kind in {member.kind for member in MEMBERS} - {*typing.get_args(FieldKind)}
}
PARTICULAR = {part.__name__: part for part in MEMBERS | IN_THEIR_FILES | PARENTS}


def compared_types(tree: ast.AST) -> Iterator[ast.expr]:
    """The types that values are compared with: by isinstance, issubclass, `type(x) is`, or a class pattern."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 2:
            if node.func.id in ("isinstance", "issubclass"):
                yield node.args[1]
        elif isinstance(node, ast.Compare) and any(_is_type_of(side) for side in (node.left, *node.comparators)):
            yield from (side for side in (node.left, *node.comparators) if not _is_type_of(side))
        elif isinstance(node, ast.MatchClass):
            yield node.cls


def _is_type_of(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "type"


def compared_kinds(tree: ast.AST) -> Iterator[str]:
    """The words that the kind of something is compared with: `part.kind == "vamp"`, `in ("vamp", ...)`, a match."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = (node.left, *node.comparators)
        elif isinstance(node, ast.Match):
            sides = (node.subject, *(case.pattern for case in node.cases))
        else:
            continue
        if any(isinstance(side, ast.Attribute) and side.attr == "kind" for side in sides):
            words = (word for side in sides for word in ast.walk(side) if isinstance(word, ast.Constant))
            yield from (word.value for word in words if isinstance(word.value, str))


def classes_of(value: Any) -> Iterator[type]:
    """The classes in a type, a union or a collection of them."""
    if isinstance(value, type):
        yield value
    elif isinstance(value, UnionType) or typing.get_origin(value) in (typing.Union, typing.Annotated):
        yield from (found for part in typing.get_args(value) for found in classes_of(part))
    elif isinstance(value, tuple | list | set | frozenset):
        yield from (found for part in value for found in classes_of(part))


def particular_tests(source: str, names: dict[str, Any], module: str) -> set[str]:
    """The particular parts of other files that a source asks for, given what the names in it stand for."""
    found = {
        part
        for types in compared_types(ast.parse(source))
        for name in ast.walk(types)
        if isinstance(name, ast.Name | ast.Attribute)
        for label in [name.id if isinstance(name, ast.Name) else name.attr]
        for part in classes_of(names.get(label, PARTICULAR.get(label)))
    }
    found |= {part for kind in compared_kinds(ast.parse(source)) for part in PARTS_OF_KIND.get(kind, ())}
    return {part.__name__ for part in found if part in PARTICULAR.values() and part.__module__ != module}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_asks_for_a_particular_part_of_another(path: Path) -> None:
    dotted = ".".join(("vaekit", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    names = {} if dotted.endswith("__main__") else vars(importlib.import_module(dotted))
    assert particular_tests(path.read_text(), names, dotted) == set(), "let the part declare what is to be known of it"


@pytest.mark.parametrize(
    "source",
    [
        "isinstance(prior, Vamp)",
        "isinstance(prior, (int, priors.Vamp))",
        "issubclass(kind, int | Vamp)",
        "isinstance(prior, CHOSEN)",
        "type(prior) is Vamp",
        "type(prior) in {int, Vamp}",
        "match prior:\n    case Vamp(components=3):\n        pass",
        'prior.kind == "vamp"',
        '"vamp" != self.prior.kind',
        'prior.kind in ("mine", "vamp")',
        "match prior.kind:\n    case 'mine' | 'vamp':\n        pass",
    ],
)
def test_a_question_for_a_particular_part_is_found(source: str) -> None:
    assert particular_tests(source, {"CHOSEN": (int, PARTICULAR["Vamp"])}, "vaekit.elsewhere") == {"Vamp"}
    assert particular_tests(source, {}, "vaekit.models.priors.vamp") == set()
