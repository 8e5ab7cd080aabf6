"""The best model without z on the rows of a training: what its validation has to beat."""

import math

import torch
from torch import nn

from vaekit.data.rows import in_their_weights
from vaekit.models.conditional import Conditional
from vaekit.models.distributions.cells import observed_log_prob
from vaekit.models.distributions.gamma import wide
from vaekit.randomness import Purpose, new_generator
from vaekit.training.updater import Rows

FITTED_TO = 10_000  # rows, or
MOST_NUMBERS = 20_000_000  # in them
AT_A_TIME = 500  # rows


@torch.no_grad()
def validation_baseline(model: nn.Module, train: Rows, valid: Rows, seed: int) -> float | None:
    """Mean ln p of the validation rows, in nats, under the best model without z, fitted to training rows.

    It is what the bias of the decoder starts from: each number of a row on its own. None where the likelihood is a
    module of another kind, or the result is not finite.
    """
    likelihood, device = getattr(model, "likelihood", None), next(model.parameters()).device
    if not isinstance(likelihood, Conditional):
        return None
    values = train.batch(slice(0, 1), new_generator(seed, Purpose.TRIAL, device=device)).numel()
    most = max(1, MOST_NUMBERS // values)
    some = in_their_weights(train, train.some(min(FITTED_TO, most)), most)
    x = train.batch(some, new_generator(seed, Purpose.BASELINE, device=device))
    of_context = likelihood.without_latents(x, train.context_of(some), quick=True, mask=train.mask_of(some))
    total, weights = 0.0, 0.0
    for start in range(0, len(valid), AT_A_TIME):
        rows = slice(start, min(start + AT_A_TIME, len(valid)))
        x, px = valid.batch(rows), of_context(valid.context_of(rows))
        x = wide(x) if x.is_floating_point() else x
        log_px, weight = observed_log_prob(px, x, valid.mask_of(rows)), valid.weight_of(rows)
        total += float((log_px if weight is None else weight * log_px).sum())
        weights += len(x) if weight is None else float(weight.double().sum())
    return total / weights if math.isfinite(total) else None
