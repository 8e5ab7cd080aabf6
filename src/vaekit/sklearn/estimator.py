"""What the estimators share: from rows to a `Run`, to a trained model, and to what a model says of rows."""

import copy
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data

from vaekit.data import Dataset, Rows
from vaekit.errors import ConfigError, SpecError
from vaekit.runs import Run, TrainedRun, TrainingRun, make_run, override_in_order, to_tree
from vaekit.runs.progress import shown
from vaekit.runs.tree import ModelSpec
from vaekit.sklearn.files import packed, unpacked
from vaekit.uses.bounds import double_inputs, log_px_bounds
from vaekit.words import counted

SAMPLES = 64  # of z for each row that is scored
ROWS_TO_VALIDATE = 100  # with fewer, all of them train, and nothing stops early
LEAST_BATCH, MOST_BATCH = 16, 128
BATCHES = 16  # of an epoch, between these bounds
STEPS, LEAST_EPOCHS, MOST_EPOCHS = 1500, 20, 40
MOST_LATENT = 32
ROWS_OF_A_LATENT = 10
RATE = 3e-3  # as training is short


class BaseVAE(BaseEstimator):
    """A VAE that scikit-learn trains. Abstract: its subclasses are estimators, and spell out these parameters."""

    beta = 1.0
    steps: ClassVar[int] = STEPS  # of training, if the number of epochs lies between these
    least_epochs: ClassVar[int] = LEAST_EPOCHS
    most_epochs: ClassVar[int] = MOST_EPOCHS
    more_settings: ClassVar[Mapping[str, Any]] = {}  # of the kind of estimator, by path

    n_features_in_: int
    latent_: int
    n_iter_: int
    likelihood_: str
    widths_: tuple[int, ...] | None
    _kept: np.ndarray
    _constants: np.ndarray
    _trained: TrainedRun

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "latent": [Interval(Integral, 1, None, closed="left"), None],
        "widths": ["array-like", None],
        "likelihood": [str, Mapping],
        "epochs": [Interval(Integral, 1, None, closed="left"), None],
        "settings": [Mapping, None],
        "random_state": ["random_state"],
        "verbose": ["boolean"],
    }

    def __init__(
        self,
        latent: int | None,
        widths: Any,
        likelihood: str | Mapping[str, Any],
        epochs: int | None,
        settings: Mapping[str, Any] | None,
        random_state: Any,
        verbose: bool,
    ):
        self.latent = latent
        self.widths = widths
        self.likelihood = likelihood
        self.epochs = epochs
        self.settings = settings
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_trained")

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {**state, "_trained": packed(state["_trained"])} if "_trained" in state else state

    def __setstate__(self, state: dict[str, Any]) -> None:
        trained = {"_trained": unpacked(state["_trained"])} if "_trained" in state else {}
        super().__setstate__({**state, **trained})

    def _fit(self, X: Any, epochs: int | None) -> np.ndarray:
        """Train a model anew on rows, and set what was chosen by them.

        Args:
            X: The rows.
            epochs: Passes over them; None chooses by their number.

        Returns:
            The rows as an array.
        """
        self._validate_params()
        rows = self._rows(X, reset=True)
        seen = np.isfinite(rows)
        low, high = np.where(seen, rows, np.inf).min(0), np.where(seen, rows, -np.inf).max(0)
        kept = low < high
        if not kept.any():
            raise ValueError(
                f"no feature of X varies, of {self.n_features_in_} in {counted(len(rows), 'row')}: give some that do"
            )
        self._kept, self._constants = kept, np.where(seen.any(0), np.where(kept, 0.0, low), np.nan)
        with as_value_errors():
            training = TrainingRun.start(self._run(rows[:, kept], epochs), data=rows[:, kept])
        if training.data.schema.shape != (kept.sum(),):
            raise ValueError(
                f"by these settings x has shape {training.data.schema.shape}, and "
                f"{counted(int(kept.sum()), 'feature varies', 'features vary')}: model all of them, as a table; "
                "data.columns declares what is taken for an identifier"
            )
        self._trained = self._train(training, training.run)
        self.n_iter_ = training.state.at.epoch
        model = training.run.model
        self.latent_ = sum(math.prod(shape) for shape in self._trained.latent_shapes)
        self.likelihood_ = model.likelihood.kind if model.likelihood is not None else ""
        self.widths_ = getattr(model.encoder, "widths", None) if isinstance(model, ModelSpec) else None
        return rows

    def _train_on(self, X: Any, epochs: int) -> None:
        """Train the model that is there for some more passes, over other rows."""
        self._validate_params()
        rows = self._model_rows(self._rows(X, reset=False))
        run = self._trained.settings
        train = replace(run.train, epochs=epochs, patience=None, weights="last")
        run = run.model_copy(update={"train": train, "seed": run.seed + 1})
        model = copy.deepcopy(self._trained.model)
        training = TrainingRun.of(run, Dataset(self._trained.schema, rows, rows, rows), model)
        self._trained = self._train(training, run)
        self.n_iter_ += training.state.at.epoch

    def _train(self, training: TrainingRun, run: Run) -> TrainedRun:
        events = training.events()
        with torch.enable_grad(), closing(events):
            for _ in shown(events, training.run.train, training.log_scale) if self.verbose else events:
                pass
        weights = {"epoch": str(training.state.at.epoch)}
        return TrainedRun(run, training.data.schema, training.model.cpu().eval(), weights)

    def _run(self, rows: np.ndarray, epochs: int | None) -> Run:
        """The settings of a training on rows: the parameters, what they leave open, and `settings` over both."""
        seed = seed_of(self.random_state)
        few = len(rows) < ROWS_TO_VALIDATE
        batch = min(max(len(rows) // BATCHES, LEAST_BATCH), MOST_BATCH)
        train: dict[str, Any] = {"batch_size": batch, "lr": RATE, "compile": "off"}
        if epochs is None:
            epochs = min(max(math.ceil(self.steps / math.ceil(len(rows) / batch)), self.least_epochs), self.most_epochs)
            train |= {} if few else {"patience": epochs // 4}
        model: dict[str, Any] = {"latent": int(self.latent or default_latent(*rows.shape))}
        if self.widths is not None:
            network = {"kind": "mlp", "widths": [int(width) for width in self.widths], "skip": True}
            model |= {"encoder": network, "decoder": network}
        if self.likelihood != "auto":
            model["likelihood"] = self.likelihood
        data: dict[str, Any] = {"layout": "table", "label": "none", "test_fraction": 0.0, "seed": seed}
        tree = {
            "name": type(self).__name__,
            "seed": seed,
            "data": data | ({"valid_fraction": 0.0} if few else {}),
            "model": model,
            "objective": {"kind": "elbo", "beta": float(self.beta)},
            "train": train | {"epochs": int(epochs)},
        }
        words = [f"{path}={as_yaml(value)}" for path, value in {**self.more_settings, **(self.settings or {})}.items()]
        run = make_run(override_in_order(to_tree(make_run(tree)), words))
        return run.model_copy(update={"data": replace(run.data, **_reading(run, rows))})

    def _rows(self, X: Any, reset: bool) -> np.ndarray:
        """X as an array of float32 or float64, with NaN where a value is missing; its features are checked."""
        dtypes = [np.float64, np.float32]
        found: Any = validate_data(
            self,
            X,
            reset=reset,
            accept_sparse="csr",
            dtype=dtypes,
            ensure_all_finite="allow-nan",
            ensure_min_samples=2 if reset else 1,
        )
        return np.array(found.toarray() if hasattr(found, "toarray") else found)

    def _model_rows(self, rows: np.ndarray) -> Rows:
        """Rows of all features as the model takes them."""
        kept = rows[:, self._kept]
        if np.isnan(kept).all():  # rows of which nothing is observed are refused where there are no others
            kept = np.vstack([kept, np.zeros_like(kept[:1])])
        found = self._trained.rows(kept)
        assert isinstance(found, Rows)
        return found.take(len(rows))

    def _double(self) -> Any:
        """A copy of the model in double precision: how its products round then shows in no result."""
        return copy.deepcopy(self._trained.model).double()

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        """A bound on ln p(x) of each row, (n,), in nats, of rows in their own units."""
        trained, found = self._trained, self._model_rows(rows)
        bounds = log_px_bounds(self._double(), double_inputs(found), SAMPLES, trained.settings.seed)
        if not getattr(trained.settings.model.likelihood, "is_score", False):
            bounds = bounds - found.log_scale_of(slice(None))
        return bounds.numpy().astype(np.float64)

    def score_samples(self, X: Any) -> np.ndarray:
        """ln p(x) of each row, as its importance-weighted bound of 64 samples of q(z|x).

        All rows share the noise of z, so that what is said of one depends on no other.

        Args:
            X: (n, features) array, data frame or sparse matrix; NaN is a value that is missing.

        Returns:
            (n,), in nats, of the observed values in their own units.
        """
        check_is_fitted(self)
        return self._scores(self._rows(X, reset=False))


def seed_of(state: Any) -> int:
    """A seed of vaekit, from a `random_state` of scikit-learn."""
    return int(state) if isinstance(state, Integral) else int(check_random_state(state).randint(2**31 - 1))


def default_latent(rows: int, columns: int) -> int:
    """The size of z where it is left open.

    It grows as the square root of twice the number of columns, up to 32, and is at most that of the columns and a tenth
    of that of the rows.

    Args:
        rows: Of training.
        columns: Of these.
    """
    return max(1, min(columns, MOST_LATENT, rows // ROWS_OF_A_LATENT, math.ceil(math.sqrt(2 * columns))))


def _reading(run: Run, rows: np.ndarray) -> dict[str, Any]:
    """How rows are read where settings leave that open.

    As real numbers, or as zeros and ones where they are all such and no likelihood of real numbers is set: whole
    numbers in training rows do not mean that no other will come.
    """
    if run.data.support != "auto":
        return {}
    family = run.model.likelihood
    if family is None:
        if np.isin(rows, (0, 1)).all():
            return {"support": "binary"}
    elif "real" not in family.accepts:
        return {}
    return {"support": "real"} | ({"scale": "standard"} if run.data.scale == "auto" else {})


@contextmanager
def as_value_errors() -> Iterator[None]:
    """Within, wrong settings raise a ValueError, as wrong parameters of other estimators do."""
    try:
        yield
    except ConfigError as error:
        raise SpecError(str(error), field=error.field, value=error.value) from None


def as_yaml(value: Any) -> str:
    """A value as a word of settings has it."""
    return value if isinstance(value, str) else json.dumps(value)
