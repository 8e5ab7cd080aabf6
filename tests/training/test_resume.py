"""A run that is cut and resumed ends as if it had never stopped, to the last bit."""

import json
import shutil
from functools import cache

import numpy as np
import pytest
import torch
from runs_to_cut import KINDS, STEPS, check_same, cut, make, outcome

from naming import naming
from vaekit.errors import DataError, ModelFileError, VaekitError
from vaekit.runs import TrainingRun, fit, load
from vaekit.training.update_rules import Updates


@pytest.fixture(params=[kind for kind in KINDS if kind != "penalties"])  # those keep nothing of their own
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What comes of a run that is not cut, by kind."""

    @cache
    def found(kind: str) -> dict[str, object]:
        folder = tmp_path_factory.mktemp("whole")
        fit(make(kind, folder))
        return outcome(folder)

    return found


def test_a_run_cut_again_and_again_is_the_run_that_was_not(kind, whole, tmp_path):
    """At every step, or, but for the first kind, at every third: ends of epochs are among both."""
    every = 1 if kind == "mlp" else 3
    training, cuts = TrainingRun.start(make(kind, tmp_path)), 0
    while not cut(training, training.state.at.step + every):
        cuts += 1
        assert training.folder.read("STATUS") == f"interrupted at step {cuts * every}\n"
        training = TrainingRun.resume(tmp_path / "run")
        assert training.notice == ""
    assert cuts == STEPS // every
    check_same(whole(kind), outcome(tmp_path))


@pytest.mark.parametrize("where", [(30, "epoch"), (60, "epoch"), (37, "step")])
def test_cut_beside_a_validation(kind, where, whole, tmp_path):
    cut(TrainingRun.start(make(kind, tmp_path)), *where)
    cut(TrainingRun.resume(tmp_path / "run"), 1000)
    check_same(whole(kind), outcome(tmp_path))


def test_stop_ends_after_the_step_and_saves(tmp_path):
    training = TrainingRun.start(make("mlp", tmp_path))
    for event in training.events():
        if event.kind == "step" and event.step == 7:
            training.stop()
    assert event.step == 7
    assert training.folder.read("STATUS") == "interrupted at step 7\n"
    assert TrainingRun.resume(tmp_path / "run").state.at.step == 7


def test_an_interrupt_in_the_middle_of_a_step_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    training = TrainingRun.start(make("mlp", tmp_path, save_every=1))

    update = Updates.__call__

    def interrupted(optimiser, lr):
        update(optimiser, lr)
        if training.state.at.step == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(Updates, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(training.events())
    assert TrainingRun.resume(tmp_path / "run").state.at.step == 9


def test_resuming_a_run_that_never_saved_starts_it(whole, tmp_path):
    TrainingRun.start(make("mlp", tmp_path))
    list(TrainingRun.resume(tmp_path / "run").events())
    check_same(whole("mlp"), outcome(tmp_path))


def test_a_run_killed_before_its_second_checkpoint_goes_on_from_its_first(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    events = TrainingRun.start(make("mlp", whole)).events()
    while next(events).kind != "epoch":
        pass
    shutil.copytree(whole, killed)  # as a kill would leave it: a line of metrics, and the checkpoint of the start
    list(events)
    assert len((killed / "run" / "metrics.jsonl").read_text().splitlines()) == 1
    with pytest.raises(ModelFileError, match="step-0 is of before training"):
        load(killed / "run")
    list(TrainingRun.resume(killed / "run").events())
    check_same(outcome(whole), outcome(killed))


def test_early_stopping_is_remembered(tmp_path):
    training = TrainingRun.start(make("mlp", tmp_path, epochs=50, patience=1, lr=0.3, schedule="constant"))
    ended = list(training.events())[-1]
    assert "stopped early" in ended.message
    again = list(TrainingRun.resume(tmp_path / "run").events())
    assert [event.kind for event in again if event.kind != "finding"] == ["start", "end"]
    assert again[-1].metrics == ended.metrics


def test_two_trainers_on_one_folder(tmp_path):
    first = TrainingRun.start(make("mlp", tmp_path)).events()
    next(first)
    with pytest.raises(VaekitError, match="another process is training into"):
        list(TrainingRun.resume(tmp_path / "run").events())
    first.close()
    assert list(TrainingRun.resume(tmp_path / "run").events())[-1].kind == "end"


def test_another_number_of_threads_is_said(tmp_path):
    cut(TrainingRun.start(make("mlp", tmp_path)), 5)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        notice = TrainingRun.resume(tmp_path / "run").notice
    finally:
        torch.set_num_threads(threads)
    assert f"threads {threads} before, {threads + 1} now" in notice
    assert "not bitwise equal" in notice


def test_changed_data_are_refused(tmp_path):
    cut(TrainingRun.start(make("mlp", tmp_path)), 5)
    (tmp_path / "images.npy").unlink()
    np.save(tmp_path / "images.npy", np.full((188, 8, 8), 7, np.uint8))
    with pytest.raises(DataError, check=naming("data.source", str(tmp_path / "images.npy"))):
        TrainingRun.resume(tmp_path / "run")


def test_another_model_is_refused(tmp_path):
    cut(TrainingRun.start(make("mlp", tmp_path)), 5)
    settings = tmp_path / "run" / "run.yaml"
    settings.write_text(settings.read_text().replace("latent: 3", "latent: 4"))
    with pytest.raises(ModelFileError, match=r"of another model: model\.likelihood.* is \(16, 3\) .*, and \(16, 4\)"):
        TrainingRun.resume(tmp_path / "run")


def test_the_history_has_no_gap_and_no_half_line(tmp_path):
    cut(TrainingRun.start(make("mlp", tmp_path)), 40)
    history = tmp_path / "run" / "metrics.jsonl"
    history.write_text(history.read_text() + '{"epoch": 2, "step": 60}\n{"epoch": 3, "st')
    cut(TrainingRun.resume(tmp_path / "run"), 1000)
    assert [json.loads(line)["epoch"] for line in history.read_text().splitlines()] == [1, 2]


def test_metrics_that_could_not_be_written_come_with_the_checkpoint(tmp_path, monkeypatch):
    training = TrainingRun.start(make("mlp", tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(
            training.folder, "log", lambda metrics: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        with pytest.warns(UserWarning, match="the line is kept, and tried again"):
            cut(training, 45)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    list(TrainingRun.resume(tmp_path / "run").events())
    assert [line["epoch"] for line in TrainingRun.resume(tmp_path / "run").folder.history()] == [1, 2]


def test_an_interrupt_while_an_epoch_is_closed_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    fit(make("mlp", whole))
    training = TrainingRun.start(make("mlp", parts, save_every=1))
    mark = training.state.mark_good

    def interrupted():
        mark()
        if training.state.at.epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(training.state, "mark_good", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(training.events())
    list(TrainingRun.resume(parts / "run").events())
    check_same(outcome(whole), outcome(parts))


def test_a_training_run_trains_once(tmp_path):
    training = TrainingRun.start(make("mlp", tmp_path))
    list(training.events())
    with pytest.raises(VaekitError, match="has been trained already"):
        list(training.events())


def test_a_run_whose_checkpoints_are_gone_is_not_started_anew(tmp_path):
    fit(make("mlp", tmp_path))
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ModelFileError, match="has a history but no checkpoint"):
        TrainingRun.resume(tmp_path / "run")
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_damaged_checkpoint_is_put_aside_and_the_good_one_kept(tmp_path):
    cut(TrainingRun.start(make("mlp", tmp_path, save_every=4)), 10)
    newest = max((tmp_path / "run" / "checkpoints").iterdir())
    (newest / "training.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"training\.safetensors is damaged.*step-8, is used"):
        training = TrainingRun.resume(tmp_path / "run")
    assert training.state.at.step == 8
    cut(training, 9)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["000003-step-8", "000004-step-9", f"damaged-{newest.name}"]
