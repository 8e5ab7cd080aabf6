"""What fills missing cells: functions (case, seed) -> numbers."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn import datasets
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

LEVEL = 0.9
ADULT_ROWS = 2000
SETS = {"breast cancer": datasets.load_breast_cancer, "digits": datasets.load_digits, "wine": datasets.load_wine}


def vaekit(case: str, seed: int) -> dict[str, float]:
    """`train` with preset `imputation`, and `impute`."""
    from vaekit import fit
    from vaekit.runs import run

    whole, hidden = table(case, seed)
    holed = whole.mask(hidden)
    trained = fit(run(f"seed={seed}", "train.device=cpu", preset="imputation"), holed, progress=False)
    found = trained.impute(holed, level=LEVEL, seed=seed)
    low, high = (numbers(as_frame(rows, whole)) for rows in (found.lower, found.upper))
    inside = hidden & np.isfinite(low) & np.isfinite(high)
    covered = ((low <= numbers(whole)) & (numbers(whole) <= high))[inside].mean()
    return measures(whole, hidden, as_frame(found.filled, whole)) | {"share in intervals": covered}


def iterative(case: str, seed: int) -> dict[str, float]:
    return by_numbers(case, seed, IterativeImputer(random_state=seed).fit_transform)


def neighbours(case: str, seed: int) -> dict[str, float]:
    return by_numbers(case, seed, KNNImputer().fit_transform)


def means(case: str, seed: int) -> dict[str, float]:
    """The mean of a column of numbers, and the most frequent category of one of text."""
    whole, hidden = table(case, seed)
    holed = whole.mask(hidden)
    usual = {name: column.mean() if is_numeric_dtype(column) else column.mode()[0] for name, column in holed.items()}
    return measures(whole, hidden, holed.fillna(usual))


def table(case: str, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows of a case, and which cells are hidden, (rows, columns): of those that are there, so many at random."""
    name, _, share = case.rpartition(", ")
    noise = np.random.default_rng(seed)
    if name == "adult":
        path = Path(os.environ["VAEKIT_DATA"]) / "tables" / "adult.csv"
        frame = pd.read_csv(path, skipinitialspace=True, na_values="?")
        whole = frame.iloc[noise.permutation(len(frame))[:ADULT_ROWS]].reset_index(drop=True)
    else:
        bunch: Any = SETS[name](as_frame=True)
        whole = bunch.data
        whole = whole.loc[:, whole.std() > 0].astype(float)
    hidden = noise.random(whole.shape) < float(share.split()[0]) / 100
    return whole, hidden & whole.notna().to_numpy()


def as_frame(rows: Any, whole: pd.DataFrame) -> pd.DataFrame:
    return rows.to_pandas()[list(whole.columns)]


def numbers(frame: pd.DataFrame) -> np.ndarray:
    """The columns of numbers, NaN in place of others, (rows, columns)."""
    known = {name: frame[name] if is_numeric_dtype(frame[name]) else np.nan for name in frame}
    return pd.DataFrame(known, index=frame.index).to_numpy(float)


def by_numbers(case: str, seed: int, fill: Callable[[np.ndarray], Any]) -> dict[str, float]:
    """Of a method for numbers: columns are standardised, and categories are numbered and rounded."""
    whole, hidden = table(case, seed)
    holed = whole.mask(hidden)
    codes = {
        name: (column, None) if is_numeric_dtype(column) else pd.factorize(column, sort=True)
        for name, column in holed.items()
    }
    x: Any = np.stack([np.where(holed[name].isna(), np.nan, values) for name, (values, _) in codes.items()], 1)
    loc, scale = np.nanmean(x, 0), np.nanstd(x, 0)
    found = np.asarray(fill((x - loc) / scale)) * scale + loc
    filled = {
        name: found[:, at]
        if levels is None
        else np.asarray(levels)[np.clip(np.rint(found[:, at]), 0, len(levels) - 1).astype(int)]
        for at, (name, (_, levels)) in enumerate(codes.items())
    }
    return measures(whole, hidden, pd.DataFrame(filled))


def measures(whole: pd.DataFrame, hidden: np.ndarray, filled: pd.DataFrame) -> dict[str, float]:
    """Of hidden cells: the mean square error of numbers, by columns of unit variance, and the share of right texts."""
    scale = np.nanstd(numbers(whole), 0)
    squares = np.square((numbers(filled) - numbers(whole)) / scale)
    found = {"mean square error": float(np.nanmean(squares[hidden]))}
    texts = np.array([not is_numeric_dtype(whole[name]) for name in whole])
    if texts.any():
        right = (filled.to_numpy(object) == whole.to_numpy(object))[:, texts]
        found["accuracy"] = float(right[hidden[:, texts]].mean())
    return found
