"""Runs that go on from other runs: extended to more epochs, or begun from another's weights."""

import json
import shutil

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from naming import naming
from vaekit.errors import ConfigError, ModelFileError, VaekitError
from vaekit.runs import TrainingRun, extend, fit, open_run, run
from vaekit.runs.samplers import fingerprint

TINY = (
    "schedule=constant",
    "limit.train=60",
    "limit.valid=20",
    "batch_size=20",
    "latent=3",
    "encoder.widths=[16]",
    "decoder.widths=[16]",
)


def small(folder, *settings):
    return run("digits", *TINY, "beta=1", *settings, run_dir=folder)


def finish(training):
    for _ in training.events():
        pass
    return training.folder.path


def weights(folder):
    return {which: open_run(folder, which).model.state_dict() for which in ("best", "last")}


def same(one, other):
    return all(torch.equal(one[which][name], other[which][name]) for which in one for name in one[which])


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "two"
    fit(small(folder, "epochs=2", "train.ema=0.9"))
    return folder


@pytest.mark.parametrize("place", ["in place", "in a copy"])
def test_an_extended_run_is_bitwise_one_of_so_many_epochs_from_the_start(two_epochs, tmp_path, place):
    fit(small(tmp_path / "four", "epochs=4", "train.ema=0.9"))
    before = shutil.copytree(two_epochs, tmp_path / "before")
    if place == "in place":
        extended = finish(extend(before, ["train.epochs=4"]))
        assert extended == before
    else:
        kept = {path: path.read_bytes() for path in before.rglob("*") if path.is_file()}
        extended = finish(extend(before, ["epochs=4"], run_dir=tmp_path / "copy"))
        assert extended == tmp_path / "copy"
        assert all(path.read_bytes() == content for path, content in kept.items() if path.name != "LOCK")
    assert same(weights(extended), weights(tmp_path / "four"))
    extended_metrics, direct_metrics = (
        [
            {key: value for key, value in json.loads(line).items() if "second" not in key}
            for line in (folder / "metrics.jsonl").read_text().splitlines()
        ]
        for folder in (extended, tmp_path / "four")
    )
    assert extended_metrics == direct_metrics
    opened = open_run(extended).settings
    assert opened.train.epochs == 4
    assert opened.provenance == ("extended from 2 to 4 epochs after epoch 2, step 6",)


def test_of_two_extensions_of_one_run_the_second_is_refused_before_it_writes(two_epochs, tmp_path):
    folder = shutil.copytree(two_epochs, tmp_path / "run")
    first = extend(folder, ["epochs=3"])
    settings = (folder / "run.yaml").read_bytes()
    for place in (None, tmp_path / "copy"):
        with pytest.raises(VaekitError, match="another process"):
            extend(folder, ["epochs=5"], run_dir=place)
    assert (folder / "run.yaml").read_bytes() == settings
    assert not (tmp_path / "copy").exists()
    finish(first)
    assert finish(extend(folder, ["epochs=5"])) == folder


def test_an_extension_stays_out_of_the_data(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    values = np.random.default_rng(0).normal(size=(300, 2))
    parquet.write_table(pyarrow.table({"a": values[:, 0], "b": values[:, 1]}), data / "part.parquet")
    fit(run(str(data), *TINY, "epochs=1", run_dir=tmp_path / "run"))
    with pytest.raises(ConfigError, check=naming("run_dir", str(data / "longer"))):
        extend(tmp_path / "run", ["epochs=2"], run_dir=data / "longer")
    assert [path.name for path in data.iterdir()] == ["part.parquet"]


def test_a_run_that_was_stopped_is_extended_from_where_it_stands(tmp_path):
    fit(small(tmp_path / "four", "epochs=4"))
    training = TrainingRun.start(small(tmp_path / "stopped", "epochs=3"))
    for event in training.events():
        if event.step == 4:
            training.stop()
    extended = finish(extend(tmp_path / "stopped", ["epochs=4"]))
    assert same(weights(extended), weights(tmp_path / "four"))
    assert "after epoch 1, step 4" in open_run(extended).settings.provenance[0]


def test_schedules_over_the_length_are_named_in_the_provenance(tmp_path):
    fit(small(tmp_path / "run", "epochs=2", "train.schedule=cosine", "objective.beta={kind: warmup}"))
    extended = finish(extend(tmp_path / "run", ["epochs=3"]))
    (said,) = open_run(extended).settings.provenance
    assert "objective.beta, train.schedule computed for 2 epochs up to there and for 3 from there on" in said
    last = json.loads((extended / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["lr"] == pytest.approx(1e-3 * 0.5 * (1 + np.cos(np.pi * 8 / 9)))


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        (["epochs=2"], "train.epochs", 2),
        (["epochs=1"], "train.epochs", 1),
        (["epochs=4", "lr=0.1"], "settings", ["epochs=4", "lr=0.1"]),
        (["epochs=4", "data.source=mnist"], "settings", ["epochs=4", "data.source=mnist"]),
        ([], "train.epochs", 2),
    ],
)
def test_what_is_no_extension_is_refused_and_nothing_is_written(two_epochs, tmp_path, settings, field, value):
    before = {path: path.read_bytes() for path in two_epochs.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, check=naming(field, value)):
        extend(two_epochs, settings, run_dir=tmp_path / "new")
    assert {path: path.read_bytes() for path in two_epochs.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "new").exists()


def test_a_run_that_patience_ended_needs_more_of_it(tmp_path):
    fit(small(tmp_path / "run", "epochs=20", "patience=1", "lr=0.5"))
    with pytest.raises(ConfigError, check=naming("train.patience", 1)):
        extend(tmp_path / "run", ["epochs=30"])
    assert finish(extend(tmp_path / "run", ["epochs=21", "patience=null", "train.log_every=9"]))
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 21


def test_a_run_begins_with_the_weights_of_another(two_epochs, tmp_path):
    source = open_run(two_epochs)
    settings = run("objective=iwae", "lr=1e-4", initialise_from=two_epochs, run_dir=tmp_path / "new")
    assert settings.model == source.settings.model
    training = TrainingRun.start(settings)
    assert fingerprint(training.model) == fingerprint(source.model)
    (said,) = training.run.provenance
    epoch = source.weights["epoch"]
    assert said == f"initialised from two (best weights, epoch {epoch}, SHA-256 {fingerprint(source.model)[:12]})"
    resumed = TrainingRun.resume(tmp_path / "new")
    assert fingerprint(resumed.model) == fingerprint(source.model)
    finish(training)
    assert open_run(tmp_path / "new").settings.provenance == (said,)
    assert fingerprint(open_run(tmp_path / "new").model) != fingerprint(source.model)
    fresh = TrainingRun.start(run("digits", config=tmp_path / "new" / "run.yaml", run_dir=tmp_path / "again"))
    assert fresh.run.provenance == (said,)


def test_other_data_of_the_same_shape_goes_with_the_weights(two_epochs, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 17, (400, 8, 8)).astype(np.uint8)
    pictures[0, 0, :2] = 0, 16
    np.save(tmp_path / "other.npy", pictures)
    words = ("data.support=levels", "data.levels=17")
    settings = run(str(tmp_path / "other.npy"), *words, initialise_from=two_epochs)
    training = TrainingRun.start(settings)
    assert fingerprint(training.model) == fingerprint(open_run(two_epochs).model)


def test_weights_that_do_not_fit_are_named_with_their_shapes(two_epochs, tmp_path):
    with pytest.raises(ModelFileError, match=r"is \(16, 3\) float32 there, and \(16, 4\) float32 by"):
        TrainingRun.start(run("latent=4", initialise_from=two_epochs, run_dir=tmp_path / "new"))
    with pytest.raises(ModelFileError, match="is missing there, and"):
        TrainingRun.start(run("model.prior=vamp", initialise_from=two_epochs, run_dir=tmp_path / "new"))
    with pytest.raises(ModelFileError, match="not a run folder"):
        run("latent=4", initialise_from=tmp_path)
    assert not (tmp_path / "new").exists()


def test_a_run_from_scratch_claims_no_provenance(tmp_path):
    (tmp_path / "old.yaml").write_text("provenance: [extended from 1 to 2 epochs]")
    assert TrainingRun.start(run("digits", *TINY, config=tmp_path / "old.yaml")).run.provenance == ()
