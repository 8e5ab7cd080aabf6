"""Lines and planes of the latent space, and what they decode to: along dimensions, over two, and between two rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Rows, StreamedRows
from vaekit.errors import NotApplicable, SpecError
from vaekit.evaluation import evaluating, kl_per_dimension
from vaekit.models.distributions.codes import centre, is_discrete
from vaekit.uses.trained import Trained, device_of
from vaekit.words import counted

MOST_DIMENSIONS = 10  # that are chosen where none are named
_MEASURED = 1000  # rows, by which it is known what a dimension carries

Path = Literal["linear", "spherical"]


@dataclass(frozen=True)
class Traversal:
    """What the model decodes along some dimensions of z, the others fixed.

    Attributes:
        dimensions: Which ones, (d,).
        values: Of each dimension in turn, (steps,).
        x: Means of p(x|z), as the model has them, (d, steps, *data).
        kl: KL of each of these dimensions in nats, (d,); None where it is not known.
    """

    dimensions: tuple[int, ...]
    values: np.ndarray
    x: np.ndarray
    kl: np.ndarray | None


def traverse(
    trained: Trained,
    dimensions: Sequence[int] | None = None,
    *,
    steps: int = 11,
    reach: float = 3.0,
    row: int | None = None,
    data: Any = None,
) -> Traversal:
    """Decode z along one dimension after another (a latent traversal), the others fixed.

    Args:
        trained: The run.
        dimensions: Of z, counted from 0; by default the ten of the largest KL, the largest first.
        steps: Values of each dimension, evenly spaced.
        reach: The values are from -reach to reach.
        row: The row whose mean of q(z|x) the other dimensions have; by default they are 0.
        data: The rows, see `TrainedRun.rows`; by default the run's own test rows.

    Raises:
        NotApplicable: z is discrete.
        SpecError: There is no such dimension or row.

    Source: Higgins et al., 2017, "beta-VAE".
    """
    _check_line(steps, reach)
    rows = trained.rows(data).to(device_of(trained))
    code = _code(trained, rows, 0 if row is None else row)
    kl = _kl(trained, rows)
    latents = code.z.shape[1]
    if dimensions is None:
        dimensions = _order(kl, latents)[:MOST_DIMENSIONS]
    _check_dimensions(dimensions, latents)
    start = torch.zeros_like(code.z) if row is None else code.z
    values = torch.linspace(-reach, reach, steps, device=start.device)
    z = start.repeat(len(dimensions), steps, 1)
    for number, dimension in enumerate(dimensions):
        z[number, :, dimension] = values
    x = _decoded(trained, z.flatten(0, 1), code).unflatten(0, (len(dimensions), steps))
    chosen = tuple(dimensions)
    return Traversal(chosen, values.cpu().numpy(), x.cpu().numpy(), None if kl is None else kl[list(chosen)])


@dataclass(frozen=True)
class Manifold:
    """What the model decodes over a plane of two dimensions of z, the others fixed.

    Attributes:
        dimensions: The one across and the one up.
        values: Of both, rising, (steps,).
        x: Means of p(x|z), as the model has them, (steps, steps, *data); the first line has the largest value up.
    """

    dimensions: tuple[int, int]
    values: np.ndarray
    x: np.ndarray


def manifold(
    trained: Trained,
    dimensions: tuple[int, int] | None = None,
    *,
    steps: int = 15,
    spacing: Literal["quantile", "linear"] = "quantile",
    reach: float = 3.0,
    row: int | None = None,
    data: Any = None,
) -> Manifold:
    """Decode a grid over two dimensions of z (a manifold), the others fixed.

    Args:
        trained: The run.
        dimensions: Of z, counted from 0, the one across and the one up; by default the two of the largest KL.
        steps: Values of each.
        spacing: Of the values: quantiles of N(0, 1) from 0.02 to 0.98 at even distances in probability, as of Kingma
            and Welling, 2014, figure 4; or linear from -reach to reach.
        reach: See `spacing`.
        row: The row whose mean of q(z|x) the other dimensions have; by default they are 0.
        data: The rows, see `TrainedRun.rows`; by default the run's own test rows.

    Raises:
        NotApplicable: z is discrete, or has a single dimension.
        SpecError: There is no such dimension or row.
    """
    _check_line(steps, reach)
    rows = trained.rows(data).to(device_of(trained))
    code = _code(trained, rows, 0 if row is None else row)
    latents = code.z.shape[1]
    if latents < 2:
        raise NotApplicable("z of this model has one dimension, and a manifold is over two: traverse it")
    if dimensions is None:
        first, second = _order(_kl(trained, rows), latents)[:2]
        dimensions = (first, second)
    _check_dimensions(dimensions, latents)
    start = torch.zeros_like(code.z) if row is None else code.z
    values = torch.linspace(-reach, reach, steps)
    if spacing == "quantile":
        values = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(0.02, 0.98, steps))
    values = values.to(start)
    across, up = dimensions
    z = start.repeat(steps, steps, 1)
    z[:, :, across] = values
    z[:, :, up] = values.flip(0).unsqueeze(1)
    x = _decoded(trained, z.flatten(0, 1), code).unflatten(0, (steps, steps))
    return Manifold((across, up), values.cpu().numpy(), x.cpu().numpy())


def interpolate(
    trained: Trained, first: int, second: int, *, steps: int = 9, path: Path = "linear", data: Any = None
) -> np.ndarray:
    """Decode z on the way from the code of one row to that of another.

    Args:
        trained: The run.
        first: The row at which the way begins, counted from 0.
        second: The row at which it ends, whose context is not used: all is decoded in that of the first.
        steps: How many z, both ends among them, evenly spaced.
        path: Of z: linear, or spherical, along a great circle (White, 2016, arXiv 1609.04468), whose lengths go evenly
            from one to the other.
        data: The rows, see `TrainedRun.rows`; by default the run's own test rows.

    Returns:
        Means of p(x|z), as the model has them, (steps, *data).

    Raises:
        NotApplicable: z is discrete.
        SpecError: There is no such row.
    """
    if steps < 2:
        raise SpecError(f"steps is {steps}: a line has at least 2", field="steps", value=steps)
    rows = trained.rows(data).to(device_of(trained))
    one, other = (_code(trained, rows, row) for row in (first, second))
    share = torch.linspace(0, 1, steps, device=one.z.device).unsqueeze(1)
    z = _on_circle(one.z, other.z, share) if path == "spherical" else (1 - share) * one.z + share * other.z
    return _decoded(trained, z, one).cpu().numpy()


def _check_line(steps: int, reach: float) -> None:
    if steps < 2:
        raise SpecError(f"steps is {steps}: a line has at least 2", field="steps", value=steps)
    if not 0 < reach < math.inf:
        raise SpecError(f"reach is {reach}: it should be a number above 0", field="reach", value=reach)


def _check_dimensions(dimensions: Sequence[int], latents: int) -> None:
    for dimension in dimensions:
        if not 0 <= dimension < latents:
            raise SpecError(
                f"dimension {dimension} is not one of z, which has {counted(latents, 'dimension')}, 0 to {latents - 1}",
                field="dimensions",
                value=dimension,
            )


def _order(kl: np.ndarray | None, latents: int) -> list[int]:
    """The dimensions, those of the largest KL first."""
    return list(range(latents)) if kl is None else np.argsort(-kl, kind="stable").tolist()


@dataclass(frozen=True)
class _Code:
    """The z that stands for a row, (1, latents), the shape of each group in it, and the context of the row."""

    z: Tensor
    shapes: tuple[tuple[int, ...], ...]
    context: Tensor | None


def _code(trained: Trained, rows: Rows | StreamedRows, row: int) -> _Code:
    if not 0 <= row < len(rows):
        raise SpecError(
            f"row {row} is not one of the {counted(len(rows), 'row')}, which are counted from 0", field="row", value=row
        )
    inputs = rows.inputs(slice(row, row + 1))
    with evaluating(trained.model):
        posteriors = trained.model.encode(**inputs).posteriors
    if any(map(is_discrete, posteriors)):
        raise NotApplicable("z of this model is discrete: there is no line through its codes")
    z = torch.cat([centre(q).flatten(1) for q in posteriors], 1)
    return _Code(z, tuple(tuple(q.event_shape) for q in posteriors), inputs.get("context"))


def _decoded(trained: Trained, z: Tensor, code: _Code) -> Tensor:
    """The mean of p(x|z) at each z (n, latents), in the context of a row."""
    flat = z.split([math.prod(shape) for shape in code.shapes], 1)
    groups = [group.unflatten(1, shape) for group, shape in zip(flat, code.shapes, strict=True)]
    context = None if code.context is None else code.context.expand(len(z), -1)
    with evaluating(trained.model):
        return trained.model.decode(groups, context).mean


def _on_circle(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    lengths = one.norm(), other.norm()
    angle = torch.arccos(((one * other).sum() / (lengths[0] * lengths[1])).clamp(-1, 1))
    if not angle.sin() > 1e-6:  # along a line, or from 0
        return (1 - share) * one + share * other
    towards = ((1 - share) * angle).sin() * one / lengths[0] + (share * angle).sin() * other / lengths[1]
    return towards / angle.sin() * ((1 - share) * lengths[0] + share * lengths[1])


def _kl(trained: Trained, rows: Rows | StreamedRows) -> np.ndarray | None:
    found = kl_per_dimension(trained.model, rows.at(torch.arange(min(len(rows), _MEASURED))))
    return None if found is None else np.array([one.value or 0.0 for one in found])
