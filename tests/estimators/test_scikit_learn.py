"""The estimators keep scikit-learn's contract, and what they say of a row depends on no other row."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from naming import naming
from vaekit.errors import NotApplicable, SpecError
from vaekit.sklearn import VAEAnomalyDetector, VAEImputer, VAESynthesizer, VAETransformer

pytestmark = pytest.mark.usefixtures("one_thread")
NARROW = {  # a masked network, and histograms, that take no time
    "model.likelihood": {
        "kind": "autoregressive_columns",
        "columns": {f"{kind}": {"kind": "histogram", "parts": 16} for kind in ("real", "positive")}
        | {"count": {"kind": "count_histogram", "parts": 40}},
        "width": 32,
    }
}
SHORT = 3  # epochs: what is checked does not depend on how good a model is


@pytest.mark.usefixtures("unchecked")
@parametrize_with_checks(
    [each(epochs=SHORT) for each in (VAETransformer, VAEAnomalyDetector, VAEImputer, VAESynthesizer)]
)
def test_estimators_keep_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    """Rows near a plane, with a feature that does not vary."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 2))
    near = z @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(300, 5))
    return np.column_stack([100 + 10 * near, np.full(300, 7.0)])


@pytest.fixture(scope="module")
def fitted(x) -> VAETransformer:
    return VAETransformer(latent=2).fit(x)


def test_any_setting_of_a_run_can_be_given_and_is_checked(x):
    found = VAETransformer(epochs=1, settings={"train.lr": 1e-05, "model.prior": "vamp", "epochs": 2}).fit(x)
    assert found.n_iter_ == 2
    with pytest.raises(SpecError, check=naming("train.epoch", 3)):
        VAETransformer(settings={"train.epoch": 3}).fit(x)
    with pytest.raises(SpecError, check=naming("model.likelihood")):
        VAETransformer(likelihood="bernoulli").fit(x)


def test_what_is_left_open_is_chosen_and_said(fitted, x):
    assert (fitted.latent_, fitted.widths_, fitted.likelihood_) == (2, (64,), "calibrated_student_t")
    assert 20 <= fitted.n_iter_ <= 40
    zeros_and_ones = VAETransformer(epochs=1, widths=(8, 4)).fit(x[:, :5] > 100)
    assert (zeros_and_ones.likelihood_, zeros_and_ones.widths_, zeros_and_ones.latent_) == ("bernoulli", (8, 4), 4)


def test_a_row_depends_on_no_other_row(fitted, x):
    order = np.random.default_rng(1).permutation(len(x))
    for method in (fitted.transform, fitted.score_samples):
        whole = method(x)
        np.testing.assert_allclose(method(x[order]), whole[order], rtol=1e-12)
        np.testing.assert_allclose(np.concatenate([method(x[:7]), method(x[7:8]), method(x[8:])]), whole, rtol=1e-12)


def test_equal_calls_give_equal_numbers(fitted, x):
    again = clone(fitted).fit(x)
    np.testing.assert_array_equal(again.transform(x), fitted.transform(x))
    np.testing.assert_array_equal(again.sample(5), fitted.sample(5))
    assert not np.array_equal(fitted.sample(5), fitted.sample(5, random_state=1))


def test_codes_lead_back_to_rows_in_their_units(fitted, x):
    back = fitted.inverse_transform(fitted.transform(x))
    assert back.shape == x.shape
    assert (back[:, 5] == 7).all()
    assert np.square(back - x)[:, :5].mean() < 0.2 * x[:, :5].var(0).mean()
    made = fitted.sample(1000)
    np.testing.assert_allclose(made.mean(0), x.mean(0), atol=4)
    with pytest.raises(ValueError, match="the codes have 2"):
        fitted.inverse_transform(x)


def test_scores_are_near_the_density_of_the_data_in_its_units(fitted, x):
    """Of rows near a plane the true density is PCA's, which a short training comes near to from below."""
    best, independent = PCA(2).fit(x[:, :5]).score(x[:, :5]), PCA(0).fit(x[:, :5]).score(x[:, :5])
    assert independent + 0.5 * (best - independent) < fitted.score(x) < best + 0.1
    scaled = clone(fitted).fit(1000 * x)
    assert scaled.score(1000 * x) == pytest.approx(fitted.score(x) - 5 * np.log(1000), abs=0.05)


def test_a_missing_value_is_left_out_and_what_stands_in_other_rows_does_not_matter(fitted, x):
    holes = x.copy()
    holes[3, 1] = np.nan
    others = np.arange(len(x)) != 3
    np.testing.assert_allclose(fitted.transform(holes)[others], fitted.transform(x)[others], rtol=1e-12)
    scores = fitted.score_samples(holes)
    np.testing.assert_allclose(scores[others], fitted.score_samples(x)[others], rtol=1e-12)
    assert np.isfinite(scores).all()


def test_frames_and_sparse_matrices_are_arrays_of_the_same_numbers(fitted, x):
    frame = pd.DataFrame(x, columns=list("abcdef"))
    of_frame = clone(fitted).set_params(epochs=2).set_output(transform="pandas").fit(frame)
    assert list(of_frame.feature_names_in_) == list("abcdef")
    codes = of_frame.transform(frame)
    assert list(codes.columns) == ["vaetransformer0", "vaetransformer1"] == list(of_frame.get_feature_names_out())
    of_sparse = clone(fitted).set_params(epochs=2).fit(sparse.csr_array(x))
    np.testing.assert_array_equal(codes.to_numpy(), of_sparse.transform(sparse.csc_array(x)))


def test_pickles_hold_the_files_of_a_run_and_no_tensors(fitted, x):
    content = pickle.dumps(fitted)
    assert b"format_version" in content
    assert b"torch" not in content
    np.testing.assert_array_equal(pickle.loads(content).score_samples(x), fitted.score_samples(x))


def test_chunks_go_on_from_the_weights(x):
    one = VAETransformer(latent=2).partial_fit(x[:100])
    before = one.score(x)
    for _ in range(10):
        one.partial_fit(x[100:])
    assert one.n_iter_ == 11
    assert one.score(x) > before


def test_they_work_within_what_scikit_learn_has(x):
    y = (x[:, 0] > 100).astype(int)
    columns = ColumnTransformer([("vae", VAETransformer(epochs=SHORT), [0, 1, 2])], remainder="passthrough")
    search = GridSearchCV(make_pipeline(columns, LogisticRegression(max_iter=10_000)), _latents(1, 2), cv=2, n_jobs=2)
    assert search.fit(x, y).best_score_ > 0.9


def _latents(*sizes: int) -> dict[str, list[int]]:
    return {"columntransformer__vae__latent": list(sizes)}


def test_data_of_which_nothing_varies_is_refused():
    with pytest.raises(ValueError, match="no feature of X varies"):
        VAETransformer().fit(np.ones((20, 3)))


def test_a_posterior_without_a_density_has_codes_but_no_scores(x):
    found = VAETransformer(epochs=1, settings={"model.posterior": "deterministic"}).fit(x)
    assert found.transform(x).shape == (300, found.latent_)
    with pytest.raises(NotApplicable):
        found.score_samples(x)


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"kind": "hierarchical"}},
        {"model.posterior": "von_mises_fisher", "model.prior": "uniform_sphere"},
        {"model.prior": "mixture"},
    ],
)
def test_other_models_score_and_decode_as_well(x, settings):
    found = VAETransformer(latent=4, epochs=1, settings=settings).fit(x)
    whole = found.score_samples(x[:10])
    np.testing.assert_allclose(found.score_samples(x[9:4:-1]), whole[9:4:-1], rtol=1e-12)
    assert found.inverse_transform(found.transform(x[:10])).shape == (10, 6)


def test_anomalies_are_rows_that_are_improbable(x):
    detector = VAEAnomalyDetector().fit(x)
    far = x[:20] + np.array([30, -30, 30, -30, 30, 0])
    assert (detector.predict(far) == -1).all()
    assert (detector.predict(x) == -1).mean() < 0.1
    share = VAEAnomalyDetector(contamination=0.2, epochs=SHORT).fit(x)
    assert (share.predict(x) == -1).mean() == pytest.approx(0.2)
    np.testing.assert_array_equal(share.decision_function(x), share.score_samples(x) - share.offset_)


def test_missing_values_are_filled_from_what_is_observed_of_their_row(x):
    holes = x.copy()
    holes[np.arange(100), np.arange(100) % 6] = np.nan
    imputer = VAEImputer(latent=2).fit(holes)
    filled, hidden = imputer.transform(holes), np.isnan(holes)
    np.testing.assert_array_equal(filled[~hidden], x[~hidden])
    assert (filled[:, 5] == 7).all()
    by_mean = np.square(x - np.nanmean(holes, 0))[hidden].mean()
    assert np.square(filled - x)[hidden].mean() < 0.5 * by_mean
    order = np.random.default_rng(1).permutation(100)[:20]
    np.testing.assert_allclose(imputer.transform(holes[order]), filled[order], rtol=1e-12)
    assert np.isfinite(imputer.transform(np.full((1, 6), np.nan))).all()


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """A table of all that columns hold."""
    rng = np.random.default_rng(0)
    age = rng.integers(18, 90, 300)
    columns = {
        "age": age,
        "job": np.where(age > 65, "retired", rng.choice(["cook", "clerk"], 300)),
        "size": pd.Categorical.from_codes(rng.integers(0, 2, 300), ["S", "M", "L"], ordered=True),
        "since": pd.Timestamp("2020-02-29") + pd.to_timedelta(rng.integers(0, 300, 300), "D"),
        "late": age % 2 == 0,
        "height": rng.normal(170, 10, 300).astype("float32"),
        "children": pd.array(np.where(age > 30, rng.poisson(1, 300), -1), "Int64"),
        "one": 7,
        "number": np.arange(300),
        "key": [f"person {i}" for i in range(300)],
        "share": rng.random(300).round(2),
    }
    made = pd.DataFrame(columns)
    made.loc[made["children"] == -1, "children"] = pd.NA
    return made


@pytest.fixture(scope="module")
def synthesizer(frame) -> VAESynthesizer:
    with pytest.warns(UserWarning, match="'key'"):
        return VAESynthesizer(epochs=60, settings=NARROW).fit(frame)


def test_synthetic_frames_have_the_columns_types_and_categories_of_the_frame(synthesizer, frame):
    made = synthesizer.sample(200)
    assert made.columns.equals(frame.columns)
    assert (made.dtypes == frame.dtypes).all()
    assert made["key"].isna().all()
    assert (made["one"] == 7).all()
    assert set(made["job"]) <= set(frame["job"])
    assert set(made["size"]) <= {"S", "M"}
    assert (made["since"].dt.normalize() == made["since"]).all()
    assert made["since"].min() >= frame["since"].min() - pd.Timedelta(days=100)
    assert (made["share"].round(2) == made["share"]).all()
    assert 0 < made["children"].isna().mean() < 0.5


def test_synthetic_rows_can_have_some_of_their_values_given(synthesizer):
    made = synthesizer.sample(40, given={"job": "retired", "late": True})
    assert (made["job"] == "retired").all()
    assert made["late"].all()
    assert made["age"].median() > 60
    with pytest.raises(ValueError, match="there is no column 'work'"):
        synthesizer.sample(5, given={"work": "cook"})


def test_synthetic_rows_are_the_same_each_time_and_from_a_pickle(synthesizer, frame):
    content = pickle.dumps(synthesizer)
    assert b"torch" not in content
    other, made = pickle.loads(content), synthesizer.sample(20)
    assert other.sample(20).equals(made)
    assert not synthesizer.sample(20, random_state=1).equals(made)
    scores = synthesizer.score_samples(frame)
    np.testing.assert_allclose(other.score_samples(frame[::-1])[::-1], scores, rtol=1e-9)
    wrong = frame.assign(job=np.where(frame["job"] == "retired", "cook", "retired"))
    assert synthesizer.score(wrong) < scores.mean() - 1


def test_synthetic_arrays_are_arrays_of_the_same_numbers(x):
    made = VAESynthesizer(epochs=SHORT, settings=NARROW).fit(x.astype("float32")).sample(50)
    assert (made.shape, made.dtype) == ((50, 6), np.float32)
    assert (made[:, 5] == 7).all()
