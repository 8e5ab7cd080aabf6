"""Scores of disentanglement: what is perfect, what is chance, what can be counted by hand, and their errors."""

import math

import numpy as np
import pytest
import torch
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import mutual_info_score
from torch import nn
from torch.distributions import Independent, Normal

from naming import naming
from vaekit import VAE, Bernoulli, Conditional, StandardNormal
from vaekit.data import Rows
from vaekit.errors import DataError
from vaekit.evaluation import disentanglement as module
from vaekit.evaluation.boosting import boosted_trees
from vaekit.evaluation.counting import mutual_information
from vaekit.evaluation.disentanglement import (
    dci,
    disentanglement_scores,
    factor_vae_score,
    modularity,
    mutual_information_gap,
    scores_of,
    separated_predictability,
)

SIZES = (4, 3, 5)
NAMES = {"mig", "modularity", "sap", "disentanglement", "completeness", "informativeness", "factor_vae"}


@pytest.fixture(scope="module", autouse=True)
def cheaper():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "VOTES", 2000)
        patch.setattr(module, "TESTS", 1000)
        yield


@pytest.fixture(scope="module")
def factors():
    return np.indices(SIZES).reshape(len(SIZES), -1).T.repeat(25, 0)


def values(estimates) -> dict:
    return {name: estimate.value for name, estimate in estimates.items()}


def test_codes_that_are_the_factors_score_best(factors):
    found = scores_of(factors[:, [2, 0, 1]] * [1.0, -7.0, 3.0] + 4, factors)
    assert set(found) == NAMES
    sap = found.pop("sap").value  # on held-out rows, the second best may be below chance
    assert sap == pytest.approx(np.mean([1 - 1 / size for size in SIZES]), abs=0.05)
    assert values(found) == pytest.approx(dict.fromkeys(found, 1.0), abs=1e-9)


def test_codes_of_other_rows_score_by_chance(factors):
    codes = np.random.default_rng(1).permutation(factors.astype(float))
    found = values(scores_of(codes, factors))
    assert found["mig"] < 0.02
    assert abs(found["sap"]) < 0.05
    assert found["disentanglement"] < 0.05
    assert found["completeness"] < 0.05
    assert found["informativeness"] == pytest.approx(np.mean([1 / size for size in SIZES]), abs=0.04)
    # a majority that is found by chance is worth little on other batches
    assert found["factor_vae"] == pytest.approx(1 / 3, abs=0.06)


def test_the_modularity_of_noise_is_what_its_counted_information_makes_it(factors):
    """In expectation, information is counted in proportion to the values of a factor less one where there is none."""
    *others, most = sorted(size - 1 for size in SIZES)
    chance = 1 - sum(size**2 for size in others) / (len(others) * most**2)
    noise = np.random.default_rng(0).normal(size=(len(factors), 60))
    assert modularity(noise, factors).value == pytest.approx(chance, abs=0.08)


def test_order_scale_and_sign_of_the_codes_change_nothing(factors):
    rng, factors = np.random.default_rng(2), factors[::2]
    codes = factors @ rng.normal(size=(3, 4)) + 0.3 * rng.normal(size=(len(factors), 4))
    other = codes[:, [3, 1, 0, 2]] * [1.5, -2.0, 10.0, 3.0] - 1
    first, second = (values(scores_of(z, factors)) for z in (codes, other))
    for name in NAMES - {"disentanglement", "completeness", "informativeness"}:
        assert first[name] == pytest.approx(second[name], abs=1e-9), name
    for name in ("disentanglement", "completeness", "informativeness"):  # edges of bins differ where a sign does
        assert first[name] == pytest.approx(second[name], abs=0.05), name
    assert 0.1 < first["informativeness"] < 0.99


def test_mutual_information_and_its_gap_by_hand():
    v, w, flip = np.indices((2, 2, 4)).reshape(3, -1)
    codes = np.stack([v, v ^ (flip == 0)], 1).astype(float)  # v, and v turned around in a quarter of the rows
    noise = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    information = mutual_information(codes, np.stack([v, w], 1))
    np.testing.assert_allclose(information, [[math.log(2), 0], [math.log(2) - noise, 0]], atol=1e-12)
    gap = mutual_information_gap(codes, np.stack([v, w], 1))
    assert gap.value == pytest.approx((noise / math.log(2) + 0) / 2)
    assert gap.n == 16


def test_modularity_by_hand():
    v, w = np.indices((2, 2)).reshape(2, -1).repeat(10, 1)
    codes = np.stack([v, 2 * v + w, 0 * v], 1).astype(float)  # of v alone, of both alike, of neither
    assert modularity(codes, np.stack([v, w], 1)).value == pytest.approx((1 + 0 + 0) / 3)


def test_mutual_information_is_that_of_scikit_learn(factors):
    codes = factors @ np.ones((3, 2)) + np.random.default_rng(0).normal(size=(len(factors), 2))
    for dim, factor in np.ndindex(2, 3):
        edges = np.histogram(codes[:, dim], 20)[1]
        exact = mutual_info_score(np.digitize(codes[:, dim], edges[:-1]), factors[:, factor])
        assert mutual_information(codes, factors)[dim, factor] == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("score", [mutual_information_gap, modularity])
def test_the_jackknife_tells_how_far_the_score_moves_with_other_rows(score):
    rng, found = np.random.default_rng(0), []
    for _ in range(80):
        factors = rng.integers(0, SIZES, (400, 3))
        codes = factors[:, :2] + 0.5 * factors[:, [2, 0]] + 0.5 * rng.normal(size=(400, 2))
        found += [score(codes, factors)]
    spread = np.std([estimate.value for estimate in found])
    stated = np.sqrt(np.mean([estimate.stderr**2 for estimate in found]))
    assert 0.7 < stated / spread < 1.5


def test_the_factor_vae_score_leaves_dead_dimensions_out(factors):
    still = 0.01 * np.random.default_rng(0).normal(size=(len(factors), 1))
    codes = np.concatenate([factors[:, :2], still], 1)
    assert factor_vae_score(codes, factors).value == pytest.approx(2 / 3, abs=0.05)  # nothing stands for the third
    nothing = factor_vae_score(still, factors)
    assert nothing.value is None
    assert "encodes nothing" in nothing.warning


def test_the_factor_vae_score_takes_dead_by_the_standard_deviation(factors):
    """disentanglement_lib compares sqrt(variance) with 0.05: 0.1 is alive, though its variance is 0.01."""
    codes = factors * np.array([1.0, 1.0, 0.1 / factors[:, 2].std()])
    assert factor_vae_score(codes, factors).value == 1
    codes[:, 2] *= 0.4  # 0.04
    assert factor_vae_score(codes, factors).value == pytest.approx(2 / 3, abs=0.05)


def test_one_dimension_or_one_factor_has_no_comparison(factors):
    found = scores_of(factors[:, :1].astype(float), factors[:, :1])
    without = ["modularity", "disentanglement", "completeness", "factor_vae"]
    assert [name for name in found if found[name].value is None] == without
    assert all(found[name].warning for name in without)
    assert found["mig"].value == pytest.approx(1)


def three(repeats):
    """Factors 3 x 6 x 10, every combination so many times, and the same numbers as codes."""
    factors = np.indices((3, 6, 10)).reshape(3, -1).T.repeat(repeats, 0)
    return factors, factors.astype(float)


@pytest.mark.parametrize("still", [0.0, 7.3, "rounding"])
def test_a_constant_dimension_counts_as_nothing(still):
    """Modularity is 0.75 by its formula: 1, 1, 1 and 0. Completeness and the rest do not see the column at all."""
    factors, alone = three(3)
    noise = 1 + 2e-16 * np.random.default_rng(0).normal(size=len(factors)) if still == "rounding" else still
    codes = np.column_stack([factors, np.broadcast_to(noise, len(factors))])
    found, without = values(scores_of(codes, factors)), values(scores_of(alone, factors))
    assert found["modularity"] == pytest.approx(0.75, abs=1e-9)
    assert found["sap"] == pytest.approx(1 - np.mean([1 / 3, 1 / 6, 1 / 10]), abs=1e-9)  # to chance, exactly
    for name in NAMES - {"modularity", "completeness", "sap"}:
        assert found[name] == pytest.approx(without[name], abs=1e-6), name
    assert found["completeness"] == pytest.approx(1, abs=1e-6)


def test_rounding_in_single_precision_is_no_information():
    """Means of a collapsed dimension, as a network gives them: they differ in their last bits, along with a factor."""
    factors, _ = three(3)
    collapsed = np.float32(0.7) + np.finfo(np.float32).eps * (factors[:, 0] == 1).astype(np.float32)
    assert len(np.unique(collapsed)) == 2
    codes = np.column_stack([factors, collapsed]).astype(np.float32)
    assert modularity(codes, factors).value == pytest.approx(0.75, abs=1e-9)
    tiny = codes * np.float32(1e-9)  # far from 0 in units of its own rounding
    tiny[:, 3] = 1
    assert modularity(tiny, factors).value == pytest.approx(0.75, abs=1e-9)


def test_codes_that_are_constant_score_nothing_at_all():
    factors, _ = three(2)
    found = values(scores_of(np.full((len(factors), 2), 0.3), factors))
    chance = np.mean([1 / 3, 1 / 6, 1 / 10])
    assert found.pop("factor_vae") is None
    assert found.pop("informativeness") == pytest.approx(chance, abs=0.1)
    assert found == pytest.approx(dict.fromkeys(found, 0.0), abs=1e-9)
    assert separated_predictability(np.ones((len(factors), 1)), factors).value == pytest.approx(0, abs=1e-9)


def test_duplicated_codes_have_no_gap_and_half_the_completeness():
    factors, codes = three(3)
    found = values(scores_of(codes[:, [0, 0, 1, 1, 2, 2]], factors))
    assert found["mig"] == pytest.approx(0, abs=1e-9)
    assert found["sap"] == pytest.approx(0, abs=1e-9)
    assert found["modularity"] == pytest.approx(1, abs=1e-9)
    assert found["disentanglement"] == pytest.approx(1, abs=1e-6)
    assert found["factor_vae"] == 1


def test_one_row_for_each_combination_is_enough():
    factors, codes = three(1)
    found = values(scores_of(codes, factors))
    assert found["mig"] == found["modularity"] == found["factor_vae"] == pytest.approx(1, abs=1e-9)
    assert found["disentanglement"] == pytest.approx(1, abs=0.02)
    alone = np.column_stack([factors[:, 0], np.arange(len(factors))])
    score = factor_vae_score(codes, alone)
    assert score.value is None
    assert "no two rows" in score.warning


@pytest.mark.parametrize(("noise", "usual"), [(0.0, 1.0), (0.3, 0.69), (1.0, 0.25)])
def test_dci_of_noisy_codes_is_that_of_scikit_learns_boosted_trees(noise, usual):
    """Of each factor alone, as 30 stages take scikit-learn seconds; `usual` is D by its defaults for all of them."""
    rng = np.random.default_rng(0)
    factors = rng.permutation(three(10)[0])
    codes = (factors - factors.mean(0)) / factors.std(0) + noise * rng.normal(size=factors.shape)
    train, test = slice(None, 1440), slice(1440, None)
    oracle = GradientBoostingClassifier(n_estimators=30, learning_rate=0.3, random_state=0)
    oracle.fit(codes[train], factors[train, 0])
    importance, predicted = boosted_trees(codes[train], factors[train, 0], codes[test])
    np.testing.assert_allclose(importance, oracle.feature_importances_, atol=0.05)
    accuracy = np.mean(predicted == factors[test, 0])
    assert accuracy == pytest.approx(oracle.score(codes[test], factors[test, 0]), abs=0.03)
    assert dci(codes, factors)["disentanglement"].value == pytest.approx(usual, abs=0.06)


def test_boosted_trees_on_whole_numbers_are_those_of_scikit_learn():
    """With a bin for every value, the splits are the same ones, and so are importances and predictions."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 12, (300, 3)).astype(float)
    v = (x[:, 0] + rng.integers(0, 4, 300) > 7).astype(int) + (x[:, 1] > 8)
    oracle = GradientBoostingClassifier(n_estimators=30, learning_rate=0.3, random_state=0).fit(x[:200], v[:200])
    importance, predicted = boosted_trees(x[:200], v[:200], x[200:])
    np.testing.assert_allclose(importance, oracle.feature_importances_, atol=0.01)
    assert np.mean(predicted == oracle.predict(x[200:])) > 0.97


class Scaled(nn.Module):
    def forward(self, x):
        return Independent(Normal(2 * x[:, :3].flip(1), torch.ones(len(x), 3)), 1)


def test_a_model_is_scored_by_its_posterior_means(factors):
    rows = Rows(torch.from_numpy(factors).float(), factors=torch.from_numpy(factors))
    model = VAE(Scaled(), StandardNormal().build(3), Conditional(nn.Linear(3, 3), Bernoulli()))
    found = disentanglement_scores(model, rows)
    assert values(found) == pytest.approx(values(scores_of(2.0 * factors[:, ::-1], factors)))
    assert found["factor_vae"].value == 1
    with pytest.raises(DataError, check=naming("rows")):
        disentanglement_scores(model, Rows(rows.values))


def test_bad_codes_and_factors_are_refused(factors):
    codes = factors.astype(float)
    fixed, broken = factors * [1, 0, 1], codes * [1, np.nan, 1]
    for args, field in (((codes[:5], factors), "codes"), ((codes, fixed), "factors"), ((broken, factors), "codes")):
        with pytest.raises(DataError, check=naming(field)):
            scores_of(*args)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, np.float32, bool])
def test_codes_of_any_type_score_alike(kind: type) -> None:
    """The range of 8-bit codes is beyond 8 bits: it was counted as negative, and the dimension as constant."""
    factors = np.stack(np.meshgrid(np.arange(2), np.arange(2)), -1).reshape(-1, 2).repeat(50, 0)
    codes = (factors * [200, 240]).astype(np.uint8).astype(kind)
    found = scores_of(codes, factors)
    assert found["modularity"].value == 1
    assert found["mig"].value == pytest.approx(1)
    assert found["sap"].value == pytest.approx(0.5, abs=0.06)  # of 40 held-out rows


@pytest.mark.parametrize(("scale", "shift"), [(1e-60, 0.0), (1e60, 0.0), (1e-3, 1e9)])
def test_separated_predictability_is_the_same_in_any_units(scale: float, shift: float) -> None:
    """Scikit-learn's trees see single precision, in which such codes are constant, or infinite."""
    factors = np.stack(np.meshgrid(np.arange(3), np.arange(4)), -1).reshape(-1, 2).repeat(20, 0)
    codes = factors.astype(np.float64)
    assert separated_predictability(codes * scale + shift, factors) == separated_predictability(codes, factors)
