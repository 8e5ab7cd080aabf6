"""How well labels are predicted from codes, and for comparison from the raw data and its principal components."""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Rows, StreamedRows
from vaekit.errors import DataError
from vaekit.evaluation.blocks import BLOCK, Block, Blocks, evaluating
from vaekit.evaluation.checks import joined
from vaekit.evaluation.estimate import Estimate, mean_of
from vaekit.evaluation.features import pca_features
from vaekit.evaluation.results import unit_of
from vaekit.models.vae import Model
from vaekit.randomness import Purpose, numpy_generator, sklearn_seed
from vaekit.words import plural

Encoder = Callable[[Block], Tensor]  # from x and its context
STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # C, the inverse of the L2 penalty's weight
CHOSEN_ON, FOLDS = 3000, 3  # rows, at most, of the cross-validation
MOST_STEPS = 300  # of L-BFGS


@dataclass(frozen=True)
class Probe:
    """How well, and how fast, labels are predicted from codes.

    Attributes:
        accuracy: Share of test rows whose label is right, with its binomial error.
        time: Of a prediction from a code, in microseconds for each row; its error is the spread over batches of 100
            rows.
    """

    accuracy: Estimate
    time: Estimate


@runtime_checkable
class Classifier(Protocol):
    """A classifier of scikit-learn, or one with its methods."""

    def fit(self, x: Any, y: Any) -> Any:
        """Fit to rows x (n, d) with labels y (n,)."""
        ...

    def predict(self, x: Any) -> Any:
        """The labels (n,) of rows x (n, d)."""
        ...


def linear_probe(
    train_codes: Tensor, train_labels: Tensor, test_codes: Tensor, test_labels: Tensor, *, seed: int = 0
) -> Probe:
    """Multinomial logistic regression (scikit-learn, L-BFGS) from codes to labels.

    All codes are shifted by their mean and divided by one number, the training codes' overall spread. The weight of the
    L2 penalty is the best of five by three-fold cross-validation on at most 3,000 training rows; the test rows choose
    nothing.

    Args:
        train_codes: (n, d), to fit on.
        train_labels: (n,) integers.
        test_codes: (m, d), to measure on.
        test_labels: (m,) integers.
        seed: Of the folds.

    Raises:
        DataError: The shapes do not fit, numbers are not finite, or there is one class only.
    """
    from sklearn.exceptions import ConvergenceWarning  # slow to import
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    x, y, test_x, test_y = _checked(train_codes, train_labels, test_codes, test_labels)
    loc, scale = x.mean(0), max(float(x.std()), 1e-12)
    x, test_x, warning = (x - loc) / scale, (test_x - loc) / scale, ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        few = numpy_generator(seed, Purpose.PROBE_ROWS).permutation(len(x))[:CHOSEN_ON]
        folds, strength = min(FOLDS, int(np.unique(y[few], return_counts=True)[1].min())), 1.0
        if folds > 1:
            split = StratifiedKFold(folds, shuffle=True, random_state=sklearn_seed(seed, Purpose.PROBE_FOLDS))
            search = GridSearchCV(LogisticRegression(max_iter=MOST_STEPS), {"C": STRENGTHS}, cv=split, refit=False)
            strength = search.fit(x[few], y[few]).best_params_["C"]
        else:
            warning = "a class has one row, too few for cross-validation: C = 1"
        caught.clear()
        classifier = LogisticRegression(C=strength, max_iter=MOST_STEPS).fit(x, y)
    if any(issubclass(w.category, ConvergenceWarning) for w in caught):
        warning = f"the regression had not converged after {MOST_STEPS} steps"
    return _probe(classifier, test_x, test_y, joined(warning, _unknown_warning(y, test_y)))


def nearest_neighbours(
    train_codes: Tensor, train_labels: Tensor, test_codes: Tensor, test_labels: Tensor, *, k: int = 5
) -> Probe:
    """The most frequent label among the k nearest training codes, by Euclidean distance (scikit-learn, brute force).

    Args:
        train_codes: (n, d), to fit on.
        train_labels: (n,) integers.
        test_codes: (m, d), to measure on.
        test_labels: (m,) integers.
        k: Neighbours.

    Raises:
        DataError: As `linear_probe`, or k is not between 1 and the number of training rows.
    """
    from sklearn.neighbors import KNeighborsClassifier  # slow to import

    x, y, test_x, test_y = _checked(train_codes, train_labels, test_codes, test_labels)
    if not 1 <= k <= len(x):
        raise DataError(
            f"k is {k}, and there are {len(x)} training rows: it should be between 1 and that", field="k", value=k
        )
    return _probe(KNeighborsClassifier(k, algorithm="brute").fit(x, y), test_x, test_y, _unknown_warning(y, test_y))


def representation(
    model: Model, train: Rows | StreamedRows, test: Rows | StreamedRows, *, k: int = 5, seed: int = 0
) -> dict[str, Estimate]:
    """Linear probe and k nearest neighbours on a model's codes, on the raw data, and on as many principal components.

    Codes are means of q(z|x), in a hierarchical VAE those of the first group, q(z_1|x). Of each of the six probes there
    are `linear_codes`, `linear_pca`, `linear_raw`, `neighbours_codes`, ..., shares of right labels, and `..._time`,
    microseconds for each row from x to label: of encoding (or projecting) and predicting, in batches of 100 rows, as
    measured on this machine.

    Args:
        model: Anything with `encode`.
        train: Rows with labels, to fit on.
        test: Rows with labels of the same data set, to measure on.
        k: Neighbours.
        seed: Of folds and binarisation.

    Raises:
        DataError: Rows have no labels.
    """
    if train.labels is None or test.labels is None:
        raise DataError("the rows have no labels for a probe to predict: give rows that have them", field="labels")
    labels = (train.labels.cpu(), test.labels.cpu())
    both = tuple(Blocks(model, rows, seed) for rows in (train, test))

    def codes(block: Block) -> Tensor:
        return model.encode(block.x, block.context, **block.masked).posteriors[0].mean.flatten(1)

    with evaluating(model):
        size = codes(both[1].block(0)).shape[1]
    components = pca_features(train, size, seed).to(train.device)
    encoders: dict[str, Encoder] = {
        "codes": codes,
        "pca": lambda block: components(block.x),
        "raw": lambda block: block.x.flatten(1),
    }
    found: dict[str, Estimate] = {}
    for name, encode in encoders.items():
        (train_codes, _), (test_codes, seconds) = (_encoded(encode, blocks) for blocks in both)
        probes = {
            "linear": linear_probe(train_codes, labels[0], test_codes, labels[1], seed=seed),
            "neighbours": nearest_neighbours(train_codes, labels[0], test_codes, labels[1], k=k),
        }
        for kind, probe in probes.items():
            found |= {f"{kind}_{name}": probe.accuracy, f"{kind}_{name}_time": _sum(seconds, probe.time)}
    return found


def accuracy(predicted: np.ndarray, labels: np.ndarray, warning: str = "") -> Estimate:
    """The share of predictions that are right, with its binomial standard error, sqrt(p (1 - p) / n)."""
    n, share = len(labels), float(np.mean(predicted == labels))
    return Estimate(share, math.sqrt(share * (1 - share) / n), n, unit_of("linear_codes"), warning)


def _unknown_warning(known: np.ndarray, labels: np.ndarray) -> str:
    """A warning where test rows have labels that no training row has."""
    count = int((~np.isin(labels, known)).sum())
    return (
        f"{count} of {len(labels)} rows {plural(count, 'has', 'have')} a label that no training row has, which counts "
        "as wrong"
        if count
        else ""
    )


def _probe(classifier: Classifier, x: np.ndarray, labels: np.ndarray, warning: str) -> Probe:
    predicted, seconds = [], []
    classifier.predict(x[:BLOCK])  # the first call is slower
    for start in range(0, len(x), BLOCK):
        began = time.perf_counter()
        predicted += [classifier.predict(x[start : start + BLOCK])]
        seconds += [(time.perf_counter() - began) / len(predicted[-1])]
    return Probe(accuracy(np.concatenate(predicted), labels, warning), _microseconds(seconds))


def _encoded(encode: Encoder, blocks: Blocks) -> tuple[Tensor, Estimate]:
    """Codes (n, d) on the CPU, and the time that each took."""
    seconds: list[float] = []
    with evaluating(blocks.model):
        encode(blocks.block(0))  # the first call is slower

    def timed(block: Block) -> tuple[Tensor, ...]:
        began = time.perf_counter()
        found = encode(block).cpu()
        seconds.append((time.perf_counter() - began) / len(block.x))
        return (found,)

    return blocks.map(timed)[0], _microseconds(seconds)


def _microseconds(seconds: list[float]) -> Estimate:
    return mean_of(1e6 * torch.tensor(seconds), unit_of("linear_codes_time"))


def _sum(first: Estimate, second: Estimate) -> Estimate:
    total = (first.value or 0.0) + (second.value or 0.0)
    return Estimate(total, math.hypot(first.stderr, second.stderr), min(first.n, second.n), first.unit)


def _checked(
    train_codes: Tensor, train_labels: Tensor, test_codes: Tensor, test_labels: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    shapes = [tuple(codes.shape) for codes in (train_codes, test_codes)]
    labelled = len(train_labels) == len(train_codes) and len(test_labels) == len(test_codes)
    if any(len(shape) != 2 or 0 in shape for shape in shapes) or shapes[0][1] != shapes[1][1] or not labelled:
        raise DataError(
            f"got codes of shapes {shapes[0]} (training) and {shapes[1]} (test) with {len(train_labels)} and "
            f"{len(test_labels)} labels: (n, d) with n labels is needed, with the same d for both",
            field="codes",
        )
    if len(train_labels.unique()) < 2:
        raise DataError("all training rows have the same label: at least two classes are needed", field="labels")
    x, test_x = (codes.detach().cpu().float().numpy() for codes in (train_codes, test_codes))
    if not (np.isfinite(x).all() and np.isfinite(test_x).all()):
        raise DataError("codes hold numbers that are not finite: look at the model that made them", field="codes")
    return x, train_labels.cpu().numpy(), test_x, test_labels.cpu().numpy()
