"""New data for a trained model: what it uses is required, and nothing else; and the same rows in any form."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch
from scipy import sparse
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

import vaekit
from naming import naming
from vaekit.data import DataSpec, Limit, Rows, prepare, read_like, rows_like
from vaekit.errors import DataError
from vaekit.runs import Run
from vaekit.training import Train

RNG = np.random.default_rng(3)
N = 80
FRAME = pa.table(
    {
        "id": np.arange(N) * 3 + 5,
        "x": RNG.normal(size=N),
        "sex": RNG.choice(["F", "M"], N),
        "age": RNG.integers(18, 90, N),
        "pay": pa.array([None if place % 9 == 4 else float(place % 13) + 0.25 for place in range(N)]),
        "cls": RNG.choice(["u", "v"], N),
    }
)
OWN = {"drop": ("id",), "label": "cls"}


def put(path: Path, frame: pa.Table) -> str:
    if path.suffix == ".csv":
        pa_csv.write_csv(frame, path)
    else:
        pq.write_table(frame, path)
    return str(path)


def like(folder: Path, form: str, new: pa.Table, **settings) -> tuple[Rows, list[str]]:
    """New rows as a model of FRAME sees them, and the warnings."""
    spec = DataSpec(source=put(folder / f"own.{form}", FRAME), **(settings or OWN))
    schema = prepare(spec, Limit()).schema
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = read_like(put(folder / f"new.{form}", new), spec, schema, Limit())
    assert isinstance(rows, Rows)
    return rows, [str(one.message) for one in caught]


@pytest.fixture(params=["csv", "parquet"])
def form(request) -> str:
    return request.param


def same(one: Rows, other: Rows) -> bool:
    assert one.mask is not None
    assert other.mask is not None
    return torch.equal(one.values, other.values) and torch.equal(one.mask, other.mask)


def test_columns_that_the_model_does_not_use_are_not_asked_for(tmp_path, form):
    whole, said = like(tmp_path, form, FRAME)
    assert not said
    assert whole.labels is not None
    for new in (
        FRAME.drop_columns(["id"]),
        FRAME.drop_columns(["cls"]),
        FRAME.drop_columns(["id", "cls"]),
        FRAME.select(["pay", "age", "sex", "x"]),
        FRAME.append_column("more", [["text"] * N]).append_column("y", [np.arange(N) % 3]),
    ):
        rows, said = like(tmp_path, form, new)
        assert same(rows, whole)
        assert not said
        assert (rows.labels is None) == ("cls" not in new.column_names)


@pytest.mark.parametrize("settings", [{"label": "none"}, {"label": "cls", "columns": {"id": {"kind": "ignore"}}}])
def test_however_a_column_was_left_out(tmp_path, form, settings):
    whole, _ = like(tmp_path, form, FRAME, **settings)
    assert same(like(tmp_path, form, FRAME.drop_columns(["id"]), **settings)[0], whole)


def test_labels_that_cannot_be_used_are_left_out_with_a_word(tmp_path, form):
    whole, _ = like(tmp_path, form, FRAME)
    for bad in (pa.array([None, *["u"] * (N - 1)]), pa.array(RNG.normal(size=N))):
        rows, said = like(tmp_path, form, FRAME.set_column(5, "cls", bad))
        assert same(rows, whole)
        assert rows.labels is None
        assert len(said) == 1
        assert "labels are left out" in said[0]


def test_a_column_that_may_be_a_label_is_data_where_the_model_has_it(tmp_path, form):
    first = pa.table({"x": RNG.normal(size=30), "y": RNG.normal(size=30)})
    spec = DataSpec(source=put(tmp_path / f"own.{form}", first))
    schema = prepare(spec, Limit()).schema
    assert schema.columns == ("x", "y")
    new = pa.table({"x": RNG.normal(size=9), "y": np.arange(9)})
    rows = read_like(put(tmp_path / f"new.{form}", new), spec, schema, Limit())
    assert isinstance(rows, Rows)
    np.testing.assert_allclose(schema.to_stored(rows.batch(slice(None)).numpy())[:, 1], np.arange(9), atol=1e-5)


def test_what_the_model_needs_is_named(tmp_path, form):
    with pytest.raises(DataError, match=r"new.* lacks the columns x, age.*it has"):
        like(tmp_path, form, FRAME.drop_columns(["x", "age"]))
    with pytest.raises(DataError, match="lacks the columns sex"):
        like(tmp_path, form, FRAME.drop_columns(["sex"]), context=("sex",), **OWN)
    with pytest.raises(DataError, check=naming("DataSpec.label", "cls")):
        like(tmp_path, form, FRAME.drop_columns(["cls"]), context=("label",), **OWN)


def test_unseen_categories_count_as_missing_with_a_word(tmp_path, form):
    new = FRAME.set_column(2, "sex", pa.array(["X"] * 10 + ["F"] * (N - 10)))
    rows, said = like(tmp_path, form, new)
    assert rows.mask is not None
    assert (~rows.mask[:, 1]).nonzero().flatten().tolist() == list(range(10))
    assert ["10 in 'sex'" in text and "count as missing" in text for text in said] == [True]
    _, said = like(tmp_path, form, new, context=("sex",), **OWN)
    assert ["10 in 'sex'" in text for text in said] == [True]
    numbers, said = like(tmp_path, form, FRAME.set_column(2, "sex", pa.array([1.5] * N)))
    assert numbers.mask is not None
    assert not numbers.mask[:, 1].any()
    assert "80 in 'sex'" in said[0]


def test_a_constant_that_has_changed_is_said_once(tmp_path, form):
    own = FRAME.append_column("unit", [["cm"] * N]).append_column("dose", [[0.1] * N])
    spec = DataSpec(source=put(tmp_path / f"own.{form}", own), **OWN)
    schema = prepare(spec, Limit()).schema
    changed = own.set_column(6, "unit", [["cm"] * (N - 1) + ["in"]]).set_column(
        7, "dose", [[0.1] * 9 + [2.5] * (N - 9)]
    )
    holes = own.set_column(6, "unit", pa.array([None, *["cm"] * (N - 1)]))
    for new, said in (
        (changed, "'unit' ('cm' then, 'in' here), 'dose' (0.1 then, 2.5 here)"),
        (own.set_column(7, "dose", [["much"] * N]), "'dose' (0.1 then, 'much' here)"),
        (holes, ""),
        (FRAME, ""),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rows = read_like(put(tmp_path / f"new.{form}", new), spec, schema, Limit())
        assert len(rows) == N
        assert [said in str(one.message) for one in caught] == [True] * bool(said)


def test_categories_as_context(tmp_path, form):
    rows, said = like(tmp_path, form, FRAME, context=("sex", "age"), **OWN)
    assert not said
    assert rows.context is not None
    texts = FRAME["sex"].to_pylist()
    assert rows.context[:, 0].tolist() == [float(text == "F") for text in texts]
    assert rows.context[:, 1].tolist() == [float(text == "M") for text in texts]


def test_text_where_numbers_were_is_refused(tmp_path, form):
    for cells in (["abc"] * N, ["abc", *["1.5"] * (N - 1)]):
        with pytest.raises(DataError, match=r"column 'x' holds 'abc' in row 0.*trained on numbers"):
            like(tmp_path, form, FRAME.set_column(1, "x", pa.array(cells)))


@pytest.mark.parametrize("new", ["npz", "npy"])
def test_arrays_without_the_labels(tmp_path, new):
    x = RNG.normal(size=(50, 4))
    np.savez(tmp_path / "own.npz", X=x, cls=np.arange(50) % 3, other=np.arange(7))
    spec = DataSpec(source=str(tmp_path / "own.npz"), label="cls")
    schema = prepare(spec, Limit()).schema
    path = tmp_path / f"new.{new}"
    np.save(path, x) if new == "npy" else np.savez(path, X=x)
    rows = read_like(str(path), spec, schema, Limit())
    assert isinstance(rows, Rows)
    assert torch.equal(rows.values, rows_like(x, spec, schema).values)
    with pytest.raises(DataError, check=naming("DataSpec.label", "cls")):
        read_like(str(path), DataSpec(source=spec.source, label="cls", context=("label",)), schema, Limit())


class Items(TorchDataset):
    def __init__(self, rows: np.ndarray, labels: np.ndarray | None = None) -> None:
        self.rows, self.labels = rows, labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> np.ndarray | tuple[np.ndarray, int]:
        if place >= len(self.rows):
            raise IndexError
        row = self.rows[place]
        return row if self.labels is None else (row, int(self.labels[place]))


class Stand:
    """As much of a data frame as is needed of one."""

    def __init__(self, columns: dict[str, np.ndarray]) -> None:
        self.columns, self._columns = tuple(columns), columns

    def to_numpy(self) -> np.ndarray:
        return np.stack(list(self._columns.values()), 1)


def alike(one, other, types: bool = True) -> None:
    """Two data sets are the same to the last bit, but for the types of their source's cells where those differ."""
    assert one.schema.fingerprint == other.schema.fingerprint
    mine, theirs = (
        [field if types else replace(field, dtype="") for field in data.schema.fields or ()] for data in (one, other)
    )
    assert mine == theirs
    for fact in ("columns", "support", "loc", "scale"):
        assert getattr(one.schema, fact) == getattr(other.schema, fact)
    for part in ("train", "valid", "test"):
        mine, theirs = getattr(one, part), getattr(other, part)
        assert torch.equal(mine.batch(slice(None)), theirs.batch(slice(None)))
        for fact in ("mask", "labels", "context"):
            a, b = getattr(mine, fact), getattr(theirs, fact)
            assert (a is None and b is None) or torch.equal(a, b)


@pytest.mark.parametrize("settings", [{}, OWN, {"context": ("sex",), **OWN}, {"label": "none", "missing": "mask"}])
def test_a_frame_is_the_file_of_its_rows(tmp_path, form, settings):
    own = prepare(DataSpec(source=put(tmp_path / f"a.{form}", FRAME), **settings), Limit())
    spec = DataSpec(**settings)
    alike(prepare(spec, Limit(), data=FRAME), own)
    alike(prepare(spec, Limit(), data=(FRAME.slice(start, 7) for start in range(0, N, 7))), own)
    alike(prepare(spec, Limit(), data=iter(FRAME.to_batches(max_chunksize=9))), own)


def test_a_frame_of_pandas_is_the_file_of_its_rows(tmp_path, form):
    pandas = pytest.importorskip("pandas")
    frame = FRAME.to_pandas()
    own = prepare(DataSpec(source=put(tmp_path / f"a.{form}", FRAME), **OWN), Limit())
    alike(prepare(DataSpec(**OWN), Limit(), data=frame), own)
    alike(prepare(DataSpec(**OWN), Limit(), data=frame.assign(sex=frame["sex"].astype("category"))), own, types=False)
    alike(prepare(DataSpec(**OWN), Limit(), data=frame.set_index(pandas.Index(range(N))[::-1])), own)
    alike(prepare(DataSpec(**OWN), Limit(), data=(frame[at : at + 9] for at in range(0, N, 9))), own)


TEXTS = [pa.large_string(), pa.string_view(), *(pa.dictionary(pa.uint8(), to()) for to in (pa.string, pa.string_view))]


@pytest.mark.parametrize("kind", TEXTS, ids=str)
def test_however_a_frame_holds_its_texts(tmp_path, kind):
    def held(text: pa.ChunkedArray) -> pa.Array:
        plain = text.combine_chunks()
        if not pa.types.is_dictionary(kind):
            return plain.cast(kind)
        coded = plain.dictionary_encode()
        return pa.DictionaryArray.from_arrays(
            coded.indices.cast(kind.index_type), coded.dictionary.cast(kind.value_type)
        )

    own = prepare(DataSpec(source=put(tmp_path / "a.csv", FRAME), **OWN), Limit())
    frame = FRAME.set_column(2, "sex", held(FRAME["sex"])).set_column(5, "cls", held(FRAME["cls"]))
    alike(prepare(DataSpec(**OWN), Limit(), data=frame), own, types=False)


# Other types in which pandas and polars hold the same cells.
PANDAS = {
    "category": lambda frame: frame.assign(sex=frame["sex"].astype("category"), cls=frame["cls"].astype("category")),
    "object": lambda frame: frame.astype({"sex": object, "cls": object, "pay": object}),
    "nullable": lambda frame: frame.astype({"sex": "string", "age": "Int64", "pay": "Float64"}),
    "narrow": lambda frame: frame.astype({"age": "int8", "id": "uint16"}),
    "index": lambda frame: frame.set_index(frame["id"].to_numpy()[::-1]),
}
POLARS = {
    "category": lambda frame, to: frame.cast({"sex": to.Categorical, "cls": to.Categorical}),
    "enum": lambda frame, to: frame.cast({"sex": to.Enum(["F", "M"])}),
    "narrow": lambda frame, to: frame.cast({"age": to.Int8, "id": to.UInt16}),
    "nan": lambda frame, to: frame.with_columns(to.col("pay").fill_null(float("nan"))),
}


@pytest.mark.parametrize("kind", PANDAS)
def test_a_frame_of_pandas_is_the_file_of_its_rows_whatever_its_types(tmp_path, kind):
    pytest.importorskip("pandas")
    own = prepare(DataSpec(source=put(tmp_path / "a.csv", FRAME), **OWN), Limit())
    frame = PANDAS[kind](FRAME.to_pandas())
    given = prepare(DataSpec(**OWN), Limit(), data=frame)
    alike(given, own, types=False)
    alike(prepare(DataSpec(**OWN), Limit(), data=(frame[at : at + 9] for at in range(0, N, 9))), own, types=False)
    narrow, wide = (one.schema.fields[2].dtype for one in (given, own))
    assert (narrow, wide) == ("int8" if kind == "narrow" else "int64", "int64")


@pytest.mark.parametrize("kind", [None, *POLARS])
def test_a_frame_of_polars_is_the_file_of_its_rows(tmp_path, form, kind):
    polars = pytest.importorskip("polars")
    frame = polars.from_arrow(FRAME)
    frame = frame if kind is None else POLARS[kind](frame, polars)
    own = prepare(DataSpec(source=put(tmp_path / f"a.{form}", FRAME), **OWN), Limit())
    alike(prepare(DataSpec(**OWN), Limit(), data=frame), own, types=False)
    alike(prepare(DataSpec(**OWN), Limit(), data=(frame[at : at + 9] for at in range(0, N, 9))), own, types=False)


def test_a_frame_of_another_library(tmp_path):
    columns = {"x": RNG.normal(size=N), "z": RNG.normal(size=N)}
    own = prepare(DataSpec(source=put(tmp_path / "a.parquet", pa.table(columns))), Limit())
    alike(prepare(DataSpec(), Limit(), data=Stand(columns)), own)


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
def test_a_sparse_matrix_is_the_file_of_its_rows(tmp_path, kind, counts):
    values = np.where(RNG.random((60, 9)) < 0.3, RNG.integers(1, 9, (60, 9)), 0).astype(np.float32)
    matrix = sparse.coo_array(values if counts else values * np.float32(0.3)).asformat(kind)
    sparse.save_npz(tmp_path / "a.npz", matrix)
    own = prepare(DataSpec(source=str(tmp_path / "a.npz")), Limit())
    alike(prepare(DataSpec(), Limit(), data=matrix), own)
    rows = matrix.tocsr()
    alike(prepare(DataSpec(), Limit(), data=(rows[at : at + 11] for at in range(0, 60, 11))), own)


@pytest.mark.parametrize(
    "shape", [(40, 3), (40, 6, 5), (40, 3, 6, 5), (40, 30, 2)], ids=["table", "grey", "colour", "sequence"]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_arrays_tensors_items_and_chunks_are_the_file_of_their_rows(tmp_path, shape, dtype):
    x = RNG.integers(0, 256, shape).astype(dtype)
    x = x / dtype(255) if np.dtype(dtype).kind == "f" else x
    labels = np.arange(40) % 4
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "a.npz", X=x, y=labels)
    layout = "sequence" if shape == (40, 30, 2) else "auto"
    spec, own = DataSpec(layout=layout), prepare(DataSpec(source=str(tmp_path / "a.npy"), layout=layout), Limit())
    for data in (x, x.tolist() if dtype is np.float64 else x, torch.from_numpy(x), np.asfortranarray(x), Items(x)):
        alike(prepare(spec, Limit(), data=data), own)
    alike(prepare(spec, Limit(), data=(x[at : at + 7] for at in range(0, 40, 7))), own)
    alike(prepare(spec, Limit(), data=(torch.from_numpy(x[at : at + 7]) for at in range(0, 40, 7))), own)
    labelled = prepare(DataSpec(source=str(tmp_path / "a.npz"), layout=layout), Limit())
    alike(prepare(spec, Limit(), data=Items(x, labels)), labelled)
    alike(prepare(spec, Limit(), data=TensorDataset(torch.from_numpy(x), torch.from_numpy(labels))), labelled)


BAD = {
    "a path": "a.csv",
    "a Path": Path("a.csv"),
    "a number": 5,
    "nothing known": object(),
    "columns in a dict": {"x": np.zeros(9)},
    "objects": np.array([[object()]] * 5),
    "one axis": np.zeros(9),
    "no rows": np.zeros((0, 3)),
    "complex": np.zeros((9, 3), complex),
    "texts": np.array([["a", "b"]] * 5),
    "fields": np.zeros(5, dtype=[("a", float), ("b", int)]),
    "unequal chunks": [np.zeros((3, 2)), np.zeros((4, 2))],
    "unequal rows": [[1, 2], [3]],
    "all infinite": np.full((9, 2), np.inf),
    "beyond float32": np.full((9, 2), 1e300),
    "all missing": np.full((9, 2), np.nan),
    "a frame without rows": FRAME.slice(0, 0),
    "a frame with two of a name": pa.Table.from_arrays([pa.array([1.0])] * 2, ["a", "a"]),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_data_in_python(what):
    with pytest.raises(DataError) as caught:
        prepare(DataSpec(), Limit(), data=BAD[what])
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [np.zeros((3, 2)), np.zeros((3, 4))],
        [1, 2],
        [FRAME, pa.table({"x": [[1.0]]})],
    ],
)
def test_what_is_no_data_in_chunks(chunks):
    with pytest.raises(DataError, check=naming("data")):
        prepare(DataSpec(), Limit(), data=iter(chunks))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.bool])
def test_tensors_of_every_type(dtype):
    x = torch.arange(60).reshape(20, 3).remainder(7).to(dtype)
    data = prepare(DataSpec(scale="none", support="real"), Limit(), data=x)
    assert sorted(torch.cat([part.batch(slice(None)) for part in (data.train, data.valid, data.test)]).tolist()) == (
        sorted(x.float().tolist())
    )
    other = prepare(DataSpec(scale="none", support="real"), Limit(), data=x.to_sparse())
    alike(other, data)


def test_fit_takes_rows_in_memory_and_an_opened_run_takes_frames(tmp_path):
    source = put(tmp_path / "a.csv", FRAME)

    def run(**settings) -> Run:
        return Run(data=DataSpec(**OWN, **settings), train=Train(epochs=1, device="cpu"))

    in_memory = run().model_copy(update={"run_dir": str(tmp_path / "run")})
    given = vaekit.fit(in_memory, FRAME, progress=False)
    file = vaekit.fit(run(source=source), progress=False)
    for one, other in zip(given.model.state_dict().values(), file.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    opened = vaekit.open_run(tmp_path / "run")
    assert np.array_equal(opened.encode(FRAME), file.encode(source))
    assert np.array_equal(opened.encode(FRAME.drop_columns(["id", "cls"])), file.encode(source))
    assert opened.evaluate(FRAME, samples=4)["elbo"].value == file.evaluate(source, samples=4)["elbo"].value
    with pytest.raises(DataError, check=naming("data")):
        opened.evaluate()
    with pytest.raises(TypeError, match="leave one of them out"):
        vaekit.fit(run(source=source), FRAME)


@pytest.mark.parametrize("context", ["sex", "label"])
def test_a_frame_brings_its_context(context):
    spec = DataSpec(context=(context,), **OWN)
    data = prepare(spec, Limit(), data=FRAME)
    rows = rows_like(FRAME, spec, data.schema)
    assert rows.context is not None
    wanted = FRAME["sex" if context == "sex" else "cls"].to_pylist()
    assert rows.context[:, 0].tolist() == [float(text == sorted(set(wanted))[0]) for text in wanted]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("settings", [{}, {"missing_values": ("-999",)}, {"scale": "standard", "drop": ("sex",)}])
def test_a_permutation_of_columns_changes_nothing_but_their_order(tmp_path, seed, settings):
    frame = FRAME.drop_columns(["id", "cls"])
    order = np.random.default_rng(seed).permutation(frame.column_names).tolist()
    one = prepare(DataSpec(source=put(tmp_path / "a.csv", frame), **settings), Limit())
    other = prepare(DataSpec(source=put(tmp_path / "b.csv", frame.select(order)), **settings), Limit())
    places = [(other.schema.columns or ()).index(name) for name in one.schema.columns or ()]
    for part in ("train", "valid", "test"):
        mine, theirs = getattr(one, part), getattr(other, part)
        assert torch.equal(mine.batch(slice(None)), theirs.batch(slice(None))[:, places])
        assert torch.equal(mine.mask, theirs.mask[:, places])
    assert one.schema.support == other.schema.support
    if one.schema.fields and other.schema.fields:
        assert one.schema.fields == tuple(other.schema.fields[place] for place in places)
    assert one.schema.loc is not None
    assert other.schema.loc is not None
    assert one.schema.loc == tuple(other.schema.loc[place] for place in places)


@pytest.mark.parametrize("token", ["", "NA", "NaN", "nan", "?", "null", "-999", "-999.0"])
def test_it_does_not_matter_how_a_cell_is_missing(tmp_path, token):
    settings = {"missing_values": ("?", "-999"), **OWN}

    def text(hole: str) -> str:
        rows = zip(*(column.to_pylist() for column in FRAME.columns), strict=True)
        lines = [",".join(hole if cell is None else str(cell) for cell in row) for row in rows]
        return "\n".join([",".join(FRAME.column_names), *lines]) + "\n"

    (tmp_path / "a.csv").write_text(text(""))
    (tmp_path / "b.csv").write_text(text(token))
    run = Run(data=DataSpec(source=str(tmp_path / "a.csv"), **settings), train=Train(epochs=1, device="cpu"))
    trained = vaekit.fit(run, progress=False)
    alike(prepare(replace_source(run.data, tmp_path / "b.csv"), Limit()), prepare(run.data, Limit()))
    assert np.array_equal(trained.encode(str(tmp_path / "a.csv")), trained.encode(str(tmp_path / "b.csv")))


def replace_source(spec: DataSpec, path: Path) -> DataSpec:
    return replace(spec, source=str(path))


@pytest.mark.parametrize("value", [0.0, 1e30, -999.0])
def test_codes_do_not_depend_on_what_stands_in_a_masked_cell(value):
    trained = vaekit.fit(Run(data=DataSpec(**OWN), train=Train(epochs=1, device="cpu")), FRAME, progress=False)
    rows = trained.rows(FRAME)
    assert isinstance(rows, Rows)
    assert rows.mask is not None
    given = rows.inputs(slice(None))
    x = torch.where(rows.mask, given["x"], torch.tensor(value))
    with torch.no_grad():
        one = trained.model.encode(given["x"], None, rows.mask).posteriors[0].mean
        other = trained.model.encode(x, None, rows.mask).posteriors[0].mean
    assert torch.equal(one, other)
