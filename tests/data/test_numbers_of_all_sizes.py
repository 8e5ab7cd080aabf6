"""Numbers of a table, however small, large or close together, are modelled and written back as they are."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vaekit.data import Dataset, DataSpec, Limit, Rows, Schema, prepare, read_like
from vaekit.data.rounding import decimals_of, rounding_of

N = 300
RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=N)
COLUMNS = {
    "tiny": 1e-20 * NORMAL,
    "pico": 4e-11 * np.exp(NORMAL),
    "near": 0.3 + 1e-12 * NORMAL,
    "large": 1e9 + NORMAL,
    "close": 1e8 + 0.01 * NORMAL,
    "price": np.round(1e6 + 100 * NORMAL, 2),
    "clock": np.round(1.7e9 + 10 * NORMAL, 3),
}
OF_OTHER_KINDS = {"count": RNG.poisson(2e5, N)}


def text_of(columns: dict[str, np.ndarray]) -> str:
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return "\n".join([",".join(columns), *(",".join(map(repr, row)) for row in rows)]) + "\n"


def put(folder, form: str, columns: dict[str, np.ndarray]) -> DataSpec:
    path = folder / f"t.{form}"
    if form == "csv":
        path.write_text(text_of(columns))
    else:
        pq.write_table(pa.table(columns), path)
    return DataSpec(source=str(path))


def training(data: Dataset) -> np.ndarray:
    assert isinstance(data.train, Rows)
    return data.train.batch(slice(None)).numpy()


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("others", [{}, OF_OTHER_KINDS], ids=["of one kind", "mixed"])
def test_numbers_come_back(tmp_path, form, others):
    spec = put(tmp_path, form, COLUMNS | others)
    data = prepare(spec, Limit())
    assert data.schema.columns == (*COLUMNS, *others)
    assert Schema.from_json(data.schema.to_json()) == data.schema
    back, x = data.schema.to_table(training(data)), training(data)
    for name, column in COLUMNS.items():
        found = back[name].to_numpy()
        there = np.abs(found[:, None] - column[None]).min(1)
        assert there.max() <= 1e-6 * column.std(), name
        assert found.std() == pytest.approx(column.std(), rel=0.1), name
    again = read_like(back, spec, data.schema, Limit())
    assert isinstance(again, Rows)
    np.testing.assert_allclose(again.batch(slice(None)).numpy(), x, atol=1e-5)


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("others", [{}, OF_OTHER_KINDS], ids=["of one kind", "mixed"])
def test_what_differs_by_rounding_alone_is_constant_among_columns_of_any_kind(tmp_path, form, others):
    columns = {"still": 0.3 + 1e-15 * NORMAL, "a": NORMAL, "b": NORMAL**3} | others
    spec = put(tmp_path, form, columns)
    schema = prepare(spec, Limit()).schema
    assert schema.columns == ("a", "b", *others)
    assert schema.notices == ("not modelled, and put back into samples: 'still' (constant)",)
    assert Schema.from_json(schema.to_json()) == schema
    put(tmp_path, form, columns | {"still": np.where(np.arange(N) == 3, 0.4, 0.3)})
    with pytest.warns(UserWarning, match="'still' .0.3 then, 0.4 here"):
        other = read_like(spec.source, spec, schema, Limit())
    assert isinstance(other, Rows)
    assert other.batch(slice(None)).abs().max() < 1e6


def test_a_column_that_is_constant_in_the_rows_that_are_used_can_be_read_back(tmp_path):
    """In others it may vary."""
    odd = np.full(N, 0.25)
    spec = put(tmp_path, "csv", {"a": NORMAL, "odd": odd, "b": NORMAL**3})
    used = prepare(DataSpec(source=spec.source), Limit(train=20, valid=20))
    parts = [part.batch(slice(None)).numpy() for part in (used.train, used.valid, used.test) if isinstance(part, Rows)]
    read = used.schema.to_stored(np.concatenate(parts))[:, 0]
    row = next(row for row in range(N) if not np.isclose(read, NORMAL[row]).any())
    odd[row] = 0.5
    put(tmp_path, "csv", {"a": NORMAL, "odd": odd, "b": NORMAL**3})
    schema = prepare(DataSpec(source=spec.source), Limit(train=20, valid=20)).schema
    assert Schema.from_json(schema.to_json()) == schema


@pytest.mark.parametrize("kind", ["f4", "f8", "i2", "i8"])
def test_an_array_has_the_numbers_of_its_type_in_a_table(kind):
    numbers = np.c_[30 * NORMAL, 1e4 + 100 * NORMAL] + (0 if np.dtype(kind).itemsize < 8 else 1e9)
    data = prepare(DataSpec(), Limit(), data=numbers.astype(kind))
    made = data.schema.to_table(training(data))
    expected = data.schema.to_array(training(data))
    for column, there in zip(made.columns, expected.T, strict=True):
        assert column.type == (pa.float32() if kind in ("f4", "i2") else pa.float64())
        np.testing.assert_allclose(column.to_numpy(), there, rtol=0, atol=1e-4 * there.std())


@pytest.mark.parametrize(
    ("numbers", "kind", "digits"),
    [
        ([0.25, 1.5, -3.0], "f8", 2),
        ([0.1 + 0.2, 1.1], "f8", 1),
        ([1e-11, 2e-11], "f8", None),
        ([1e-20, 0.0], "f8", None),
        ([1e9 + 0.1234567, 1e9 + 0.7654321], "f8", None),
        ([1.7e9 + 0.013, 1.7e9 + 0.026], "f8", 3),
        ([162.5, 170.3], "f4", 1),
        ([162.487076, 170.312345], "f4", None),
        ([170.123, 5.25], "f4", 3),
        ([], "f8", 1),
    ],
)
def test_digits_after_the_point(numbers, kind, digits):
    assert decimals_of(np.array(numbers, kind), rounding_of(np.dtype(kind))) == digits
