"""From weights to numbers with error bars. What trains and what is reported are never the same code."""

from vaekit.evaluation.annealing import Annealed, Annealing, Sandwich, annealed_bound, bidirectional
from vaekit.evaluation.blocks import evaluating, fingerprint
from vaekit.evaluation.disentanglement import disentanglement_scores
from vaekit.evaluation.estimate import Estimate
from vaekit.evaluation.features import Extractor, choose_features, classifier_features, features_of, pca_features
from vaekit.evaluation.importance import BoundAt, bound_curve
from vaekit.evaluation.latents import aggregate_posterior
from vaekit.evaluation.likelihood import baseline, bound_rows, evaluate, kl_per_dimension, kl_per_group
from vaekit.evaluation.representation import Probe, linear_probe, nearest_neighbours, representation
from vaekit.evaluation.samples import frechet_distance, kid, prdc, sample_quality
from vaekit.evaluation.units import in_stored_units

__all__ = [
    "Annealed",
    "Annealing",
    "BoundAt",
    "Estimate",
    "Extractor",
    "Probe",
    "Sandwich",
    "aggregate_posterior",
    "annealed_bound",
    "baseline",
    "bidirectional",
    "bound_curve",
    "bound_rows",
    "choose_features",
    "classifier_features",
    "disentanglement_scores",
    "evaluate",
    "evaluating",
    "features_of",
    "fingerprint",
    "frechet_distance",
    "in_stored_units",
    "kid",
    "kl_per_dimension",
    "kl_per_group",
    "linear_probe",
    "nearest_neighbours",
    "pca_features",
    "prdc",
    "representation",
    "sample_quality",
]
