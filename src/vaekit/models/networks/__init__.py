"""Networks: specs that build tensor-to-tensor modules. No probability in here.

A built network maps (..., *in_shape) to (..., features), for any number of leading dimensions, and keeps the bias of
its output in `output_bias` (features,), so that it can be initialised from data.
"""

from typing import Annotated, Protocol, runtime_checkable

from torch import nn

from vaekit.models.networks.convolutional import Conv, ResNet
from vaekit.models.networks.mlp import Mlp
from vaekit.models.parameters import Shape
from vaekit.registry import choice

Network = Annotated[
    Mlp | Conv | ResNet,
    choice("networks"),
]


@runtime_checkable
class NetworkSpec(Protocol):
    """A spec of a network. It is built from shapes alone, not from a `BuildContext`: it knows neither x nor z."""

    def build(self, in_shape: Shape, features: int, out_shape: Shape | None = None) -> nn.Module:
        """The untrained network.

        Args:
            in_shape: Of one input.
            features: Numbers of one output.
            out_shape: Of what a decoder's numbers are about, such as an image, channels first; none for one flat
                dimension, as an encoder's.
        """
        ...


__all__ = [
    "Conv",
    "Mlp",
    "Network",
    "NetworkSpec",
    "ResNet",
]
