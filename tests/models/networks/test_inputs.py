"""What an encoder sees of counts, and what is hidden from it in steps of training."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from naming import naming
from vaekit.errors import ConfigError
from vaekit.models import VAE, Conditional, Gaussian, Log1p, Multinomial, StandardNormal
from vaekit.models.building import FieldEvent
from vaekit.models.networks.columns import ColumnsAsNumbers, WithMask
from vaekit.models.networks.inputs import CellDropout, InputDropout, Log1pOfShares, UnitLength
from vaekit.objectives import Elbo
from vaekit.processes import World
from vaekit.randomness import new_generator
from vaekit.runs import TrainingRun, make_run
from vaekit.training.noise import Noise
from vaekit.training.step import Step, StepInputs


def test_counts_are_seen_as_shares_or_directions_whatever_the_size_of_their_row() -> None:
    x = torch.tensor([[3.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    shares = Log1pOfShares()(x)
    torch.testing.assert_close(shares, torch.tensor([[7501.0, 1.0, 2501.0], [1.0, 1.0, 1.0]]).log())
    directions = UnitLength()(x)
    torch.testing.assert_close(directions, torch.tensor([[3 / 10**0.5, 0.0, 1 / 10**0.5], [0.0, 0.0, 0.0]]))
    for seen, transform in ((shares, Log1pOfShares()), (directions, UnitLength())):
        torch.testing.assert_close(transform(5 * x), seen)
        torch.testing.assert_close(transform(x.long()), seen)


def test_dropout_hides_what_has_noise_below_its_rate_and_keeps_the_mean() -> None:
    dropout = InputDropout(Log1p(), 0.25)
    x = torch.ones(2, 3)
    assert dropout(x).equal(Log1p()(x))
    noise = torch.tensor([[0.1, 0.25, 0.9], [0.3, 0.2, 0.24]])
    kept = torch.tensor(2.0).log() / 0.75
    with dropout.hiding(noise):
        torch.testing.assert_close(dropout(x), torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]) * kept)
    with dropout.hiding(torch.rand(100_000, 3, generator=new_generator(1))):
        mean = dropout(torch.ones(100_000, 3)).mean()
    assert abs(float(mean) - float(torch.tensor(2.0).log())) < 5 * 0.4 / 300_000**0.5


@pytest.mark.parametrize(
    "transform",
    [ColumnsAsNumbers((FieldEvent("age", "count"), FieldEvent("sex", "categorical", 3)), True), WithMask((2,))],
)
def test_hidden_cells_are_seen_as_missing_ones(transform) -> None:
    dropout = CellDropout(transform, 0.5)
    x, noise = torch.tensor([[4.0, 2.0], [7.0, 1.0]]), torch.tensor([[0.4, 0.5], [0.6, 0.1]])
    mask = torch.tensor([[True, False], [True, True]])
    assert dropout.shape_of_noise(x) == (2,)
    assert dropout.seen_shape == transform.seen_shape
    assert dropout(x, mask).equal(transform(x, mask))
    with dropout.hiding(noise):
        assert dropout(x).equal(transform(x, noise >= 0.5))
        assert dropout(x, mask).equal(transform(x, torch.tensor([[False, False], [True, False]])))


def test_nothing_stays_hidden_after_an_interruption() -> None:
    dropout = InputDropout(None, 0.5)
    with pytest.raises(KeyboardInterrupt), dropout.hiding(torch.zeros(2, 3)):
        raise KeyboardInterrupt
    assert dropout(torch.ones(2, 3)).equal(torch.ones(2, 3))


def test_a_step_hides_inputs_from_the_encoder_alone_and_nothing_after_it() -> None:
    dropout = InputDropout(None, 0.5)
    model = VAE(
        Conditional(nn.Linear(4, 4), Gaussian(), (2,), transform=dropout),
        StandardNormal().build(2),
        Conditional(nn.Linear(2, 4), Multinomial(), (4,)),
    )
    step = Step(model, Elbo(), 3, World())
    x, latents = torch.tensor([[1.0, 2.0, 0.0, 3.0]] * 3), [torch.zeros(1, 3, 2)]
    inputs = StepInputs(x, Elbo(), noise=Noise(latents))
    nothing, all_ = (
        step(replace(inputs, noise=Noise(latents, hiding=noise))) for noise in (torch.ones(3, 4), torch.zeros(3, 4))
    )
    assert dropout.noise is None
    with torch.no_grad():
        of_zeros = model.draw(x, code=model.encode(torch.zeros_like(x)), noise=latents)
        of_doubled = model.draw(x, code=model.encode(2 * x), noise=latents)
    for sums, draw in ((nothing, of_doubled), (all_, of_zeros)):
        torch.testing.assert_close(sums["loss"].detach(), -Elbo()(draw).value.sum())
    assert not nothing["loss"].equal(all_["loss"])


def test_settings_choose_what_the_encoder_sees(tmp_path) -> None:
    np.save(tmp_path / "counts.npy", np.random.default_rng(0).poisson(1.0, (60, 5)))
    tree = {
        "data": {"source": str(tmp_path / "counts.npy"), "support": "count"},
        "model": {"latent": 2, "likelihood": "multinomial", "input_scale": "unit_length", "input_dropout": 0.5},
        "train": {"epochs": 1},
    }
    training = TrainingRun.start(make_run(tree))
    seen = training.model.posterior.transform
    assert isinstance(seen, InputDropout)
    assert isinstance(seen.transform, UnitLength)
    totals = training.data.train.batch(slice(0, len(training.data.train))).sum(1).double()
    assert float(training.model.likelihood.head.total) == totals.mean().round()
    assert [event.kind for event in training.events()][-1] == "end"
    with pytest.raises(ConfigError, check=naming("model.input_scale", "unit_length")):
        TrainingRun.start(make_run({"data": {"source": "digits"}, "model": {"input_scale": "unit_length"}}))
    with pytest.raises(ConfigError, check=naming("model.input_dropout", 1.0)):
        make_run({"model": {"input_dropout": 1.0}})


@pytest.mark.parametrize(("columns", "holes"), [(["n", "word"], False), (["n", "word"], True), (["x", "y"], True)])
def test_cells_of_tables_are_hidden_in_training(columns, holes) -> None:
    noise = np.random.default_rng(0)
    whole = {"n": range(60), "word": ["a", "b", "c"] * 20, "x": noise.normal(size=60), "y": noise.normal(size=60)}
    frame = pd.DataFrame({name: whole[name] for name in columns})
    frame = frame.mask(noise.random(frame.shape) < 0.2) if holes else frame
    tree = {"model": {"latent": 2, "input_dropout": 0.3}, "train": {"epochs": 1}}
    training = TrainingRun.start(make_run(tree), data=frame)
    assert isinstance(training.model.posterior.transform, CellDropout)
    assert [event.kind for event in training.events()][-1] == "end"


@pytest.mark.parametrize(("missing", "seen"), [("auto", 3), ("mask", 6)])
def test_an_encoder_sees_which_cells_are_missing_before_any_is_where_it_is_asked_to(missing, seen) -> None:
    tree = {"data": {"missing": missing}, "model": {"latent": 2}, "train": {"epochs": 1}}
    training = TrainingRun.start(make_run(tree), data=np.random.default_rng(0).normal(size=(60, 3)))
    posterior = training.model.posterior
    assert posterior.see(torch.zeros(1, 3)).shape == (1, seen)
    if missing == "mask":
        assert posterior.see(torch.ones(1, 3), torch.tensor([[True, False, True]])).tolist() == [[1, 0, 1, 1, 0, 1]]
