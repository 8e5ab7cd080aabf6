"""Families of q(z|x), and how their samples are refined: see docs/models.md."""

from vaekit.models.posteriors import *  # noqa: F403
from vaekit.models.posteriors import __all__ as __all__
