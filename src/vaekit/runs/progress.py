"""Progress of a training on stderr: a bar on a terminal, a line every few epochs elsewhere."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from vaekit.evaluation.results import NATS, label_of
from vaekit.evaluation.units import in_stored_units
from vaekit.terminal import shows_bars
from vaekit.training import Event, Train


def shown(events: Iterable[Event], train: Train, log_scale: float = 0.0) -> Iterator[Event]:
    """The events of a training, shown on stderr as they pass.

    Args:
        events: See `vaekit.train`.
        train: Its settings, of which `log_every` says how often a line is printed.
        log_scale: What log-densities are above those of rows as they are stored, in nats.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not shows_bars()) as bar:
        task = bar.add_task("training", total=None)
        for event in events:
            if event.kind == "step" and event.step % 10 == 0:
                now = f"epoch {min(event.epoch + 1, event.epochs)}/{event.epochs}"
                bar.update(task, total=event.steps, completed=event.step, description=now)
            elif text := _line(replace(event, metrics=in_stored_units(event.metrics, log_scale)), train):
                console.print(escape(text), soft_wrap=True)
            yield event


def _line(event: Event, train: Train) -> str:
    """What an event is worth printing; nothing for most."""
    metrics = event.metrics
    if event.kind == "epoch":
        every = train.log_every or max(1, event.epochs // 10)
        if event.epoch % every and event.epoch not in (1, event.epochs):
            return ""
        valid = -metrics.get("valid_bound", metrics["valid_elbo"])
        return (
            f"epoch {event.epoch}/{event.epochs}: {label_of('train_loss')} {metrics['train_loss']:.2f}, "
            f"{label_of('valid_loss')} {valid:.2f} {NATS} ({label_of('distortion')} {metrics['valid_distortion']:.2f}, "
            f"{label_of('rate')} {metrics['valid_rate']:.2f})"
        )
    if event.kind == "end" and metrics["best_epoch"]:
        best = next(value for name, value in metrics.items() if name.startswith("best_valid"))
        validated = f"{label_of('valid_loss')} {-best:.2f} {NATS}"
        return f"best epoch {metrics['best_epoch']:.0f}: {validated}. {event.message}".strip()
    severity = "note" if event.finding is None else event.finding.severity
    return f"{severity}: {event.message}" if event.kind in ("notice", "finding") else ""
