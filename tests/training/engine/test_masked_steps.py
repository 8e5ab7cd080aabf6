"""A step of columns of different kinds with missing cells and row weights, as a program."""

import numpy as np
import pandas as pd
import torch
from few_batches import check_close

from vaekit.models import VAE, Columns, Conditional, Gaussian, Mlp, StandardNormal
from vaekit.models.building import FieldEvent
from vaekit.models.networks.columns import ColumnsAsNumbers
from vaekit.objectives import Elbo
from vaekit.processes import World
from vaekit.runs import TrainingRun, make_run
from vaekit.training import State, Step, Train
from vaekit.training.engine import Autograd, Programs
from vaekit.training.noise import Noise
from vaekit.training.step import StepInputs

FIELDS = (
    FieldEvent("age", "count"),
    FieldEvent("sex", "binary"),
    FieldEvent("country", "categorical", 7),
    FieldEvent("town", "categorical", 40),
    FieldEvent("income", "positive"),
    FieldEvent("t", "real"),
    FieldEvent("grade", "ordinal", 5),
)


def rows(n: int) -> torch.Tensor:
    columns = [
        torch.poisson(torch.full((n,), 30.0)),
        *(torch.randint(count, (n,)) for count in (2, 7, 40)),
        torch.randn(n).exp(),
        torch.randn(n),
        torch.randint(5, (n,)),
    ]
    return torch.stack([column.float() for column in columns], 1)


def a_step() -> tuple[State, torch.Tensor]:
    torch.manual_seed(0)
    x, shape = rows(100), (len(FIELDS),)
    likelihood, transform = Columns().of_fields(FIELDS), ColumnsAsNumbers(FIELDS, missing=True)
    transform.measure(x)
    posterior = Conditional(Mlp((16,)).build(transform.seen_shape, 4), Gaussian(), (2,), transform)
    px = Conditional(Mlp((16,)).build((2,), likelihood.features(shape), shape), likelihood, shape)
    px.initialise_from(x)
    return State(Step(VAE(posterior, StandardNormal().build(2), px), Elbo(), 100, World()), Train()), x


def test_a_program_takes_the_mask_and_the_weights_of_each_step():
    found = []
    for make in (lambda state: Programs(state, Train(batch_size=20)), Autograd):
        state, x = a_step()
        engine, sums = make(state), []
        generator = torch.Generator().manual_seed(1)
        for start in (0, 20, 40):
            mask = torch.rand(20, len(FIELDS), generator=generator) > 0.4
            weight = torch.rand(20, generator=generator)
            noise = Noise([torch.randn(1, 20, 2, generator=generator)])
            batch = torch.where(mask, x[start : start + 20], 1e30)
            sums += engine(StepInputs(batch, Elbo(), mask=mask, weight=weight, noise=noise), 1.0, True).values()
        assert not getattr(engine, "untraceable", False), engine.notice
        gradients = [p.grad for p in state.step.parameters() if p.grad is not None]
        found.append([torch.stack([value.detach().double() for value in sums]), *gradients])
        assert all(part.isfinite().all() for part in found[-1])
    check_close(*found)


def test_values_of_missing_cells_are_not_checked_in_training():
    """Those of the first row neither, which shows the shapes of noise."""
    rows = np.random.default_rng(0).lognormal(size=(60, 2))
    rows[np.arange(60) % 10 > 0, 0] = np.nan
    tree = {"data": {"columns": {"0": "positive"}}, "model": {"latent": 1}, "train": {"epochs": 1}}
    training = TrainingRun.start(make_run(tree), data=pd.DataFrame(rows, columns=["0", "1"]))
    assert [event.kind for event in training.events()][-1] == "end"
