"""From built parts to weights: the loop, the step, the run folder."""

from vaekit.training.folder import FORMAT_VERSION, RunFolder, environment
from vaekit.training.loop import Event, State, train_model
from vaekit.training.spec import Train

__all__ = ["FORMAT_VERSION", "Event", "RunFolder", "State", "Train", "environment", "train_model"]
