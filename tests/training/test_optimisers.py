"""Any optimiser of torch trains, follows the schedule, and resumes to the last bit."""

from dataclasses import replace

import pytest
import torch
from runs_to_cut import check_same, cut, make, outcome
from torch import nn

from naming import naming
from vaekit.errors import ConfigError, SpecError
from vaekit.runs import TrainingRun, load
from vaekit.training import Train
from vaekit.training.update_rules import TorchUpdates, build_updates

pytestmark = pytest.mark.usefixtures("one_thread")

SGD = {"kind": "torch", "name": "SGD", "settings": {"momentum": 0.9}}
NAMES = ["Adadelta", "Adagrad", "Adam", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"]


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.002, momentum=0.9)


def start(folder, optimiser, **train):
    run = make("mlp", folder, lr=2e-3, **train)
    return TrainingRun.start(run.model_copy(update={"train": replace(run.train, optimiser=optimiser)}))


@pytest.mark.parametrize(
    "optimiser", [SGD, "torch.optim.RMSprop", "torch.optim.NAdam"], ids=["sgd", "rmsprop", "nadam"]
)
def test_a_run_by_an_optimiser_of_torch_learns_and_resumes_bitwise(tmp_path, optimiser):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    training = start(whole, optimiser)
    elbos = [event.metrics["valid_elbo"] for event in training.events() if event.kind == "epoch"]
    assert elbos[-1] > elbos[0]
    cut(start(parts, optimiser), 37)
    cut(TrainingRun.resume(parts / "run"), 1000)
    check_same(outcome(whole), outcome(parts))


@pytest.mark.parametrize("name", NAMES)
def test_what_an_optimiser_keeps_is_restored(name):
    settings = Train(optimiser=f"torch.optim.{name}").optimiser
    whole, parts = (nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4)) for _ in range(2))
    one, other = (build_updates(settings, 0.01, [parameter]) for parameter in (whole, parts))
    for step in range(6):
        if step == 3:
            kept = {key: value.clone() for key, value in other.kept(parts).items()}
            other = build_updates(settings, 0.01, [parts])
            assert other.expected(parts, kept).keys() == kept.keys()
            other.restore(parts, kept)
        for parameter, updates in ((whole, one), (parts, other)):
            parameter.grad = (parameter.detach() - 3) * (step + 1)
            updates(0.01 / (step + 1))
    assert whole.equal(parts)


def test_an_optimiser_of_ones_own_keeps_its_learning_rates_under_the_schedule():
    weight, bias = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    groups = [{"params": [weight], "lr": 0.5}, {"params": [bias], "lr": 0.1}]
    settings = Train(optimiser=lambda parameters: torch.optim.SGD(groups)).optimiser
    updates = build_updates(settings, 1e-3, [weight, bias])
    for parameter in (weight, bias):
        parameter.grad = torch.ones(2)
    updates(0.5e-3)
    assert isinstance(updates, TorchUpdates)
    torch.testing.assert_close(weight.detach(), torch.full((2,), -0.25))
    torch.testing.assert_close(bias.detach(), torch.full((2,), -0.05))


def test_a_run_by_a_function_is_used_from_its_folder_and_not_resumed(tmp_path):
    training = start(tmp_path, momentum)
    cut(training, 37)
    assert load(tmp_path / "run", "last").generate(2).shape == (2, 1, 8, 8)
    with pytest.raises(ConfigError, check=naming("train.optimiser")):
        TrainingRun.resume(tmp_path / "run")


def test_a_function_trains_as_the_optimiser_that_it_makes(tmp_path):
    found = []
    for optimiser in (momentum, SGD):
        run = make("mlp", tmp_path, lr=2e-3).model_copy(update={"run_dir": None})
        training = TrainingRun.start(run.model_copy(update={"train": replace(run.train, optimiser=optimiser)}))
        list(training.events())
        found += [training.model.state_dict()]
    assert all(value.equal(found[1][name]) for name, value in found[0].items())


@pytest.mark.parametrize(
    ("optimiser", "field", "value"),
    [
        ("torch.optim.RMSpro", "optimiser.name", "RMSpro"),
        ("torch.optim.LBFGS", "optimiser.name", "LBFGS"),
        ({"kind": "torch", "settings": {"momentum": -1.0}}, "optimiser.settings", {"momentum": -1.0}),
        ({"kind": "torch", "settings": {"moment": 1.0}}, "optimiser.settings", {"moment": 1.0}),
        (3, "optimiser", 3),
        (None, "optimiser", None),
    ],
)
def test_what_is_no_optimiser_is_refused(optimiser, field, value):
    with pytest.raises(SpecError, check=naming(field, value)):
        Train(optimiser=optimiser)


def test_a_function_that_makes_no_optimiser_is_refused():
    with pytest.raises(TypeError, match="int"):
        build_updates(Train(optimiser=lambda parameters: 3).optimiser, 1e-3, [nn.Parameter(torch.zeros(2))])
