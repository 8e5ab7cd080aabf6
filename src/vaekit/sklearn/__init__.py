"""Estimators of scikit-learn: a VAE as a transformer, as a detector of anomalies, and as an imputer.

They take arrays, data frames of numbers and sparse matrices, and work wherever scikit-learn takes an estimator:
pipelines, searches, `clone`, `pickle`.
"""

from vaekit.sklearn.anomaly import VAEAnomalyDetector
from vaekit.sklearn.imputer import VAEImputer
from vaekit.sklearn.synthesizer import VAESynthesizer
from vaekit.sklearn.transformer import VAETransformer

__all__ = ["VAEAnomalyDetector", "VAEImputer", "VAESynthesizer", "VAETransformer"]


def __dir__() -> list[str]:
    return __all__
