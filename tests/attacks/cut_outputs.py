"""Outputs that are cut off while they are written: killed, interrupted, and without room on the disk."""

import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import Ended, Verdict, in_child, remove, run, snapshot
from hostile_runs import TINY

OLD = b"what was there before, which somebody may still need\n" * 20
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}


@dataclass(frozen=True)
class Output:
    """A command that writes a file; `out` is what it is called."""

    verb: str
    words: Sequence[str]
    out: str


def make_home(root: Path) -> Path:
    """A trained run, and codes to decode."""
    home = root / "outputs"
    home.mkdir()
    run(["train", "digits", *TINY.split(), "--run-dir", "run"], home)
    np.save(home / "z.npy", np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32))
    return home


def outputs() -> Iterator[Output]:
    verbs: dict[str, tuple[Sequence[str], Sequence[str]]] = {
        "sample": (("sample", "run", "-n", "500"), ("npy", "npz", "csv", "png")),
        "reconstruct": (("reconstruct", "run"), ("npy", "npz", "csv", "png")),
        "encode": (("encode", "run"), ("npy", "npz", "csv", "parquet")),
        "decode": (("decode", "run", "z.npy"), ("npy", "npz", "csv", "png")),
        "report": (("report", "run", "--samples", "2"), ("html",)),
    }
    for verb, (words, endings) in verbs.items():
        for ending in endings:
            yield Output(verb, (*words, "--out", f"out.{ending}"), f"out.{ending}")


def cut_verdicts(home: Path, scratch: Path, rng: random.Random, times: int, share: float = 1.0) -> Iterator[Verdict]:
    """Each output cut off in each way, at `times` moments: what is at its name is then the old file or the whole new.

    share: of the outputs that are tried, by chance.
    """
    for output in outputs():
        if rng.random() >= share:
            continue
        size = _whole_size(output, home, scratch)
        cuts: dict[str, list[Callable[[Path], Ended]]] = {
            # what crosses the limit is ended by the kernel, in the middle of a write
            "SIGXFSZ": [_limited(output, int(size * rng.random()), signal.SIG_DFL) for _ in range(times)],
            "a full disk": [_limited(output, int(size * rng.random()), signal.SIG_IGN) for _ in range(times)],
        }
        cuts |= {name: [_when_writing(output, number)] * times for name, number in SIGNALS.items()}
        for how, ways in cuts.items():
            for cut in ways:
                yield _verdict(output, how, cut, home, scratch)


def _fresh(output: Output, home: Path, scratch: Path) -> Path:
    remove(scratch)
    folder = scratch / "here"
    shutil.copytree(home, folder)
    (folder / output.out).write_bytes(OLD)
    return folder


def _whole_size(output: Output, home: Path, scratch: Path) -> int:
    folder = _fresh(output, home, scratch)
    run(_forced(output.words), folder)
    return (folder / output.out).stat().st_size


def _forced(words: Sequence[str]) -> Sequence[str]:
    """The words, with leave to replace what is there."""
    from vaekit.cli.app import COMMANDS

    (command,) = (command for command in COMMANDS if command.__name__ == words[0])
    return (*words, "--force") if "force" in command.__annotations__ else words


def _verdict(output: Output, how: str, cut: Callable[[Path], Ended], home: Path, scratch: Path) -> Verdict:
    folder = _fresh(output, home, scratch)
    before = snapshot(folder)
    ended = cut(folder)
    stderr = (folder / ".stderr").read_text(errors="replace")
    content = (folder / output.out).read_bytes() if (folder / output.out).exists() else b""
    problem = ""
    if content != OLD and not _is_whole(output.out, content):
        problem = f"{len(content)} bytes are left, neither the old file nor the new one"
    elif ended.code == 0 and content == OLD:
        problem = "exit 0, and the old file"
    elif how == "a full disk" and ended.code not in (1, 2):  # 2 where another name is asked for
        problem = f"exit {ended.code}, not 1 or 2"
    elif how in SIGNALS and ended.code not in (0, 128 + SIGNALS[how], -SIGNALS[how]):
        problem = f"exit {ended.code}, not {128 + SIGNALS[how]}"
    elif ended.hung:
        problem = "it hangs"
    elif "Traceback" in stderr or "fault in vaekit" in stderr or len(stderr.strip().splitlines()) > 2:
        problem = f"a foreign exception, exit {ended.code}"
    if not problem:
        run(_forced(output.words), folder)
        allowed = (Path(output.out).stem, "run", ".stdout", ".stderr")  # a page has its pictures beside it
        left = [name for name in snapshot(folder).keys() - before.keys() if not name.startswith(allowed)]
        problem = f"it leaves {', '.join(left)}" if left else ""
    remove(scratch)
    name, words = f"{output.verb} to {output.out}", " ".join(output.words)
    return Verdict(
        f"outputs cut off by {how}", name, words, problem, ended.seconds, ended.resident / 1e6, stderr[-500:]
    )


def _is_whole(name: str, content: bytes) -> bool:
    """Whether a file ends as its format does."""
    ending = name.rpartition(".")[2]
    if ending == "npy":
        return len(content) > 128 and content[:6] == b"\x93NUMPY" and _npy_size(content) == len(content)
    ends = {"npz": b"PK\x05\x06", "png": b"IEND\xaeB`\x82", "parquet": b"PAR1", "html": b"</html>", "csv": b"\n"}
    tail = content[-22:] if ending == "npz" else content.rstrip()[-12:] if ending != "csv" else content[-1:]
    return ends[ending] in tail and (ending != "csv" or content.count(b"\n") in (181, 501))


def _npy_size(content: bytes) -> int:
    import io

    file = io.BytesIO(content)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return file.tell() + int(np.prod(shape)) * dtype.itemsize


def _limited(output: Output, size: int, action: signal.Handlers) -> Callable[[Path], Ended]:
    """The command, of which no file may grow beyond `size` bytes."""

    def start() -> None:
        signal.signal(signal.SIGXFSZ, action)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def cut(folder: Path) -> Ended:
        return in_child(_forced(output.words), folder, folder / ".stdout", folder / ".stderr", None, start)

    return cut


def _when_writing(output: Output, number: int) -> Callable[[Path], Ended]:
    """The command, which gets a signal as soon as something in its folder changes."""

    def start() -> None:
        watched, folder = os.getpid(), Path.cwd()
        before = _glance(folder)
        if os.fork() == 0:
            while os.getppid() == watched and _glance(folder) == before:
                time.sleep(0.0002)
            if os.getppid() == watched:
                os.kill(watched, number)
            os._exit(0)

    def cut(folder: Path) -> Ended:
        return in_child(_forced(output.words), folder, folder / ".stdout", folder / ".stderr", None, start)

    return cut


def _glance(folder: Path) -> list[tuple[str, int]]:
    found = []
    for entry in os.scandir(folder):
        if entry.name not in (".stdout", ".stderr"):
            try:
                found.append((entry.name, entry.stat().st_size if entry.is_file() else 0))
            except OSError:  # it is gone by now
                continue
    return sorted(found)
