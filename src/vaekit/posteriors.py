"""Families of q(z|x), how their samples are refined, and what one of your own is made from: see docs/models.md."""

from vaekit.models import posteriors
from vaekit.models.families import Family, Head, PosteriorFamily
from vaekit.models.posteriors import *  # noqa: F403

__all__ = ["Family", "Head", "PosteriorFamily"]
__all__ += posteriors.__all__
