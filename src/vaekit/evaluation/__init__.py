"""From weights to numbers with error bars. What trains and what is reported are never the same code."""

from vaekit.evaluation.blocks import evaluating
from vaekit.evaluation.estimate import Estimate
from vaekit.evaluation.features import (
    Extractor,
    choose_features,
    classifier_features,
    features_of,
    pca_features,
)
from vaekit.evaluation.likelihood import baseline, elbo_rows, evaluate, kl_per_dimension
from vaekit.evaluation.representation import Probe, linear_probe, nearest_neighbours, representation
from vaekit.evaluation.samples import frechet_distance, kid, prdc, sample_quality

__all__ = [
    "Estimate",
    "Extractor",
    "Probe",
    "baseline",
    "choose_features",
    "classifier_features",
    "elbo_rows",
    "evaluate",
    "evaluating",
    "features_of",
    "frechet_distance",
    "kid",
    "kl_per_dimension",
    "linear_probe",
    "nearest_neighbours",
    "pca_features",
    "prdc",
    "representation",
    "sample_quality",
]
