"""What the README and the docs show runs as shown."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaekit.cli.main import main

ROOT = Path(__file__).parent.parent
FAST = " train.epochs=2 limit.train=200 limit.valid=50"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def write_census(path: Path) -> None:
    """A table of the columns of Adult, as it is written, of few rows that are made up."""
    rng, n = np.random.default_rng(0), 300
    columns = {
        "age": rng.integers(17, 90, n),
        "workclass": rng.choice(["Private", "State-gov", "?"], n),
        "fnlwgt": rng.integers(12_285, 1_484_705, n),
        "education": rng.choice(["HS-grad", "Bachelors", "Masters"], n),
        "sex": rng.choice(["Female", "Male"], n),
        "capital-gain": rng.poisson(2000, n) * (rng.random(n) < 0.1),
        "classification": rng.choice(["<=50K", ">50K"], n),
    }
    rows = zip(*(cells.tolist() for cells in columns.values()), strict=True)
    lines = [", ".join(columns), *(", ".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def test_python(capsys, tmp_path, monkeypatch):
    """The blocks run one after the other, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in blocks("python"):
        assert len(code.strip().splitlines()) <= 20
        exec(compile(code, "README.md", "exec"), names)
        assert re.search(r"-\d+\.\d+ ± \d+\.\d+ nats", capsys.readouterr().out)


@pytest.mark.parametrize("lines", blocks("console"))
def test_commands(lines, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_census(tmp_path / "adult.csv")
    for line in lines.splitlines():
        words = shlex.split(line + (FAST if line.startswith("vaekit train") else ""))
        with pytest.raises(SystemExit) as leaving:
            main(words[1:])
        assert leaving.value.code == 0, capsys.readouterr().err


def test_links_lead_somewhere():
    for document in (ROOT.glob("*.md"), (ROOT / "docs").glob("*.md")):
        for path in document:
            for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
                assert (path.parent / link).exists(), f"{path.name} links to {link}, which is not there"


def test_files_named_in_the_architecture_exist():
    """Paths are relative to src/vaekit; `path: name` says what to look for there."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = re.findall(r"`([\w./]+\.(?:py|jinja)|[\w/]+/)(?:: ([\w.]+)[^`]*)?`", text)
    assert len(named) > 60
    of_runs = {"samples/", "samplers/", "checkpoints/", "examples/"}
    for path, name in named:
        file = ROOT / "src" / "vaekit" / path
        if path not in of_runs and path != "__init__.py":
            assert file.exists(), path
        assert not name or re.search(rf"(?:def|class) {name}\b", file.read_text()), f"{path}: {name}"


def test_every_package_is_in_the_table_of_the_architecture():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    packages = {path.parent.name for path in (ROOT / "src" / "vaekit").glob("*/__init__.py")}
    assert packages == set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE))
