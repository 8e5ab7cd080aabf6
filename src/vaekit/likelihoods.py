"""Families of p(x|z), and of the values that they take: see docs/models.md."""

from vaekit.models.likelihoods import *  # noqa: F403
from vaekit.models.likelihoods import __all__ as __all__
