"""The numbers of a page as text: headline, estimates side by side, and whether they may be compared."""

import math
import re
from collections.abc import Sequence

from vaekit.evaluation import Estimate
from vaekit.evaluation.estimate import hundredths
from vaekit.evaluation.results import (
    MEASURES,
    NATS,
    NOT_A_LIKELIHOOD,
    SCORE,
    Measure,
    label_of,
    measure_of,
    units_in_words,
)
from vaekit.report.collect import HeldOut, RunFacts
from vaekit.report.components import MINUS, NOTHING, Card, Cell, Table, cells, typeset
from vaekit.words import counted

_CLEAR = 2.0  # combined standard errors by which a best value has to lead


def number(text: str) -> str:
    """A number's text with a minus sign in place of the hyphen."""
    return text.replace("-", MINUS, 1) if text.startswith("-") else text


def estimates_of(held_out: HeldOut) -> dict[str, Estimate]:
    """All estimates of a run, the baseline among them, in the order that they are read in."""
    found = dict(held_out.estimates)
    if held_out.baseline is not None:
        found["baseline"] = held_out.baseline
    return {name: found[name] for name in [*MEASURES, *found] if name in found}


def shown_measure(quantity: str, facts: Sequence[RunFacts]) -> Measure:
    """The measure of a quantity; of runs whose p(x|z) is a score, none is called a likelihood."""
    measure = measure_of(quantity)
    return measure.of_score if all(f.is_score for f in facts) else measure


def estimates_table(facts: Sequence[RunFacts]) -> Table | None:
    """The estimates of one run in full, or of several side by side; None where there are none."""
    known = [(f, estimates_of(f.held_out)) for f in facts if f.held_out is not None]
    if not known:
        return None
    quantities = list(dict.fromkeys(name for _, estimates in known for name in estimates))
    warned = [e.warning for _, estimates in known for e in estimates.values() if e.warning]
    notes = dict.fromkeys(part for warning in warned for part in split_warning(warning))
    if len(facts) == 1:
        (_, estimates), head = known[0], ("quantity", "value", "standard error", "unit", "n")
        rows = [(_row_head(name, facts), *_spread(estimates[name])) for name in quantities]
    else:
        head = ("quantity", *(f.label for f in facts))
        by_label = {f.label: estimates for f, estimates in known}
        rows = [(_row_head(name, facts), *_side_by_side(name, facts, by_label)) for name in quantities]
    return Table(head, tuple(rows), _caption(facts), tuple(notes))


def why_not_comparable(facts: Sequence[RunFacts]) -> str:
    """Why the numbers of these runs must not be ranked, in a sentence; empty where they may be."""
    first, *others = facts
    if any(f.schema.fingerprint != first.schema.fingerprint for f in others):
        return "The runs are of different data: their numbers cannot be compared."
    if any(f.is_score != first.is_score for f in others):
        return f"Some runs are scored by {SCORE}: their numbers cannot be compared with those of the others."
    kinds = [(f.measure, f.schema.support if f.measure == "mass" else None) for f in facts]
    if any(kind != kinds[0] for kind in kinds[1:]):
        return (
            "The runs model the same data as different things (binarised or not, or masses and densities): their "
            "numbers cannot be compared."
        )
    if any(f.schema.protocol != first.schema.protocol for f in others):
        return "The runs split or prepared the data differently, so that their numbers are not strictly comparable."
    if any(f.samples != first.samples or _rows(f) != _rows(first) for f in others):
        return "The runs were evaluated on different rows: their numbers are not strictly comparable."
    return ""


def headline(facts: Sequence[RunFacts]) -> tuple[Card, ...]:
    """The key numbers: of one run several, of several runs one each."""
    if len(facts) > 1:
        return tuple(_card_of_run(f) for f in facts)
    only = facts[0]
    if only.held_out is None:
        return tuple(_card_of_history(only))
    estimates = estimates_of(only.held_out)
    wanted = ("log_likelihood", "elbo", "baseline", "bits_per_dim", "active_units")
    shown = [(name, estimates[name]) for name in wanted if name in estimates]
    return tuple(_card(shown_measure(name, facts).label, e) for name, e in shown if e.value is not None)


def brief(warning: str) -> str:
    """The short form of a warning: what stands before the colon of each of its parts."""
    return "; ".join(part.split(":")[0] for part in split_warning(warning))


def split_warning(warning: str) -> list[str]:
    """The warnings that are joined in one, each a short form, a colon and the rest, which may hold a semicolon."""
    return re.split(r"; (?=[^;]*:)", warning)


def texts(estimate: Estimate) -> tuple[str, str]:
    """Value and standard error as text; a count of dimensions is an integer, however sure it is."""
    value, error = estimate.numbers()
    if estimate.value is not None and estimate.unit.endswith("dimensions"):
        value, error = f"{estimate.value:.0f}", f"{estimate.stderr:.1g}" if estimate.stderr >= 0.01 else ""
    return number(value), error


def _card(label: str, estimate: Estimate, remark: str = "") -> Card:
    value, error = texts(estimate)
    remarks = [part for part in (remark, brief(estimate.warning)) if part]
    return Card(label, value, error, estimate.unit, "; ".join(remarks))


def _card_of_run(facts: RunFacts) -> Card:
    if facts.held_out is None:
        return next(iter(_card_of_history(facts)), Card(facts.label, "no numbers"))
    estimate = facts.held_out.estimates["log_likelihood"]
    return _card(facts.label, estimate, shown_measure("log_likelihood", [facts]).label)


def _card_of_history(facts: RunFacts) -> list[Card]:
    """The validation of training, for a run whose data is gone."""
    judge = "valid_bound" if "valid_bound" in facts.weights else "valid_elbo"
    if judge not in facts.weights:
        return []
    value = hundredths(float(facts.weights[judge]) - facts.log_scale)
    several = "samples of z as in training" if judge == "valid_bound" else "one sample of z a row"
    remark = f"from training, epoch {facts.weights.get('epoch', '?')}, {several}"
    remark += f"; {NOT_A_LIKELIHOOD}" if facts.is_score else ""
    return [Card(label_of(judge), number(value), "", NATS, remark)]


def _row_head(quantity: str, facts: Sequence[RunFacts]) -> Cell:
    measure = shown_measure(quantity, facts)
    about = ": ".join(text for text in (measure.definition, measure.about) if text)
    about = about.format(samples=" or ".join(sorted({str(f.samples) for f in facts})))
    return Cell(measure.label, typeset(about))


def _spread(estimate: Estimate) -> tuple[Cell, ...]:
    value, error = texts(estimate)
    return (Cell(value, brief(estimate.warning)), *cells(error or NOTHING, estimate.unit, f"{estimate.n:,}"))


def _side_by_side(
    quantity: str, facts: Sequence[RunFacts], estimates: dict[str, dict[str, Estimate]]
) -> tuple[Cell, ...]:
    row = [estimates.get(f.label, {}).get(quantity) for f in facts]
    best = _clear_best(row) if measure_of(quantity).higher_is_better and not why_not_comparable(facts) else None
    return tuple(
        Cell(NOTHING)
        if e is None
        else Cell(_in_one(e), "; ".join(part for part in (f"n = {e.n:,}", brief(e.warning)) if part), i == best)
        for i, e in enumerate(row)
    )


def _in_one(estimate: Estimate) -> str:
    value, error = texts(estimate)
    unit = f" {estimate.unit}" if estimate.value is not None else ""
    return f"{value} ± {error}{unit}" if error else value + unit


def _clear_best(row: Sequence[Estimate | None]) -> int | None:
    """Which value leads all others by more than two combined standard errors, if one does."""
    known = sorted(((e.value, e.stderr, i) for i, e in enumerate(row) if e and e.value is not None), reverse=True)
    if len(known) < 2:
        return None
    (first, error, place), (second, other, _) = known[:2]
    return place if first - second > _CLEAR * math.hypot(error, other) else None


def _rows(facts: RunFacts) -> tuple[int, int] | None:
    return None if facts.held_out is None else (facts.held_out.rows, facts.held_out.of)


def _caption(facts: Sequence[RunFacts]) -> str:
    sources = []
    for f in facts:
        if f.held_out is not None:
            rows, of = f.held_out.rows, f.held_out.of
            some = (
                f"{rows:,} of {of:,} test rows, drawn at random with a fixed seed"
                if rows < of
                else f"all {counted(of, 'test row')}"
            )
            sources += [some]
    units = ""
    if scales := [f.log_scale for f in facts if f.log_scale]:
        units = units_in_words(*scales).replace(" - ", f" {MINUS} ")
        units = f" {units[0].upper()}{units[1:]}."
    return f"From {' / '.join(dict.fromkeys(sources))}. Errors are standard errors over rows.{units}"
