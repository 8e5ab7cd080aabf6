"""The facts of a run that a report shows, computed once and held in frozen records."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.distributions import Normal

from vaekit.data import Dataset, Rows, Schema
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation import Estimate, baseline, evaluate, evaluating, in_stored_units, kl_per_dimension
from vaekit.findings import Finding
from vaekit.models.conditional import Conditional
from vaekit.models.distributions.support import measure
from vaekit.models.generative import in_blocks
from vaekit.randomness import Purpose, new_generator
from vaekit.report.pictures import (
    OF_TRAINING_ROWS,
    context_in_words,
    example_context,
    film_strip,
    from_prior,
    reconstruct,
)
from vaekit.runs import Run, TrainedRun, reopen, to_yaml

ROWS = 2000  # test rows that estimates are made from
MAP_ROWS = 3000  # test rows on the latent map
PAIRS = 24  # originals shown with their reconstructions
SAMPLES = 64  # rows shown from the prior
TABLE_ROWS = 1000  # of a table, which is shown as distributions, so that more rows are needed
MANIFOLD_SIDE = 15


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Estimates, reconstructions and codes of test rows; x as the model sees it.

    Attributes:
        rows: How many the estimates are computed from.
        of: How many test rows there are.
        training_rows: How many the model was trained on.
        estimates: By name, as `evaluate` gives them.
        baseline: ln p(x) of the best model without z; None where there is none.
        kl: Of each latent dimension, in nats; None without a closed form.
        originals: (n, *shape), a few test rows.
        mask: Of these, True where a cell is observed; None where all are.
        reconstructions: (n, *shape), the mean of p(x|z) at the mean of q(z|x).
        codes: (m, latent), means of q(z|x).
        labels: (m,) of the codes, where the rows have labels.
    """

    rows: int
    of: int
    training_rows: int
    estimates: Mapping[str, Estimate]
    baseline: Estimate | None
    kl: tuple[Estimate, ...] | None
    originals: np.ndarray
    mask: np.ndarray | None
    reconstructions: np.ndarray
    codes: np.ndarray
    labels: np.ndarray | None


@dataclass(frozen=True, eq=False)
class RunFacts:
    """A run, as a page shows it.

    Attributes:
        label: What the page calls it.
        folder: Of the run.
        run: Its settings.
        schema: What is known of its data.
        weights: Which weights are shown, and their metadata.
        status: Finished, or where training stopped.
        environment: Machine and versions.
        history: The metrics of each epoch, log-densities as those of rows as they are stored.
        findings: Of training.
        config: Run.yaml.
        log_scale: By how much log-densities of x are above those of rows as they are stored, in nats.
        measure: What p(x|z) is: a mass, a density, or a score that is no likelihood.
        parameters: The number of weights.
        samples: K of the importance-weighted bound.
        held_out: What was computed from test rows; None where the data is gone.
        prior_means: (n, *shape), means of p(x|z), z from the prior.
        prior_draws: (n, *shape), draws of p(x|z) at the same z.
        prior_context: The context of both, to go after other words; empty for a model without.
        manifold: (side, side, *shape), means of p(x|z) over quantiles of z1 (across) and z2 (upwards); None where z is
            no plane.
        film: Of pictures, samples that were drawn while the model was trained, by epoch; None where there are none.
        missing: Sentences that say what is left out, and why.
    """

    label: str
    folder: Path
    run: Run
    schema: Schema
    weights: Mapping[str, str]
    status: str
    environment: Mapping[str, Any]
    history: tuple[Mapping[str, float | None], ...]
    findings: tuple[Finding, ...]
    config: str
    log_scale: float
    measure: str
    parameters: int
    samples: int
    held_out: HeldOut | None
    prior_means: np.ndarray
    prior_draws: np.ndarray
    prior_context: str
    manifold: np.ndarray | None
    film: Image.Image | None
    missing: tuple[str, ...]

    @property
    def is_score(self) -> bool:
        """Whether p(x|z) is a score, so that its values are no log-likelihoods."""
        return self.measure == "score"

    @property
    def is_deterministic(self) -> bool:
        """Whether its posterior is deterministic, so that there is no bound on ln p(x)."""
        return not self.run.model.posterior.has_density


def collect(trained: TrainedRun, samples: int = 64, rows: int = ROWS, full_paths: bool = False) -> RunFacts:
    """Read and compute the facts of a run; `missing` says what is left out, and why.

    Args:
        trained: The run.
        samples: K of the importance-weighted bound.
        rows: At most so many test rows, drawn at random with a fixed seed, go into the estimates.
        full_paths: Whether to show whole paths; else the names of files and folders alone.

    Returns:
        The facts.
    """
    missing: list[str] = []
    try:
        data = reopen(trained)
        trained = replace(trained, dataset=data)
        held_out = _held_out(trained, data, samples, rows)
    except (DataError, ConfigError) as error:
        held_out = None
        missing += [f"Estimates, reconstructions and the latent map are left out, as the data is not there: {error}"]
    history = tuple(trained.folder.history())
    if not history:
        missing += ["There is no line in metrics.jsonl, so there are no curves."]
    environment = trained.folder.environment()
    if not environment:
        missing += ["There is no environment.json, so machine and versions are unknown."]
    image, shapes = trained.schema.kind == "image", trained.latent_shapes
    shown = SAMPLES if image else TABLE_ROWS
    context, said = _context(trained, shown)
    with evaluating(trained.model):
        kind = measure(trained.model.decode([torch.zeros(1, *shape) for shape in shapes], trained.context(1)))
    found = RunFacts(
        label=trained.settings.name,
        folder=trained.folder.path,
        run=trained.settings,
        schema=trained.schema,
        weights=trained.weights,
        status=trained.folder.status(),
        environment=environment,
        history=tuple(_in_stored_units(line, trained.log_scale) for line in history),
        findings=trained.folder.findings(),
        config=to_yaml(trained.settings),
        log_scale=trained.log_scale,
        measure=kind,
        parameters=sum(p.numel() for p in trained.model.parameters()),
        samples=samples,
        held_out=held_out,
        prior_means=_from_prior(trained, shown, context, mean=True),
        prior_draws=_from_prior(trained, shown, context, mean=False),
        prior_context=said,
        manifold=_manifold(trained)
        if image and shapes == ((2,),) and trained.settings.model.posterior.support_of_z == "real"
        else None,
        film=film_strip(trained.folder.sample_pictures()) if image else None,
        missing=tuple(missing),
    )
    return found if full_paths else without_paths(found)


def without_paths(facts: RunFacts) -> RunFacts:
    """The facts with the names of files and folders in place of their paths, which may hold users' names."""
    tree = facts.run.model_dump(mode="json")
    paths = {text for text in _texts(tree) if os.path.isabs(os.path.expanduser(text))}
    paths |= {text for text in (tree["data"]["source"], tree["run_dir"]) if text and os.sep in text}
    for path in (str(facts.folder), *paths):
        paths |= {path, os.path.abspath(os.path.expanduser(path)), os.path.realpath(os.path.expanduser(path))}

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: named(item) for key, item in value.items()}
        return [named(item) for item in value] if isinstance(value, list) else in_text(value)

    def in_text(value: Any) -> Any:
        if isinstance(value, str):
            for path in sorted(paths, key=len, reverse=True):
                value = value.replace(path, os.path.basename(path.rstrip(os.sep)) or path)
        return value

    run = type(facts.run).model_validate(named(tree))
    return replace(
        facts,
        folder=Path(os.path.basename(os.path.abspath(facts.folder))),
        run=run,
        config=to_yaml(run),
        missing=tuple(map(in_text, facts.missing)),
    )


def _texts(value: Any) -> Iterator[str]:
    """Every text in a tree of settings."""
    if isinstance(value, dict):
        yield from (text for item in value.values() for text in _texts(item))
    elif isinstance(value, list):
        yield from (text for item in value for text in _texts(item))
    elif isinstance(value, str):
        yield value


def _held_out(trained: TrainedRun, data: Dataset, samples: int, rows: int) -> HeldOut:
    model, seed = trained.model, trained.settings.seed
    test = data.test if len(data.test) else data.valid
    order = torch.randperm(len(test), generator=new_generator(0, Purpose.ORDER))
    held = test.at(order[:rows].sort().values)
    given = held.inputs(slice(None))
    x = given["x"]
    fitted = None
    if isinstance(model.likelihood, Conditional):
        fitted = baseline(model.likelihood, data.train, held, seed)
    count = min(len(x), PAIRS if trained.schema.kind == "image" else TABLE_ROWS)
    few = torch.arange(count) * len(x) // count  # spread over all: neighbours are alike where the source is in an order
    shown = x[few]
    mapped = order[:MAP_ROWS].sort().values
    labels = test.labels
    return HeldOut(
        rows=len(x),
        of=len(test),
        training_rows=len(data.train),
        estimates=evaluate(model, held, samples, seed=seed),
        baseline=fitted,
        kl=kl_per_dimension(model, held),
        originals=shown.numpy(),
        mask=given["mask"][few].numpy() if "mask" in given else None,
        reconstructions=reconstruct(model, **held.inputs(few)),
        codes=_codes(trained, test, mapped),
        labels=None if labels is None else labels[mapped].numpy(),
    )


def _codes(trained: TrainedRun, rows: Rows, index: Tensor) -> np.ndarray:
    def mean(x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor]:
        code = trained.model.encode(x, context) if mask is None else trained.model.encode(x, context, mask)
        return (code.posteriors[0].mean.flatten(1),)

    with evaluating(trained.model):
        return in_blocks(mean, **rows.inputs(index))[0].numpy()


def _context(trained: TrainedRun, n: int) -> tuple[Tensor | None, str]:
    """The context of n new rows, as `vaekit sample` has it, and what it is in words; an example without the data."""
    try:
        context = trained.contexts(n, trained.settings.seed)
    except DataError:
        return example_context(trained.schema, n), context_in_words(trained.schema)
    return context, OF_TRAINING_ROWS if trained.draws_contexts else context_in_words(trained.schema)


def _from_prior(trained: TrainedRun, n: int, context: Tensor | None, mean: bool) -> np.ndarray:
    generator = new_generator(trained.settings.seed, Purpose.GENERATE)
    return from_prior(trained.model, n, context, generator, mean)


def _manifold(trained: TrainedRun) -> np.ndarray:
    """The mean of p(x|z) over a square of evenly spaced quantiles of N(0, 1); the first row has the largest z2."""
    z = manifold_axis()
    z1, z2 = torch.meshgrid(z, z.flip(0), indexing="xy")
    with evaluating(trained.model):
        plane = torch.stack([z1, z2], -1).reshape(-1, 2)
        return trained.model.decode((plane,), trained.context(len(plane))).mean.unflatten(0, z1.shape).numpy()


def manifold_axis() -> Tensor:
    """The values of z1, and of z2, that the manifold is decoded at."""
    return Normal(0.0, 1.0).icdf(torch.linspace(0.02, 0.98, MANIFOLD_SIDE))


def _in_stored_units(line: Mapping[str, float | None], log_scale: float) -> dict[str, float | None]:
    known = {name: value for name, value in line.items() if value is not None}
    return {**line, **in_stored_units(known, log_scale)}
