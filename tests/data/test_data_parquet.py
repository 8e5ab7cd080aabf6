"""Parquet is read like CSV; what is damaged, or is no table of numbers, gives one error that says what to do."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import load, refused

from naming import naming
from vaekit.data import DataSpec, Limit, StreamedRows, prepare
from vaekit.data.formats import parquet
from vaekit.errors import DataError, SpecError

X = np.random.default_rng(0).normal(size=(60, 3))
KINDS = np.array(["cat", "dog"])[np.arange(60) % 2]


def table(rows: slice = slice(None), **columns: object) -> pa.Table:
    given = {"a": X[rows, 0], "b": X[rows, 1], "c": X[rows, 2], "label": KINDS[rows]}
    return pa.table({**given, **columns})


def write(path: Path, content: pa.Table, **settings) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(content, path, **settings)
    return path


def test_a_table_with_labels_and_dropped_columns(tmp_path):
    path = write(tmp_path / "t.parquet", table(), row_group_size=7)
    source = load(path, drop=("b",))
    np.testing.assert_array_equal(source.whole(), X[:, [0, 2]])
    assert source.names == ("a", "c")
    assert source.classes == ("cat", "dog")
    assert source.labels is not None
    assert [source.classes[k] for k in source.labels] == KINDS.tolist()
    renamed = write(tmp_path / "r.parquet", table().rename_columns(["a", "b", "c", "animal"]))
    assert load(renamed, label="animal").classes == ("cat", "dog")


def test_a_csv_file_gives_the_same(tmp_path):
    path = write(tmp_path / "t.parquet", table())
    lines = [",".join([*map(repr, map(float, row)), kind]) for row, kind in zip(X, KINDS, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,label", *lines]))
    assert np.array_equal(load(path).whole(), load(tmp_path / "t.csv").whole())


def test_files_are_opened_no_oftener_for_more_columns_of_text(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(
        pq, "ParquetFile", lambda path, _open=pq.ParquetFile, **how: opened.append(path) or _open(path, **how)
    )
    counts = []
    for width in (2, 30):
        texts = {f"t{place}": np.roll(KINDS, place) for place in range(width)}
        for part in range(3):
            write(tmp_path / str(width) / f"{part}.parquet", pa.table({"a": X[:, 0], **texts}), row_group_size=25)
        opened.clear()
        columns = load(tmp_path / str(width)).columns or ()
        assert [column.categories for column in columns] == [None, *[("cat", "dog")] * width]
        counts.append(len(opened))
    assert counts[0] == counts[1]


def test_a_folder_of_parts_is_one_table_in_the_order_of_names(tmp_path):
    write(tmp_path / "parts" / "b.parquet", table(slice(40, 60)))
    write(tmp_path / "parts" / "a.parquet", table(slice(0, 40)), row_group_size=9)
    (tmp_path / "parts" / "_SUCCESS").write_text("")
    source = load(tmp_path / "parts")
    np.testing.assert_array_equal(source.whole(), X)
    assert source.labels is not None
    np.testing.assert_array_equal(source.labels, np.arange(60) % 2)
    write(tmp_path / "parts" / "c.parquet", table().drop_columns(["b"]))
    refused(tmp_path / "parts", "c.parquet", "other columns than a.parquet", "(b)")
    write(tmp_path / "parts" / "c.parquet", table(b=[0.0] * 59 + [1.0], c=KINDS))
    refused(tmp_path / "parts", "c.parquet", "'c' is of type string", "double in a.parquet")


@pytest.mark.parametrize(
    ("columns", "dtype"),
    [
        ({"a": pa.array([1, 2, 3], pa.uint8())}, np.float32),
        ({"a": pa.array([1.5, 2, 3], pa.float32()), "b": pa.array([True, False, True])}, np.float32),
        ({"a": pa.array([1, 2, 1 << 40]), "b": pa.array([1, 2, 3], pa.uint8())}, np.float64),
    ],
)
def test_small_types_take_four_bytes(tmp_path, columns, dtype):
    source = load(write(tmp_path / "t.parquet", pa.table(columns)))
    assert source.whole().dtype == dtype
    for place, column in enumerate(columns.values()):
        assert source.whole()[:, place].tolist() == column.cast(pa.float64(), safe=False).to_pylist()


def test_what_is_no_table_of_numbers(tmp_path):
    path = write(tmp_path / "t.parquet", table(b=KINDS))
    refused(path, "the column 'b' holds 'cat' in row 0", 'DataSpec.drop=["b"]')
    refused(path, check=naming("DataSpec.label", "colour"), label="colour")
    refused(path, check=naming("DataSpec.drop", ["x"]), drop=("x",))
    refused(
        write(tmp_path / "n.parquet", table(b=[None, *X[1:, 1]])),
        "row 0",
        "column 'b' is the first of 1 cell",
        missing="refuse",
    )
    refused(write(tmp_path / "e.parquet", table(slice(0, 0))), "no rows")
    refused(write(tmp_path / "l.parquet", pa.table({"label": KINDS})), "no column of data is left")
    refused(path, error=SpecError, check=naming("DataSpec.image_size", (8, 8)), image_size=(8, 8))


def test_damage_is_one_error_wherever_it_is(tmp_path):
    content = write(tmp_path / "t.parquet", table(), row_group_size=20).read_bytes()
    path = tmp_path / "d.parquet"
    path.write_bytes(b"")
    refused(path, "is empty (0 bytes)")
    path.write_text("a,b\n1,2\n")
    refused(path, "is not a Parquet file (.parquet) but a CSV file")
    for length in range(4, len(content) - 1, len(content) // 24):
        path.write_bytes(content[:length])
        refused(path, "d.parquet is truncated or damaged")
    damaged = bytearray(content)
    damaged[20:60] = b"\xff" * 40
    path.write_bytes(damaged)
    for stream in ("never", "always"):
        refused(path, "d.parquet", "truncated or damaged", stream=stream)


def test_a_row_group_that_cannot_be_held(tmp_path):
    path = write(tmp_path / "t.parquet", table())
    spec = DataSpec(source=str(path), stream="always")
    with pytest.raises(DataError, match=r"row group of 60 rows.*row_group_size=10\b", check=naming("Limit.data_gb")):
        prepare(spec, Limit(data_gb=1e-6))
    write(path, table(), row_group_size=10)
    assert isinstance(prepare(spec, Limit(data_gb=1e-6)).train, StreamedRows)


def _footer_saying(content: bytes, real: int, said: int) -> bytes:
    """A Parquet file whose footer says another number, which takes as many bytes as the real one."""

    def number(value: int) -> list[int]:
        return [value << 1 >> shift & 127 for shift in range(0, (value << 1).bit_length(), 7)]

    length = len(number(real))
    before, after = number(real), (number(said) + [0] * length)[:length]
    old, new = (bytes([*(part | 128 for part in parts[:-1]), parts[-1]]) for parts in (before, after))
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    assert old in content[footer:]
    return content[:footer] + content[footer:].replace(old, new)


def test_a_footer_that_understates_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "LARGEST_PAGE", 100_000)
    zeros = pa.table({"a": np.zeros(20_000)})
    path = write(tmp_path / "t.parquet", zeros, compression="zstd", use_dictionary=False, write_statistics=False)
    size = pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size
    path.write_bytes(_footer_saying(path.read_bytes(), size, 1000))
    assert pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 1000
    with pytest.raises(DataError, match=r"a page of 0\.00016 GB in the column 'a'"):
        prepare(DataSpec(source=str(path)), Limit(data_gb=1e-4))
