"""A VAE as a synthesiser: new rows that are like those of a table."""

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from vaekit.data import Rows
from vaekit.data.columns import listing
from vaekit.data.in_memory import is_frame
from vaekit.errors import DataError
from vaekit.runs import Run, TrainingRun, make_run, override_in_order, preset_tree
from vaekit.sklearn.estimator import (
    BATCHES,
    LEAST_BATCH,
    MOST_EPOCHS,
    ROWS_TO_VALIDATE,
    STEPS,
    BaseVAE,
    as_value_errors,
    as_yaml,
    seed_of,
)
from vaekit.sklearn.frames import Layout
from vaekit.uses.bounds import double_inputs, log_px_bounds
from vaekit.uses.synthesise import synthesise

LEAST_EPOCHS = 15
SAMPLES = 16  # of z for each row that is scored: it says little beside the columns


class VAESynthesizer(BaseVAE):
    """A variational autoencoder that makes rows like those of a table, of numbers, texts, categories, dates and holes.

    It is trained by the preset `synthetic`: columns are drawn in turn, each given z and those before it, and so is what
    is missing. Columns of free text, or of identifiers that are another text in every row, are not learned, and are
    empty in samples.

    Args:
        latent: Dimensions of z; None takes those of the preset.
        epochs: Passes over the rows. None chooses by their number. Of 100 rows or more, a tenth validates: the weights
            that are best there are kept.
        settings: Any other settings of a `Run`, path to value, as {"train.lr": 0.001}.
        random_state: Of first weights, the order of rows and noise.
        verbose: Whether progress is shown on stderr.

    Attributes:
        latent_: Dimensions of z.
        n_iter_: Passes over the rows that were made.
        n_features_in_: Number of features.
        feature_names_in_: Their names, where all are texts.

    Example:
        >>> import numpy as np, pandas as pd
        >>> from vaekit.sklearn import VAESynthesizer
        >>> noise = np.random.default_rng(0)
        >>> age = noise.integers(18, 80, 200)
        >>> frame = pd.DataFrame({"age": age, "status": np.where(age > 60, "retired", "at work")})
        >>> synthesizer = VAESynthesizer(epochs=20).fit(frame)
        >>> made = synthesizer.sample(100)
        >>> made.shape, list(made.columns), bool((made.dtypes == frame.dtypes).all())
        ((100, 2), ['age', 'status'], True)
        >>> sorted(synthesizer.sample(5, given={"status": "retired"})["status"].unique())
        ['retired']
    """

    def __init__(
        self,
        latent: int | None = None,
        epochs: int | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: Any = 0,
        verbose: bool = False,
    ):
        super().__init__(latent, None, "auto", epochs, settings, random_state, verbose)

    def fit(self, X: Any, y: Any = None) -> "VAESynthesizer":
        """Train a model anew.

        Args:
            X: (n, features): a data frame of pandas or polars, a table of Arrow, an array, or a sparse matrix, which is
                made dense; NaN or null where a value is missing.
            y: Not used.
        """
        self._validate_params()
        rows = self._checked(X, reset=True)
        self._layout = Layout.of(rows)
        table = self._layout.table(rows)
        with as_value_errors():
            training = TrainingRun.start(self._settings(table), data=table)
        self._trained = self._train(training, training.run)
        self.n_iter_ = training.state.at.epoch
        self.latent_ = sum(int(np.prod(shape)) for shape in self._trained.latent_shapes)
        schema = self._trained.schema
        if left := [name for at, name in enumerate(self._layout.names) if f"c{at}" not in schema.order]:
            warnings.warn(
                f"not learned, and empty in samples: {listing([repr(name) for name in left])} (free text, or "
                "identifiers, or nothing at all)",
                stacklevel=2,
            )
        return self

    def sample(self, n_samples: int = 1, given: Mapping[Any, Any] | None = None, random_state: Any = None) -> Any:
        """New rows, of the kind that the model was trained on: with its columns, their types and categories.

        Args:
            n_samples: How many.
            given: Values of columns, by name, or by number in an array: what other columns are likely to be beside
                them is drawn.
            random_state: Of the noise; None takes that of the estimator, so that the rows are the same each time.

        Returns:
            (n_samples, features), a frame or an array, with NaN or null where a value is missing.

        Raises:
            DataError: There is no such column, or its values cannot be this, or hardly ever are.
        """
        check_is_fitted(self)
        seed = self._trained.settings.seed if random_state is None else seed_of(random_state)
        texts = {f"c{self._place_of(name)}": self._text(name, value) for name, value in (given or {}).items()}
        x = synthesise(self._trained, n_samples, given=texts, seed=seed)
        return self._layout.rows(self._trained.schema.to_table(x.cpu().numpy()))

    def score_samples(self, X: Any) -> np.ndarray:
        """ln p(x) of each row, as its importance-weighted bound of 16 samples of q(z|x).

        What is missing of a row is a part of it. All rows share the noise of z, so that what is said of one depends on
        no other.

        Args:
            X: As in `fit`.

        Returns:
            (n,), in nats, of values in their own units.
        """
        check_is_fitted(self)
        table = self._layout.table(self._checked(X, reset=False))
        trained = self._trained
        found = trained.rows(table.select(list(trained.schema.columns or ())))
        assert isinstance(found, Rows)
        bounds = log_px_bounds(self._double(), double_inputs(found), SAMPLES, trained.settings.seed)
        return (bounds - found.log_scale_of(slice(None))).numpy().astype(np.float64)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`, in nats per row.

        Args:
            X: As in `fit`.
            y: Not used.
        """
        return float(self.score_samples(X).mean())

    def _checked(self, X: Any, reset: bool) -> Any:
        """X as a frame, or as an array of numbers; its features are checked."""
        if is_frame(X):
            validate_data(self, X, reset=reset, skip_check_array=True)
            if reset and len(X) < 2:
                raise ValueError(f"Found {len(X)} sample(s), and a minimum of 2 is required by VAESynthesizer.")
            return X
        found: Any = validate_data(
            self,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype="numeric",
            ensure_all_finite="allow-nan",
            ensure_min_samples=2 if reset else 1,
        )
        return np.asarray(found.toarray() if hasattr(found, "toarray") else found)

    def _settings(self, table: Any) -> Run:
        """The settings of a training: the preset, the parameters, and `settings` over both."""
        seed, rows = seed_of(self.random_state), len(table)
        few = rows < ROWS_TO_VALIDATE
        tree: Any = preset_tree("synthetic")
        most = tree["train"]["batch_size"]
        tree["name"], tree["seed"] = type(self).__name__, seed
        counting = {f"c{at}": {"kind": "real"} for at, cells in enumerate(table.columns) if _counts_rows(cells)}
        tree["data"] |= {"layout": "table", "test_fraction": 0.0, "seed": seed, "columns": counting}
        tree["data"] |= {"valid_fraction": 0.0} if few else {}
        tree["model"] |= {} if self.latent is None else {"latent": int(self.latent)}
        batch = min(max(rows // BATCHES, LEAST_BATCH), most)
        tree["train"] |= {"batch_size": batch}
        epochs = self.epochs
        if epochs is None:  # of few rows no validation says when to stop
            epochs = max(LEAST_EPOCHS, math.ceil(STEPS / math.ceil(rows / batch)))
            epochs = min(epochs, MOST_EPOCHS) if few else epochs
            tree["train"] |= {} if few else {"patience": max(5, epochs // 4)}
        tree["train"] |= {"epochs": int(epochs)}
        words = [f"{path}={as_yaml(value)}" for path, value in (self.settings or {}).items()]
        return make_run(override_in_order(tree, words))

    def _place_of(self, name: Any) -> int:
        if name not in self._layout.names:
            raise DataError(
                f"there is no column {name!r}: these are {listing([repr(one) for one in self._layout.names])}",
                field="given",
                value=name,
            )
        return self._layout.names.index(name)

    def _text(self, name: Any, value: Any) -> str:
        """A value of a column as settings and schemas have it."""
        place = self._place_of(name)
        if place in self._layout.times:
            import pyarrow as pa

            times = self._layout.times[place]
            value = times.numbers(pa.array([value]).cast(times.kind))[0].as_py()
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _counts_rows(cells: Any) -> bool:
    """Whether numbers count the rows, which would be taken for identifiers."""
    import pyarrow as pa

    if cells.null_count or not (pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type)):
        return False
    values = cells.to_numpy()
    return len(values) > 2 and bool((values == values[0] + np.arange(len(values))).all())
