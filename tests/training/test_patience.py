"""Early stopping waits for schedules: by the rule itself, and in a training."""

import math

import pytest
from torch import nn

from vaekit.objectives import Elbo, Iwae, Regularised, Switch
from vaekit.runs import make_run, override, preset, train
from vaekit.schedules import Cosine, Cyclical, Warmup
from vaekit.training import Train
from vaekit.training.patience import LEAST_STEPS, Patience

EPOCHS, BATCHES = 30, 200
STEPS = EPOCHS * BATCHES


def stops_at(objective, settings: Train, best: int = 1, model: nn.Module | None = None) -> int | None:
    """The epoch after which training stops, if only epoch `best` is ever the best."""
    patience = Patience(settings, objective, model or nn.Identity(), BATCHES)
    epochs = range(1, EPOCHS)
    return next((e for e in epochs if patience.is_over(e, min(e, best), STEPS)), None)


PATIENT = Train(epochs=EPOCHS, patience=2)


@pytest.mark.parametrize(
    ("objective", "settled"),
    [
        (Elbo(), math.ceil(LEAST_STEPS / BATCHES)),
        (Elbo(beta=Warmup(over=0.8)), 24),
        (Elbo(beta=100, capacity=Warmup(end=25, over=0.5)), 15),
        (Regularised(elbo=Elbo(beta=Warmup(over=0.6))), 18),
        (Switch(first=Elbo(), then=Iwae(), at=0.7), 21),
    ],
)
def test_epochs_in_which_a_weight_rises_do_not_count(objective, settled: int) -> None:
    assert stops_at(objective, PATIENT) == settled + 2
    assert stops_at(objective, PATIENT, best=settled + 1) == settled + 3


def test_epochs_in_which_the_learning_rate_rises_do_not_count() -> None:
    assert stops_at(Elbo(), Train(epochs=EPOCHS, patience=2, schedule=Cosine(warmup=0.4))) == 14
    assert stops_at(Elbo(), Train(epochs=EPOCHS, patience=2, schedule=Warmup(over=0.4))) == 14


@pytest.mark.parametrize(("best", "stop"), [(1, 20), (10, 20), (11, None)])
def test_a_cycle_is_never_left_in_its_middle_nor_before_one_brought_nothing(best: int, stop: int | None) -> None:
    # three cycles of ten epochs: 20 ends the first that brings nothing; at the end of all, training ends anyway
    assert stops_at(Elbo(beta=Cyclical(cycles=3)), PATIENT, best) == stop


def test_without_patience_training_never_stops() -> None:
    assert stops_at(Elbo(), Train(epochs=EPOCHS)) is None


def test_a_temperature_that_falls_is_waited_for() -> None:
    settings = ["data.source=digits", "model.posterior={kind: categorical, temperature: {over: 0.5}}"]
    from vaekit.runs.factory import build_model, open_data

    run, data = open_data(make_run(override(preset("digits"), [*settings, "model.latent=2", "objective.beta=1"])))
    assert stops_at(run.objective, PATIENT, model=build_model(run, data.schema)) == 15 + 2


def test_a_long_warm_up_outlasts_patience() -> None:
    settings = ["train.epochs=30", "train.patience=2", "objective.beta={over: 0.8}", "train.batch_size=64"]
    small = ["model.encoder.widths=[16]", "model.decoder.widths=[16]", "model.latent=3", "train.lr=0.02"]
    events = list(train(make_run(override(preset("digits"), [*settings, *small]))))
    assert max(event.epoch for event in events if event.kind == "epoch") >= 24
