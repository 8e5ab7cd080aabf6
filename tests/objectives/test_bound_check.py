"""Estimators of the importance-weighted bound's gradient by K, against its closed form over one number."""

import itertools

import pytest

from vaekit.objectives import BoundReading, bound_check
from vaekit.objectives.bound_check import DRAWS

pytestmark = pytest.mark.usefixtures("one_thread")

SAMPLES = (1, 4, 16, 64)


@pytest.fixture(scope="module")
def readings(one_thread) -> dict[tuple[str, int], BoundReading]:
    return {(reading.name, reading.samples): reading for reading in bound_check(samples=SAMPLES, rows=4000)}


def test_every_mean_is_where_the_formula_has_it(readings) -> None:
    assert len(readings) == 12
    for reading in readings.values():
        assert reading.largest_z < 4, reading


def test_only_stick_the_landing_is_biased_and_more_so_with_more_samples(readings) -> None:
    biased = [key for key, reading in readings.items() if not reading.unbiased]
    assert biased == [("stick the landing", k) for k in SAMPLES[1:]]
    biases = [readings["stick the landing", k].expected_bias for k in SAMPLES]
    assert biases[0] < 4 * (2 / DRAWS) ** 0.5  # none; the reading is a mean of |e|^2 over so many draws
    for fewer, more in itertools.pairwise(biases):
        assert more > fewer
    limit = 10**0.5 * (1 - 1 / 1.1**2)  # of many samples, over 10 coordinates
    assert 0.95 * limit < biases[-1] < limit
    for k, bias in zip(SAMPLES, biases, strict=True):
        found = readings["stick the landing", k]
        assert found.bias == pytest.approx(bias, abs=4 * (20 * found.variance / 4000) ** 0.5)


def test_variances_are_ordered_and_further_apart_with_more_samples(readings) -> None:
    gains = []
    for k in SAMPLES:
        pathwise, stl, dreg = (
            readings[name, k].variance for name in ("pathwise", "stick the landing", "doubly reparametrised")
        )
        assert dreg < 0.5 * stl < 0.5 * pathwise or k == 1
        gains += [pathwise / dreg]
    assert gains[0] == pytest.approx(
        readings["pathwise", 1].variance / readings["stick the landing", 1].variance, rel=0.1
    )
    for fewer, more in itertools.pairwise(gains):
        assert more > fewer > 10


def test_the_pathwise_signal_sinks_in_its_noise_with_more_samples(readings) -> None:
    ratios = [readings["pathwise", k].exact / readings["pathwise", k].variance ** 0.5 for k in SAMPLES]
    for fewer, more in itertools.pairwise(ratios):
        assert more < fewer
