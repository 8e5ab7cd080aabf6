"""Distributions that torch lacks, or does not compute stably: what p(x|z), q(z|x) and p(z) are made of."""

from vaekit.models.distributions.base import Mass, Summed, Unchecked, independent, unwrapped
from vaekit.models.distributions.bernoulli import (
    Bernoulli,
    ContinuousBernoulli,
    SoftBernoulli,
    log_normaliser,
    logits_of_mean,
)
from vaekit.models.distributions.categorical import Categorical
from vaekit.models.distributions.cells import cell_log_prob, factorises, observed_log_prob
from vaekit.models.distributions.delta import Delta
from vaekit.models.distributions.histogram import Histogram
from vaekit.models.distributions.support import check_values, in_words, measure, support_of

__all__ = [
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "Delta",
    "Histogram",
    "Mass",
    "SoftBernoulli",
    "Summed",
    "Unchecked",
    "cell_log_prob",
    "check_values",
    "factorises",
    "in_words",
    "independent",
    "log_normaliser",
    "logits_of_mean",
    "measure",
    "observed_log_prob",
    "support_of",
    "unwrapped",
]
