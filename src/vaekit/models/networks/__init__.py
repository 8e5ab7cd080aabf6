"""Networks: specs that build tensor-to-tensor modules. No probability in here.

A built network maps (..., *in_shape) to (..., features), for any number of leading dimensions, and keeps the bias of
its output in `output_bias` (features,), so that it can be initialised from data.
"""

from typing import Annotated

from vaekit.models.networks.convolutional import Conv, ResNet
from vaekit.models.networks.mlp import Mlp
from vaekit.registry import choice

Network = Annotated[
    Mlp | Conv | ResNet,
    choice("networks"),
]

__all__ = [
    "Conv",
    "Mlp",
    "Network",
    "ResNet",
]
