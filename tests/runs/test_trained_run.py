"""A trained run takes rows as they are stored, and gives them so; a bare model says when it is given those."""

import numpy as np
import pytest
import torch

from naming import naming
from vaekit import evaluate, open_run
from vaekit.errors import DataError
from vaekit.runs import TrainingRun, make_run, override, reopen

SMALL = ["train.epochs=1", "model.latent=2", "model.encoder.widths=[8]", "model.decoder.widths=[8]"]


def trained(folder, source, *settings):
    tree = override({"data": {"source": str(source)}, "run_dir": str(folder)}, [*SMALL, *settings])
    for _ in TrainingRun.start(make_run(tree)).events():
        pass
    return open_run(folder)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A run on a standardised table, and its test rows as they are stored."""
    home = tmp_path_factory.mktemp("table")
    x = np.random.default_rng(0).normal(size=(120, 3)) * [1, 50, 0.1] + [1000, 0, 2]
    np.savetxt(home / "t.csv", x, delimiter=",", header="a,b,c", comments="")
    run = trained(home / "run", home / "t.csv")
    return run, run.schema.to_stored(run.data().test.batch(slice(None)).numpy().astype(float))


def test_stored_rows_are_transformed_by_the_run_itself(table):
    run, raw = table
    expected = evaluate(run.model, reopen(run).test, samples=4)
    for given in (raw, torch.from_numpy(raw), raw.astype(np.float32), None, run.data().test):
        found = run.evaluate(given, samples=4)
        for name in ("elbo", "log_likelihood", "distortion"):
            assert found[name].value == pytest.approx(expected[name].value, abs=0.02), name
            assert found[name].scaled == pytest.approx(expected[name].scaled, abs=0.02), name
            assert "stored" not in found[name].warning
    assert run.settings.train.epochs == 1


def test_data_frames_go_by_the_names_of_their_columns(table):
    pandas = pytest.importorskip("pandas")
    run, raw = table
    frame = pandas.DataFrame(raw, columns=["a", "b", "c"])[["c", "a", "b"]].assign(other=1.0)
    np.testing.assert_allclose(run.encode(frame), run.encode(raw), atol=1e-5)
    with pytest.raises(DataError, match="lacks the columns b"):
        run.encode(frame.drop(columns="b"))


def test_a_bare_model_of_scaled_rows_warns_of_rows_as_they_are_stored(table):
    run, raw = table
    x = torch.from_numpy((raw - np.array(run.schema.loc)) / np.array(run.schema.scale)).float()
    assert evaluate(run.model, x, samples=2)["elbo"].warning == ""
    assert evaluate(run.model, x[:3], samples=2)["elbo"].warning == ""
    for bad in (torch.from_numpy(raw).float(), raw.astype(np.float32), x * 1000):
        found = evaluate(run.model, bad, samples=2)
        for name in ("elbo", "log_likelihood", "distortion"):
            assert "open_run(folder).evaluate(rows)" in found[name].warning, name


def test_stored_rows_in_other_units_are_told_to_be_far(table):
    run, raw = table
    assert run.evaluate(raw, samples=2)["elbo"].warning == ""
    for bad in (raw * 1000, (raw - raw.mean(0)) / raw.std(0)):
        found = run.evaluate(bad, samples=2)
        for name in ("elbo", "log_likelihood", "distortion"):
            assert "in the same units" in found[name].warning, name


def test_codes_reconstructions_and_samples_are_in_stored_units(table):
    run, raw = table
    assert run.encode(raw).shape == (len(raw), 2)
    made, drawn = run.reconstruct(raw), run.sample(50, seed=1)
    assert made.shape == raw.shape
    assert drawn.shape == (50, 3)
    for rows in (made, drawn):
        assert abs(rows[:, 0].mean() - 1000) < 3
    np.testing.assert_array_equal(drawn[:7], run.sample(7, seed=1))


def test_rows_of_another_shape_or_kind_are_refused_by_name(table):
    run, raw = table
    for bad, why in ((raw[:, :2], "shape"), (raw[:0], "n > 0"), (raw.astype(str), "numbers"), (raw * np.nan, "NaN")):
        with pytest.raises(DataError, match=why):
            run.evaluate(bad)
    with pytest.raises(DataError, check=naming("context")):
        run.evaluate(raw, context=np.zeros(len(raw)))


def test_pictures_are_taken_in_grey_and_binarised_alike(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (80, 6, 5), dtype=np.uint8)
    np.save(tmp_path / "grey.npy", grey)
    run = trained(tmp_path / "run", tmp_path / "grey.npy", "data.binarise=dynamic", "model.likelihood=bernoulli")
    drawn = np.random.RandomState(777).binomial(1, grey[:9] / 255.0)
    assert run.evaluate(grey[:9], samples=2) == run.evaluate(drawn, samples=2)
    assert run.reconstruct(grey[:9]).shape == (9, 6, 5)  # as the array that it was trained on


def test_labels_are_given_by_name_or_number(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", X=rng.normal(size=(90, 4)), y=np.array(["left", "right", "up"])[np.arange(90) % 3])
    run = trained(tmp_path / "run", tmp_path / "a.npz", "data.context=label")
    x = rng.normal(size=(3, 4))
    np.testing.assert_array_equal(run.encode(x, context=["left", "up", "left"]), run.encode(x, context=[0, 2, 0]))
    with pytest.raises(DataError, check=naming("context")):
        run.encode(x)


def test_other_data_is_said_to_be_what_it_is(table, tmp_path):
    run, raw = table
    np.savetxt(tmp_path / "other.csv", raw[:5], delimiter=",", header="a,b,c", comments="")
    rows = run.rows(tmp_path / "other.csv")
    assert "all rows of other.csv, 5 rows" in rows.protocol
    assert "scaled as the training rows of t.csv were" in rows.protocol
    assert "drawn without replacement" not in rows.protocol


def test_samples_of_a_given_label_are_those_of_that_label_alone(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", X=rng.normal(size=(90, 4)), y=np.array(["left", "right", "up"])[np.arange(90) % 3])
    run = trained(tmp_path / "run", tmp_path / "a.npz", "data.context=label")
    turn = run.sample(3, mean=True)
    np.testing.assert_array_equal(run.sample(3, context=["left", "right", "up"], mean=True), turn)
    np.testing.assert_array_equal(run.sample(3, context=[1, 1, 1], mean=True)[1], turn[1])
    with pytest.raises(DataError, check=naming("context")):
        run.sample(3, context=["left"])


def test_codes_of_discrete_latents_are_their_most_probable_values(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 4)))
    run = trained(tmp_path / "run", tmp_path / "x.npy", "model.posterior=categorical", "objective.gradient=score")
    assert set(np.unique(run.encode())) == {0.0, 1.0}
