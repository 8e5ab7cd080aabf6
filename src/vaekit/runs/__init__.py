"""Run, the one typed tree of settings, and what needs it: train, fit, load."""

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
from vaekit.runs.extending import extend
from vaekit.runs.job import Job, fit, stop_signals, train
from vaekit.runs.opened import Opened, check_same_run, load, open_rows, open_run, reopen
from vaekit.runs.samplers import Sampling, sampling
from vaekit.runs.tree import LadderSpec, ModelSpec, Run
from vaekit.runs.words import run, split_words

__all__ = [
    "Job",
    "LadderSpec",
    "ModelSpec",
    "Opened",
    "Run",
    "Sampling",
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
