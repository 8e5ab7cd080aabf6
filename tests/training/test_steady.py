"""What training goes on from by itself, and where it gives up: each by injection."""

import math
import os

import pytest
import torch
from runs_to_cut import STEPS, check_same, cut, make, outcome
from torch import nn

from vaekit.errors import Diverged, VaekitError
from vaekit.models import VAE, Categorical, Columns, Conditional, Gaussian, LogNormal, StandardNormal
from vaekit.objectives import Elbo
from vaekit.processes import World
from vaekit.runs import TrainingRun, fit, load
from vaekit.training import State, Step, Train
from vaekit.training.loop import SETTLING_STEPS, TIMED_STEPS
from vaekit.training.updater import MOST_SKIPPED


@pytest.fixture
def poison(monkeypatch):
    """Make the loss NaN at a step, the first few times that it is reached."""

    def inject(step: int, times: int) -> None:
        forward, left = Step.forward, [times]

        def poisoned(self, inputs):
            out = forward(self, inputs)
            if inputs.step == step and left[0] and torch.is_grad_enabled():
                left[0] -= 1
                out = {**out, "loss": out["loss"] * math.nan, "rate": out["rate"] * math.nan}
            return out

        monkeypatch.setattr(Step, "forward", poisoned)

    return inject


def notices(training: TrainingRun) -> list[str]:
    return [event.message for event in training.events() if event.kind == "notice"]


def test_a_loss_that_is_not_finite_sends_training_back_with_half_the_learning_rate(tmp_path, poison):
    poison(step=40, times=2)
    training = TrainingRun.start(make("mlp", tmp_path))
    messages = notices(training)
    assert len(messages) == 2
    assert "the loss is nan at step 40 (epoch 2): term 'rate' is nan, worst in training row" in messages[0]
    assert messages[1].endswith("Back at step 30 with half the learning rate (2 of 3).")
    assert training.folder.read("STATUS") == "finished\n"
    assert (training.state.at.lr_factor, training.state.at.rollbacks, training.state.at.step) == (0.25, 2, STEPS)
    assert [line["epoch"] for line in training.folder.history()] == [1, 2]


def test_training_that_went_back_resumes_as_if_it_had_not_stopped(tmp_path, poison):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    poison(step=40, times=1)
    fit(make("mlp", whole))
    cut(TrainingRun.start(make("mlp", parts)), 36)
    poison(step=40, times=1)
    list(TrainingRun.resume(parts / "run").events())
    check_same(outcome(whole), outcome(parts))


def test_a_loss_that_stays_bad_ends_with_exit_5_and_good_weights(tmp_path, poison):
    poison(step=40, times=1000)
    training = TrainingRun.start(make("mlp", tmp_path))
    with pytest.raises(Diverged, match="Going back 3 times with half the learning rate each did not help") as e:
        list(training.events())
    assert e.value.exit_code == 5
    assert training.folder.read("STATUS").startswith("failed at step 30")
    assert all(value.isfinite().all() for value in load(tmp_path / "run", "last").state_dict().values())


def test_a_step_with_an_exploding_gradient_is_skipped(tmp_path, monkeypatch):
    training = TrainingRun.start(make("mlp", tmp_path, skip_above=1e6))
    norm, seen = nn.utils.clip_grad_norm_, {}

    def exploding(parameters, limit):
        found = norm(parameters, limit)
        seen[training.state.at.step] = {name: p.detach().clone() for name, p in training.model.named_parameters()}
        return torch.tensor(1e9) if training.state.at.step == 10 else found

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", exploding)
    (message,) = notices(training)
    assert "step 11 was skipped: its gradient norm is 1e+09, above train.skip_above" in message
    assert all(torch.equal(seen[10][name], seen[11][name]) for name in seen[10])
    assert not all(torch.equal(seen[11][name], seen[12][name]) for name in seen[10])
    assert [line["skipped"] for line in training.folder.history()] == [1, 1]


def test_many_skipped_steps_are_named_once_counted_and_found(tmp_path, monkeypatch):
    training = TrainingRun.start(make("mlp", tmp_path, skip_above=1e6))
    norm = nn.utils.clip_grad_norm_

    def mostly_exploding(parameters, limit):
        found = norm(parameters, limit)
        return torch.tensor(1e9) if training.state.at.step % 10 else found

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", mostly_exploding)
    events = list(training.events())
    assert len([event for event in events if event.kind == "notice"]) == 1
    (skipped,) = (event.finding for event in events if event.finding and event.finding.id == "steps_skipped")
    assert skipped.severity == "error"
    assert skipped.value == training.folder.history()[-1]["skipped"] > training.state.at.step / 2
    assert skipped in training.folder.findings()


def test_gradients_that_never_stop_exploding_end_the_run(tmp_path):
    training = TrainingRun.start(make("mlp", tmp_path, skip_above=1e-9))
    with pytest.raises(Diverged, match=f"the {MOST_SKIPPED}th step in a row.*train.skip_above"):
        list(training.events())


@pytest.fixture
def little_memory(monkeypatch):
    """A device on which no more than so many rows fit."""

    def inject(rows: int, error: RuntimeError) -> None:
        forward = Step.forward

        def limited(self, inputs):
            if len(inputs.x) > rows:
                raise error
            return forward(self, inputs)

        monkeypatch.setattr(Step, "forward", limited)

    return inject


CPU = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), CPU])
def test_running_out_of_memory_halves_the_rows_at_a_time_but_not_the_batch(tmp_path, little_memory, error):
    whole = {name: value.clone() for name, value in fit(make("mlp", tmp_path)).model.state_dict().items()}
    (tmp_path / "less").mkdir()
    little_memory(2, error)
    training = TrainingRun.start(make("mlp", tmp_path / "less"))
    messages = notices(training)
    assert messages == ["out of memory: from here on 2 rows at a time, the same batch in more pieces"]
    assert training.state.at.micro_batch == 2
    for name, value in training.model.state_dict().items():
        torch.testing.assert_close(value, whole[name], rtol=1e-3, atol=1e-4)


def test_a_row_that_does_not_fit_ends_the_run(tmp_path, little_memory):
    little_memory(0, CPU)
    with pytest.raises(VaekitError, match="with a single row at a time") as e:
        list(TrainingRun.start(make("mlp", tmp_path)).events())
    assert e.value.exit_code == 1


def test_other_errors_pass(tmp_path, little_memory):
    little_memory(0, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        list(TrainingRun.start(make("mlp", tmp_path)).events())


@pytest.mark.parametrize("kind", ["mlp", "score"])
def test_a_batch_in_pieces_is_the_batch(kind, tmp_path):
    (tmp_path / "pieces").mkdir()
    whole, pieces = fit(make(kind, tmp_path)).model, fit(make(kind, tmp_path / "pieces", micro_batch=2)).model
    for one, other in zip(whole.parameters(), pieces.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_average_of_the_weights_is_validated_and_handed_on(tmp_path):
    training = TrainingRun.start(make("mlp", tmp_path, ema=0.99, weights="last"))
    parameters = dict(training.state.step.model.named_parameters())
    average: dict[str, torch.Tensor] = {}
    for event in training.events():
        if event.kind == "step":
            n = event.step - 1  # updates of the average before, of which few are soon forgotten
            decay = min(0.99, (1 + n) / (10 + n)) if n else 0.0
            for name, value in parameters.items():
                before = average.get(name, torch.zeros_like(value))
                average[name] = before * decay + value.detach() * (1 - decay)
    for name, value in load(tmp_path / "run").named_parameters():
        torch.testing.assert_close(value, average[name])
        assert torch.equal(training.model.state_dict()[name], value)


def test_an_average_of_weights_leaves_the_numbers_of_columns_as_they_are():
    heads = Columns((Categorical(70), Gaussian(), LogNormal(), *[Categorical(3)] * 20))
    likelihood = Conditional(nn.Linear(2, heads.features((23,))), heads, (23,))
    model = VAE(Conditional(nn.Linear(23, 4), Gaussian()), StandardNormal().build(2), likelihood)
    before = {name: value.clone() for name, value in model.named_buffers() if not value.is_floating_point()}
    average = State(Step(model, Elbo(), 8, World()), Train(ema=0.9)).average
    assert average is not None
    for _ in range(30):
        average.update_parameters(model)
    after = dict(average.module.named_buffers())
    assert len(before) > 5
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_time_budget_becomes_steps_which_a_resumed_run_keeps(tmp_path):
    training = TrainingRun.start(make("mlp", tmp_path, epochs=1, budget="3s"))
    events = training.events(clock=lambda: training.state.at.step / 64)
    while training.state.at.steps is None:
        next(events)
    events.close()
    assert training.state.at.steps == 192 > training.state.at.step >= SETTLING_STEPS + TIMED_STEPS
    again = TrainingRun.resume(tmp_path / "run")
    ended = list(again.events(clock=lambda: again.state.at.step / 32))[-1]  # slower now: the steps stay as decided
    assert (ended.kind, ended.step, ended.steps) == ("end", 192, 192)
    assert again.state.at.total_seconds > 3


def test_a_time_budget_ends_at_as_many_epochs_as_are_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr("vaekit.training.loop.MOST_EPOCHS", 60)
    ended = list(TrainingRun.start(make("mlp", tmp_path, epochs=1, budget="1h")).events())[-1]
    assert (ended.kind, ended.epoch) == ("end", 60)


def test_a_full_disk_is_said_and_survived_until_it_lasts(tmp_path, monkeypatch):
    training = TrainingRun.start(make("mlp", tmp_path, save_every=5))
    rename, full = os.rename, []

    def limited(source, target):
        if training.state.at.step in full:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr("os.rename", limited)
    full += [10, 20, 25]
    messages = notices(training)
    assert [text.split(" into ")[0] for text in messages] == [f"cannot write a checkpoint of step {n}" for n in full]
    assert "No space left on device" in messages[0]
    (tmp_path / "again").mkdir()
    training = TrainingRun.start(make("mlp", tmp_path / "again", save_every=5))
    full += [15]
    with pytest.raises(VaekitError, match="3 times in a row: make room"):
        list(training.events())
    assert TrainingRun.resume(tmp_path / "again" / "run").state.at.step == 5


def test_metrics_that_could_not_be_written_are_written_later(tmp_path, monkeypatch):
    training = TrainingRun.start(make("mlp", tmp_path))
    log, calls = training.folder.log, []

    def fail_once(metrics):
        calls.append(metrics["epoch"])
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        log(metrics)

    monkeypatch.setattr(training.folder, "log", fail_once)
    (message,) = notices(training)
    assert "metrics.jsonl" in message
    assert calls == [1, 1, 2]
    assert [line["epoch"] for line in training.folder.history()] == [1, 2]
