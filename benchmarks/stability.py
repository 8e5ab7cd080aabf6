"""Does a run ever end in ruin, and if so, in silence? Every preset, short and long, and tables of many kinds.

    python benchmarks/stability.py --cells runs/stability.jsonl --write docs/stability.md

A run is ruined if its best validation loss is worse than that of the best model without z, or not finite, or if in some
epoch the loss lay far above that. It is silent if it neither ends with an error nor says so by a finding that is one.
What is a ruin is decided here from the metrics, apart from what vaekit finds. Presets train on few rows, of MNIST
where theirs is MNIST, so that the warm-ups of their schedules are squeezed into few steps; `--times 4` takes four times
as many. Cells that are finished are kept in the file of --cells, and a call goes on from there. Needs MNIST and
Fashion-MNIST in $VAEKIT_DATA.
"""

import argparse
import itertools
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facts import finish, provenance, put_into, table
from stability_tables import tables
from vaekit.data import DataSpec, Limit, prepare
from vaekit.errors import ConfigError, DataError, Diverged, VaekitError
from vaekit.runs import TrainingRun, make_run, override, preset_tree, presets

SEEDS = (0, 1, 2, 3, 4)
EPOCHS = {"1 epoch": 1, "3 epochs": 3, "short full": 6}
STEPS = 10, 3  # of an epoch: of perceptrons, and of convolutions and hierarchical VAEs, whose steps take longer
FROM_FILES = ("mnist", "fashion-mnist")
TIMES_BASELINE, NATS_A_NUMBER = 2.0, 2.0  # above the baseline, whichever is more, from which on a loss has exploded


@dataclass(frozen=True)
class Cell:
    """One run: what it is, and how it ended."""

    kind: str  # preset, table or long
    name: str
    length: str
    seed: int
    outcome: str = ""  # finished, stopped with exit 5, refused with exit 2 or 3
    steps: int = 0
    loss: float | None = None
    baseline: float | None = None
    exploded: bool = False
    findings: tuple[tuple[str, str], ...] = ()  # ids and severities
    seconds: float = 0.0

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.kind, self.name, self.length, self.seed

    @property
    def is_worse(self) -> bool:
        if self.outcome != "finished" or self.baseline is None:
            return False
        return self.loss is None or self.loss > self.baseline + 1e-3 + 1e-5 * abs(self.baseline)

    @property
    def is_ruined(self) -> bool:
        return self.is_worse or self.exploded or self.outcome == "stopped"

    @property
    def is_silent(self) -> bool:
        found = dict(self.findings)
        named = "error" in found.values() or "worse_than_baseline" in found
        return self.is_ruined and self.outcome == "finished" and not named


def cells(times: int, names: Sequence[str] = ()) -> Iterator[tuple[Cell, dict[str, Any], list[str]]]:
    """The runs that are to be tried, each with its tree of settings and what overrides it."""
    for seed in () if names else SEEDS:
        settings = ["model.latent=2", f"seed={seed}", "train.epochs=1", "limit.valid=1000"]
        yield Cell("long", "mnist model.latent=2", "1 epoch of 58,200 rows", seed), preset_tree("mnist"), settings
    for name in () if names else tables():
        yield Cell("table", name, "default", 0), {"name": "table"}, []
    trees = {name: preset_tree(name) for name in names or presets()}
    for seed, (name, tree), length in itertools.product(SEEDS, trees.items(), EPOCHS):
        quick = "mlp" in str(tree["model"].get("encoder", {})) or tree["model"].get("groups", {}).get("kind") == "dense"
        rows = min(4096, tree["train"].get("batch_size", 128) * STEPS[0 if quick else 1]) * times
        settings = [f"seed={seed}", f"train.epochs={EPOCHS[length]}", f"limit.train={rows}", "limit.valid=100"]
        yield Cell("preset", name, length, seed), tree, [*settings, "train.patience=null", "limit.memory_gb=16"]


def measure(cell: Cell, tree: dict[str, Any], settings: list[str], files: Path) -> Cell:
    """The cell with what came of it."""
    began = time.perf_counter()
    if cell.kind == "table":
        values, more = tables()[cell.name]()
        path = files / "table.npz"
        np.savez(path, X=values)
        settings = [*settings, f"data.source={path}", *more, "model.latent=2"]
    elif cell.kind == "preset" and tree["data"]["source"] in FROM_FILES:
        tree = {**tree, "data": {**tree["data"], "source": str(files / f"{tree['data']['source']}.npz")}}
    history, found, outcome = [], [], "finished"
    try:
        training = TrainingRun.start(make_run(override(tree, ["train.device=cpu", "train.compile=off", *settings])))
        for event in training.events():
            history += [dict(event.metrics)] if event.kind == "epoch" else []
            found += [(event.finding.id, event.finding.severity)] if event.finding else []
    except (ConfigError, DataError) as error:
        outcome = f"refused: {error}"
    except Diverged:
        outcome = "stopped"
    except VaekitError as error:
        outcome = f"failed: {error}"
    losses = [-line.get("valid_bound", line["valid_elbo"]) for line in history]
    baseline = -history[-1]["valid_baseline"] if history and "valid_baseline" in history[-1] else None
    highest = max([*losses, *(-line.get("train_elbo", math.inf) for line in history)], default=-math.inf)
    exploded = False
    if baseline is not None:
        values = math.prod(training.data.schema.shape)
        exploded = highest > baseline + max(TIMES_BASELINE * abs(baseline), NATS_A_NUMBER * values)
    return replace(
        cell,
        outcome=outcome,
        steps=training.state.at.step if history else 0,
        loss=min(losses, default=None),
        baseline=baseline,
        exploded=exploded,
        findings=tuple(found),
        seconds=time.perf_counter() - began,
    )


def small_sets(folder: Path, times: int) -> None:
    """The first rows of the picture sets as files of their own, so that a run begins in no time."""
    for name in FROM_FILES:
        data = prepare(DataSpec(source=name), Limit(train=6000 * times, valid=1))
        arrays = {}
        for ending, rows in (("", data.train), ("_test", data.test.take(1200))):
            arrays[f"X{ending}"] = rows.values.numpy()[:, 0]
            assert rows.labels is not None
            arrays[f"y{ending}"] = rows.labels.numpy()
        np.savez(folder / f"{name}.npz", **arrays)


def kept(path: Path | None) -> dict[tuple[str, str, str, int], Cell]:
    """The cells that a file holds; a last line that was cut off is left out."""
    found = {}
    for line in path.read_text().splitlines() if path and path.exists() else []:
        try:
            fields = json.loads(line)
        except json.JSONDecodeError:
            continue
        cell = Cell(**{**fields, "findings": tuple(map(tuple, fields["findings"]))})
        found[cell.key] = cell
    return found


def run(path: Path | None, times: int, names: Sequence[str] = (), minutes: float = math.inf) -> list[Cell]:
    """Measure what is not measured yet, for so many minutes; all cells that are."""
    done, began = kept(path), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        small_sets(files, times)
        for cell, tree, settings in cells(times, names):
            if cell.key in done or time.monotonic() - began > 60 * minutes:
                continue
            done[cell.key] = measured = measure(cell, tree, settings, files)
            if path:
                with path.open("a") as file:
                    file.write(json.dumps(asdict(measured)) + "\n")
            if measured.is_ruined:
                print(f"{'SILENT ' if measured.is_silent else ''}ruin: {measured}", flush=True)
    return list(done.values())


def page(found: Sequence[Cell], times: int) -> str:
    """What was measured, in Markdown."""
    ruined, silent = ([c for c in found if getattr(c, name)] for name in ("is_ruined", "is_silent"))
    by_preset = [c for c in found if c.kind == "preset"]
    rows = {}
    for cell in by_preset:
        rows.setdefault(cell.name, []).append(cell)
    head = ["preset", "steps", *EPOCHS, "baseline", "ruins", "silent"]
    lines = [_preset_row(name, some) for name, some in rows.items()]
    others = [c for c in found if c.kind != "preset"]
    more = [
        (
            c.name + (f", seed {c.seed}" if c.kind == "long" else ""),
            c.outcome,
            c.steps,
            _nats(c.loss),
            _nats(c.baseline),
            ", ".join(f"{name} ({severity})" for name, severity in c.findings) or "none",
            "**silent**" if c.is_silent else "named" if c.is_ruined else "no",
        )
        for c in others
    ]
    total = sum(c.seconds for c in found)
    sizes = (
        f"training rows for {STEPS[0] * times} steps an epoch, and for {STEPS[1] * times} of convolutions and "
        f"hierarchical VAEs; 100 validation rows; epochs {', '.join(map(str, EPOCHS.values()))}"
    )
    done, seeds = f"{len(found)} of {sum(1 for _ in cells(times))} planned", sorted({c.seed for c in by_preset})
    facts = provenance(seeds, Runs=done, Sizes=sizes, Time=f"{total / 60:.0f} minutes in all runs together")
    summary = (
        f"**{len(silent)} silent ruins** in {len(found)} runs; {len(ruined)} ruins at all, {_count(by_preset)} of them "
        f"among the {len(by_preset)} runs of shipped presets."
    )
    return "\n\n".join(
        [
            summary,
            facts,
            "### Presets\n\nMedian validation loss over the seeds in nats a row, and that of the best model without z.",
            table(head, lines),
            "### Two latents on the whole of MNIST, and tables\n\nTables train by the defaults, with two latents.",
            table(["run", "outcome", "steps", "loss", "baseline", "findings", "ruin"], more),
        ]
    )


def _preset_row(name: str, some: Sequence[Cell]) -> list[object]:
    def median(length: str) -> str:
        losses = [c.loss for c in some if c.length == length and c.loss is not None]
        return _nats(statistics.median(losses)) if losses else "-"

    bases = [c.baseline for c in some if c.baseline is not None]
    steps = sorted({c.steps for c in some})
    silent = sum(c.is_silent for c in some)
    middle = _nats(statistics.median(bases)) if bases else "-"
    return [
        f"`{name}`",
        ", ".join(map(str, steps)),
        *map(median, EPOCHS),
        middle,
        f"{_count(some)} of {len(some)}",
        silent,
    ]


def _count(some: Iterable[Cell]) -> int:
    return sum(cell.is_ruined for cell in some)


def _nats(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}" if abs(value) < 1e5 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, help="JSON lines of finished cells, to go on from")
    parser.add_argument("--times", type=int, default=1, help="how many times the rows, and so the steps")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further cell after so many")
    parser.add_argument("--write", type=Path, help="the page whose measured part is replaced")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = run(given.cells, given.times, minutes=given.minutes)
    text = page(found, given.times)
    if given.write:
        put_into(given.write, "stability", text)
    finish(text, not any(cell.is_silent for cell in found), None)


if __name__ == "__main__":
    main()
