"""Plain PyTorch without compiling, done well: uint8 rows by index_select, logits, fused Adam."""

import time
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from speed.common import LATENT, LEARNING_RATE, ROWS, images, noise, unit
from speed.nets import networks

BLOCK = 100  # images at once where nothing is learnt


def objective(encoder, decoder, x: Tensor, eps: Tensor) -> Tensor:
    mu, log_var = encoder(x).chunk(2, -1)
    logits = decoder(mu + (log_var / 2).exp() * eps)
    distortion = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    return (distortion + 0.5 * (mu**2 + log_var.exp() - log_var - 1).sum(1)).mean()


def loss(net: str, batch: int) -> dict[str, float]:
    x, eps = torch.from_numpy(unit(batch)), torch.from_numpy(noise(batch))
    return {"closed": objective(*networks(net), x, eps).item()}


@cache
def _ready(net: str):
    encoder, decoder = networks(net)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    return encoder, decoder, torch.optim.Adam(parameters, LEARNING_RATE, fused=True), torch.from_numpy(images())


def train(net: str, batch: int, steps: int) -> float:
    """Seconds for so many steps."""
    encoder, decoder, adam, data = _ready(net)
    began = time.perf_counter()
    for index in torch.randperm(ROWS)[: steps * batch].split(batch):
        x = data.index_select(0, index).float() / 255
        value = objective(encoder, decoder, x, torch.randn(len(x), LATENT))
        adam.zero_grad()
        value.backward()
        adam.step()
    return time.perf_counter() - began


@cache
def _pixels() -> Tensor:
    return torch.from_numpy(unit())


@torch.no_grad()
def encode(images: int) -> float:
    """Seconds for means and scales of q(z|x)."""
    (encoder, *_), x = _ready("mlp"), _pixels()[:images]
    began = time.perf_counter()
    parts = [encoder(block).chunk(2, -1) for block in x.split(BLOCK)]
    torch.cat([mu for mu, _ in parts]), torch.cat([(log_var / 2).exp() for _, log_var in parts])
    return time.perf_counter() - began


@torch.no_grad()
def sample(images: int) -> float:
    """Seconds for so many means of p(x|z), z from the prior."""
    decoder = _ready("mlp")[1]
    began = time.perf_counter()
    torch.cat([decoder(z).sigmoid() for z in torch.randn(images, LATENT).split(BLOCK)])
    return time.perf_counter() - began
