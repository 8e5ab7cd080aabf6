"""How far single dimensions of z go with single factors of variation, where the factors of the data are known.

Five published scores, on the same codes. All are 1 at best, except SAP. They disagree with one another, and seeds
matter more to them than methods do (Locatello et al., 2019, arXiv 1811.12359): compare medians over several runs.

Codes are (n, d) numbers, factors are (n, f) integers; each row is one data point. Every score but that of FactorVAE is
the same whatever the order, scale and sign of the dimensions of the codes. A dimension that varies by no more than the
rounding of its numbers is constant to all of them.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vaekit.data import Rows, StreamedRows
from vaekit.errors import DataError
from vaekit.evaluation.blocks import Block, Blocks
from vaekit.evaluation.boosting import boosted_trees
from vaekit.evaluation.counting import (
    Codes,
    Factors,
    Table,
    between_extremes,
    binned,
    entropy,
    information,
    joint_counts,
    settled,
)
from vaekit.evaluation.estimate import Estimate
from vaekit.evaluation.results import SHARE, label_of
from vaekit.models.vae import Model
from vaekit.processes import World
from vaekit.randomness import Purpose, numpy_generator, sklearn_seed

POINTS = 10_000  # rows used for mutual information
FITTED_POINTS = 15_000  # rows used where something is fitted to four fifths of them and tested on the rest
PARTS = 20  # left out in turn for the error of what is counted
FOLDS = 5  # of what is fitted
VOTES, TESTS, BATCH = 10_000, 5_000, 64  # of the FactorVAE score
ROUNDING = 1e-12  # of a relative variance
DEAD = 0.05  # standard deviation of a dimension below which the FactorVAE score leaves it out


def disentanglement_scores(
    model: Model, rows: Rows | StreamedRows, *, seed: int = 0, context: Tensor | None = None, world: World | None = None
) -> dict[str, Estimate]:
    """All scores of `scores_of`, with the posterior's means as codes.

    Args:
        model: A VAE, or anything with its `encode`.
        rows: Of a split whose factors are known, as those of `sprites` are; the more rows, the better (the published
            protocols take 10,000).
        seed: Of the choice of rows and of what is fitted.
        context: (rows, width), if the model takes one.
        world: Processes that divide the rows.

    Returns:
        Estimates by name.

    Raises:
        DataError: The rows have no factors.
    """
    if not isinstance(rows, Rows) or rows.factors is None:
        raise DataError(
            "disentanglement is measured against known factors of variation, and these rows have none: use data that "
            "comes with them, as `sprites` does",
            field="rows",
        )
    return scores_of(posterior_means(model, rows, seed, context, world), rows.factors.cpu().numpy(), seed)


def posterior_means(
    model: Model, rows: Rows, seed: int = 0, context: Tensor | None = None, world: World | None = None
) -> Float[np.ndarray, "n d"]:
    """E_q[z|x] of each row, all groups of latents beside one another."""

    def means_of(block: Block) -> tuple[Tensor]:
        means = [q.mean.flatten(1) for q in model.encode(block.x, block.context, **block.masked).posteriors]
        return (torch.cat(means, 1),)

    (means,) = Blocks(model, rows, seed, context, world).map(means_of)
    return means.cpu().numpy()


def scores_of(codes: Codes, factors: Factors, seed: int = 0) -> dict[str, Estimate]:
    """Every score of disentanglement by name.

    mig, modularity, sap, disentanglement, completeness, informativeness (the three of DCI), and factor_vae.

    Args:
        codes: (n, d).
        factors: (n, f) integers.
        seed: Of the choice of rows and of what is fitted.

    Returns:
        Estimates by name.

    Raises:
        DataError: The shapes do not fit, codes are not finite, or a factor has one value only.

    Example:
        >>> factors = np.stack(np.meshgrid(np.arange(5), np.arange(4)), -1).reshape(-1, 2).repeat(20, 0)
        >>> scores_of(factors * [-1.0, 3.0], factors)["mig"].value
        1.0
    """
    codes = _checked(codes, factors)
    return {
        "mig": mutual_information_gap(codes, factors, seed),
        "modularity": modularity(codes, factors, seed),
        "sap": separated_predictability(codes, factors, seed),
        **dci(codes, factors, seed),
        "factor_vae": factor_vae_score(codes, factors, seed),
    }


def mutual_information_gap(codes: Codes, factors: Factors, seed: int = 0) -> Estimate:
    """The mutual information gap (MIG).

    The mean over factors v_k of (I(z_a; v_k) - I(z_b; v_k)) / H(v_k), with a and b the dimensions of z that know most
    of v_k and second most.

    Mutual information is counted with each dimension of z in 20 bins of equal width, on at most 10,000 rows; so a
    factor of more than 20 values cannot reach 1. The error is a jackknife over 20 parts of the rows.
    Source: Chen et al., 2018, arXiv 1802.04942, equation 6.
    """

    def gap(information: Table, entropy: np.ndarray) -> float:
        ranked = np.sort(information, 0)
        second = ranked[-2] if len(ranked) > 1 else 0.0
        return float(((ranked[-1] - second) / entropy).mean())

    return _counted(gap, codes, factors, seed)


def modularity(codes: Codes, factors: Factors, seed: int = 0) -> Estimate:
    """Modularity: whether a dimension knows of one factor only, not whether it knows much of it.

    The mean over dimensions z_i of 1 - sum_{k not a} I(z_i; v_k)^2 / (I(z_i; v_a)^2 (f - 1)), with a the factor that
    z_i knows most of.

    A constant dimension counts as 0, since it stands for no factor. One of noise scores well above that (0.64 on
    `sprites`), for an estimate of no information is larger for a factor of many values. Counted as
    `mutual_information_gap`; None for one factor.
    Source: Ridgeway and Mozer, 2018, arXiv 1802.05312, section 2.
    """
    if factors.shape[1] < 2:
        return Estimate(None, 0.0, len(codes), SHARE, "modularity compares factors, and there is only one")

    def modular(information: Table, entropy: np.ndarray) -> float:
        square = information**2
        most = square.max(1)
        others = (square.sum(1) - most) / np.where(most > 0, most, 1) / (square.shape[1] - 1)
        return float(np.where(most > 0, 1 - others, 0).mean())

    return _counted(modular, codes, factors, seed)


def separated_predictability(codes: Codes, factors: Factors, seed: int = 0) -> Estimate:
    """SAP: mean over factors of the gap between the two dimensions of z that each predict the factor best by itself.

    A prediction is by thresholds on z_i (a tree with as many leaves as the factor has values, fitted to balanced
    classes), its score the balanced accuracy on held-out rows; so the best possible SAP is the mean of 1 - 1/values.
    With one dimension, the gap is to chance. On at most 15,000 rows, five-fold; the error is a jackknife over folds.
    Source: Kumar et al., 2018, arXiv 1711.00848, section 3. Others put a linear support vector machine in the place of
    thresholds, with lower scores.
    """
    from sklearn.tree import DecisionTreeClassifier  # slow to import

    codes = between_extremes(_checked(codes, factors))  # the trees see single precision
    trees = sklearn_seed(seed, Purpose.SCORED_TREES)

    def gaps(train: np.ndarray, test: np.ndarray) -> tuple[float]:
        scores = np.zeros((codes.shape[1], factors.shape[1]))
        for dim, factor in np.ndindex(scores.shape):
            z, v = codes[:, [dim]], factors[:, factor]
            leaves = max(2, len(np.unique(v[train])))
            tree = DecisionTreeClassifier(max_leaf_nodes=leaves, class_weight="balanced", random_state=trees)
            right = tree.fit(z[train], v[train]).predict(z[test]) == v[test]
            scores[dim, factor] = np.mean([right[v[test] == value].mean() for value in np.unique(v[test])])
        chance = [1 / len(np.unique(v)) for v in factors[test].T]
        ranked = np.sort(scores, 0)
        return (float((ranked[-1] - (ranked[-2] if len(ranked) > 1 else chance)).mean()),)

    return _fitted(gaps, len(codes), seed)[0]


def dci(codes: Codes, factors: Factors, seed: int = 0) -> dict[str, Estimate]:
    """Disentanglement, completeness and informativeness, of what boosted trees need to predict each factor.

    With R_ik the trees' importance of z_i for v_k (see `boosted_trees`):
    disentanglement = sum_i w_i (1 - H(R_i. / sum_k R_ik) / ln f), weighted by w_i = sum_k R_ik / sum R: does a
        dimension serve one factor only?
    completeness = the mean over k of 1 - H(R_.k / sum_i R_ik) / ln d: is a factor served by one dimension only?
    informativeness = the mean accuracy with which the factors of held-out rows are predicted.

    On at most 15,000 rows, five-fold; the errors are jackknives over the folds. Where there is one factor, or one
    dimension of z, what compares them is None.

    Source: Eastwood and Williams, 2018, "A framework for the quantitative evaluation of disentangled representations",
    section 2, with boosted trees in place of their forest, as in Locatello et al., 2019, arXiv 1811.12359. Other models
    give other scores; all fall with noise in the codes, as trees spend splits on it, and more so with few rows.
    """

    def scores(train: np.ndarray, test: np.ndarray) -> tuple[float, float, float]:
        found = [boosted_trees(codes[train], v[train], codes[test]) for v in factors.T]
        table = np.stack([importance for importance, _ in found], 1)
        accuracy = [np.mean(said == v) for (_, said), v in zip(found, factors[test].T, strict=True)]
        share = table.sum(1) / max(table.sum(), 1e-300)
        return float((share * _purity(table)).sum()), float(_purity(table.T).mean()), float(np.mean(accuracy))

    codes, names = _checked(codes, factors), ("disentanglement", "completeness", "informativeness")
    found: dict[str, Estimate] = dict(zip(names, _fitted(scores, len(codes), seed), strict=True))
    for name, size, what in (("disentanglement", factors.shape[1], "factors"), ("completeness", codes.shape[1], "z")):
        if size < 2:
            found[name] = Estimate(None, 0.0, len(codes), SHARE, f"{name} compares {what}, and there is only one")
    return found


def factor_vae_score(codes: Codes, factors: Factors, seed: int = 0) -> Estimate:
    """How often one can tell which factor was held fixed in a batch, from the dimension of z that varied least there.

    A batch is 64 rows drawn from those with one value of one factor, both at random; the dimension is that of the least
    variance, relative to its variance over all rows. 10,000 batches say which factor each dimension stands for, by
    majority; the score is the accuracy on 5,000 others, and its error that of so many. Chance is about 1/f. Dimensions
    whose standard deviation is below 0.05, in units where the prior's is 1, are left out, so the scale of codes matters
    here. None where there is one factor, no such dimension, or a factor of which no two rows share a value.

    Source: Kim and Mnih, 2018, arXiv 1802.05983, section 4; the numbers of batches and the threshold are those of
    disentanglement_lib (Locatello et al., 2019), whose `factor_vae.py` compares the square root of the variance with
    `prune_dims.threshold = 0.05`.
    """
    codes, why = _checked(codes, factors), ""
    spread, groups = codes.std(0, ddof=1), [_groups(v) for v in factors.T]
    alive = spread >= DEAD
    if len(groups) < 2:
        why = f"the {label_of('factor_vae')} compares factors, and there is only one"
    elif not alive.any():
        why = f"the standard deviation of every dimension is below {DEAD}: the model encodes nothing"
    elif not all(groups):
        why = "no two rows share a value of a factor, so it cannot be held fixed: give more rows"
    if why:
        return Estimate(None, 0.0, TESTS, SHARE, why)
    rng = numpy_generator(seed, Purpose.FACTOR_VOTES)
    kept, dims = codes[:, alive] / spread[alive], int(alive.sum())
    fixed = rng.integers(factors.shape[1], size=VOTES + TESTS)
    still = np.empty(len(fixed), np.int64)
    for number, factor in enumerate(fixed):
        rows = groups[factor][rng.integers(len(groups[factor]))]
        variance = kept[rows[rng.integers(len(rows), size=BATCH)]].var(0)
        still[number] = np.where(variance < ROUNDING, 0.0, variance).argmin()
    votes = np.zeros((dims, factors.shape[1]))
    np.add.at(votes, (still[:VOTES], fixed[:VOTES]), 1)
    score = float((votes.argmax(1)[still[VOTES:]] == fixed[VOTES:]).mean())
    return Estimate(score, math.sqrt(score * (1 - score) / (TESTS - 1)), TESTS, SHARE)


def _counted(score: Callable[[Table, np.ndarray], float], codes: Codes, factors: Factors, seed: int) -> Estimate:
    """A score of the mutual information and the factors' entropies, on some rows; its error from leaving out parts."""
    rows = _some(len(codes), POINTS, seed)
    codes, factors = _checked(codes, factors)[rows], factors[rows]
    parts = min(PARTS, len(codes))
    counts = joint_counts(binned(codes), factors, np.arange(len(codes)) % parts, parts)
    whole = counts.sum(0)

    def of(joint: np.ndarray) -> float:
        of_factors = entropy(joint[0].sum(1) / joint[0].sum((1, 2))[:, None])
        return score(information(joint), np.where(of_factors > 0, of_factors, 1))

    left_out = [of(whole - part) for part in counts] if parts > 1 else []
    return Estimate(of(whole), _jackknife(left_out), len(codes), SHARE)


def _fitted(scores: Callable[[np.ndarray, np.ndarray], tuple[float, ...]], n: int, seed: int) -> list[Estimate]:
    """Scores of what is fitted to all folds of n rows but one and tested on that one, each a mean over the folds."""
    rows = _some(n, FITTED_POINTS, seed)
    folds = np.array_split(rows, min(FOLDS, len(rows)))
    found = [scores(np.concatenate(folds[:i] + folds[i + 1 :]), test) for i, test in enumerate(folds)]
    return [Estimate(float(np.mean(of)), _jackknife(of), len(rows), SHARE) for of in zip(*found, strict=True)]


def _jackknife(left_out: Sequence[float]) -> float:
    """The standard error of a statistic from its values with one of g parts left out: sqrt((g - 1) variance)."""
    return math.sqrt((len(left_out) - 1) * float(np.var(left_out))) if len(left_out) > 1 else math.nan


def _some(n: int, most: int, seed: int) -> np.ndarray:
    """The numbers of at most so many of n rows, in a random order."""
    return numpy_generator(seed, Purpose.SCORED_ROWS).permutation(n)[:most]


def _checked(codes: Codes, factors: Factors) -> Codes:
    """The codes as the scores take them (see `settled`), after what makes no sense is refused."""
    if len(codes) != len(factors) or len(codes) < 2 or codes.shape[1] == 0 or factors.shape[1] == 0:
        raise DataError(
            f"codes of shape {codes.shape} and factors of shape {factors.shape}: both need the same rows, at least "
            "two, and at least one column",
            field="codes",
        )
    if not np.isfinite(codes).all():
        raise DataError(
            "the codes hold values that are not finite: encode other rows, or train the model again", field="codes"
        )
    still = [column for column, v in enumerate(factors.T) if (v == v[0]).all()]
    if still:
        raise DataError(
            f"factor {still[0]} (counted from 0) has one value in all {len(factors)} rows: leave its column out, or "
            "give rows in which it varies",
            field="factors",
        )
    return settled(codes)


def _groups(v: np.ndarray) -> list[np.ndarray]:
    """The rows, by number, that share a value of a factor, for each value that at least two rows have."""
    return [rows for value in np.unique(v) if len(rows := np.flatnonzero(v == value)) > 1]


def _purity(table: np.ndarray) -> np.ndarray:
    """1 - H / ln(columns) of each row's shares: 1 where one column has all; 0 where they are equal, or all zero."""
    total, columns = table.sum(1, keepdims=True), table.shape[1]
    share = np.where(total > 0, table / np.where(total > 0, total, 1), 1 / columns)
    return 1 - entropy(share) / math.log(max(columns, 2))
