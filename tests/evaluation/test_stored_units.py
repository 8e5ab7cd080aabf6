"""Log-densities of scaled rows are those of the rows as they are stored, by scikit-learn's factor analysis."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import FactorAnalysis

from vaekit import Gaussian, evaluate
from vaekit.data import DataSpec, Limit, Rows, StreamedRows, prepare, read_like
from vaekit.evaluation import Annealing, Estimate, annealed_bound, baseline, bidirectional, bound_curve, in_stored_units
from vaekit.evaluation.blocks import Blocks
from vaekit.evaluation.checks import units_warning
from vaekit.models import Conditional
from vaekit.models.linear_gaussian import LinearGaussian

COLUMNS, LATENTS, NOISE = 4, 2, 0.6


@pytest.fixture(scope="module")
def table():
    """(600, 4) raw rows, of columns whose means and spreads are far from 0 and 1."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, LATENTS)) @ rng.normal(size=(LATENTS, COLUMNS)) + 0.5 * rng.normal(size=(600, COLUMNS))
    return x * [1, 30, 0.02, 400] + [5, -100, 3, 1e4]


@pytest.fixture(scope="module")
def story():
    torch.manual_seed(1)
    return LinearGaussian(torch.randn(COLUMNS, LATENTS).double(), torch.randn(COLUMNS).double(), NOISE)


def read(folder, table, times=1.0):
    path = folder / f"table{times}.npy"
    np.save(path, table * times)
    return prepare(DataSpec(source=str(path), scale="standard"), Limit(), discrete=False)


def factor_analysis(story, schema) -> FactorAnalysis:
    """The same model of the raw rows, whose `score` is the mean ln p(x)."""
    loc, scale = np.array(schema.loc), np.array(schema.scale)
    known = FactorAnalysis(LATENTS)
    known.components_ = (story.loadings.numpy() * scale[:, None]).T
    known.noise_variance_ = (story.noise * scale) ** 2
    known.mean_ = loc + scale * story.offset.numpy()
    return known


def test_an_exact_model_has_the_likelihood_of_raw_rows(tmp_path, table, story):
    data = read(tmp_path, table)
    schema, rows = data.schema, data.test
    raw = schema.to_stored(rows.batch(slice(None)).numpy())
    expected = factor_analysis(story, schema).score(raw)
    found = evaluate(story.vae(), rows, samples=3)  # exact posterior: any K is exact
    assert found["log_likelihood"].value == pytest.approx(expected, abs=1e-3)
    assert found["log_likelihood"].scaled == pytest.approx(expected + sum(map(math.log, schema.scale)), abs=1e-3)
    assert found["elbo"].value == pytest.approx(-found["rate"].value - found["distortion"].value)
    assert found["rate"].scaled is found["bits_per_dim"].scaled is None
    assert "of scaled rows" in str(found["elbo"])
    (point,) = bound_curve(story.vae(), rows, (2,))
    assert point.bound.value == pytest.approx(expected, abs=1e-3)
    few = rows.at(torch.arange(5))
    lower = annealed_bound(story.vae(), few, Annealing(chains=8, temperatures=5)).lower
    assert lower.value == pytest.approx(factor_analysis(story, schema).score(raw[:5]), abs=0.05)
    both = bidirectional(story.vae(), 5, Annealing(chains=4, temperatures=5), log_scale=rows.log_scale)
    assert both.upper.value - both.lower.value == pytest.approx(both.gap.value)
    assert both.upper.scaled == pytest.approx(both.upper.value + schema.log_scale)


def test_a_table_times_a_thousand_is_lower_by_its_logarithm_for_each_column(tmp_path, table, story):
    once, times = (evaluate(story.vae(), read(tmp_path, table, factor).test, samples=3) for factor in (1.0, 1000.0))
    shift = COLUMNS * math.log(1000)
    for name, sign in {"elbo": 1, "log_likelihood": 1, "distortion": -1, "rate": 0}.items():
        assert once[name].value - times[name].value == pytest.approx(sign * shift, abs=1e-3), name
        assert once[name].stderr == pytest.approx(times[name].stderr, rel=1e-4)
    head = Conditional(torch.nn.Linear(LATENTS, 2 * COLUMNS).double(), Gaussian(), (COLUMNS,))
    alone = [
        baseline(head, data.train.batch(slice(None)).double(), data.test).value
        for data in (read(tmp_path, table), read(tmp_path, table, 1000.0))
    ]
    assert alone[0] - alone[1] == pytest.approx(shift, abs=1e-3)


def test_rows_without_a_schema_are_taken_as_they_are(story, table):
    x = torch.as_tensor(table[:50] - table.mean(0)) / torch.as_tensor(table.std(0))
    found = evaluate(story.vae(), x, samples=3)["log_likelihood"]
    assert found.value == pytest.approx(float(story.log_px(x).mean()))
    assert found.scaled is None
    assert "scaled" not in found.as_dict()


def test_metrics_move_by_their_names():
    others = {"valid_rate": 0.5, "train_discriminator_loss": 1.5, "lr": 0.1}
    metrics = {"train_loss": 2.0, "valid_elbo": -2.0, "best_valid_bound": -1.0, **others}
    moved = in_stored_units(metrics, 10.0)
    assert moved == {"train_loss": 12, "valid_elbo": -12, "best_valid_bound": -11, **others}
    none = Estimate(None, 0.0, 3, "nats", "why")
    assert in_stored_units({"elbo": none}, 10.0) == {"elbo": none}


def test_columns_that_are_not_scaled_say_nothing_of_the_units_of_rows():
    """Counts beside standardised columns, and the channels of sequences, which share their scales over the steps."""
    model = LinearGaussian(torch.eye(2), torch.zeros(2), 1.0).vae()
    noise = torch.randn(50, 1, generator=torch.Generator().manual_seed(1))
    model.scaling = ((3.0, 0.0), (2.0, 1.0))
    mixed = torch.cat([noise, 1e5 * noise.abs().round()], 1)
    assert units_warning(model, Blocks(model, mixed)) == ""
    assert units_warning(model, Blocks(model, Rows(mixed))) == ""
    assert "not scaled" in units_warning(model, Blocks(model, 1e3 + mixed))
    model.scaling = ((0.0, 0.0), (1.0, 1.0))
    assert units_warning(model, Blocks(model, Rows(1e5 + mixed))) == ""
    model.scaling = ((5.0, 700.0), (2.0, 354.0))
    steps = torch.randn(50, 2, 6, generator=torch.Generator().manual_seed(2))
    assert units_warning(model, Blocks(model, steps)) == ""
    stored = steps * torch.tensor([2.0, 354.0])[:, None] + torch.tensor([5.0, 700.0])[:, None]
    assert "not scaled" in units_warning(model, Blocks(model, stored))


@pytest.mark.parametrize("stream", ["never", "always"])
def test_of_rows_with_holes_it_is_the_scale_of_the_observed_cells(tmp_path, table, stream):
    holes = np.where(np.random.default_rng(1).random(table.shape) < [0, 0.2, 0.5, 0.9], np.nan, table)
    np.save(tmp_path / "holes.npy", holes)
    data = prepare(
        DataSpec(source=str(tmp_path / "holes.npy"), scale="standard", stream=stream), Limit(), discrete=False
    )
    each = np.log(data.schema.scale)
    for rows in (data.train, data.valid, data.test):
        index = torch.arange(len(rows))
        found = rows.log_scale_of(index)
        np.testing.assert_allclose(found, rows.mask_of(index).numpy() @ each, atol=1e-12)
        assert rows.log_scale == pytest.approx(each.sum())
    assert data.schema.log_scale == pytest.approx(float(data.valid.log_scale_of(slice(None)).mean()))
    assert type(data.schema).from_json(data.schema.to_json()) == data.schema


def test_of_rows_with_holes_on_disk_values_are_those_in_memory(tmp_path, table, story):
    holes = np.where(np.random.default_rng(1).random(table.shape) < [0, 0.2, 0.5, 0.9], np.nan, table)
    np.save(tmp_path / "holes.npy", holes)
    spec = DataSpec(source=str(tmp_path / "holes.npy"), scale="standard")
    schema = prepare(spec, Limit(), discrete=False).schema
    found = []
    for limit, kind in ((Limit(), Rows), (Limit(data_gb=1e-5), StreamedRows)):
        rows = read_like(spec.source, spec, schema, limit)
        assert isinstance(rows, kind)
        found.append(evaluate(story.vae(), rows, samples=2))
    for name, value in found[0].items():
        assert (value.value, value.stderr, value.scaled) == (
            found[1][name].value,
            found[1][name].stderr,
            found[1][name].scaled,
        ), name
