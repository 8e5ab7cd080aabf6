"""Networks of encoders and decoders, networks between groups of latents, and fixed transforms before them."""

from vaekit.models.conditional import Log1p, Rescale
from vaekit.models.hierarchical import DenseHierarchy, Groups, SpatialHierarchy
from vaekit.models.networks import Conv, Mlp, Network, ResNet

__all__ = ["Conv", "DenseHierarchy", "Groups", "Log1p", "Mlp", "Network", "ResNet", "Rescale", "SpatialHierarchy"]


def __dir__() -> list[str]:
    return __all__
