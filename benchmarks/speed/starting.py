"""What is counted from the start of a process: the tutorial's whole run, the first step, memory, a bound to reach."""

import subprocess
import sys
import tempfile
import time

from facts import paragraph, table
from sections import Floor, Section
from speed.rounds import (
    AUTO,
    EAGER,
    JAX,
    PLAIN,
    PROGRAM,
    PYTHAE,
    Bench,
    Rounds,
    at_work,
    comparison,
    in_turns,
    surroundings,
)

EPOCHS = 50  # of the tutorial
BATCH, STEPS_FOR_MEMORY = 128, 100
MOST_STEPS = 4_690  # to reach the bound: 10 epochs


def tutorial(bench: Bench) -> Section:
    """The tutorial's training on 500 images, as a user starts it."""

    epochs = 2 if bench.quick else EPOCHS

    def ours() -> float:
        with tempfile.TemporaryDirectory() as folder:
            settings = ["train.patience=null", f"train.epochs={epochs}"]
            return _seconds_of(
                ["-m", "vaekit", "train", "--preset", "tutorial", "--run-dir", f"{folder}/run", *settings]
            )

    def theirs() -> float:
        return _seconds_of(["-m", "speed.of_program", str(epochs)])

    found = in_turns(bench, {AUTO: ours, PROGRAM: theirs})
    introduction = paragraph(f"""
        `vaekit train --preset tutorial train.patience=null`, which writes its run folder with checkpoints, pictures
        and metrics, against the program as a script, which writes nothing: 500 images, 100 for validation, batches of
        16, {epochs} epochs.
    """)
    shown = comparison(found, "seconds", {"of the program's time": PROGRAM})
    ratio = found.ratio(AUTO, PROGRAM).median
    floors = [Floor("the tutorial's whole run: of the program's time", ratio, 0.6, most=True)]
    return Section("The tutorial's whole run, from the start of the process", f"{introduction}\n\n{shown}", floors)


def start(bench: Bench) -> Section:
    """Until a first step is done, with all of MNIST read; then the largest memory over some more."""
    names = (PLAIN, AUTO, PYTHAE, JAX, PROGRAM, EAGER)
    peaks = {name: [] for name in names}

    def first(name: str) -> float:
        with at_work(bench, name) as worker:
            worker.request("train", net="mlp", batch=BATCH, steps=1)
            return worker.age

    def memory(name: str) -> float:
        with at_work(bench, name) as worker:
            worker.request("train", net="mlp", batch=BATCH, steps=STEPS_FOR_MEMORY)
            return worker.peak_memory() * 1000

    found = in_turns(bench, {name: lambda n=name: first(n) for name in names})
    for _ in range(min(bench.rounds, 3)):
        for name in names:
            peaks[name] += [memory(name)]
    memories = Rounds(peaks)
    rows = [[name, f"{found.spread(name):.2f}", f"{memories.spread(name):.0f}"] for name in names]
    floors = [
        Floor("first step from the start of the process", found.median(AUTO), 2.3, " s", most=True),
        Floor(f"largest memory at batch {BATCH}", memories.median(PLAIN), 420, " MB", most=True),
    ]
    introduction = paragraph(f"""
        Seconds from the start of the process until one step at batch {BATCH} is done, the 60,000 images read; and the
        largest resident memory over {STEPS_FOR_MEMORY} steps in a process of its own. The run is set to millions of
        steps, so that as shipped it compiles within those.
    """)
    shown = table(["", "first step, seconds", "largest memory, MB"], rows)
    return Section("Start and memory", f"{introduction}\n\n{shown}", floors)


def target(bench: Bench) -> Section:
    """Time to a bound on held-out images."""
    names = (AUTO, PYTHAE, JAX)
    elbo, steps = -250.0 if bench.quick else bench.target, {name: [] for name in names}

    def reach(name: str) -> float:
        with at_work(bench, name) as worker:
            steps[name].append(worker.request("reach", batch=BATCH, elbo=elbo, most=MOST_STEPS))
            return worker.age

    found = in_turns(bench, {name: lambda n=name: reach(n) for name in names})
    taken = ", ".join(f"{name} {min(steps[name]):,} to {max(steps[name]):,}" for name in names)
    introduction = paragraph(f"""
        Seconds from the start of the process until the ELBO (soft-label cross-entropy, closed KL) on 500 held-out MNIST
        images, at the same noise for all, is at least {elbo:g} nats: batches of {BATCH}, a look every 100 steps. Steps
        taken: {taken}.
    """)
    against = {"of pythae's time": PYTHAE, "of JAX's time": JAX}
    return Section("Time to a bound", f"{introduction}\n\n{comparison(found, 'seconds', against)}")


def _seconds_of(words: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *words], env=surroundings(), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - began
