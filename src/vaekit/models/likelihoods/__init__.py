"""Families of p(x|z): each turns the raw numbers of a decoder into a distribution of x."""

from typing import Annotated

from vaekit.models.likelihoods.autoregressive_columns import AutoregressiveColumns
from vaekit.models.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli, SoftBernoulli
from vaekit.models.likelihoods.beta_binomial import BetaBinomial
from vaekit.models.likelihoods.categorical import Categorical
from vaekit.models.likelihoods.columns import Columns
from vaekit.models.likelihoods.count_mixture import CountMixture
from vaekit.models.likelihoods.counts import NegativeBinomial, Poisson, ZeroInflated
from vaekit.models.likelihoods.gaussian import CalibratedGaussian, Gaussian
from vaekit.models.likelihoods.heavy_tails import CalibratedStudentT, Laplace, StudentT
from vaekit.models.likelihoods.log_normal import LogNormal
from vaekit.models.likelihoods.logistic_mixture import LogisticMixture
from vaekit.models.likelihoods.multinomial import Multinomial
from vaekit.registry import choice

Likelihood = Annotated[
    Bernoulli
    | SoftBernoulli
    | ContinuousBernoulli
    | Categorical
    | BetaBinomial
    | LogisticMixture
    | Gaussian
    | CalibratedGaussian
    | Laplace
    | StudentT
    | CalibratedStudentT
    | Poisson
    | NegativeBinomial
    | ZeroInflated
    | Multinomial
    | CountMixture
    | Columns
    | AutoregressiveColumns,
    choice("likelihoods"),
]

__all__ = [
    "AutoregressiveColumns",
    "Bernoulli",
    "BetaBinomial",
    "CalibratedGaussian",
    "CalibratedStudentT",
    "Categorical",
    "Columns",
    "ContinuousBernoulli",
    "CountMixture",
    "Gaussian",
    "Laplace",
    "Likelihood",
    "LogNormal",
    "LogisticMixture",
    "Multinomial",
    "NegativeBinomial",
    "Poisson",
    "SoftBernoulli",
    "StudentT",
    "ZeroInflated",
]
