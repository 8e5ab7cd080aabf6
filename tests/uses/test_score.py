"""Scores against closed forms, p-values against the uniform, and the cells that make a row odd."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import vaekit
from naming import naming
from vaekit.errors import DataError, NotApplicable, SpecError
from vaekit.models import VAE, Conditional, Gaussian, StandardNormal
from vaekit.uses import score


def log_p(linear, x: np.ndarray, cells: list[int] | None = None) -> np.ndarray:
    cells = list(range(4)) if cells is None else cells
    loadings, offset = linear.story.loadings.numpy()[cells], linear.story.offset.numpy()[cells]
    covariance = loadings @ loadings.T + linear.story.noise**2 * np.eye(len(offset))
    return stats.multivariate_normal.logpdf(x[:, cells], offset, covariance)


@pytest.fixture(scope="module")
def rows(linear) -> np.ndarray:
    """Rows of the model, and one whose last cell is odd given the others."""
    x = linear.story.vae().generate(300, generator=torch.Generator().manual_seed(5)).numpy()
    x[0] = linear.story.offset.numpy() + np.array([0, 0, 0, 6])
    return x


def test_scores_and_errors_are_those_of_the_gaussian(linear, rows):
    found = score(linear, rows, samples=400)
    truth = log_p(linear, rows)
    assert (found.error < 0.1).all()
    assert found.score == pytest.approx(truth, abs=0.25)
    z = (found.score - truth) / found.error
    assert 0.8 < z.std() < 1.25
    assert abs(z.mean()) < 0.3
    assert (found.effective_samples < 400).all()
    assert (found.flagged, found.threshold, found.complexity, found.notices) == (None, None, None, ())


@pytest.mark.parametrize("given", [(), ("column 0",)])
def test_a_row_scores_the_same_wherever_it_stands(linear, rows, given):
    whole = score(linear, rows, samples=7, level=0.2, given=given)
    order = np.random.default_rng(0).permutation(len(rows))[:110]
    part = score(linear, rows[order], samples=7, level=0.2, given=given)
    for name in ("score", "error", "oddness", "p_value", "below", "given_rest"):
        np.testing.assert_allclose(getattr(part, name), getattr(whole, name)[order], rtol=1e-9, err_msg=name)


def test_given_columns_make_it_conditional(linear, rows):
    found = score(linear, rows, samples=400, given=["column 0", "column 3"])
    truth = log_p(linear, rows) - log_p(linear, rows, [0, 3])
    assert found.score == pytest.approx(truth, abs=0.4)
    assert not np.isin(found.cells, [0, 3]).any()
    with pytest.raises(DataError, check=naming("given", "age")):
        score(linear, rows, given=["age"])


def test_p_values_are_ranks_among_held_out_rows_and_uniform(linear, rows):
    found = score(linear, rows[1:], samples=30, statistic="bound")
    held_out = score(linear, linear.data().valid, samples=30, statistic="bound")
    assert np.array_equal(np.sort(held_out.score), found.held_out)
    expected = [(1 + (found.held_out <= one).sum()) / (len(found.held_out) + 1) for one in found.score]
    assert found.p_value == pytest.approx(expected)
    assert stats.kstest(found.p_value, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("statistic", "ranked"), [("bound", 201), ("composite", "")])
def test_a_level_and_a_contamination_flag_rows(linear, rows, statistic, ranked):
    by_level = score(linear, rows, samples=30, level=0.05, statistic=statistic)
    assert by_level.flagged is not None
    assert np.array_equal(by_level.flagged, by_level.p_value <= 0.05)
    assert by_level.flagged[0]
    assert np.array_equal(by_level.flagged, by_level.oddness >= by_level.threshold)
    by_share = score(linear, rows, samples=30, contamination=0.1, statistic=statistic)
    assert by_share.flagged is not None
    assert by_share.flagged.sum() == 30
    assert by_share.oddness[by_share.flagged].min() >= by_share.oddness[~by_share.flagged].max()
    told = score(linear, rows, samples=2, level=0.001, statistic=statistic).notices
    assert any(f"no p-value is below 1/{ranked}" in text for text in told)


def test_the_odd_cell_is_found_with_its_conditional_density(linear, rows):
    found = score(linear, rows, samples=2000, contamination=0.01)
    assert found.names(0)[0] == "column 3"
    given = rows[:1].copy()
    given[0, 3] = math.nan
    mean, covariance = linear.given(given[0], [3])
    exact = stats.norm.logpdf(rows[0, 3], mean[0], math.sqrt(covariance[0, 0]))
    assert found.given_rest[0, 0] == pytest.approx(exact, abs=0.5)
    assert exact < -10
    assert found.below[0, 0] > 3
    assert found.flagged is not None
    assert np.isnan(found.given_rest[~found.flagged]).all()
    assert (np.diff(found.below, axis=1) <= 0).all()


def test_missing_cells_are_left_out(linear, rows):
    x = rows[:20].copy()
    x[:, 2] = math.nan
    found = score(linear, x, samples=400)
    assert found.score == pytest.approx(log_p(linear, rows[:20], [0, 1, 3]), abs=0.3)
    assert not (found.cells == 2).any()
    assert (found.cells[:, 2] >= 0).all()


def test_rows_in_other_units_have_other_densities_and_the_same_ranks():
    """And one that is too far off for single precision is the oddest."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 3)) @ rng.normal(size=(3, 3))
    words = ["epochs=4", "latent=2", "encoder.widths=[8]", "decoder.widths=[8]", "model.likelihood=gaussian"]
    one, other = (vaekit.fit(vaekit.runs.run(*words), x * unit) for unit in (1.0, 1000.0))
    first, second = (
        trained.score(x[:9] * unit, samples=20, statistic="bound") for trained, unit in ((one, 1), (other, 1000))
    )
    assert second.score == pytest.approx(first.score - 3 * math.log(1000), abs=0.01)
    assert np.array_equal(first.p_value, second.p_value)
    whole = one.evaluate(x[:9], samples=20)["log_likelihood"]
    assert first.score.mean() == pytest.approx(whole.value, abs=0.5)
    far = x[:3].copy()
    far[1] = 1e30
    found = one.score(far, samples=5, statistic="bound")
    assert found.score[1] == -math.inf
    assert np.isfinite(found.score[[0, 2]]).all()
    assert found.p_value[1] == 1 / (len(found.held_out) + 1)
    assert any("1 row has no finite density" in text for text in found.notices)


def test_pictures_whose_scores_follow_their_complexity_are_named():
    rng = np.random.default_rng(0)
    busy = rng.integers(0, 2, 120).astype(bool)
    x = np.where(busy[:, None, None], rng.integers(0, 9, (120, 8, 8)), 0).astype(np.uint8)
    x[:, 0, 0] = 8
    words = ["epochs=10", "latent=2", "encoder.widths=[16]", "decoder.widths=[16]", "data.support=levels"]
    found = vaekit.fit(vaekit.runs.run(*words), x).score(x, samples=5)
    assert found.complexity is not None
    assert found.complexity < -0.5
    assert any("how complex" in text for text in found.notices)
    assert found.names(0)[0].startswith("(")


def test_what_cannot_be_is_refused(linear, rows):
    with pytest.raises(SpecError, check=naming("contamination", 0.1)):
        score(linear, rows, level=0.1, contamination=0.1)
    with pytest.raises(SpecError, check=naming("level", 1.5)):
        score(linear, rows, level=1.5)
    with pytest.raises(SpecError, check=naming("contamination", 0.0)):
        score(linear, rows, contamination=0.0)
    deterministic = VAE(
        Conditional(nn.Linear(4, 2), vaekit.posteriors.Deterministic(), (2,)),
        StandardNormal().build(2),
        Conditional(nn.Linear(2, 8), Gaussian(), (4,)),
    )
    with pytest.raises(NotApplicable, match="deterministic"):
        score(type(linear)(linear.story, deterministic, linear.schema, linear.dataset), rows.astype(np.float32))
