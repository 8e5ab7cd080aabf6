"""Missing cells against closed forms, and rows that stay what they were."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import stats
from torch import nn

import vaekit
from naming import naming
from vaekit.data import Rows
from vaekit.errors import NotApplicable, SpecError
from vaekit.models import VAE, Conditional, Gaussian, LogisticMixture, StandardNormal
from vaekit.uses import impute, impute_hidden

HOLES = [0, 2]
NAN = math.nan


@pytest.fixture(scope="module")
def row() -> np.ndarray:
    return np.array([[NAN, 0.3, NAN, -1.1], [0.1, 0.2, 0.3, 0.4], [1.0, NAN, NAN, NAN]])


def test_means_intervals_and_draws_are_those_of_the_conditional_gaussian(linear, row):
    """The posterior is too wide by a third, and the weights make up for it."""
    found = impute(linear, row, samples=20_000, draws=4000, level=0.8)
    mean, covariance = linear.given(row[0], HOLES)
    spread = np.sqrt(np.diag(covariance))
    assert found.filled[0, HOLES] == pytest.approx(mean, abs=0.03)
    low, high = (stats.norm.ppf(level, mean, spread) for level in (0.1, 0.9))
    assert found.lower[0, HOLES] == pytest.approx(low, abs=0.06)
    assert found.upper[0, HOLES] == pytest.approx(high, abs=0.06)
    drawn = np.stack(found.draws)[:, 0, HOLES]
    assert drawn.mean(0) == pytest.approx(mean, abs=4 * spread.max() / math.sqrt(4000))
    assert np.cov(drawn.T) == pytest.approx(covariance, abs=0.06)
    assert found.filled[2, 1:] == pytest.approx(linear.given(row[2], [1, 2, 3])[0], abs=0.04)
    assert (found.rows.tolist(), found.cells.tolist()) == ([0, 0, 2, 2, 2], [0, 2, 1, 2, 3])
    assert found.warning == ""


def test_without_the_weights_it_would_be_another_distribution(linear, row):
    """An exact posterior has equal weights; one that is stretched has not."""
    exact = linear.story.vae(type(linear.model.posterior)(linear.story, 1.0))
    same = type(linear)(linear.story, exact, linear.schema, linear.dataset)
    assert impute(same, row, samples=100).effective_samples == pytest.approx(100, rel=1e-6)
    assert (impute(linear, row, samples=100).effective_samples < 99).all()


def test_observed_cells_are_the_same_bits_and_a_row_depends_on_no_other(linear, row):
    whole = impute(linear, row, samples=50, draws=2, seed=3)
    for filled in (whole.filled, whole.lower, whole.upper, *whole.draws):
        assert np.array_equal(filled[~np.isnan(row)], row[~np.isnan(row)])
        assert not np.isnan(filled).any()
    again = impute(linear, np.concatenate([row, row[::-1]]), samples=50, draws=2, seed=3)
    assert np.array_equal(again.filled[:3], whole.filled)
    assert np.array_equal(again.draws[1][:3], whole.draws[1])
    assert not np.array_equal(impute(linear, row, samples=50, seed=4).filled, whole.filled)
    single = torch.from_numpy(row).float()
    assert impute(linear, single, samples=50).filled.dtype == np.float32


def test_rows_without_holes_come_back_as_they_are(linear, row):
    found = impute(linear, row[1:2], draws=2)
    assert np.array_equal(found.filled, row[1:2])
    assert (len(found.values), len(found.draws), found.warning) == (0, 2, "")


def value(estimate: vaekit.Estimate) -> float:
    assert estimate.value is not None
    return estimate.value


def test_hidden_cells_are_imputed_within_their_intervals(linear):
    found = impute_hidden(linear, share=0.3, samples=300, level=0.8)
    assert list(found) == [f"column {place}" for place in range(4)]
    for one in found.values():
        assert (one.measure, one.against) == ("rmse", "column mean")
        assert value(one.imputed) < 0.95 * value(one.baseline)
        assert one.coverage is not None
        assert abs(value(one.coverage) - 0.8) < 4 * max(one.coverage.stderr, 0.05)
    assert impute_hidden(linear, samples=20, rows=30) == impute_hidden(linear, samples=20, rows=30)


def census(n: int = 240) -> pa.Table:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, n)
    return pa.table(
        {
            "id": [f"person {i}" for i in range(n)],
            "height": np.where(group, 190.0, 160.0) + rng.normal(0, 2, n).round(1),
            "coat": pa.array([("long", "short")[one] for one in group]).dictionary_encode(),
            "children": pa.array(rng.poisson(1 + 4 * group)),
            "member": pa.array(group.astype(bool)),
        }
    )


def with_holes(table: pa.Table) -> pa.Table:
    rng = np.random.default_rng(1)
    for name in table.column_names[1:]:
        empty = pa.array(rng.random(len(table)) < 0.2)
        column = table[name]
        cells = [None if gone else cell for cell, gone in zip(column.to_pylist(), empty.to_pylist(), strict=True)]
        made = pa.array(cells, column.type.value_type if pa.types.is_dictionary(column.type) else column.type)
        made = made.dictionary_encode() if pa.types.is_dictionary(column.type) else made
        table = table.set_column(table.column_names.index(name), name, made)
    return table


@pytest.fixture(scope="module")
def people():
    table = with_holes(census())
    words = ["epochs=60", "lr=0.02", "latent=2", "encoder.widths=[16]", "decoder.widths=[16]", "data.label=none"]
    return vaekit.fit(vaekit.runs.run(*words), table), table


def test_a_table_keeps_its_columns_types_and_observed_cells(people):
    trained, table = people
    table = table[:80]
    found = trained.impute(table, samples=60, draws=2)
    for filled in (found.filled, *found.draws):
        assert filled.schema.equals(table.schema)
        assert sum(column.null_count for column in filled.columns) == 0
        for name in table.column_names:
            before, after = table[name].to_pylist(), filled[name].to_pylist()
            assert all(one is None or one == other for one, other in zip(before, after, strict=True))
    assert found.draws[0] != found.draws[1]
    lower = found.lower
    assert (lower["height"].null_count, lower["coat"].null_count) == (0, table["coat"].null_count)
    coats = [one["coat"].to_pylist() for one in (census()[:80], found.filled, table)]
    assert np.mean([truth == made for truth, made, given in zip(*coats, strict=True) if given is None]) > 0.8
    errors = impute_hidden(trained, share=0.3, samples=60)
    assert {name: one.measure for name, one in errors.items()}["coat"] == "accuracy"
    assert value(errors["height"].imputed) < value(errors["height"].baseline)


def test_a_data_frame_and_a_file_are_filled_alike(people, tmp_path):
    from pyarrow import parquet

    trained, table = people[0], people[1][:20]
    parquet.write_table(table, tmp_path / "t.parquet")
    found = trained.impute(table, samples=20).filled
    assert trained.impute(tmp_path / "t.parquet", samples=20).filled.equals(found)
    pandas = pytest.importorskip("pandas")
    frame = trained.impute(table.to_pandas(), samples=20).filled.to_pandas()
    pandas.testing.assert_frame_equal(frame, found.to_pandas(), check_dtype=False)


def test_what_has_no_density_of_some_cells_is_refused(linear, row):
    deterministic = VAE(
        Conditional(nn.Linear(4, 2), vaekit.posteriors.Deterministic(), (2,)),
        StandardNormal().build(2),
        Conditional(nn.Linear(2, 8), Gaussian(), (4,)),
    )
    with pytest.raises(NotApplicable, match="deterministic"):
        impute(type(linear)(linear.story, deterministic, linear.schema, linear.dataset), row.astype(np.float32))
    head = LogisticMixture(levels=16, components=2)
    posterior = Conditional(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), Gaussian(), (2,))
    tied = VAE(
        posterior, StandardNormal().build(2), Conditional(nn.Linear(2, head.features((3, 2, 2))), head, (3, 2, 2))
    )
    mask = torch.ones(5, 3, 2, 2, dtype=torch.bool)
    mask[0, 0] = False
    schema = vaekit.data.Schema(
        **{**vars(linear.schema), "kind": "image", "shape": (3, 2, 2), "columns": None, "fields": None}
    )
    with pytest.raises(SpecError, match="ties the cells", check=naming("mask")):
        impute(type(linear)(linear.story, tied, schema, linear.dataset), Rows(torch.zeros(5, 3, 2, 2), mask=mask))


@pytest.mark.parametrize(("setting", "value"), [("samples", 0), ("draws", -1), ("level", 1.0)])
def test_numbers_that_make_no_sense_are_named(linear, row, setting, value):
    with pytest.raises(SpecError, check=naming(setting, value)):
        impute(linear, row, **{setting: value})
