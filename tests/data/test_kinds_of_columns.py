"""Kinds of columns that are declared or that a type says: obeyed in every format, or refused in a line."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as pa_feather
import pyarrow.parquet as pq
import pytest

from naming import naming
from vaekit.data import Dataset, DataSpec, Limit, prepare
from vaekit.errors import ConfigError, DataError, SpecError
from vaekit.runs import run
from vaekit.uses.filling import filling

RNG = np.random.default_rng(0)
N = 120
X = RNG.normal(size=N).round(3).tolist()
FORMS = ("csv", "jsonl", "parquet", "frame")


def prepared(folder: Path, form: str, cells: list, **settings) -> Dataset:
    """A table with the column s, of texts as they are typed wherever one is a text, but in JSON lines."""
    columns = {"x": X, "y": X[::-1], "s": cells}
    typed = [None if cell is None else str(cell) for cell in cells] if any(isinstance(c, str) for c in cells) else cells
    path, data = folder / f"t.{form}", None
    if form == "csv":
        rows = zip(*columns.values(), strict=True)
        path.write_text("x,y,s\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    elif form == "jsonl":
        rows = zip(*columns.values(), strict=True)
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    elif form == "parquet":
        pq.write_table(pa.table({**columns, "s": typed}), path, row_group_size=50)
    else:
        data = pa.table({**columns, "s": typed})
    return prepare(DataSpec(source=None if data is not None else str(path), **settings), Limit(), data=data)


def said_of_s(data: Dataset) -> tuple[str, tuple[str, ...]]:
    return next((field.kind, field.categories) for field in data.schema.fields or () if field.name == "s")


SIZES = [("S", "M", "L")[place % 3] for place in range(N)]
DATES = [("2021-06-01", "2020-01-01", "2020-12-24")[place % 3] for place in range(N)]
HUNDRED = [place % 100 for place in range(N)]
DASHES = [("-", 1, 2, 3)[place % 4] for place in range(N)]
OBEYED = {
    "texts by levels": (SIZES, {"kind": "ordinal", "levels": ["S", "M", "L", "XL"]}, ("S", "M", "L", "XL")),
    "numbers by levels": ([place % 3 for place in range(N)], {"kind": "ordinal", "levels": [2, 0, 1]}, ("2", "0", "1")),
    "dates": (DATES, "ordinal", ("2020-01-01", "2020-12-24", "2021-06-01")),
    "dates as categories": (DATES, "categorical", ("2020-01-01", "2020-12-24", "2021-06-01")),
    "a token that could mean missing": (DASHES, "categorical", ("-", "1", "2", "3")),
    "many integers": (HUNDRED, "categorical", tuple(map(str, range(100)))),
    "texts of numbers in order": (list(map(str, [2, 10, 9] * 40)), "ordinal", ("2", "9", "10")),
    "an identifier": ([f"k{place:03}" for place in range(N)], "categorical", tuple(f"k{at:03}" for at in range(N))),
    "a constant": (["cm"] * N, "categorical", ("cm",)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", OBEYED)
def test_a_declared_kind_is_obeyed_in_every_format(tmp_path, form, case):
    cells, declared, categories = OBEYED[case]
    data = prepared(tmp_path, form, cells, columns={"s": declared})
    kind = declared if isinstance(declared, str) else declared["kind"]
    assert said_of_s(data) == (kind, categories)
    x = data.train.inputs(slice(None))["x"].numpy()
    made = data.schema.to_table(x)["s"].to_pylist()
    assert set(map(str, made)) <= set(map(str, cells))
    unused = ["no row has 'XL', which is among the levels of 's'"] if "XL" in categories else []
    assert [notice for notice in data.schema.notices if "'s'" in notice] == unused


REFUSED = {
    "a level is missing": (SIZES, {"kind": "ordinal", "levels": ["S", "M"]}, "'L'"),
    "dates as numbers": (DATES, "real", "use categorical"),
    "text as numbers": (SIZES, "count", "holds text"),
    "a bad cell": ([*range(N - 1), "oops"], "real", "'oops' in row 119"),
    "a bad cell among few numbers": (["oops", *[1, 2, 3] * 39, 1, 2], "count", "'oops' in row 0"),
    "nothing": ([None] * N, "categorical", "missing"),
    "a density of a constant": ([1.5] * N, "real", "one value"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", REFUSED)
def test_a_declared_kind_that_cannot_be_is_refused(tmp_path, form, case):
    cells, declared, said = REFUSED[case]
    if cells[0] is None and form == "csv":
        cells = [""] * N
    with pytest.raises(DataError, match=said, check=naming("DataSpec.columns", "s")) as caught:
        prepared(tmp_path, form, cells, columns={"s": declared})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_numbers_with_a_few_texts_are_the_same_in_every_format(tmp_path, form):
    tokens = [("n/d", "-")[place % 20 == 3] if place % 10 == 3 else cell for place, cell in enumerate(X)]
    data = prepared(tmp_path, form, tokens)
    assert said_of_s(data) == ("real", ())
    assert any("'-', 'n/d'" in notice and "(12)" in notice for notice in data.schema.notices)
    wrong = [*X[:41], "oops", *X[42:]]
    with pytest.raises(DataError, match="'oops' in row 41 ", check=naming("DataSpec.columns", "s")):
        prepared(tmp_path, form, wrong)
    many = [cell if place % 10 else f"t{place}" for place, cell in enumerate(X)]
    assert [field.name for field in prepared(tmp_path, form, many).schema.fields or ()] == ["x", "y"]


@pytest.mark.parametrize("form", ["jsonl", "parquet", "frame"])
def test_texts_that_are_codes_stay_texts(tmp_path, form):
    assert said_of_s(prepared(tmp_path, form, [str(place % 4) for place in range(N)]))[0] == "categorical"
    assert said_of_s(prepared(tmp_path, form, [f"{place % 40:03}" for place in range(N)]))[0] == "categorical"


@pytest.mark.parametrize("form", FORMS)
def test_a_few_zeros_before_numbers_make_no_codes(tmp_path, form):
    numbers = [str(place * 7 % 53) for place in range(N)]
    few, many = [*numbers[:50], "007", *numbers[51:]], [f"0{cell}" if len(cell) == 2 else cell for cell in numbers]
    holes = [cell if place % 9 else "-" for place, cell in enumerate(few)]
    one_width = [f"{40 + place % 30:03}" for place in range(N)]
    for cells, kind in ((numbers, "count"), (few, "count"), (holes, "count"), (many, "categorical")):
        assert said_of_s(prepared(tmp_path, form, cells))[0] == kind
    assert said_of_s(prepared(tmp_path, form, one_width))[0] == "categorical"
    kept = prepared(tmp_path, form, few, columns={"s": "categorical"})
    assert "007" in said_of_s(kept)[1]
    notices = prepared(tmp_path, form, few).schema.notices
    assert any("'s'" in notice and "categorical" in notice for notice in notices)


@pytest.mark.parametrize("stored", ["float32", "float64", "int16"])
def test_few_numbers_have_categories_of_their_type(stored):
    """Their names are the fewest digits, in single precision, too; of the context, where they are declared."""
    values = np.array([0.1, 0.7, 30.0] if stored != "int16" else [1, 5, 30], stored)
    cells = values[np.arange(N) % 3]
    names = ("0.1", "0.7", "30") if stored != "int16" else ("1", "5", "30")
    table = pa.table({"x": X, "s": cells, "c": cells})
    declared = DataSpec(columns={"c": "categorical"}, context=("c",))
    data = prepare(declared, Limit(), data=table)
    assert said_of_s(data) == ("ordinal", names)
    given = data.train.inputs(slice(None))
    assert "mask" not in given
    made = data.schema.to_table(given["x"].numpy(), given["context"].numpy())
    for name in ("s", "c"):
        assert made[name].type == table[name].type
        assert set(made[name].to_pylist()) == set(cells.tolist())
    assert made["s"].equals(made["c"])


@pytest.mark.parametrize(("amounts", "kind"), [(X, "real"), ([0.5, 1.5] * N, "ordinal")])
def test_amounts_that_are_mostly_nothing_are_numbers(amounts, kind):
    cells = [amounts[place // 12] if place % 12 == 0 else 0.0 for place in range(N)]
    data = prepare(DataSpec(), Limit(), data=pa.table({"x": X, "s": cells}))
    assert said_of_s(data)[0] == kind


def test_an_order_of_the_alphabet_is_said(tmp_path):
    data = prepared(tmp_path, "csv", SIZES, columns={"s": "ordinal"})
    assert said_of_s(data) == ("ordinal", ("L", "M", "S"))
    assert any("'s' is ordinal in the order of the alphabet" in notice for notice in data.schema.notices)


@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ("data.columns={a: {kind: ordinal, levels: [S, S]}}", "data.columns.a.levels", ["S", "S"]),
        ("data.columns={a: {kind: ordinal, levels: [S]}}", "data.columns.a.levels", ["S"]),
        ("data.columns={a: {kind: real, levels: [S, M]}}", "data.columns.a.levels", ["S", "M"]),
        ("data.columns={a: rael}", "data.columns.a.kind", "rael"),
        ("data.columns={age:real}", "data.columns.age:real", None),
        ("data.columns=[a]", "data.columns", ["a"]),
        ("model.likelihood={kind: columns, heads: {a: studnt}}", "model.likelihood.heads.a", "studnt"),
    ],
)
def test_a_setting_of_columns_is_named_with_its_column(setting, field, value):
    with pytest.raises(ConfigError, check=naming(field, value)):
        run("x.csv", setting)


@pytest.mark.parametrize("settings", [{"label": "s"}, {"weight": "s"}, {"size_factor": "s"}, {"drop": ("s",)}])
def test_a_kind_of_a_column_that_is_not_modelled_is_refused(tmp_path, settings):
    with pytest.raises(SpecError, check=naming("DataSpec.columns", "s")):
        prepared(tmp_path, "csv", HUNDRED, columns={"s": "count"}, **settings)


def test_categories_under_a_likelihood_of_all_columns_are_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,s\n" + "".join(f"{x},{s}\n" for x, s in zip(X, HUNDRED, strict=True)))
    spec = DataSpec(source=str(path), columns={"s": "categorical"})
    with pytest.raises(SpecError, check=naming("DataSpec.columns", "s")):
        prepare(spec, Limit(), by_column="never")


def test_cells_filled_in_a_frame_keep_its_categories_and_their_order():
    sizes = ordered([None, *SIZES[1:]], ["S", "M", "XL", "L"])
    table = pa.table({"x": X, "size": sizes})
    data = prepare(DataSpec(), Limit(), data=table)
    filled = filling(table, data.train, data.schema, np.array([0]), np.array([1]))(np.array([2.0]))
    assert filled["size"].type == table["size"].type
    assert filled["size"].combine_chunks().dictionary.to_pylist() == ["S", "M", "XL", "L"]
    assert filled["size"].to_pylist() == ["L", *SIZES[1:]]


def ordered(cells, categories) -> pa.Array:
    codes = pa.array([None if cell is None else categories.index(cell) for cell in cells], pa.int8())
    return pa.DictionaryArray.from_arrays(codes, pa.array(categories), ordered=True)


@pytest.mark.parametrize("form", ["frame", "feather", "parquet"])
def test_categories_with_an_order_of_their_own_keep_it(tmp_path, form):
    sizes, grades = ordered(SIZES, ["S", "M", "L", "XL"]), ordered([place % 3 for place in range(N)], [2, 0, 1])
    table = pa.table({"x": X, "size": sizes} | ({} if form == "parquet" else {"grade": grades}))
    path, given = tmp_path / f"t.{form}", None if form != "frame" else table
    if form == "feather":
        pa_feather.write_feather(table, path, chunksize=50)
    elif form == "parquet":
        pq.write_table(table, path, row_group_size=50)
    data = prepare(DataSpec(source=str(path) if given is None else None), Limit(), data=given)
    found = {field.name: (field.kind, field.categories) for field in data.schema.fields or ()}
    assert found.pop("x") == ("real", ())
    assert found.pop("size") == ("ordinal", ("S", "M", "L"))
    assert found == ({} if form == "parquet" else {"grade": ("ordinal", ("2", "0", "1"))})
    made = data.schema.to_table(data.train.inputs(slice(None))["x"].numpy())
    for name in ("size", *found):
        assert made[name].type.ordered
        assert made[name].type.value_type == (pa.string() if name == "size" else pa.int64())
        assert made[name].to_pylist()[:5] == [table[name].to_pylist()[row] for row in _rows(data, X)][:5]


def _rows(data: Dataset, x: list) -> list[int]:
    """Which row of the table each of the training rows is, by its first column."""
    stored = data.schema.to_stored(data.train.inputs(slice(None))["x"].numpy().astype(float))[:, 0]
    return [int(np.abs(np.array(x) - cell).argmin()) for cell in stored]


def test_dictionaries_that_disagree_have_no_order():
    one, other = (ordered(SIZES[:60], list(order)) for order in (("S", "M", "L"), ("L", "M", "S")))
    table = pa.table({"x": X, "s": pa.chunked_array([one, other])})
    assert said_of_s(prepare(DataSpec(), Limit(), data=table)) == ("categorical", ("L", "M", "S"))


def frame(**columns):
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"x": X, "y": X[::-1], **columns})


def test_what_frames_of_pandas_hold():
    pandas = pytest.importorskip("pandas")
    given = frame(
        cut=pandas.cut(np.array(X), [-9, -1, 0, 9]),
        grade=pandas.Categorical([place % 3 for place in range(N)]),
        mixed=[("-", 7, 8.5, True)[place % 4] for place in range(N)],
        wait=pandas.to_timedelta(range(N), unit="s"),
        few=pandas.arrays.SparseArray([place % 3 for place in range(N)]),
    )
    data = prepare(DataSpec(), Limit(), data=given)
    found = {field.name: (field.kind, field.categories) for field in data.schema.fields or ()}
    assert found["cut"] == ("ordinal", ("(-9, -1]", "(-1, 0]", "(0, 9]"))
    assert found["grade"] == ("categorical", ("0", "1", "2"))
    assert found["mixed"] == ("categorical", ("-", "7", "8.5", "True"))
    assert found["few"] == ("ordinal", ("0", "1", "2"))
    assert data.schema.notices == ("left out: 'wait' (durations)",)
    back = data.schema.to_table(data.train.inputs(slice(None))["x"].numpy()).to_pandas()
    assert back["grade"].dtype == "category"
    assert set(back["grade"].cat.categories) == {0, 1, 2}
    assert back["cut"].cat.ordered


@pytest.mark.parametrize(
    ("cells", "said"), [([1j] * N, "complex"), ([object()] * N, "object"), ([{"a": 1}, "b"] * (N // 2), "dict")]
)
def test_cells_of_frames_that_no_table_has_are_named(cells, said):
    with pytest.raises(DataError, match=f"'odd' of the data frame holds a {said}", check=naming("data", "odd")):
        prepare(DataSpec(), Limit(), data=frame(odd=cells))


def test_names_of_two_levels_and_chunks_that_lack_a_column_are_refused():
    pandas = pytest.importorskip("pandas")
    two = pandas.DataFrame({("a", "x"): X, ("a", "y"): X[::-1]})
    with pytest.raises(DataError, match="have 2 levels", check=naming("data")):
        prepare(DataSpec(), Limit(), data=two)
    for chunks in ((frame(z=X), frame()), (frame(), frame(z=X))):
        with pytest.raises(DataError, match=r"chunk 1 .*\(z\)", check=naming("data")):
            prepare(DataSpec(), Limit(), data=iter(chunks))
