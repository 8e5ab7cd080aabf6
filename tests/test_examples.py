"""A package of somebody else's adds a prior: installed, it is chosen on the command line, saved and loaded."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "vaekit-laplace-prior"
FAST = "train.epochs=2 limit.train=200 limit.valid=50"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that the package is installed into, without a network."""
    home = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, home / "source")
    options = ["-q", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check", "--target"]
    run([sys.executable, "-m", "pip", "install", *options, str(home / "target"), str(home / "source")], home)
    return home / "target"


def run(command: list[str], folder: Path, *paths: Path, code: int = 0) -> subprocess.CompletedProcess:
    """A program that finds vaekit, and packages in these folders."""
    where = os.pathsep.join(map(str, (ROOT / "src", *paths)))
    environment = {**os.environ, "PYTHONPATH": where, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == code, done.stdout + done.stderr
    return done


COMMANDS = """
import contextlib, io, json, sys
from vaekit.cli.main import main

done = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = 0
        try:
            main(words.split())
        except SystemExit as leaving:
            code = leaving.code
    done += [(code, out.getvalue(), err.getvalue())]
print(json.dumps(done))
"""


def vaekit(commands: dict[str, int], folder: Path, *paths: Path) -> list[tuple[str, str]]:
    """What commands write to stdout and stderr, one after the other in one process; each leaves with its code."""
    done = json.loads(run([sys.executable, "-c", COMMANDS, json.dumps([*commands])], folder, *paths).stdout)
    assert [code for code, _, _ in done] == list(commands.values()), done
    return [(out, err) for _, out, err in done]


def test_the_prior_of_an_installed_package_trains_is_saved_and_loads(installed, tmp_path):
    commands = {
        f"train digits model.prior=laplace --model.prior.scale 0.5 {FAST} --run-dir run": 0,
        "evaluate run --samples 2 --json": 0,
        "report run --samples 2": 0,
        "train digits model.prior=lapalce": 2,
    }
    _, (evaluated, _), _, (_, mistake) = vaekit(commands, tmp_path, installed)
    text = (tmp_path / "run" / "run.yaml").read_text()
    assert "kind: laplace" in text
    assert "scale: 0.5" in text
    assert json.loads(evaluated)["log_likelihood"]["value"] < 0
    assert "laplace of the package vaekit-laplace-prior 0.1.0" in (tmp_path / "run" / "report.html").read_text()
    assert "did you mean 'laplace'" in mistake
    [(_, missing)] = vaekit({"evaluate run": 4}, tmp_path)
    assert "'laplace' from the package vaekit-laplace-prior 0.1.0" in missing


def test_the_tests_of_the_package_pass(installed, tmp_path):
    shutil.copy(EXAMPLE / "test_vaekit_laplace_prior.py", tmp_path)
    run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."], tmp_path, installed)
