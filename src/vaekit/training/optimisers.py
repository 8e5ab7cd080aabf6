"""From an optimiser's settings to torch's optimiser, in its fused form where there is one."""

from collections.abc import Iterable

import torch
from torch import nn

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


def _can_fuse(parameters: list[nn.Parameter]) -> bool:
    return all(p.device.type in ("cpu", "cuda", "mps") and p.is_floating_point() for p in parameters)
