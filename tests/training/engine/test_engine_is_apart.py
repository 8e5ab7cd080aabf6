"""Only `training/engine/` knows how a step is run: the rest calls it, and the maths takes numbers and tensors alike."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import vaekit

SOURCE = Path(vaekit.__file__).parent
ENGINE = SOURCE / "training" / "engine"
OUTSIDE = [path for path in sorted(SOURCE.rglob("*.py")) if ENGINE not in path.parents]
MATHS = [path for path in OUTSIDE if path.relative_to(SOURCE).parts[0] in ("models", "objectives", "schedules.py")]


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text("utf-8")))


def test_only_the_updater_uses_the_engine_and_only_to_build_one():
    found = {
        (path.relative_to(SOURCE).as_posix(), node.module, name.name)
        for path in OUTSIDE
        for node in nodes(path)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vaekit.training.engine")
        for name in node.names
    }
    assert found == {("training/updater.py", "vaekit.training.engine", "build_engine")}


def test_nothing_of_an_engine_is_set_from_outside():
    for path in OUTSIDE:
        written = [node for node in nodes(path) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
        assert not [node for node in written if getattr(node.value, "attr", getattr(node.value, "id", "")) == "engine"]


def test_the_maths_does_not_look_whether_a_step_is_a_tensor():
    for path in OUTSIDE:
        for node in nodes(path):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                what, kinds = map(ast.unparse, node.args)
                assert not ("Tensor" in kinds and re.search(r"\bsteps?$", what)), f"{path}:{node.lineno}"


def test_the_maths_does_not_speak_of_how_it_is_run():
    spoken = re.compile(r"(?<!re\.)\bcompil\w+|\btrac(?:ed|ing)\b|\bprograms?\b|\bcaptur\w+", re.IGNORECASE)
    for path in MATHS:
        assert not spoken.findall(path.read_text("utf-8")), path
