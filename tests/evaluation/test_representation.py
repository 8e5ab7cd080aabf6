"""Probes on codes whose worth is known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from naming import naming
from vaekit import VAE, Bernoulli, Conditional, Gaussian, StandardNormal
from vaekit.data import DataSpec, Limit, Rows, prepare
from vaekit.errors import DataError
from vaekit.evaluation import linear_probe, nearest_neighbours, representation
from vaekit.evaluation.representation import accuracy


def blobs(n, gap):
    labels = torch.arange(n) % 2
    return torch.randn(n, 3) + gap * labels[:, None] * torch.tensor([1.0, 0.0, 0.0]), labels


@pytest.mark.parametrize("probe", [linear_probe, nearest_neighbours])
def test_two_gaussians_are_separated_as_well_as_they_can_be(probe):
    (x, y), (test_x, test_y) = blobs(3000, 2.0), blobs(2000, 2.0)
    found = probe(x, y, test_x, test_y)
    best = 0.5 * (1 + math.erf(1 / math.sqrt(2)))  # of any classifier: Phi(1)
    slack = 0.06 if probe is nearest_neighbours else 0.0
    assert best - slack - 4 * found.accuracy.stderr < found.accuracy.value < best + 4 * found.accuracy.stderr
    assert found.accuracy.stderr == pytest.approx(math.sqrt(best * (1 - best) / 2000), rel=0.1)
    assert found.accuracy.n == 2000
    assert found.time.value > 0
    assert found.time.unit == "microseconds"


def test_a_circle_is_no_line():
    angle = 2 * math.pi * torch.rand(1500)
    labels = torch.arange(1500) % 2
    x = (1 + labels[:, None]) * torch.stack([angle.cos(), angle.sin()], 1)
    parts = (x[:1000], labels[:1000], x[1000:], labels[1000:])
    assert linear_probe(*parts).accuracy.value < 0.65
    assert nearest_neighbours(*parts).accuracy.value > 0.99


def test_the_scale_of_codes_does_not_matter():
    (x, y), (test_x, test_y) = blobs(300, 2.0), blobs(300, 2.0)
    for probe in (linear_probe, nearest_neighbours):
        one, other = (probe(c * x + c, y, c * test_x + c, test_y).accuracy.value for c in (1.0, 4096.0))
        assert one == pytest.approx(other, abs=0.011)


def test_accuracy_has_a_binomial_error():
    found = accuracy(np.array([1, 1, 0, 0]), np.array([1, 1, 1, 0]))
    assert (found.value, found.stderr, found.n) == (0.75, pytest.approx(math.sqrt(0.75 * 0.25 / 4)), 4)


def test_unknown_labels_count_as_wrong_and_give_a_warning():
    (x, y), (test_x, test_y) = blobs(100, 9.0), blobs(40, 9.0)
    test_y[:10] = 7
    for probe in (linear_probe, nearest_neighbours):
        found = probe(x, y, test_x, test_y).accuracy
        assert found.value == pytest.approx(0.75)
        assert "10 of 40 rows have a label that no training row has" in found.warning


def test_what_makes_no_sense_is_refused():
    x, y = blobs(40, 1.0)
    for probe in (linear_probe, nearest_neighbours):
        for bad, field in (
            ((x, y, x[:, :2], y), "codes"),
            ((x, y[:3], x, y), "codes"),
            ((x, 0 * y, x, y), "labels"),
            ((x / 0, y, x, y), "codes"),
        ):
            with pytest.raises(DataError, check=naming(field)):
                probe(*bad)
    with pytest.raises(DataError, check=naming("k", 41)):
        nearest_neighbours(x, y, x, y, k=41)


def test_a_class_of_one_row_is_too_few_to_choose_by():
    x, y = blobs(40, 1.0)
    y[0] = 2
    assert "too few for cross-validation" in linear_probe(x, y, x, y).accuracy.warning


def untrained():
    posterior = Conditional(nn.Sequential(nn.Flatten(), nn.Linear(64, 12)), Gaussian())
    return VAE(posterior, StandardNormal().build(6), Conditional(nn.Linear(6, 64), Bernoulli(), (1, 8, 8)))


@pytest.fixture(scope="module")
def digits():
    return prepare(DataSpec(source="digits", binarise="threshold"), Limit(train=600), discrete=True)


def test_codes_beside_raw_data_and_components_of_the_same_size(digits):
    found = representation(untrained(), digits.train, digits.test)
    names = [f"{probe}_{codes}" for codes in ("codes", "pca", "raw") for probe in ("linear", "neighbours")]
    assert set(found) == {*names, *(f"{name}_time" for name in names)}
    assert all(found[name].n == 180 for name in names)
    assert found["linear_raw"].value > 0.8
    assert found["neighbours_raw"].value > found["neighbours_codes"].value  # six directions by chance
    assert found["neighbours_pca"].value > found["neighbours_codes"].value
    assert all(found[f"{name}_time"].value > 0 for name in names)


def test_rows_without_labels_cannot_be_probed(digits):
    with pytest.raises(DataError, check=naming("labels")):
        representation(untrained(), Rows(digits.train.values), digits.test)
