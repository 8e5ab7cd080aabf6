"""Settings as hostile text: refused in one or two lines, in bounded time and memory, and never followed anywhere."""

import os
import time

import pytest

from naming import naming
from vaekit.errors import ConfigError
from vaekit.runs import make_run, override, parse_yaml, read_yaml
from vaekit.runs.plain_yaml import MOST_BYTES, parse_plain

BILLION = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
HOSTILE = {
    "anchors that expand": BILLION,
    "an alias to itself": "data: &d {source: *d}",
    "an anchor alone": "data: &d {source: digits}",
    "depth": "data: " + "[" * 5000 + "]" * 5000,
    "depth in blocks": "".join(f"{' ' * i}a:\n" for i in range(300)),
    "a tag": "seed: !!int abc",
    "a tag of Python": "seed: !!python/object/apply:os.getcwd []",
    "a set": "seed: !!set {a, b}",
    "a long integer": f"seed: {'9' * 5000}",
    "a long integer in base 16": f"seed: 0x{'f' * 100_000}",
    "a long integer in base 60": f"seed: 1{':59' * 100_000}",
    "a long float": f"train: {{lr: 0.{'1' * 5000}}}",
    "many values": "data: {drop: [" + "1," * 200_000 + "1]}",
    "size": f"about: {'x' * MOST_BYTES}",
    "a merge key": "<<: {seed: 3}",
    "a key that is a list": "? [a, b]\n: 3",
    "a key twice": "seed: 1\nseed: 2",
    "two documents": "seed: 1\n---\nseed: 2",
    "control characters": "name: a\x07b",
    "an empty alias": "*",
    "a lone surrogate": 'name: "\\ud800"',
    "NUL": 'data: {source: "a\\0b"}',
    "keys that nobody knows": "".join(f"key{i}: {i}\n" for i in range(20_000)),
    "keys that nobody knows, below": "train:\n" + "".join(f"  epoch{i}: {i}\n" for i in range(20_000)),
    "a long key": f"{'k' * 900}: 3",
    "a long key, quoted": f"? '{'k' * 100_000}'\n: 3",
    "keys with lines in them": '"a\\nvaekit: forged": 3',
    "a date where a number belongs": "seed: 2024-13-45",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_settings_are_refused_at_once_in_two_lines_at_most(tmp_path, text):
    began = time.monotonic()
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        make_run(read_yaml(tmp_path / "run.yaml"))
    assert len(str(error.value).splitlines()) <= 2
    assert len(str(error.value)) < 1000
    assert time.monotonic() - began < 5  # mostly far below; 20,000 unknown keys took 40 s


@pytest.mark.parametrize(
    "assignment",
    [
        "data.source=&a [*a]",
        "data.source=*a",
        "seed=!!int abc",
        "seed=" + "9" * 5000,
        "model.prior=" + "[" * 5000,
        ".".join(["model"] * 5000) + "=3",
        "x" * 100_000 + "=3",
        "x" * 100_000,
        "model.latent=1.0e+18",
        "model.latent=" + "9" * 40,
        "model.encoder.widths=[100000]",
        "name='\ud800'",
        "\ud800=3",
        "data.source=\ud800.csv",
    ],
)
def test_hostile_words_are_refused_in_two_lines_at_most(assignment):
    with pytest.raises(ConfigError) as error:
        make_run(override({}, [assignment]))
    assert len(str(error.value).splitlines()) <= 2
    assert len(str(error.value)) < 1000
    str(error.value).encode()


def test_dates_are_text_and_keys_stand_as_they_are_written():
    assert parse_plain("{name: 2024-01-05, on: 1, 1: x}") == {"name": "2024-01-05", "on": 1, "1": "x"}


def test_a_file_in_utf_8_is_read_whatever_the_locale(tmp_path, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    (tmp_path / "run.yaml").write_bytes("\ufeffname: Größe\n".encode())
    assert read_yaml(tmp_path / "run.yaml") == {"name": "Größe"}


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "good.yaml").write_text("seed: 3")
    (tmp_path / "link").symlink_to(tmp_path / "good.yaml")
    assert read_yaml(tmp_path / "link") == {"seed": 3}
    for path in ("/dev/zero", tmp_path / "fifo", tmp_path, tmp_path / "loop", "x" * 5000, "a\0b"):
        with pytest.raises(ConfigError, check=naming("config", str(path))) as error:
            read_yaml(path)
        assert len(str(error.value)) < 300


def test_what_is_not_text_is_refused(tmp_path):
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, check=naming("config", str(tmp_path / "run.yaml"))):
        read_yaml(tmp_path / "run.yaml")


def test_where_it_is_wrong_is_said():
    with pytest.raises(ConfigError, match=r"line 2: .*anchors and aliases", check=naming("config", "run.yaml")):
        parse_yaml("seed: 3\ndata: &a {}", "run.yaml")
