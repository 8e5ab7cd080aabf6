"""A run's settings, data and machine in words and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from vaekit.data import Schema
from vaekit.report.collect import RunFacts
from vaekit.report.components import NOTHING, TIMES, Cell, Table, cells
from vaekit.words import counted, plural

_SAID_ELSEWHERE = ("name", "about")


def describe(facts: Sequence[RunFacts]) -> tuple[str, tuple[str, ...]]:
    """What was trained on what: what all runs share, and what is each run's own."""
    sentences = [_sentences(f) for f in facts]
    shared = [all(s[i] == sentences[0][i] for s in sentences) for i in range(len(sentences[0]))]
    common = " ".join(text for text, is_shared in zip(sentences[0], shared, strict=True) if is_shared and text)
    own = [" ".join(text for text, is_shared in zip(s, shared, strict=True) if not is_shared) for s in sentences]
    return common, tuple(own)


def circumstances(facts: Sequence[RunFacts]) -> Table:
    """Where the numbers come from: data, split, weights, machine; one column for each run."""
    columns = [_circumstances_of(f) for f in facts]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = tuple(cells(name, *(column.get(name, NOTHING) for column in columns)) for name in names)
    head = ("", *(f.label for f in facts)) if len(facts) > 1 else ("", "value")
    return Table(head, rows, "Data, weights and machine.", numeric=False)


def differences(facts: Sequence[RunFacts]) -> Table | None:
    """The settings in which runs differ; None where they do not."""
    trees = [flatten(f.run.model_dump(mode="json", exclude={"run_dir", "provenance"})) for f in facts]
    paths = [path for path in dict.fromkeys(p for tree in trees for p in tree) if path not in _SAID_ELSEWHERE]
    rows = [(path, [tree.get(path, NOTHING) for tree in trees]) for path in paths]
    differing = tuple((Cell(path), *cells(*values)) for path, values in rows if len(set(values)) > 1)
    head = ("setting", *(f.label for f in facts))
    return Table(head, differing, "All other settings are the same.", numeric=False) if differing else None


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted paths and their values as text."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: _plain(value)}
    return flat


def _rows(schema: Schema) -> str:
    shape = f" {TIMES} ".join(map(str, schema.shape))
    match schema.kind:
        case "table":
            return f"tables of {shape} {plural(schema.shape[0], 'column')}"
        case "sequence":
            channels, steps = schema.shape
            return f"sequences of {counted(channels, 'channel')} and {counted(steps, 'step')}"
        case kind:
            return f"{shape} {kind}s"


def _sentences(facts: RunFacts) -> tuple[str, ...]:
    run, schema = facts.run, facts.schema
    likelihood = run.model.likelihood.kind.replace("_", " ") if run.model.likelihood else "unknown"
    return (
        _sentence(run.about),
        f"{schema.name}: {_rows(schema)}, {schema.support}.",
        f"{run.model.summary}, {likelihood} likelihood; {facts.parameters:,} weights.",
        f"{run.objective.kind.upper()} with {run.objective.gradient.kind.replace('_', ' ')} gradients, "
        f"{counted(run.objective.samples, 'sample')} of z for each row.",
        f"{_epochs(facts)} in batches of {run.train.batch_size}, {run.train.optimiser.title} at {run.train.lr:g}.",
        f"Seed {run.seed}.",
    )


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def _circumstances_of(facts: RunFacts) -> dict[str, str]:
    schema, weights = facts.schema, dict(facts.weights)
    which = weights.pop("weights", "unknown")
    seconds = sum(line.get("seconds") or 0.0 for line in facts.history)
    found = {
        "folder": str(facts.folder),
        "status": facts.status,
        "weights": f"{which}" + (f", epoch {weights['epoch']}" if "epoch" in weights else ""),
        "training": f"{_epochs(facts)}, {_duration(seconds)}" if facts.history else "unknown",
        "data": f"{schema.name}, SHA-256 {schema.fingerprint[:12]}",
        "provenance": _plain(facts.run.provenance),
        "stored as": str(schema.stored),
        "modelled as": str(schema.support) if schema.scale is None else f"{schema.support}, scaled",
        "split": schema.protocol,
        "seed": str(facts.run.seed),
    }
    if facts.held_out is not None:
        found["training rows"] = f"{facts.held_out.training_rows:,}"
    names = {"parts": "parts of other packages"}
    return found | {names.get(key, key): _plain(value) for key, value in facts.environment.items()}


def _epochs(facts: RunFacts) -> str:
    done = facts.history[-1].get("epoch") if facts.history else None
    requested = int(facts.run.train.epochs or done or 0)
    of = "" if done is None or done == requested else f"{done} of "
    return f"{of}{counted(requested, 'epoch')}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} of {_plain(one)}" for key, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
