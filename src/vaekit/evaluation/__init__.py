"""From weights to numbers with error bars. What trains and what is reported are never the same code."""

from vaekit.evaluation.annealing import Annealed, Annealing, Sandwich, annealed_bound, bidirectional
from vaekit.evaluation.blocks import evaluating
from vaekit.evaluation.disentanglement import disentanglement_scores
from vaekit.evaluation.estimate import Estimate
from vaekit.evaluation.importance import BoundAt, bound_curve
from vaekit.evaluation.latents import aggregate_posterior
from vaekit.evaluation.likelihood import baseline, elbo_rows, evaluate, kl_per_dimension

__all__ = [
    "Annealed",
    "Annealing",
    "BoundAt",
    "Estimate",
    "Sandwich",
    "aggregate_posterior",
    "annealed_bound",
    "baseline",
    "bidirectional",
    "bound_curve",
    "disentanglement_scores",
    "elbo_rows",
    "evaluate",
    "evaluating",
    "kl_per_dimension",
]
