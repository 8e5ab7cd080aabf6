"""Faults injected into runs and saves, and whether what is promised is kept: writes the table of docs/reliability.md.

    python benchmarks/faults.py --write docs/reliability.md

Needs strace for the faults between system calls, and a system that forks. About ten minutes on two cores.
"""

import argparse
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from facts import provenance, put_into, table

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "training"))

from runs_to_cut import KINDS, STEPS, check_same, cut, make, outcome  # noqa: E402

KILLS = 200
SEED = 0
OLD, NEW = {"last.safetensors": b"old" * 5000}, {"last.safetensors": b"new" * 5000, "progress.json": b"{}"}
SAVE = """
import sys
from pathlib import Path
from vaekit.training.checkpoints import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]))
files = {"last.safetensors": b"new" * 5000, "progress.json": b"{}"}
open(sys.argv[2], "w").close()
checkpoints.save(2, files)
"""


@dataclass(frozen=True)
class Result:
    fault: str
    times: int
    held: int
    promise: str


def in_child(work: Callable[[], None]) -> int:
    """Run in a forked process; its exit code."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    return process.exitcode or 0


def live(folder: Path, **train: object) -> None:
    """Start the run in the folder, or go on with it, to its end."""
    from vaekit.runs import TrainingRun

    warnings.simplefilter("ignore")
    run = folder / "run"
    training = (
        TrainingRun.resume(run) if (run / "run.yaml").exists() else TrainingRun.start(make("mlp", folder, **train))
    )
    for _ in training.events():
        pass


def cuts(root: Path) -> list[Result]:
    """Each kind of run, cut once at every step, against itself without a cut."""
    from vaekit.runs import TrainingRun, fit

    results = []
    for kind in KINDS:
        whole = fresh(root, f"whole-{kind}")
        fit(make(kind, whole))
        held = 0
        for step in range(1, STEPS + 1):
            parts = fresh(root, "parts")
            cut(TrainingRun.start(make(kind, parts)), step)
            cut(TrainingRun.resume(parts / "run"), STEPS + 1)
            held += same(whole, parts)
        results += [Result(f"stopped at step n of {STEPS}, each n: {kind}", STEPS, held, "the same end, bit for bit")]
    return results


def kills(root: Path) -> Result:
    """A run that saves at every step, killed at random moments of its life until it ends; again and again."""
    rng, whole = random.Random(SEED), fresh(root, "whole")
    settings = {"save_every": 1}
    live(whole, **settings)  # here, so that the children find everything imported and live for training alone
    context, done, held, runs = multiprocessing.get_context("fork"), 0, 0, 0
    parts = fresh(root, "killed")
    while done < KILLS:
        process = context.Process(target=live, args=(parts,), kwargs=settings)
        process.start()
        process.join(rng.uniform(0.0, 0.8))
        if process.is_alive():
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            done += 1
            continue
        runs += 1
        held += process.exitcode == 0 and same(whole, parts) and not list((parts / "run").rglob("*.tmp*"))
        parts = fresh(root, "killed")
    in_child(lambda: live(parts, **settings))
    runs, held = runs + 1, held + same(whole, parts)
    promise = "every run resumes to the same end, bit for bit"
    return Result(f"SIGKILL at {done} random moments, over {runs} runs", runs, held, promise)


def between_calls(root: Path) -> list[Result]:
    """The process killed, or given an I/O error, at the n-th system call of a save."""
    results = []
    for call, fault in (("write", "ENOSPC"), ("fsync", "EIO"), ("rename", "EIO"), ("mkdir", "ENOSPC")):
        for inject, what in ((f"{call}:signal=KILL", "SIGKILL"), (f"{call}:error={fault}", fault)):
            times, held = 0, 0
            for n in range(1, 100):
                folder = fresh(root, "calls")
                saved_old(folder)
                if not under_strace(folder, inject, n):
                    break
                times, held = times + 1, held + old_or_new(folder)
            results += [Result(f"{what} at the n-th {call} of a save", times, held, "the old or the new checkpoint")]
    return results


def saved_old(folder: Path) -> None:
    from vaekit.training import Checkpoints

    (folder / "checkpoints").mkdir()
    Checkpoints(folder / "checkpoints").save(1, OLD)


def under_strace(folder: Path, inject: str, n: int) -> bool:
    """Save while the n-th call after the mark fails; whether there was such a call."""
    script, mark = folder / "save.py", folder / "mark"
    script.write_text(SAVE)
    log = folder / "log"
    # Calls before the save are the interpreter's; those of the save begin when the mark is made.
    counted = count_before(script, folder, inject.split(":")[0])
    traced = ["-e", f"trace={inject.split(':')[0]}", "-e", f"inject={inject}:when={counted + n}"]
    subprocess.run(
        ["strace", "-f", "-o", log, *traced, sys.executable, str(script), str(folder / "checkpoints"), str(mark)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
    )
    text = log.read_text(errors="replace")
    return "(INJECTED)" in text or "killed by SIGKILL" in text


_counted: dict[str, int] = {}


def count_before(script: Path, folder: Path, call: str) -> int:
    """How often the interpreter makes a call before the save."""
    if call not in _counted:
        log, scratch = folder / "count", folder / "scratch"
        scratch.mkdir()
        shutil.copytree(folder / "checkpoints", scratch / "checkpoints")
        words = [sys.executable, str(script), str(scratch / "checkpoints"), str(scratch / "mark")]
        subprocess.run(
            ["strace", "-f", "-o", log, "-e", f"trace={call},openat", *words],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=True,
        )
        before = log.read_text(errors="replace").partition(str(scratch / "mark"))[0]
        main_thread = before.split(maxsplit=1)[0]  # each thread has a count of its own
        _counted[call] = len(re.findall(rf"^{main_thread} +{call}\(", before, re.M))
    return _counted[call]


def old_or_new(folder: Path) -> bool:
    from vaekit.errors import ModelFileError
    from vaekit.training import Checkpoints

    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.tidy()
    try:
        found = checkpoints.newest()
    except (ModelFileError, UserWarning):
        return False
    return dict(found.files) in (OLD, NEW) and not list(checkpoints.path.glob("*.tmp-*"))


def no_room(root: Path) -> Result:
    """Files may not grow beyond a limit from some step on, and later may again."""
    whole, parts = fresh(root, "whole-room"), fresh(root, "room")
    in_child(lambda: live(whole, save_every=1))

    def limited() -> None:
        from vaekit.runs import TrainingRun

        for event in TrainingRun.start(make("mlp", parts, save_every=1)).events():
            if event.kind == "step" and event.step == 20:
                resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))

    with open(os.devnull, "w") as nowhere:
        sys.stderr, stderr = nowhere, sys.stderr
        code = in_child(limited)
        sys.stderr = stderr
    in_child(lambda: live(parts))
    return Result(
        "no file may grow, from step 20 on",
        1,
        int(code == 1 and same(whole, parts)),
        "ends with an error; resumes to the same end",
    )


def signals(root: Path) -> Result:
    """SIGINT and SIGTERM at random moments of `vaekit train`, and its exit code."""
    rng, held, times = random.Random(SEED), 0, 10
    for number in range(times):
        folder = fresh(root, "signals")
        make("mlp", folder)
        words = ["-m", "vaekit", "train", str(folder / "images.npy"), "train.epochs=100000", "train.batch_size=5"]
        words += ["model.encoder.widths=[16]", "model.decoder.widths=[16]", "--run-dir", str(folder / "run")]
        process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not (folder / "run" / "metrics.jsonl").exists():
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 0.5))
        which = (signal.SIGINT, signal.SIGTERM)[number % 2]
        process.send_signal(which)
        process.communicate()
        stopped = (folder / "run" / "STATUS").read_text().startswith("interrupted at step")
        held += process.returncode == 128 + which and stopped and old_checkpoint(folder)
    return Result("SIGINT or SIGTERM at a random moment of `vaekit train`", times, held, "saved; exit 130 or 143")


def old_checkpoint(folder: Path) -> bool:
    from vaekit.training import RunFolder

    step = int((folder / "run" / "STATUS").read_text().split()[-1])
    return RunFolder(folder / "run").checkpoints.newest().path.name.endswith(f"-step-{step}")


def fresh(root: Path, name: str) -> Path:
    shutil.rmtree(root / name, ignore_errors=True)
    (root / name).mkdir()
    return root / name


def same(one: Path, other: Path) -> bool:
    try:
        check_same(outcome(one), outcome(other))
    except (AssertionError, OSError):
        return False
    return True


def section(results: list[Result], seconds: float) -> str:
    rows = [[r.fault, r.times, r.held, r.promise] for r in results]
    verdict = "All held." if all(r.held == r.times for r in results) else "**Some did not hold.**"
    about = provenance([SEED], Duration=f"{seconds / 60:.0f} minutes")
    return f"{about}\n\n{table(['fault', 'times', 'held', 'what is promised'], rows)}\n\n{verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        root, results = Path(scratch), []
        for part in (kills, no_room, signals, between_calls, cuts):
            found = part(root)
            results += found if isinstance(found, list) else [found]
            for result in results[-1:] if isinstance(found, Result) else found:
                print(f"{result.held:>4} of {result.times:>4}  {result.fault}", flush=True)
    if arguments.write:
        put_into(arguments.write, "benchmarks/faults.py", section(results, time.monotonic() - began))
    if any(result.held != result.times for result in results):
        raise SystemExit("some promises did not hold")


if __name__ == "__main__":
    main()
