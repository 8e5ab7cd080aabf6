"""What the page shows of a run: one JSON text, and the arrays that it refers to in one block of bytes."""

import shlex
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from vaekit import __version__
from vaekit.data import Dataset, Levels, Rows, StreamedRows
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation import Estimate, bound_rows, evaluating, in_stored_units, kl_per_dimension
from vaekit.evaluation.results import ACTIVE_KL, NATS, label_of, measure_of
from vaekit.explorer.stored_model import StoredModel
from vaekit.export.stored import examples
from vaekit.models.distributions.codes import is_discrete
from vaekit.models.vae import call_part
from vaekit.randomness import Purpose, new_generator
from vaekit.report.pictures import column_categories, column_names, to_unit
from vaekit.runs import TrainedRun, posterior_moments, reopen
from vaekit.words import counted

POINTS = 5_000  # of the map, unless another number is given
MOST_POINTS = 20_000
_KEPT_ROWS = 200  # rows that are in the page themselves
_MEASURED = 2_000  # rows that the KL of each dimension is a mean over
_MOST_BYTES = 256_000_000  # of rows that are encoded
_THUMBNAIL, _THUMBNAIL_BYTES = 32, 1_000_000  # pixels of a side at most; of all
_MOST_CELLS = 500_000  # of the points of a table
_CURVES = (
    *("train_loss", "valid_loss"),
    *("train_distortion", "valid_distortion", "train_rate", "valid_rate"),
)
_BLOCK = 512


@dataclass(frozen=True)
class Contents:
    """All that the page shows, but for the model.

    Attributes:
        facts: What `model.json` holds; an array in it says where in `arrays` it is.
        arrays: What `model.bin` holds.
    """

    facts: dict[str, Any]
    arrays: bytes


@dataclass
class _Arrays:
    """Arrays side by side, each from a multiple of 8 bytes on."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, array: np.ndarray | None, dtype: Any = None) -> dict[str, Any] | None:
        """What refers to an array; None for none."""
        if array is None:
            return None
        kept = np.ascontiguousarray(array, dtype or array.dtype)
        kept = kept.astype(kept.dtype.newbyteorder("<"))
        content = kept.tobytes()
        found = {"dtype": str(kept.dtype), "shape": list(kept.shape), "offset": self.size, "bytes": len(content)}
        content += bytes(-len(content) % 8)
        self.parts.append(content)
        self.size += len(content)
        return found


@dataclass(frozen=True, eq=False)
class _Points:
    """Rows of the map: x as the model sees it and as it is stored, in the order that they are shown in."""

    number: np.ndarray
    stored: np.ndarray
    x: np.ndarray
    context: np.ndarray | None
    labels: np.ndarray | None
    mean: np.ndarray
    scale: np.ndarray
    elbo: np.ndarray | None
    rate: np.ndarray | None
    distortion: np.ndarray
    kl: np.ndarray | None


def collect(trained: TrainedRun, points: int = POINTS, model: StoredModel | None = None) -> Contents:
    """Gather what the page shows of a run.

    Args:
        trained: The run.
        points: Test rows on the map, at most; they are drawn with a fixed seed.
        model: That of the run, where there is one already.

    Returns:
        The contents, whose numbers are finite or None.
    """
    model = StoredModel(trained) if model is None else model
    arrays = _Arrays()
    notice = ""
    try:
        data: Dataset | None = reopen(trained) if trained.dataset is None else trained.dataset
        trained = replace(trained, dataset=data)
    except (DataError, ConfigError, ValueError) as error:
        data, notice = None, f"The data is not there, so the points are samples of the model: {error}"
    rows = None if data is None else next((part for part in (data.test, data.valid, data.train) if len(part)), None)
    found = _points(trained, model, rows, min(points, MOST_POINTS))
    kl = None if found.kl is None else found.kl.astype(float)
    carried = found.mean.var(0) if kl is None else kl
    order = np.argsort(-np.nan_to_num(carried), kind="stable")
    kept = found.stored[:_KEPT_ROWS].reshape(min(len(found.stored), _KEPT_ROWS), -1)
    folder = trained.written_to
    one_group = len(model.decoder.shapes) == 1
    facts = {
        "format_version": 1,
        "title": trained.settings.name,
        "vaekit": __version__,
        "run": str(folder.path) if folder else "",
        "command": f"vaekit explore {shlex.quote(str(folder.path))}" if folder else "",
        "facts": _facts(trained, data, model),
        "notice": notice,
        "kind": _kind(trained),
        "x": _about_x(trained, model, found, arrays),
        "context": _about_context(trained, model, found),
        "latents": model.latents,
        "discrete": _is_discrete(trained),
        "kl": None if kl is None else _finite(kl),
        "order": order.tolist(),
        "dead": ["" if kl is None else _dead(nats) for nats in (kl if kl is not None else carried)],
        "threshold": ACTIVE_KL,
        "prior": "standard" if one_group and _is_standard(trained) else "other",
        "posterior": model.posterior,
        "points": {
            "n": len(found.mean),
            "of": 0 if rows is None else len(rows),
            "mean": arrays.add(found.mean, np.float32),
            "scale": arrays.add(found.scale, np.float32),
            "row": arrays.add(found.number, np.int32),
            "label": arrays.add(found.labels, np.uint16),
            "cells": _cells(trained, found, arrays),
            "elbo": arrays.add(found.elbo, np.float32),
            "kl": arrays.add(found.rate, np.float32),
            "log_likelihood": arrays.add(-found.distortion, np.float32),
        },
        "labels": _labels(trained, found),
        "label_name": trained.settings.data.label or "label",
        "plane": _plane(found.mean, order, arrays),
        "thumbnails": _thumbnails(trained, found, arrays),
        "rows": {
            "array": arrays.add(kept, model.dtype),
            "context": arrays.add(None if found.context is None else found.context[:_KEPT_ROWS], np.float64),
        },
        **training_facts(trained),
        "estimates": _estimates(found),
        "units": {"rate": _mean(found.rate), "distortion": _mean(found.distortion)},
        "aggregate": {
            "mean": _finite(found.mean.mean(0)),
            "variance": _finite(found.mean.var(0) + np.square(found.scale).mean(0)),
        },
        "parity": None,
        "watching": False,
        "version": "",
        "static": None,
    }
    return Contents(facts, b"".join(arrays.parts))


def _points(trained: TrainedRun, model: StoredModel, rows: Rows | StreamedRows | None, n: int) -> _Points:
    """The rows of the map, encoded; without data, rows that the model makes."""
    held, number = _chosen(trained, rows, n)
    inputs = held.inputs(slice(None))
    x, mask = inputs["x"], inputs.get("mask")
    means, scales, terms = [], [], []
    with evaluating(trained.model):
        for start in range(0, len(x), _BLOCK):
            some = {name: part[start : start + _BLOCK] for name, part in inputs.items() if isinstance(part, Tensor)}
            mean, scale = posterior_moments(trained.model, **some)
            means, scales = [*means, mean], [*scales, scale]
            generator = new_generator(0, Purpose.EVALUATE, start)
            terms += [bound_rows(trained.model, some["x"], some.get("context"), generator, mask=some.get("mask"))]
    distortion, rate, elbo = (torch.cat(parts).double().numpy() for parts in zip(*terms, strict=True))
    above = held.log_scale_of(slice(None)) if trained.log_scale else 0.0  # what log-densities are of stored rows below
    above = above.double().numpy() if isinstance(above, Tensor) else above
    has_bound = trained.settings.model.posterior.has_density or trained.own_modules
    kl = kl_per_dimension(trained.model, held.take(_MEASURED))
    context = held.context_of(slice(None))
    return _Points(
        number=number,
        stored=_stored(model, x, mask),
        x=x.numpy(),
        context=None if context is None or model.decoder.context is None else _inverse(model, context),
        labels=None if held.labels is None else held.labels.numpy(),
        mean=torch.cat(means).float().numpy(),
        scale=torch.cat(scales).float().numpy(),
        elbo=elbo - above if has_bound else None,
        rate=rate if has_bound else None,
        distortion=distortion + above,
        kl=None if kl is None else np.array([one.value or 0.0 for one in kl]),
    )


def _chosen(trained: TrainedRun, rows: Rows | StreamedRows | None, n: int) -> tuple[Rows, np.ndarray]:
    each = 8 * int(np.prod(trained.schema.shape))
    n = max(1, min(n, _MOST_BYTES // each))
    if rows is None:
        made = examples(trained, min(n, 500))
        encoder = StoredModel(trained).encoder
        x, mask = encoder.model_rows(made["x"])
        context = made.get("context")
        beside = None if context is None or encoder.context is None else encoder.context(context)
        return Rows(x, mask=mask, context=beside), np.arange(len(x))
    order = torch.randperm(len(rows), generator=new_generator(0, Purpose.ORDER))[:n]
    return rows.at(order), order.numpy()


def _stored(model: StoredModel, x: Tensor, mask: Tensor | None) -> np.ndarray:
    """Rows of the model as the encoder of stored rows takes them."""
    stored = model.decoder.rows.as_stored(x)
    levels = model.trained.schema.stored
    if model.encoder.threshold is not None and isinstance(levels, Levels):
        stored = stored * (levels.count - 1)  # what was binarised, as black and white
    if mask is not None:
        stored = torch.where(model.decoder.rows.channels_as_stored(mask), stored, torch.nan)
    return stored.numpy().astype(model.dtype)


def _inverse(model: StoredModel, context: Tensor) -> np.ndarray:
    assert model.decoder.context is not None
    return model.decoder.context.inverse(context).numpy()


def _kind(trained: TrainedRun) -> str:
    schema = trained.schema
    if schema.sound is not None:
        return "sound"
    return {"image": "image", "sequence": "series", "table": "table"}.get(schema.kind, "vector")


def _facts(trained: TrainedRun, data: Dataset | None, model: StoredModel) -> list[list[str]]:
    """What the run is, by name, as text."""
    settings, schema = trained.settings, trained.schema
    weights = sum(weight.numel() for weight in trained.model.parameters())
    found = {"data": f"{schema.name}, {' x '.join(map(str, schema.shape))}, {schema.support}"}
    if not trained.own_modules:
        likelihood = settings.model.likelihood
        found["model"] = settings.model.summary
        found["likelihood"] = "" if likelihood is None else likelihood.kind.replace("_", " ")
        found["posterior"] = settings.model.posterior.kind.replace("_", " ")
        found["prior"] = settings.model.prior.kind.replace("_", " ")
    found["latents"] = counted(model.latents, "dimension")
    found["weights"] = f"{weights:,}, {trained.weights.get('weights', '')} of epoch {trained.weights.get('epoch', '?')}"
    if data is not None:
        rows = {"training": data.train, "validation": data.valid, "test": data.test}
        found["rows"] = ", ".join(f"{len(part):,} {name}" for name, part in rows.items())
    found["protocol"] = schema.protocol
    return [[name, text] for name, text in found.items() if text]


def _about_x(trained: TrainedRun, model: StoredModel, points: _Points, arrays: _Arrays) -> dict[str, Any]:
    """What a row is, and how it is drawn."""
    schema, stored, kind = trained.schema, points.stored, _kind(trained)
    axes = (schema.axes or "nc" + {"image": "hw", "sequence": "t", "volume": "dhw"}.get(schema.kind, ""))[1:]
    found: dict[str, Any] = {
        "dtype": str(model.dtype),
        "size": int(np.prod(model.shape)),
        "shape": list(model.shape),
        "missing": schema.missing,
        "binarised_above": model.encoder.threshold,
    }
    if kind == "image":
        channels, height, width = schema.shape
        low, high = _range(trained, stored)
        binarised = model.encoder.threshold is not None
        found["image"] = {
            "height": height,
            "width": width,
            "channels": channels,
            "order": axes,
            "low": low,
            "high": high,
            "decoded_low": 0.0 if binarised else low,
            "decoded_high": 1.0 if binarised else high,
            "levels": schema.stored.count if isinstance(schema.stored, Levels) else None,
        }
    elif kind == "series":
        channels, steps = schema.shape
        found["series"] = {"steps": steps, "channels": channels, "order": axes.replace("n", ""), "names": None}
    elif kind == "sound":
        assert schema.sound is not None
        features = schema.sound.features
        found["sound"] = {
            "frames": features.frames(schema.sound.length),
            "bands": features.bands,
            "order": "ct",
            "rate": features.rate,
            "low": float(np.log(features.floor)),
            "high": float(np.nanquantile(stored, 0.999)),
            "seconds": schema.sound.length / features.rate,
            "window": features.window,
            "hop": features.hop,
            "length": schema.sound.length,
            "floor": features.floor,
            "filters": arrays.add(features.filters().numpy(), np.float32),
        }
    elif kind == "table":
        found["columns"] = _columns(trained, stored)
    return found


def _range(trained: TrainedRun, stored: np.ndarray) -> tuple[float, float]:
    """The stored values that black and white stand for: see `to_unit`."""
    schema = trained.schema
    if isinstance(schema.stored, Levels):
        return 0.0, schema.stored.count - 1.0
    if schema.stored.kind in ("binary", "unit"):
        return 0.0, 1.0
    if schema.scale is not None and schema.loc is not None:
        loc, scale = float(np.mean(schema.loc)), float(np.mean(np.abs(schema.scale)))
        return loc - 3 * scale, loc + 3 * scale
    low, high = float(np.nanmin(stored)), float(np.nanmax(stored))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _columns(trained: TrainedRun, stored: np.ndarray) -> list[dict[str, Any]]:
    """Each column of a table: its name, kind, categories, and between which numbers most of its cells are."""
    schema = trained.schema
    flat = stored.reshape(len(stored), -1)
    fields = schema.fields or (None,) * flat.shape[1]
    known = column_categories(schema) or (None,) * flat.shape[1]
    kinds = {"levels": "ordinal", "unit": "real"}
    found = []
    for name, about, categories, cells in zip(column_names(schema), fields, known, flat.T, strict=True):
        seen = cells[np.isfinite(cells)]
        low, high = (float(q) for q in np.quantile(seen, (0.005, 0.995))) if len(seen) else (0.0, 1.0)
        found += [
            {
                "name": name,
                "kind": about.kind if about is not None else kinds.get(schema.stored.kind, schema.stored.kind),
                "categories": list(categories.names) if categories is not None else None,
                "integer": bool(len(seen)) and bool((seen == np.round(seen)).all()),
                "decimals": None if about is None else about.decimals,
                "low": low,
                "high": high,
            }
        ]
    return found


def _cells(trained: TrainedRun, points: _Points, arrays: _Arrays) -> dict[str, Any] | None:
    """The cells of the points of a table, by which they can be coloured, unless they are many."""
    flat = points.stored.reshape(len(points.stored), -1)
    return arrays.add(flat, np.float32) if _kind(trained) == "table" and flat.size <= _MOST_CELLS else None


def _about_context(trained: TrainedRun, model: StoredModel, points: _Points) -> dict[str, Any] | None:
    """The numbers of the context, and what they are where none are chosen: those of the first point."""
    context = trained.schema.context
    if context is None:
        return None
    default = points.context[0] if points.context is not None else context.examples(1)[0].astype(float)
    return {
        "size": len(context.names),
        "names": list(context.names),
        "kind": context.kind,
        "groups": [{"name": name, "places": list(places)} for name, places in context.places.items()],
        "default": np.nan_to_num(default).tolist(),
        "of": model.context_to,
    }


def _is_discrete(trained: TrainedRun) -> bool:
    with evaluating(trained.model):
        posteriors = trained.model.encode(torch.zeros(1, *trained.schema.shape), trained.context(1)).posteriors
    return any(map(is_discrete, posteriors))


def _is_standard(trained: TrainedRun) -> bool:
    """Whether the prior is N(0, I)."""
    with evaluating(trained.model):
        p = call_part(trained.model.prior, "prior", context=trained.context(1))
    base = p.base_dist if isinstance(p, Independent) else p
    return isinstance(base, Normal) and bool((base.loc == 0).all()) and bool((base.scale == 1).all())


def _dead(nats: float) -> str:
    """Why a dimension is greyed, if it is."""
    return (
        "" if nats > ACTIVE_KL else f"KL {nats:.3f} nats: q(z|x) is the prior, so the decoder learns nothing of x here"
    )


def _labels(trained: TrainedRun, points: _Points) -> list[str] | None:
    if points.labels is None:
        return None
    return list(trained.schema.classes or map(str, range(int(points.labels.max()) + 1)))


def _plane(mean: np.ndarray, order: np.ndarray, arrays: _Arrays) -> dict[str, Any]:
    """The plane that the map shows at first: z itself, or the two directions in which the means vary most."""
    latents = mean.shape[1]
    centre = np.zeros(latents)
    if latents <= 2:
        kind, directions, axes = ("line", "raw")[latents - 1], np.eye(2, latents), [f"z{i}" for i in range(latents)]
    else:
        kind, axes = "pca", ["first principal component", "second principal component"]
        seen = mean[np.isfinite(mean).all(1)]
        centre = seen.mean(0) if len(seen) else centre
        spread = np.vstack([seen - centre, np.zeros((2, latents))])  # of any number of rows, two components at least
        directions = np.linalg.svd(spread, full_matrices=False)[2][:2]
        largest = np.abs(directions).argmax(1)  # a component's sign is arbitrary: its largest weight is above 0
        directions = directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]
    return {
        "kind": kind,
        "axes": axes,
        "directions": arrays.add(directions, np.float32),
        "centre": arrays.add(centre, np.float32),
    }


def _thumbnails(trained: TrainedRun, points: _Points, arrays: _Arrays) -> dict[str, Any] | None:
    """Small pictures of the first points."""
    if _kind(trained) != "image":
        return None
    unit = to_unit(points.x, trained.schema)
    unit = unit if unit.shape[1] == 3 else unit[:, :1]
    every = -(-max(unit.shape[2:]) // _THUMBNAIL)
    unit = unit[: max(1, _THUMBNAIL_BYTES // int(np.prod(unit[0, :, ::every, ::every].shape)))]
    height, width = (size // every for size in unit.shape[2:])
    unit = unit[:, :, : height * every, : width * every]
    small = unit.reshape(*unit.shape[:2], height, every, width, every).mean((3, 5))
    return {"array": arrays.add(np.round(255 * small).transpose(0, 2, 3, 1), np.uint8)}


def training_facts(trained: TrainedRun) -> dict[str, Any]:
    """The part of what a page shows that tells of training: curves in nats, status and findings."""
    folder = trained.written_to
    lines = [] if folder is None else folder.history()
    stored = [
        line | in_stored_units({name: v for name, v in line.items() if v is not None}, trained.log_scale)
        for line in lines
    ]
    for line in stored:
        if (elbo := line.get("valid_elbo")) is not None:
            line["valid_loss"] = -elbo
    names = [name for name in _CURVES if any(name in line for line in stored)]
    return {
        "history": {
            "x": [line["epoch"] for line in lines],
            "lines": [
                {
                    "name": name,
                    "label": label_of(name),
                    "unit": measure_of(name).unit,
                    "values": [line.get(name) for line in stored],
                }
                for name in names
            ],
        },
        "findings": [
            {"code": one.id, "severity": one.severity, "text": one.text, "panel": "health"}
            for one in (() if folder is None else folder.findings())
        ],
        "status": "" if folder is None else folder.status(),
    }


def _estimates(points: _Points) -> list[dict[str, str]]:
    """Means over the points, with their standard errors."""
    terms = {
        "ELBO, one sample of z for each row": points.elbo,
        "KL(q(z|x) || p(z))": points.rate,
        "\N{MINUS SIGN}ln p(x|z)": points.distortion,
    }
    found = []
    for name, values in terms.items():
        if values is not None:
            error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
            estimate = Estimate(float(values.mean()), error, len(values), NATS)
            found += [{"name": name, "text": str(estimate)}]
    return found


def _mean(values: np.ndarray | None) -> float | None:
    mean = None if values is None else float(values.mean())
    return mean if mean is not None and np.isfinite(mean) else None


def _finite(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
