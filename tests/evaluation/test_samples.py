"""Distances and neighbourhoods of samples against closed forms, other libraries and loops that are slow and plain."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.metrics.pairwise import polynomial_kernel

from naming import naming
from vaekit.errors import DataError, SpecError
from vaekit.evaluation import frechet_distance, kid, prdc, sample_quality
from vaekit.evaluation.features import RawFeatures
from vaekit.evaluation.samples import GROUPS


def normal(n, d, seed, scale=1.0, shift=0.0):
    return shift + scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frechet_distance_by_scipys_matrix_root():
    mix = normal(6, 6, 9)
    x, y = normal(300, 6, 0) @ mix, normal(250, 6, 1, 2.0, 0.3)
    s1, s2 = np.cov(x.T.numpy()), np.cov(y.T.numpy())
    gap = (x.mean(0) - y.mean(0)).square().sum()
    expected = gap + np.trace(s1 + s2 - 2 * scipy.linalg.sqrtm(s1 @ s2).real)
    assert frechet_distance(x, y).value == pytest.approx(float(expected), rel=1e-9)


def test_frechet_distance_of_gaussians_in_closed_form_once_its_bias_is_known():
    x, y = normal(20_000, 4, 2), normal(20_000, 4, 3, 1.5, 0.5)
    estimate = frechet_distance(x, y)
    assert abs(estimate.value - 4 * (0.5**2 + 0.5**2)) < 4 * estimate.stderr
    assert estimate.warning == ""
    few = frechet_distance(normal(60, 16, 4), normal(60, 16, 5))
    assert few.value > 1  # of the same distribution: all of it is bias
    said = float(few.warning.split()[-1])
    assert said == pytest.approx(few.value, rel=0.4)


def test_frechet_distance_of_features_that_are_constant_or_of_one_dimension():
    x = torch.cat([normal(100, 1, 0), torch.zeros(100, 1)], 1)
    assert frechet_distance(x, x).value == pytest.approx(0, abs=1e-6)
    assert frechet_distance(normal(100, 1, 0), normal(100, 1, 0) + 3).value == pytest.approx(9)


@pytest.mark.parametrize("measure", [frechet_distance, kid], ids=["frechet", "kid"])
def test_errors_are_those_of_repeated_draws(measure):
    found = [measure(normal(200, 5, 2 * i), normal(300, 5, 2 * i + 1, 0.8, 0.3)) for i in range(40)]
    spread = np.std([e.value for e in found], ddof=1)
    assert 0.7 < np.mean([e.stderr for e in found]) / spread < 1.6


def test_kid_by_scikit_learns_kernel():
    x, y = normal(70, 8, 0), normal(55, 8, 1, 1.2)
    within = [polynomial_kernel(a, a, degree=3, gamma=1 / 8, coef0=1) for a in (x, y)]
    among = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in within]
    between = polynomial_kernel(x, y, degree=3, gamma=1 / 8, coef0=1).mean()
    estimate = kid(x, y)
    assert estimate.value == pytest.approx(sum(among) - 2 * between, rel=1e-9)
    left = [kid(a, b).value for a, b in zip(leave_out(x), leave_out(y), strict=True)]
    assert estimate.stderr == pytest.approx(math.sqrt((GROUPS - 1) ** 2 / GROUPS * np.var(left, ddof=1)), rel=1e-9)


def leave_out(x):
    return [x[torch.arange(len(x)) % GROUPS != g] for g in range(GROUPS)]


def test_kid_is_zero_on_average_between_equal_distributions():
    values = torch.tensor([kid(normal(60, 6, i), normal(40, 6, 1000 + i)).value for i in range(200)])
    z = values.mean() / (values.std() / math.sqrt(len(values)))
    assert abs(float(z)) < 3.5
    assert (values < 0).any()


@pytest.mark.parametrize(("n", "m", "shift"), [(60, 45, 0.0), (47, 80, 1.0)])
def test_neighbourhoods_by_plain_loops(n, m, shift):
    k, real, made = 3, normal(n, 4, 0), normal(m, 4, 1, 0.7, shift)
    found = prdc(real, made, k)
    for name, value in naive(real, made, k).items():
        assert found[name].value == pytest.approx(value), name
    left = [naive(x, y, k) for x, y in zip(leave_out(real), leave_out(made), strict=True)]
    for name, estimate in found.items():
        spread = np.var([values[name] for values in left], ddof=0)
        assert estimate.stderr == pytest.approx(math.sqrt((GROUPS - 1) * spread), abs=1e-9), name


def naive(real, made, k):
    def reach(rows):
        return [sorted(math.dist(a, b) for j, b in enumerate(rows) if i != j)[k - 1] for i, a in enumerate(rows)]

    x, y = real.tolist(), made.tolist()
    of_real, of_made = reach(x), reach(y)
    gap = [[math.dist(a, b) for b in y] for a in x]
    rows, columns = range(len(x)), range(len(y))
    return {
        "precision": np.mean([any(gap[i][j] <= of_real[i] for i in rows) for j in columns]),
        "recall": np.mean([any(gap[i][j] <= of_made[j] for j in columns) for i in rows]),
        "density": np.sum([gap[i][j] < of_real[i] for i in rows for j in columns]) / (k * len(y)),
        "coverage": np.mean([min(gap[i]) < of_real[i] for i in rows]),
    }


def test_ties_count_as_in_the_sources():
    """Twenty rows at each of three places, k = 20: radii of real rows are 1, 1 and 4, of generated ones 1, 1 and 7.

    <= for precision and recall (Kynkaanniemi et al., 2019, equation 1), < for density and coverage (as `prdc` has it).
    """
    real, made = torch.tensor([[0.0], [1.0], [5.0]] * 20), torch.tensor([[1.0], [2.0], [9.0]] * 20)
    found = prdc(real, made, 20)
    assert found["precision"].value == 1  # 9 is at the edge of 5's balls
    assert found["recall"].value == 1  # 0 is at the edge of 1's
    # strictly inside: 1 in those of 1, 2 in those of 5, 9 in none
    assert found["density"].value == pytest.approx(2 / 3)
    assert found["coverage"].value == pytest.approx(2 / 3)


def test_density_of_binary_rows_leaves_ties_out():
    """It was 2.9 for rows of one law while ties counted; counted here by whole distances."""
    generator = torch.Generator().manual_seed(0)
    real, made = (torch.bernoulli(torch.full((300, 12), 0.3), generator=generator) for _ in range(2))
    found, k = prdc(real, made), 5
    gap, within = (np.abs(real.numpy()[:, None] - rows.numpy()[None]).sum(2) for rows in (made, real))
    np.fill_diagonal(within, 99)
    radius = np.sort(within, 1)[:, k - 1]
    inside = gap < radius[:, None]
    assert found["density"].value == pytest.approx(inside.sum() / k / len(made))
    assert found["coverage"].value == pytest.approx(inside.any(1).mean())
    assert found["precision"].value == pytest.approx((gap <= radius[:, None]).any(0).mean())
    assert found["density"].value < 1.2


def test_ties_of_fractions_are_not_decided_by_rounding():
    """Rows of few distinct values, which matrix products would set apart by their last bits."""
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(4, 40, generator=generator, dtype=torch.float64)
    real, made = (values[torch.randint(4, (200,), generator=generator)] for _ in range(2))
    found = prdc(real, made)
    assert found["precision"].value == found["recall"].value == 1
    assert found["density"].value == found["coverage"].value == 0  # every ball is a point, with nothing inside


def test_neighbourhoods_of_samples_of_one_mode_are_precise_and_do_not_cover():
    side = torch.where(torch.arange(400) % 2 == 0, -8.0, 8.0)[:, None]
    found = prdc(normal(400, 2, 0) + side, normal(400, 2, 1) * 0.5 + 8)
    assert found["precision"].value > 0.99
    assert found["recall"].value < 0.55
    assert found["coverage"].value < 0.55
    assert found["density"].value == pytest.approx(1, abs=0.2)  # as dense as the real rows are, where it is


def test_every_number_names_its_features_and_does_not_hang_on_the_place_of_rows():
    real, made = normal(150, 3, 0), normal(150, 3, 1)
    found = sample_quality(RawFeatures(), real, made, k=4)
    assert set(found) == {"frechet_distance", "kid", "precision", "recall", "density", "coverage"}
    assert all("over the raw values" in estimate.unit and estimate.n == 150 for estimate in found.values())
    assert "k = 4" in found["density"].unit
    shuffled = sample_quality(RawFeatures(), real[torch.randperm(150)], made, k=4)
    for name, estimate in found.items():
        assert estimate.value == pytest.approx(shuffled[name].value, rel=1e-5)


def test_features_that_make_no_sense_are_refused():
    x = normal(50, 3, 0)
    for bad in (x[:, :2], x[:5], x / 0, x[:, 0]):
        for measure in (frechet_distance, kid, prdc):
            with pytest.raises(DataError, check=naming("generated")):
                measure(x, bad)
    with pytest.raises(SpecError, check=naming("k", 0)):
        prdc(x, x, k=0)
