"""Families of q(z|x), how their samples are refined, and what one of your own is made from: see docs/models.md."""

from vaekit.models.building import BuildContext
from vaekit.models.families import Family, Head, PosteriorFamily
from vaekit.models.posteriors import (
    Anneal,
    BernoulliPosterior,
    CategoricalPosterior,
    Deterministic,
    FlowPosterior,
    FsqPosterior,
    FullGaussian,
    Gaussian,
    Hamiltonian,
    Planar,
    Posterior,
    PowerSpherical,
    Radial,
    VonMisesFisher,
    VqPosterior,
)

__all__ = [
    "Anneal",
    "BernoulliPosterior",
    "BuildContext",
    "CategoricalPosterior",
    "Deterministic",
    "Family",
    "FlowPosterior",
    "FsqPosterior",
    "FullGaussian",
    "Gaussian",
    "Hamiltonian",
    "Head",
    "Planar",
    "Posterior",
    "PosteriorFamily",
    "PowerSpherical",
    "Radial",
    "VonMisesFisher",
    "VqPosterior",
]


def __dir__() -> list[str]:
    return __all__
