"""The figures that presets promise, measured on test rows over seeds.

    python benchmarks/quality.py --write docs/quality.md
    python benchmarks/quality.py --only mnist-10m --bf16 --runs runs/quality --write docs/quality.md

A page that is there already keeps its other parts: each can be measured on its own. MNIST needs its files in
$VAEKIT_DATA or a network to fetch them, and a quiet machine, because training time is one of the figures. With --runs,
trained runs and their estimates are kept there, and what was begun there goes on. Where the worst of the seeds has to
reach a figure, few samples of each say which that is. On a CPU with products in bf16 --bf16 halves the time of the many
samples that follow; p(x, z) is then that of the networks in bf16, and the bound a bound all the same.
"""

import argparse
import json
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facts import mean_and_error, provenance, table
from vaekit.data import Dataset
from vaekit.evaluation import Estimate, baseline, evaluate
from vaekit.models import Conditional
from vaekit.models.networks.precision import networks_in_bf16
from vaekit.randomness import Purpose, new_generator
from vaekit.runs import TrainedRun, TrainingRun, open_run, preset, reopen

MINUTES = 5.0
COLUMNS = ("log_likelihood", "elbo", "bits_per_dim", "rate", "distortion", "active_units")


@dataclass(frozen=True)
class Promise:
    """What a preset has to reach on its test rows, in nats, and how that is measured."""

    name: str
    samples: int  # K of the log-likelihood
    seeds: tuple[int, ...]
    log_likelihood: float
    worst_at: int | None = None  # the worst seed has to reach it, by so many samples; else the mean
    elbo: float | None = None
    seconds: float | None = None  # of training


PROMISES = (
    Promise("digits", 64, (0, 1, 2), log_likelihood=-93.0, elbo=-96.0),
    Promise("mnist", 500, (0,), log_likelihood=-87.0, seconds=60 * MINUTES),
    Promise("mnist-10m", 5000, (0, 1, 2), log_likelihood=-85.0, worst_at=100, seconds=600),
    Promise("mnist-30m", 5000, (0, 1, 2), log_likelihood=-83.5, worst_at=100, seconds=1800),
)


@dataclass(frozen=True)
class Measured:
    seed: int
    samples: int
    half: bool  # whether networks computed in bf16
    estimates: dict[str, Estimate]
    baseline: Estimate
    epochs: int
    steps: int
    best_epoch: int
    training: float  # seconds, validation after each epoch included
    evaluation: float | None  # seconds; None if it was done in parts
    protocol: str
    trained_in: str  # fp32 or bf16


def measure_all(promise: Promise, seeds: Sequence[int], runs: Path, half: bool) -> list[Measured]:
    """Each seed; or each with few samples, and the worst of them with as many as are promised."""
    if promise.worst_at is None:
        return [measure(promise, seed, runs, promise.samples, half) for seed in seeds]
    few = [measure(promise, seed, runs, promise.worst_at, False) for seed in seeds]
    worst = min(few, key=lambda run: _value(run, "log_likelihood")).seed
    many = [promise.worst_at, promise.samples] if half else [promise.samples]
    return few + [measure(promise, worst, runs, samples, half) for samples in many]


def measure(promise: Promise, seed: int, runs: Path, samples: int, half: bool) -> Measured:
    trained_run = trained(promise.name, seed, runs / f"{promise.name}-{seed}")
    lines, data = list(trained_run.folder.history()), reopen(trained_run)
    estimates, evaluation = evaluated(trained_run, data, samples, seed, half)
    some = data.train.batch(slice(0, min(10_000, len(data.train))), new_generator(seed, Purpose.BASELINE))
    likelihood = trained_run.model.likelihood
    assert isinstance(likelihood, Conditional)
    simple = baseline(likelihood, some, data.test)
    print(f"{promise.name}, seed {seed}, K = {samples}: {show(estimates['log_likelihood'])} nats", flush=True)
    progress = json.loads(trained_run.folder.checkpoints.newest().files["progress.json"])["progress"]
    return Measured(
        seed=seed,
        samples=samples,
        half=half,
        estimates=estimates,
        baseline=simple,
        epochs=len(lines),
        steps=lines[-1]["step"],
        best_epoch=int(trained_run.weights["epoch"]),
        training=sum(line["seconds"] for line in lines),
        evaluation=evaluation,
        protocol=data.schema.protocol,
        trained_in=progress["precision"],
    )


def trained(name: str, seed: int, folder: Path) -> TrainedRun:
    """The run of a preset in a folder, trained to its end if it has not been."""
    if not (folder / "STATUS").exists():
        training = TrainingRun.start(preset(name).model_copy(update={"seed": seed, "run_dir": str(folder)}))
    elif (folder / "STATUS").read_text().strip() != "finished":
        training = TrainingRun.resume(folder)
    else:
        return open_run(folder)
    for event in training.events():
        if event.kind == "epoch" and event.epoch % 10 == 0:
            print(f"{folder.name}: epoch {event.epoch} of {event.epochs}", flush=True)
    return open_run(folder)


def evaluated(
    trained_run: TrainedRun, data: Dataset, samples: int, seed: int, half: bool
) -> tuple[dict[str, Estimate], float | None]:
    """The estimates on the test rows, and the seconds they took; from the run's folder where they were made before."""
    how = f"{samples}-bf16" if half else f"{samples}"
    kept = trained_run.folder.path / f"estimates-{how}.json"
    if not kept.exists():
        print(f"{trained_run.folder.path.name}: evaluating {len(data.test):,} rows, K = {samples}", flush=True)
        blocks = trained_run.folder.path / f"blocks-{how}"
        begun, began = blocks.exists(), time.perf_counter()
        with networks_in_bf16(half):
            found = evaluate(trained_run.model, data.test, samples, seed=seed, keep=blocks)
        seconds = None if begun else time.perf_counter() - began
        estimates = {name: estimate.as_dict() for name, estimate in found.items()}
        kept.write_text(json.dumps({"seconds": seconds, "estimates": estimates}, indent=1))
        shutil.rmtree(blocks)
    made = json.loads(kept.read_text())
    return {name: Estimate(**estimate) for name, estimate in made["estimates"].items()}, made["seconds"]


def show(estimate: Estimate) -> str:
    value, error = estimate.numbers()
    return f"{value} ± {error}" if error else value


def rows_table(runs: Sequence[Measured]) -> str:
    header = ["seed", "K", "networks", "log-likelihood", "ELBO", "bits/dim", "rate", "distortion", "active units"]
    header += ["best epoch", "training, s", "evaluation, s"]
    rows = []
    for run in runs:
        estimates = [show(run.estimates[name]) for name in COLUMNS]
        epochs = f"{run.best_epoch} of {run.epochs}"
        time_taken = "in parts" if run.evaluation is None else f"{run.evaluation:.1f}"
        networks = "bf16" if run.half else "fp32"
        rows += [[run.seed, run.samples, networks, *estimates, epochs, f"{run.training:.1f}", time_taken]]
    return table(header, rows)


def verdicts(promise: Promise, runs: Sequence[Measured]) -> tuple[str, bool]:
    rows, passed = [], True
    full = as_promised(promise, runs)
    which = "mean over seeds" if promise.worst_at is None else "worst of the seeds"
    found = {
        f"log-likelihood, {which}": ([_value(run, "log_likelihood") for run in full], promise.log_likelihood),
        f"ELBO, {which}": ([_value(run, "elbo") for run in full], promise.elbo),
    }
    for name, (values, wanted) in found.items():
        if wanted is None:
            continue
        mean, error = mean_and_error(values)
        spread = "" if math.isnan(error) else f" ± {error:.2f}"
        passed &= mean >= wanted
        rows += [[name, f"{mean:.2f}{spread} nats", f"{wanted:g} nats or better", _word(mean >= wanted)]]
    if promise.seconds is not None:
        fastest = min(run.training for run in runs)  # other work on the machine can only slow it
        passed &= fastest <= promise.seconds
        rows += [["training, fastest seed", f"{fastest:.0f} s", f"at most {promise.seconds:g} s on two idle cores"]]
        rows[-1] += [_word(fastest <= promise.seconds)]
    return table(["", "measured", "required", ""], rows), passed


def as_promised(promise: Promise, runs: Sequence[Measured]) -> list[Measured]:
    """Those with as many samples as are promised; the others show which seed that has to be."""
    return [run for run in runs if run.samples == promise.samples]


def _value(run: Measured, name: str) -> float:
    value = run.estimates[name].value
    assert value is not None
    return value


def _word(passed: bool) -> str:
    return "pass" if passed else "**FAIL**"


def part(promise: Promise, runs: Sequence[Measured]) -> tuple[str, bool]:
    judged, passed = verdicts(promise, runs)
    rows, mean, full = runs[0].estimates["elbo"].n, statistics.fmean, as_promised(promise, runs)
    which = "" if promise.worst_at is None else f", of the seed that is worst with K = {promise.worst_at}"
    warnings = {e.warning for run in full for e in run.estimates.values() if e.warning}
    facts = provenance(
        dict.fromkeys(run.seed for run in runs),
        Protocol=runs[0].protocol,
        Training=f"{runs[0].steps:,} steps ({runs[0].epochs} epochs) in {runs[0].trained_in}, whatever time they take",
        Evaluation=f"all {rows:,} test rows; importance-weighted bound with K = {promise.samples}{which}",
        Weights="those of the epoch that validated best",
        **({"Warnings": "; ".join(sorted(warnings))} if warnings else {}),
    )
    gain = mean(_value(run, "log_likelihood") - run.baseline.value for run in full if run.baseline.value is not None)
    return (
        f"""## {promise.name}

{facts}

{judged}

{rows_table(runs)}

Values are means over the test rows, in nats for each row unless the column says otherwise, and their standard errors
over rows; the errors of the means over seeds above are over seeds, on the same test rows. The best model without
latents, each pixel on its own, has {show(runs[0].baseline)} nats: the VAE is {gain:.1f} nats better.
""",
        passed,
    )


TITLE = """# The figures that the presets promise

Written by `benchmarks/quality.py`; each part says when, where and how it was measured.
"""


def merge(page: str, parts: dict[str, str]) -> str:
    """The page with its parts replaced by those measured now; the others stay."""
    old = {text.split("\n", 1)[0]: "## " + text.rstrip() + "\n" for text in page.split("\n## ")[1:]}
    every = old | parts
    promised = [promise.name for promise in PROMISES if promise.name in every]
    return "\n".join([TITLE, *(every[name] for name in dict.fromkeys((*promised, *every)))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[promise.name for promise in PROMISES], help="measure this one alone")
    parser.add_argument("--seeds", type=int, nargs="+", help="by default those of each promise")
    parser.add_argument("--bf16", action="store_true", help="evaluate with networks in bf16")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="keep runs here, and go on with those")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there as well")
    args = parser.parse_args()
    parts, every = {}, True
    kept = args.runs or Path(tempfile.mkdtemp())
    kept.mkdir(parents=True, exist_ok=True)
    for promise in PROMISES:
        if args.only not in (None, promise.name):
            continue
        runs = measure_all(promise, args.seeds or promise.seeds, kept, args.bf16)
        parts[promise.name], passed = part(promise, runs)
        every &= passed
        print(f"\n{parts[promise.name]}")
        if args.write:
            args.write.write_text(merge(args.write.read_text() if args.write.exists() else "", parts))
    raise SystemExit(0 if every else 1)


if __name__ == "__main__":
    main()
