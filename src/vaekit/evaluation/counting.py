"""Mutual information between numbers and factors of variation, counted in bins."""

import numpy as np
from jaxtyping import Float, Int, Shaped

BINS = 20  # of each code dimension
NO_INFORMATION = 1e-12  # nats: less is rounding
STILL = 8  # units of rounding: a dimension that varies by less is constant
Codes = Shaped[np.ndarray, "n d"]  # numbers of any type
Factors = Int[np.ndarray, "rows f"]
Table = Float[np.ndarray, "d f"]


def mutual_information(codes: Codes, factors: Factors) -> Table:
    """I(z_i; v_k) in nats, (d, f), counted with each z_i in 20 bins of equal width between its extremes."""
    return information(joint_counts(binned(codes), factors, np.zeros(len(codes), np.int64), 1)[0])


def settled(codes: Codes) -> Codes:
    """Codes in double precision, with dimensions that vary by no more than the rounding of their type made constant."""
    rounding = np.finfo(codes.dtype).eps if codes.dtype.kind == "f" else 0.0
    codes = codes.astype(np.float64)  # first: the range of small integers is beyond their type
    still = np.ptp(codes, 0) <= STILL * rounding * np.abs(codes).max(0)
    return np.where(still, codes[0], codes)


def between_extremes(codes: Codes) -> Codes:
    """Each dimension as a share of the way from its least to its largest value; 0 where it is constant."""
    codes = codes.astype(np.float64)
    low, width = codes.min(0), np.ptp(codes, 0)
    return (codes - low) / np.where(width > 0, width, 1)


def binned(codes: Codes) -> np.ndarray:
    """Each dimension in bins of equal width between its extremes, by number."""
    return np.minimum((between_extremes(codes) * BINS).astype(np.int64), BINS - 1)


def joint_counts(bins: np.ndarray, factors: Factors, part: np.ndarray, parts: int) -> Float[np.ndarray, "p d f b v"]:
    """How many rows of each part have a bin of each dimension together with a value of each factor."""
    values = [np.unique(v, return_inverse=True)[1] for v in factors.T]
    most = 1 + max(int(v.max()) for v in values)
    counts = np.empty((parts, bins.shape[1], factors.shape[1], BINS, most))
    for dim, factor in np.ndindex(counts.shape[1:3]):
        cell = (part * BINS + bins[:, dim]) * most + values[factor]
        counts[:, dim, factor] = np.bincount(cell, minlength=parts * BINS * most).reshape(parts, BINS, most)
    return counts


def information(joint: Float[np.ndarray, "d f b v"]) -> Table:
    """I(bin; value) = H(bin) + H(value) - H(bin, value), in nats, from counts; 0 where it is but rounding."""
    p = joint / joint.sum((2, 3), keepdims=True)
    found = entropy(p.sum(3)) + entropy(p.sum(2)) - entropy(p.reshape(*p.shape[:2], -1))
    return np.where(found < NO_INFORMATION, 0.0, found)


def entropy(p: np.ndarray) -> np.ndarray:
    """-sum p ln p over the last dimension."""
    return -(p * np.log(np.where(p > 0, p, 1))).sum(-1)
