"""From built parts to weights: the loop, the step, the state, the run folder and its checkpoints."""

from vaekit.training.checkpoints import FORMAT_VERSION, Checkpoint, Checkpoints
from vaekit.training.folder import RunFolder, environment
from vaekit.training.loop import Event, train_model
from vaekit.training.saving import pack, read_weights, unpack
from vaekit.training.spec import Train
from vaekit.training.state import State
from vaekit.training.step import Step

__all__ = [
    "FORMAT_VERSION",
    "Checkpoint",
    "Checkpoints",
    "Event",
    "RunFolder",
    "State",
    "Step",
    "Train",
    "environment",
    "pack",
    "read_weights",
    "train_model",
    "unpack",
]
