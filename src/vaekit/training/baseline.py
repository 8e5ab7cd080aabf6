"""The best model without z on the rows of a training: what its validation has to beat."""

import copy
import math

import torch
from torch import Tensor, nn

from vaekit.models.conditional import Conditional
from vaekit.models.noise import Purpose, new_generator
from vaekit.training.update import Rows

FITTED_TO = 10_000  # rows, or
MOST_NUMBERS = 20_000_000  # in them
AT_A_TIME = 500  # rows


@torch.no_grad()
def validation_baseline(model: nn.Module, train: Rows, valid: Rows, seed: int) -> float | None:
    """Mean ln p of the validation rows, in nats, under the best model without z, fitted to training rows.

    It is what the bias of the decoder starts from: each number of a row on its own. Computed in double precision, so
    that a far outlier has a density, if a small one. None where the likelihood is a module of another kind, or the
    result is not finite all the same.
    """
    likelihood = getattr(model, "likelihood", None)
    if not isinstance(likelihood, Conditional):
        return None
    head = copy.deepcopy(likelihood.head)
    if isinstance(head, nn.Module) and _device(model).type != "mps":
        head = head.double()
    values = train.batch(slice(0, 1), new_generator(seed, device=_device(model))).numel()
    some = train.some(min(FITTED_TO, max(1, MOST_NUMBERS // values)))
    x = train.batch(some, new_generator(seed, Purpose.BINARISE, 1, device=_device(model)))
    px = head(_precise(head.start(_precise(x))), likelihood.event_shape)
    total = 0.0
    for number, start in enumerate(range(0, len(valid), AT_A_TIME)):
        generator = new_generator(seed, Purpose.VALIDATE, number, device=_device(model))
        x = valid.batch(slice(start, min(start + AT_A_TIME, len(valid))), generator)
        total += float(px.log_prob(_precise(x)).sum())
    return total / len(valid) if math.isfinite(total) else None


def _precise(x: Tensor) -> Tensor:
    """In double precision, where the device has it; integers stay what they are."""
    return x.double() if x.is_floating_point() and x.device.type != "mps" else x


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
