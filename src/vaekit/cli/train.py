"""`vaekit train`: settings from the words of the command line, a progress bar, a line for each epoch, a clean stop."""

import io
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape

from vaekit.cli.console import print_json, print_next_steps, progress
from vaekit.cli.console.options import FLAG, Json, NoBrowser, Words
from vaekit.cli.console.streams import ReaderLeft
from vaekit.cli.console.watched_page import WatchedPage
from vaekit.errors import ConfigError, Diverged
from vaekit.terminal import shows_bars
from vaekit.words import counted

WATCHED_SECONDS = 5.0  # between the checkpoints of a run that a page follows

if TYPE_CHECKING:
    from vaekit.findings import Finding
    from vaekit.runs import Run, TrainingRun
    from vaekit.training import Event, RunFolder


def train(
    *arguments: Words,
    preset: str | None = None,
    config: Path | None = None,
    run_dir: Path | None = None,
    resume: Path | None = None,
    extend: Path | None = None,
    source: Annotated[Path | None, Parameter(name="--from")] = None,
    strict: Annotated[bool, FLAG] = False,
    watch: Annotated[bool, FLAG] = False,
    no_browser: NoBrowser = False,
    json: Json = False,
) -> None:
    """Train a model on DATA and save it in a run folder.

    DATA is a name (see `vaekit data`) or a path. A data set that has a preset of its name is trained with that preset.

    For example:

        vaekit train digits
        vaekit train mnist --preset mnist-conv seed=1
        vaekit train table.csv model.latent=4 train.epochs=100 --run-dir runs/mine
        vaekit train digits --latent 2 --epochs 10
        vaekit train digits --watch
        vaekit train --preset tutorial objective.gradient=score
        vaekit train --resume runs/digits-1
        vaekit train --extend runs/digits-1 train.epochs=100
        vaekit train --from runs/digits-1 objective=iwae train.lr=1e-4
        torchrun --nproc-per-node 2 -m vaekit train mnist --run-dir runs/mnist

    Args:
        arguments: DATA, and settings: path=value, --path value, or the last name of a path alone where only one ends
            so.
        preset: Start from these settings (see `vaekit presets`).
        config: Start from the settings in this YAML file.
        run_dir: Folder for the run; by default the next free one under runs/.
        resume: Resume the run in this folder; the result is the same as if it had never stopped.
        extend: Train the run in this folder for more epochs, with train.epochs=N; in the folder, or in a copy at
            --run-dir.
        source: Start a new run from the settings and the weights of the run in this folder; the model must stay the
            same.
        strict: Exit with code 5 if a finding is an error; the weights are kept all the same.
        watch: Open a page that shows curves, codes and reconstructions as they change, as `vaekit explore --watch`
            does; it stays until Ctrl-C where the output is a terminal.
    """
    train_in_folder(arguments, preset, config, run_dir, resume, extend, source, strict, watch, no_browser, json)


def train_in_folder(
    arguments: Sequence[str],
    preset: str | None = None,
    config: Path | None = None,
    run_dir: Path | None = None,
    resume: Path | None = None,
    extend: Path | None = None,
    source: Path | None = None,
    strict: bool = False,
    watch: bool = False,
    no_browser: bool = False,
    json: bool = False,
) -> Path:
    """Train as `train` does; the run folder."""
    if watch:
        from vaekit.explorer.server import check_ready

        check_ready()
    with progress("reading data", None):  # from now on, since imports take long, too
        from vaekit import runs
        from vaekit.findings import as_json, has_errors
        from vaekit.processes import World
        from vaekit.training import RunFolder

        world = World.join()
        if resume or extend:
            training = _continue(arguments, preset, config, source, run_dir, resume, extend)
        else:
            settings = runs.run(*arguments, preset=preset, config=config, initialise_from=source)
            training = _start(settings, run_dir)
    folder = Path(training.run.run_dir or "")
    console = Console(stderr=json, highlight=False, quiet=not world.leads)
    page = WatchedPage(folder, console, browser=not no_browser) if watch and world.leads else None
    try:
        with runs.stop_signals(training) as received:
            last, found, ended = _follow(console, training, page)
    except ReaderLeft:
        sys.exit(128 + signal.SIGPIPE)  # the weights are saved, the run is not finished
    finally:
        if page is not None and sys.exc_info()[0] is not None:
            page.close()
    status = RunFolder(folder).status() if world.leads else ""
    if received and not ended:
        console.print(
            f"Interrupted. To go on: [bold]vaekit train --resume {shlex.quote(str(folder))}[/]", soft_wrap=True
        )
    if json and world.leads:
        facts = {"run_dir": str(folder), "status": status, "provenance": training.run.provenance}
        print_json({**facts, "log_scale": training.log_scale, **last, "findings": as_json(found)})
    elif ended:
        _print_findings(console, found)
        print_next_steps(console, folder, training.data.schema)
    if page is not None:
        page.stay() if ended and not json else page.close()
    if received and not ended:
        sys.exit(128 + received[0])
    if strict and has_errors(found):
        raise Diverged(
            f"--strict: {', '.join(one.id for one in found if one.severity == 'error')} (see above); the weights are "
            f"kept in {folder}"
        )
    return folder


def _start(settings: "Run", run_dir: Path | None) -> "TrainingRun":
    """A new run, or the same one again where torchrun has restarted this process."""
    from vaekit.runs import TrainingRun

    folder = _folder(settings, run_dir)
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    if folder and restarted and (Path(folder) / "run.yaml").exists():
        return TrainingRun.resume(folder)
    return TrainingRun.start(settings.model_copy(update={"run_dir": folder}), above=Path("runs"))


def _folder(settings: "Run", run_dir: Path | None) -> str | None:
    """The run's folder, the same at every process and after every restart; None for the next free one."""
    folder = run_dir or settings.run_dir
    if folder is None and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0:
        raise ConfigError(
            "torchrun is to restart this run when it fails: give --run-dir, so that a restart finds it", field="run_dir"
        )
    return None if folder is None else str(folder)


def _continue(
    arguments: Sequence[str],
    preset: str | None,
    config: Path | None,
    source: Path | None,
    run_dir: Path | None,
    resume: Path | None,
    extended: Path | None,
) -> "TrainingRun":
    """An existing run, resumed as it is or extended."""
    from vaekit.runs import TrainingRun, extend, split_words

    options = {"--preset": preset, "--config": config, "--from": source}
    given = [f"{option} {value}" for option, value in options.items() if value]
    if extended is None and resume:
        if others := [*arguments, *given, *([str(run_dir)] if run_dir else [])]:
            raise ConfigError(
                f"--resume continues with the settings of the run, and {', '.join(others)} would change them: "
                f"leave it out; for more epochs use `vaekit train --extend {shlex.quote(str(resume))} "
                "train.epochs=N`, for other settings --from",
                field="resume",
                value=resume,
            )
        return TrainingRun.resume(resume)
    data, settings = split_words(list(arguments))
    if others := [*given, *(["--resume"] if resume else []), *([data] if data else [])]:
        raise ConfigError(
            f"--extend continues with the settings of the run, and {', '.join(others)} would change it: leave it out",
            field="extend",
            value=extended,
        )
    return extend(cast(Path, extended), settings, run_dir)


def _introduce(console: Console, training: "TrainingRun") -> None:
    from vaekit.evaluation.results import SCORE, label_of, units_in_words

    run, schema = training.run, training.data.schema
    weights = sum(p.numel() for p in training.model.parameters())
    device = next(training.model.parameters()).device
    splits = (training.data.train, training.data.valid, training.data.test)
    rows = ", ".join(f"{len(split)} {name}" for split, name in zip(splits, ("train", "valid", "test"), strict=True))
    data = "" if schema.name == run.name else f"{escape(schema.name)}, "
    likelihood = run.model.likelihood
    assert likelihood is not None
    for line in (
        f"[bold]{escape(run.name)}[/]: {data}{_shape(schema.shape)}, {schema.support}; {rows} rows",
        f"[dim]  {escape(schema.protocol)}[/]",
        f"[dim]  {run.model.summary}, {likelihood.kind} likelihood: {weights:,} weights on {device}; "
        f"seed {run.seed}[/]",
    ):
        console.print(line, soft_wrap=True)
    for text in (*schema.notices, *run.provenance):
        console.print(f"  {text}", style="dim", soft_wrap=True, markup=False)
    if training.log_scale:
        console.print(f"  {units_in_words(training.log_scale)}", style="dim", soft_wrap=True)
    if likelihood.is_score:
        console.print(f"  the {label_of('loss')} is {SCORE}", style="dim")


def _follow(
    console: Console, training: "TrainingRun", page: WatchedPage | None
) -> "tuple[dict[str, Any], list[Finding], bool]":
    """Read the events of a run; the metrics of the last epoch, the findings, and whether training came to its end."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from vaekit.evaluation import in_stored_units
    from vaekit.evaluation.estimate import hundredths
    from vaekit.evaluation.results import label_of

    errors = Console(stderr=True, quiet=console.quiet)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=console.quiet or not shows_bars(),
    )
    last: dict[str, Any] = {}
    found: list[Finding] = []
    ended = False
    raw_events = training.events() if page is None else training.events(save_seconds=WATCHED_SECONDS)
    with bar, closing(raw_events) as events:
        task = bar.add_task("training", total=None)
        for raw in events:
            event = replace(raw, metrics=in_stored_units(raw.metrics, training.log_scale))
            if event.kind == "start":
                _introduce(console, training)
                bar.update(task, total=event.steps, completed=event.step)
                if event.step:
                    console.print(f"going on from step {event.step} of {event.steps}")
                columns = " ".join(f"{label_of(name):>15}" for name in ("train_loss", "valid_loss", "distortion"))
                console.print(f"[dim]{'epoch':>7} {columns} {label_of('rate'):>7}[/]")
            elif event.kind == "step" and event.step % 10 == 0:
                now = f"epoch {min(event.epoch + 1, event.epochs)}/{event.epochs}"
                bar.update(task, total=event.steps, completed=event.step, description=now)
            elif event.kind == "epoch":
                last = {"epoch": event.epoch, "step": event.step, **event.metrics}
                every = training.run.train.log_every or max(1, event.epochs // 10)
                if event.epoch % every == 0 or event.epoch in (1, event.epochs):
                    _print_epoch(console, event)
                pictured = training.run.train.log_every or max(1, event.epochs // 5)
                if event.epoch % pictured == 0 or event.epoch in (1, event.epochs):
                    _write_pictures(console, training, event.epoch)
            elif event.kind == "notice":
                errors.print(f"[yellow]note:[/] {escape(event.message)}", soft_wrap=True)
            elif event.finding is not None:
                found += [event.finding]
                errors.print(f"{_severity(event.finding)} {escape(event.message)}", soft_wrap=True)
            elif event.kind == "end":
                ended = True
                last |= event.metrics
                if event.message:
                    console.print(event.message)
                best = next(value for name, value in event.metrics.items() if name.startswith("best_valid"))
                console.print(f"best epoch {event.metrics['best_epoch']:.0f}: {hundredths(-best)}")
    return last, found, ended


_COLOURS = {"error": "bold red", "warning": "yellow", "info": "dim"}


def _severity(finding: "Finding") -> str:
    return f"[{_COLOURS[finding.severity]}]{finding.severity}:[/]"


def _print_findings(console: Console, found: "Sequence[Finding]") -> None:
    """The names of all findings, after the run."""
    if found:
        names = ", ".join(f"{_severity(one)} {one.id}" for one in found)
        console.print(f"Findings (each is explained above, and in findings.json): {names}", soft_wrap=True)


def _print_epoch(console: Console, event: "Event") -> None:
    from vaekit.evaluation.estimate import hundredths

    m = event.metrics
    numbers = (m["train_loss"], -m.get("valid_bound", m["valid_elbo"]), m["valid_distortion"], m["valid_rate"])
    loss, valid, distortion, rate = map(hundredths, numbers)
    console.print(f"{event.epoch:>7} {loss:>15} {valid:>15} {distortion:>15} {rate:>7}", soft_wrap=True)


def _write_pictures(console: Console, training: "TrainingRun", epoch: int) -> None:
    if training.folder is None or training.run.train.parallel == "fsdp":
        return
    try:
        _draw(training, training.folder, epoch)
    except OSError as error:
        console.print(f"[yellow]note:[/] the pictures of epoch {epoch} could not be written ({error.strerror})")


def _draw(training: "TrainingRun", folder: "RunFolder", epoch: int) -> None:
    from vaekit.models import Model
    from vaekit.randomness import Purpose, new_generator
    from vaekit.report import reconstruction_picture, sample_picture

    device = next(training.model.parameters()).device
    index = slice(0, min(16, len(training.data.valid)))
    model = cast("Model", training.state.model.eval())
    generator = new_generator(training.run.seed, Purpose.GENERATE, device=device)
    pictures = {
        "reconstructions": reconstruction_picture(model, training.data.schema, **training.data.valid.inputs(index)),
        "samples": sample_picture(model, training.data.schema, 64, generator, mean=True),
    }
    for name, picture in pictures.items():
        content = io.BytesIO()
        picture.save(content, "PNG")
        folder.write(f"samples/epoch-{epoch:04d}-{name}.png", content.getvalue())


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) if len(shape) > 1 else counted(shape[0], "column")
