"""Size factors, as a number of the context, and weights of rows."""

from dataclasses import replace

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet
from streams import SMALL

from naming import naming
from vaekit.data import DataSpec, Limit, Schema, prepare
from vaekit.data.context import given_context
from vaekit.data.dataset import context_like, read_like, rows_like
from vaekit.errors import DataError, SpecError

GENES, N = 6, 400
RNG = np.random.default_rng(0)
SIZES = RNG.lognormal(4, 0.7, N)
COUNTS = RNG.poisson(SIZES[:, None] * np.linspace(0.05, 0.3, GENES))
WEIGHTS = RNG.integers(0, 4, N)


def write(folder, counts=COUNTS, **columns):
    names = [f"g{place}" for place in range(counts.shape[1])]
    path = folder / "counts.csv"
    table = np.column_stack([counts, *columns.values()])
    np.savetxt(path, table, fmt="%.17g", delimiter=",", header=",".join([*names, *columns]), comments="")
    return str(path)


@pytest.fixture
def path(tmp_path):
    return write(tmp_path, depth=SIZES, w=WEIGHTS)


def of(path, limit=None, **settings):
    spec = DataSpec(source=path, **{"support": "count", "size_factor": "depth", "weight": "w", **settings})
    return prepare(spec, limit or Limit(), by_column="never"), spec


def log_sizes(data, rows):
    context = data.schema.context
    return rows.context_of(slice(None))[:, -1].double() * context.scale[-1] + context.loc[-1]


def test_the_size_is_the_last_number_of_the_context_and_0_at_its_median(path):
    data, _ = of(path, drop=("w",), weight=None)
    context = data.schema.context
    assert (context.names, context.given, context.size) == (("size_factor",), (), "depth")
    assert data.schema.columns == tuple(f"g{place}" for place in range(GENES))
    of_train = data.train.context_of(slice(None))
    assert np.median(of_train) == pytest.approx(0, abs=1e-6)
    assert float(of_train.std(unbiased=False)) == pytest.approx(1, rel=1e-5)
    everything = torch.cat([log_sizes(data, rows) for rows in (data.train, data.valid, data.test)]).exp()
    np.testing.assert_allclose(np.sort(everything), np.sort(SIZES), rtol=1e-5)
    assert context.examples(3).tolist() == [[0.0]] * 3
    assert context.centre == "the median of size_factor"


def test_the_total_is_that_of_what_is_modelled(path):
    data, _ = of(path, size_factor="total", drop=("depth", "g1"))
    for rows in (data.train, data.valid, data.test):
        np.testing.assert_allclose(log_sizes(data, rows).exp(), rows.batch(slice(None)).sum(1), rtol=1e-5)


def test_of_masked_counts_it_is_the_total_of_observed_cells_and_of_none_it_is_1(tmp_path):
    counts = COUNTS.astype(float)
    counts[::3, 0] = np.nan
    counts[::5] = np.where(np.isnan(counts[::5]), np.nan, 0)
    data, _ = of(write(tmp_path, counts), size_factor="total", weight=None)
    x = data.train.batch(slice(None))
    assert not data.train.mask_of(slice(None)).all()
    np.testing.assert_allclose(log_sizes(data, data.train).exp(), x.sum(1).clamp(min=1), rtol=1e-5)


@pytest.mark.parametrize("size", ["depth", "total"])
def test_streamed_rows_have_the_sizes_and_weights_of_rows_in_memory(tmp_path, size):
    columns = {f"g{place}": counts for place, counts in enumerate(COUNTS.T)} | {"depth": SIZES, "w": WEIGHTS}
    path = str(tmp_path / "counts.parquet")
    parquet.write_table(pyarrow.table(columns), path, row_group_size=20)
    more = () if size == "depth" else ("depth",)
    whole, _ = of(path, size_factor=size, drop=more, context=("g2",), stream="never")
    streamed, _ = of(path, SMALL, size_factor=size, drop=more, context=("g2",), stream="always")
    assert streamed.schema.weight == whole.schema.weight
    ours, theirs = streamed.schema.context, whole.schema.context
    assert (ours.names, ours.loc[-1], ours.scale[-1]) == (theirs.names, theirs.loc[-1], theirs.scale[-1])
    known = [
        torch.column_stack([rows.batch(every), rows.context_of(every)[:, -1], rows.weight_of(every)]).tolist()
        for rows, every in ((streamed.train, slice(None)), (whole.train, slice(None)))
    ]
    assert sorted(known[0]) == sorted(known[1])


def test_weights_have_mean_1_over_training_rows_and_are_not_modelled(path):
    data, spec = of(path)
    weight = data.train.weight_of(slice(None))
    assert float(weight.double().mean()) == pytest.approx(1, abs=1e-6)
    assert "w" not in data.schema.columns
    back = torch.cat([rows.weight_of(slice(None)) for rows in (data.train, data.valid, data.test)])
    np.testing.assert_allclose(np.sort(back * data.schema.weight.mean), np.sort(WEIGHTS), rtol=1e-6)
    again = read_like(path, spec, data.schema, Limit())
    np.testing.assert_allclose(again.weight_of(slice(None)) * data.schema.weight.mean, WEIGHTS, rtol=1e-6)
    assert "rows weighted by the column 'w'" in data.schema.protocol


def test_other_data_without_weights_is_read_and_has_none(path, tmp_path):
    data, spec = of(path)
    (tmp_path / "other").mkdir()
    other = read_like(write(tmp_path / "other", depth=SIZES), spec, data.schema, Limit())
    assert other.weight_of(slice(None)) is None
    np.testing.assert_allclose(log_sizes(data, other).exp(), SIZES, rtol=1e-5)
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match=r"counts.csv lacks the columns depth, which the model was trained on"):
        read_like(write(tmp_path / "bare"), spec, data.schema, Limit())


def test_the_schema_is_the_same_after_a_round_trip(path):
    data, _ = of(path)
    assert Schema.from_json(data.schema.to_json()) == data.schema
    assert data.schema.weight.name == "w"


def test_rows_in_memory_know_their_totals_and_a_size_that_is_given_counts(path):
    data, spec = of(path, size_factor="total", drop=("depth",), weight=None)
    spec = replace(spec, drop=("w", "depth"))
    data, _ = of(path, size_factor="total", drop=("depth", "w"), weight=None)
    rows = rows_like(COUNTS.astype(np.float32), spec, data.schema)
    np.testing.assert_allclose(log_sizes(data, rows).exp(), np.maximum(COUNTS.sum(1), 1), rtol=1e-5)
    context = data.schema.context
    assert context_like(None, data.schema, 2).tolist() == [[0.0], [0.0]]
    given = context_like(np.array([[50.0], [9.0]]), data.schema, 2)
    np.testing.assert_allclose(np.exp(given[:, 0].numpy() * context.scale[0] + context.loc[0]), [50, 9], rtol=1e-5)
    np.testing.assert_array_equal(given_context(context, {"size_factor": "50"}), given[:1])
    assert given_context(context, {}).tolist() == [[0.0]]
    with pytest.raises(DataError, check=naming("size_factor", "-1")):
        given_context(context, {"size_factor": "-1"})


def test_a_size_goes_beside_a_label(tmp_path):
    path = write(tmp_path, depth=SIZES, label=WEIGHTS)
    data, _ = of(path, context=("label",), weight=None)
    context = data.schema.context
    assert context.given == ("0", "1", "2", "3")
    assert context.examples(5)[:, :4].argmax(1).tolist() == [0, 1, 2, 3, 0]
    seen = data.train.context_of(slice(None))
    assert seen[:, :4].argmax(1).equal(data.train.labels)
    assert given_context(context, {"label": "2"})[0].tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("column", "settings", "error", "field", "value"),
    [
        ({"depth": -SIZES}, {}, DataError, "size_factor", "depth"),
        ({"w": -WEIGHTS - 1}, {"size_factor": "none", "drop": ("depth",)}, DataError, "weight", "w"),
        ({"w": 0 * WEIGHTS}, {"size_factor": "none", "drop": ("depth",)}, DataError, "weight", "w"),
        ({}, {"weight": None}, DataError, "size_factor", "depth"),
        ({"w": SIZES}, {"size_factor": "w"}, SpecError, "context", None),
        ({}, {"size_factor": "total", "weight": None, "support": "real"}, SpecError, "size_factor", "total"),
    ],
)
def test_what_cannot_be_a_size_or_a_weight(tmp_path, column, settings, error, field, value):
    columns = {"depth": SIZES, "w": WEIGHTS} | column if column else {}
    with pytest.raises(error, check=naming(f"DataSpec.{field}", value)):
        of(write(tmp_path, **columns), **settings)
