"""Hostile settings: YAML files, and words of the command line."""

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from harness import Case
from hostile_bytes import Maker, damaged, not_files, sparse, write

SETTINGS = frozenset({2})
GOOD_OR_SETTINGS = frozenset({0, 2})
WHOLE = b"""name: tiny
data: {source: digits}
limit: {train: 96, valid: 40}
model: {latent: 3, encoder: {kind: mlp, widths: [16]}, decoder: {kind: mlp, widths: [16]}}
train: {epochs: 1}
"""


def hostile_yaml() -> dict[str, bytes]:
    expanding = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
        b"%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n" % (c + 1, c + 1, *[c] * 8) for c in range(97, 115)
    )
    return {
        "anchors that expand to 8^18 values": expanding,
        "anchors that expand as keys": b"a: &a {x: 1}\nb: &b {? *a : *a}\nc: {? *b : *b}\n",
        "merges that expand": b"a: &a {x: 1}\nb: &b {<<: [*a, *a, *a]}\nc: {<<: [*b, *b, *b]}\n",
        "a value that refers to itself": b"data: &a {source: *a}\n",
        "a key that refers to itself": b"? &a [*a]\n: 1\n",
        "an anchor that is not there": b"data: *nothing\n",
        "5,000 lists in one another": b"data: " + b"[" * 5000 + b"]" * 5000,
        "100,000 lists in one another": b"data: " + b"[" * 100_000,
        "5,000 blocks in one another": b"\n".join(b" " * i + b"a:" for i in range(5000)),
        "5,000 dashes": b"data: \n" + b"- " * 5000 + b"x\n",
        "an integer that is none": b"data: !!int abc\n",
        "a float that is none": b"data: !!float abc\n",
        "bytes that are none": b"data: !!binary ====\n",
        "a date that is none": b"name: 2024-13-45\n",
        "a time that is none": b"name: 2024-01-01 99:99:99\n",
        "a year of 10 digits": b"name: !!timestamp 9999999999-01-01\n",
        "an integer of 10,000 digits": b"seed: " + b"9" * 10_000 + b"\n",
        "an integer of 10,000 digits in base 60": b"seed: 1" + b":59" * 10_000 + b"\n",
        "a hexadecimal of 10,000 digits": b"seed: 0x" + b"f" * 10_000 + b"\n",
        "a float of 10,000 digits": b"train: {lr: " + b"9" * 10_000 + b".5}\n",
        "an object of Python's": b"name: !!python/object/apply:os.system ['touch ../outside/canary']\n",
        "a module of Python's": b"name: !!python/module:os\n",
        "an unknown tag": b"name: !nothing x\n",
        "an unknown directive": b"%YAML 9.9\n---\nname: x\n",
        "two documents": WHOLE + b"---\n" + WHOLE,
        "a list": b"[1, 2]\n",
        "nothing": b"",
        "a comment": b"# nothing\n",
        "a text": b"hello\n",
        "20,000 unknown keys": b"".join(b"key%d: 1\n" % i for i in range(20_000)),
        "20,000 unknown keys in data": b"data:\n" + b"".join(b"  key%d: 1\n" % i for i in range(20_000)),
        "a key of 1 MB": b"x" * 1_000_000 + b": 1\n",
        "a value of 1 MB": b"name: " + b"x" * 1_000_000 + b"\n",
        "a kind of 1 MB": b"model: {prior: {kind: " + b"x" * 1_000_000 + b"}}\n",
        "a list of 100,000 widths": b"model: {encoder: {widths: [" + b"16, " * 100_000 + b"16]}}\n",
        "a list of 100,000 columns": b"data: {drop: [" + b"x, " * 100_000 + b"x]}\n",
        "keys that are numbers": b"1: 2\n3.5: 4\n",
        "keys that are lists": b"? [1, 2]\n: 3\n",
        "a key that is nothing": b"null: 1\n",
        "keys that are dates": b"2024-01-01: 1\n",
        "a set": b"data: !!set {source, label}\n",
        "pairs": b"data: !!omap [source: digits]\n",
        "NUL bytes": WHOLE + b"x: \x00\n",
        "control characters": WHOLE + b"x: \x1b[2J\n",
        "not UTF-8": WHOLE + b"name: \xff\xfe\n",
        "UTF-16": WHOLE.decode().encode("utf-16"),
        "surrogates": b'name: "\\ud800"\n',
        "a name with markup": b'name: "[/bold] [red]"\n',
        "a source with a NUL": b'data: {source: "a\\0b"}\n',
        "a source of 1 MB": b"data: {source: " + b"x" * 1_000_000 + b"}\n",
        "latent = 10^18": WHOLE.replace(b"latent: 3", b"latent: 1000000000000000000"),
        "latent = 10^400": WHOLE.replace(b"latent: 3", b"latent: 1" + b"0" * 400),
        "latent = 10^9": WHOLE.replace(b"latent: 3", b"latent: 1000000000"),
        "latent = NaN": WHOLE.replace(b"latent: 3", b"latent: .nan"),
        "widths of 10^12": WHOLE.replace(b"[16]", b"[1000000000000]"),
        "a batch of 10^18": WHOLE.replace(b"epochs: 1", b"epochs: 1, batch_size: 1000000000000000000"),
        "a seed of 10^30": WHOLE + b"seed: 1000000000000000000000000000000\n",
        "a rate of 10^400": WHOLE.replace(b"epochs: 1", b"epochs: 1, lr: 1e400"),
        "format 99": b"format_version: 99\n" + WHOLE,
        "a format that is a text": b"format_version: [x]\n" + WHOLE,
        "a name that leads away": b"name: ../outside/run\n" + WHOLE[11:],
        "a name of 300 bytes": b"name: " + b"x" * 300 + b"\n" + WHOLE[11:],
    }


def settings_cases(rng: random.Random, times: int = 6) -> Iterator[Case]:
    """Every hostile configuration, and words that are no settings."""

    def at(folder: Path, make: Maker) -> None:
        make(folder / "run.yaml")

    files: dict[str, Maker] = {what: write(text) for what, text in hostile_yaml().items()}
    files |= {what: write(text) for what, text in damaged(WHOLE, rng, times)}
    files |= {**not_files(), "10 GB, sparse": sparse, "100 MB of a comment": write(b"#" * 100_000_000)}
    for what, make in files.items():
        # what is still a configuration trains
        words = ["train", "--config", "run.yaml", "--run-dir", "out"]
        codes = GOOD_OR_SETTINGS | {3}
        yield Case("settings in YAML", what, words, partial(at, make=make), codes, frozenset({"out"}))
    for path in ("/dev/zero", "/dev/stdin", "/proc/self/mem", "/dev", "x" * 5000, "a\0b", "~nobody-here/x", ""):
        yield Case("settings in YAML", f"the path {path[:30]!r}", ["train", "--config", path], _nothing, SETTINGS)
    for word in (
        "data.drop=[" + "x," * 50_000 + "x]", "model.latent=" + "9" * 5000, "model.latent=" + "[" * 5000,
        "model.encoder.widths=[" + "16," * 300 + "16]", "name=" + "x" * 5000, "name=[/red]", "seed=!!int x",
        "data.source=2024-13-45", "model.prior=&a [*a]", "data=1", "=", "=1", "a.b.c=1", ".=1", "model..latent=3",
        "model.latent", "model.latent=\x00", "train.lr=nan", "train.lr=1e999", "train.epochs=-1", "\ud800=1",
        "data.label=\udcff", "x" * 300 + "=1", "data.source=" + "a/" * 5000, "objective.kind=" + "x" * 5000,
    ):  # fmt: skip
        words = ["train", "digits", "train.epochs=1", "limit.train=96", "model.latent=2", word, "--run-dir", "out"]
        codes = SETTINGS | {3} if "source" in word else SETTINGS
        yield Case("settings on the command line", f"{word[:40]!a}", words, _nothing, codes, frozenset({"out"}))


def _nothing(folder: Path) -> None:
    pass
