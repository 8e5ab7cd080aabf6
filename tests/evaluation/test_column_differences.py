"""Distances between the columns of two tables."""

import numpy as np
import pytest

from vaekit.evaluation.columns import compare_columns


def test_distances_are_those_of_their_definitions():
    data = np.array([[0, 1.0], [0, 2.0], [1, 3.0], [1, 4.0]])
    samples = np.array([[0, 1.0], [0, 1.0], [0, 1.0], [1, 4.0]])
    found = compare_columns(data, samples, ("kind", "size"), (True, False))
    assert [(one.measure, one.value) for one in found.single] == [
        ("total variation", 0.25),
        ("Kolmogorov-Smirnov", 0.5),
    ]
    (pair,) = found.pairs
    # Of (0, 1), (0, 2), (1, 3), (1, 4) the samples have 3/4, 0, 0 and 1/4.
    assert (pair.columns, pair.measure, pair.value) == (("kind", "size"), "total variation", 0.5)
    assert found.single_mean.value == pytest.approx(0.375)


def test_rank_correlations_do_not_see_monotone_changes_and_missing_cells_do_not_count():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 2)) @ np.array([[1, 0.8], [0, 0.6]])
    other = x.copy()
    other[:, 1] = -other[:, 1]
    pair = compare_columns(x, np.exp(x), ("a", "b"), (False, False)).pairs[0]
    assert (pair.measure, pair.value) == ("rank correlation", 0)
    opposite = compare_columns(x, other, ("a", "b"), (False, False)).pairs[0]
    assert 0.7 < opposite.value < 0.9
    assert opposite.error < 0.05
    holes = x.copy()
    holes[:250, 0] = np.nan
    seen = compare_columns(holes, x[250:], ("a", "b"), (False, False))
    assert seen.single[0].value == 0
    assert seen.pairs[0].value == 0


def test_rows_of_one_distribution_are_as_far_apart_as_chance_says():
    rng = np.random.default_rng(0)
    draw = lambda: np.stack([rng.integers(0, 6, 800), rng.normal(size=800)], 1)  # noqa: E731
    found = compare_columns(draw(), draw(), ("a", "b"), (True, False))
    for one in (*found.single, *found.pairs):
        assert 0 < one.value < 2.5 * one.chance
