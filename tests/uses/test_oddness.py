"""Oddness against the sums that it is, and p-values of ordinary rows against the uniform."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from naming import naming
from vaekit.errors import SpecError
from vaekit.uses import score
from vaekit.uses.oddness import FAR, FLOOR, Judged, Oddness, Reference, ordinary

NUMBERS = np.zeros(2, int)


def judged(cells: np.ndarray, bounds: np.ndarray, seen: np.ndarray | None = None) -> Judged:
    return Judged(cells, np.ones(cells.shape, bool) if seen is None else seen, bounds)


@pytest.fixture(scope="module")
def measured() -> tuple[Oddness, Judged]:
    """A measure of two columns, one of them with few values, and its training rows."""
    rng = np.random.default_rng(0)
    rows = judged(np.stack([rng.gamma(2, size=200), rng.integers(0, 5, 200)], 1), rng.normal(-50, 9, 200))
    return Oddness.fitted(rows, NUMBERS, rng.normal(1, 2, (256, 2))), rows


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


def of_cells(measure: Oddness) -> Oddness:
    """The measure without its terms of whole rows."""
    return replace(measure, scales=(0.0, 0.0))


def test_oddness_is_a_sum_over_judges(measured):
    measure, rows = measured
    others = np.array([[1.0, 2.0], [4.5, 0.3], [60.0, -40.0], [1e30, 2.0]])
    bounds = np.array([-40.0, -60, -1e3, -FAR])
    found = measure.of(judged(others, bounds))
    fine, coarse = measure.scales
    expected = [
        apart(x, rows.cells) - fine * bound + coarse * together(x, rows.cells, measure.made)
        for x, bound in zip(others[:3], bounds, strict=False)
    ]
    np.testing.assert_allclose(found[:3], expected, atol=0.02)
    assert np.isfinite(found).all()
    assert found[0] < found[1] < found[2] < found[3]
    order = [2, 0, 3, 1]
    np.testing.assert_array_equal(measure.of(judged(others[order], bounds[order])), found[order])


def test_whole_rows_vary_half_as_much_by_each_judge_as_their_cells_do(measured):
    measure, rows = measured
    judges = [
        replace(measure, scales=scales) for scales in ((0.0, 0.0), (measure.scales[0], 0.0), (0.0, measure.scales[1]))
    ]
    by_cells, fine, coarse = (one.of(rows, among=True) for one in judges)
    ranges = [np.subtract(*np.quantile(term, [0.75, 0.25])) for term in (by_cells, fine - by_cells, coarse - by_cells)]
    assert ranges[1:] == pytest.approx([ranges[0] / 2] * 2)
    alike = Oddness.fitted(judged(rows.cells, np.full(200, -3.0)), NUMBERS, measure.made)
    assert np.isfinite(alike.scales).all()


def test_a_row_among_the_others_leaves_itself_out(measured):
    measure, rows = measured
    some, measure = judged(rows.cells[:3], np.zeros(3)), of_cells(measure)
    found = measure.of(some, among=True)
    for place in range(3):
        rest = np.delete(rows.cells, place, 0)
        assert found[place] == pytest.approx(apart(rows.cells[place], rest), abs=0.1)
    assert (found > measure.of(some)).all()


def test_missing_cells_count_as_the_others(measured):
    measure, rows = measured
    seen = np.array([[True, False], [False, False]])
    one, none = measure.of(judged(np.array([[3.0, np.nan], [np.nan, np.nan]]), np.array([-7.0, 0]), seen))
    coarse = together(np.array([3.0]), rows.cells[:, :1], measure.made[:, :1])
    expected = apart(np.array([3.0]), rows.cells[:, :1]) + 7 * measure.scales[0] + coarse * measure.scales[1]
    assert one == pytest.approx(2 * expected, abs=0.02)
    assert none == 0


def test_rare_categories_are_odd():
    codes = np.repeat([0, 1, 2], [80, 18, 2])[:, None]
    made = np.repeat([0, 1], [200, 56])[:, None]
    measure = Oddness.fitted(judged(codes, np.zeros(100)), np.array([3]), made)
    found = measure.of(judged(np.array([[0], [1], [2]]), np.zeros(3)))
    share = np.array([81, 19, 3]) / 103
    smooth = 0.5 * share + 0.5 * np.array([200, 56, 0]) / 256
    np.testing.assert_allclose(found, -np.log(share) - measure.scales[1] * np.log(smooth))


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


def test_odd_rows_stand_apart_beyond_an_antimode_and_not_in_a_shoulder():
    """Ordinary rows of two kinds, the rarer of which are a shoulder; beyond them odd rows, or none."""
    rng = np.random.default_rng(1)

    def rows(count: int) -> np.ndarray:
        return np.concatenate([rng.normal(-9, 1.5, count * 3 // 5), rng.normal(-4, 3, count * 2 // 5)])

    normal, odd, others = rows(10_000), rng.normal(10, 2, 600), rows(3000)
    weights = ordinary(np.concatenate([normal, odd]))
    assert weights[:10_000].mean() > 0.99
    assert weights[10_000:].mean() < 0.1
    assert stats.kstest(Reference.of(np.concatenate([normal, odd]), weights).p_values(others), "uniform").pvalue > 0.05
    assert ordinary(rng.exponential(size=3000)).mean() > 0.97
    assert ordinary(np.append(rng.normal(size=1000), 1e9)).mean() > 0.99


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
