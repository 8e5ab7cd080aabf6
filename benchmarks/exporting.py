"""Models of every kind as ONNX, and how far onnxruntime's numbers are from torch's.

    python benchmarks/exporting.py --write docs/export.md

A small model of each network, likelihood, posterior and form of data is trained for an epoch and exported. The
differences are the largest over 64 rows that the model made, and over some of them alone, beside the larger of a
number's size and 1; what cannot be exported is named with the reason.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facts import provenance, put_into, table
from vaekit.errors import NotApplicable
from vaekit.export import export_onnx
from vaekit.runs import TrainedRun, fit, make_run, override, preset

TINY = [
    "limit.train=60",
    "limit.valid=20",
    "train.epochs=1",
    "train.batch_size=20",
    "model.latent=3",
    "model.encoder={kind: mlp, widths: [8]}",
    "model.decoder={kind: mlp, widths: [8]}",
]
CONV = "{kind: conv, channels: [4, 8], hidden: 16}"
RESNET = "{kind: resnet, channels: [4, 8], hidden: 16}"
DYNAMIC, COUNT = "data.binarise=dynamic", "data.support=count"
# On digits, 8 x 8 pictures of 17 grey levels.
OF_DIGITS: dict[str, dict[str, list[str]]] = {
    "network": {
        "mlp": [],
        "conv": [f"model.encoder={CONV}", f"model.decoder={CONV}"],
        "resnet": [f"model.encoder={RESNET}", f"model.decoder={RESNET}"],
    },
    "likelihood": {
        "bernoulli": ["model.likelihood=bernoulli", DYNAMIC],
        "bernoulli, threshold": ["model.likelihood=bernoulli", "data.binarise=threshold"],
        "soft_bernoulli": ["model.likelihood=soft_bernoulli"],
        "continuous_bernoulli": ["model.likelihood=continuous_bernoulli"],
        "categorical": ["model.likelihood={kind: categorical, levels: 17}"],
        "beta_binomial": ["model.likelihood={kind: beta_binomial, levels: 17}"],
        "logistic_mixture": ["model.likelihood={kind: logistic_mixture, levels: 17, components: 3}"],
        "gaussian": ["model.likelihood=gaussian"],
        "calibrated_gaussian": ["model.likelihood=calibrated_gaussian"],
        "laplace": ["model.likelihood=laplace"],
        "student_t": ["model.likelihood=student_t"],
        "calibrated_student_t": ["model.likelihood=calibrated_student_t"],
        "poisson": ["model.likelihood=poisson", COUNT],
        "negative_binomial": ["model.likelihood=negative_binomial", COUNT],
        "zero_inflated": ["model.likelihood=zero_inflated", COUNT],
        "count_mixture": ["model.likelihood={kind: count_mixture, components: 3}", COUNT],
        "multinomial": ["model.likelihood=multinomial", COUNT],
    },
    "posterior": {
        "gaussian": ["model.posterior=gaussian"],
        "full_gaussian": ["model.posterior=full_gaussian"],
        "von_mises_fisher": ["model.posterior=von_mises_fisher", "model.prior=uniform_sphere"],
        "power_spherical": ["model.posterior=power_spherical", "model.prior=uniform_sphere"],
        "deterministic": ["model.posterior=deterministic"],
        "categorical": ["model.posterior={kind: categorical, classes: 4}", "objective.gradient=score"],
        "bernoulli": ["model.posterior=bernoulli", "objective.gradient=score"],
        "vq": ["model.posterior={kind: vq, classes: 6, dim: 2}"],
        "fsq": ["model.posterior={kind: fsq, levels: [4, 3]}"],
        "planar": ["model.posterior={kind: planar, steps: 2}"],
        "flow": ["model.posterior={kind: flow, hidden: [8]}"],
        "radial": ["model.posterior={kind: radial, steps: 2}"],
    },
    "hierarchical": {
        "dense": ["model.kind=hierarchical", "model.groups={kind: dense, latent: [3, 2], widths: [8]}"],
        "spatial": [
            "model.kind=hierarchical",
            "model.groups={kind: spatial, latent: 3, channels: [4, 6], groups: [0, 1], hidden: 8}",
        ],
    },
    "context": {
        "label, to all": ["data.context=label"],
        "label, to the decoder": ["data.context=label", "data.context_to=decoder"],
    },
}


def files(folder: Path) -> dict[str, list[str]]:
    """Data of other forms in files, and what it is trained with, by name."""
    rng, n = np.random.default_rng(0), 120
    age, job = rng.integers(18, 90, n), rng.choice(["cook", "clerk", "nurse"], n)
    pay = np.round(np.exp(rng.normal(8, 1, n)), 2)
    rows = [f"{a},{j},{p},{a % 2}" for a, j, p in zip(age, job, pay, strict=True)]
    (folder / "whole.csv").write_text("\n".join(["age,job,pay,even", *rows]))
    holes = [row if place % 5 else row.replace("cook", "").replace("nurse", "") for place, row in enumerate(rows)]
    (folder / "holes.csv").write_text("\n".join(["age,job,pay,even", *holes, ",clerk,7.5,0"]))
    np.save(folder / "photos.npy", rng.integers(0, 256, (n, 8, 8, 3), np.uint8))
    np.save(folder / "waves.npy", rng.normal(5, 2, (n, 16, 2)))
    np.save(folder / "blocks.npy", rng.normal(0, 1, (n, 8, 8, 8)))
    np.save(folder / "numbers.npy", rng.normal(1e6, 3, (n, 5)))
    np.save(folder / "gaps.npy", np.where(rng.random((n, 5)) < 0.2, np.nan, rng.normal(0, 1, (n, 5))))
    conv = [f"model.encoder={CONV}", f"model.decoder={CONV}"]
    return {
        "table": [str(folder / "whole.csv")],
        "table with missing cells": [str(folder / "holes.csv")],
        "table, context of columns": [str(folder / "holes.csv"), "data.context=[job, age]"],
        "table, autoregressive columns": [str(folder / "whole.csv"), "model.likelihood=autoregressive_columns"],
        "array": [str(folder / "numbers.npy")],
        "array with missing cells": [str(folder / "gaps.npy")],
        "pictures, channels last": [str(folder / "photos.npy"), *conv],
        "sequences": [str(folder / "waves.npy"), "data.layout=sequence", *conv],
        "volumes": [str(folder / "blocks.npy"), "data.layout=volume", *conv],
    }


def cases(folder: Path, text: str) -> Iterator[tuple[str, str, TrainedRun]]:
    """The group and the name of each case that holds a text, and a trained run."""
    for group, members in OF_DIGITS.items():
        for name, settings in members.items():
            if text in f"{group}: {name}":
                yield group, name, fit(make_run(override(preset("digits"), [*TINY, *settings])), progress=False)
    for name, (source, *settings) in files(folder).items():
        if text in f"data: {name}":
            run = make_run(override({"data": {"source": source}}, [*TINY, *settings]))
            yield "data", name, fit(run, progress=False)


def measured(trained: TrainedRun, folder: Path) -> str:
    """The largest difference from torch, or why there is none."""
    try:
        found = export_onnx(trained, folder)
    except NotApplicable as error:
        return f"not exported: {error}"
    return f"{max(found.differences.values()):.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="the page whose table is replaced")
    parser.add_argument("--cases", default="", help="only cases whose group or name holds this text")
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for number, (group, case, trained) in enumerate(cases(Path(name), asked.cases)):
            start = time.perf_counter()
            rows += [(f"{group}: {case}", measured(trained, Path(name) / f"exported-{number}"))]
            print(*rows[-1], f"({time.perf_counter() - start:.1f} s)", sep="  ", flush=True)
    if asked.write:
        text = f"{provenance([0])}\n\n{table(['', 'largest difference'], rows)}"
        put_into(asked.write, "exporting", text)


if __name__ == "__main__":
    main()
