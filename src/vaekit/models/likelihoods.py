"""The families of p(x|z) to choose from."""

from typing import Annotated

from pydantic import Field

from vaekit.models.beta_binomial import BetaBinomial
from vaekit.models.counts import NegativeBinomial, Poisson, ZeroInflated
from vaekit.models.families import (
    Bernoulli,
    CalibratedGaussian,
    Categorical,
    ContinuousBernoulli,
    Gaussian,
    SoftBernoulli,
)
from vaekit.models.heavy_tails import Laplace, StudentT
from vaekit.models.logistic_mixture import LogisticMixture
from vaekit.spec import by_kind

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
    | Poisson
    | NegativeBinomial
    | ZeroInflated,
    Field(discriminator="kind"),
    by_kind,
]
