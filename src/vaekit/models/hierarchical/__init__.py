"""VAEs with several groups of latents."""

from typing import Annotated

from pydantic import Field

from vaekit.models.hierarchical.dense import DenseHierarchy
from vaekit.models.hierarchical.model import HierarchicalVAE
from vaekit.models.hierarchical.spatial import SpatialHierarchy
from vaekit.spec import by_kind

Groups = Annotated[
    DenseHierarchy | SpatialHierarchy,
    Field(discriminator="kind"),
    by_kind,
]

__all__ = [
    "DenseHierarchy",
    "Groups",
    "HierarchicalVAE",
    "SpatialHierarchy",
]
