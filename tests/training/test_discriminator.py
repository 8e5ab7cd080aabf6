"""A discriminator trained beside the model: what moves its weights, what a checkpoint holds, and what goes back."""

import math
from dataclasses import replace

import pytest
import torch
from runs_to_cut import cut, make

from naming import naming
from vaekit.errors import SpecError
from vaekit.processes import World
from vaekit.runs import TrainingRun, make_run, override, preset
from vaekit.training import State, Step, Train
from vaekit.training.updater import Updater

pytestmark = pytest.mark.usefixtures("one_thread")

LR = 0.02  # the critic's
CRITIC = f"{{network: {{kind: mlp, widths: [8]}}, features: 6, lr: {LR}}}"
SMALL = [
    "limit.train=50",
    "limit.valid=10",
    "train.batch_size=20",
    "train.schedule=constant",
    "model.latent=3",
    "model.encoder.widths=[16]",
    "model.decoder.widths=[16]",
]


def start(kind: str, *settings: str) -> TrainingRun:
    objective = f"objective={{kind: regularised, penalties: [{{kind: {kind}, critic: {CRITIC}}}]}}"
    return TrainingRun.start(make_run(override(preset("digits"), [*SMALL, objective, *settings])))


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.mark.parametrize("kind", ["factor", "adversary", "feature_gan"])
def test_model_and_discriminator_take_steps_of_their_own_length(kind):
    """The first step of Adam is as long as the learning rate, wherever there is a gradient."""
    training = start(kind)
    step = training.state.step
    before = weights(step.model), weights(step.discriminator)
    update = Updater(training.state, training.data.train, training.run.train, seed=0, steps=100)
    update(torch.arange(20), training.run.objective, 100)
    for module, old, lr in ((step.model, before[0], training.run.train.lr), (step.discriminator, before[1], LR)):
        moved = torch.cat([(p.detach() - old[name]).abs().flatten() for name, p in module.named_parameters()])
        assert moved.max() == pytest.approx(lr, rel=1e-2)
        assert (moved > 0.9 * lr).float().mean() > 0.3
    assert math.isfinite(training.state.at.sums["discriminator_loss"])


def test_the_critic_sees_nothing_of_the_models_weight_and_the_model_nothing_of_the_critics_rate():
    """A penalty of weight zero leaves the model as it was, and the critic learns all the same."""
    objective = f"{{kind: regularised, penalties: [{{kind: factor, weight: 0, critic: {CRITIC}}}]}}"
    plain, watched = start("factor", "objective={kind: regularised}"), start("factor", f"objective={objective}")
    untrained = weights(watched.state.step.discriminator)
    for training in (plain, watched):
        update = Updater(training.state, training.data.train, training.run.train, seed=0, steps=100)
        for rows in (slice(0, 20), slice(20, 40)):
            update(torch.arange(50)[rows], training.run.objective, 100)
    for name, value in weights(plain.state.step.model).items():
        assert value.equal(watched.state.step.model.get_parameter(name)), name
    assert not any(value.equal(untrained[name]) for name, value in weights(watched.state.step.discriminator).items())


def test_going_back_takes_the_discriminator_along():
    training = start("factor")
    state = training.state
    update = Updater(state, training.data.train, training.run.train, seed=0, steps=100)
    update(torch.arange(20), training.run.objective, 100)
    snapshot = state.capture()
    names = {name.split(".")[0] for name in snapshot.tensors}
    assert {"model", "discriminator", "optimiser", "discriminator_optimiser"} <= names
    after_one = weights(state.step.discriminator)
    update(torch.arange(20, 40), training.run.objective, 100)
    after_two = weights(state.step.discriminator)
    state.restore(snapshot)
    assert all(value.equal(after_one[name]) for name, value in weights(state.step.discriminator).items())
    update(torch.arange(20, 40), training.run.objective, 100)
    assert all(value.equal(after_two[name]) for name, value in weights(state.step.discriminator).items())


def test_a_discriminator_that_is_not_finite_is_not_good_and_sends_training_back():
    training = start("factor", "train.epochs=3")
    messages = []
    for event in training.events():
        if event.kind == "step" and event.step == 5 and not messages:
            with torch.no_grad():
                next(training.state.step.discriminator.parameters()).fill_(math.nan)
            training.state.mark_good()
            assert training.state.good.progress.step == 3
        if event.kind == "notice":
            messages += [event.message]
    assert len(messages) == 1
    assert "Back at step 3 with half the learning rate" in messages[0]
    assert all(p.isfinite().all() for p in training.state.step.discriminator.parameters())


def test_a_checkpoint_holds_the_discriminator(tmp_path):
    training = TrainingRun.start(make("discriminator", tmp_path))
    cut(training, 7)
    again = TrainingRun.resume(tmp_path / "run")
    for name, value in weights(training.state.step.discriminator).items():
        assert value.equal(again.state.step.discriminator.get_parameter(name)), name
    start_anew = TrainingRun.start(make("discriminator", tmp_path).model_copy(update={"run_dir": None}))
    name, value = next(iter(weights(training.state.step.discriminator).items()))
    assert not value.equal(start_anew.state.step.discriminator.get_parameter(name))


def test_what_is_not_offered_with_a_divided_model_is_refused():
    training = start("factor")
    step = Step(training.state.step.model, training.run.objective, 50, World(0, 2), training.state.step.discriminator)
    with pytest.raises(SpecError, check=naming("Train.parallel", "fsdp")):
        State(step, replace(Train(), parallel="fsdp"))
