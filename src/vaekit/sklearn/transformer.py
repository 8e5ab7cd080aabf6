"""A VAE as a transformer: rows to codes, codes to rows, and the density of rows."""

from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from vaekit.evaluation.blocks import evaluating
from vaekit.models.generative import in_blocks
from vaekit.randomness import Purpose, new_generator
from vaekit.runs import posterior_moments
from vaekit.sklearn.estimator import BaseVAE
from vaekit.uses.bounds import double_inputs
from vaekit.words import counted


class VAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseVAE):
    """A variational autoencoder that turns rows into codes, and knows a density of rows.

    Rows are standardised, features that do not vary are set aside, and NaN is a missing value, which the likelihood
    leaves out. What a row is turned into depends on no other row, and equal calls give equal numbers.

    Args:
        latent: Dimensions of z; None chooses by rows and features, at most 32.
        widths: Of the hidden layers of encoder and decoder; None chooses by the rows.
        likelihood: Family of p(x|z), by its kind, as "gaussian", or as a mapping with its settings; "auto" takes
            Bernoulli for zeros and ones, else Student's t with a scale for each feature.
        beta: Weight of the KL.
        epochs: Passes over the rows. None takes 20 to 40, by their number. Of 100 rows or more, a tenth validates:
            training stops where that no longer improves, and the best weights are kept.
        settings: Any other settings of a `Run`, path to value, as {"train.lr": 0.01, "model.prior": "vamp"}.
        random_state: Of first weights, the order of rows and noise.
        verbose: Whether progress is shown on stderr.

    Attributes:
        latent_: Dimensions of z.
        widths_: Of the hidden layers; None where the networks have none.
        likelihood_: Kind of the likelihood.
        n_iter_: Passes over the rows that were made.
        n_features_in_: Number of features.
        feature_names_in_: Their names, where all are texts.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.linear_model import LogisticRegression
        >>> from vaekit.sklearn import VAETransformer
        >>> x, y = load_iris(return_X_y=True)
        >>> codes = VAETransformer(latent=2, epochs=20).fit(x)
        >>> codes.transform(x).shape, codes.score_samples(x).shape
        ((150, 2), (150,))
        >>> make_pipeline(VAETransformer(epochs=20), LogisticRegression()).fit(x, y).predict(x).shape
        (150,)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseVAE._parameter_constraints,
        "beta": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        latent: int | None = None,
        widths: Any = None,
        likelihood: str | Mapping[str, Any] = "auto",
        beta: float = 1.0,
        epochs: int | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: Any = 0,
        verbose: bool = False,
    ):
        self.beta = beta
        super().__init__(latent, widths, likelihood, epochs, settings, random_state, verbose)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: Any = None) -> "VAETransformer":
        """Train a model anew.

        Args:
            X: (n, features) array, data frame of numbers or sparse matrix, which is made dense.
            y: Not used.
        """
        self._fit(X, self.epochs)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> "VAETransformer":
        """Train on some more rows: `epochs` passes over them, or one.

        The first call begins a model, and its rows decide the scaling and all that is chosen by the data; later ones go
        on from the weights, with the optimiser begun anew.

        Args:
            X: As in `fit`.
            y: Not used.
        """
        if not hasattr(self, "_trained"):
            self._fit(X, self.epochs or 1)
        else:
            self._train_on(X, self.epochs or 1)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Codes of rows: the mean of q(z|x), or the most probable value of a discrete z.

        Args:
            X: As in `fit`.

        Returns:
            (n, latent_).
        """
        check_is_fitted(self)
        rows, model = self._rows(X, reset=False), self._double()

        def means(x: torch.Tensor, mask: torch.Tensor | None = None) -> tuple[torch.Tensor]:
            return posterior_moments(model, x, None, mask)[:1]

        with evaluating(model):
            (codes,) = in_blocks(means, **double_inputs(self._model_rows(rows)))
        return codes.numpy().astype(rows.dtype, copy=False)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Rows for codes: the mean of p(x|z), in the units of the rows that were trained on.

        Args:
            X: (n, latent_).

        Returns:
            (n, features).
        """
        check_is_fitted(self)
        codes = check_array(X, dtype=[np.float64, np.float32])  # pyright: ignore[reportArgumentType]
        if codes.shape[1] != self.latent_:
            raise ValueError(f"X has {counted(codes.shape[1], 'feature')}, and the codes have {self.latent_}")
        model, shapes = self._double(), self._trained.latent_shapes
        sizes = [int(np.prod(shape)) for shape in shapes]

        def decoded(z: torch.Tensor) -> tuple[torch.Tensor]:
            parts = zip(z.split(sizes, 1), shapes, strict=True)
            return (model.decode([part.unflatten(1, shape) for part, shape in parts]).mean,)

        with evaluating(model):
            (x,) = in_blocks(decoded, torch.tensor(codes, dtype=torch.float64))
        return self._stored(x).astype(codes.dtype, copy=False)

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """New rows: z from the prior, then x from p(x|z).

        Args:
            n_samples: How many.
            random_state: Of the noise; None takes that of the estimator, so that the rows are the same each time.

        Returns:
            (n_samples, features).
        """
        check_is_fitted(self)
        seed = self._trained.settings.seed
        if random_state is not None:
            seed = int(check_random_state(random_state).randint(2**31 - 1))
        generator = new_generator(seed, Purpose.GENERATE)
        model = self._double()
        with evaluating(model):
            return self._stored(model.generate(n_samples, generator=generator))

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`, in nats per row.

        Args:
            X: As in `fit`.
            y: Not used.
        """
        return float(self.score_samples(X).mean())

    @property
    def _n_features_out(self) -> int:
        return self.latent_

    def _stored(self, x: torch.Tensor) -> np.ndarray:
        """Rows x of the features that vary as rows of all of them, in their own units."""
        rows = np.tile(self._constants, (len(x), 1))
        rows[:, self._kept] = self._trained.schema.to_array(x.numpy().astype(np.float64))
        return rows
