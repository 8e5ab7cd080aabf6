"""The models as plain torch modules, from (rows, 784) to the numbers of q(z|x), and from z to logits."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from speed.common import LATENT, PIXELS, SIDE, weights


class PixelBias(nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(PIXELS))

    def forward(self, h: Tensor) -> Tensor:
        return h.flatten(1) + self.bias


def networks(net: str) -> tuple[nn.Sequential, nn.Sequential]:
    """Encoder and decoder, with the weights that all contenders start from."""
    encoder, decoder = {"mlp": _mlp, "conv": _conv}[net]()
    fill(net, (encoder, decoder), decoder[-1].bias)
    return encoder, decoder


def _mlp() -> tuple[nn.Sequential, nn.Sequential]:
    widths = [[PIXELS, 512, 512, 2 * LATENT], [LATENT, 512, 512, PIXELS]]
    encoder, decoder = (
        nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c), nn.ReLU(), nn.Linear(c, d)) for a, b, c, d in widths
    )
    return encoder, decoder


def _conv() -> tuple[nn.Sequential, nn.Sequential]:
    encoder = nn.Sequential(
        nn.Unflatten(1, (1, SIDE, SIDE)),
        nn.Conv2d(1, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 256),
        nn.ReLU(),
        nn.Linear(256, 2 * LATENT),
    )
    decoder = nn.Sequential(
        nn.Linear(LATENT, 256),
        nn.ReLU(),
        nn.Linear(256, 64 * 7 * 7),
        nn.ReLU(),
        nn.Unflatten(1, (64, 7, 7)),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(64, 32, 3, padding=1),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(32, 1, 3, padding=1, bias=False),
        PixelBias(),
    )
    return encoder, decoder


@torch.no_grad()
def fill(net: str, parts: Iterable[nn.Module], output_bias: Tensor) -> None:
    """Copy the common weights into the layers of the parts, in order; the last bias may stand anywhere."""
    layers = [m for part in parts for m in part.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer, (w, b) in zip(layers, weights(net), strict=True):
        layer.weight.copy_(torch.from_numpy(w.T if w.ndim == 2 else w))
        (output_bias if layer is layers[-1] else layer.bias).copy_(torch.from_numpy(b))
