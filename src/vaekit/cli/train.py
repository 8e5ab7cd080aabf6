"""`vaekit train`: settings from the words of the command line, a progress bar, lines, pictures, a clean stop."""

import io
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from vaekit.cli.output import next_steps, print_json, shows_bars
from vaekit.cli.streams import ReaderLeft
from vaekit.distributed import World
from vaekit.errors import ConfigError, Diverged
from vaekit.evaluation import in_stored_units
from vaekit.evaluation.estimate import hundredths
from vaekit.evaluation.units import units_in_words
from vaekit.findings import Finding, has_errors
from vaekit.findings import as_json as as_json_findings
from vaekit.models import Model
from vaekit.randomness import Purpose, new_generator
from vaekit.report import reconstruction_picture, sample_picture
from vaekit.runs import Run, TrainingRun, extend, run, split_words, stop_signals
from vaekit.training import Event, RunFolder


def train_command(
    arguments: Sequence[str],
    preset_name: str | None,
    config: Path | None,
    run_dir: Path | None,
    resume: Path | None,
    as_json: bool,
    extended: Path | None = None,
    source: Path | None = None,
    strict: bool = False,
) -> None:
    world = World.join()
    if resume or extended:
        job = _go_on(arguments, preset_name, config, source, run_dir, resume, extended)
    else:
        settings = run(*arguments, preset=preset_name, config=config, initialise_from=source)
        place = _place(settings, run_dir)
        again = place and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
        if place and again and (Path(place) / "run.yaml").exists():
            job = TrainingRun.resume(place)
        else:
            job = TrainingRun.start(settings.model_copy(update={"run_dir": place}), above=Path("runs"))
    folder = Path(job.run.run_dir or "")
    console = Console(stderr=as_json, highlight=False, quiet=not world.leads)
    try:
        with stop_signals(job) as received:
            last, found, ended = _follow(console, job)
    except ReaderLeft:
        sys.exit(128 + signal.SIGPIPE)  # saved, and not finished
    status = RunFolder(folder).status() if world.leads else ""
    if received and not ended:
        console.print(
            f"Interrupted. To go on: [bold]vaekit train --resume {shlex.quote(str(folder))}[/]", soft_wrap=True
        )
    if as_json and world.leads:
        facts = {"run_dir": str(folder), "status": status, "provenance": job.run.provenance}
        print_json({**facts, "log_scale": job.log_scale, **last, "findings": as_json_findings(found)})
    elif ended:
        _sum_up(console, found)
        next_steps(console, folder)
    if received and not ended:
        sys.exit(128 + received[0])
    if strict and has_errors(found):
        raise Diverged(
            f"--strict: {', '.join(one.id for one in found if one.severity == 'error')} (see above); the weights are "
            f"kept in {folder}"
        )


def _go_on(
    arguments: Sequence[str],
    preset_name: str | None,
    config: Path | None,
    source: Path | None,
    run_dir: Path | None,
    resume: Path | None,
    extended: Path | None,
) -> TrainingRun:
    """The job of a run that is there already: resumed as it is, or extended."""
    others = {"--preset": preset_name, "--config": config, "--from": source}
    starts = [f"{option} {value}" for option, value in others.items() if value]
    if extended is None and resume:
        if others := [*arguments, *starts, *([str(run_dir)] if run_dir else [])]:
            raise ConfigError(
                f"--resume goes on with the settings that the run has, and {', '.join(others)} would change them: "
                f"leave it out; more epochs are had by `vaekit train --extend {shlex.quote(str(resume))} "
                "train.epochs=N`, other settings by --from"
            )
        return TrainingRun.resume(resume)
    data, settings = split_words(list(arguments))
    if others := [*starts, *(["--resume"] if resume else []), *([data] if data else [])]:
        raise ConfigError(
            f"--extend goes on with what the run has, and {', '.join(others)} would change it: leave it out"
        )
    return extend(cast(Path, extended), settings, run_dir)


def _place(run: Run, run_dir: Path | None) -> str | None:
    """The run's folder, the same at every process and after every restart; None for the next free one."""
    given = run_dir or run.run_dir
    if given is None and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0:
        raise ConfigError("torchrun is to restart this run when it fails: give --run-dir, so that a restart finds it")
    return None if given is None else str(given)


def _introduce(console: Console, job: TrainingRun) -> None:
    trained, schema = job.run, job.data.schema
    weights = sum(p.numel() for p in job.model.parameters())
    device = next(job.model.parameters()).device
    splits = (job.data.train, job.data.valid, job.data.test)
    rows = ", ".join(f"{len(split)} {name}" for split, name in zip(splits, ("train", "valid", "test"), strict=True))
    likelihood = trained.model.likelihood
    assert likelihood is not None
    for line in (
        f"[bold]{escape(trained.name)}[/]: {escape(schema.name)}, {_shape(schema.shape)}, {schema.support}; "
        f"{rows} rows",
        f"[dim]  {escape(schema.protocol)}[/]",
        f"[dim]  {trained.model.summary}, {likelihood.kind} likelihood: {weights:,} weights on {device}; "
        f"seed {trained.seed}[/]",
    ):
        console.print(line, soft_wrap=True)
    for text in trained.provenance:
        console.print(f"  {text}", style="dim", soft_wrap=True, markup=False)
    if job.log_scale:
        console.print(f"  {units_in_words(job.log_scale)}", style="dim", soft_wrap=True)
    if likelihood.kind == "soft_bernoulli":
        console.print("  the loss is a soft-label cross-entropy, not a log-likelihood", style="dim")


def _follow(console: Console, job: TrainingRun) -> tuple[dict[str, Any], list[Finding], bool]:
    """Read the events of a job; the metrics of the last epoch, the findings, and whether training came to its end."""
    every = job.run.train.log_every or max(1, job.run.train.epochs // 10)
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
    with bar, closing(job.events()) as events:
        task = bar.add_task("training", total=None)
        for given in events:
            event = replace(given, metrics=in_stored_units(given.metrics, job.log_scale))
            if event.kind == "start":
                _introduce(console, job)
                bar.update(task, total=event.steps, completed=event.step)
                if event.step:
                    console.print(f"going on from step {event.step} of {event.steps}")
                console.print(
                    f"[dim]{'epoch':>7} {'train loss':>11} {'valid loss':>11} {'distortion':>11} {'rate':>7}[/]"
                )
            elif event.kind == "step" and event.step % 10 == 0:
                now = f"epoch {min(event.epoch + 1, event.epochs)}/{event.epochs}"
                bar.update(task, total=event.steps, completed=event.step, description=now)
            elif event.kind == "epoch":
                last = {"epoch": event.epoch, "step": event.step, **event.metrics}
                if event.epoch % every == 0 or event.epoch in (1, event.epochs):
                    _line(console, event)
                    _pictures(console, job, event.epoch)
            elif event.kind == "notice":
                errors.print(f"[yellow]note:[/] {escape(event.message)}", soft_wrap=True)
            elif event.finding is not None:
                found += [event.finding]
                errors.print(f"{_mark(event.finding)} {escape(event.message)}", soft_wrap=True)
            elif event.kind == "end":
                ended = True
                last |= event.metrics
                if event.message:
                    console.print(event.message)
                best = next(value for name, value in event.metrics.items() if name.startswith("best_valid"))
                console.print(f"best epoch {event.metrics['best_epoch']:.0f}: {hundredths(-best)}")
    return last, found, ended


_COLOURS = {"error": "bold red", "warning": "yellow", "info": "dim"}


def _mark(finding: Finding) -> str:
    return f"[{_COLOURS[finding.severity]}]{finding.severity}:[/]"


def _sum_up(console: Console, found: Sequence[Finding]) -> None:
    """The findings again, by name, where the run is summed up."""
    if found:
        names = ", ".join(f"{_mark(one)} {one.id}" for one in found)
        console.print(f"Findings (each is explained above, and in findings.json): {names}", soft_wrap=True)


def _line(console: Console, event: Event) -> None:
    m = event.metrics
    numbers = (m["train_loss"], -m.get("valid_bound", m["valid_elbo"]), m["valid_distortion"], m["valid_rate"])
    loss, valid, distortion, rate = map(hundredths, numbers)
    console.print(f"{event.epoch:>7} {loss:>11} {valid:>11} {distortion:>11} {rate:>7}", soft_wrap=True)


def _pictures(console: Console, job: TrainingRun, epoch: int) -> None:
    if job.folder is None or job.run.train.parallel == "fsdp":
        return
    try:
        _draw(job, job.folder, epoch)
    except OSError as error:
        console.print(f"[yellow]note:[/] the pictures of epoch {epoch} could not be written ({error.strerror})")


def _draw(job: TrainingRun, folder: RunFolder, epoch: int) -> None:
    device = next(job.model.parameters()).device
    index = slice(0, min(16, len(job.data.valid)))
    x, told = job.data.valid.batch(index), job.data.valid.context_of(index)
    model = cast(Model, job.state.model.eval())
    generator = new_generator(job.run.seed, Purpose.GENERATE, device=device)
    pictures = {
        "reconstructions": reconstruction_picture(model, x, job.data.schema, told),
        "samples": sample_picture(model, job.data.schema, 64, generator, mean=True),
    }
    for name, picture in pictures.items():
        content = io.BytesIO()
        picture.save(content, "PNG")
        folder.write(f"samples/epoch-{epoch:04d}-{name}.png", content.getvalue())


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) if len(shape) > 1 else f"{shape[0]} columns"
