"""Extractors of features: seeded, named, and of the size that they say."""

import pytest
import torch
from sklearn.decomposition import PCA

from naming import naming
from vaekit.data import DataSpec, Limit, Rows, prepare
from vaekit.errors import DataError
from vaekit.evaluation import Extractor, choose_features, classifier_features, features_of, pca_features
from vaekit.evaluation.features import RawFeatures


@pytest.fixture(scope="module")
def digits():
    return prepare(DataSpec(source="digits"), Limit(train=700), discrete=True)


@pytest.fixture
def table():
    labels = torch.arange(300) % 3
    return Rows(torch.randn(300, 5) + 3 * labels[:, None], labels)


def test_a_classifier_knows_its_labels_and_leaves_the_rest_alone(digits, globals_untouched, monkeypatch):
    monkeypatch.setattr("vaekit.evaluation.features.STEPS", 100)
    with globals_untouched():
        fitted = classifier_features(digits.train, seed=3)
    x = digits.test.batch(slice(None))
    assert (fitted.logits(x).argmax(1) == digits.test.labels).double().mean() > 0.85
    features = features_of(fitted, digits.train)
    assert (features.shape, features.dtype) == ((700, 64), torch.float64)
    assert float(features.square().mean()) == pytest.approx(1, rel=0.1)
    assert "not Inception" in fitted.name


def test_a_classifier_is_a_function_of_rows_and_seed(table, monkeypatch):
    monkeypatch.setattr("vaekit.evaluation.features.STEPS", 40)
    first, again, other = (features_of(classifier_features(table, seed), table) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_without_labels_there_are_principal_components(table):
    unlabelled = Rows(table.values)
    with pytest.raises(DataError, check=naming("rows")):
        classifier_features(unlabelled)
    chosen = choose_features(unlabelled)
    assert isinstance(chosen, Extractor)
    assert chosen.name == "5 principal components of the raw values"
    found = features_of(pca_features(table, 2), table)
    expected = torch.from_numpy(PCA(2).fit_transform(table.values.double().numpy()))
    scale = expected.square().mean().sqrt()
    torch.testing.assert_close((found * scale).abs(), expected.abs(), rtol=1e-2, atol=1e-2)
    assert float(found.square().mean()) == pytest.approx(1, rel=1e-2)


def test_raw_values_are_flat(digits):
    assert features_of(RawFeatures(), digits.test).shape == (180, 64)
