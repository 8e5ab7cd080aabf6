"""Families of p(x|z), and what one of your own is made from: see docs/models.md."""

from vaekit.models import likelihoods
from vaekit.models.families import Family, Head, LikelihoodFamily, LikelihoodHead
from vaekit.models.likelihoods import *  # noqa: F403

__all__ = ["Family", "Head", "LikelihoodFamily", "LikelihoodHead"]
__all__ += likelihoods.__all__
