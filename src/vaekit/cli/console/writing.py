"""The files that commands write: whole or not at all, block by block, and never over what a command reads."""

import math
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from PIL import Image

from vaekit.data import Rows, Schema, StreamedRows, names
from vaekit.data.sound import wav_bytes
from vaekit.errors import ConfigError, VaekitError
from vaekit.files import is_within, written
from vaekit.free_memory import in_gb
from vaekit.models.generative import BLOCK
from vaekit.report import captioned, rows_picture
from vaekit.report.pictures import most_pictured
from vaekit.runs import TrainedRun
from vaekit.words import counted

CSV, PARQUET, FEATHER = ".csv", ".parquet", ".feather"
ARRAYS = (".npy", ".npz", CSV, PARQUET, FEATHER)
WAV = ".wav"
AT_A_TIME = 4 * BLOCK  # rows read and given to the model
CHARACTERS = 2  # that a number takes in a CSV file, at least
_MOST_SOUNDS = 1000
_SILENCE = 0.2  # seconds after each
Columns = Mapping[str, np.ndarray]


def write_x(
    out: Path,
    trained: TrainedRun,
    blocks: Iterable[np.ndarray],
    rows: int,
    caption: str = "",
    contexts: Iterable[np.ndarray] | None = None,
) -> None:
    """Write rows of x by the ending of `out`: a captioned picture, a table as the source has it, or an array.

    Args:
        out: .png, .npy, .npz, .csv, .parquet, .feather or, of recordings, .wav.
        trained: The run, whose schema leads back to the form that the data is stored in.
        blocks: (n, *shape) each, as the model sees them.
        rows: Of all blocks together.
        caption: Of a picture.
        contexts: (n, width) of each block, to be among the columns of a table.
    """
    from vaekit.cli.console.tables import write_tables

    schema = trained.schema
    if out.suffix.lower() == ".png":
        picture = rows_picture(np.concatenate(list(blocks)), schema)
        write_picture(out, captioned(picture, caption) if caption else picture)
    elif out.suffix.lower() == WAV:
        _write_sound(out, schema, blocks)
    elif schema.kind == "table" and out.suffix.lower() in (CSV, PARQUET, FEATHER):
        tables = map(schema.to_table, blocks) if contexts is None else map(schema.to_table, blocks, contexts)
        write_tables(out, tables, rows, schema.dialect)
    else:
        write_rows(out, ({"x": schema.to_array(x)} for x in blocks), rows)


def bad_out(out: Path, why: str, option: str = "out") -> ConfigError:
    """The error of an --out, or another option, that cannot be written; `why` goes on from its name."""
    return ConfigError(f"--{option} is {out}{why}", field=option, value=out)


def check_pictured(out: Path, n: int, schema: Schema) -> None:
    """Refuse a picture of more rows than can be looked at, and sound where rows are none or too many."""
    if out.suffix.lower() == WAV and schema.sound is None:
        raise bad_out(out, f", a sound, and the rows of {schema.name} are no recordings: give .npy, or another ending")
    if out.suffix.lower() == WAV and n > _MOST_SOUNDS:
        raise bad_out(out, f", a sound of {n:,} rows, and at most {_MOST_SOUNDS:,} are joined: give --number")
    if out.suffix.lower() == ".png" and n > (most := most_pictured(schema)):
        raise bad_out(
            out,
            f", a picture, and {n:,} rows are too many for one: at most {most:,} are shown; give "
            "--number, or write numbers, as .npy",
        )


def check_out(out: Path, endings: tuple[str, ...], force: bool = False, option: str = "out") -> None:
    """Refuse a file that cannot be written, or that is there already, before any work is done."""
    refused = partial(bad_out, out, option=option)
    if out.suffix.lower() not in endings:
        wanted = endings[0] if len(endings) == 1 else f"one of {', '.join(endings)}"
        raise refused(f": name a file whose ending is {wanted}")
    try:
        found = out.stat().st_mode
    except FileNotFoundError:
        found = None
    except (OSError, ValueError) as error:  # ValueError of a NUL
        raise refused(f": {getattr(error, 'strerror', error)}; give another name") from None
    if found is not None and stat.S_ISDIR(found):
        raise refused(", which is a folder: name a file in it")
    if found is not None and not stat.S_ISREG(found):
        raise refused(", which is a device, a FIFO or a socket: name a file")
    if not out.parent.is_dir():
        raise refused(f": there is no folder {out.parent}; make it first")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise refused(f": the folder {out.parent} cannot be written to; name another")
    if found is not None and not force:
        raise refused(", which exists: add --force to replace it, or give another name")


def numbers_and_names(rows: Rows | StreamedRows, index: slice) -> dict[str, np.ndarray]:
    """`row`, the numbers of rows, and `name`, where the source has names for them."""
    numbers = {"row": np.arange(index.start, index.stop)}
    return numbers if rows.names is None else numbers | {"name": rows.names[index]}


def about_rows(rows: Rows | StreamedRows, index: slice, classes: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """`numbers_and_names` and `label`, where rows have one: the text in `classes`, empty where the run knows none.

    Without classes, labels are their numbers, as text.
    """
    columns = numbers_and_names(rows, index)
    if rows.labels is not None:
        labels = rows.labels[index].cpu().numpy()
        names = None if classes is None else np.array([*classes, ""], str)
        columns["label"] = labels.astype("<U20") if names is None else names[np.minimum(labels, len(names) - 1)]
    return columns


def check_apart(out: Path, run_folder: Path | None, *inputs: str | Path | None, option: str = "out") -> None:
    """Refuse a file that would take the place of what is read, by whatever link or spelling.

    That is the data of a run, other inputs, what lies in them, and the files that a run folder consists of.
    """
    for source in inputs:
        if source is not None and source not in names() and is_within(out, os.path.expanduser(source)):
            raise bad_out(out, f", which is the data {source} or lies in it: give another name", option)
    if run_folder is not None and is_within(out.parent, run_folder) and not out.parent.samefile(run_folder):
        raise bad_out(out, f", among the files that {run_folder} consists of: give another name", option)


def write_rows(out: Path, blocks: Iterable[Columns], rows: int) -> None:
    """Write blocks of rows by the ending of `out`, one after another, so that memory holds one at a time.

    Args:
        out: .npy takes the first array of each block, .npz all by name, .csv, .parquet and .feather all side by side,
            an array (rows, size) named z as the columns z0, z1, ...
        blocks: arrays (n, ...) by name, the same in every block.
        rows: Of all blocks together.

    Raises:
        ConfigError: There is no room for so many rows.
        VaekitError: It cannot be written; the old file is as it was.
    """
    with outgoing(out) as file:
        _WRITERS[out.suffix.lower()](file, _if_there_is_room(out, blocks, rows), rows)


def _write_sound(out: Path, schema: Schema, blocks: Iterable[np.ndarray]) -> None:
    """Write rows of recordings as one, with a silence after each."""
    assert schema.sound is not None
    rate = schema.sound.features.rate
    silence = np.zeros(round(_SILENCE * rate), np.float32)
    sounds = [sound for x in blocks for sound in schema.sound.of_rows(schema.to_stored(x))]
    with outgoing(out) as file:
        file.write(wav_bytes(np.concatenate([part for sound in sounds for part in (sound, silence)]), rate))


def write_picture(out: Path, picture: Image.Image) -> None:
    """Write a picture as PNG; see `write_rows`."""
    with outgoing(out) as file:
        picture.save(file, "PNG")


@contextmanager
def outgoing(out: Path) -> Iterator[IO[bytes]]:
    """`written`, for a file that the user named."""
    try:
        with written(out) as file:
            yield file
    except OSError as error:
        raise VaekitError(f"cannot write {out}: {error.strerror or error}; what was there is as it was") from None


def _if_there_is_room(out: Path, blocks: Iterable[Columns], rows: int) -> Iterator[Columns]:
    """The blocks, once the first has shown what a row takes, and that the disk holds so many."""
    checked = False
    for block in blocks:
        if not checked:
            each = sum(_row_bytes(values, out.suffix.lower()) for values in block.values())
            room_for(out, rows, each)
            checked = True
        yield block


def room_for(out: Path, rows: int, each: int) -> None:
    """Refuse rows that the disk does not hold; `each` is what one takes, in bytes, at least."""
    free = shutil.disk_usage(out.parent).free
    if rows * each > free:
        raise bad_out(
            out,
            f": {counted(rows, 'row takes', 'rows take')} at least {in_gb(rows * each)}, and {in_gb(free)} are free "
            f"there: at most {counted(free // each, 'row fits', 'rows fit')}",
        )


def _row_bytes(values: np.ndarray, ending: str) -> int:
    """What a row takes on disk, at least."""
    numbers = math.prod(values.shape[1:])
    if ending in (PARQUET, FEATHER):
        return 1
    return numbers * (CHARACTERS if ending == CSV else values.itemsize)


def _write_npy(file: IO[bytes], blocks: Iterable[Columns], rows: int) -> None:
    for number, block in enumerate(blocks):
        values = next(iter(block.values()))
        if number == 0:
            _write_header(file, values, rows)
        file.write(np.ascontiguousarray(values).data)


def _write_npz(file: IO[bytes], blocks: Iterable[Columns], rows: int) -> None:
    """An archive takes one array after another, so each waits, without a name, until it is complete."""
    waiting: dict[str, IO[bytes]] = {}
    with ExitStack() as stack:
        for block in blocks:
            for name, values in block.items():
                if name not in waiting:
                    waiting[name] = stack.enter_context(TemporaryFile(dir=Path(file.name).parent))
                    _write_header(waiting[name], values, rows)
                waiting[name].write(np.ascontiguousarray(values).data)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in waiting.items():
                array.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    shutil.copyfileobj(array, member)


def _write_header(file: IO[bytes], values: np.ndarray, rows: int) -> None:
    about: dict[str, Any] = {
        "descr": np.lib.format.dtype_to_descr(values.dtype),
        "fortran_order": False,
        "shape": (rows, *values.shape[1:]),
    }
    np.lib.format.write_array_header_1_0(file, about)


def _write_csv(file: IO[bytes], blocks: Iterable[Columns], rows: int) -> None:
    from pyarrow import csv

    _write_tables(file, blocks, csv.CSVWriter, lambda writer, table: writer.write(table))


def _write_parquet(file: IO[bytes], blocks: Iterable[Columns], rows: int) -> None:
    from pyarrow import parquet

    _write_tables(file, blocks, parquet.ParquetWriter, lambda writer, table: writer.write_table(table))


def _write_feather(file: IO[bytes], blocks: Iterable[Columns], rows: int) -> None:
    from pyarrow import ipc

    _write_tables(file, blocks, ipc.new_file, lambda writer, table: writer.write_table(table))


def _write_tables(
    file: IO[bytes],
    blocks: Iterable[Columns],
    start: Callable[..., Any],
    add: Callable[[Any, Any], object],
) -> None:
    writer = None
    for block in blocks:
        table = _table(block)
        writer = writer or start(file, table.schema)
        add(writer, table)
    if writer is not None:
        writer.close()


def _table(columns: Columns) -> Any:
    import pyarrow

    plain: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        flat = values.reshape(len(values), -1)
        called = [name] if values.ndim == 1 else [f"{name}{i}" for i in range(flat.shape[1])]
        plain |= dict(zip(called, flat.T, strict=True))
    return pyarrow.table({name: np.ascontiguousarray(values) for name, values in plain.items()})


_WRITERS = {
    ".npy": _write_npy,
    ".npz": _write_npz,
    CSV: _write_csv,
    PARQUET: _write_parquet,
    FEATHER: _write_feather,
}
