"""Context: labels and columns that a model is conditioned on, in memory and streamed, of this source and others."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from naming import naming
from vaekit.data import Dataset, DataSpec, Limit, Rows, Schema, StreamedRows, prepare, read_like
from vaekit.data.context import given_columns, given_context
from vaekit.data.dataset import context_like
from vaekit.data.schema import Context, Field
from vaekit.errors import DataError, SpecError, VaekitError

USUAL, SMALL = Limit(), Limit(data_gb=4e-6)
N = 60


def table() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    age = rng.normal(50, 10, N)
    return {
        "age": age,
        "height": rng.normal(170, 5, N),
        "weight": age / 2 + rng.normal(40, 3, N),
        "old": (age > 50) * 1.0,
    }


LABELS = np.array(["ada", "bob", "cy"])[np.random.default_rng(1).integers(0, 3, N)]


def write(path: Path, columns: dict[str, np.ndarray], labels: np.ndarray | None = None) -> str:
    names = [*columns, *(["label"] if labels is not None else [])]
    rows = [[repr(float(v)) for v in row] for row in zip(*columns.values(), strict=True)]
    for row, label in zip(rows, [] if labels is None else labels, strict=False):
        row.append(str(label))
    path.write_text("\n".join(",".join(row) for row in [names, *rows]) + "\n")
    return str(path)


@pytest.fixture
def people(tmp_path) -> str:
    return write(tmp_path / "people.csv", table(), LABELS)


def of(source: str, *context: str, limit: Limit = USUAL, **settings) -> Dataset:
    return prepare(DataSpec(source=source, context=context, **settings), limit, discrete=False)


def context_of(rows: Rows | StreamedRows, index: torch.Tensor | slice = slice(None)) -> np.ndarray:
    context = rows.context_of(index)
    assert context is not None
    assert context.dtype == torch.float32
    return context.numpy()


def splits(data: Dataset) -> list[Rows | StreamedRows]:
    return [data.train, data.valid, data.test]


def test_labels_are_a_one_hot_context_and_stay_labels(people):
    data = of(people, "label")
    assert data.schema.context is not None
    assert (data.schema.context.kind, data.schema.context.names) == ("label", ("ada", "bob", "cy"))
    assert data.schema.columns == ("age", "height", "weight", "old")
    for rows in splits(data):
        assert np.array_equal(context_of(rows), np.eye(3)[rows.labels.numpy()])
        index = torch.tensor([2, 0])
        assert np.array_equal(rows.context_of(index).numpy(), context_of(rows)[[2, 0]])
    assert of(people).train.context_of(slice(None)) is None
    assert of(people).schema.context is None


def test_columns_are_a_context_scaled_by_the_training_rows_and_are_no_longer_x(people):
    data, plain = of(people, "weight", "age"), of(people, scale="none")
    assert data.schema.columns == ("height", "old")
    assert data.schema.shape == (2,)
    names = plain.schema.columns
    places = [names.index("weight"), names.index("age")]
    stored = [rows.batch(slice(None)).numpy()[:, places] for rows in splits(plain)]
    mean, spread = stored[0].mean(0), stored[0].std(0)
    for rows, values in zip(splits(data), stored, strict=True):
        np.testing.assert_allclose(context_of(rows), (values - mean) / spread, rtol=1e-4, atol=1e-4)
    assert abs(context_of(data.train).mean(0)).max() < 1e-6
    np.testing.assert_allclose(context_of(data.train).std(0), 1, rtol=1e-5)
    context = data.schema.context
    assert (context.kind, context.names) == ("columns", ("weight", "age"))
    np.testing.assert_allclose(context.scaled(stored[2]), context_of(data.test), rtol=1e-4, atol=1e-4)
    assert np.array_equal(context.examples(3), np.zeros((3, 2)))


def test_x_is_that_of_the_table_without_the_columns(people, tmp_path):
    rest = {name: values for name, values in table().items() if name not in ("age", "old")}
    one, other = of(people, "age", "old"), of(write(tmp_path / "rest.csv", rest, LABELS))
    for ours, theirs in zip(splits(one), splits(other), strict=True):
        assert ours.batch(slice(None)).equal(theirs.batch(slice(None)))
        assert ours.labels.equal(theirs.labels)
    assert one.schema.support == other.schema.support


def test_a_constant_column_can_be_a_context(tmp_path):
    data = of(write(tmp_path / "t.csv", {**table(), "c": np.full(N, 0.1)}), "c", "age")
    assert abs(context_of(data.train)[:, 0]).max() < 1e-6
    assert abs(context_of(data.test)[:, 0]).max() < 1e-6


def test_examples_of_labels_are_every_class_in_turn(people):
    examples = of(people, "label").schema.context.examples(5)
    assert np.array_equal(examples, np.eye(3)[[0, 1, 2, 0, 1]])


@pytest.mark.parametrize(
    ("context", "why"),
    [
        (["aged"], "did you mean age"),
        (["age", "age"], "'age' twice"),
        (["age", "height", "weight", "old"], "leave some for x"),
    ],
)
def test_what_cannot_be_a_context_of_a_table(people, context, why):
    with pytest.raises(SpecError, match=why, check=naming("DataSpec.context", context)):
        of(people, *context)


def test_what_has_no_labels_and_what_is_no_table(tmp_path):
    with pytest.raises(SpecError, check=naming("DataSpec.context", ["label"])):
        of(write(tmp_path / "plain.csv", table()), "label")
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (30, 4, 4), dtype=np.uint8))
    with pytest.raises(SpecError, check=naming("DataSpec.context", ["age"])):
        of(str(tmp_path / "images.npy"), "age")
    for bad in (np.nan, np.inf):
        columns = table()
        columns["age"][7] = bad
        with pytest.raises(DataError, match=r"row 7 .*column 'age' is (nan|inf): a context must be finite"):
            of(write(tmp_path / "bad.csv", columns), "age", missing="refuse")


def test_the_fingerprint_is_that_of_the_source(people):
    prints = {of(people, *context).schema.fingerprint for context in ((), ("label",), ("age",), ("old", "age"))}
    assert len(prints) == 1


@pytest.mark.parametrize("context", [(), ("label",), ("age", "old")])
def test_schemas_come_back_and_older_ones_are_read(people, context):
    schema = of(people, *context).schema
    assert Schema.from_json(schema.to_json()) == schema
    older = json.loads(schema.to_json())
    del older["context"]
    assert Schema.from_json(json.dumps(older)) == replace(schema, context=None)
    with pytest.raises(VaekitError, match=r"context\.kind"):
        Schema.from_json(json.dumps({**older, "context": {"kind": "rumour", "names": [], "loc": [], "scale": []}}))


def test_other_sources_have_a_context_by_the_names_that_the_model_knows(people, tmp_path):
    data = of(people, "label")
    other = np.where(LABELS == "ada", "zoe", LABELS)  # ada is gone, so bob is its first class, and zoe is new
    spec = DataSpec(source=people, context=("label",))
    with pytest.warns(UserWarning, match=r"other.csv has labels that the model was not trained with \(zoe\)"):
        rows = read_like(write(tmp_path / "other.csv", table(), other), spec, data.schema, Limit())
    known = list(data.schema.classes)
    wanted = np.stack([np.arange(3) == (known.index(name) if name in known else -1) for name in other])
    assert np.array_equal(context_of(rows), wanted)
    assert not context_of(rows)[other == "zoe"].any()
    assert rows.labels.max() == 3
    with pytest.raises(DataError, match=r"none.csv has no labels, and the model is conditioned on the label"):
        read_like(write(tmp_path / "none.csv", table()), spec, data.schema, Limit())


def test_columns_of_other_sources_are_scaled_as_before(people, tmp_path):
    data, spec = of(people, "age"), DataSpec(source=people, context=("age",))
    columns = table()
    columns["age"] = columns["age"] + 100
    rows = read_like(write(tmp_path / "older.csv", columns, LABELS), spec, data.schema, Limit())
    loc, scale = data.schema.context.loc[0], data.schema.context.scale[0]
    np.testing.assert_allclose(context_of(rows)[:, 0], (columns["age"] - loc) / scale, rtol=1e-5)
    del columns["age"]
    with pytest.raises(DataError, match=r"ageless.csv lacks the columns age, which the model was trained on"):
        read_like(write(tmp_path / "ageless.csv", columns, LABELS), spec, data.schema, Limit())


def test_rows_keep_their_context(people):
    rows = of(people, "age").train
    assert np.array_equal(context_of(rows.take(3)), context_of(rows)[:3])
    assert np.array_equal(context_of(rows.to("cpu")), context_of(rows))


@pytest.fixture
def streamed_table(tmp_path) -> str:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "big.parquet"
    columns = {name: np.tile(values, 5) for name, values in table().items()}
    parquet.write_table(pa.table({**columns, "label": np.tile(LABELS, 5)}), path, row_group_size=20)
    return str(path)


def test_streamed_labels_are_those_in_memory(streamed_table):
    memory = of(streamed_table, "label", stream="never")
    disk = of(streamed_table, "label", stream="always", limit=SMALL)
    assert isinstance(disk.train, StreamedRows)
    assert disk.schema.context == memory.schema.context

    def pairs(rows: Rows | StreamedRows) -> set[tuple[float, ...]]:
        x = rows.batch(slice(None)).double().numpy() * disk.schema.scale + disk.schema.loc
        return {
            tuple(np.round([*row, *context], 2))
            for row, context in zip(x, rows.context_of(slice(None)).numpy(), strict=True)
        }

    everyone = set.union(*(pairs(rows) for rows in splits(disk)))
    wanted = {
        tuple(np.round([*row, *(np.array(["ada", "bob", "cy"]) == label)], 2))
        for *row, label in zip(*table().values(), LABELS, strict=True)
    }
    assert everyone == wanted
    order = disk.train.order(torch.Generator().manual_seed(0))[:7]
    assert disk.train.context_of(order).equal(torch.eye(3)[disk.train.labels[order]])
    assert disk.train.take(5).context_of(slice(None)).equal(torch.eye(3)[disk.train.labels[:5]])
    assert of(streamed_table, stream="always", limit=SMALL).train.context_of(slice(None)) is None


def test_other_labels_of_a_streamed_source_are_a_context_of_zeros(people, tmp_path, streamed_table):
    import pyarrow as pa
    from pyarrow import parquet

    schema = of(people, "label").schema
    other = np.where(LABELS == "ada", "zoe", LABELS)
    path = tmp_path / "zoe.parquet"
    columns = {name: np.tile(values, 5) for name, values in table().items()}
    parquet.write_table(pa.table({**columns, "label": np.tile(other, 5)}), path, row_group_size=20)
    with pytest.warns(UserWarning, match=r"not trained with \(zoe\)"):
        rows = read_like(str(path), DataSpec(source=people, context=("label",)), schema, SMALL)
    assert isinstance(rows, StreamedRows)
    assert np.array_equal(context_of(rows), np.tile(np.array(schema.classes) == other[:, None], (5, 1)))


def test_columns_of_streamed_data_are_a_context_as_those_in_memory_are(people, streamed_table):
    streamed, whole = of(streamed_table, "age", stream="always", limit=SMALL), of(streamed_table, "age")
    assert isinstance(streamed.train, StreamedRows)
    assert isinstance(whole.train, Rows)
    assert streamed.schema.fingerprint == whole.schema.fingerprint
    every = torch.arange(50)
    context, x = streamed.train.context_of(every), streamed.train.batch(every)
    assert context is not None
    data, spec = of(people, "age"), DataSpec(source=people, context=("age",))
    again = read_like(streamed_table, spec, data.schema, SMALL)
    assert isinstance(again, StreamedRows)
    same = read_like(streamed_table, spec, data.schema, Limit())
    for index in (every, slice(3, 40)):
        assert context_of(again, index).tolist() == context_of(same, index).tolist()
        assert again.batch(index).equal(same.batch(index))
    assert len(x) == len(context) == 50


def test_tables_are_matched_by_the_names_of_their_columns(people, tmp_path):
    schema, columns = of(people).schema, table()
    wanted = read_like(people, DataSpec(source=people), schema, Limit()).batch(slice(None))
    swapped = write(tmp_path / "swapped.csv", dict(reversed(columns.items())), LABELS)
    assert read_like(swapped, DataSpec(source=people), schema, Limit()).batch(slice(None)).equal(wanted)
    names = list(columns)
    renamed = {("mass" if name == names[0] else name): values for name, values in columns.items()}
    with pytest.raises(DataError, match=rf"renamed.csv lacks the columns {names[0]}, .* trained on; it has mass"):
        read_like(write(tmp_path / "renamed.csv", renamed, LABELS), DataSpec(source=people), schema, Limit())
    np.save(tmp_path / "plain.npy", np.stack(list(columns.values()), 1))
    plain = read_like(str(tmp_path / "plain.npy"), DataSpec(source=people), schema, Limit())
    torch.testing.assert_close(plain.batch(slice(None)), wanted)


OF_KINDS = Context(
    "columns",
    ("age", "age is missing", "smoker=False", "smoker=True", "smoker is missing"),
    (0.0,) * 5,
    (1.0,) * 5,
    (Field("age", "real", dtype="int64"), Field("smoker", "categorical", ("False", "True"), dtype="bool")),
)


def test_the_cells_of_a_context_come_back(people, tmp_path):
    for context in (("age", "old"), ("label",)):
        data = of(people, *context)
        assert data.schema.context is not None
        assert not data.schema.context.coded
        found = data.schema.context.cells(context_of(data.test))
        expected = [data.test.labels] if context == ("label",) else [table()[name] for name in context]
        for cells, wanted in zip(found, expected, strict=True):
            assert context == ("label",) or all(np.abs(wanted - cell).min() < 1e-4 for cell in cells)
            assert context != ("label",) or np.array_equal(cells, wanted)
    made = data.schema.to_table(data.test.inputs(slice(None))["x"].numpy(), context_of(data.test))
    assert made.column_names == [*table(), "label"]
    assert made["label"].to_pylist() == [data.schema.classes[label] for label in data.test.labels]


@pytest.mark.parametrize("declared", ["real", "count"])
def test_a_kind_that_a_column_of_the_context_cannot_have_is_refused(tmp_path, declared):
    rows = "".join(f"{place * 0.37 % 1:.2f},{'ab'[place % 2]}\n" for place in range(N))
    (tmp_path / "t.csv").write_text("x,s\n" + rows)
    with pytest.raises(DataError, check=naming("DataSpec.columns", "s")):
        of(str(tmp_path / "t.csv"), "s", columns={"s": declared})


@pytest.mark.parametrize("value", ["nan", "1e999", "1_000", "-inf", "33.5", "old"])
def test_a_number_given_is_finite_and_whole_where_its_column_is(value):
    with pytest.raises(DataError, match="whole number" if value == "33.5" else "no finite number"):
        given_context(OF_KINDS, {"age": value})


@pytest.fixture
def of_kinds(people) -> Schema:
    return replace(of(people).schema, context=OF_KINDS)


@pytest.mark.parametrize(
    ("context", "value"),
    [
        ([[33, "red"]], "red"),
        ([["old", "True"]], "old"),
        ([[33.5, True]], "33.5"),
        ([[np.inf, True]], "inf"),
        ({"age": [33], "smoke": [True]}, "smoke"),
        ({"age": [33, 34]}, "age"),
    ],
)
def test_a_context_of_cells_that_columns_cannot_have_is_refused(of_kinds, context, value):
    with pytest.raises(DataError, check=naming("context", value)):
        context_like(context, of_kinds, 1)


def test_a_context_is_given_by_cells_or_by_names(of_kinds):
    rows = [[33, True], [None, "false"], [40.0, None]]
    wanted = [[33, 0, 0, 1, 0], [0, 1, 1, 0, 0], [40, 0, 0, 0, 1]]
    np.testing.assert_array_equal(context_like(rows, of_kinds, 3), wanted)
    by_name = {"smoker": np.array([True, True]), "age": ["1", "2"]}
    np.testing.assert_array_equal(context_like(by_name, of_kinds, 2), [[1, 0, 0, 1, 0], [2, 0, 0, 1, 0]])
    assert context_like({}, of_kinds, 1).tolist() == [[0, 1, 0, 0, 1]]
    ranged = replace(OF_KINDS, fields=(replace(OF_KINDS.fields[0], range=(18.0, 90.0)), OF_KINDS.fields[1]))
    with pytest.warns(UserWarning, match="age=120 is outside the range of the data, 18 to 90"):
        context_like([[120, True]], replace(of_kinds, context=ranged), 1)


@pytest.mark.parametrize("label", ["zoe", 3, -1])
def test_a_label_given_is_one_of_the_data(people, label):
    schema = of(people, "label").schema
    assert context_like(["cy", "ada"], schema, 2).tolist() == context_like([2, 0], schema, 2).tolist()
    with pytest.raises(DataError, check=naming("context", label)):
        context_like([label], schema, 1)


def test_truth_values_are_given_in_any_case():
    np.testing.assert_array_equal(given_context(OF_KINDS, {"age": "3", "smoker": "true"}), [[3, 0, 0, 1, 0]])
    assert [one.value for one in given_columns(OF_KINDS, {"smoker": "true"})] == ["True"]
