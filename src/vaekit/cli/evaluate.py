"""`vaekit evaluate`: the usual bounds, or a suite of other measures (see `suites`)."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from vaekit.cli.console import print_estimates, print_facts, print_json, print_kl, print_warnings, progress
from vaekit.cli.console.options import Force, Json, RunPath, Weights, WholeNumber
from vaekit.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from vaekit.cli.console.request import EvaluationRequest

Suite = Literal["likelihood", "latents", "samples", "disentanglement", "representation", "ranking", "table", "all"]
PER_ROW = (".csv", ".npz", ".parquet")  # endings of files that hold several columns by name


def evaluate(
    run: RunPath,
    /,
    *,
    suite: Suite | None = None,
    samples: Annotated[WholeNumber, Parameter(name=["--samples", "-k"])] = 64,
    data: str | None = None,
    split: Literal["train", "valid", "test"] = "test",
    rows: WholeNumber | None = None,
    weights: Weights = None,
    seed: WholeNumber = 0,
    label: str | None = None,
    per_row: Path | None = None,
    target: str | None = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Measure bounds on the log-likelihood, with standard errors, on rows held out from training.

    For example:

        vaekit evaluate runs/digits-1
        vaekit evaluate runs/mnist-1 --samples 500 --json
        vaekit evaluate runs/digits-1 --suite likelihood --samples 1000
        vaekit evaluate runs/digits-1 --suite all --json
        vaekit evaluate runs/digits-1 --data new.csv --per-row scores.csv
        vaekit evaluate runs/fsdd-1 --suite representation --label speaker

    Args:
        suite: What to measure in place of the usual bounds: likelihood (the bound for K up to --samples, annealed
            importance sampling, bidirectional Monte Carlo); latents (active units, KL by dimension, the aggregate
            posterior); samples (Frechet distance, KID, precision, recall, density, coverage); disentanglement (scores
            against known factors); representation (labels predicted from codes); ranking (Recall and NDCG of held-out
            items, of a table of interactions); table (how good a synthetic table is: its columns, what is learned from
            it, and copies of training rows); or all of these.
        samples: K, samples of z for each row, of the importance-weighted bound.
        data: Other data than the run's, by name or path, all of its rows; or where the run's own data lies now, which
            is split as it was.
        split: Rows of the run's own data to use.
        rows: Use only the first ROWS of them.
        seed: Of the noise.
        label: What the rows' labels are, in place of the run's own: another column of obs (.h5ad), or another part of
            recordings' names.
        per_row: File to write, .csv, .npz or .parquet: of each row its number among those that are used, counted from
            0, its ELBO, its bound on the log-likelihood, rate, distortion, and the number of its class if it has a
            label.
        target: Of --suite table, the column that is predicted from the others; by default the last of categories.
    """
    from vaekit.cli.console.request import EvaluationRequest

    request = EvaluationRequest(run, samples, data, split, rows, weights, seed, target, label)
    if target is not None and suite not in ("table", "all"):
        raise ConfigError(
            f"--target names a column that --suite table predicts, and --suite is {suite or 'not given'}: leave it out",
            field="target",
            value=target,
        )
    if suite is None:
        return _evaluate_bounds(request, json, per_row, force)
    if per_row is not None:
        raise ConfigError(
            f"--per-row writes the usual bounds, and --suite {suite} measures others: leave one out",
            field="per_row",
            value=per_row,
        )
    from vaekit.cli.suites import evaluate_suites

    return evaluate_suites(request, suite, json)


def _evaluate_bounds(request: "EvaluationRequest", as_json: bool, out: Path | None, force: bool) -> None:
    """Print the usual bounds, and write those of each row where `out` is given."""
    from vaekit import evaluation
    from vaekit.cli.console.writing import check_apart, check_out, numbers_and_names, write_rows
    from vaekit.models.conditional import Conditional
    from vaekit.processes import World
    from vaekit.runs import check_same_run

    world = World.join()
    if out is not None and world.leads:
        check_out(out, PER_ROW, force)
        check_apart(out, request.folder, request.trained.settings.data.source, request.data)
    model, held_out, seed = request.trained.model, request.held_out, request.seed
    check_same_run(world, request.trained, None if request.is_own else held_out)

    def write_per_row(columns: "Mapping[str, np.ndarray]") -> None:
        if out is not None and world.leads:
            labels = {} if held_out.labels is None else {"label": held_out.labels.cpu().numpy()}
            about = numbers_and_names(held_out, slice(0, len(held_out)))
            write_rows(out, [{**about, **columns, **labels}], len(held_out))

    with request.resumable("evaluation") as folder:
        with progress("evaluating", len(held_out) // world.size) as advance:
            estimates = evaluation.evaluate(
                model,
                held_out,
                request.samples,
                seed=seed,
                progress=advance,
                world=world,
                keep=folder,
                per_row=write_per_row,
            )
        if request.is_own and isinstance(model.likelihood, Conditional):
            estimates["baseline"] = evaluation.baseline(model.likelihood, request.train, held_out, seed, world)
        kl = evaluation.kl_per_dimension(model, held_out, world=world)
    if not world.leads:
        return None
    if as_json:
        if kl is None:
            from vaekit.evaluation.results import NATS, NO_KL_PER_DIMENSION

            by_dimension = evaluation.Estimate(None, 0.0, len(held_out), NATS, NO_KL_PER_DIMENSION).as_dict()
        else:
            by_dimension = [estimate.as_dict() for estimate in kl]
        plain = {name: estimate.as_dict() for name, estimate in estimates.items()}
        return print_json({**plain, "kl_per_dimension": by_dimension, **request.facts})
    console = Console(highlight=False)
    print_facts(console, request.facts)
    print_estimates(console, estimates)
    if kl is not None:
        print_kl(console, kl)
    print_warnings(console, estimates)
