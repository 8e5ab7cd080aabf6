"""Tests go through public names: they neither import nor replace private ones of vaekit."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PATCHING = ("setattr", "delattr", "patch", "object")  # monkeypatch.setattr, setattr, mock.patch, mock.patch.object


def private(name: str) -> bool:
    """Whether some part of a dotted name is private."""
    return any(part.startswith("_") and not part.endswith("__") for part in name.split("."))


def uses_of_private_names(code: str) -> Iterator[str]:
    """The private names of vaekit that code imports, and those of anything that it replaces."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "vaekit":
            yield from (f"{node.module}.{one.name}" for one in node.names if private(f"{node.module}.{one.name}"))
        elif isinstance(node, ast.Call):
            function = node.func
            called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            texts = [one.value for one in node.args[:2] if isinstance(one, ast.Constant)]
            yield from (text for text in texts if called in PATCHING and isinstance(text, str) and private(text))


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_imports_or_replaces_a_private_name(path: Path) -> None:
    assert not list(uses_of_private_names(path.read_text()))


@pytest.mark.parametrize(
    "code",
    [
        "from vaekit.files import _mode",
        "from vaekit._files import mode",
        'monkeypatch.setattr("vaekit.files._mode", f)',
        'monkeypatch.setattr(files, "_mode", f)',
        'with mock.patch("vaekit.files._mode"): pass',
        'setattr(files, "_mode", f)',
    ],
)
def test_such_a_use_is_found(code: str) -> None:
    assert len(list(uses_of_private_names(code))) == 1


def test_special_names_and_public_ones_may_be_replaced() -> None:
    assert not list(uses_of_private_names('patch.setattr(A, "__call__", f); patch.setattr("os.rename", f)'))
