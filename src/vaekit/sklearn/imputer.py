"""A VAE as an imputer: missing values, filled from what is observed of each row."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from vaekit.sklearn.estimator import BaseVAE
from vaekit.uses.cells import CellFacts
from vaekit.uses.impute import holes_of

LEVEL = 0.9  # of intervals, which are not given


class VAEImputer(OneToOneFeatureMixin, TransformerMixin, BaseVAE):
    """A variational autoencoder that fills missing values, NaN, from what is observed of their row.

    A missing number becomes its mean under p(x_missing|x_observed), by importance-weighted samples of q(z|x_observed),
    and one of zeros and ones the more probable: see `vaekit.uses.impute`. Observed values stay what they are, and what
    a row is filled with depends on no other row.

    Training maximises an importance-weighted bound of 5 samples on ln p(x_observed), and hides a tenth of the observed
    values from the encoder. Source: Mattei and Frellsen, 2019, arXiv 1812.02633 (MIWAE).

    Args:
        samples: Of q(z|x_observed), for each row.
        latent, widths, likelihood, epochs, settings, random_state, verbose: As of `VAETransformer`.

    Attributes:
        latent_, widths_, likelihood_, n_iter_, n_features_in_, feature_names_in_: As of `VAETransformer`.

    Example:
        >>> import numpy as np
        >>> from vaekit.sklearn import VAEImputer
        >>> x = np.random.default_rng(0).normal(size=(200, 1)) * [1.0, 2.0, 3.0]
        >>> x[::3, 0] = np.nan
        >>> filled = VAEImputer(epochs=20).fit_transform(x)
        >>> bool(np.isnan(filled).any()), bool((filled[1] == x[1]).all())
        (False, True)
    """

    most_epochs: ClassVar[int] = 100
    more_settings: ClassVar[Mapping[str, Any]] = {
        "objective": {"kind": "iwae", "samples": 5},
        "model.input_dropout": 0.1,
        "data.missing": "mask",
    }

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "samples": [Interval(Integral, 1, None, closed="left")],
        **BaseVAE._parameter_constraints,
    }

    def __init__(
        self,
        samples: int = 100,
        latent: int | None = None,
        widths: Any = None,
        likelihood: str | Mapping[str, Any] = "auto",
        epochs: int | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: Any = 0,
        verbose: bool = False,
    ):
        self.samples = samples
        super().__init__(latent, widths, likelihood, epochs, settings, random_state, verbose)

    def fit(self, X: Any, y: Any = None) -> "VAEImputer":
        """Train a model anew, on what is observed.

        Args:
            X: (n, features) array, data frame of numbers or sparse matrix, which is made dense.
            y: Not used.
        """
        self._fit(X, self.epochs)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Rows without missing values.

        A feature of one value in training is filled with that; one that had none there stays missing.

        Args:
            X: As in `fit`.

        Returns:
            (n, features).
        """
        check_is_fitted(self)
        rows = self._rows(X, reset=False)
        missing = np.isnan(rows)
        filled = np.where(missing & ~self._kept, self._constants, rows).astype(rows.dtype, copy=False)
        holed = np.flatnonzero(missing[:, self._kept].any(1))
        if not len(holed):
            return filled
        places, facts, model = np.flatnonzero(self._kept), CellFacts(self._trained.schema), self._double()
        seed, found = self._trained.settings.seed, self._model_rows(rows[holed])
        for at, row in enumerate(holed):
            one = found.at(torch.tensor([at]))
            for holes in holes_of(model, one, facts, self.samples, 0, LEVEL, seed=seed):
                filled[row, places[holes.cells]] = facts.stored(holes.values, holes.cells)
        return filled
