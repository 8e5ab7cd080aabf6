"""A 4 GB set from disk against the same set in memory: speed, memory and opening. Writes a table of docs/scaling.md.

    python benchmarks/streaming.py --write docs/scaling.md

Makes the set in a temporary folder (4.1 GB of disk) and holds it in memory once (about 13 GB at the peak). Takes
three minutes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from facts import provenance, put_into, table
from speed.common import peak_memory
from vaekit.runs import TrainingRun, make_run

ROWS, SIDE, BATCH = 5_200_000, 28, 200
SEGMENT, SEGMENTS = 150, 12  # steps
ALONE = 3000  # steps


def generate(path: Path) -> None:
    """Images of noise, a block at a time."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (ROWS, SIDE, SIDE)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, ROWS, 100_000):
            rows = min(100_000, ROWS - start)
            rng.integers(0, 256, (rows, SIDE, SIDE), dtype=np.uint8).tofile(file)


def start(path: str, stream: str) -> TrainingRun:
    layers = {"kind": "mlp", "widths": [512, 512], "activation": "silu"}
    return TrainingRun.start(
        make_run(
            {
                "data": {"source": path, "binarise": "dynamic", "stream": stream},
                "model": {"latent": 40, "encoder": layers, "decoder": layers},
                "train": {"batch_size": BATCH, "epochs": 1},
            }
        )
    )


def alone(path: str) -> dict[str, float]:
    """The streamed run in a process of its own."""
    before, began = peak_memory(), time.perf_counter()
    training = start(path, "auto")
    opened, began = time.perf_counter() - began, time.perf_counter()
    events = training.events()
    steps(events, ALONE)
    seconds = time.perf_counter() - began
    return {"opening": opened, "rows": ALONE * BATCH / seconds, "peak": peak_memory(), "before": before}


def both(path: str) -> dict[str, float]:
    """Alternating in one process, so that what else the machine does falls on both."""
    began = time.perf_counter()
    memory = start(path, "never")
    opened = time.perf_counter() - began
    ours = {"memory": memory.events(), "streamed": start(path, "always").events()}
    speeds: dict[str, list[float]] = {name: [] for name in ours}
    for events in ours.values():
        steps(events, SEGMENT)
    for _ in range(SEGMENTS):
        for name, events in ours.items():
            began = time.perf_counter()
            steps(events, SEGMENT)
            speeds[name] += [SEGMENT * BATCH / (time.perf_counter() - began)]
    ratios = [s / m for s, m in zip(speeds["streamed"], speeds["memory"], strict=True)]
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    return {**medians, "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios), "opening": opened}


def steps(events, count: int) -> None:
    while count:
        count -= next(events).kind == "step"


def in_process(task: str, path: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--task", task, str(path)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def section(one: dict[str, float], two: dict[str, float], size: float) -> str:
    rows = [
        [
            "streamed, as a share of in memory: median of 12 turns (range)",
            f"{two['ratio']:.2f} ({two['low']:.2f} to {two['high']:.2f})",
            "at least 0.85",
        ],
        ["rows per second, streamed and in memory", f"{two['streamed']:,.0f} and {two['memory']:,.0f}", ""],
        ["largest resident memory of the streamed run", f"{one['peak']:.2f} GB", "below 1 GB"],
        ["of which Python and torch, before any data", f"{one['before']:.2f} GB", ""],
        ["opening, streamed (one pass: fingerprint, support, checks)", f"{one['opening']:.0f} s", ""],
        ["opening, in memory", f"{two['opening']:.0f} s", ""],
    ]
    what = f"{ROWS:,} images of 28x28 bytes, {size:.1f} GB as .npy, in the file cache; binarised dynamically"
    facts = provenance([0], Set=what, Model=f"40 latents, an MLP of two layers of 512 each way, batches of {BATCH}")
    return f"{facts}\n\n{table(['', 'measured', 'required'], rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--task", nargs=2)
    arguments = parser.parse_args()
    if arguments.task:
        task, path = arguments.task
        print(json.dumps({"alone": alone, "both": both}[task](path)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        generate(path)
        one, two, size = in_process("alone", path), in_process("both", path), path.stat().st_size / 1e9
    text = section(one, two, size)
    print(text)
    if arguments.write:
        put_into(arguments.write, "benchmarks/streaming.py", text)


if __name__ == "__main__":
    main()
