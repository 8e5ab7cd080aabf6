"""A VAE as a detector of anomalies: rows that are odd under it."""

from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import OutlierMixin
from sklearn.utils._param_validation import Interval, StrOptions

from vaekit.sklearn.estimator import BaseVAE
from vaekit.uses.oddness import Judged, Oddness, Reference, reference

LEVEL = 0.01  # share of ordinary rows below the offset, where no other is named


class VAEAnomalyDetector(OutlierMixin, BaseVAE):
    """A variational autoencoder that finds rows that are improbable, among training rows that may hold such ones.

    The score of a row, in nats, is by a statistic: see `score_samples`. A row is an outlier (-1) where its score is
    below `offset_`.

    Args:
        contamination: Share of the training rows that lie below the offset, above 0 and up to 0.5; "auto" puts it
            where the p-value is 0.01: below are so many of the ordinary rows, and the odd ones that stand apart.
        latent, widths, likelihood, epochs, settings, random_state, verbose: As of `VAETransformer`.
        statistic: What rows are scored by. "composite" adds log-densities of single features, which odd rows among
            those of training bend less, and as much of whole rows; "bound" is the bound on ln p(x) alone.

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

    steps: ClassVar[int] = 500  # what is learned first is of many rows, and not of the odd ones
    least_epochs: ClassVar[int] = 5

    _measure: Oddness
    _reference: Reference

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "contamination": [StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")],
        "statistic": [StrOptions({"composite", "bound"})],
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
        statistic: str = "composite",
    ):
        self.contamination, self.statistic = contamination, statistic
        super().__init__(latent, widths, likelihood, epochs, settings, random_state, verbose)

    def fit(self, X: Any, y: Any = None) -> "VAEAnomalyDetector":
        """Train a model anew, and choose the offset by the scores of its rows.

        Args:
            X: (n, features) array, data frame of numbers or sparse matrix, which is made dense.
            y: Not used.
        """
        rows = self._fit(X, self.epochs)
        if self.statistic == "composite":
            trained, model_rows = self._trained, self._model_rows(rows)
            self._measure, self._reference = reference(trained, model_rows, model_rows.take(0), trained.settings.seed)
        scores = self._scores(rows)
        if self.statistic == "bound":
            self._reference = Reference.of(-scores, np.ones(len(scores)))
        if isinstance(self.contamination, str):
            least = 1 / (1 + self._reference.beyond[0])  # of p-values
            self.offset_ = -float(np.nextafter(self._reference.threshold(max(LEVEL, least)), -np.inf))
        else:
            self.offset_ = float(np.quantile(scores, self.contamination))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """The score of each row; the lower, the odder.

        By the statistic "bound" it is the importance-weighted bound on ln p(x), with 64 samples of q(z|x) for each row,
        that share their noise. By "composite" it is the sum of ln p_j(x_j) over features, p_j a kernel density of
        training rows, of such a bound, of 16 samples, and of ln r(x), r a coarse kernel density of rows that the model
        makes; the last two are scaled to vary as much as the first. See `vaekit.uses.oddness`.

        Args:
            X: (n, features) array, data frame or sparse matrix; NaN is a value that is missing.

        Returns:
            (n,), in nats.
        """
        return super().score_samples(X)

    def p_values(self, X: Any) -> np.ndarray:
        """The share of ordinary rows that are at least as odd, (n,), by the training rows.

        By the statistic "composite" those of them that seem to be odd count for less: p-values of ordinary rows are
        uniform as far as odd ones stand apart, and as the model, which has seen them, does not overfit.

        Args:
            X: As in `fit`.
        """
        scores = self.score_samples(X)
        return self._reference.p_values(-scores)

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        if self.statistic == "bound":
            return super()._scores(rows)
        return -self._measure.of(Judged.of(self._trained.model, self._model_rows(rows), self._trained.settings.seed))

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
