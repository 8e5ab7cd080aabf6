"""Families of p(x|z), and what one of your own is made from: see docs/models.md."""

from vaekit.models.families import Family, Head, LikelihoodFamily, LikelihoodHead
from vaekit.models.likelihoods import (
    Bernoulli,
    BetaBinomial,
    CalibratedGaussian,
    Categorical,
    ContinuousBernoulli,
    Gaussian,
    Laplace,
    Likelihood,
    LogisticMixture,
    Multinomial,
    NegativeBinomial,
    Poisson,
    SoftBernoulli,
    StudentT,
    ZeroInflated,
)
from vaekit.models.size_factor import SizeFactor

__all__ = [
    "Bernoulli",
    "BetaBinomial",
    "CalibratedGaussian",
    "Categorical",
    "ContinuousBernoulli",
    "Family",
    "Gaussian",
    "Head",
    "Laplace",
    "Likelihood",
    "LikelihoodFamily",
    "LikelihoodHead",
    "LogisticMixture",
    "Multinomial",
    "NegativeBinomial",
    "Poisson",
    "SizeFactor",
    "SoftBernoulli",
    "StudentT",
    "ZeroInflated",
]


def __dir__() -> list[str]:
    return __all__
