"""What finds odd rows: functions (case, seed) -> numbers."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split


def detector(case: str, seed: int) -> dict[str, float]:
    """`VAEAnomalyDetector`, and how uniform p-values of ordinary rows are."""
    from vaekit.sklearn import VAEAnomalyDetector

    train, rows, odd = split(case, seed)
    found = VAEAnomalyDetector(random_state=seed).fit(train)
    return measures(-found.score_samples(rows), odd, found.p_values(rows))


def run(case: str, seed: int) -> dict[str, float]:
    """`train` and `score`, by the oddness."""
    from vaekit import fit
    from vaekit.runs import run

    train, rows, odd = split(case, seed)
    varies = train.min(0) < train.max(0)
    settings = run(f"seed={seed}", "train.device=cpu", "data.label=none", "data.test_fraction=0")
    found = fit(settings, train[:, varies], progress=False).score(rows[:, varies], samples=20)
    return measures(found.oddness, odd, found.p_value)


def forest(case: str, seed: int) -> dict[str, float]:
    train, rows, odd = split(case, seed)
    return measures(-IsolationForest(random_state=seed).fit(train).score_samples(rows), odd)


def ecod(case: str, seed: int) -> dict[str, float]:
    from pyod.models.ecod import ECOD  # pyright: ignore[reportMissingImports]

    train, rows, odd = split(case, seed)
    return measures(ECOD().fit(train).decision_function(rows), odd)


def autoencoder(case: str, seed: int) -> dict[str, float]:
    """PyOD's VAE with its defaults: 30 epochs of batches of 32."""
    from pyod.models.vae import VAE  # pyright: ignore[reportMissingImports]

    train, rows, odd = split(case, seed)
    return measures(VAE(random_state=seed, verbose=0).fit(train).decision_function(rows), odd)


def split(case: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """70 % of the rows to train on, odd ones among them, the others, and which of these are odd."""
    with np.load(Path(os.environ["VAEKIT_DATA"]) / "anomaly" / f"{case}.npz") as file:
        x, y = file["X"].astype(np.float64), file["y"]
    parts: Any = train_test_split(x, y, test_size=0.3, random_state=seed, stratify=y)
    train, rows, _, odd = parts
    return train, rows, odd


def measures(oddness: np.ndarray, odd: np.ndarray, p_value: np.ndarray | None = None) -> dict[str, float]:
    """The area under the ROC curve; of ordinary rows, by Kolmogorov and Smirnov, whether p-values are uniform."""
    found = {"area": float(roc_auc_score(odd, np.clip(oddness, -1e30, 1e30)))}
    if p_value is not None:
        ordinary = p_value[odd == 0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that ties make it no exact test
            test = stats.kstest(ordinary, "uniform")
        found |= {"distance": float(test.statistic), "uniform": float(test.pvalue > 0.01)}
        found["at most 0.05"] = float((ordinary <= 0.05).mean())
    return found
