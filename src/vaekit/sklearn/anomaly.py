"""A VAE as a detector of anomalies: rows that are improbable under it."""

from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils._param_validation import Interval, StrOptions

from vaekit.sklearn.estimator import BaseVAE

FENCE = 1.5  # interquartile ranges below the lower quartile


class VAEAnomalyDetector(OutlierMixin, BaseVAE):
    """A variational autoencoder that finds rows that are improbable under it.

    The score of a row is a bound on ln p(x), in nats: see `score_samples`. A row is an outlier (-1) where its score is
    below `offset_`.

    Args:
        contamination: Share of the training rows that lie below the offset, above 0 and up to 0.5; "auto" puts it 1.5
            interquartile ranges below the lower quartile of their scores (Tukey's fence).
        latent, widths, likelihood, epochs, settings, random_state, verbose: As of `VAETransformer`.

    Attributes:
        offset_: The least score of an inlier.
        latent_, widths_, likelihood_, n_iter_, n_features_in_, feature_names_in_: As of `VAETransformer`.

    Example:
        >>> import numpy as np
        >>> from vaekit.sklearn import VAEAnomalyDetector
        >>> x = np.random.default_rng(0).normal(size=(200, 3))
        >>> detector = VAEAnomalyDetector(epochs=20).fit(x)
        >>> detector.predict([[0, 0, 0], [9, -9, 9]]).tolist()
        [1, -1]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        **BaseVAE._parameter_constraints,
    }

    def __init__(
        self,
        contamination: str | float = "auto",
        latent: int | None = None,
        widths: Any = None,
        likelihood: str | Mapping[str, Any] = "auto",
        epochs: int | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: Any = 0,
        verbose: bool = False,
    ):
        self.contamination = contamination
        super().__init__(latent, widths, likelihood, epochs, settings, random_state, verbose)

    def fit(self, X: Any, y: Any = None) -> "VAEAnomalyDetector":
        """Train a model anew, and choose the offset by the scores of its rows.

        Args:
            X: (n, features) array, data frame of numbers or sparse matrix, which is made dense.
            y: Not used.
        """
        scores = self._scores(self._fit(X, self.epochs))
        if isinstance(self.contamination, str):
            lower, upper = np.quantile(scores, [0.25, 0.75])
            self.offset_ = float(lower - FENCE * (upper - lower))
        else:
            self.offset_ = float(np.quantile(scores, self.contamination))
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """`score_samples` less `offset_`: below 0 for outliers.

        Args:
            X: As in `fit`.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """1 for inliers, -1 for outliers.

        Args:
            X: As in `fit`.
        """
        return np.where(self.decision_function(X) < 0, -1, 1)
