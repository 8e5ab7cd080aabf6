"""What settings and data show to be wrong before the first step."""

import torch
from torch import Tensor

from vaekit.data import Dataset
from vaekit.findings import Finding
from vaekit.runs.tree import Run, finding_in_settings
from vaekit.training.diagnosis import learning_rate

ROWS = 10_000  # that are looked at, of training and of validation, or as many as hold
NUMBERS = 4_000_000
FAR = 100  # interquartile ranges from the median
UNSCALED = 1000  # a value of real data beyond this makes the first gradients enormous
MOST_NAMED = 3  # columns


def foreseen(run: Run, data: Dataset) -> list[Finding]:
    """Findings of a run that has not begun: its learning rate, and columns of a table that reach too far."""
    return [finding_in_settings(one) for one in (learning_rate(run.train), *_columns(data)) if one is not None]


@torch.no_grad()
def _columns(data: Dataset) -> list[Finding | None]:
    schema = data.schema
    if schema.columns is None or schema.support.kind not in ("real", "count"):
        return []
    rows = min(ROWS, max(1, NUMBERS // len(schema.columns)))
    train = data.train.batch(data.train.some(rows)).flatten(1).cpu().double()
    valid = data.valid.batch(slice(0, rows)).flatten(1).cpu().double()
    return [_far(data, train, valid), _unscaled(data, train, valid)]


def _far(data: Dataset, train: Tensor, valid: Tensor) -> Finding | None:
    """Columns whose farthest value lies very many spreads from the median."""
    low, median, high = torch.quantile(train, torch.tensor([0.25, 0.5, 0.75], dtype=train.dtype), dim=0)
    spread = torch.where(high > low, high - low, train.std(0, correction=0))
    both = torch.cat([train, valid])
    if data.schema.support.kind == "count":  # in a column of hardly more than zeros, a 1 is not far
        spread = spread.clamp_min(1)
    reach = (both - median).abs().amax(0) / spread.clamp_min(1e-300)
    reach = torch.where(spread > 0, reach, torch.where((both != median).any(0), torch.inf, 0.0))
    far = (reach > FAR).nonzero().flatten().tolist()
    if not far:
        return None
    far.sort(key=lambda column: -float(reach[column]))
    worst = float(reach[far[0]])
    heavier = "negative_binomial" if data.schema.support.kind == "count" else "student_t"
    return Finding(
        "far_values",
        "warning",
        value=worst if worst < torch.inf else None,
        threshold=FAR,
        why=(
            f"Values lie more than {FAR} interquartile ranges from the median: {_named(data, far, both)}. A few rows "
            "then weigh more than all others, in training or in validation."
        ),
        fix=f"correct the outliers or take logarithms, or use ModelSpec.likelihood={heavier}",
    )


def _unscaled(data: Dataset, train: Tensor, valid: Tensor) -> Finding | None:
    """Columns of real numbers that reach a network as large as they are stored."""
    both = torch.cat([train, valid])
    large = (both.abs().amax(0) > UNSCALED).nonzero().flatten().tolist()
    if data.schema.support.kind != "real" or data.schema.loc is not None or not large:
        return None
    return Finding(
        "unscaled",
        "warning",
        value=float(both.abs().max()),
        threshold=UNSCALED,
        why=(
            f"Networks expect numbers of about 1, and DataSpec.scale=none leaves columns as large as they are stored: "
            f"{_named(data, large, both)}."
        ),
        fix="scale the columns (DataSpec.scale=standard)",
    )


def _named(data: Dataset, places: list[int], values: Tensor) -> str:
    """Columns with their ranges, in the data's own units."""
    schema = data.schema
    low, high = (schema.to_stored(bound[None].numpy())[0] for bound in (values.amin(0), values.amax(0)))
    ranges = [f"{(schema.columns or ())[at]!r} from {low[at]:.4g} to {high[at]:.4g}" for at in places[:MOST_NAMED]]
    more = f" and {len(places) - MOST_NAMED} more" if len(places) > MOST_NAMED else ""
    return f"{', '.join(ranges)}{more}"
