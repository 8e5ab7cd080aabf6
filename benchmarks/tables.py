"""Which likelihood is the default of tables of real numbers: held-out log-likelihoods under the default training.

    python benchmarks/tables.py --write docs/models.md

Each table is standardised and trained with every default setting but the likelihood. Beside stands what factor analysis
(scikit-learn, as many factors as the VAE has latents or the table columns, whichever are fewer) gives the same rows,
and the best model without z. The sets of `anomaly/` need $VAEKIT_DATA and are left out without it.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.decomposition import FactorAnalysis

from facts import mean_and_error, provenance, put_into, table
from vaekit.data import Dataset
from vaekit.evaluation import baseline, evaluate
from vaekit.models import Conditional
from vaekit.runs import TrainingRun, make_run

LIKELIHOODS = {
    "gaussian": {"kind": "gaussian"},
    "calibrated, per column": {"kind": "calibrated_gaussian", "per_dimension": True},
    "calibrated, shared": {"kind": "calibrated_gaussian"},
}
ANOMALY = ("45_wine", "18_Ionosphere", "6_cardio")
SAMPLES = 100


def lines(rows: int = 1000, noise: float = 0.05) -> np.ndarray:
    """t, 2t, -t, u, u + t, 3u with noise of a known size."""
    rng = np.random.default_rng(0)
    t, u = rng.standard_normal((2, rows))
    return np.stack([t, 2 * t, -t, u, u + t, 3 * u], 1) + noise * rng.standard_normal((rows, 6))


def linear(rows: int = 1000, columns: int = 10) -> np.ndarray:
    """A linear model of three factors."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((rows, 3)) @ rng.standard_normal((3, columns)) + 0.3 * rng.standard_normal(
        (rows, columns)
    )


def tables() -> dict[str, np.ndarray]:
    found = {"lines, noise 0.05": lines(), "linear, 3 factors": linear()}
    found |= {
        "diabetes": datasets.load_diabetes().data,
        "wine": datasets.load_wine().data,
        "breast cancer": datasets.load_breast_cancer().data,
    }
    if home := os.environ.get("VAEKIT_DATA"):
        for name in ANOMALY:
            x = np.load(Path(home) / "anomaly" / f"{name}.npz")["X"]
            found[f"anomaly/{name}"] = x[:, x.std(0) > 0]
    return found


def held_out(x: np.ndarray, likelihood: dict[str, object], seed: int) -> tuple[float, float, float]:
    """Log-likelihoods of the test rows, in nats a row of the standardised table: the VAE's, that without z, and that of
    factor analysis."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.npy"
        np.save(path, x)
        training = TrainingRun.start(
            make_run({"data": {"source": str(path)}, "model": {"likelihood": likelihood}, "seed": seed})
        )
        for _ in training.events():
            pass
    data, model = training.data, training.model
    assert isinstance(model.likelihood, Conditional)
    found = evaluate(model.eval(), data.test, SAMPLES, seed=seed)["log_likelihood"].value
    alone = baseline(model.likelihood, whole(data, "train"), data.test).value
    assert found is not None
    assert alone is not None
    factors = min(x.shape[1] - 1, 16)
    return found, alone, FactorAnalysis(factors).fit(whole(data, "train").numpy()).score(whole(data, "test").numpy())


def whole(data: Dataset, split: str):
    rows = getattr(data, split)
    return rows.batch(slice(0, len(rows)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table there as well")
    args = parser.parse_args()
    rows = []
    for name, x in tables().items():
        cells, others = [], []
        for likelihood in LIKELIHOODS.values():
            runs = [held_out(x, likelihood, seed) for seed in args.seeds]
            mean, error = mean_and_error([run[0] for run in runs])
            cells += [f"{mean:.2f} ± {error:.2f}"]
            others += [runs[0][1:]]
        rows += [[name, f"{len(x)} x {x.shape[1]}", *cells, f"{others[0][0]:.2f}", f"{others[0][1]:.2f}"]]
        print(*rows[-1], sep=" | ", flush=True)
    text = table(["table", "rows x columns", *LIKELIHOODS, "without z", "factor analysis"], rows)
    facts = provenance(args.seeds, Evaluation=f"importance-weighted bound with K = {SAMPLES}, errors over seeds")
    if args.write:
        put_into(args.write, "tables.py", f"{facts}\n\n{text}")
    print(text)


if __name__ == "__main__":
    main()
