"""Networks of encoders and decoders, networks between groups of latents, and fixed transforms before them."""

from vaekit.models.conditional import Log1p, Rescale
from vaekit.models.hierarchical import DenseHierarchy, Groups, SpatialHierarchy
from vaekit.models.networks import Conv, Mlp, Network, NetworkSpec, ResNet

__all__ = [
    "Conv",
    "DenseHierarchy",
    "Groups",
    "Log1p",
    "Mlp",
    "Network",
    "NetworkSpec",
    "ResNet",
    "Rescale",
    "SpatialHierarchy",
]


def __dir__() -> list[str]:
    return __all__
