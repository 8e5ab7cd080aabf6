"""`vaekit explore` and `vaekit demo` from the command line: what they refuse, and what they print."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from vaekit.cli.main import main
from vaekit.explorer import assets


def call(*words):
    with pytest.raises(SystemExit) as leaving:
        main([str(word) for word in words])
    return leaving.value.code


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", 99999], "port is 99999"),
        (["--points", 0], "--points is 0"),
        (["--export", "page.txt"], "--export is page.txt"),
        (["--export", "none/page.html"], "--export is none/page.html: there is no folder none"),
        (["--export", "page.html", "--watch"], "leave --watch out"),
    ],
)
def test_what_cannot_be_is_one_line(explorer, words, said, capsys):
    assert call("explore", explorer.folder, *words) == 2
    line = capsys.readouterr().err
    assert said in line
    assert line.count("\n") == 1


def test_a_page_that_is_not_built_is_one_line(explorer, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(assets, "FOLDER", tmp_path)
    for words in (["explore", explorer.folder], ["demo"], ["train", "digits", "--watch"]):
        assert call(*words) == 2
        assert "make explorer" in capsys.readouterr().err


def test_the_address_answers_until_it_is_interrupted(explorer):
    command = [sys.executable, "-m", "vaekit", "explore", str(explorer.folder), "--no-browser", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None
    text = "".join(iter(process.stdout.readline, "}\n"))
    address = json.loads(text + "}")["address"]
    with urllib.request.urlopen(f"{address}model.json") as answer:
        assert json.load(answer)["title"] == "digits"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
