"""A run folder may come from anyone: whatever its files are replaced by, it is read as it is or refused in two lines."""

import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as load_safetensors

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from runs_to_cut import cut, make

from vaekit.errors import DataError, ModelFileError, VaekitError
from vaekit.models import FromMixture
from vaekit.report.gather import gather
from vaekit.runs import Job, open_run, open_rows, sampling

NEWEST = "checkpoints/000002-step-45"
FILES = [
    *("run.yaml", "data.json", "environment.json", "metrics.jsonl", "STATUS", "LOCK", "samplers", "checkpoints"),
    *("samplers/mixture.json", "samplers/mixture.safetensors", NEWEST, f"{NEWEST}/MANIFEST.json"),
    *(f"{NEWEST}/{name}.safetensors" for name in ("best", "last", "training")),
    f"{NEWEST}/progress.json",
]
TEXTS = {"empty": b"", "text": b"hello\n", "list": b"[1, 2]", "deep": b"[" * 100_000, "newer": b'{"format_version": 9}\n'}
SECONDS = 20


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    cut(Job.start(make("mlp", folder)), 45)
    sampling(open_run(folder / "run"), FromMixture(components=3))
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture(autouse=True)
def ends_soon():
    """Nothing may wait for what never comes."""

    def too_long(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def use(run: Path) -> None:
    opened = open_run(run)
    sampling(opened, FromMixture(components=3))


def read_for_report(run: Path) -> None:
    folder = open_run(run).folder
    folder.history(), folder.environment(), folder.status()


def resume(run: Path) -> None:
    cut(Job.resume(run), 47)


def refused(verb, run: Path) -> VaekitError | None:
    """The error that a verb ends with, which must be of one or two lines; None where it succeeds."""
    try:
        with pytest.warns() if False else _quiet():
            verb(run)
    except VaekitError as error:
        assert error.exit_code in (1, 3, 4)
        assert str(error).count("\n") <= 1
        assert len(str(error)) < 1000
        return error
    return None


def _quiet():
    import warnings

    context = warnings.catch_warnings()
    context.__enter__()
    warnings.simplefilter("ignore")
    return context
