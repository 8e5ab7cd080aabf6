"""An objective that gives way to another during training."""

import pytest
import torch

from naming import naming
from vaekit.errors import ConfigError
from vaekit.objectives import Elbo, Iwae, Switch
from vaekit.runs import TrainingRun, make_run, override, preset

pytestmark = pytest.mark.usefixtures("one_thread")

SWITCH = "objective={kind: switch, at: 0.55, first: {beta: {over: 0.3}}, then: {kind: iwae, samples: 4}}"
TINY = [
    *("limit.train=40", "limit.valid=20", "train.epochs=10", "train.batch_size=20", "model.latent=3"),
    *(f"model.{part}={{kind: mlp, widths: [8]}}" for part in ("encoder", "decoder")),
    SWITCH,
]


def start(*settings: str) -> TrainingRun:
    return TrainingRun.start(make_run(override(preset("digits"), [*TINY, *settings])))


def test_each_epoch_has_the_objective_that_is_planned_for_its_first_step():
    training, kinds = start(), []
    for event in training.events():
        if event.kind == "epoch":
            kinds.append("bound" if "train_bound" in event.metrics else "elbo")
    assert kinds == 6 * ["elbo"] + 4 * ["bound"]  # steps 0, 2, ..., 10 are below 0.55 of 20


def test_the_best_epoch_is_judged_by_the_bound_that_training_ends_with():
    seen, end = [], {}
    for event in start().events():
        if event.kind == "epoch":
            assert event.metrics["valid_bound"] >= event.metrics["valid_elbo"]
            seen.append(event.metrics["valid_bound"])
        end = event.metrics
    assert end["best_valid_bound"] == max(seen)


def test_the_phases_are_what_they_would_be_alone():
    plan = Switch(first=Elbo(beta=0.5), then=Iwae(samples=4), at=0.5)
    assert plan.now(0, 10) == plan.now(4, 10) == Elbo(beta=0.5)
    assert plan.now(5, 10) == Iwae(samples=4)
    assert plan.samples == 4


@pytest.mark.parametrize("stop", [7, 11, 12, 15])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(stop, tmp_path):
    whole = start()
    for _ in whole.events():
        pass
    training = start(f"run_dir={tmp_path / 'run'}")
    for event in training.events():
        if event.kind == "step" and event.step == stop:
            training.stop()
    training = TrainingRun.resume(tmp_path / "run")
    for _ in training.events():
        pass
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, training.model.state_dict()[name]), name


def test_a_time_budget_is_refused():
    with pytest.raises(ConfigError, check=naming("train.budget", "10s")):
        start("train.budget=10s")
