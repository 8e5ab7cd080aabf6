"""`vaekit evaluate RUN --suite`: all measures of a trained model, by subject.

A measure that does not apply to a model has the value None, and a warning that says why; a suite that does not apply to
a run at all is refused, and `all` lists it with the reason.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape

from vaekit.cli.console import (
    cross_tables,
    print_estimates,
    print_facts,
    print_json,
    print_kl,
    print_table,
    print_warnings,
    progress,
)
from vaekit.cli.console.options import check_one_process
from vaekit.cli.console.request import EvaluationRequest
from vaekit.cli.console.request import samplers as sources_of_z
from vaekit.data import Rows, Schema, StreamedRows
from vaekit.errors import ConfigError, DataError, NotApplicable
from vaekit.evaluation import (
    Annealed,
    Annealing,
    Estimate,
    Sandwich,
    Tables,
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
    table_quality,
)
from vaekit.evaluation.results import NATS, NO_KL_PER_DIMENSION, SAMPLE_QUALITIES, label_of, unit_of
from vaekit.randomness import Purpose, new_generator
from vaekit.runs import sampling
from vaekit.uses import hold_out, interactions_in, ranking
from vaekit.words import counted

ANNEALING = Annealing()
ANNEALED_ROWS = 100  # of AIS, and simulated for BDMC
FEWEST_COMPARED = 30  # rows, for the neighbours of rows
HELD_OUT, RANKED = 0.2, 20  # share of each user's items, and the first of a ranking
COMPARED_TABLE_ROWS = 100_000  # most that a synthetic table has, and is compared with
DETAILS = 5  # of those that only JSON has all of, which are printed
COMPARED_ROWS = 5_000  # most that are drawn and compared for the quality of samples
KL = "kl_dimension_"
Estimates = dict[str, Estimate]


@dataclass(frozen=True)
class SuiteResult:
    """What a suite found.

    Attributes:
        estimates: By name.
        about: How they were computed, in one line.
        details: Further estimates, by what they are of: all are in JSON, and the largest are printed.
    """

    estimates: Estimates
    about: str = ""
    details: Mapping[str, Estimates] = field(default_factory=dict)


def evaluate_suites(request: EvaluationRequest, suite: str, as_json: bool) -> None:
    """Measure a suite, or all of them, and print what was found."""
    check_one_process(f"evaluate --suite {suite}")
    with request.resumable("curve") if suite in ("likelihood", "all") else nullcontext():
        _measure(request, suite, as_json)


def _measure(request: EvaluationRequest, suite: str, as_json: bool) -> None:
    facts = request.facts
    console = Console(highlight=False, quiet=as_json)
    found: dict[str, Mapping[str, Any]] = {}
    refused: dict[str, str] = {}
    for name, measure in SUITES.items():
        if suite not in (name, "all"):
            continue
        try:
            result = measure(request)
        except (ConfigError, DataError) as error:
            if suite != "all" or name in NEVER_REFUSED:
                raise
            result, refused[name] = SuiteResult({}, f"not applicable: {error}"), str(error)
        if not found:
            print_facts(console, facts, with_samples=suite in ("likelihood", "all"))
        found[name] = {**result.estimates, **result.details}
        _print(console, name, result)
    if as_json:
        facts["importance_samples"] = facts.pop("samples")  # samples is a suite
        print_json({**_plain(found), "not_applicable": refused, **facts})


def likelihood(request: EvaluationRequest) -> SuiteResult:
    """Bounds on ln p(x) from below at several K, by annealing, and how far the latter may be off."""
    model, held_out = request.trained.model, request.held_out
    counts = tuple(sorted({10**power for power in range(7) if 10**power < request.samples} | {request.samples}))
    with progress(label_of("bound"), len(held_out)) as advance:
        curve = bound_curve(
            model, held_out, counts, seed=request.seed, progress=advance, keep=request.results_folder("curve")
        )
    found = {f"bound_{point.samples}": point.bound for point in curve}
    found |= {f"effective_samples_of_{point.samples}": point.effective_samples for point in curve if point.samples > 1}
    few = _spread(held_out, ANNEALED_ROWS, request.seed)
    given: dict[str, Any] = {"seed": request.seed}
    with progress(f"{label_of('bound')}, rows of AIS", len(few)) as advance:
        (point,) = bound_curve(model, few, (request.samples,), **given, progress=advance)
    found[f"bound_on_annealed_rows_{request.samples}"] = point.bound
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
    return SuiteResult(
        found, f"AIS and BDMC: {counted(len(few), 'row')}, {how}; BDMC is on rows that the model makes itself"
    )


def latents(request: EvaluationRequest) -> SuiteResult:
    """How many latents are active, the KL of each, and the distance of the aggregate posterior from the prior."""
    model, held_out = request.trained.model, request.held_out
    with progress("active units", len(held_out)) as advance:
        found = evaluate(model, held_out, 1, seed=request.seed, progress=advance)
    found = {name: found[name] for name in ("rate", "active_units", "active_units_by_variance")}
    with progress("KL by group and dimension", None):
        groups = kl_per_group(model, held_out, seed=request.seed)
        dimensions = kl_per_dimension(model, held_out)
    if len(groups) > 1:
        found |= {f"kl_group_{number}": estimate for number, estimate in enumerate(groups, 1)}
    with progress("aggregate posterior", len(held_out)) as advance:
        terms = aggregate_posterior(model, held_out, seed=request.seed, progress=advance)
    found |= {"sampled_rate" if name == "rate" else name: estimate for name, estimate in terms.items()}
    if dimensions is None:
        return SuiteResult({**found, "kl_dimension": Estimate(None, 0.0, len(held_out), NATS, NO_KL_PER_DIMENSION)})
    return SuiteResult(found | {f"{KL}{number}": estimate for number, estimate in enumerate(dimensions)})


def samples(request: EvaluationRequest) -> SuiteResult:
    """How close samples of each sampler are to the rows, and training rows for comparison."""
    trained, seed = request.trained, request.seed
    real = _spread(request.held_out, COMPARED_ROWS, seed)
    context = real.context_of(slice(None))
    n, device = len(real), real.device
    if n < FEWEST_COMPARED:
        raise DataError(
            f"{counted(n, 'row is', 'rows are')} too few to compare samples with: give {FEWEST_COMPARED} at least"
        )
    with progress("features to compare in", None):
        features = choose_features(request.train, seed)
    sources: dict[str, Callable[[], torch.Tensor]] = {}
    if not request.on_training_rows and len(request.train) >= n:
        noise = new_generator(seed, Purpose.COMPARED_ROWS, device=device)
        sources["training_rows"] = lambda: request.train.batch(request.train.some(n), noise)
    for name, sampler in sources_of_z().items():
        sources[name] = lambda sampler=sampler: sampling(trained, sampler).model.generate(
            n, generator=new_generator(seed, Purpose.GENERATE, device=device), context=context
        )
    found: Estimates = {}
    for name, draw in sources.items():
        with progress(f"samples: {name.replace('_', ' ')}", None):
            try:
                quality = sample_quality(features, real, draw(), seed=seed)
            except ConfigError as why:
                quality = {
                    key: Estimate(None, 0.0, n, unit_of(key, features.name), str(why)) for key in SAMPLE_QUALITIES
                }
        found |= {f"{name}.{key}": estimate for key, estimate in quality.items()}
    conditioned = "; each draw is conditioned on the context of one of them" if trained.schema.context else ""
    return SuiteResult(found, f"{n} draws of p(x|z) against {n} rows{conditioned}; over {features.name}")


def disentanglement(request: EvaluationRequest) -> SuiteResult:
    """Scores against known factors of variation."""
    with progress("disentanglement", None):
        found = disentanglement_scores(request.trained.model, request.held_out, seed=request.seed)
    names = ", ".join(request.trained.schema.factor_names or ())
    conditioned = (
        "; the model is conditioned on the label, which may be one of them" if request.has_label_context else ""
    )
    return SuiteResult(found, f"factors: {names}{conditioned}")


def representation_of(request: EvaluationRequest) -> SuiteResult:
    """How well labels are predicted from codes, and from the data and its principal components."""
    if request.has_label_context:
        raise ConfigError(
            "the codes of a model trained with data.context=label are computed from the label, so predicting it from "
            "them says nothing: train a model without it",
            field="data.context",
        )
    if request.on_training_rows:
        raise ConfigError(
            "probes are fitted to the training rows, so these cannot test them: use --split valid or test",
            field="split",
        )
    if request.train.labels is None or request.held_out.labels is None:
        raise DataError("the rows have no labels for a probe to predict: set data.label", field="data.label")
    with progress("representation", None):
        found = representation(request.trained.model, request.train, request.held_out, seed=request.seed)
    return SuiteResult(found, f"fitted to {counted(len(request.train), 'training row')}; times are of this machine")


def ranking_of(request: EvaluationRequest) -> SuiteResult:
    """How well held-out items of each user are ranked, from the user's other items."""
    trained, schema = request.trained, request.trained.schema
    if trained.settings.data.rows is None:
        raise ConfigError(
            f"{schema.name} is no table of interactions of users with items, whose items could be ranked: see "
            "data.rows and data.items",
            field="data.rows",
        )
    seen, held_out = hold_out(interactions_in(trained, request.held_out), HELD_OUT, request.seed)
    with progress("ranking held-out items", len(seen.users)) as advance:
        found = ranking(trained, seen, held_out, top=RANKED, progress=advance)
    if request.on_training_rows:
        which = "weak generalisation, to other items of users that the model was trained on"
    elif request.is_own:
        which = "strong generalisation, to users that training left out"
    else:
        which = "users of other data, of whom some may have been trained on"
    how = (
        f"{HELD_OUT:.0%} of the items of each are held out at random, and ranked among those that the user has not had"
    )
    return SuiteResult(found, f"{which}; {how}")


def table_of(request: EvaluationRequest) -> SuiteResult:
    """How good a synthetic table is, of as many rows as the model was trained on."""
    schema, model = request.trained.schema, request.trained.model
    if schema.kind != "table" or schema.columns is None or request.trained.settings.data.rows is not None:
        raise ConfigError(
            f"{schema.name} is no table whose columns have names: train a run on a CSV or Parquet file", field="data"
        )
    if request.on_training_rows:
        raise ConfigError(
            "a synthetic table is compared with rows that training left out: use --split valid or test", field="split"
        )
    train, held_out = (_spread(rows, COMPARED_TABLE_ROWS, request.seed) for rows in (request.train, request.held_out))
    with progress("synthetic rows", None):
        generator = new_generator(request.seed, Purpose.GENERATE, device=request.device)
        made = model.generate(len(train), generator=generator, context=train.context_of(slice(None)))
    fields = schema.fields or ()
    tables = Tables(
        _as_stored(schema, *_whole(train)),
        _as_stored(schema, *_whole(held_out)),
        _as_stored(schema, made, None),
        schema.columns,
        [one.kind in ("binary", "categorical") for one in fields] or [False] * len(schema.columns),
    )
    with progress("columns, predictions and copies", None):
        found = table_quality(tables, request.target, request.seed)
    with progress(label_of("bound"), len(held_out)) as advance:
        bounds = evaluate(model, held_out, request.samples, seed=request.seed, progress=advance)
    estimates = found.estimates | {"log_likelihood": bounds["log_likelihood"]}
    about = (
        f"{len(made)} synthetic rows beside {len(train)} training rows and, as real rows, {len(held_out)} held-out "
        f"ones; the target is {found.target}, for which real rows are the training rows"
    )
    return SuiteResult(estimates, about, {"columns": found.columns, "pairs": found.pairs})


SUITES: dict[str, Callable[[EvaluationRequest], SuiteResult]] = {
    "likelihood": likelihood,
    "latents": latents,
    "samples": samples,
    "disentanglement": disentanglement,
    "representation": representation_of,
    "ranking": ranking_of,
    "table": table_of,
}
NEVER_REFUSED = ("likelihood", "latents")  # what is wrong with the rows is wrong for all


def _spread(rows: Rows | StreamedRows, most: int, seed: int) -> Rows:
    """At most so many rows, evenly spaced over a split, which may be sorted."""
    n = min(most, len(rows))
    return rows.at(torch.arange(n) * len(rows) // n, new_generator(seed, Purpose.EVALUATED_ROWS, device=rows.device))


def _annealed(kind: type[Annealed | Sandwich], rows: int, measure: Callable[[], Annealed | Sandwich]) -> Estimates:
    """The estimates by name; without values where annealing does not apply to the model's z."""
    keys = {field.name: f"{'annealed' if kind is Annealed else 'bidirectional'}_{field.name}" for field in fields(kind)}
    try:
        found = measure()
    except NotApplicable as error:
        why = str(error)
        return {key: Estimate(None, 0.0, rows, unit_of(key, ANNEALING.chains), why) for key in keys.values()}
    return {key: getattr(found, name) for name, key in keys.items()}


def _print(console: Console, name: str, result: SuiteResult) -> None:
    console.print(f"\n[bold]{name}[/]")
    if result.about:
        console.print(f"  {escape(result.about)}", style="dim" if result.estimates else "yellow", soft_wrap=True)
    if not result.estimates:
        return
    dimensions = {key: estimate for key, estimate in result.estimates.items() if key.startswith(KL)}
    others = {key: estimate for key, estimate in result.estimates.items() if key not in dimensions}
    crossed = {key: estimate for key, estimate in others.items() if "." in key}
    for table in cross_tables(crossed, console.width) if crossed else ():
        print_table(console, table)
    if alone := {key: estimate for key, estimate in others.items() if key not in crossed}:
        print_estimates(console, alone, counts=True)
    for what, estimates in result.details.items():
        largest = sorted(estimates.items(), key=lambda one: -(one[1].value or 0))[:DETAILS]
        listed = "; ".join(f"{key} {' ± '.join(filter(None, one.numbers()))}" for key, one in largest)
        console.print(f"{what} with the largest errors: {escape(listed)}", soft_wrap=True)
    if dimensions:
        print_kl(console, list(dimensions.values()))
    print_warnings(console, result.estimates)


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    """Estimates as JSON has them, at whatever depth."""
    return {name: one.as_dict() if isinstance(one, Estimate) else _plain(one) for name, one in found.items()}


def _whole(rows: Rows) -> tuple[torch.Tensor, torch.Tensor | None]:
    return rows.batch(slice(None)), rows.mask_of(slice(None))


def _as_stored(schema: Schema, x: torch.Tensor, mask: torch.Tensor | None) -> np.ndarray:
    """Rows as numbers in the units of the data, rounded as those are, with NaN where a cell is missing."""
    seen = x if mask is None else torch.where(mask, x, torch.nan)
    stored = schema.to_stored(seen.double().cpu().numpy())
    for column, one in enumerate(schema.fields or ()):
        if one.is_number and one.decimals is not None:
            stored[:, column] = stored[:, column].round(one.decimals)
    return stored
