"""The engine that runs a step as it stands, through autograd."""

from collections.abc import Mapping

from torch import Tensor

from vaekit.models.networks.precision import networks_in_bf16
from vaekit.training.distributed import syncing, wrap
from vaekit.training.state import State
from vaekit.training.step import StepInputs


class Autograd:
    """Gradients operation by operation: for several processes, short trainings, and steps that cannot be traced.

    Args:
        state: Of the training; its precision is decided.

    Attributes:
        notice: What the user should know, until it is taken.
    """

    def __init__(self, state: State):
        self.state = state
        self.step = wrap(state.step, state.step.world)
        self.notice = ""

    def __call__(self, inputs: StepInputs, scale: float, last: bool) -> dict[str, Tensor]:
        """Add the gradient of scale times the loss to that of each parameter.

        Args:
            inputs: A piece of a batch.
            scale: Factor on the loss.
            last: Whether this piece is the last of its batch.

        Returns:
            The step's sums, detached.
        """
        with syncing(self.step, last):
            with networks_in_bf16(self.state.at.precision == "bf16"):
                sums: dict[str, Tensor] = self.step(inputs)
            (minimised(sums) * scale).backward()
        return {name: value.detach() for name, value in sums.items()}

    @property
    def decided(self) -> bool:
        """Whether steps are as fast by now as they are going to be."""
        return True

    def take_notice(self) -> str:
        """What the user should know since the last call; mostly empty."""
        notice, self.notice = self.notice, ""
        return notice


def minimised(sums: Mapping[str, Tensor]) -> Tensor:
    """The number to differentiate: the losses of model and discriminator at once.

    Neither has gradients for the other's weights.
    """
    return sums["loss"] + sums["discriminator_loss"] if "discriminator_loss" in sums else sums["loss"]
