"""Oddness against the sums that it is, and p-values of ordinary rows against the uniform."""

import math

import numpy as np
import pytest
from scipy import stats

from naming import naming
from vaekit.errors import SpecError
from vaekit.uses import score
from vaekit.uses.oddness import FLOOR, Oddness, Reference, ordinary

NUMBERS = np.zeros(2, int)


@pytest.fixture(scope="module")
def measured() -> tuple[Oddness, np.ndarray, np.ndarray]:
    """A measure of two columns, one of them with few values, its training rows and those that a model made."""
    rng = np.random.default_rng(0)
    rows = np.stack([rng.gamma(2, size=200), rng.integers(0, 5, 200)], 1)
    made = rng.normal(1, 2, (256, 2))
    return Oddness.fitted(rows, np.ones(rows.shape, bool), NUMBERS, made), rows, made


def apart(x: np.ndarray, rows: np.ndarray) -> float:
    """-ln of the kernel density of each column, added up, by its definition."""
    total = 0.0
    for value, column in zip(x, rows.T, strict=True):
        spread = min(column.std(), np.subtract(*np.quantile(column, [0.75, 0.25])) / 1.34)
        width = 1.06 * spread * len(column) ** -0.2
        total -= math.log((np.exp(-0.5 * ((value - column) / width) ** 2).mean() + FLOOR) * column.std() / width)
    return total


def together(x: np.ndarray, rows: np.ndarray, made: np.ndarray) -> float:
    log_kernels = -2 * np.log(1 + ((x - made) / rows.std(0)) ** 2 / 3)
    return math.log(len(made)) - float(np.logaddexp.reduce(log_kernels.sum(1)))


def test_oddness_is_the_sum_of_both(measured):
    measure, rows, made = measured
    others = np.array([[1.0, 2.0], [4.5, 0.3], [60.0, -40.0], [1e30, 2.0]])
    seen = np.ones(others.shape, bool)
    found = measure.of(others, seen)
    expected = [apart(x, rows) + together(x, rows, made) for x in others[:3]]
    np.testing.assert_allclose(found[:3], expected, atol=0.02)
    assert np.isfinite(found).all()
    assert found[0] < found[1] < found[2] < found[3]
    order = [2, 0, 3, 1]
    np.testing.assert_array_equal(measure.of(others[order], seen), found[order])
    np.testing.assert_array_equal(measure.of(others[:1], seen[:1]), found[:1])


def test_a_row_among_the_others_leaves_itself_out(measured):
    measure, rows, made = measured
    found = measure.of(rows[:3], np.ones((3, 2), bool), among=True)
    for place in range(3):
        rest = np.delete(rows, place, 0)
        expected = apart(rows[place], rest) + together(rows[place], rows, made)
        assert found[place] == pytest.approx(expected, abs=0.1)
    assert (found > measure.of(rows[:3], np.ones((3, 2), bool))).all()


def test_missing_cells_count_as_the_others(measured):
    measure, rows, _ = measured
    seen = np.array([[True, False], [False, False]])
    one, none = measure.of(np.array([[3.0, np.nan], [np.nan, np.nan]]), seen)
    alone = Oddness.fitted(rows[:, :1], np.ones((200, 1), bool), NUMBERS[:1], measure.made[:, :1])
    assert one == pytest.approx(2 * alone.of(np.array([[3.0]]), np.ones((1, 1), bool))[0])
    assert none == 0


def test_rare_categories_are_odd():
    codes = np.repeat([0, 1, 2], [80, 18, 2])[:, None]
    made = np.repeat([0, 1], [200, 56])[:, None]
    seen = np.ones(codes.shape, bool)
    found = Oddness.fitted(codes, seen, np.array([3]), made).of(np.array([[0], [1], [2]]), seen[:3])
    share = np.array([81, 19, 3]) / 103
    smooth = 0.5 * share + 0.5 * np.array([200, 56, 0]) / 256
    np.testing.assert_allclose(found, -np.log(share) - np.log(smooth))


def test_p_values_of_ordinary_rows_are_uniform_beside_odd_rows_that_stand_apart():
    rng = np.random.default_rng(0)
    normal, odd, others = rng.gamma(9, size=4000), rng.normal(35, 3, 1000), rng.gamma(9, size=1000)
    among = np.concatenate([normal, odd])
    weights = ordinary(among)
    assert weights[:4000].mean() > 0.99
    assert weights[4000:].mean() < 0.02
    ranked = Reference.of(among, weights)
    assert stats.kstest(ranked.p_values(others), "uniform").pvalue > 0.05
    assert stats.kstest(Reference.of(among, np.ones(5000)).p_values(others), "uniform").pvalue < 1e-6
    assert ordinary(normal).mean() > 0.97
    assert (ordinary(np.ones(50)) == 1).all()


def test_a_threshold_is_the_least_oddness_of_a_p_value():
    ranked = Reference.of(np.array([3.0, 1.0, 2.0, 2.0]), np.ones(4))
    assert ranked.p_values(np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5])).tolist() == [1, 1, 0.8, 0.8, 0.4, 0.4, 0.2]
    assert [ranked.threshold(level) for level in (0.1, 0.2, 0.4, 1.0)] == [
        math.inf,
        np.nextafter(3, 4),
        np.nextafter(2, 3),
        -math.inf,
    ]


def test_scores_by_the_composite_keep_the_bound_and_rank_among_all_rows_of_the_run(linear):
    rows = linear.story.vae().generate(300).numpy()
    rows[0] += 9
    found, by_bound = (score(linear, rows, samples=5, statistic=one) for one in ("auto", "bound"))
    assert (found.statistic, by_bound.statistic) == ("composite", "bound")
    np.testing.assert_array_equal(found.score, by_bound.score)
    np.testing.assert_array_equal(by_bound.oddness, -by_bound.score)
    assert found.oddness.argmax() == 0
    assert found.p_value[0] < 1 / 300
    assert stats.kstest(found.p_value[1:], "uniform").pvalue > 0.01
    assert score(linear, rows, samples=5, given=["column 0"]).statistic == "bound"
    with pytest.raises(SpecError, check=naming("statistic", "composite")):
        score(linear, rows, given=["column 0"], statistic="composite")
    with pytest.raises(SpecError, check=naming("statistic", "tail")):
        score(linear, rows, statistic="tail")
