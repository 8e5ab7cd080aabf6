"""Schema: the shape, support, scaling, columns, classes and origin of a data set, saved with each model."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import TypeAdapter, ValidationError

from vaekit.data.layout import Axes, stored_order
from vaekit.data.sound import Sound
from vaekit.errors import ModelFileError
from vaekit.spec import spec


@spec
class Binary:
    """Every value is 0 or 1."""

    kind: Literal["binary"] = "binary"

    def __str__(self) -> str:
        return "binary"


@spec
class Levels:
    """Every value is one of the integers 0 to count - 1."""

    count: Annotated[int, pydantic.Field(ge=2)]
    kind: Literal["levels"] = "levels"

    def __str__(self) -> str:
        return f"{self.count} levels (0 to {self.count - 1})"


@spec
class Unit:
    """Every value lies between 0 and 1, both included."""

    kind: Literal["unit"] = "unit"

    def __str__(self) -> str:
        return "unit interval [0, 1]"


@spec
class Real:
    """Any finite value."""

    kind: Literal["real"] = "real"

    def __str__(self) -> str:
        return "real"


@spec
class Count:
    """Every value is a non-negative integer."""

    kind: Literal["count"] = "count"

    def __str__(self) -> str:
        return "counts"


@spec
class Mixed:
    """Columns of different kinds, each a `Field` of the schema."""

    kind: Literal["mixed"] = "mixed"

    def __str__(self) -> str:
        return "columns of several kinds"


Support = Annotated[Binary | Levels | Unit | Real | Count | Mixed, pydantic.Field(discriminator="kind")]

FieldKind = Literal["real", "positive", "count", "binary", "categorical", "ordinal"]


@spec
class Field:
    """A column that is modelled.

    Attributes:
        name: Of the column.
        kind: Of its values, which decides its likelihood. The x of a real or positive one is (stored - loc) / scale, of
            a count the count itself, of the others the number of the category.
        categories: What the numbers of a binary, categorical or ordinal column stand for, as text, in the order of an
            ordinal one; none where a binary one holds 0 and 1 itself.
        loc, scale: of a real or positive one.
        dtype: Of the cells as they are stored, as pandas calls it.
        decimals: How many digits after the point its numbers have; None where there are many.
        range: The lowest and the highest number of one of the context; None of others, or where they are not known.
    """

    name: str
    kind: FieldKind
    categories: tuple[str, ...] = ()
    loc: float = 0.0
    scale: float = 1.0
    dtype: str = "float64"
    decimals: int | None = None
    range: tuple[float, float] | None = None

    @property
    def is_number(self) -> bool:
        """Whether x is a number, and not that of a category."""
        return self.kind in ("real", "positive", "count")


@spec
class Constant:
    """A column that has one value in every row: not modelled, and put back into what a model makes.

    Attributes:
        name: Of the column.
        value: As it is stored, a number or a text.
        dtype: As pandas calls it.
    """

    name: str
    value: float | str
    dtype: str = "float64"


@spec
class Dialect:
    """How a CSV file is written, so that another one can be written alike.

    Attributes:
        delimiter: Between cells, with the space that follows it.
        decimal: What stands before the decimals of a number.
        header: Whether the first row names the columns.
        truths: How false and true are written in some columns, where not as False and True.
    """

    delimiter: str = ","
    decimal: str = "."
    header: bool = True
    truths: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)


@spec
class Weight:
    """How much each row counts: a column, divided by its mean over the training rows.

    Attributes:
        name: Of the column.
        mean: Over the training rows.
    """

    name: str
    mean: float


SIZE = "size_factor"  # the name, among those of the context, of the number that says the size of a row


@spec
class Context:
    """How the context of a row (its label, or columns of a table) is made: context = (stored - loc) / scale.

    Attributes:
        kind: "label", one number for each class, of which one is 1; or "columns".
        names: Of its numbers: the classes, or the columns; for each category of a column "column=category".
        loc, scale: of each number.
        fields: The columns, or that of the label; none where no more is known of them than `names`.
        size: What the last number is the standardised logarithm of, 0 at its median: the "total" of each row, or a
            column; None where there is no size factor.
    """

    kind: Literal["label", "columns"]
    names: tuple[str, ...]
    loc: tuple[float, ...]
    scale: tuple[float, ...]
    fields: tuple[Field, ...] = ()
    size: str | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """The names of its numbers, but for the size factor."""
        return self.names if self.size is None else self.names[:-1]

    @property
    def coded(self) -> bool:
        """Whether its columns have a number for each category, and one that says whether the cell is missing."""
        return self.kind != "label" and 0 < len(self.fields) < len(self.given)

    @property
    def places(self) -> dict[str, range]:
        """Which of its numbers are those of the label, or of each column; without the size factor."""
        if self.kind == "label":
            return {"label": range(len(self.given))}
        widths = {field.name: max(1, len(field.categories)) + self.coded for field in self.fields}
        starts = itertools.accumulate(widths.values(), initial=0)
        of_fields = {
            name: range(start, start + width) for (name, width), start in zip(widths.items(), starts, strict=False)
        }
        return of_fields or {name: range(place, place + 1) for place, name in enumerate(self.given)}

    @property
    def centre(self) -> str:
        """What a context of zeros is, of one that is not the label, in words."""
        parts = [f"the mean of {', '.join(self.given)}"] if self.given and self.kind != "label" else []
        return " and ".join([*parts, f"the median of {SIZE}"] if self.size is not None else parts)

    def scaled(self, stored: np.ndarray) -> np.ndarray:
        """Scaled context (n, width) of stored numbers (n, width), as a model takes it; of a missing one, 0."""
        scaled = ((stored - np.asarray(self.loc)) / np.asarray(self.scale)).astype(np.float32)
        return np.where(np.isnan(scaled), np.float32(0), scaled)

    def cells(self, x: np.ndarray) -> list[np.ndarray]:
        """The cells of each of its fields, (n,), as they are stored, in scaled contexts (n, width): NaN if missing.

        A category is its number. This is the inverse of `scaled`, to single precision.
        """
        stored = x * np.asarray(self.scale) + np.asarray(self.loc)
        found, at = [], 0
        for field in self.fields:
            part = stored[:, at : at + max(1, len(field.categories))]
            at += part.shape[1]
            missing = stored[:, at] > 0.5 if self.coded else np.zeros(len(x), bool)
            at += self.coded
            if field.categories:
                missing |= part.max(1) < 0.5
            found.append(np.where(missing, np.nan, part.argmax(1) if field.categories else part[:, 0]))
        return found

    def examples(self, n: int) -> np.ndarray:
        """Context (n, width) of n rows: every class, in turn, or the mean of training rows; and the median size."""
        context = np.zeros((n, len(self.names)), np.float32)
        if self.kind == "label":
            context[np.arange(n), np.arange(n) % len(self.given)] = 1
        return context


def log_scale(scale: tuple[float, ...] | None, shape: tuple[int, ...]) -> float:
    """Sum of ln scale over the values of a row, by which ln p(x) is above ln p(stored), x = (stored - loc) / scale.

    Args:
        scale: One number for all values of a row of this shape, or one for each column; None where there is no scaling.
        shape: Of a row.
    """
    if scale is None:
        return 0.0
    return math.fsum(map(math.log, scale)) * (math.prod(shape) / len(scale))


_AXES = {"table": 1, "sequence": 2, "image": 3, "volume": 4}


@spec
class Schema:
    """The facts about a data set that outlive it: saved with every run, as JSON.

    Attributes:
        name: Of the source, or the name of its file.
        shape: Of one row, with the channels first: (columns,) of a table, (channels, height, width) of an image,
            (channels, steps) of a sequence, (channels, depth, height, width) of a volume.
        support: Of x as the model sees it, after scaling and binarising.
        stored: Of the values before that.
        loc, scale: x = (stored - loc) / scale, one number or one per column; None where there is no scaling.
        columns: Names of a table's columns.
        classes: Names of the labels, by number.
        fingerprint: SHA-256 over dtype, shape and bytes of the source's values, labels and factors.
        context: How the context of each row is made; None where the model takes none.
        protocol: How the training, validation and test rows were made, in one line.
        factor_names, factor_sizes: of the factors that the data was made from, where they are known: their names, and
            how many values each takes.
        fields: Of a table, what each column is, in the order of `columns`; None where its columns were declared to be
            of one kind.
        constants: Columns of one value, which are not modelled.
        order: Names of all columns that a row of the source has and vaekit can make, in their order; those of the
            context it makes where their values are given.
        missing: Whether cells were missing in the training rows; a mask then says which.
        observed_log_scale: Sum of ln scale over the observed cells of a row, on average over the validation rows; None
            where no cell is missing.
        weight: Of the rows; None where all count alike.
        axes: Of the source's array, where it is one.
        dtype: In which numbers that fields do not describe are written to a table: float32 where that holds all of the
            source's type, else float64.
        dialect: Of the source, where it is a CSV file.
        sound: How recordings became rows, where the source is some.
        notices: What was left out or taken for something, and why.
    """

    name: str
    kind: Literal["image", "table", "sequence", "volume"]
    shape: tuple[int, ...]
    support: Support
    stored: Support
    loc: tuple[float, ...] | None
    scale: tuple[float, ...] | None
    columns: tuple[str, ...] | None
    classes: tuple[str, ...] | None
    fingerprint: str
    protocol: str
    context: Context | None = None
    format_version: Literal[1] = 1
    factor_names: tuple[str, ...] | None = None
    factor_sizes: tuple[int, ...] | None = None
    fields: tuple[Field, ...] | None = None
    constants: tuple[Constant, ...] = ()
    order: tuple[str, ...] = ()
    missing: bool = False
    observed_log_scale: float | None = None
    weight: Weight | None = None
    axes: Axes | None = None
    dtype: Literal["float32", "float64"] = "float32"
    dialect: Dialect | None = None
    sound: Sound | None = None
    notices: tuple[str, ...] = ()

    def to_stored(self, x: np.ndarray) -> np.ndarray:
        """The x of shape (..., *shape), as the model sees it, in the units of the source: stored = x scale + loc.

        Without scaling, x itself; that includes binarised data, whose grey values cannot be had back.
        """
        if self.loc is None or self.scale is None:
            return x
        axes = (-1,) if len(self.scale) == 1 else (-1, *[1] * (len(self.shape) - 1))
        return x * np.reshape(self.scale, axes) + np.reshape(self.loc, axes)

    def to_array(self, x: np.ndarray) -> np.ndarray:
        """Rows x (n, *shape), as the model sees them, as the array that the source has: (n, ...) in its units.

        Channels are where the source has them. Of a table whose columns are numbers, constant columns are put back; of
        one of several kinds, categories are their numbers.
        """
        stored = self.to_stored(x)
        if self.axes is not None:
            stored = stored_order(stored, self.axes)
        values = {one.name: one.value for one in self.constants if not isinstance(one.value, str)}
        if not values or self.columns is None or isinstance(self.support, Mixed):
            return stored
        found = dict(zip(self.columns, stored.T, strict=True))
        found |= {name: np.full(len(stored), value, stored.dtype) for name, value in values.items()}
        return np.stack([found[name] for name in self.order if name in found], 1)

    def to_table(self, x: np.ndarray, context: np.ndarray | None = None) -> Any:
        """Rows x (n, columns) of a table, as the model sees them, as the table that the source has, in Arrow.

        Columns have their names, order and types: categories are texts, integers are rounded, floats have as many
        decimals as those of the source, and constant columns are put back. `.to_pandas()` makes a data frame of it. No
        cell is missing, but for those of the context.

        Args:
            x: The rows.
            context: (n, width) that they were made with, whose columns are then among those of the table.
        """
        import pyarrow as pa

        from vaekit.data.restoring import constant, restored

        stored = self.to_stored(x.astype(np.float64))
        names = self.columns or tuple(f"column {place}" for place in range(stored.shape[1]))
        if self.fields is None:
            found = dict(zip(names, map(pa.array, np.ascontiguousarray(stored.astype(self.dtype).T)), strict=True))
        else:
            found = {
                field.name: restored(cells, field.dtype, field.categories, field.decimals, field.kind == "ordinal")
                for field, cells in zip(self.fields, stored.T, strict=True)
            }
        if context is not None and self.context is not None:
            cells = self.context.cells(context.astype(np.float64))
            found |= {
                field.name: restored(part, field.dtype, field.categories, field.decimals, field.kind == "ordinal")
                for field, part in zip(self.context.fields, cells, strict=True)
            }
        found |= {one.name: constant(one.value, one.dtype, len(x)) for one in self.constants}
        return pa.table({name: found[name] for name in self.order or names if name in found})

    @property
    def scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """The loc and the scale; None where there is no scaling."""
        return None if self.loc is None or self.scale is None else (self.loc, self.scale)

    @property
    def log_scale(self) -> float:
        """What a log-density of x is above that of the row as it is stored, in nats: of validation rows, on average."""
        return log_scale(self.scale, self.shape) if self.observed_log_scale is None else self.observed_log_scale

    def to_json(self) -> str:
        """The facts as JSON."""
        return TypeAdapter(Schema).dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str) -> "Schema":
        """The inverse of `to_json`; a text that is not a schema of this version raises ModelFileError."""
        try:
            found = TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the text"
            raise ModelFileError(f"not a data schema that this version reads: {where}: {first['msg']}") from None
        if wrong := found.inconsistency():
            raise ModelFileError(f"not a data schema that this version reads: {wrong}")
        return found

    def inconsistency(self) -> str:
        """Which facts cannot be together, in a few words; empty where all can."""
        axes, width = _AXES[self.kind], self.shape[0] if self.shape else 0
        if len(self.shape) != axes or min(self.shape) < 1:
            return f"shape is {self.shape}, of rows of kind {self.kind}"
        if (self.loc is None) != (self.scale is None) or any(
            len(s) not in (1, width) for s in (self.loc, self.scale) if s
        ):
            return f"loc and scale are not one number, or one for each of {width} columns"
        if self.observed_log_scale is not None and not math.isfinite(self.observed_log_scale):
            return "observed_log_scale is not finite"
        if 0 in (self.scale or ()) or 0 in (self.context.scale if self.context else ()):
            return "a scale is 0"
        if self.columns is not None and (self.kind, len(self.columns)) != ("table", width):
            return f"there are {len(self.columns)} names of columns, and {width} columns"
        if self.fields is not None and tuple(field.name for field in self.fields) != self.columns:
            return "fields are not those of the columns"
        if self.fields is None and isinstance(self.support, Mixed):
            return "the columns are of several kinds, and no fields say which"
        if any(field.scale == 0 for field in self.fields or ()):
            return "a scale is 0"
        if self.context and len({len(self.context.names), len(self.context.loc), len(self.context.scale)}) > 1:
            return "context has not as many names as numbers"
        if self.context and self.context.size is not None and self.context.names[-1:] != (SIZE,):
            return "context has a size factor, and its last number is another"
        if self.weight is not None and not 0 < self.weight.mean < math.inf:
            return "the mean of the weights is not above 0"
        if self.sound and self.shape[-2:] != (self.sound.features.bands, self.sound.features.frames(self.sound.length)):
            return f"shape is {self.shape}, and the features of the sound have another"
        if len(self.fingerprint) > 200:
            return "fingerprint is no SHA-256"
        return ""
