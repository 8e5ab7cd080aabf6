"""Rows of a model as the table or the array that their source is."""

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, feather, parquet

from vaekit import fit
from vaekit.cli.console.tables import write_tables
from vaekit.data import DataSpec, Limit, prepare, read_like
from vaekit.data.restoring import restored
from vaekit.data.schema import Dialect
from vaekit.runs import run


@pytest.fixture
def table(tmp_path):
    """A CSV file with decimal commas, a constant, holes and texts that need quotes."""
    rng = np.random.default_rng(0)
    lines = ["size; colour; place; unit; ok; n"]
    for number in range(200):
        colour = rng.choice([" red", '" a; b"', " green"])
        size = f"{rng.normal(5, 2):.2f}".replace(".", ",")
        lines += [f"{size};{colour}; {rng.choice(['', 'here', 'there'])}; cm; {number % 3 == 0}; {rng.poisson(40)}"]
    path = tmp_path / "things.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_go_to_a_table_and_back(table):
    spec, limit = DataSpec(source=str(table)), Limit()
    data = prepare(spec, limit)
    x = data.train.inputs(slice(None))["x"].numpy()
    back = data.schema.to_table(x)
    assert back.column_names == ["size", "colour", "place", "unit", "ok", "n"]
    assert set(back["colour"].to_pylist()) == {"red", "a; b", "green"}
    assert set(back["unit"].to_pylist()) == {"cm"}
    assert pa.types.is_integer(back.schema.field("n").type)
    sizes = back["size"].to_numpy()
    assert np.array_equal(sizes, sizes.round(2))
    again = read_like(back, spec, data.schema, limit)
    observed = data.train.inputs(slice(None))["mask"].numpy()
    assert np.allclose(again.inputs(slice(None))["x"].numpy()[observed], x[observed], atol=1e-6)


@pytest.mark.parametrize("ending", ["csv", "parquet", "feather"])
def test_files_hold_the_same_table(table, tmp_path, ending):
    data = prepare(DataSpec(source=str(table)), Limit())
    made, out = data.schema.to_table(data.train.inputs(slice(None))["x"].numpy()), tmp_path / f"out.{ending}"
    write_tables(out, [made.slice(0, 50), made.slice(50)], len(made), data.schema.dialect)
    if ending != "csv":
        found = (parquet if ending == "parquet" else feather).read_table(out)
        assert found.equals(made)
        return
    lines = out.read_text().splitlines()
    assert lines[0] == table.read_text().splitlines()[0]
    assert len(lines) == len(made) + 1
    again = prepare(DataSpec(source=str(out)), Limit()).schema
    assert [(one.name, one.kind, one.categories) for one in again.fields] == [
        (one.name, one.kind, one.categories) for one in data.schema.fields
    ]


def test_plain_csv_has_the_types_of_its_source(tmp_path):
    made = pa.table({"a": [1, 2], "b": [1.0, 2.5], "c": ["x, y", ' "q"'], "d": [True, False]})
    write_tables(tmp_path / "t.csv", [made], 2, None)
    assert (tmp_path / "t.csv").read_text() == 'a,b,c,d\n1,1.0,"x, y",True\n2,2.5," ""q""",False\n'
    assert csv.read_csv(tmp_path / "t.csv").equals(made)
    write_tables(tmp_path / "u.csv", [made.drop_columns(["c"])], 2, Dialect(delimiter="; ", decimal=",", header=False))
    assert (tmp_path / "u.csv").read_text() == "1; 1,0; True\n2; 2,5; False\n"


@pytest.mark.parametrize(
    ("cells", "dtype", "categories", "expected"),
    [
        ([0.4, 254.6, 300, -3], "uint8", (), pa.array([0, 255, 255, 0], pa.uint8())),
        ([1e30, -1e30], "int64", (), pa.array([2**63 - 1024, -(2**63)])),
        ([0, 1, np.nan], "category", ("a", "b"), pa.array(["a", "b", None]).dictionary_encode()),
        ([0, 1], "string", ("a", "b"), pa.array(["a", "b"])),
        ([0, 1], "bool", ("False", "True"), pa.array([False, True])),
        ([0, 2], "int64", ("1", "3", "7"), pa.array([1, 7])),
    ],
)
def test_cells_have_the_type_of_their_column(cells, dtype, categories, expected):
    found = restored(np.array(cells, float), dtype, categories)
    assert found.equals(expected.cast(found.type))
    assert found.to_pylist() == expected.to_pylist()


def test_arrays_have_their_axes_and_constants_back():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 6, 5, 3)).astype(np.uint8)
    data = prepare(DataSpec(), Limit(), data=images)
    assert data.schema.to_array(np.zeros((2, 3, 6, 5), np.float32)).shape == (2, 6, 5, 3)
    rows = np.stack([rng.normal(size=50), np.full(50, 7.0), rng.normal(size=50)], 1)
    data = prepare(DataSpec(), Limit(), data=rows)
    back = data.schema.to_array(data.train.inputs(slice(None))["x"].numpy())
    assert back.shape[1] == 3
    assert (back[:, 1] == 7).all()


def test_a_run_gives_tables_of_several_kinds(table):
    trained = fit(run(str(table), "train.epochs=1", "model.latent=2"), progress=False)
    made, same = trained.sample(20, seed=3), trained.sample(20, seed=3)
    assert made.equals(same)
    assert made.column_names[0] == "size"
    assert len(made) == 20
    assert trained.reconstruct()["place"].null_count == 0


def cells(rows: int) -> dict[str, list[str]]:
    """Texts as a file may have them, by the names of columns."""
    rng = np.random.default_rng(1)
    return {
        "x": [f"{number:.3f}" for number in rng.normal(size=rows)],
        "age": ["" if place % 7 == 2 else str(20 + place % 50) for place in range(rows)],
        "kids": ["" if place % 5 == 2 else str(place % 3) for place in range(rows)],
        "ok": [("TRUE", "FALSE")[place % 3 == 0] for place in range(rows)],
        "yes": [("true", "false")[place % 2] for place in range(rows)],
        "zip": [f"{place % 12 * 37:05}" for place in range(rows)],
        "dose": [("0.5", "1.25", "4.0")[place % 3] for place in range(rows)],
        "near": ["0.30000000000000004" if place % 3 == 0 else "0.3" for place in range(rows)],
        "low": ["0.1" if place == 5 else "0.10000000000000002" for place in range(rows)],
    }


def test_cells_come_back_as_the_file_writes_them(tmp_path):
    texts, path = cells(300), tmp_path / "t.csv"
    path.write_text("\n".join([",".join(texts), *map(",".join, zip(*texts.values(), strict=True))]) + "\n")
    spec, limit = DataSpec(source=str(path)), Limit()
    data = prepare(spec, limit)
    kinds = {field.name: (field.kind, len(field.categories)) for field in data.schema.fields or ()}
    assert kinds.pop("zip") == ("categorical", 12)
    assert kinds.pop("dose") == ("ordinal", 3)
    assert set(kinds) == {"x", "age", "kids", "ok", "yes"}
    assert any("'zip'" in notice and "codes" in notice for notice in data.schema.notices)
    x = data.train.inputs(slice(None))["x"].numpy()
    write_tables(tmp_path / "out.csv", [data.schema.to_table(x)], len(x), data.schema.dialect)
    lines = [line.split(",") for line in (tmp_path / "out.csv").read_text().splitlines()]
    assert lines[0] == list(texts)
    made = dict(zip(texts, zip(*lines[1:], strict=True), strict=True))
    for name in ("ok", "yes", "zip", "dose"):
        assert set(made[name]) == set(texts[name])
    for name in ("age", "kids"):
        assert set(made[name]) <= {*texts[name], "0"}  # cells that are missing in the source are 0 in x
    assert (set(made["near"]), set(made["low"])) == ({"0.3"}, {"0.10000000000000002"})
    again = read_like(str(tmp_path / "out.csv"), spec, data.schema, limit)
    assert np.array_equal(again.inputs(slice(None))["x"].numpy(), x)
    pandas = pytest.importorskip("pandas")
    assert pandas.read_csv(tmp_path / "out.csv").dtypes.astype(str).to_dict()["age"] == "int64"


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("block", [1 << 8, 1 << 24])
def test_codes_are_known_wherever_the_first_is(tmp_path, monkeypatch, late, block):
    from vaekit.data.formats import csv as reader

    monkeypatch.setattr(reader, "BLOCK", block)
    plain, path = [str(1000 + place % 9) for place in range(300)], tmp_path / "t.csv"
    plain[290 if late else 3] = "0071"
    others = [f"{place * 0.37 % 1:.3f}" for place in range(300)]
    for column, kind in (
        (plain, "categorical"),
        ([text.replace("0071", "0") for text in plain], "ordinal"),
        ([*plain[:-1], "1.5"], "ordinal"),
        ([text.replace("0071", "0x71") for text in plain], "ordinal"),
    ):
        path.write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in zip(column, others, strict=True)))
        fields = prepare(DataSpec(source=str(path)), Limit()).schema.fields or ()
        assert fields[0].kind == kind
    path.write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in zip(plain, others, strict=True)))
    declared = DataSpec(source=str(path), columns={"a": "count"})
    assert (prepare(declared, Limit()).schema.fields or ())[0].kind == "count"


def test_arrays_have_a_near_constant_back_as_most_rows_have_it():
    rows = np.stack([np.random.default_rng(0).normal(size=50), np.full(50, 0.3)], 1)
    rows[7, 1] = np.nextafter(0.3, 0)
    schema = prepare(DataSpec(), Limit(), data=rows).schema
    assert [one.value for one in schema.constants] == [0.3]
