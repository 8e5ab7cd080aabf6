"""Tables as people have them: text, holes, dates, identifiers, separators; every column is of the right kind."""

import gzip
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.feather as pa_feather
import pyarrow.parquet as pq
import pytest
import torch
from reading import refused, write

from naming import naming
from vaekit.data import Dataset, DataSpec, Limit, Rows, prepare
from vaekit.data.formats import csv
from vaekit.data.table import Sizes

RNG = np.random.default_rng(0)
FORMATS = ("csv", "tsv", "csv.gz", "semicolons.csv", "utf16.csv", "bom.csv", "parquet", "feather")


def put(folder: Path, frame: pa.Table, form: str) -> Path:
    """The same rows in a file of some format."""
    path = folder / f"t.{form}"
    if form == "parquet":
        pq.write_table(frame, path)
    elif form == "feather":
        pa_feather.write_feather(frame, path)
    else:
        delimiter = {"tsv": "\t", "semicolons.csv": ";"}.get(form, ",")
        buffer = io.BytesIO()
        pa_csv.write_csv(frame, buffer, pa_csv.WriteOptions(delimiter=delimiter))
        text = buffer.getvalue().decode()
        encoding = {"utf16.csv": "utf-16", "bom.csv": "utf-8-sig"}.get(form, "utf-8")
        content = text.encode(encoding)
        path.write_bytes(gzip.compress(content) if form == "csv.gz" else content)
    return path


def opened(path: Path, limit: Limit | None = None, **settings) -> Dataset:
    return prepare(DataSpec(source=str(path), **settings), limit or Limit())


def kinds(data: Dataset) -> dict[str, str]:
    return {field.name: field.kind for field in data.schema.fields or ()}


def x_of(rows) -> torch.Tensor:
    assert isinstance(rows, Rows)
    return rows.batch(slice(None))


def with_holes(values: list, rows: int) -> list:
    return [None if place % 7 == 3 else values[place % len(values)] for place in range(rows)]


def people(rows: int) -> pa.Table:
    pay = np.random.default_rng(rows).normal(size=50).tolist()
    return pa.table(
        {
            "pay": pa.array(with_holes(pay, rows)),
            "sex": pa.array(["F" if place % 3 else "M" for place in range(rows)]),
            "town": pa.array(with_holes(["Ulm", "Bern", "Köln, am Rhein"], rows)),
            "member": pa.array([place % 2 == 0 for place in range(rows)]),
            "born": pa.array(np.arange(rows).astype("datetime64[D]") + 9000),
            "visits": pa.array([place * 7 % 43 for place in range(rows)]),
        }
    )


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("rows", [12, 300])
def test_text_holes_truths_and_dates(tmp_path, form, rows):
    data = opened(put(tmp_path, people(rows), form))
    assert kinds(data) == {
        "pay": "real",
        "sex": "binary",
        "town": "categorical",
        "member": "binary",
        "visits": "count",
    }
    by_name = {field.name: field for field in data.schema.fields or ()}
    assert by_name["town"].categories == ("Bern", "Köln, am Rhein", "Ulm")
    assert by_name["sex"].categories == ("F", "M")
    assert any("'born'" in notice and "dates" in notice for notice in data.schema.notices)
    assert data.schema.missing
    table = people(rows)
    mask = torch.cat([part.mask for part in (data.train, data.valid, data.test) if isinstance(part, Rows)])
    assert int((~mask).sum()) == table["pay"].null_count + table["town"].null_count
    x = torch.cat([x_of(part) for part in (data.train, data.valid, data.test)])
    assert torch.isfinite(x).all()
    assert set(x[:, 2].tolist()) == {0.0, 1.0, 2.0}
    assert x[:, 3].sum() == (rows + 1) // 2


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_rows_in_every_format(tmp_path, form):
    first, other = (opened(put(tmp_path, people(60), one)) for one in ("csv", form))
    for one, two in ((first.train, other.train), (first.test, other.test)):
        assert torch.equal(x_of(one), x_of(two))
    assert [field.kind for field in first.schema.fields or ()] == [field.kind for field in other.schema.fields or ()]


def labelled(name: str, holes: bool) -> pa.Table:
    label = [None if holes and place % 5 == 0 else "ab"[place % 2] for place in range(40)]
    return pa.table({"x": RNG.normal(size=40), "z": RNG.normal(size=40), name: pa.array(label)})


@pytest.mark.parametrize("form", ["csv", "parquet", "feather"])
@pytest.mark.parametrize("name", ["class", "Label", "target", "y"])
def test_a_label_is_taken_with_a_word_or_modelled(tmp_path, form, name):
    data = opened(put(tmp_path, labelled(name, False), form))
    assert data.schema.classes == ("a", "b")
    assert data.schema.columns == ("x", "z")
    assert any(f"{name!r} is taken for the label" in notice for notice in data.schema.notices)
    set_so = opened(tmp_path / f"t.{form}", label=name)
    assert set_so.schema.classes == ("a", "b")
    assert not set_so.schema.notices
    none = opened(tmp_path / f"t.{form}", label="none")
    assert none.schema.classes is None
    assert kinds(none) == {"x": "real", "z": "real", name: "binary"}


@pytest.mark.parametrize("form", ["csv", "parquet", "feather"])
def test_a_label_with_holes_is_a_column(tmp_path, form):
    path = put(tmp_path, labelled("class", True), form)
    data = opened(path)
    assert kinds(data)["class"] == "binary"
    assert any("8 rows lack" in notice for notice in data.schema.notices)
    refused(path, "missing in 8 rows", "label=none", label="class")


ROWS = 80
HIDDEN = {
    "__index_level_0__": (RNG.permutation(ROWS) * 3, "index of a data frame"),
    "Unnamed: 0": (RNG.permutation(ROWS), "identifier"),
    "": (RNG.permutation(ROWS) + 17, "identifier"),
    "row": (np.arange(ROWS) + 1, "counts the rows"),
    "n": (np.arange(ROWS), "counts the rows"),
    "patient_id": (RNG.integers(0, 9000, ROWS), "by its name"),
    "userId": (RNG.integers(0, 60, ROWS), "by its name"),
    "ID": (RNG.permutation(ROWS) * 11, "by its name"),
    "timestamp": (RNG.integers(880_000_000, 890_000_000, ROWS), "timestamps"),
    "event_time": (RNG.integers(1_600_000_000_000, 1_700_000_000_000, ROWS), "timestamps"),
    "key": (np.array([f"k{place * 37}" for place in range(ROWS)]), "every row has another text"),
}


@pytest.mark.parametrize("form", ["csv", "parquet", "feather"])
@pytest.mark.parametrize("name", HIDDEN)
def test_columns_that_are_no_data_are_left_out_with_a_word(tmp_path, form, name):
    values, why = HIDDEN[name]
    columns = {name: values, "x": RNG.normal(size=ROWS), "z": RNG.normal(size=ROWS)}
    if name == "" and form != "csv":
        pytest.skip("only text files have columns without names")
    data = opened(put(tmp_path, pa.table(columns), form))
    assert data.schema.columns == ("x", "z")
    said = [notice for notice in data.schema.notices if repr(name or "column 0") in notice]
    assert len(said) == 1
    assert why in said[0]


def test_what_looks_like_an_identifier_may_be_declared(tmp_path):
    columns = {"user_id": RNG.integers(0, 900, ROWS), "x": RNG.normal(size=ROWS)}
    path = put(tmp_path, pa.table(columns), "csv")
    assert kinds(opened(path, columns={"user_id": {"kind": "count"}})) == {"user_id": "count", "x": "real"}


def test_numbers_that_are_data_stay(tmp_path):
    columns = {
        "time": RNG.normal(size=ROWS) * 60 + 500,
        "income": RNG.integers(0, 2_000_000_000, ROWS),
        "idle": RNG.normal(size=ROWS),
        "paid": RNG.integers(0, 50, ROWS),
        "id": RNG.integers(0, 3, ROWS),
    }
    assert opened(put(tmp_path, pa.table(columns), "csv")).schema.columns == tuple(columns)


PLAIN = np.round(RNG.normal(size=(30, 2)) * 3000, 2)


@pytest.mark.parametrize(
    ("name", "delimiter", "cell", "settings"),
    [
        ("comma.csv", ";", lambda v: f"{v:.2f}".replace(".", ","), {}),
        ("comma.tsv", "\t", lambda v: f"{v:.2f}".replace(".", ","), {}),
        ("quoted.csv", ",", lambda v: '"' + f"{v:.2f}".replace(".", ",") + '"', {"decimal": ","}),
        ("thousands.csv", ",", lambda v: f'"{v:,.2f}"', {}),
        ("thousands.tsv", "\t", lambda v: f"{v:,.2f}", {"decimal": "."}),
        ("german.csv", ";", lambda v: f"{v:,.2f}".translate(str.maketrans(",.", ".,")), {}),
        ("bars.csv", "|", lambda v: f"{v:.2f}", {}),
        ("blanks.txt", " ", lambda v: f"{v:.2f}", {}),
        ("spaced.csv", ", ", lambda v: f"{v:.2f}", {}),
        ("sign.csv", ",", lambda v: f"{v:+.2f}", {}),
        ("exponent.csv", ",", lambda v: f"{v:.9e}", {}),
    ],
)
@pytest.mark.parametrize("headed", [True, False])
def test_how_numbers_are_written(tmp_path, name, delimiter, cell, settings, headed):
    lines = [delimiter.join(map(cell, row)) for row in PLAIN.tolist()]
    path = write(tmp_path, name, "\n".join([delimiter.join(("a", "b"))] * headed + lines) + "\n")
    data = opened(path, scale="none", **settings)
    x = torch.cat([x_of(part) for part in (data.train, data.valid, data.test)]).double().numpy()
    stored = x if data.schema.loc is None else data.schema.to_stored(x.astype(np.float32))
    np.testing.assert_allclose(np.sort(stored, 0), np.sort(PLAIN, 0), rtol=1e-5, atol=1e-3)
    assert data.schema.columns == (("a", "b") if headed else ("column 0", "column 1"))


def test_a_comma_that_may_mean_two_things_is_asked_about(tmp_path):
    path = write(tmp_path, "a.csv", "a;b\n" + "".join(f"1,{n:03};{n}.5\n" for n in range(30)))
    refused(path, "'1,000'", check=naming("DataSpec.decimal", None))


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("a.arff", "% made by hand\n@RELATION x\n@ATTRIBUTE a NUMERIC\n@DATA\n1\n2\n3\n", "an ARFF file"),
        ("a.txt", "@relation x\n@attribute a numeric\n@data\n1,2\n2,3\n", "an ARFF file"),
        ("a.csv", '[{"a": 1, "b": 2},\n {"a": 3, "b": 4}]', "a JSON file"),
        ("a.json", '{"a": [1, 2, 3],\n "b": [1, 2, 3]}', "a JSON file"),
        ("a.ts", "@problemName x\n@data\n1,2:1\n", "a .ts file"),
        ("a.smi", "CCO ethanol\nC1CC1 x\n", "a file of SMILES"),
        ("a.svm", "1 1:0.5 3:2\n0 2:1\n", "a LIBSVM file"),
        ("a.xml", '<?xml version="1.0"?>\n<a>1</a>\n', "an XML file"),
        ("a.csv", "<!DOCTYPE html>\n<html></html>\n", "an HTML page"),
        ("a.txt", "".join(f"{n:8.3f}   {n % 7:4d}\n" for n in range(30)), "several blanks"),
    ],
)
def test_text_that_is_no_table(tmp_path, name, text, what):
    message = refused(write(tmp_path, name, text), name, what)
    assert "correct that line" not in message


@pytest.mark.parametrize("width", [13, 500, 10_000])
def test_many_columns_of_text_give_a_short_error(tmp_path, width):
    lines = [",".join(f"t{place}" for place in range(width)), *[",".join(["x"] * width)] * 3]
    assert len(refused(write(tmp_path, "a.csv", "\n".join(lines) + "\n"), "'t0'", "DataSpec.drop")) < 600


@pytest.mark.parametrize(
    "name", ["a\nvaekit: done", "a\r\nb", "\x1b[2Jb", "a\u2028b", "a\u202eb", "a\x00b", "x" * 5000]
)
def test_names_cannot_forge_what_is_said(tmp_path, name):
    frame = pa.table({name: ["x"] * 30, "z": RNG.normal(size=30)})
    message = refused(put(tmp_path, frame, "parquet"), "holds 'x'" if len(name) < 100 else "x")
    assert message.isprintable()
    assert len(message) < 2100
    for notice in opened(tmp_path / "t.parquet").schema.notices:
        assert notice.isprintable()


@pytest.mark.parametrize("hole", ["", "NA", "?", "nan"])
def test_a_first_row_with_a_hole_is_no_header(tmp_path, hole):
    path = write(tmp_path, "a.csv", f"1.5,{hole},2\n" + "".join(f"{n}.25,{n * n},3.5\n" for n in range(29)))
    data = opened(path)
    assert len(data.train) + len(data.valid) + len(data.test) == 30
    assert data.schema.missing


ODD = (
    "0x1F",
    "9223372036854775808",
    "9007199254740993",
    "1e300",
    "-0",
    " 7",
    "8 ",
    "NAN",
    "",
    "-9",
    "-9.0",
    "x",
)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("cells", [1, 60, 1 << 20])
def test_columns_read_together_are_those_read_alone(tmp_path, monkeypatch, late, cells):
    monkeypatch.setattr(csv, "BLOCK", 1 << 11)
    monkeypatch.setattr(csv, "CELLS", cells)
    rng = np.random.default_rng(0)
    columns = [[str(number) for number in rng.integers(0, 9, 300)] for _ in ODD]
    columns += [[f"{number:.4f}" for number in rng.normal(size=300)] for _ in ODD]
    for column, odd in zip(columns, 2 * ODD, strict=True):
        column[200 if late else 2] = odd
    spec, sizes = DataSpec(missing_values=("-9",)), Sizes.of(Limit())
    rows = [",".join(row) for row in [[f"c{place}" for place in range(len(columns))], *zip(*columns, strict=True)]]
    together = csv.open(write(tmp_path, "all.csv", "\n".join(rows)), spec, sizes)
    assert together.columns is not None
    for place, column in enumerate(columns):
        quoted = [f'"{cell}"' if cell == "" else cell for cell in (f"c{place}", *column)]
        alone = csv.open(write(tmp_path, "one.csv", "\n".join(quoted)), spec, sizes)
        assert alone.columns == (together.columns[place],)
        np.testing.assert_array_equal(alone.whole()[:, 0], together.whole()[:, place])


def test_blank_lines_take_no_time(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "BLANK", 1000)
    blank = b"\n" * 2000
    refused(write(tmp_path, "first.csv", blank + b"a,b\n1,2\n"), "begins with 1,000 of them")
    rows = b"a;b\n" + b"".join(b"%d;%d\n" % (number % 3, number % 5) for number in range(30))
    assert kinds(opened(write(tmp_path, "later.csv", rows + blank + rows[4:]))) == {"a": "ordinal", "b": "ordinal"}
