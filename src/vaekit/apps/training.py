"""`vaekit train`: settings from the words of the command line, a progress bar, lines, pictures, a clean stop."""

import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from vaekit.apps.output import next_steps, print_json
from vaekit.data import names
from vaekit.errors import ConfigError
from vaekit.models.noise import Purpose, new_generator
from vaekit.report import reconstruction_picture, sample_picture
from vaekit.runs import Job, Run, make_run, override, preset, presets, read_yaml, with_source
from vaekit.training import Event

SETTING = re.compile(r"^[A-Za-z_]\w*(\.\w+)*=")


def train_command(
    arguments: Sequence[str], preset_name: str | None, config: Path | None, run_dir: Path | None, as_json: bool
) -> None:
    run = _read_run(arguments, preset_name, config)
    run = run.model_copy(update={"run_dir": str(run_dir or run.run_dir or _free_folder(run.name))})
    console = Console(stderr=as_json, highlight=False)
    job = Job.start(run)
    assert job.folder is not None
    _introduce(console, job)
    with _stop_signals() as received:
        last = _follow(console, job, received)
    summary = {"run_dir": str(job.folder.path), "status": job.folder.read("STATUS").strip(), **last}
    if received:
        console.print(f"Interrupted: the weights so far are in [bold]{job.folder.path}[/].")
    if as_json:
        print_json(summary)
    else:
        next_steps(console, job.folder.path)
    if received:
        sys.exit(128 + received[0])


def split_words(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """DATA and the settings among the words of a command line."""
    settings = [word for word in arguments if SETTING.match(word) and not Path(word).exists()]
    data = [word for word in arguments if word not in settings]
    if len(data) > 1:
        raise ConfigError(f"one DATA at a time, not {len(data)}: {', '.join(data)}; settings are written path=value")
    return (data[0] if data else None), settings


def _read_run(arguments: Sequence[str], preset_name: str | None, config: Path | None) -> Run:
    if preset_name and config:
        raise ConfigError("--preset and --config are two starting points: give one, and change settings by path=value")
    data, settings = split_words(arguments)
    if preset_name:
        tree = preset(preset_name)
    elif config:
        tree = {"name": config.stem, **read_yaml(config)}
    elif data in presets():
        tree = preset(data)
    else:
        tree = {"name": Path(data).stem} if data else {}
    if data:
        place = str(Path(data).resolve()) if Path(data).exists() and data not in names() else data
        tree = with_source(tree, place)
    return make_run(override(tree, settings))


def _free_folder(name: str) -> Path:
    number = 1
    while (path := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return path


def _introduce(console: Console, job: Job) -> None:
    assert job.folder is not None
    run, schema = job.run, job.data.schema
    weights = sum(p.numel() for p in job.model.parameters())
    device = next(job.model.parameters()).device
    splits = (job.data.train, job.data.valid, job.data.test)
    rows = ", ".join(f"{len(split)} {name}" for split, name in zip(splits, ("train", "valid", "test"), strict=True))
    likelihood = run.model.likelihood
    assert likelihood is not None
    nets = run.model.encoder.kind, run.model.decoder.kind
    for line in (
        f"[bold]{run.name}[/]: {schema.name}, {_shape(schema.shape)}, {schema.support}; {rows} rows",
        f"[dim]  {schema.protocol}[/]",
        f"[dim]  {run.model.latent} latents, {nets[0]} encoder, {nets[1]} decoder, {likelihood.kind} likelihood: "
        f"{weights:,} weights on {device}; seed {run.seed}[/]",
    ):
        console.print(line, soft_wrap=True)
    if likelihood.kind == "soft_bernoulli":
        console.print("  the loss is a soft-label cross-entropy, not a log-likelihood", style="dim")


def _follow(console: Console, job: Job, received: list[int]) -> dict[str, Any]:
    """Read the events of a job; the metrics of the last epoch."""
    every = job.run.train.log_every or max(1, job.run.train.epochs // 10)
    errors = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )
    last: dict[str, Any] = {}
    events = job.events()
    with bar:
        task = bar.add_task("training", total=None)
        for event in events:
            if event.kind == "start":
                bar.update(task, total=event.steps)
                console.print(
                    f"[dim]{'epoch':>7} {'train loss':>11} {'valid loss':>11} {'distortion':>11} {'rate':>7}[/]"
                )
            elif event.kind == "step" and event.step % 10 == 0:
                bar.update(task, completed=event.step, description=f"epoch {event.epoch}/{event.epochs}")
            elif event.kind == "epoch":
                last = {"epoch": event.epoch, "step": event.step, **event.metrics}
                if event.epoch % every == 0 or event.epoch in (1, event.epochs):
                    _line(console, event)
                    _pictures(job, event.epoch)
            elif event.kind == "end":
                last |= event.metrics
                if event.message:
                    console.print(event.message)
                console.print(f"best epoch {event.metrics['best_epoch']:.0f}: {-event.metrics['best_valid_elbo']:.2f}")
            if received:
                events.close()
                break
    return last


def _line(console: Console, event: Event) -> None:
    m = event.metrics
    losses = f"{m['train_loss']:>11.2f} {-m['valid_elbo']:>11.2f}"
    console.print(f"{event.epoch:>7} {losses} {m['valid_distortion']:>11.2f} {m['valid_rate']:>7.2f}")


def _pictures(job: Job, epoch: int) -> None:
    assert job.folder is not None
    device = next(job.model.parameters()).device
    folder = job.folder.path / "samples"
    x = job.data.valid.batch(slice(0, min(16, len(job.data.valid))))
    job.model.eval()
    reconstruction_picture(job.model, x, job.data.schema).save(folder / f"epoch-{epoch:04d}-reconstructions.png")
    generator = new_generator(job.run.seed, Purpose.GENERATE, device=device)
    picture = sample_picture(job.model, job.data.schema, 64, generator, mean=True)
    picture.save(folder / f"epoch-{epoch:04d}-samples.png")


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM instead of acting on it; a second SIGINT acts at once."""
    received: list[int] = []

    def receive(number: int, frame: object) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) if len(shape) > 1 else f"{shape[0]} columns"
