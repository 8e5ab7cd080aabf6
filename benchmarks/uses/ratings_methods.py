"""What ranks items for users: functions (case, seed) -> numbers."""

import os
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.linalg import lapack

PENALTIES = (30.0, 100.0, 300.0, 1000.0)
TOP = 20


def vaekit(case: str, seed: int) -> dict[str, float]:
    """The preset, trained on the files' training items."""
    from vaekit import fit
    from vaekit.runs import run
    from vaekit.uses import ranking

    home = folder()
    settings = (str(home / "train.csv"), "data.rows=uid", "data.items=iid", f"seed={seed}", "train.device=cpu")
    trained = fit(run(*settings, preset="ratings"), progress=False)
    seen = trained.interactions(home / "train.csv")
    held_out = trained.interactions(home / "test.csv", seen.users, other_items=True)
    found = ranking(trained, seen, held_out, top=TOP)
    return {f"{name} at {TOP}": found[f"{name}_at_{TOP}"].value or 0.0 for name in ("recall", "ndcg")}


def ease(case: str, seed: int) -> dict[str, float]:
    """The closed form: B = I - P / diag(P), where P is the inverse of X'X + penalty I; scores are X B."""
    train, test = (read(folder() / f"{part}.csv") for part in ("train", "test"))
    users, items = max(train[:, 0].max(), test[:, 0].max()) + 1, max(train[:, 1].max(), test[:, 1].max()) + 1
    held = np.random.default_rng(seed).random(len(train)) < 0.1
    part, rest, every, wanted = (matrix(of, users, items) for of in (train[~held], train[held], train, test))
    best = max(PENALTIES, key=lambda penalty: measures(part, rest, weights(part, penalty))["ndcg at 20"])
    return measures(every, wanted, weights(every, best)) | {"penalty": best}


def folder() -> Path:
    return Path(os.environ["VAEKIT_DATA"]) / "recommender"


def read(path: Path) -> np.ndarray:
    return np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.int64)


def matrix(pairs: np.ndarray, users: int, items: int) -> sparse.csr_array:
    return sparse.csr_array((np.ones(len(pairs), np.float32), (pairs[:, 0], pairs[:, 1])), shape=(users, items))


def weights(x: sparse.csr_array, penalty: float) -> np.ndarray:
    gram = (x.T @ x).toarray()
    gram[np.diag_indices_from(gram)] += penalty
    factor, failed = lapack.spotrf(gram, lower=1, overwrite_a=1)
    assert not failed
    half, failed = lapack.spotri(factor, lower=1, overwrite_c=1)
    assert not failed
    lower = np.tril(half)
    inverse = lower + np.tril(half, -1).T
    found = inverse / -np.diag(inverse)
    np.fill_diagonal(found, 0.0)
    return found


def measures(seen: sparse.csr_array, wanted: sparse.csr_array, found: np.ndarray) -> dict[str, float]:
    """Means over users with held-out items."""
    gains, recalls, ndcgs = 1 / np.log2(np.arange(2, TOP + 2)), [], []
    for start in range(0, len(seen.indptr) - 1, 2048):
        some, sought = seen[start : start + 2048], wanted[start : start + 2048].toarray() > 0
        scores = some @ found
        scores[some.toarray() > 0] = -np.inf
        best = np.argsort(-scores, 1, kind="stable")[:, :TOP]
        hits, count = np.take_along_axis(sought, best, 1), sought.sum(1)
        having = count > 0
        ideal = np.cumsum(gains)[np.minimum(count[having], TOP) - 1]
        recalls += [hits[having].sum(1) / count[having]]
        ndcgs += [(hits[having] * gains).sum(1) / ideal]
    return {"recall at 20": float(np.concatenate(recalls).mean()), "ndcg at 20": float(np.concatenate(ndcgs).mean())}
