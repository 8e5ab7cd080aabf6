"""Disentanglement on the bundled sprites: the plain VAE, beta-TCVAE and FactorVAE, with the same networks and steps.

    python benchmarks/disentanglement.py --write docs/disentanglement.md

It needs no network and takes about half an hour on two cores. Data, networks and steps are those of the preset
`sprites`, in whose place three objectives stand: the plain ELBO, and that less a penalty of the listed weight. Seeds
matter more than methods (Locatello et al., 2019, arXiv 1811.12359), so medians over seeds are compared.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from facts import finish, paragraph, provenance, table
from vaekit.data import Rows
from vaekit.evaluation import Estimate, disentanglement_scores, evaluate
from vaekit.evaluation.disentanglement import scores_of
from vaekit.runs import TrainingRun, make_run, override, preset
from vaekit.runs.factory import open_data

CRITIC = "{network: {kind: mlp, widths: [256, 256, 256, 256], activation: leaky_relu}, lr: 1.0e-4}"
METHODS = {
    "VAE": "{kind: elbo}",
    "beta-TCVAE, beta = 6": "{kind: regularised, penalties: [{kind: total_correlation, weight: 5}]}",
    "FactorVAE, gamma = 10": f"{{kind: regularised, penalties: [{{kind: factor, weight: 10, critic: {CRITIC}}}]}}",
}
SCORES = ("mig", "sap", "disentanglement", "completeness", "informativeness", "factor_vae", "modularity")
NAMES = ("MIG", "SAP", "DCI disent.", "DCI compl.", "DCI inform.", "FactorVAE", "modularity")
SEEDS = (0, 1, 2)


@cache
def chance() -> str:
    """The scores of codes that know nothing of the factors: other rows' noise."""
    _, data = open_data(make_run(preset("sprites")))
    assert isinstance(data.train, Rows)
    assert data.train.factors is not None
    factors = data.train.factors.numpy()
    found = scores_of(np.random.default_rng(0).normal(size=(len(factors), 10)), factors)
    return ", ".join(f"{name} {value(found[score]):.3f}" for score, name in zip(SCORES, NAMES, strict=True))


def measure(objective: str, seed: int, epochs: int | None) -> dict[str, Estimate]:
    settings = [f"objective={objective}", f"seed={seed}", "train.weights=last"]
    settings += [] if epochs is None else [f"train.epochs={epochs}"]
    training = TrainingRun.start(make_run(override(preset("sprites"), settings)))
    for _ in training.events():
        pass
    model = training.model.eval()
    bounds = evaluate(model, training.data.test, samples=16, seed=seed)
    return disentanglement_scores(model, training.data.train) | {"elbo": bounds["elbo"]}


def value(estimate: Estimate) -> float:
    assert estimate.value is not None
    return estimate.value


def page(found: dict[str, list[dict[str, Estimate]]], seeds: Sequence[int], seconds: float) -> tuple[str, bool]:
    medians = {name: statistics.median(value(run["mig"]) for run in runs) for name, runs in found.items()}
    passed = all(medians[name] > medians["VAE"] for name in medians if name != "VAE")
    rows = [
        [name, *(f"{statistics.median(value(run[score]) for run in runs):.3f}" for score in (*SCORES, "elbo"))]
        for name, runs in found.items()
    ]
    single = [
        [name, seed, *(f"{value(run[score]):.3f} ± {run[score].stderr:.3f}" for score in SCORES)]
        for name, runs in found.items()
        for seed, run in zip(seeds, runs, strict=True)
    ]
    facts = provenance(
        seeds,
        Protocol="sprites of 5 factors; preset `sprites`, whose objective alone is exchanged; last weights",
        Evaluation="scores of the training rows' posterior means, ELBO of the test rows",
        Time=f"{seconds / 60:.0f} minutes for all",
    )
    verdict = "pass" if passed else "**FAIL**"
    text = f"""# Disentanglement on sprites

Written by `benchmarks/disentanglement.py`.

{facts}

## Medians over seeds

{table(["method", *NAMES, "ELBO, nats"], rows)}

The median MIG of beta-TCVAE and of FactorVAE is above the plain VAE's: {verdict}.

## Each seed

{table(["method", "seed", *NAMES], single)}

{
        paragraph(
            "Errors are those of the scores' own sampling, not over seeds. Codes that know nothing of the factors "
            f"have {chance()} here. A perfect SAP is about .83 on these factors, not 1: it is a mean over factors of "
            "balanced accuracies of one threshold a class."
        )
    }
"""
    return text, passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--epochs", type=int, help="fewer than the preset's, for a try")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there as well")
    args = parser.parse_args()
    found: dict[str, list[dict[str, Estimate]]] = {name: [] for name in METHODS}
    began = time.perf_counter()
    for seed in args.seeds:
        for name, objective in METHODS.items():
            found[name] += [measure(objective, seed, args.epochs)]
            print(f"{name}, seed {seed}: MIG {found[name][-1]['mig']}", flush=True)
        done = args.seeds[: len(found["VAE"])]
        text, passed = page(found, done, time.perf_counter() - began)
        if args.write is not None:  # after every seed, for what is stopped early
            args.write.write_text(text)
    finish(text, passed, args.write)


if __name__ == "__main__":
    main()
