"""The kinds of ladder to choose from."""

from typing import Annotated

from pydantic import Field

from vaekit.models.dense_ladder import Dense
from vaekit.models.spatial_ladder import Spatial
from vaekit.spec import by_kind

Groups = Annotated[Dense | Spatial, Field(discriminator="kind"), by_kind]
