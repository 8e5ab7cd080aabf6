"""What is measured of a synthetic table, on tables of which the answers are known."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from naming import naming
from vaekit.errors import DataError
from vaekit.evaluation import Tables, table_quality
from vaekit.evaluation.tables import area_under_roc

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES, CATEGORIES = ("size", "weight", "kind"), (False, False, True)


def rows(n: int, seed: int) -> np.ndarray:
    """Two numbers that go together, and a category that they decide, but for noise; some cells are missing."""
    rng = np.random.default_rng(seed)
    size = rng.normal(size=n)
    weight = size + 0.3 * rng.normal(size=n)
    kind = (weight + 0.3 * rng.normal(size=n) > 0).astype(float)
    found = np.stack([size, weight, kind], 1)
    found[rng.random(n) < 0.1, 0] = np.nan
    return found


@pytest.fixture(scope="module")
def real() -> Tables:
    return Tables(rows(600, 0), rows(500, 1), rows(600, 2), NAMES, CATEGORIES)


def test_rows_of_the_same_distribution_are_as_good_as_held_out_ones(real):
    found = table_quality(real).estimates
    assert set(found) == {
        f"{source}.{name}"
        for source in ("synthetic", "real")
        for name in ("column_error", "pair_error", "auc", "closest", "copies")
    }
    for name in ("column_error", "pair_error", "auc", "closest"):
        ours, other = found[f"synthetic.{name}"], found[f"real.{name}"]
        assert abs(ours.value - other.value) < 5 * np.hypot(ours.stderr, other.stderr)
    assert found["synthetic.copies"].value == 0


def test_copies_of_training_rows_are_seen(real):
    found = table_quality(replace(real, synthetic=real.train[::-1])).estimates
    assert (found["synthetic.copies"].value, found["synthetic.closest"].value) == (1, 0)
    assert found["synthetic.column_error"].value == 0
    assert found["synthetic.pair_error"].value == 0
    assert found["real.closest"].value > 0


def test_columns_that_are_drawn_by_themselves_are_told_from_their_pairs(real):
    rng = np.random.default_rng(3)
    alone = np.stack([rng.permutation(column) for column in real.train.T], 1)
    found = table_quality(replace(real, synthetic=alone))
    assert found.estimates["synthetic.column_error"].value == 0
    assert found.pairs["size, weight"].value > 0.3
    assert found.estimates["synthetic.auc"].value < 0.7 < 0.9 < found.estimates["real.auc"].value


def test_a_column_of_numbers_is_predicted_with_an_r2(real):
    found = table_quality(real, "weight")
    assert found.target == "weight"
    assert 0.7 < found.estimates["synthetic.r2"].value < 1
    with pytest.raises(DataError, check=naming("target", "height")):
        table_quality(real, "height")


def test_the_area_of_several_classes_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 3, 200), rng.dirichlet(np.ones(3), 200).round(1) + 1e-3
    scores /= scores.sum(1, keepdims=True)
    wanted = roc_auc_score(labels, scores, multi_class="ovr")
    assert area_under_roc(scores, np.arange(3), labels) == pytest.approx(wanted)
