"""Training of a model that has been built.

`loop` yields the events of a training; `updater` makes one update of the weights from a batch, by a `step`, which the
`engine` runs fast, and by `update_rules`, which apply the optimiser. `state` is what a training changes, and
`checkpoints` keep it in the run folder (`folder`, `run_files`).
"""

from vaekit.training.checkpoints.contents import pack, read_weights, unpack, wanted, weights_wanted
from vaekit.training.checkpoints.store import Checkpoint, Checkpoints
from vaekit.training.checkpoints.tensors import check_alike, most_bytes, pack_tensors, unpack_tensors
from vaekit.training.folder import RunFolder, environment
from vaekit.training.loop import Event, train_model
from vaekit.training.run_files import FORMAT_VERSION, NewerFormat, refuse_newer
from vaekit.training.spec import Train
from vaekit.training.state import State
from vaekit.training.step import Step

__all__ = [
    "FORMAT_VERSION",
    "Checkpoint",
    "Checkpoints",
    "Event",
    "NewerFormat",
    "RunFolder",
    "State",
    "Step",
    "Train",
    "check_alike",
    "environment",
    "most_bytes",
    "pack",
    "pack_tensors",
    "read_weights",
    "refuse_newer",
    "train_model",
    "unpack",
    "unpack_tensors",
    "wanted",
    "weights_wanted",
]


def __dir__() -> list[str]:
    return __all__
