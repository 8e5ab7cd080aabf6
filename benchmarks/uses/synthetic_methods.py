"""What makes synthetic tables: functions (case, seed) -> numbers."""

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

TARGET, BINS = "classification", 10


def vaekit(case: str, seed: int) -> dict[str, float]:
    """`VAESynthesizer` with its default settings."""
    from vaekit.sklearn import VAESynthesizer

    train, test = tables()
    made = VAESynthesizer(random_state=seed).fit(train).sample(len(train))
    return measures(train, test, made, seed)


def tvae(case: str, seed: int) -> dict[str, float]:
    """CTGAN's TVAE with its default settings."""
    import torch
    from ctgan import TVAE  # pyright: ignore[reportMissingImports]

    train, test = tables()
    texts = [name for name in train if not is_numeric_dtype(train[name])]
    torch.manual_seed(seed)
    np.random.seed(seed)
    model = TVAE(enable_gpu=False)
    model.fit(train.fillna(dict.fromkeys(texts, "?")), texts)
    made = model.sample(len(train))
    return measures(train, test, made.replace({name: {"?": np.nan} for name in texts}), seed)


def real(case: str, seed: int) -> dict[str, float]:
    """Gradient boosting trained on the training rows, and the test rows in place of synthetic ones."""
    train, test = tables()
    auc = measures(train, test, train, seed)["auc"]
    found = measures(train, test, test, seed)
    copies = found.pop("copies, %")
    return found | {"auc": auc, "copies of test rows, %": copies, "copies, %": copies}


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The training and the official test rows."""
    home = Path(os.environ["VAEKIT_DATA"]) / "tables"
    train, test = (
        pd.read_csv(home / f"{name}.csv", skipinitialspace=True, na_values="?") for name in ("adult", "adult-test")
    )
    test.columns = train.columns
    test[TARGET] = test[TARGET].str.rstrip(".")
    return train, test


def measures(train: pd.DataFrame, test: pd.DataFrame, made: pd.DataFrame, seed: int) -> dict[str, float]:
    pairs = list(itertools.combinations(train, 2))
    known = set(hashes(train))
    return {
        "auc": auc(made, test, seed),
        "column error, %": 100 * float(np.mean([of_column(train[name], made[name]) for name in train])),
        "pair error, %": 100 * float(np.mean([of_pair(train[[*pair]], made[[*pair]]) for pair in pairs])),
        "copies, %": 100 * float(np.mean([one in known for one in hashes(made)])),
    }


def auc(train: pd.DataFrame, test: pd.DataFrame, seed: int) -> float:
    """Of the target in test rows, predicted by gradient boosting that is trained on other rows."""
    names = [name for name in train if name != TARGET]
    texts = {name: sorted(test[name].dropna().unique()) for name in names if not is_numeric_dtype(test[name])}

    def numbers(rows: pd.DataFrame) -> np.ndarray:
        codes = {name: pd.Categorical(rows[name], known).codes for name, known in texts.items()}
        columns = [
            np.where(codes[name] < 0, np.nan, codes[name]) if name in texts else rows[name].to_numpy(float)
            for name in names
        ]
        return np.stack(columns, 1)

    named: Any = [name in texts for name in names]
    boosting: Any = HistGradientBoostingClassifier(categorical_features=named, random_state=seed)
    boosting.fit(numbers(train), train[TARGET])
    positive = boosting.classes_[1]
    return float(roc_auc_score(test[TARGET] == positive, boosting.predict_proba(numbers(test))[:, 1]))


def of_column(real: Any, made: Any) -> float:
    """The distance of Kolmogorov and Smirnov of numbers, and the total variation of texts, without missing cells."""
    real, made = real.dropna(), made.dropna()
    if not is_numeric_dtype(real):
        return total_variation(real, made)
    values = np.union1d(real, made)
    below = [np.searchsorted(np.sort(column), values, side="right") / len(column) for column in (real, made)]
    return float(np.abs(below[0] - below[1]).max())


def of_pair(real: Any, made: Any) -> float:
    """Half the difference of correlations of numbers, else the total variation, with numbers in bins of equal width."""
    first, second = real.columns
    if all(is_numeric_dtype(real[name]) for name in (first, second)):
        return float(abs(real[first].corr(real[second]) - made[first].corr(made[second])) / 2)
    edges = {name: np.histogram_bin_edges(real[name].dropna(), BINS) for name in real if is_numeric_dtype(real[name])}

    def cells(rows: Any) -> pd.Series:
        texts: list[Any] = [
            pd.Series(np.digitize(rows[name], edges[name]), rows.index).where(rows[name].notna()).astype(str)
            if name in edges
            else rows[name].astype(object).fillna("?").astype(str)
            for name in rows
        ]
        return texts[0] + " / " + texts[1]

    return total_variation(cells(real), cells(made))


def total_variation(real: pd.Series, made: pd.Series) -> float:
    shares = (column.value_counts(normalize=True) for column in (real, made))
    return float(next(shares).sub(next(shares), fill_value=0).abs().sum() / 2)


def hashes(rows: pd.DataFrame) -> np.ndarray:
    return pd.util.hash_pandas_object(rows.astype(str), index=False).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
