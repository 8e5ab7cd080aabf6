"""What a user may set about data: the `data.*` and `limit.*` paths of a run."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from vaekit.data.layout import Layout
from vaekit.errors import SpecError
from vaekit.spec import Several, Square, Text, by_kind, spec, words_for

Fraction = Annotated[float, Field(ge=0, lt=1)]
Rows = Annotated[int, Field(ge=1)]
Pixels = Annotated[int, Field(ge=1, le=4096)]


CONTEXT_PARTS: tuple[Literal["encoder", "prior", "decoder"], ...] = ("encoder", "prior", "decoder")

NO_LABEL = "none"  # in place of a column's name


@spec
class ColumnSpec:
    """What a column of a table is.

    Args:
        kind: Of its values; "ignore" leaves the column out.
        levels: Of an ordinal column, its values from the lowest to the highest, as [S, M, L]: all that occur, and
            perhaps more. By default the order of numbers, of dates, or of the data's own type of ordered categories.
    """

    kind: Literal["real", "positive", "count", "binary", "categorical", "ordinal", "ignore"]
    levels: Several[Text] = ()

    def __post_init__(self) -> None:
        twice = next((one for place, one in enumerate(self.levels) if one in self.levels[:place]), None)
        wrong = ""
        if self.levels and self.kind != "ordinal":
            wrong = f"are for kind=ordinal, and the kind is {self.kind}: set both, or leave levels out"
        elif twice is not None:
            wrong = f"name {twice!r} twice: name each level once"
        elif len(self.levels) == 1:
            wrong = f"name {self.levels[0]!r} alone: give two or more"
        if wrong:
            raise SpecError(f"levels {wrong}", field="levels", value=list(self.levels))

    @property
    def has_categories(self) -> bool:
        """Whether its values are categories, so that cells are taken as they are written."""
        return self.kind in ("binary", "categorical", "ordinal")

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers."""
        return self.kind in ("real", "positive", "count")


@spec
class DataSpec:
    """Where data comes from, what it is, and how it is scaled, binarised and split.

    Args:
        source: A name that `vaekit data` lists, or the path of a .npy, .npz, .csv, .tsv, Parquet, Feather, JSON lines,
            .h5ad or IDX file, or of a folder of Parquet files, of pictures or of recordings (wav, flac, ogg, mp3);
            or hf:owner/name[@revision][:split], a table of the Hugging Face hub.
        label: The column (of a table, or of obs in a .h5ad file) or array (npz) that holds the labels. By default one
            that is called label, labels, target, class or y, if there is one and its values are classes rather than
            measurements; "none" takes none. The labels of a folder of pictures are its subfolders.
        drop: Columns of a table to leave out, by name; "column 0", "column 1", ... where there is no header.
        columns: What single columns of a table are, by name, where that is not what they look like, as
            {age: real, size: {kind: ordinal, levels: [S, M, L]}}; what cannot be so is an error.
        context: What the model is conditioned on besides x: "label", or columns of a table, which are then not
            modelled.
        context_to: Which parts of the model are given the context: "encoder", "prior" and "decoder", or some of these.
            Size factors multiply the rates in any case.
        size_factor: The size of each row of counts, which multiplies its rates and is one more number of the context:
            "total" is the sum of the row's counts, or it is a column, which is then not modelled; "none" has none, and
            "auto" takes the total where the likelihood's rates are shares of a size.
        weight: A column that holds how much each row counts in training and evaluation, which is then not modelled. It
            is divided by its mean over the training rows.
        layout: What an array is: "table", "image", "sequence" or "volume"; "auto" looks.
        support: Which values can occur in the data as stored; "auto" looks, at every column of a table by itself.
        levels: How many levels there are, with support=levels; by default what the data says.
        scale: "unit" divides levels by the highest one, "standard" subtracts the mean of the training rows and divides
            by their standard deviation; "auto" takes what the support and the likelihood call for.
        binarise: "dynamic" draws pixels afresh in every training batch, and once for validation and test; "threshold"
            cuts at one half.
        missing: What becomes of missing cells, which are NaN or empty: "mask" leaves them out of the likelihood, and
            has the encoder see which they are even where none is missing in training; "refuse" has no data with any;
            "auto" masks where some are missing.
        missing_values: What stands for a missing cell of a CSV file besides empty ones, NA, NaN and ?: texts and
            numbers, such as [-999, unknown]. Among numbers, so do -, n/d and the like.
        rows, items, values: the columns of a table of interactions, one in each row, that name the user, the item and,
            if there is one, the rating: it becomes a row for each user and a column for each item.
        delimiter, decimal, encoding: of a CSV file: what stands between its cells, what stands before decimals, and how
            its text is encoded, where these are not found right.
        header: Whether the first row of a CSV file names its columns; "auto" says no where all of its cells are
            numbers.
        valid_from: Which part of the source gives up its rows for validation. A source without a test set is one pool,
            from which validation and test are both drawn, so the choice makes no difference there.
        valid_fraction: Share of that part that becomes the validation rows; with 0 all of it trains, some training rows
            stand in for validation, nothing stops early, and the last weights are kept.
        test_fraction: Share that becomes the test rows, for a source that brings no test set; 0 keeps none back, and
            an evaluation then needs other data.
        split_by: "blocks" divides rows into training, validation and test by blocks of consecutive ones, and "rows" one
            by one; "auto" takes blocks for windows of a series that overlap, and leaves out those between two blocks
            that share steps with both.
        seed: Seed of the split.
        image_size: Height and width that a folder's pictures get; without it they must all have one size.
        image_fit: How a picture of another size gets it: "crop" cuts the largest part of that aspect from the centre
            and resizes it, "pad" resizes the whole and leaves the rest black, "stretch" changes the aspect.
        image_mode: Whether pictures are read as "grey" levels or in "colour"; "auto" says grey where all of them are.
        sound_rate: Samples a second that a folder's recordings get; by default those of most of them.
        sound_seconds: How much of each is taken from its beginning, silence after its end, rounded up to a multiple of
            8 frames; by default so much that 95 of 100 are not cut, and at most 10.
        sound_bands: Bands of the log-mel features, which are what is modelled.
        name_fields: What the parts of the recordings' names are that _ divides, such as [digit, speaker, take] of
            3_george_12.wav; `label` is one of them.
        bad_files: Whether a folder with a file that is not a whole picture is refused, or read without that file.
        stream: Whether training rows are read from disk as they are needed ("always"), all at once ("never"), or as
            Limit.data_gb says ("auto").
    """

    source: Text | None = None
    label: Text | None = None
    drop: Several[Text] = ()
    columns: Mapping[Text, Annotated[ColumnSpec, by_kind]] = field(default_factory=dict)
    context: Several[Text] = ()
    context_to: Annotated[Several[Literal["encoder", "prior", "decoder"]], Field(min_length=1)] = CONTEXT_PARTS
    size_factor: Text = "auto"
    weight: Text | None = None
    layout: Layout = "auto"
    support: Literal["auto", "binary", "levels", "unit", "real", "count"] = "auto"
    levels: Annotated[int, Field(ge=2)] | None = None
    scale: Literal["auto", "none", "unit", "standard"] = "auto"
    binarise: Literal["none", "dynamic", "threshold"] = "none"
    missing: Literal["auto", "refuse", "mask"] = "auto"
    missing_values: Several[Text] = ()
    rows: Text | None = None
    items: Text | None = None
    values: Text | None = None
    delimiter: Annotated[Text, Field(min_length=1, max_length=1)] | None = None
    decimal: Literal[".", ","] | None = None
    encoding: Text | None = None
    header: Annotated[Literal["auto", "yes", "no"], words_for("yes", "no")] = "auto"
    valid_from: Literal["train", "test"] = "train"
    valid_fraction: Fraction = 0.1
    test_fraction: Fraction = 0.1
    split_by: Literal["auto", "rows", "blocks"] = "auto"
    seed: Annotated[int, Field(ge=0)] = 0
    image_size: Square[Pixels] | None = None
    image_fit: Literal["crop", "pad", "stretch"] = "crop"
    image_mode: Literal["auto", "grey", "colour"] = "auto"
    sound_rate: Annotated[int, Field(ge=1000, le=768_000)] | None = None
    sound_seconds: Annotated[float, Field(gt=0, le=600)] | None = None
    sound_bands: Annotated[int, Field(ge=8, le=512)] = 64
    name_fields: Several[Text] = ()
    bad_files: Literal["refuse", "skip"] = "refuse"
    stream: Literal["auto", "always", "never"] = "auto"


@spec
class Limit:
    """Upper bounds on what a run takes.

    Args:
        train, valid: rows kept of the training and validation splits, all where there are fewer; the test rows are
            never limited.
        memory_gb: Memory that a run may plan for, in gigabytes.
        data_gb: Data whose values would take more memory than this, in gigabytes, is streamed from disk: a .npy file,
            Parquet, or a folder of pictures; so is data that takes more than 0.75 GB beside it with the rows that are
            made of it. Other files are refused then. Streaming keeps at most a quarter of it in memory. Below 0.512,
            the order of the rows depends on it.
    """

    train: Rows | None = None
    valid: Rows | None = None
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    data_gb: Annotated[float, Field(gt=0)] = 1.0
