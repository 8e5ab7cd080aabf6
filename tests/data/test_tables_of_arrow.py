"""Feather files, JSON lines and gzipped CSV files: the same table as the CSV file of the same rows, or one line."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, ipc
from reading import attempted, load, refused, write

from naming import naming
from vaekit.data import DataSpec, Limit, prepare
from vaekit.data.open import open_table
from vaekit.errors import DataError, SpecError

ROWS = [{"size": 0.5 * i, "colour": "red" if i % 3 else "blue", "count": i} for i in range(12)]
CSV = "size,colour,count\n" + "".join(f"{row['size']},{row['colour']},{row['count']}\n" for row in ROWS)
ARROW = pa.Table.from_pylist(ROWS)


def feather_file(path: Path, table: pa.Table = ARROW, compression: str = "lz4") -> None:
    feather.write_feather(table, str(path), compression=compression, chunksize=5)


def stream(path: Path) -> None:
    with ipc.new_stream(str(path), ARROW.schema) as writer:
        writer.write_table(ARROW, 5)


def lines(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))


MAKERS = {
    "a.feather": feather_file,
    "b.arrow": stream,
    "c.arrow": lambda path: feather_file(path, compression="uncompressed"),
    "d.feather": lambda path: feather_file(path, compression="zstd"),
    "e.jsonl": lines,
    "f.csv.gz": lambda path: path.write_bytes(gzip.compress(CSV.encode())),
    "g.tsv.gz": lambda path: path.write_bytes(gzip.compress(CSV.replace(",", "\t").encode())),
    "h.csv.gz": lambda path: path.write_bytes(gzip.compress(CSV.encode("utf-16"))),
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_table_as_the_csv_file(tmp_path, name):
    MAKERS[name](tmp_path / name)
    table, expected = load(tmp_path / name), load(write(tmp_path, "a.csv", CSV))
    np.testing.assert_array_equal(table.whole(), expected.whole())
    assert table.names == expected.names
    assert [column.categories for column in table.columns or ()] == [None, ("blue", "red"), None]
    data = prepare(DataSpec(source=str(tmp_path / name), label="colour"), Limit())
    assert data.schema.classes == ("blue", "red")


@pytest.mark.parametrize("name", MAKERS)
def test_a_file_that_is_cut_short_is_one_line(tmp_path, name):
    MAKERS[name](tmp_path / name)
    content = (tmp_path / name).read_bytes()
    for length in (len(content) // 3, len(content) // 2, len(content) - 30):
        (tmp_path / name).write_bytes(content[:length])
        said = attempted(tmp_path / name)
        # An Arrow file is whole without its footer, and every line of JSON by itself.
        whole = (name[0] in "acd" and length == len(content) - 30) or content[length - 1 : length + 1] in (
            b"}\n",
            b"\n{",
        )
        assert isinstance(said, str) != whole
        assert whole or (str(said).endswith(".") and "\n" not in str(said))


def test_a_feather_file_with_bytes_changed_is_read_or_one_line(tmp_path):
    feather_file(tmp_path / "a.feather")
    content = bytearray((tmp_path / "a.feather").read_bytes())
    read = 0
    for place in range(8, len(content), 7):
        changed = content.copy()
        changed[place] ^= 0xFF
        said = attempted(write(tmp_path, "b.feather", bytes(changed)))
        read += not isinstance(said, str)
        assert not isinstance(said, str) or "\n" not in said
    assert read < len(content) // 7


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_feather_file_that_unpacks_to_more_than_the_limit_is_refused_before_it_is_unpacked(tmp_path, compression):
    feather.write_feather(pa.table({"a": np.zeros(10_000_000)}), str(tmp_path / "a.feather"), compression)
    assert (tmp_path / "a.feather").stat().st_size < 2_000_000
    with pytest.raises(DataError, match=r"would take about 0\.16 GB", check=naming("Limit.data_gb", 0.1)):
        open_table(DataSpec(source=str(tmp_path / "a.feather")), Limit(data_gb=0.1))


def test_a_dictionary_of_a_feather_file_counts_too(tmp_path):
    texts = pa.array(["x" * 100 + str(i) for i in range(1000)]).dictionary_encode()
    feather.write_feather(pa.table({"a": texts}), str(tmp_path / "a.feather"))
    with pytest.raises(DataError, match=r"would take about 0\.000", check=naming("Limit.data_gb", 1e-4)):
        open_table(DataSpec(source=str(tmp_path / "a.feather")), Limit(data_gb=1e-4))


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    write(tmp_path, "a.csv.gz", gzip.compress(b"a,b\n" + b"1,2\n" * 10_000_000))
    with pytest.raises(DataError, check=naming("Limit.data_gb", 0.03)):
        open_table(DataSpec(source=str(tmp_path / "a.csv.gz")), Limit(data_gb=0.03))


def test_keys_of_json_lines_that_are_not_in_every_line_are_missing_cells(tmp_path):
    path = write(
        tmp_path, "a.jsonl", '{"a": 1, "b": "x"}\n\n{"b": "y"}\n{"a": null, "b": "x"}\n{"a": 2.5, "b": null}\n'
    )
    np.testing.assert_array_equal(load(path).whole(), [[1, 0], [np.nan, 1], [np.nan, 0], [2.5, np.nan]])


def test_many_keys_of_json_lines_are_refused_before_they_become_a_table(tmp_path):
    path = write(tmp_path, "a.jsonl", "".join(f'{{"k{i}": 1}}\n' for i in range(20_000)))
    refused(path, "would take about 3.2 GB", r"Limit.data_gb")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1}\n[1, 2]\n', "line 2 is not a JSON object"),
        ('{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ('{"a": 1}\n' + '{"a":' * 100_000 + "\n", "line 2 is not JSON (it is nested too deep"),
        ('{"a": 1}\n{"a": [1]}\n', "values of one type"),
        ("{}\n{}\n", "2 rows and 0 columns"),
    ],
)
def test_json_lines_that_are_no_table_are_one_line(tmp_path, text, said):
    refused(write(tmp_path, "a.jsonl", text), said)


def test_a_name_that_says_another_format_is_refused(tmp_path):
    feather_file(tmp_path / "a.csv")
    refused(tmp_path / "a.csv", "is not a CSV file (.csv) but a Feather or Arrow file", "rename it")
    lines(tmp_path / "b.csv")
    refused(tmp_path / "b.csv", "is not a CSV file (.csv) but a file of JSON lines")


def test_settings_of_csv_are_for_no_other_table(tmp_path):
    lines(tmp_path / "a.jsonl")
    with pytest.raises(SpecError, check=naming("DataSpec.delimiter", ";")):
        open_table(DataSpec(source=str(tmp_path / "a.jsonl"), delimiter=";"), Limit())
