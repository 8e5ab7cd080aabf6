"""Families of p(x|z), and what one of your own is made from: see docs/models.md."""

from vaekit.models.building import BuildContext
from vaekit.models.families import Family, Head, LikelihoodFamily, LikelihoodHead
from vaekit.models.likelihoods import (
    AutoregressiveColumns,
    Bernoulli,
    BetaBinomial,
    CalibratedGaussian,
    CalibratedStudentT,
    Categorical,
    Columns,
    ContinuousBernoulli,
    CountMixture,
    Gaussian,
    Laplace,
    Likelihood,
    LogisticMixture,
    LogNormal,
    Multinomial,
    NegativeBinomial,
    Poisson,
    SoftBernoulli,
    StudentT,
    ZeroInflated,
)
from vaekit.models.size_factor import SizeFactor

__all__ = [
    "AutoregressiveColumns",
    "Bernoulli",
    "BetaBinomial",
    "BuildContext",
    "CalibratedGaussian",
    "CalibratedStudentT",
    "Categorical",
    "Columns",
    "ContinuousBernoulli",
    "CountMixture",
    "Family",
    "Gaussian",
    "Head",
    "Laplace",
    "Likelihood",
    "LikelihoodFamily",
    "LikelihoodHead",
    "LogNormal",
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
