"""What learns from batches without gradients (code vectors) does so once for each update, however that is computed."""

import itertools

import pytest
import torch

from vaekit.models.posteriors.quantised import Codebooks
from vaekit.runs import TrainingRun, make_run, override, preset

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = [
    "limit.train=60",
    "limit.valid=10",
    "train.batch_size=20",
    "train.epochs=3",
    "model.latent=3",
    "model.encoder.widths=[8]",
    "model.decoder.widths=[8]",
    "model.posterior={kind: vq, classes: 6, dim: 2, depth: 2, decay: 0.8, revive_below: 0.5}",
]


def training_of(*settings: str) -> TrainingRun:
    return TrainingRun.start(make_run(override(preset("digits"), [*SMALL, *settings])))


def codebooks(training: TrainingRun) -> Codebooks:
    head = training.state.step.model.posterior.head
    assert isinstance(head, Codebooks)
    return head


def trained(*settings: str) -> TrainingRun:
    training = training_of(*settings)
    for _ in training.events():
        pass
    return training


def test_code_vectors_move_with_each_update_and_have_no_gradient() -> None:
    training, seen = training_of("train.weights=last"), []
    for event in training.events():
        if event.kind == "step":
            seen += [codebooks(training).vectors.clone()]
            assert not codebooks(training).seen.any()
    assert len(seen) == 9
    for before, after in itertools.pairwise(seen):
        assert not before.equal(after)
    assert not [name for name, _ in training.state.step.named_parameters() if "vectors" in name]


def test_a_batch_in_pieces_moves_them_as_the_whole_does() -> None:
    whole, parts = trained("train.weights=last"), trained("train.weights=last", "train.micro_batch=7")
    for name, value in whole.state.step.model.state_dict().items():
        torch.testing.assert_close(parts.state.step.model.state_dict()[name], value, rtol=1e-4, atol=1e-4)


def test_a_skipped_update_does_not_move_them() -> None:
    training = training_of("train.skip_above=1e-9")
    before = codebooks(training).vectors.clone()
    events = training.events()
    while not any(event.kind == "step" for event in [next(events)]):
        pass
    events.close()
    assert codebooks(training).vectors.equal(before)


def test_a_run_that_was_stopped_goes_on_with_the_same_codes(tmp_path) -> None:
    whole = trained("train.weights=last")
    training = training_of(f"run_dir={tmp_path / 'run'}", "train.weights=last")
    for event in training.events():
        if event.kind == "step" and event.step == 4:
            training.stop()
    again = TrainingRun.resume(tmp_path / "run")
    for _ in again.events():
        pass
    for name, value in whole.state.step.model.state_dict().items():
        assert again.state.step.model.state_dict()[name].equal(value), name


def test_the_temperature_is_that_of_the_step() -> None:
    training = training_of("model.posterior={kind: bernoulli, temperature: {start: 1.0, end: 0.25, over: 1.0}}")
    found = []
    for event in training.events():
        if event.kind == "step":
            found += [float(training.state.step.model.posterior.head.temperature)]
    assert found == pytest.approx([0.25 ** (step / 9) for step in range(9)])
