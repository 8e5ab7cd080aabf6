"""Priors p(z): specs whose `build` gives a module that returns the distribution of z: see docs/models.md."""

from vaekit.models.priors import *  # noqa: F403
from vaekit.models.priors import __all__ as __all__
