"""Updates of weights are those of torch's optimisers, wherever gradients lie, and their moments stay sound."""

from dataclasses import replace

import pytest
import torch
from few_batches import MLP, start
from torch import nn

from vaekit.training.optimisers import Adam, Adamax, AdamW
from vaekit.training.update_rules import AdamUpdates
from vaekit.training.updater import Updater

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "adamax"])
def test_updates_are_those_of_torchs_optimisers(optimiser):
    spec = {"adam": Adam(betas=(0.8, 0.9)), "adamw": AdamW(weight_decay=0.1), "adamax": Adamax(eps=1e-3)}[optimiser]
    theirs = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "adamax": torch.optim.Adamax}[optimiser]
    more = {"weight_decay": 0.1} if optimiser == "adamw" else {}
    ours = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(3))]
    others = [nn.Parameter(p.detach().clone()) for p in ours]
    update = AdamUpdates(spec, ours)
    wanted = theirs(others, lr=0.1, betas=spec.betas, eps=spec.eps, **more)
    for step in range(10):
        for p, q in zip(ours, others, strict=True):
            p.grad = torch.randn_like(p) * (step < 5)
            q.grad = p.grad.clone()
        update(0.1)
        wanted.step()
    for p, q in zip(ours, others, strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("optimiser", ["adam", "adamax"])
def test_moments_of_a_weight_that_gets_no_gradient_any_more_are_cleared_before_they_are_denormal(optimiser):
    training = start([*MLP, f"train.optimiser={optimiser}", "limit.valid=5"])
    black = training.data.train.values.clone()
    black[:, :, :4] = 0  # the first layer's weights of these pixels: gradients only ever zero
    update = Updater(training.state, replace(training.data.train, values=black), training.run.train, seed=0, steps=3000)
    state = training.state.learners[0].updates.state
    weight = next(p for p in training.state.step.parameters() if p.shape == (16, 64))

    update(torch.arange(20), training.run.objective, 3000)
    state[weight]["exp_avg"][:, :32] = 1e-6
    for _ in range(900):
        update(torch.arange(20), training.run.objective, 3000)
        moment = state[weight]["exp_avg"]
        assert not ((moment != 0) & (moment.abs() < torch.finfo(torch.float32).tiny)).any()
    assert (state[weight]["exp_avg"][:, :32] == 0).all()


@pytest.mark.parametrize("settings", [Adam(), AdamW(), Adamax()], ids=lambda s: s.kind)
def test_an_update_does_not_depend_on_how_gradients_lie_in_memory(settings):
    """As a program returns them: a part of something larger, or channels first for weights that have them last."""
    weights = [torch.randn(3, 4), torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)]
    gradients = [torch.randn(3, 8)[:, :4], torch.randn(4, 3, 2, 2)]
    found = []
    for laid_out in (False, True):
        parameters = [nn.Parameter(w.clone()) for w in weights]
        update = AdamUpdates(settings, parameters)
        for _ in range(3):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = torch.empty_like(parameter).copy_(gradient) if laid_out else gradient
            update(0.1)
        found.append([p.detach() for p in parameters])
    torch.testing.assert_close(*found)
