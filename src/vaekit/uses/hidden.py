"""How well missing cells are imputed: observed cells of validation rows are hidden, imputed, and compared."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from vaekit.data import Rows, StreamedRows
from vaekit.errors import SpecError
from vaekit.evaluation.estimate import Estimate, mean_of
from vaekit.randomness import Purpose, new_generator
from vaekit.uses.cells import CellFacts
from vaekit.uses.impute import Progress, holes_of
from vaekit.uses.trained import Trained, device_of

MOST_COLUMNS = 200  # of a table; the cells of a wider one, and those of pictures, are reported together
ALL = "all cells"
_BASELINE_ROWS = 10_000  # training rows that the column's mean or most frequent category is of
_AGAINST = {"rmse": "column mean", "accuracy": "most frequent"}


@dataclass(frozen=True)
class HiddenCells:
    """How far imputed cells of a column are from what was hidden.

    Attributes:
        measure: "rmse", the root mean square error of numbers in stored units; or "accuracy", the share of categories
            that are right.
        imputed: That of the mean, or the most probable category, given the observed cells.
        baseline: That of the column's mean, or its most frequent category, over training rows.
        coverage: Share of hidden values within their interval; None of categories.
    """

    measure: str
    imputed: Estimate
    baseline: Estimate
    coverage: Estimate | None

    @property
    def against(self) -> str:
        """What the baseline is, in words."""
        return _AGAINST[self.measure]


def impute_hidden(
    trained: Trained,
    *,
    share: float = 0.2,
    rows: int = 200,
    samples: int = 1000,
    level: float = 0.9,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, HiddenCells]:
    """Hide some observed cells of validation rows at random, impute them, and compare them with what they were.

    Args:
        trained: The run, whose data is there.
        share: Of the observed cells, which is hidden.
        rows: Validation rows, at most.
        samples: K, samples of q(z|x_observed) for each row.
        level: Of the intervals whose coverage is measured.
        seed: Of the choice of cells, and of the noise.
        progress: Called with the number of rows done since the last call.

    Returns:
        By column; of pictures and wide tables, of all cells together. Errors are over cells.
    """
    if not 0 < share < 1:
        raise SpecError(f"share is {share}: it should lie between 0 and 1, as 0.2", field="share", value=share)
    facts, data = CellFacts(trained.schema), trained.data()
    valid = data.valid.take(rows).to(device_of(trained))
    x, mask = _whole(valid)
    hidden = mask & (torch.rand(mask.shape, generator=new_generator(seed, Purpose.HIDDEN_CELLS)) < share)
    left = (mask & ~hidden).reshape(len(valid), *valid.shape).to(valid.device)
    with_holes = replace(valid, mask=left)
    truth, found, low, high = (np.full(x.shape, np.nan) for _ in range(4))
    for one in holes_of(
        trained.model,
        with_holes,
        facts,
        samples,
        0,
        level,
        seed=seed,
        purpose=Purpose.HIDDEN_ROWS,
        progress=progress,
    ):
        for whole, part in ((found, one.values), (low, one.low), (high, one.high)):
            whole[one.row, one.cells] = part
    truth[hidden.numpy()] = x[hidden.numpy()]
    usual = _usual(data.train, facts)
    names = facts.names(range(facts.count)) if trained.schema.kind == "table" else []
    if not 0 < len(names) <= MOST_COLUMNS:
        result = _compared(truth, found, low, high, usual, facts, np.arange(facts.count))
        return {} if result is None else {ALL: result}
    results = {}
    for cell, name in enumerate(names):
        result = _compared(truth, found, low, high, usual, facts, np.array([cell]))
        if result is not None:
            results[name] = result
    return results


def _whole(rows: Rows) -> tuple[np.ndarray, torch.Tensor]:
    """The x of rows, (n, cells), and which of it is observed, likewise, on the CPU."""
    x = rows.batch(slice(0, len(rows))).flatten(1).double().cpu()
    mask = rows.mask_of(slice(0, len(rows)))
    return x.numpy(), torch.ones_like(x, dtype=torch.bool) if mask is None else mask.flatten(1).cpu()


def _usual(train: Rows | StreamedRows, facts: CellFacts) -> np.ndarray:
    """The mean of each cell over training rows, or its most frequent category, (cells,)."""
    some = train.some(_BASELINE_ROWS)
    x = train.batch(some, new_generator(0, Purpose.BASELINE, device=train.device)).flatten(1).double().cpu()
    mask = train.mask_of(some)
    seen = torch.ones_like(x, dtype=torch.bool) if mask is None else mask.flatten(1).cpu()
    usual = (x * seen).sum(0) / seen.sum(0).clamp_min(1)
    for cell in np.flatnonzero(facts.categories):
        counts = torch.bincount(x[seen[:, cell], cell].long(), minlength=1)
        usual[cell] = float(counts.argmax())
    return usual.numpy()


def _compared(
    truth: np.ndarray,
    found: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    usual: np.ndarray,
    facts: CellFacts,
    cells: np.ndarray,
) -> HiddenCells | None:
    """The errors over some cells (k,) of all rows; None where none of them was hidden."""
    there = ~np.isnan(truth[:, cells])
    if not there.any():
        return None

    def of(values: np.ndarray) -> np.ndarray:
        return np.broadcast_to(values, truth.shape)[:, cells][there]

    actual, imputed, plain = of(truth), of(found), of(usual)
    if facts.categories[cells].any():
        return HiddenCells("accuracy", _mean(imputed == actual, "of cells"), _mean(plain == actual, "of cells"), None)
    scale = of(facts.scale)
    ours, theirs = (_root(np.square((values - actual) * scale)) for values in (imputed, plain))
    inside = (of(low) <= actual) & (actual <= of(high))
    return HiddenCells("rmse", ours, theirs, _mean(inside, "of cells"))


def _mean(values: np.ndarray, unit: str) -> Estimate:
    return mean_of(torch.from_numpy(values.astype(np.float64)), unit)


def _root(squares: np.ndarray) -> Estimate:
    """The root of a mean, with the error that the mean's error makes."""
    found = _mean(squares, "stored units")
    root = math.sqrt(found.value or 0.0)
    return replace(found, value=root, stderr=found.stderr / (2 * root) if root else 0.0)
