"""Bounds on ln p(x) of rows that share their noise, so that what is said of a row depends on no other."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.data import Rows
from vaekit.data.rows import Inputs, inputs_of
from vaekit.evaluation.blocks import evaluating
from vaekit.evaluation.importance import AT_ONCE_ON_CPU, weighted_bound
from vaekit.models.distributions.noise import noise_map, noise_shape
from vaekit.models.generative import BLOCK, in_blocks
from vaekit.randomness import Purpose, new_generator
from vaekit.uses.impute import check_weighable


def double_inputs(rows: Rows) -> Inputs:
    """What a model in double precision is called with for all of some rows."""
    return in_double(rows.batch(slice(None), new_generator(0, Purpose.ENCODED_ROWS)), rows.mask_of(slice(None)))


def in_double(x: Tensor, mask: Tensor | None) -> Inputs:
    """What a model in double precision is called with.

    Args:
        x: (n, *data).
        mask: Of these, True where a cell is observed; None where all are.
    """
    return inputs_of(x.double() if x.is_floating_point() else x, None, mask)


def log_px_bounds(model: Any, inputs: Inputs, samples: int, seed: int) -> Tensor:
    """The importance-weighted bound on ln p(x) of each row, (n,), in nats, of x as the model has it.

    Args:
        model: A VAE in double precision.
        inputs: What it is called with for all of the rows, on its device.
        samples: K, samples of q(z|x) for each row.
        seed: Of the noise.

    Raises:
        NotApplicable: The posterior is deterministic and has no density to weigh samples by.
    """
    with evaluating(model):
        first = inputs_of(inputs["x"][:1], None, None if "mask" not in inputs else inputs["mask"][:1])
        check_weighable(model.draw(**first, generator=new_generator(seed, Purpose.TRIAL)))
        noise = _shared_noise(model.encode(**first).posteriors, samples, seed, inputs["x"].device)
        if noise is None:
            return torch.cat([_bound_of_row(model, inputs, at, samples, seed) for at in range(len(inputs["x"]))])
        at_once = max(1, AT_ONCE_ON_CPU // (BLOCK * inputs["x"][0].numel()))

        def bounds(x: Tensor, mask: Tensor | None = None) -> tuple[Tensor]:
            code, log_w = model.encode(**inputs_of(x, None, mask)), []
            for start in range(0, samples, at_once):
                part = [group[start : start + at_once].expand(-1, len(x), *group.shape[2:]) for group in noise]
                draw = model.draw(x, len(part[0]), mask=mask, code=code, noise=part, check=False)
                log_w += [draw.log_w]
            return (weighted_bound(torch.cat(log_w), samples),)

        return in_blocks(bounds, **inputs)[0]


def _shared_noise(
    posteriors: tuple[Distribution, ...], samples: int, seed: int, device: torch.device
) -> list[Tensor] | None:
    """Base noise of each group of latents for one row, (samples, 1, *event); None where some q samples by itself."""
    found = []
    for group, q in enumerate(posteriors):
        by, shape = noise_map(q), noise_shape(q)
        if by is None or shape is None or shape[:1] != (1,):
            return None
        generator = new_generator(seed, Purpose.SHARED_BY_ROWS, group)
        noise = by.base((samples, *shape), generator=generator, dtype=torch.float64)
        found += [noise.to(device)]
    return found


def _bound_of_row(model: Any, inputs: Inputs, at: int, samples: int, seed: int) -> Tensor:
    """The bound of one row whose z are drawn by the posterior's own code, from the same stream as for every other."""
    one = inputs_of(inputs["x"][at : at + 1], None, None if "mask" not in inputs else inputs["mask"][at : at + 1])
    at_once = max(1, AT_ONCE_ON_CPU // one["x"].numel())
    generator, log_w = new_generator(seed, Purpose.SHARED_BY_ROWS), []
    for start in range(0, samples, at_once):
        draw = model.draw(**one, samples=min(at_once, samples - start), generator=generator, check=False)
        log_w += [draw.log_w]
    return torch.cat(log_w).logsumexp(0) - math.log(samples)
