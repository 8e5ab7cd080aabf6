"""What the columns or channels of a data set hold: ranges, missing cells, zeros, categories, and their likelihoods."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaekit.data import Rows, Schema
from vaekit.models.families import LikelihoodFamily
from vaekit.models.protocols import OverFields
from vaekit.report.pictures import column_categories, column_names, observed
from vaekit.runs.factory import events_of

QUANTILES = {"lowest": 0.0, "5%": 0.05, "median": 0.5, "95%": 0.95, "highest": 1.0}


@dataclass(frozen=True, eq=False)
class Features:
    """The columns of a table, or the channels of rows of another kind, as some rows show them in stored units.

    Attributes:
        names: Of each; kinds: of its values; likelihoods: by name, where columns have one each.
        categories: Of each, the most frequent first unless they are steps of a scale; None where it holds numbers.
        lowest, highest, mean, deviation: (features,) of the cells that are not missing; NaN where all are.
        missing, zeros: (features,) the share of missing cells, and of zeros among the others.
        totals: (rows,) of counts, their sum in each row.
    """

    names: Sequence[str]
    kinds: Sequence[str]
    likelihoods: Sequence[str]
    categories: Sequence[list[str] | None]
    lowest: np.ndarray
    highest: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    missing: np.ndarray
    zeros: np.ndarray
    totals: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def of_one_kind(self) -> bool:
        """Whether all hold numbers of one kind."""
        return len(set(self.kinds)) == 1 and not any(self.categories)

    def each(self) -> list[dict[str, Any]]:
        """The facts of each by name; numbers that one of categories does not have are None."""
        found = []
        for place, name in enumerate(self.names):
            numbers = {
                "lowest": self.lowest[place],
                "highest": self.highest[place],
                "mean": self.mean[place],
                "deviation": self.deviation[place],
                "zeros": self.zeros[place],
            }
            said = self.categories[place] is None
            found.append(
                {
                    "name": name,
                    "kind": self.kinds[place],
                    **{key: float(one) if said and math.isfinite(one) else None for key, one in numbers.items()},
                    "categories": self.categories[place],
                    "missing": float(self.missing[place]),
                    "likelihood": self.likelihoods[place],
                }
            )
        return found

    def over_all(self) -> dict[str, list[float]]:
        """How the facts are spread over all features, at each of `QUANTILES`."""
        facts = {
            "lowest value": self.lowest,
            "highest value": self.highest,
            "mean": self.mean,
            "deviation": self.deviation,
            "missing": self.missing,
            "zeros": self.zeros,
            "total of a row": np.empty(0) if self.totals is None else self.totals,
        }
        known = {name: values[~np.isnan(values)] for name, values in facts.items()}
        return {
            name: np.quantile(values, list(QUANTILES.values())).tolist()
            for name, values in known.items()
            if len(values)
        }


def features(schema: Schema, rows: Rows, likelihood: LikelihoodFamily | None) -> Features:
    """What some rows of a data set hold.

    Args:
        schema: Of the data.
        rows: Some of its training rows.
        likelihood: Of the rows; None where none is known.
    """
    given = rows.inputs(slice(None))
    x = given["x"].numpy().astype(np.float64)
    whole = schema.to_stored(x)
    cells = np.moveaxis(observed(whole, given["mask"].numpy() if "mask" in given else None), 1, -1)
    cells = cells.reshape(-1, cells.shape[-1])  # each column or channel
    # What single precision, in which x is, has rounded away.
    ends = np.abs(np.moveaxis(x, 1, -1).reshape(cells.shape)).max(0) * np.asarray(schema.scale or 1.0)
    off = ends * float(np.finfo(np.float32).eps)
    known = ~np.isnan(cells)
    there = known.sum(0)
    filled = np.where(known, cells, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(0) / there
        deviation = np.sqrt((np.where(known, cells - mean, 0.0) ** 2).sum(0) / there)
        zeros = (known & (np.abs(cells) <= off)).sum(0) / there
    lowest, highest = np.fmin.reduce(cells, 0), np.fmax.reduce(cells, 0)
    fields = schema.fields or ()
    decimals = [field.decimals for field in fields] if fields else [None] * cells.shape[1]
    for ends in (lowest, highest, mean, deviation):
        exact = ends is lowest or ends is highest
        _round(ends, off, decimals if exact else [None] * len(ends))
    names = column_names(schema) if schema.kind == "table" else _channels(schema)
    counts = schema.stored.kind in ("count", "binary") and schema.kind == "table"
    return Features(
        names,
        [field.kind for field in fields] or [schema.stored.kind] * len(names),
        _likelihoods(schema, likelihood),
        _categories(schema, cells),
        lowest,
        highest,
        mean,
        deviation,
        (~known).mean(0),
        zeros,
        np.nansum(cells, 1) if counts else None,
    )


def _round(values: np.ndarray, off: np.ndarray, decimals: Sequence[int | None]) -> None:
    """Round numbers, one of each feature, to the digits that are known of them."""
    for place in np.flatnonzero(np.isfinite(values) & (off > 0)).tolist():
        digits = decimals[place]
        digits = math.floor(-math.log10(off[place])) if digits is None else digits
        values[place] = round(float(values[place]), digits) + 0.0


def _channels(schema: Schema) -> list[str]:
    if schema.sound is not None and schema.kind == "image":
        return ["mel bands"]
    if schema.shape[0] == 1:
        return ["pixels" if schema.kind == "image" else "values"]
    what = "band" if schema.sound is not None else "channel"
    return [f"{what} {place}" for place in range(schema.shape[0])]


def _likelihoods(schema: Schema, likelihood: LikelihoodFamily | None) -> list[str]:
    """Of each feature, the name of its likelihood."""
    heads: Sequence[Any] = [likelihood] * schema.shape[0]
    if isinstance(likelihood, OverFields):
        heads = list(likelihood.of_fields(events_of(schema)).heads)
    return [getattr(head, "kind", "") for head in heads]


def _categories(schema: Schema, cells: np.ndarray) -> list[list[str] | None]:
    """Of each feature, the names of its categories."""
    found: list[list[str] | None] = [None] * cells.shape[1]
    for place, one in enumerate(column_categories(schema)):
        if one is None or not (schema.fields or ())[place].categories:
            continue
        counts = np.bincount(cells[~np.isnan(cells[:, place]), place].astype(int), minlength=len(one.names))
        often = range(len(one.names)) if one.ordered else counts.argsort()[::-1]
        found[place] = [one.names[at] for at in often]
    return found
