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
    NegativeBinomial,
    Poisson,
    SoftBernoulli,
    StudentT,
    ZeroInflated,
)

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
    "NegativeBinomial",
    "Poisson",
    "SoftBernoulli",
    "StudentT",
    "ZeroInflated",
]


def __dir__() -> list[str]:
    return __all__
