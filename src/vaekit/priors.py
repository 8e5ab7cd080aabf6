"""Priors p(z): specs whose `build` gives a module that returns the distribution of z: see docs/models.md."""

from vaekit.models import priors
from vaekit.models.building import ALONE, BuildContext
from vaekit.models.priors import *  # noqa: F403

__all__ = ["ALONE", "BuildContext"]
__all__ += priors.__all__
