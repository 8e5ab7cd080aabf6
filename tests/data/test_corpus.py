"""Every file of the corpus, valid or damaged, gives data or an error of one line; `make fuzz` adds what fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from replay import put, whole

HERE = Path(__file__).parent
FILES = whole(HERE / "corpus")


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory) -> dict[str, dict[str, str]]:
    """Of a process of its own: it forks, which a process with threads had better not."""
    folder = tmp_path_factory.mktemp("corpus")
    paths = [put(folder / name.split(".", 1)[0], name.split(".", 1)[1], content) for name, content in FILES.items()]
    words = [sys.executable, str(HERE / "replay.py"), *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(zip(FILES, json.loads(done.stdout), strict=True))


def test_files_are_read_or_refused_in_one_line(verdicts):
    assert not {name: verdict["problem"] for name, verdict in verdicts.items() if verdict["problem"]}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("valid")])
def test_valid_files_are_data(verdicts, name):
    assert verdicts[name]["kind"] == "data"


def test_the_corpus_is_small():
    assert len({name.split(".", 1)[1] for name in FILES}) >= 20
    assert sum(map(len, FILES.values())) < 200_000
