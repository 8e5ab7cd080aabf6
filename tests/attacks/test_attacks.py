"""The smallest instances of every attack; `make attack` tries them all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "attack.py"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory) -> list[dict]:
    """Of a process of its own: it forks, which a process with threads had better not."""
    found = tmp_path_factory.mktemp("attacks") / "verdicts.json"
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--few", "--json", str(found)], capture_output=True, text=True
    )
    assert found.exists(), done.stderr
    return json.loads(found.read_text())


KINDS = (
    *("npy", "npz", "csv", "parquet", "idx", "renamed", "PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "pictures"),
    *("not a file", "codes", "data for a run", "settings", "run folder", "outputs cut off", "sizes"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_hostile_costs_an_error_and_nothing_else(verdicts, kind):
    tried = [of for of in verdicts if kind.casefold() in f"{of['group']} {of['words']}".casefold()]
    assert tried
    assert not [of for of in tried if of["problem"]]
