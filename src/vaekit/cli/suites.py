"""`vaekit evaluate RUN --suite`: everything that vaekit measures of a trained model, by subject.

What a model cannot have is None, with a warning that says why; a suite that does not apply to a run at all is refused,
and under `all` it is listed with the reason.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from vaekit.cli.output import print_json, progress
from vaekit.cli.request import EvaluationRequest, alone
from vaekit.cli.sample import SAMPLERS
from vaekit.cli.tables import cross_tables, print_facts, print_kl, print_numbers, print_table, print_warnings
from vaekit.data import Rows, StreamedRows
from vaekit.errors import ConfigError, DataError, VaekitError
from vaekit.evaluation import (
    Annealed,
    Annealing,
    Estimate,
    Sandwich,
    aggregate_posterior,
    annealed_bound,
    bidirectional,
    bound_curve,
    choose_features,
    disentanglement_scores,
    evaluate,
    kl_per_dimension,
    kl_per_group,
    representation,
    sample_quality,
)
from vaekit.randomness import Purpose, new_generator
from vaekit.runs import sampling

ANNEALING = Annealing()
ANNEALED_ROWS = 100  # of AIS, and simulated for BDMC
FEWEST_COMPARED = 30  # rows, for the neighbours of rows
COMPARED_ROWS = 5_000  # most that are drawn and compared for the quality of samples
KL = "kl_dimension_"
Estimates = dict[str, Estimate]


@dataclass(frozen=True)
class Section:
    """What a suite found. about: how, in one line."""

    estimates: Estimates
    about: str = ""


def suite_command(asked: EvaluationRequest, suite: str, as_json: bool) -> None:
    alone(f"evaluate --suite {suite}")
    with asked.keeping("curve") if suite in ("likelihood", "all") else nullcontext():
        _measure(asked, suite, as_json)


def _measure(asked: EvaluationRequest, suite: str, as_json: bool) -> None:
    facts = asked.facts
    console = Console(highlight=False, quiet=as_json)
    found: dict[str, Estimates] = {}
    refused: dict[str, str] = {}
    for name, measure in SUITES.items():
        if suite not in (name, "all"):
            continue
        try:
            section = measure(asked)
        except (ConfigError, DataError) as error:
            if suite != "all" or name in NEVER_REFUSED:
                raise
            section, refused[name] = Section({}, f"not applicable: {error}"), str(error)
        if not found:
            print_facts(console, facts, with_samples=suite in ("likelihood", "all"))
        found[name] = section.estimates
        _print(console, name, section)
    if as_json:
        facts["importance_samples"] = facts.pop("samples")  # samples is a suite
        print_json({**_plain(found), "not_applicable": refused, **facts})


def likelihood(asked: EvaluationRequest) -> Section:
    """Bounds on ln p(x) from below at several K, by annealing, and how far the latter may be off."""
    model, held = asked.opened.model, asked.held
    counts = tuple(sorted({10**power for power in range(7) if 10**power < asked.samples} | {asked.samples}))
    with progress("importance-weighted bound", len(held)) as advance:
        curve = bound_curve(model, held, counts, seed=asked.seed, progress=advance, keep=asked.kept("curve"))
    found = {f"bound_{point.samples}": point.bound for point in curve}
    found |= {f"effective_samples_of_{point.samples}": point.effective_samples for point in curve if point.samples > 1}
    few = _spread(held, ANNEALED_ROWS, asked.seed)
    given: dict[str, Any] = {"seed": asked.seed}
    with progress("importance-weighted bound, rows of AIS", len(few)) as advance:
        (point,) = bound_curve(model, few, (asked.samples,), **given, progress=advance)
    found[f"bound_on_annealed_rows_{asked.samples}"] = point.bound
    with progress("annealed importance sampling", len(few)) as advance:
        found |= _annealed(Annealed, len(few), lambda: annealed_bound(model, few, ANNEALING, **given, progress=advance))
    with progress("bidirectional Monte Carlo", len(few)) as advance:
        found |= _annealed(
            Sandwich,
            len(few),
            lambda: bidirectional(
                model,
                len(few),
                ANNEALING,
                context=few.context_of(slice(None)),
                log_scale=few.log_scale,
                **given,
                progress=advance,
            ),
        )
    how = f"{ANNEALING.chains} chains for each row, {ANNEALING.temperatures} temperatures"
    return Section(found, f"AIS and BDMC: {len(few)} rows, {how}; BDMC is on rows that the model makes itself")


def latents(asked: EvaluationRequest) -> Section:
    """How many latents are in use, what each carries, and how far all together are from the prior."""
    model, held = asked.opened.model, asked.held
    with progress("active units", len(held)) as advance:
        found = evaluate(model, held, 1, seed=asked.seed, progress=advance)
    found = {name: found[name] for name in ("rate", "active_units", "active_units_by_variance")}
    with progress("KL of groups and dimensions", None):
        groups = kl_per_group(model, held, seed=asked.seed)
        dimensions = kl_per_dimension(model, held)
    if len(groups) > 1:
        found |= {f"kl_group_{number}": estimate for number, estimate in enumerate(groups, 1)}
    with progress("aggregate posterior", len(held)) as advance:
        parts = aggregate_posterior(model, held, seed=asked.seed, progress=advance)
    found |= {"sampled_rate" if name == "rate" else name: estimate for name, estimate in parts.items()}
    if dimensions is None:
        why = "the KL of single dimensions has no closed form"
        return Section({**found, "kl_dimension": Estimate(None, 0.0, len(held), "nats", why)})
    return Section(found | {f"{KL}{number}": estimate for number, estimate in enumerate(dimensions)})


def samples(asked: EvaluationRequest) -> Section:
    """How close draws are to the rows, from the prior and from what is fitted after training; training rows beside."""
    opened, seed = asked.opened, asked.seed
    real = _spread(asked.held, COMPARED_ROWS, seed)
    context = real.context_of(slice(None))
    n, device = len(real), real.device
    if n < FEWEST_COMPARED:
        raise DataError(f"{n} rows are too few to compare samples with: give {FEWEST_COMPARED} at least")
    with progress("features to compare in", None):
        features = choose_features(asked.train, seed)
    sources: dict[str, Callable[[], torch.Tensor]] = {}
    if not asked.on_training_rows and len(asked.train) >= n:
        noise = new_generator(seed, Purpose.COMPARED_ROWS, device=device)
        sources["training_rows"] = lambda: asked.train.batch(asked.train.some(n), noise)
    for name, sampler in SAMPLERS.items():
        sources[name] = lambda sampler=sampler: sampling(opened, sampler).model.generate(
            n, generator=new_generator(seed, Purpose.GENERATE, device=device), context=context
        )
    found: Estimates = {}
    for name, draw in sources.items():
        with progress(f"samples: {name.replace('_', ' ')}", None):
            try:
                quality = sample_quality(features, real, draw(), seed=seed)
            except ConfigError as why:
                about = f"over {features.name}"
                quality = {key: Estimate(None, 0.0, n, about, str(why)) for key in QUALITIES}
        found |= {f"{name}.{key}": estimate for key, estimate in quality.items()}
    told = "; each draw is told what the model is told of one of them" if opened.schema.context else ""
    return Section(found, f"{n} draws of p(x|z) against {n} rows{told}; over {features.name}")


def disentanglement(asked: EvaluationRequest) -> Section:
    """Scores against known factors of variation."""
    with progress("disentanglement", None):
        found = disentanglement_scores(asked.opened.model, asked.held, seed=asked.seed)
    names = ", ".join(asked.opened.schema.factor_names or ())
    told = "; the model is told the label, which may be one of them" if asked.told_labels else ""
    return Section(found, f"factors: {names}{told}")


def representation_of(asked: EvaluationRequest) -> Section:
    """What codes are worth: labels read off them, and off the data and its principal components."""
    if asked.told_labels:
        raise ConfigError(
            "codes of a model trained with data.context=label are made from the label, so to read it off them says "
            "nothing: train a model without it"
        )
    if asked.on_training_rows:
        raise ConfigError(
            "probes are fitted to the training rows, so these cannot test them: use --split valid or test"
        )
    with progress("representation", None):
        found = representation(asked.opened.model, asked.train, asked.held, seed=asked.seed)
    return Section(found, f"fitted to {len(asked.train)} training rows; times are of this machine")


SUITES: dict[str, Callable[[EvaluationRequest], Section]] = {
    "likelihood": likelihood,
    "latents": latents,
    "samples": samples,
    "disentanglement": disentanglement,
    "representation": representation_of,
}
NEVER_REFUSED = ("likelihood", "latents")  # what is wrong with the rows is wrong for all
QUALITIES = ("frechet_distance", "kid", "precision", "recall", "density", "coverage")


def _spread(rows: Rows | StreamedRows, most: int, seed: int) -> Rows:
    """At most so many rows from all over a split, which may be sorted."""
    n = min(most, len(rows))
    return rows.at(torch.arange(n) * len(rows) // n, new_generator(seed, Purpose.EVALUATED_ROWS, device=rows.device))


def _annealed(kind: type[Annealed | Sandwich], rows: int, measure: Callable[[], Annealed | Sandwich]) -> Estimates:
    """The estimates by name; without values where the model's z cannot be annealed."""
    units = {"acceptance": "of trajectories", "effective_chains": f"of {ANNEALING.chains}"}
    names, found = [field.name for field in fields(kind)], None
    prefix = "annealed" if kind is Annealed else "bidirectional"
    try:
        found, why = measure(), ""
    except VaekitError as error:
        why = str(error)
    nothing = {name: Estimate(None, 0.0, rows, units.get(name, "nats"), why) for name in names}
    return {f"{prefix}_{name}": nothing[name] if found is None else getattr(found, name) for name in names}


def _print(console: Console, name: str, section: Section) -> None:
    console.print(f"\n[bold]{name}[/]")
    if section.about:
        console.print(f"  {escape(section.about)}", style="dim" if section.estimates else "yellow", soft_wrap=True)
    if not section.estimates:
        return
    dimensions = {key: estimate for key, estimate in section.estimates.items() if key.startswith(KL)}
    others = {key: estimate for key, estimate in section.estimates.items() if key not in dimensions}
    if name == "samples":
        for table in cross_tables(others, console.width):
            print_table(console, table)
    else:
        print_numbers(console, others, counts=True)
    if dimensions:
        print_kl(console, list(dimensions.values()))
    print_warnings(console, section.estimates)


def _plain(found: dict[str, Estimates]) -> dict[str, Any]:
    return {suite: {name: estimate.as_dict() for name, estimate in part.items()} for suite, part in found.items()}
