"""Run folders from unknown sources: every file of a run in every wrong form, and the verbs that read a run."""

import json
import os
import random
import shutil
import signal
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import Case, in_child, run
from hostile_bytes import Maker, not_files, sparse, write

TINY = "train.epochs=2 limit.train=96 limit.valid=40 model.latent=3 model.encoder.widths=[16] model.decoder.widths=[16]"
RUN_OR_NOTHING = frozenset({0, 4})
VERBS: dict[str, Sequence[str]] = {
    "evaluate": ("evaluate", "run", "--samples", "300"),
    "sample": ("sample", "run", "-n", "2", "--out", "out.npy"),
    "sample --from mixture": ("sample", "run", "-n", "2", "--from", "mixture", "--out", "out.npy"),
    "reconstruct": ("reconstruct", "run", "-n", "2", "--out", "out.npy"),
    "encode": ("encode", "run", "--out", "out.npy"),
    "decode": ("decode", "run", "z.npy", "--out", "out.npy"),
    "report": ("report", "run", "--samples", "2"),
    "train --resume": ("train", "--resume", "run"),
}
# What a verb may write in the folder it runs in. `run` itself: the checks of what is in it are those of the outside.
WRITES = frozenset({"out.npy", "run"})


def make_run(root: Path) -> Path:
    """A run that was stopped half-way and has everything that a run can have."""
    home = root / "foreign"
    home.mkdir()
    np.save(home / "z.npy", np.zeros((3, 3), np.float32))
    run(["train", "digits", *TINY.split(), "train.save_every=1", "--run-dir", "run"], home)
    run(["sample", "run", "-n", "2", "--from", "mixture", "--out", "out.npy"], home)
    run(["report", "run", "--samples", "2"], home)
    _stop_when(VERBS["evaluate"], home, lambda: any(_blocks(home)))
    (home / "out.npy").unlink()
    # all but the end of training: the checkpoint before the last, without what came after
    last, *_ = sorted((home / "run" / "checkpoints").glob("*-step-*"), reverse=True)
    shutil.rmtree(last)
    return home


def _blocks(home: Path) -> list[Path]:
    """The blocks of an evaluation that are kept, whole."""
    found = (home / "run").glob("evaluation-*/*")
    return [path for path in found if not path.name.startswith(".") and path.stat().st_size]


def _stop_when(words: Sequence[str], folder: Path, seen: Callable[[], bool]) -> None:
    child = os.fork()
    if child == 0:
        in_child(words, folder, folder / ".stdout", folder / ".stderr", None, lambda: _die_when(seen))
        os._exit(0)
    os.waitpid(child, 0)
    (folder / ".stdout").unlink()
    (folder / ".stderr").unlink()
    if not seen():
        raise RuntimeError(f"vaekit {' '.join(words)} has left nothing to go on from")


def _die_when(seen: Callable[[], bool]) -> None:
    """In a child: end by SIGKILL as soon as something is seen."""
    watched = os.getpid()
    if os.fork() == 0:
        while not seen() and os.getppid() == watched:
            time.sleep(0.001)
        os.kill(watched, signal.SIGKILL)
        os._exit(0)


def run_files(home: Path) -> list[str]:
    """The files of a run that a verb may read, by path, and its folders."""
    return [str(path.relative_to(home)) for path in sorted((home / "run").rglob("*"))]


def forms(path: str, whole: bytes | None, rng: random.Random, times: int) -> Iterator[tuple[str, Maker]]:
    """Each wrong form of a file of a run; of a folder (whole is None), what can stand in its place."""
    yield from not_files().items()
    yield (
        "a link to a file outside",
        lambda place: place.symlink_to("/".join([".."] * _depth(path)) + "/outside/victim"),
    )
    yield "a link to a folder outside", lambda place: place.symlink_to("/".join([".."] * _depth(path)) + "/outside")
    if whole is None:
        return
    yield "empty", write(b"")
    yield "10 GB, sparse", sparse
    yield "10 GB, sparse, after what it was", partial(sparse, head=whole)
    yield "random bytes", write(rng.randbytes(len(whole) or 100))
    yield "half of it", write(whole[: len(whole) // 2])
    yield "not UTF-8", write(b"\xff\xfe" + whole)
    if path.endswith((".json", ".jsonl", ".yaml", "STATUS")):
        for text in ("[]", "null", '"x"', "1", "{}", "true", "NaN", "[[[[{}]]]]", '{"format_version": null}'):
            yield f"the text {text}", write(text.encode())
        for what, text in _deep().items():
            yield what, write(text)
    if path.endswith((".json", ".jsonl")):
        yield from _other_json(whole, rng, times)
    if path.endswith(".yaml"):
        yield from _other_yaml(whole, rng, times)
    if whole and path.endswith((".safetensors", ".npz", ".npy")):
        for place in rng.sample(range(8 * len(whole)), times):
            flipped = bytearray(whole)
            flipped[place // 8] ^= 1 << place % 8
            yield f"bit {place} flipped", write(bytes(flipped))
    if path.endswith(".safetensors"):
        yield from ((what, write(content)) for what, content in false_tensors(whole).items())


def _depth(path: str) -> int:
    """How many folders up the scratch folder is, seen from the file."""
    return path.count("/") + 1


def _deep() -> dict[str, bytes]:
    return {
        "100,000 lists in one another": b"[" * 100_000,
        "100,000 objects in one another": b'{"a":' * 100_000,
        "an integer of 100,000 digits": b'{"format_version": ' + b"9" * 100_000 + b"}",
        "a float without end": b'{"format_version": 1e999}',
        "30 MB of a list": b"[" + b"1," * 15_000_000 + b"1]",
        "a key twice": b'{"a": 1, "a": 2}',
    }


def _other_json(whole: bytes, rng: random.Random, times: int) -> Iterator[tuple[str, Maker]]:
    """The document with one value of it replaced, and of a newer format."""
    lines = (
        [json.loads(line) for line in whole.splitlines() if line.strip()] if _is_lines(whole) else [json.loads(whole)]
    )
    values = (None, True, -1, 0, 10**30, 1e308, float("nan"), "x", "\udcff\x1b[2J", [], {}, [[1]], {"a": 1})
    tried = [(path, value) for path in _paths(lines[-1]) for value in values]
    for path, value in rng.sample(tried, min(len(tried), 6 * times)):
        changed = json.loads(json.dumps(lines[-1]))
        _set(changed, path, value)
        text = "\n".join(json.dumps(line) for line in [*lines[:-1], changed])
        yield f"{'.'.join(map(str, path))} is {str(value)[:20]!a}", write(text.encode())
    newer = {**lines[-1], "format_version": 99}
    yield "format 99", write("\n".join(json.dumps(line) for line in [*lines[:-1], newer]).encode())


def _is_lines(whole: bytes) -> bool:
    return whole.count(b"\n") > 1 and whole.splitlines()[0].rstrip().endswith(b"}")


def _paths(value: Any, above: tuple = ()) -> Iterator[tuple]:
    """The path of everything within a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*above, key)
        yield from _paths(inner, (*above, key))


def _set(value: Any, path: tuple, new: object) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new


def _other_yaml(whole: bytes, rng: random.Random, times: int) -> Iterator[tuple[str, Maker]]:
    lines = whole.splitlines(keepends=True)
    texts = {
        "format 99": whole.replace(b"format_version: 1", b"format_version: 99"),
        "latent = 10^18": whole.replace(b"latent: 3", b"latent: 1000000000000000000"),
        "latent = 10^9": whole.replace(b"latent: 3", b"latent: 1000000000"),
        "layers of 10^6": whole.replace(b"- 16", b"- 1000000"),
        "a batch of 10^15": whole.replace(b"batch_size: ", b"batch_size: 1000000000000000"),
        "data that is not there": whole.replace(b"source: digits", b"source: /nowhere/else.npy"),
        "data that is a device": whole.replace(b"source: digits", b"source: /dev/zero"),
        "an object of Python's": whole + b"x: !!python/object/apply:os.system ['touch ../outside/canary']\n",
        "values that refer to one another": b"a: &a [x, x]\n"
        + b"".join(
            b"%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n" % (c + 1, c + 1, *[c] * 8) for c in range(97, 110)
        ),
        "a value that refers to itself": b"data: &a [*a]\n",
        "a date that is none": whole + b"about: 2024-13-45\n",
        "20,000 unknown keys": whole + b"".join(b"key%d: 1\n" % i for i in range(20_000)),
    }
    yield from ((what, write(text)) for what, text in texts.items())
    for place in sorted(rng.sample(range(len(lines)), min(len(lines), 4 * times))):
        name, mark, _ = lines[place].partition(b":")
        value = rng.choice((b"", b" []", b" {}", b" -1", b" 1e30", b" .nan", b" x", b" [[1]]", b" true", b" !!int x"))
        changed = [*lines[:place], name + mark + value + b"\n", *lines[place + 1 :]]
        yield f"line {place + 1} ends in{value.decode() or ' nothing'}", write(b"".join(changed))


def false_tensors(whole: bytes) -> dict[str, bytes]:
    """Files of tensors whose headers lie."""
    size = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8 : 8 + size]), whole[8 + size :]
    names = [name for name in header if name != "__metadata__"]

    def packed(header: object, data: bytes = data) -> bytes:
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    def but(**facts: object) -> dict:
        return {**header, names[0]: {**header[names[0]], **facts}}

    nan = bytearray(data)
    nan[:4] = struct.pack("<f", float("nan"))
    return {
        "a header of 2^60 bytes": struct.pack("<Q", 2**60) + whole[8:],
        "a header of 99 MB": struct.pack("<Q", 99_000_000) + whole[8:],
        "a header of no bytes": struct.pack("<Q", 0) + whole[8:],
        "a header that is a list": packed([]),
        "a header 100,000 deep": struct.pack("<Q", 100_000) + b"[" * 100_000,
        "no tensors": packed({}, b""),
        "a shape of 2^62": packed(but(shape=[2**62, 2**62])),
        "a shape below zero": packed(but(shape=[-1])),
        "offsets beyond the end": packed(but(data_offsets=[0, 2**40])),
        "offsets that overlap": packed({**header, **({names[1]: header[names[0]]} if len(names) > 1 else {})}),
        "an unknown type": packed(but(dtype="X8")),
        "another type": packed(but(dtype="I32")),
        "a tensor more": packed({**header, "more": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
        "metadata that is a list": packed({**header, "__metadata__": []}),
        "weights that are NaN": packed(header, bytes(nan)),
    }


def run_cases(home: Path, rng: random.Random, times: int = 2) -> Iterator[Case]:
    """Every file of the run in every wrong form, read by every verb.

    times: of each damage that has a choice.
    """

    def make(folder: Path, path: str, form: Maker) -> None:
        shutil.copytree(home, folder, symlinks=True, dirs_exist_ok=True)
        place = folder / path
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        form(place)

    for path in run_files(home):
        content = None if (home / path).is_dir() else (home / path).read_bytes()
        for what, form in forms(path, content, rng, times):
            for words in VERBS.values():
                made = partial(make, path=path, form=form)
                yield Case(f"run folder: {_role(path)}", f"{path}: {what}", words, made, _codes(path), WRITES)
    for name, facts in signed(home, rng, times):
        for words in VERBS.values():
            made = partial(_make_signed, home=home, **facts)
            yield Case("run folder: a checkpoint signed anew", name, words, made, RUN_OR_NOTHING, WRITES)


def signed(home: Path, rng: random.Random, times: int) -> Iterator[tuple[str, dict]]:
    """Checkpoints whose manifest agrees with what is wrong in them, as anybody can write it."""
    newest = max((home / "run" / "checkpoints").glob("*-step-*"))
    for path in sorted(newest.iterdir()):
        if path.name == "MANIFEST.json":
            continue
        whole = path.read_bytes()
        made: dict[str, bytes] = {"empty": b"", "random bytes": rng.randbytes(1000)}
        if path.suffix == ".safetensors":
            made |= false_tensors(whole)
        else:
            made |= {f"the text {text}": text.encode() for text in ("[]", "null", "1", "{}", '{"step": "x"}')}
            made |= _deep()
            made |= {what: _content(form) for what, form in _other_json(whole, rng, 2 * times)}
        for what, content in made.items():
            yield f"{path.name}: {what}", {"name": path.name, "content": content}


def _content(form: Maker) -> bytes:
    """What a maker of `write` writes."""

    class Written:
        def write_bytes(self, content: bytes) -> None:
            self.content = content

    written = Written()
    form(written)  # type: ignore[arg-type]
    return written.content


def _make_signed(folder: Path, home: Path, name: str, content: bytes) -> None:
    from vaekit.training import Checkpoints

    shutil.copytree(home, folder, symlinks=True, dirs_exist_ok=True)
    checkpoints = Checkpoints(folder / "run" / "checkpoints")
    newest = max(checkpoints.path.glob("*-step-*"))
    files = {path.name: path.read_bytes() for path in newest.iterdir() if path.name != "MANIFEST.json"}
    shutil.rmtree(checkpoints.path)
    checkpoints.path.mkdir()
    checkpoints.save(int(newest.name.rpartition("-")[2]), {**files, name: content})


def _role(path: str) -> str:
    """A file of a run by what it is, without the numbers in its name."""
    parts = path.split("/")[1:]
    if parts[0].startswith(("evaluation-", "curve-")):
        parts[0] = "evaluation-HASH"
    if len(parts) > 1 and parts[0] == "checkpoints":
        parts[1] = "NUMBER-step-STEP"
    return "/".join(parts[:1] if parts[0] in ("samples", "evaluation-HASH") else parts)


def _codes(path: str) -> frozenset[int]:
    # settings that name other data are settings of the run, and the data is what cannot be had
    if path.endswith(("run.yaml", "data.json")):
        return RUN_OR_NOTHING | {3}
    # a page that cannot be written where it belongs is to be written elsewhere, with --out
    return RUN_OR_NOTHING | {2} if path.startswith("run/report") else RUN_OR_NOTHING
