"""The families of p(x|z) to choose from."""

from typing import Annotated

from pydantic import Field

from vaekit.models.counts import NegativeBinomial, Poisson
from vaekit.models.families import (
    Bernoulli,
    CalibratedGaussian,
    Categorical,
    ContinuousBernoulli,
    Gaussian,
    SoftBernoulli,
)
from vaekit.models.heavy_tails import Laplace, StudentT
from vaekit.spec import by_kind

Likelihood = Annotated[
    Bernoulli
    | SoftBernoulli
    | ContinuousBernoulli
    | Categorical
    | Gaussian
    | CalibratedGaussian
    | Laplace
    | StudentT
    | Poisson
    | NegativeBinomial,
    Field(discriminator="kind"),
    by_kind,
]
