import json
import math

import numpy as np
import pytest
import torch

from vaekit.evaluation import evaluating, kl_per_dimension
from vaekit.explorer.contents import collect
from vaekit.explorer.stored_model import StoredModel
from vaekit.runs import open_run


@pytest.fixture(scope="module")
def trained(folder):
    return open_run(folder)


def array(contents, reference):
    found = np.frombuffer(
        contents.arrays, reference["dtype"], count=math.prod(reference["shape"]), offset=reference["offset"]
    )
    return found.reshape(reference["shape"])


def test_what_the_page_shows_is_that_of_the_run(trained):
    contents = collect(trained)
    facts = json.loads(json.dumps(contents.facts, allow_nan=False))
    rows = array(contents, facts["points"]["row"])
    test = trained.data().test
    mean = array(contents, facts["points"]["mean"])
    assert sorted(rows) == list(range(len(test)))
    assert np.allclose(mean, trained.encode()[rows], atol=1e-6)
    stored = array(contents, facts["rows"]["array"])
    assert np.array_equal(stored, test.batch(torch.tensor(rows.tolist())).flatten(1)[: len(stored)])
    labels = np.array(facts["labels"])[array(contents, facts["points"]["label"])]
    assert labels.tolist() == [str(int(label)) for label in test.labels[rows.tolist()]]


def test_dimensions_without_kl_are_named_dead_and_come_last(trained):
    facts = collect(trained).facts
    kl = [one.value for one in kl_per_dimension(trained.model, trained.data().test)]
    dead = [i for i, text in enumerate(facts["dead"]) if text]
    assert dead == [i for i, nats in enumerate(kl) if nats <= facts["threshold"]]
    assert 0 < len(dead) < len(kl)
    assert set(facts["order"][-len(dead) :]) == set(dead)


def test_elbo_of_rows_is_their_distortion_and_rate(trained):
    contents = collect(trained)
    points = contents.facts["points"]
    elbo, kl, likelihood = (array(contents, points[name]) for name in ("elbo", "kl", "log_likelihood"))
    assert np.allclose(elbo, likelihood - kl, atol=1e-3)


def test_without_data_the_points_are_samples(folder, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    text = (copy / "run.yaml").read_text().replace("source: digits", "source: gone.csv", 1)
    (copy / "run.yaml").write_text(text)
    facts = collect(open_run(copy), 50).facts
    assert "gone.csv" in facts["notice"]
    assert facts["points"]["n"] == 50


def test_the_stored_model_is_the_model(trained):
    model = StoredModel(trained)
    z = np.random.default_rng(0).normal(size=(5, model.latents)).astype(np.float32)
    with evaluating(trained.model):
        wanted = trained.model.decode((torch.from_numpy(z),)).mean
    assert np.allclose(model.decode(z), wanted, atol=1e-6)


def test_the_bound_of_a_row_is_near_that_of_many_samples(trained):
    model = StoredModel(trained)
    x = trained.data().test.batch(slice(0, 1)).float().numpy()
    found = model.bound(x, 500)
    again = model.bound(x, 500, seed=1)
    assert abs(found.elbo - again.elbo) < 5 * math.hypot(found.error, again.error)
    assert found.elbo == pytest.approx(found.log_likelihood - found.kl, abs=5 * found.error)
    terms = model.terms(torch.from_numpy(np.repeat(x, 500, 0)), torch.from_numpy(found.z))[0]
    assert terms.mean().item() == pytest.approx(found.log_likelihood, abs=1e-3)
