"""From an optimiser's settings to torch's optimiser, in its fused form where there is one."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim.adam import adam

from vaekit.training.spec import Adam, AdamW, Train


def build_optimiser(settings: Train, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    chosen, lr = settings.optimiser, settings.lr
    parameters = list(parameters)
    if isinstance(chosen, Adam):
        return torch.optim.Adam(parameters, lr, chosen.betas, chosen.eps, fused=_can_fuse(parameters))
    if isinstance(chosen, AdamW):
        decay, fused = chosen.weight_decay, _can_fuse(parameters)
        return torch.optim.AdamW(parameters, lr, chosen.betas, chosen.eps, weight_decay=decay, fused=fused)
    return torch.optim.Adamax(parameters, lr, chosen.betas, chosen.eps)


@torch.no_grad()
def take_step(optimiser: torch.optim.Optimizer) -> None:
    """`optimiser.step()`; fused Adam is called as a function, without the tenth of a small step that goes to hooks."""
    (group,) = optimiser.param_groups
    trained = [p for p in group["params"] if p.grad is not None]
    states = [optimiser.state.get(p, {}) for p in trained]
    if not group.get("fused") or not all(states):
        optimiser.step()
        return
    adam(
        trained,
        [p.grad for p in trained],  # pyright: ignore[reportArgumentType]
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [],
        [state["step"] for state in states],
        fused=True,
        amsgrad=False,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
        decoupled_weight_decay=group["decoupled_weight_decay"],
    )


def _can_fuse(parameters: list[nn.Parameter]) -> bool:
    return all(p.device.type in ("cpu", "cuda", "mps") and p.is_floating_point() for p in parameters)
