"""From a name or a path to a `Table`. A file is known by its content, which is looked at once."""

import gzip
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from vaekit.data.bounds import size_of
from vaekit.data.columns import nearest
from vaekit.data.formats.damage import DAMAGED
from vaekit.data.interactions import Interactions, by_user, interactions_of
from vaekit.data.named import NAMED
from vaekit.data.spec import NO_LABEL, ColumnSpec, DataSpec, Limit
from vaekit.data.table import Sizes, Table
from vaekit.errors import DataError, SpecError


@dataclass(frozen=True)
class Format:
    """A format of files or folders that is read.

    Attributes:
        name: With its article.
        module: Under `vaekit.data.formats`, whose `open(path, spec, sizes)` returns a `Table`.
        endings: Of the names of its files.
        settings: Of `DataSpec` that are for it alone, or for it and some others.
    """

    name: str
    module: str
    endings: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def open(self, path: Path, spec: DataSpec, sizes: Sizes) -> Table:
        """The table at a path; the libraries that reading takes are imported now."""
        opener: Callable[[Path, DataSpec, Sizes], Table] = import_module(f"vaekit.data.formats.{self.module}").open
        return opener(path, spec, sizes)


_INTERACTIONS = ("rows", "items", "values")

NPY = Format("a NumPy array (.npy)", "npy", (".npy",))
NPZ = Format("a NumPy archive (.npz)", "npz", (".npz",))
SPARSE = Format("a sparse matrix of scipy (.npz)", "sparse", (".npz",))
CSV = Format(
    "a CSV file (.csv)",
    "csv",
    (".csv", ".tsv", ".csv.gz", ".tsv.gz"),
    ("missing_values", "delimiter", "decimal", "encoding", "header", *_INTERACTIONS),
)
PARQUET = Format("a Parquet file (.parquet)", "parquet", (".parquet",), _INTERACTIONS)
FEATHER = Format("a Feather or Arrow file (.feather, .arrow)", "feather", (".feather", ".arrow", ".ipc"), _INTERACTIONS)
JSONL = Format("a file of JSON lines (.jsonl)", "jsonl", (".jsonl", ".ndjson"), _INTERACTIONS)
H5AD = Format("an AnnData file (.h5ad)", "h5ad", (".h5ad",))
HUB = Format("a table of the hub", "hub", settings=_INTERACTIONS)  # which has a name, and no path
IDX = Format("an IDX file (-ubyte or -ubyte.gz)", "idx", (".gz", ".idx"))
PARTS = Format("a folder of Parquet files", "parquet", settings=_INTERACTIONS)
PICTURES = Format("a folder of pictures", "pictures", settings=("image_size", "image_fit", "image_mode", "bad_files"))
SOUNDS = Format(
    "a folder of recordings",
    "sounds",
    settings=("sound_rate", "sound_seconds", "sound_bands", "name_fields", "bad_files"),
)
FORMATS = (NPY, NPZ, SPARSE, CSV, PARQUET, FEATHER, JSONL, H5AD, IDX, PARTS, PICTURES, SOUNDS)

_SPARSE_MEMBERS = {"format.npy", "shape.npy", "data.npy"}  # of an archive that scipy writes
_BY_ENDING = {ending: known for known in reversed(FORMATS) for ending in known.endings}
_SIGNATURES: dict[bytes, Format | str] = {
    b"\x93NUMPY": NPY,
    b"PAR1": PARQUET,
    b"ARROW1": FEATHER,
    b"\xff\xff\xff\xff": FEATHER,
    b"\x89HDF": H5AD,
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"RIFF": "a WAV sound or WebP picture",
    b"%PDF": "a PDF document",
    b"\xff\xfe": CSV,
    b"\xfe\xff": CSV,
    b"\x80\x02": "a Python pickle",
    b"\x80\x03": "a Python pickle",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
}


def open_table(spec: DataSpec, limit: Limit, items: Sequence[str] | None = None) -> Table:
    """The data set that `spec.source` names, before any of its values are read where its format allows that.

    Args:
        spec: Settings.
        limit: Settings.
        items: Of a table of interactions, the items that are columns; by default those that occur in it.

    Raises:
        SpecError: No source, or a setting that is not for it, is given.
        DataError: The data cannot be found or read, or is larger than Limit.data_gb and of a format that cannot be
            read in chunks.
    """
    if not spec.source:
        raise SpecError(
            f"DataSpec.source is not set; it is the name of a data set ({', '.join(NAMED)}) or the path of a file.",
            field="DataSpec.source",
            value=spec.source,
        )
    if spec.source in NAMED:
        return _open_named(spec.source, spec)
    if spec.source.startswith("hf:"):
        from vaekit.data.formats.hub import open_hub

        _check_settings(spec, spec.source, HUB)
        table = open_hub(spec, Sizes.of(limit))
        return table if (spec.rows, spec.items, spec.values) == (None, None, None) else by_user(table, spec, items)
    place = os.path.expanduser(spec.source)
    if os.path.normpath(place) == "-":
        raise DataError(
            "DATA is -, and this reads its data more than once: write the table to a file, and name that",
            field="DataSpec.source",
            value=spec.source,
        )
    if not os.path.exists(place):
        raise DataError(
            f"no data is named {spec.source[:200]!r}{nearest(spec.source.lower(), NAMED)}, and no file is there; "
            f"names are {', '.join(NAMED)}, and a path must exist.",
            field="DataSpec.source",
            value=spec.source,
        )
    path, sizes = Path(place), Sizes.of(limit)
    if spec.stream == "never":
        sizes = replace(sizes, whole=math.inf)
    try:
        found = format_of(path)
        _check_settings(spec, path.name, found)
        table = found.open(path, spec, sizes)
        if (spec.rows, spec.items, spec.values) != (None, None, None):
            table = by_user(table, spec, items)
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from None
    if spec.stream == "always" and not table.streamable:
        raise SpecError(
            f"DataSpec.stream=always is for data that is read in parts (.npy, Parquet, folders of pictures), and "
            f"{path} is none: convert it, or leave the setting out.",
            field="DataSpec.stream",
            value=spec.stream,
        )
    return table


def open_interactions(
    spec: DataSpec,
    limit: Limit,
    users: Sequence[str] | None = None,
    items: Sequence[str] | None = None,
    other_items: bool = False,
) -> Interactions:
    """The interactions in the table that `spec.source` names; see `interactions_of`.

    Raises:
        SpecError, DataError: As `open_table`; or the table is none of interactions.
    """
    names = {name: ColumnSpec("categorical") for name in (spec.rows, spec.items) if name is not None}
    alone = replace(spec, rows=None, items=None, values=None, columns={**spec.columns, **names})
    return interactions_of(open_table(alone, limit), spec, users, items, other_items)


def _open_named(name: str, spec: DataSpec) -> Table:
    _check_settings(spec, name, None)
    for setting, value in {"label": spec.label, "drop": list(spec.drop)}.items():
        if value and value != NO_LABEL:
            raise SpecError(
                f"DataSpec.{setting}={value} is for files; {name} comes with its labels and no columns: "
                f"leave DataSpec.{setting} out.",
                field=f"DataSpec.{setting}",
                value=value,
            )
    if spec.stream == "always":
        raise SpecError(
            f"DataSpec.stream=always is for files, and {name} is small: leave it out.",
            field="DataSpec.stream",
            value=spec.stream,
        )
    table = NAMED[name].load()
    return replace(table, labels=None, classes=None) if spec.label == NO_LABEL else table


def _check_settings(spec: DataSpec, name: str, found: Format | None) -> None:
    """Raise SpecError where a setting for one format is given for data of another."""
    default = DataSpec()
    for setting in {setting: known for known in FORMATS for setting in known.settings}:
        value = getattr(spec, setting)
        if value == getattr(default, setting) or (found is not None and setting in found.settings):
            continue
        wanted = " and ".join(known.name.split(" ", 1)[1] for known in FORMATS if setting in known.settings)
        shown = list(value) if isinstance(value, tuple) else value
        raise SpecError(
            f"DataSpec.{setting}={shown} is for a {wanted}, and {name} is none: leave DataSpec.{setting} out.",
            field=f"DataSpec.{setting}",
            value=value,
        )


def format_of(path: Path) -> Format:
    """The format of what is at `path`, by its content; DataError where none is, or not the one that its name says."""
    if path.is_dir():
        return _format_of_folder(path)
    size = size_of(path)
    endings = ("".join(path.suffixes[-2:]).lower(), path.suffix.lower())
    named = (
        IDX if path.name.endswith("-ubyte") else next((_BY_ENDING[one] for one in endings if one in _BY_ENDING), None)
    )
    if size == 0:
        raise DataError(f"{path} is empty (0 bytes); expected {named.name if named else _readable()}.")
    found = _format_of_content(path)
    what = found if isinstance(found, str) else found.name
    same = not isinstance(found, str) and any(ending in found.endings for ending in endings)
    if named is not None and found is not named and not same:
        fix = f"give a file of a type that is read: {_readable()}" if isinstance(found, str) else "rename it"
        raise DataError(f"{path} is not {named.name} but {what}: {fix}.")
    if isinstance(found, str):
        raise DataError(f"{path} is {what}, which this version does not read: give {_readable()}.")
    return found


def _format_of_folder(path: Path) -> Format:
    from vaekit.data.framing import SUFFIXES
    from vaekit.data.sound import SUFFIXES as OF_SOUND

    files = [file for file in path.iterdir() if not file.name.startswith(".")]
    if any(file.suffix.lower() == ".parquet" for file in files):
        return PARTS
    inner = (part for folder in files if folder.is_dir() for part in folder.iterdir())
    endings = {file.suffix.lower() for file in (*files, *inner)}
    if not endings.isdisjoint(SUFFIXES):
        return PICTURES
    if not endings.isdisjoint(OF_SOUND):
        return SOUNDS
    raise DataError(
        f"{path} is a folder without .parquet files, pictures ({', '.join(SUFFIXES)}) or recordings "
        f"({', '.join(OF_SOUND)}), in it or in its subfolders: give one that holds some, or a file."
    )


def _format_of_content(path: Path) -> Format | str:
    with path.open("rb") as file:
        head = file.read(1 << 16)
    for signature, known in _SIGNATURES.items():
        if head.startswith(signature) or signature.startswith(head):
            return known
    if head.startswith(b"PK"):
        return _format_of_zip(path)
    if head.startswith(b"\x1f\x8b"):
        return _format_of_gzip(path)
    from vaekit.data.formats.idx import is_idx

    if is_idx(head):
        return IDX
    from vaekit.data.formats.jsonl import is_json_lines

    if is_json_lines(head):
        return JSONL
    if what := _no_table(head) or _NO_TABLES.get(path.suffix.lower()):
        return what
    if _is_binary(head):
        return f"a file of unknown type (it begins with the bytes {head[:8].hex(' ')})"
    return CSV


# Of text that is no table: what it begins with, in lower case, and what it is.
_TEXTS = {
    b"@relation": "an ARFF file",
    b"@problemname": "a .ts file of time series",
    b"<?xml": "an XML file",
    b"<!doctype": "an HTML page",
    b"<html": "an HTML page",
    b"{": "a JSON file",
    b"[": "a JSON file",
    b"%!ps": "a PostScript file",
    b"{\\rtf": "an RTF document",
}
_NO_TABLES = {
    ".smi": "a file of SMILES",
    ".smiles": "a file of SMILES",
    ".svm": "a LIBSVM file",
    ".libsvm": "a LIBSVM file",
    ".svmlight": "a LIBSVM file",
}


def _no_table(head: bytes) -> str | None:
    """What text that is no table is; None of what may be one."""
    text = head.removeprefix(b"\xef\xbb\xbf")
    lines = (line.strip().lower() for line in text.splitlines())
    first = next(
        (line for line in lines if line and (not line.startswith((b"%", b"#")) or line.startswith(b"%!"))), b""
    )
    return next((what for begin, what in _TEXTS.items() if first.startswith(begin)), None)


def _is_binary(head: bytes) -> bool:
    """Whether bytes hold control characters that text has not; of text in UTF-16, the mark says that it is text."""
    return head[:2] not in (b"\xff\xfe", b"\xfe\xff") and any(byte < 9 or 13 < byte < 27 for byte in head)


def _format_of_zip(path: Path) -> Format | str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if set(names) >= _SPARSE_MEMBERS:
                return SPARSE
            return NPZ if any(name.endswith(".npy") for name in names) else "a zip archive"
    except DAMAGED:
        return NPZ  # whose reader says what is wrong with it


def _format_of_gzip(path: Path) -> Format | str:
    from vaekit.data.formats.idx import is_idx

    try:
        with gzip.open(path) as file:
            head = file.read(1 << 16)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return CSV if path.suffixes[-2:-1] in ([".csv"], [".tsv"]) else IDX  # whose reader says what is wrong with it
    if is_idx(head):
        return IDX
    return "a gzip file of something else" if not head or _is_binary(head) else CSV


def _readable() -> str:
    names = [known.name.split(" ", 1)[1] for known in FORMATS]
    return ", ".join(names[:-1]) + f" or {names[-1]}"
