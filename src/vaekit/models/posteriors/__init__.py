"""Families of q(z|x): each turns the raw numbers of an encoder into a distribution of z."""

from typing import Annotated

from vaekit.models.likelihoods.gaussian import Gaussian
from vaekit.models.posteriors.deterministic import Deterministic
from vaekit.models.posteriors.directions import PowerSpherical, VonMisesFisher
from vaekit.models.posteriors.discrete import Anneal, BernoulliPosterior, CategoricalPosterior
from vaekit.models.posteriors.flow import FlowPosterior
from vaekit.models.posteriors.full_gaussian import FullGaussian
from vaekit.models.posteriors.hamiltonian import Hamiltonian
from vaekit.models.posteriors.planar import Planar, Radial
from vaekit.models.posteriors.quantised import FsqPosterior, VqPosterior
from vaekit.registry import choice

Posterior = Annotated[
    Gaussian
    | FullGaussian
    | FlowPosterior
    | Planar
    | Radial
    | VonMisesFisher
    | PowerSpherical
    | Deterministic
    | CategoricalPosterior
    | BernoulliPosterior
    | VqPosterior
    | FsqPosterior,
    choice("posteriors"),
]

__all__ = [
    "Anneal",
    "BernoulliPosterior",
    "CategoricalPosterior",
    "Deterministic",
    "FlowPosterior",
    "FsqPosterior",
    "FullGaussian",
    "Gaussian",
    "Hamiltonian",
    "Planar",
    "Posterior",
    "PowerSpherical",
    "Radial",
    "VonMisesFisher",
    "VqPosterior",
]
