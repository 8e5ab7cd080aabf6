"""What the README and the docs show runs as shown."""

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vaekit.cli.main import main

ROOT = Path(__file__).parent.parent
FAST = " train.epochs=2 limit.train=200 limit.valid=50"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


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
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for room in re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE):
        assert (ROOT / "src" / "vaekit" / room).is_dir()
    for file in re.findall(r"`((?:models|objectives|data|runs|report|apps)/[\w.]+)`", text):
        assert (ROOT / "src" / "vaekit" / file).exists(), file


def test_every_file_is_named_in_the_architecture():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)/` \|(.*)$", text, re.MULTILINE))
    files = [file for file in (ROOT / "src" / "vaekit").glob("*/*.py") if not file.stem.startswith("_")]
    assert not [file for file in files if f"`{file.stem}`" not in rows[file.parent.name]]


@pytest.fixture(scope="module")
def with_the_diff(tmp_path_factory) -> Path:
    """A copy of the sources with the diff in CONTRIBUTING.md applied."""
    copy = tmp_path_factory.mktemp("contributed")
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (diff,) = re.findall(r"```diff\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    subprocess.run(["git", "apply", "-p1", "-"], input=diff, cwd=copy, text=True, check=True)
    return copy


def test_what_the_diff_in_contributing_adds_is_a_prior(with_the_diff):
    added = (with_the_diff / "src" / "vaekit" / "models" / "priors" / "laplace.py").read_text()
    names: dict[str, Any] = {"__name__": "vaekit.models.priors.laplace"}
    exec(compile(added, "CONTRIBUTING.md", "exec"), names)
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    expected = -(2**0.5 * z.abs() + math.log(2) / 2).sum(-1)
    torch.testing.assert_close(names["Laplacian"]().build(3)().log_prob(z), expected)


def test_one_file_and_one_line_are_enough_to_train_save_and_load(with_the_diff, tmp_path):
    def vaekit(words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(with_the_diff / "src"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "vaekit", *words.split()]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    vaekit(f"train digits model.prior=laplace --run-dir run{FAST}")
    assert "kind: laplace" in (tmp_path / "run" / "run.yaml").read_text()
    assert json.loads(vaekit("evaluate run --samples 2 --json"))["log_likelihood"]["value"] < 0
