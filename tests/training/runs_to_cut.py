"""Small runs of sixty steps over two epochs, and what of them has to be equal to the last bit."""

import json
from pathlib import Path

import numpy as np
import torch

from vaekit.randomness import new_generator
from vaekit.runs import TrainingRun, load, make_run

STEPS = 60
BASE = {
    "data": {"valid_fraction": 0.1, "test_fraction": 0.1},
    "model": {
        "latent": 3,
        "encoder": {"kind": "mlp", "widths": [16]},
        "decoder": {"kind": "mlp", "widths": [16]},
    },
    "train": {"epochs": 2, "batch_size": 5, "lr": 0.01, "schedule": {"kind": "cosine"}, "clip": 10},
    "objective": {"beta": {"kind": "warmup", "over": 0.5}},
}
KINDS = {
    "mlp": {},
    "conv": {
        "model": {
            "latent": 3,
            "encoder": {"kind": "conv", "channels": [4, 8], "hidden": 16},
            "decoder": {"kind": "conv", "channels": [4, 8], "hidden": 16},
        }
    },
    "score": {"objective": {"samples": 4, "gradient": {"kind": "score"}}},
    "score and average": {
        "objective": {"gradient": {"kind": "score"}},
        "train": {**BASE["train"], "ema": 0.9, "micro_batch": 2, "optimiser": "adamax"},
    },
    "codes": {
        "model": {
            **BASE["model"],
            "posterior": {"kind": "vq", "classes": 6, "dim": 2, "depth": 2, "decay": 0.8, "revive_below": 0.5},
            "prior": {"kind": "autoregressive", "width": 8, "layers": 1},
        }
    },
    "hidden inputs": {
        "model": {
            **BASE["model"],
            "likelihood": "multinomial",
            "input_scale": "unit_length",
            "input_dropout": 0.5,
        },
        "train": {**BASE["train"], "micro_batch": 2},
    },
    "free nats": {"objective": {"free_nats": 1.0}},
    "penalties": {
        "objective": {
            "kind": "regularised",
            "penalties": ["total_correlation", "dip", "mmd", "decoder_weights", "decoder_slope"],
        }
    },
    "discriminator": {
        "objective": {
            "kind": "regularised",
            "penalties": [{"kind": "factor", "critic": {"network": {"kind": "mlp", "widths": [8]}, "features": 6}}],
        },
        "train": {**BASE["train"], "ema": 0.9},
    },
    "streamed": {"data": {**BASE["data"], "stream": "always"}},
}


def make(kind: str, folder: Path, **train: object):
    """A run over 150 rows of training data in batches of 5."""
    images = folder / "images.npy"
    if not images.exists():
        grey = np.random.default_rng(0).integers(0, 256, (188, 8, 8), dtype=np.uint8)
        np.save(images, grey)
    tree = {**BASE, **KINDS[kind]}
    tree["data"] = {**tree["data"], "source": str(images), "binarise": "dynamic"}
    tree["train"] = {**tree["train"], **train}
    return make_run({**tree, "run_dir": str(folder / "run"), "limit": {"train": 150}})


def outcome(folder: Path) -> dict[str, object]:
    """Everything that a cut must not change."""
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"], line["rows_per_second"]
    best, last = (load(folder / "run", weights) for weights in ("best", "last"))
    return {
        "status": (folder / "run" / "STATUS").read_text(),
        "metrics": lines,
        "best": dict(best.state_dict()),
        "last": dict(last.state_dict()),
        "samples": {"x": best.generate(5, generator=new_generator(0))},
    }


def check_same(one: dict[str, object], other: dict[str, object]) -> None:
    assert one["status"] == other["status"] == "finished\n"
    assert one["metrics"] == other["metrics"]
    assert [line["epoch"] for line in one["metrics"]] == [1, 2]
    for part in ("best", "last", "samples"):
        for name, value in one[part].items():
            assert torch.equal(value, other[part][name]), f"{part}: {name}"


def cut(training: TrainingRun, step: int, kind: str = "step") -> bool:
    """Train up to a step (or to the epoch that it ends), then stop; whether the run was at its end before."""
    events = training.events()
    for event in events:
        if event.step >= step and event.kind == kind:
            events.close()
            return False
    return True
