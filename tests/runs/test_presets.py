"""Every preset trains on its data, or on the bundled digits where its data is not here.

Those for a kind of data, which name none, train on an example of it, and are skipped where that is not here, or on a
few rows that are made up.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vaekit.data.sound import write_wav
from vaekit.runs import TrainingRun, make_run, override, preset, presets, to_tree

EXAMPLES = {
    "cells": "cells/worm_neuron.h5ad",
    "photos": "cifar10-jpeg/train",
    "series": "series/energy.npz",
}
TINY = ["limit.train=40", "limit.valid=10", "train.epochs=2", "train.batch_size=20"]


def example(name: str) -> str:
    """Data for a preset that names none; skips the test where it is not here."""
    path = Path(os.environ.get("VAEKIT_DATA") or "no data") / EXAMPLES[name]
    if not path.exists():
        pytest.skip(f"VAEKIT_DATA has no {EXAMPLES[name]}")
    return str(path)


def made_up(name: str, folder: Path) -> list[str] | None:
    """Settings of a preset whose data is made up here; None for others."""
    rng = np.random.default_rng(0)
    if name == "ratings":
        pairs = np.unique(rng.integers(0, (60, 30), (600, 2)), axis=0)
        np.savetxt(folder / "log.csv", pairs, fmt="%d", delimiter=",", header="uid,iid", comments="")
        return [f"data.source={folder / 'log.csv'}", "data.rows=uid", "data.items=iid"]
    if name == "audio":
        for number in range(60):
            write_wav(folder / f"{number % 10}_{number}.wav", 0.3 * rng.standard_normal(1500), 8000)
        return [f"data.source={folder}"]
    if name in ("imputation", "synthetic"):
        cells = rng.normal(size=(100, 3))
        np.savetxt(folder / "holes.csv", np.where(rng.random(cells.shape) < 0.3, np.nan, cells), delimiter=",")
        return [f"data.source={folder / 'holes.csv'}"]
    return None


def players(training: TrainingRun) -> Iterator[tuple[str, nn.Parameter]]:
    """The weights of the model, and those of its discriminator if there is one."""
    yield from training.state.step.model.named_parameters()
    if training.state.step.discriminator is not None:
        yield from training.state.step.discriminator.named_parameters(prefix="discriminator")


@pytest.mark.parametrize("name", presets())
def test_a_preset_trains_and_every_weight_gets_a_gradient(name, tmp_path):
    tree = to_tree(preset(name))
    if more := made_up(name, tmp_path):
        tree = override(tree, more)
    if name in EXAMPLES:
        tree["data"]["source"] = example(name)
    if not more and tree["data"]["source"] != "digits" and not os.environ.get("VAEKIT_DATA"):
        if tree["model"].get("likelihood") in ("beta_binomial", {"kind": "beta_binomial", "levels": 256}):
            tree["model"]["likelihood"] = {"kind": "beta_binomial", "levels": 17}
        kept = {key: tree["data"][key] for key in ("binarise", "context") if key in tree["data"]}
        tree["data"] = {"source": "digits"} | kept
    training = TrainingRun.start(make_run(override(tree, TINY)))
    metrics = {}
    for event in training.events():
        if event.kind == "step":
            gradients = {label: weight.grad for label, weight in players(training)}
        metrics |= event.metrics
    assert torch.tensor(list(metrics.values())).isfinite().all()
    for label, gradient in gradients.items():
        assert gradient is not None, label
        assert gradient.isfinite().all(), label
        assert gradient.any(), label
