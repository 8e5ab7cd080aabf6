"""A trained run: its settings, data and model, read back from its folder or returned by `fit`."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from vaekit.data import (
    Dataset,
    DataSpec,
    Interactions,
    Mixed,
    Rows,
    Schema,
    StreamedRows,
    array_of,
    context_like,
    open_interactions,
    read_like,
    rows_like,
)
from vaekit.errors import ConfigError, DataError, ModelFileError, NotApplicable, SpecError, VaekitError
from vaekit.evaluation import Estimate, evaluate, evaluating, fingerprint
from vaekit.models import VAE, Conditional, HierarchicalVAE
from vaekit.models.distributions.codes import centre
from vaekit.models.generative import in_blocks
from vaekit.models.parameters import Shape
from vaekit.processes import World
from vaekit.randomness import Purpose, new_generator
from vaekit.registry import GROUPS, kinds
from vaekit.runs.config import make_run, parse_yaml
from vaekit.runs.factory import build_model, log_scale_of, open_data
from vaekit.runs.memory import check_memory
from vaekit.runs.tree import Run, in_python_words, naming_settings
from vaekit.runs.validation import check_likelihood, samples_are_conditional
from vaekit.setting_errors import short
from vaekit.training import RunFolder, check_alike, read_weights, refuse_newer, weights_wanted
from vaekit.uses import (
    Recommended,
    differential_expression,
    expression,
    impute,
    recommend,
    score,
    synthesise,
)

_CONTEXTS = 20_000  # training rows, of which new ones have the context
# Buffers that runs of older versions lack, which stand for their data's own units there, as in a new model.
_LATER = ("likelihood.units.loc", "likelihood.units.scale", "likelihood.head.least", "posterior.transform.loc")
_LATER += ("posterior.transform.scale",)
ROWS_AT_A_TIME = 4096


@dataclass(frozen=True, repr=False)
class TrainedRun:
    """A trained model with the settings and the data that it comes from.

    Its methods take rows as they are stored in the data, and give rows in the same units: what was scaled for the model
    is scaled back.

    Attributes:
        settings: The settings that it was trained with. Of modules of one's own, `settings.model` is a default and
            describes nothing.
        schema: What is known of its data: shape, support, scaling, names.
        model: The model, in evaluation mode.
        weights: Which weights they are, as text: `weights` is best or last, and `epoch`, `step` say of when.
        written_to: Its run folder; None where none was written.
        dataset: The data that it was trained on, where that is in memory already.
        own_modules: Whether its model is made of modules of one's own, which no settings describe.
    """

    settings: Run
    schema: Schema
    model: VAE | HierarchicalVAE
    weights: dict[str, str]
    written_to: RunFolder | None = None
    dataset: Dataset | None = None
    own_modules: bool = False

    def __repr__(self) -> str:
        """The model, its weights, its data and its folder, in a line each."""
        size = sum(weight.numel() for weight in self.model.parameters())
        weights = ", ".join(f"{name} {value}" for name, value in self.weights.items() if name != "weights")
        rows = "" if self.dataset is None else f", {len(self.dataset.train)} for training"
        return (
            "TrainedRun(\n"
            f"  model: {type(self.model).__name__} of {size:,} parameters\n"
            f"  weights: {self.weights.get('weights', '')}, {weights}\n"
            f"  data: {self.schema.name}, rows of shape {tuple(self.schema.shape)}{rows}\n"
            f"  folder: {'none' if self.written_to is None else self.written_to.path}\n"
            ")"
        )

    @property
    def folder(self) -> RunFolder:
        """Its run folder.

        Raises:
            ValueError: It was trained without one.
        """
        if self.written_to is None and self.own_modules:
            raise ValueError(
                "a model of your own modules is not written to a folder: keep it with "
                "torch.save(trained.model.state_dict(), path)"
            )
        if self.written_to is None:
            raise ValueError("this run was not written to a folder: fit a Run with run_dir set")
        return self.written_to

    def data(self) -> Dataset:
        """The data that it was trained on: training, validation and test rows, split and scaled as then.

        Raises:
            DataError: It is gone, or has changed.
        """
        return reopen(self) if self.dataset is None else self.dataset

    def rows(self, data: Any = None, context: Any = None) -> Rows | StreamedRows:
        """Rows as the model takes them: its own test rows, or other ones.

        Args:
            data: Rows as they are stored, in an array, a tensor or a data frame, (n, *shape), or in a torch `Dataset`;
                the name or path of other data; or rows of a split, which are taken as they are.
            context: For a model that takes a context, (n,) labels, or (n, columns) cells as they are stored, or a
                mapping from names of columns to these; data that is named, or a split, brings its own.

        Raises:
            DataError: They are not such rows.
        """
        return self._rows(data, context, self.settings.data, self.schema)

    def _rows(self, data: Any, context: Any, spec: DataSpec, schema: Schema) -> Rows | StreamedRows:
        if data is None:
            return _some(self.data().test)
        if isinstance(data, str | Path):
            with naming_settings():
                return read_like(str(data), spec, schema, self.settings.limit)
        if isinstance(data, Rows | StreamedRows):
            return data
        if isinstance(data, TorchDataset | DataLoader):
            data = array_of(data)
        if self.own_modules:
            with in_python_words(), naming_likelihood(self.model, data):
                return rows_like(data, spec, schema, context)
        with naming_settings():
            return rows_like(data, spec, schema, context)

    def rows_to_encode(self, data: Any = None, context: Any = None) -> Rows | StreamedRows:
        """`rows`, which need no context where the encoder is given none: see `DataSpec.context_to`."""
        spec = self.settings.data
        if "encoder" in spec.context_to:
            return self.rows(data, context)
        spec, schema = replace(spec, context=(), size_factor="none"), replace(self.schema, context=None)
        return self._rows(data, None, spec, schema)

    def evaluate(
        self, data: Any = None, samples: int = 64, *, context: Any = None, seed: int = 0
    ) -> dict[str, Estimate]:
        """Bounds on ln p(x) of rows as they are stored, in nats, with standard errors: see `vaekit.evaluate`.

        Args:
            data: See `rows`; by default the run's own test rows.
            samples: K, samples of z for each row.
            context: See `rows`.
            seed: Of the noise.
        """
        return evaluate(self.model, self.rows(data, context).to(self._device), samples, seed=seed)

    def encode(self, data: Any = None, *, context: Any = None) -> np.ndarray:
        """Codes of rows: the mean of q(z|x) of each, or the most probable value of a discrete z.

        Args:
            data: See `rows`; by default the run's own test rows.
            context: See `rows`.

        Returns:
            (n, latent), all groups of latents side by side.
        """

        def means(x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor]:
            return posterior_moments(self.model, x, context, mask)[:1]

        return self._over(means, self.rows_to_encode(data, context))

    def reconstruct(self, data: Any = None, *, context: Any = None) -> Any:
        """The mean of p(x|z) at the code of each row (see `encode`), as the data is stored.

        Of a category it is the most probable one. Cells that were missing are filled; columns of the context are those
        of the rows.

        Args:
            data: See `rows`; by default the run's own test rows.
            context: See `rows`.

        Returns:
            As `sample`.
        """

        def means(x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor]:
            code = self.model.encode(x, context, mask) if mask is not None else self.model.encode(x, context)
            return (self.model.decode([centre(q) for q in code.posteriors], context).mean,)

        rows = self.rows(data, context)
        return self._as_stored(self._over(means, rows), rows.context_of(slice(None)))

    def sample(
        self,
        n: int,
        *,
        context: Any = None,
        given: Mapping[str, Any] | None = None,
        seed: int = 0,
        mean: bool = False,
    ) -> Any:
        """New rows from the model, as the data is stored: z from the prior, then x from p(x|z).

        Args:
            n: Number of rows.
            context: For a model that takes a context, as in `rows`; by default that of training rows at random, if it
                is columns of a table, and else every label in turn.
            given: Values of columns of a table, by name, that all rows have: see `vaekit.uses.synthesise`.
            seed: Of the noise; the first rows of many are those of few.
            mean: Give the mean of p(x|z) in place of a sample of it.

        Returns:
            An array (n, ...) with the axes and in the units of the data; of a table whose columns are of several kinds,
            a `pyarrow.Table` with their names and types, of which `.to_pandas()` makes a data frame; those of the
            context are among its columns.

        Raises:
            DataError: The training rows are needed for their context, and are gone.
        """
        if given:
            texts = {name: str(value) for name, value in given.items()}
            return self._as_stored(synthesise(self, n, given=texts, seed=seed).cpu().numpy())
        beside = context_like(context, self.schema, n) if context is not None else self.contexts(n, seed)
        beside = None if beside is None else beside.to(self._device, torch.float32)
        generator = new_generator(seed, Purpose.GENERATE, device=self._device)
        with evaluating(self.model):
            x = self.model.generate(n, generator=generator, mean=mean, context=beside)
        return self._as_stored(x.cpu().numpy(), beside)

    def contexts(self, n: int, seed: int = 0, data: str | None = None) -> Tensor | None:
        """The context (n, width) that n new rows have where none is given; None for a model without.

        That of training rows, drawn at random, where `draws_contexts`; else every label in turn, or the same for all.

        Args:
            n: How many.
            seed: Of the draw; the first of many are those of few.
            data: Where the training data lies now; by default where it lay then.

        Raises:
            DataError: The training rows are gone, or have changed.
        """
        if not self.draws_contexts:
            return None if self.schema.context is None else torch.from_numpy(self.schema.context.examples(n))
        try:
            rows = (self.data() if data is None else reopen(self, data)).train
        except DataError as error:
            raise DataError(
                f"new rows have the context of training rows unless it is given: {error}", field=error.field
            ) from None
        some = rows.context_of(rows.some(_CONTEXTS))
        assert some is not None
        return some.cpu()[torch.randint(len(some), (n,), generator=new_generator(seed, Purpose.GENERATED_CONTEXTS))]

    @property
    def draws_contexts(self) -> bool:
        """Whether new rows have the context of training rows, so that both together are as the data.

        So it is where the context is columns of a table, and what is generated depends on it.
        """
        context = self.schema.context
        of_columns = context is not None and len(context.fields) > 0 and self.schema.kind == "table"
        return of_columns and samples_are_conditional(self.settings)

    # uses that take rows as they are, with the run as their first argument
    impute = impute
    score = score
    expression = expression
    differential_expression = differential_expression

    def interactions(
        self, data: str | Path | None = None, users: Sequence[str] | None = None, other_items: bool = False
    ) -> Interactions:
        """The interactions in a table of users and items, over the items of the run: see `vaekit.uses.recommend`.

        Args:
            data: Its path; by default the run's own data, all of it.
            users: Those that are wanted, in this order; by default those that occur.
            other_items: Whether items that the run does not know come after its own; else they are left out.

        Raises:
            NotApplicable: The run's data is no table of interactions.
            DataError: The table cannot be read, or is none of interactions.
        """
        spec = self.settings.data
        if spec.rows is None:
            raise NotApplicable(
                f"{self.schema.name} is no table of interactions of users with items: train a run with data.rows and "
                "data.items for that",
                field="data.rows",
            )
        spec = spec if data is None else replace(spec, source=str(data))
        with naming_settings():
            return open_interactions(spec, self.settings.limit, users, self.schema.columns, other_items)

    def recommend(self, data: str | Path | None = None, *, top: int = 20) -> Recommended:
        """The items that users would most probably choose next: see `vaekit.uses.recommend`.

        Args:
            data: Interactions to start from, by path; by default the run's own, all of them.
            top: How many items for each user.
        """
        return recommend(self, self.interactions(data), top=top)

    def with_label(self, label: str) -> "TrainedRun":
        """The same run, whose rows have other labels: another column of `obs`, another part of recordings' names.

        Args:
            label: As `data.label` names it.

        Raises:
            DataError: The data has no such column, or it is one that the model models.
            ConfigError: The model is conditioned on the run's label, or on the one named.
        """
        if self.schema.context is not None and self.schema.context.kind == "label":
            raise ConfigError(
                f"label is {label}, and the model is conditioned on the run's own label: it cannot have another",
                field="label",
                value=label,
            )
        if label in self.settings.data.context:
            raise ConfigError(
                f"label is {label}, which is the context of the run: name another column, or train without it as "
                "data.context",
                field="label",
                value=label,
            )
        run = self.settings.model_copy(update={"data": replace(self.settings.data, label=label)})
        if run.data.source is None:
            raise DataError("the run was trained on rows in memory, whose labels are in no file", field="label")
        _, data = open_data(run)
        if (data.schema.columns, data.schema.shape) != (self.schema.columns, self.schema.shape):
            raise DataError(
                f"label is {label}, and with it other columns of {self.schema.name} are left than the model knows: "
                "name one that is not modelled",
                field="label",
                value=label,
            )
        known = {"classes": data.schema.classes, "fingerprint": data.schema.fingerprint}
        return replace(self, settings=run, schema=replace(self.schema, **known), dataset=data)

    def _as_stored(self, x: np.ndarray, context: Tensor | None = None) -> Any:
        if not isinstance(self.schema.support, Mixed):
            return self.schema.to_array(x)
        return self.schema.to_table(x, None if context is None else context.cpu().numpy())

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _over(self, compute: Callable[..., tuple[Tensor, ...]], rows: Rows | StreamedRows) -> np.ndarray:
        rows, found = rows.to(self._device), []
        with evaluating(self.model):
            for start in range(0, len(rows), ROWS_AT_A_TIME):
                index = slice(start, min(start + ROWS_AT_A_TIME, len(rows)))
                noise = new_generator(0, Purpose.ENCODED_ROWS, start, device=self._device)
                found += [in_blocks(compute, **rows.inputs(index, noise))[0].cpu()]
        return torch.cat(found).numpy()

    def context(self, rows: int) -> Tensor | None:
        """A context of zeros, (rows, width), to try the model with; None where it takes none."""
        context = self.schema.context
        return None if context is None else torch.zeros(rows, len(context.names), device=self._device)

    @property
    def log_scale(self) -> float:
        """What its log-densities of x are above those of rows as they are stored, in nats."""
        return log_scale_of(self.settings, self.schema)

    @property
    def latent_shapes(self) -> tuple[Shape, ...]:
        """The shape of z of each group of latents."""
        with torch.no_grad():
            code = self.model.encode(torch.zeros(1, *self.schema.shape, device=self._device), self.context(1))
        return tuple(tuple(q.event_shape) for q in code.posteriors)


@contextmanager
def naming_likelihood(model: VAE | HierarchicalVAE, *data: Any) -> Iterator[None]:
    """Within, an error of rows outside the support says which likelihood that is, and what the rows hold."""
    try:
        yield
    except DataError as error:
        head = model.likelihood.head if isinstance(model.likelihood, Conditional) else model.likelihood
        if error.field != "DataSpec.support":
            raise
        levels = getattr(head, "levels", None)
        name = type(head).__name__ if levels is None else f"{type(head).__name__}({levels})"
        over = "the whole numbers from 0" if levels is None else f"the whole numbers 0..{levels - 1}"
        found = [array_of(rows) for rows in data if rows is not None and not isinstance(rows, float)]
        least, largest = min(x.min() for x in found), max(x.max() for x in found)
        raise DataError(
            f"the likelihood {name} is over {over}, and the smallest value of the rows is {least:g}, the largest "
            f"{largest:g}: give rows in that range, or another likelihood",
            field="data",
        ) from None


def posterior_moments(
    model: VAE | HierarchicalVAE, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Means and standard deviations of q(z|x), (batch, latent) each; of a discrete z, its most probable value.

    Args:
        model: A VAE.
        x: (batch, *data), as the model takes it.
        context: (batch, width), where the model takes one.
        mask: (batch, *data), True where a cell of x is observed; None where all are.
    """
    posteriors = (model.encode(x, context) if mask is None else model.encode(x, context, mask)).posteriors
    return (
        torch.cat([centre(q).flatten(1) for q in posteriors], 1),
        torch.cat([q.stddev.flatten(1) for q in posteriors], 1),
    )


def open_run(folder: str | Path, weights: str | None = None) -> TrainedRun:
    """The trained run in a folder; its model is in evaluation mode, on the CPU.

    Args:
        folder: The run folder, as `vaekit train` or `fit` with `run_dir` set writes it.
        weights: Best or last; by default what the run's settings say.

    Raises:
        SpecError: Weights is neither.
        ModelFileError: The folder is not a run's, or its files are damaged or do not belong together.
    """
    if weights not in (None, "best", "last"):
        raise SpecError(f"weights is {weights!r}: it should be 'best' or 'last'", field="weights", value=weights)
    home = RunFolder(folder)
    run, schema = read_run(home)
    model = rebuilt(home, run, schema, training=False)
    tensors, metadata = _read_weights(home, model, weights or run.train.weights, required=weights is not None)
    tensors = {name: value for name, value in model.state_dict().items() if name in _LATER} | tensors
    if found := check_alike(tensors, model.state_dict()):
        raise ModelFileError(f"the weights in {home.path} are of another model: {found}")
    model.load_state_dict(tensors)
    model.scaling = schema.scaling
    return TrainedRun(run, schema, model.eval(), metadata, home)


def read_run(home: RunFolder) -> tuple[Run, Schema]:
    """The settings in a run folder, and the schema of its data."""
    try:
        run = make_run(parse_yaml(home.read("run.yaml"), str(home.path / "run.yaml")))
    except ConfigError as error:
        raise _cannot_build(home, error) from None
    where, text = home.path / "data.json", home.read("data.json")
    refuse_newer(text.encode(), where)
    try:
        return run, Schema.from_json(text)
    except ModelFileError as error:
        raise ModelFileError(f"{where}: {error}; train again, or give another run") from None


def rebuilt(home: RunFolder, run: Run, schema: Schema, training: bool) -> VAE | HierarchicalVAE:
    """The untrained model of a run folder, if it fits in memory: a folder may describe a model of any size.

    Args:
        home: The run folder.
        run: Its settings.
        schema: Of its data.
        training: Whether it has to fit with all that training keeps beside it.

    Raises:
        ModelFileError: It does not fit, or its settings do not go with its data.
    """
    try:
        if run.model.likelihood is not None:
            check_likelihood(run.model.likelihood, schema)
        check_memory(run, schema, training=training)
        return build_model(run, schema)
    except ConfigError as error:
        raise _cannot_build(home, error) from None


def _cannot_build(home: RunFolder, error: ConfigError) -> ModelFileError:
    why = "; ".join(str(error).splitlines())
    known = {kind for group in GROUPS for kind in kinds(group)}
    for kind, origin in _parts_from_outside(home).items():
        if kind not in known:
            why += f". It was trained with {kind!r} from {origin}: install or import that"
    return ModelFileError(f"{home.path} does not describe a model that this version can build: {why}")


def _parts_from_outside(home: RunFolder) -> dict[str, str]:
    """The kinds of parts that a run has from other packages, and where they came from, as its folder says."""
    try:
        parts = home.environment().get("parts") or {}
    except (VaekitError, OSError):
        return {}
    return {short(kind): short(origin) for kind, origin in parts.items()}


def load(run_folder: str | Path, weights: str | None = None) -> VAE | HierarchicalVAE:
    """The trained model in a run folder, in evaluation mode, on the CPU: `open_run(run_folder).model`.

    Args:
        run_folder: The run folder.
        weights: Best or last; by default what the run's settings say.

    Raises:
        ModelFileError: The folder is not a run's, or its files are damaged or do not belong together.
    """
    return open_run(run_folder, weights).model


def _read_weights(
    home: RunFolder, model: VAE | HierarchicalVAE, which: str, required: bool
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights of a run; the last ones where no best are saved yet, unless just those are required."""
    limits = weights_wanted(model.state_dict())
    checkpoint = home.checkpoints.newest({f"{which}.safetensors": limits[f"{which}.safetensors"]}, trained=True)
    if which == "best" and not required and not checkpoint.files:
        return _read_weights(home, model, "last", required)
    tensors, metadata = read_weights(checkpoint, which)
    return tensors, {"weights": which, **metadata}


def reopen(trained: TrainedRun, moved: str | None = None) -> Dataset:
    """The data that a run was trained on, split and scaled as then.

    Args:
        trained: The run.
        moved: Where the data lies now; by default where it lay then.

    Raises:
        DataError: It is gone, or has changed.
    """
    return same_data(trained.settings, trained.schema, trained.folder, moved)


def same_data(run: Run, schema: Schema, folder: RunFolder, moved: str | None = None) -> Dataset:
    """The data of a run, which must be what it was: see `reopen`."""
    if moved is not None:
        run = run.model_copy(update={"data": replace(run.data, source=moved)})
    if run.data.source is None:
        raise DataError(
            f"{folder.path} was trained on rows in memory: give them, or a file of them with --data", field="data"
        )
    try:
        _, data = open_data(run)
    except DataError as error:
        what = f"the data of {folder.path} cannot be opened" if moved is None else f"{moved} is not its data"
        fix = "if it has moved, say where it is: --data PATH, or for `reconstruct` and `encode` the path after the run"
        raise DataError(f"{what}: {error} ({fix})", field=error.field, value=error.value) from None
    except ConfigError as error:
        raise ModelFileError(f"the settings of {folder.path} do not go with its data: {error}") from None
    if data.schema.fingerprint != schema.fingerprint:
        raise DataError(
            f"{run.data.source} has changed since {folder.path} was trained, or is other data: its fingerprint is "
            f"{data.schema.fingerprint[:12]}, and was {schema.fingerprint[:12]}; put the old data back, or say with "
            "--data where it is",
            field="data.source",
            value=run.data.source,
        )
    for fact in ("kind", "shape", "support", "stored"):
        theirs, ours = getattr(schema, fact), getattr(data.schema, fact)
        if theirs != ours:
            raise ModelFileError(f"{folder.path / 'data.json'} has {fact} {theirs}, and the data {ours}: train again")
    return data


def check_same(world: World, what: str, found: str, error: type[VaekitError]) -> None:
    """Refuse, at every process of a run, what is not the same at each of them: a fingerprint, or settings."""
    other = world.differing(found)
    if other is not None:
        rank, *values = other
        known = " and ".join(value[:12] for value in values if value.isalnum())
        raise error(
            f"processes 0 and {rank} of this run have different {what}{known and f' (fingerprints {known})'}: give "
            "every process the same"
        )


def check_same_run(world: World, trained: TrainedRun, other: Rows | StreamedRows | None = None) -> None:
    """Refuse, at every process, a run whose processes have other weights or other data than the first.

    other: rows that are not of the run's own data.
    """
    if world.size == 1:
        return
    check_same(world, f"weights in {trained.folder.path}", fingerprint(trained.model), ModelFileError)
    digest = hashlib.sha256(trained.schema.fingerprint.encode())
    for start in range(0, 0 if other is None else len(other), ROWS_AT_A_TIME):
        assert other is not None
        index = slice(start, min(start + ROWS_AT_A_TIME, len(other)))
        for part in (other.batch(index), other.context_of(index), other.mask_of(index)):
            digest.update(b"" if part is None else part.cpu().numpy().tobytes())
    check_same(world, "data", digest.hexdigest(), DataError)


def _some(rows: Rows) -> Rows:
    """Test rows, of which there must be some."""
    if len(rows) == 0:
        raise DataError(
            "no rows were kept back for testing (data.test_fraction=0): give other data",
            field="data.test_fraction",
            value=0.0,
        )
    return rows


def open_rows(trained: TrainedRun, source: str | None = None) -> Rows | StreamedRows:
    """The run's test rows, or all rows of another source, scaled as the run's data was."""
    run = trained.settings
    if source is None:
        return _some(reopen(trained).test)
    with naming_settings():
        return read_like(source, run.data, trained.schema, run.limit)
