"""Run, the one typed tree of settings, and what needs it: train, fit, load."""

from vaekit.runs.arguments import run, split_words
from vaekit.runs.config import (
    check_known,
    make_run,
    override,
    override_in_order,
    parse_yaml,
    preset,
    preset_tree,
    presets,
    read_yaml,
    to_tree,
    to_yaml,
    with_source,
)
from vaekit.runs.extend import extend
from vaekit.runs.fitting import fit
from vaekit.runs.samplers import Sampling, sampling
from vaekit.runs.trained_run import TrainedRun, check_same_run, load, open_rows, open_run, posterior_moments, reopen
from vaekit.runs.training_run import TrainingRun, stop_signals, train
from vaekit.runs.tree import HierarchicalSpec, ModelSpec, Run

__all__ = [
    "HierarchicalSpec",
    "ModelSpec",
    "Run",
    "Sampling",
    "TrainedRun",
    "TrainingRun",
    "check_known",
    "check_same_run",
    "extend",
    "fit",
    "load",
    "make_run",
    "open_rows",
    "open_run",
    "override",
    "override_in_order",
    "parse_yaml",
    "posterior_moments",
    "preset",
    "preset_tree",
    "presets",
    "read_yaml",
    "reopen",
    "run",
    "sampling",
    "split_words",
    "stop_signals",
    "to_tree",
    "to_yaml",
    "train",
    "with_source",
]


def __dir__() -> list[str]:
    return __all__
