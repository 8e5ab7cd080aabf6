"""`fit`: train to the end, with progress shown, and return the trained run."""

import signal
import warnings
from contextlib import closing
from dataclasses import replace
from typing import Any, overload

import torch

from vaekit.data import DataSpec, dataset_of
from vaekit.errors import SpecError
from vaekit.models import VAE, Conditional, HierarchicalVAE
from vaekit.models.families import LikelihoodFamily
from vaekit.objectives import Bound, Elbo, Objective
from vaekit.runs.progress import shown
from vaekit.runs.trained_run import TrainedRun, naming_likelihood
from vaekit.runs.training_run import TrainingRun, stop_signals
from vaekit.runs.tree import Run, in_python_words
from vaekit.training import Train


@overload
def fit(model: Run, data: Any = None, *, progress: bool = True) -> TrainedRun: ...


@overload
def fit(
    model: VAE | HierarchicalVAE,
    data: Any,
    objective: Objective | Bound = ...,
    train: Train = ...,
    valid: Any = ...,
    progress: bool = True,
    *,
    context: Any = None,
    seed: int = 0,
) -> TrainedRun: ...


def fit(
    model: Run | VAE | HierarchicalVAE,
    data: Any = None,
    objective: Objective | Bound = Elbo(),
    train: Train = Train(),
    valid: Any = 0.1,
    progress: bool = True,
    *,
    context: Any = None,
    seed: int = 0,
) -> TrainedRun:
    """Train a model, or all that a run describes, to the end, and return the trained run.

    `fit(run)` opens the run's data, builds its model, trains it, and writes its folder if `run.run_dir` is set.
    `fit(run, data)` trains on rows in memory, which are read, split and scaled as a file of them would be.
    `fit(model, data)` trains modules of your own, in place and from the weights that they have; nothing is written, and
    the rows reach the model as they are given: whole numbers as int64 where the likelihood is over such, else float32.

    The weights are then those of the best validation ELBO, if `train.weights` is best. The model is in evaluation mode.
    Ctrl-C ends training after the step that it is in and returns what was trained so far, with a warning; a second one
    raises KeyboardInterrupt at once.

    Args:
        model: A `Run`, which has all settings; or a `VAE` or `HierarchicalVAE` of any modules, in float32.
        data: rows (n, *shape) in an array, a tensor or a data frame, or a torch `Dataset`, whose items are rows x or
            pairs (x, label); for a run, also a sparse matrix or an iterator of chunks. It is read into memory.
        objective: What is maximised.
        train: How to train.
        valid: Rows for validation, of the same kind; or the share of `data` that validates, as 0.2, drawn with `seed`.
        progress: Show progress on stderr: a bar on a terminal, a line every few epochs elsewhere.
        context: What the model is conditioned on: (n,) labels, which become one-hot, or (n, width) numbers; `"label"`
            takes the labels of a torch `Dataset`. With rows in `valid`, a pair of those of both.
        seed: Of the order of the rows, the noise, and which rows validate.

    Raises:
        TypeError: An argument is not of its kind, or data is missing.
        ValueError: The model does not fit the data or the objective; or none of its weights would move.
        RuntimeError: It is called within `torch.inference_mode()`.
        DataError: The rows cannot be used.
        Diverged: A number that training needs is not finite, again and again.

    Example:
        >>> from vaekit.models import Bernoulli
        >>> model = VAE(
        ...     posterior=Conditional(nn.Linear(8, 4), Gaussian()),
        ...     prior=StandardNormal().build(2),
        ...     likelihood=Conditional(nn.Linear(2, 8), Bernoulli()),
        ... )
        >>> trained = fit(model, torch.ones(100, 8), train=Train(epochs=2), progress=False)
        >>> trained.encode(torch.ones(3, 8)).shape
        (3, 2)
    """
    if not isinstance(model, Run | VAE | HierarchicalVAE):
        raise TypeError(f"fit takes a Run, a VAE or a HierarchicalVAE, not {type(model).__name__}")
    if torch.is_inference_mode_enabled():
        raise RuntimeError("fit computes gradients, which torch.inference_mode() forbids: call it outside of that")
    if isinstance(model, Run):
        if data is not None and model.data.source is not None:
            raise TypeError(
                f"fit(run, data) is given rows, and the run names {model.data.source!r}: leave one of them out"
            )
        if context is not None:
            raise TypeError("fit(run) takes its context from the run: set data.context to a column, or to label")
        return _trained(TrainingRun.start(model, data=data), progress)
    if data is None:
        raise TypeError("fit(model, data) needs data: an array, a tensor, a data frame or a torch Dataset")
    _check_arguments(objective, train, seed)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise SpecError(
            "no weight of the model can be trained: all have requires_grad=False; set it on some", field="model"
        )
    if any(weight.is_inference() for weight in model.parameters()):
        raise SpecError(
            "the model was made within torch.inference_mode(), which forbids gradients: make it outside", field="model"
        )
    if wrong := next((name for name, weight in model.named_parameters() if weight.dtype != torch.float32), None):
        raise TypeError(f"fit trains models in float32, and {wrong} is {model.get_parameter(wrong).dtype}")
    device = next(model.parameters()).device
    spec = replace(_spec_of(model, data), seed=seed)
    run = Run(name="own-modules", about="Modules of one's own, which settings do not describe.", seed=seed, data=spec)
    run = run.model_copy(update={"objective": objective, "train": train})
    with in_python_words():
        with naming_likelihood(model, data, valid):
            dataset = dataset_of(data, spec, valid=valid, context=context)
        training = TrainingRun.of(run, dataset, model)
        try:
            return replace(_trained(training, progress), own_modules=True)
        finally:
            model.to(device)


def _check_arguments(objective: Any, train: Any, seed: Any) -> None:
    """Refuse an objective, a `Train` or a seed that is none, and say what to write."""
    if isinstance(objective, Train):
        raise TypeError("objective is a Train: write fit(model, data, train=Train(...))")
    if isinstance(objective, type) or not isinstance(objective, Bound):
        given = f"the class {objective.__name__}" if isinstance(objective, type) else repr(objective)
        raise TypeError(f"objective is {given}: give an objective that is made, such as Elbo()")
    if not isinstance(train, Train):
        given = f"the class {train.__name__}" if isinstance(train, type) else repr(train)
        raise TypeError(f"train is {given}: give Train(...), as Train(epochs=50)")
    if not isinstance(seed, int) or seed < 0:
        raise SpecError(f"seed is {seed!r}: it should be a whole number, 0 or above", field="seed", value=seed)


def _spec_of(model: VAE | HierarchicalVAE, data: Any) -> DataSpec:
    """The support of rows that are given as they are: whole numbers only where the likelihood is over such."""
    likelihood = model.likelihood
    if not isinstance(likelihood, Conditional):
        values = data if hasattr(data, "dtype") else None
        whole = values is not None and str(values.dtype).rpartition(".")[2].lstrip("u").startswith("int")
        return DataSpec(support="levels" if whole else "real", scale="none")
    head = likelihood.head
    if not isinstance(head, LikelihoodFamily) or not head.integers:
        return DataSpec(support="real", scale="none")
    levels = getattr(head, "levels", None)
    return DataSpec(support="count" if levels is None else "levels", levels=levels, scale="none")


def _trained(training: TrainingRun, progress: bool) -> TrainedRun:
    """Train to the end, or until a signal."""
    run, state = training.run, training.state
    with stop_signals(training) as received, torch.enable_grad(), closing(training.events()) as events:
        for _ in shown(events, run.train, training.log_scale) if progress else events:
            pass
    at = state.at
    if received:
        if received[0] != signal.SIGINT:
            signal.raise_signal(received[0])  # with the handlers as they were
        warnings.warn(
            f"interrupted at step {at.step}, in epoch {at.epoch + 1}: this is what was trained so far", stacklevel=3
        )
    best = run.train.weights == "best" and bool(state.best)
    weights = {"weights": "best" if best else "last", "epoch": f"{at.best_epoch if best else at.epoch}"}
    model = training.model.eval()
    return TrainedRun(run, training.data.schema, model, weights, training.folder, training.data)
