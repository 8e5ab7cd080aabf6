"""Settings that are left open: what data makes of them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from scipy import stats

from vaekit.data import Dataset, Mixed
from vaekit.evaluation import baseline
from vaekit.models import Conv, Mlp
from vaekit.runs import TrainingRun, make_run, override
from vaekit.runs.defaults import FEW_ROWS, default_likelihood, default_network
from vaekit.runs.factory import build_model, initialise_from_data, open_data
from vaekit.runs.tree import ModelSpec
from vaekit.training import Train


@pytest.fixture
def pictures(tmp_path):
    """A folder of 30 colour pictures of 32 x 32."""
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for number in range(30):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"pictures/{number}.png")
    return tmp_path / "pictures"


def opened(source, *settings) -> tuple[Any, Dataset]:
    run, data = open_data(make_run(override({"data": {"source": str(source)}}, settings)))
    return run, data


def test_a_folder_of_pictures_gets_convolutions_and_a_mass_over_its_levels(pictures):
    run, data = opened(pictures)
    assert (run.model.encoder.kind, run.model.decoder.kind) == ("conv", "conv")
    assert (run.model.likelihood.kind, run.model.likelihood.levels) == ("logistic_mixture", 256)
    assert data.schema.support.kind == "levels"


def test_what_is_set_stays_beside_what_is_left_open(pictures):
    run, _ = opened(pictures, "model.encoder.widths=[8]", "model.likelihood=beta_binomial", "train.epochs=3")
    assert run.model.encoder == Mlp((8,))
    assert isinstance(run.model.decoder, Conv)
    assert run.model.likelihood.kind == "beta_binomial"
    assert (run.train.epochs, run.train.patience) == (3, None)


def test_without_validation_rows_nothing_stops_early_and_the_last_weights_are_kept(tmp_path):
    np.save(tmp_path / "t.npy", np.random.default_rng(0).standard_normal((50, 3)))
    run, _ = opened(tmp_path / "t.npy", "data.valid_fraction=0")
    assert (run.train.patience, run.train.weights) == (None, "last")
    run, _ = opened(tmp_path / "t.npy")
    assert run.train.patience is not None
    assert run.train.weights == "best"


def test_small_pictures_and_tables_get_perceptrons(tmp_path):
    run, _ = opened("digits")
    assert (run.model.encoder, run.model.decoder) == (Mlp(), Mlp())
    np.savetxt(tmp_path / "t.csv", np.random.default_rng(0).standard_normal((50, 3)), delimiter=",", header="a,b,c")
    run, _ = opened(tmp_path / "t.csv")
    assert (run.model.encoder, run.model.decoder) == (Mlp((64,), skip=True), Mlp((64,), skip=True))
    schema = opened(tmp_path / "t.csv")[1].schema
    assert default_network(schema, rows=FEW_ROWS) == Mlp((256, 256), skip=True)


def test_mixtures_of_counts_have_a_component_for_each_twenty_rows():
    found = [default_likelihood(Mixed(), "table", rows) for rows in (13, 85, 10**6, None)]
    assert [family.count.components for family in found] == [1, 4, 10, 10]


KINDS: dict[str, tuple[dict[str, dict[str, str]], list[Any]]] = {  # of a column: settings, two values
    "real": ({}, [0.25, 0.75]),
    "positive": ({"kind": "positive"}, [0.25, 0.75]),
    "count": ({"kind": "count"}, [3, 70]),
    "binary": ({}, ["no", "yes"]),
    "categorical": ({"kind": "categorical"}, ["a", "b"]),
    "ordinal": ({"kind": "ordinal"}, [1, 4]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_is_constant_in_the_training_rows_alone_trains(kind, tmp_path):
    """Its other value is improbable, and no more than by what a row in all that has it would cost."""
    rng, path = np.random.default_rng(0), tmp_path / "t.csv"
    numbers = rng.permutation(60) + 0.5

    def written(cells) -> dict[str, Any]:
        lines = [f"{number},{other},{cell}" for number, other, cell in zip(numbers, other_column, cells, strict=True)]
        path.write_text("\n".join(["row,other,cell", *lines]) + "\n")
        return {"source": str(path), "test_fraction": 0.25}

    other_column = rng.standard_normal(60)
    _, data = open_data(make_run({"data": written(rng.standard_normal(60))}))
    trains = np.isin(numbers, np.round(data.schema.to_stored(data.train.batch(slice(None)).numpy())[:, 0], 1))
    settings, (usual, rare) = KINDS[kind]
    columns = {"columns": {"cell": settings}} if settings else {}
    given = {**written(np.where(trains, usual, rare)), **columns}
    training = TrainingRun.start(make_run({"data": given, "model": {"latent": 2}, "train": {"epochs": 3}}))
    assert len(training.data.schema.shape) == 1
    last = [event for event in training.events() if event.kind == "epoch"][-1]
    assert last.metrics["valid_elbo"] > -100
    assert last.metrics["train_elbo"] > last.metrics["valid_elbo"] + 1


@pytest.mark.parametrize(
    ("rows", "settings", "epochs", "patience"),
    [
        (100, Train(), 1500, 375),  # one step an epoch
        (1280, Train(), 150, 38),
        (10**6, Train(), 50, None),
        (100, Train(patience=7), 1500, 7),
        (100, Train(epochs=4), 4, None),
        (100, Train(budget="5m"), 50, None),
    ],
)
def test_few_rows_get_as_many_steps_as_many_rows(rows, settings, epochs, patience):
    found = settings.of_rows(rows)
    assert (found.epochs, found.patience) == (epochs, patience)
    assert found.of_rows(10 * rows) == found


def test_a_run_writes_out_what_was_left_open_and_is_resumed_with_it(tmp_path):
    tree = {"data": {"source": "digits"}, "model": {"latent": 2}, "limit": {"train": 200}, "seed": 1}
    training = TrainingRun.start(make_run({**tree, "run_dir": str(tmp_path / "run")}))
    events = training.events()
    assert next(events).epochs == 750
    events.close()
    again = TrainingRun.resume(tmp_path / "run")
    assert again.run == training.run
    assert isinstance(again.run.model, ModelSpec)
    assert (again.run.train.epochs, again.run.model.encoder) == (750, Mlp())
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), training.model.parameters(), strict=True))


def test_the_default_of_heavy_tails_is_at_once_as_good_as_their_best_independent_columns():
    """Log-normal and Pareto columns with values up to a million, against scipy's densities."""
    rng = np.random.default_rng(0)
    table = {"a": rng.lognormal(5, 3, 600), "b": rng.normal(3e8, 1e4, 600), "c": 10 * rng.pareto(1.1, 600)}
    run, data = open_data(make_run({}), pa.table(table))
    assert [field.kind for field in data.schema.fields] == ["positive", "real", "positive"]
    model = build_model(run, data.schema)
    initialise_from_data(model, data, run)
    train, valid = (
        data.schema.to_stored(rows.batch(slice(None)).double().numpy()) for rows in (data.train, data.valid)
    )
    right = stats.norm.logpdf(valid[:, 1], train[:, 1].mean(), train[:, 1].std())
    for column in (0, 2):
        logs = np.log(train[:, column])
        right += stats.lognorm.logpdf(valid[:, column], logs.std(), scale=np.exp(logs.mean()))
    found = baseline(model.likelihood, data.train, data.valid)
    assert found.value == pytest.approx(right.mean(), abs=0.03)
    draw = model.draw(data.valid.batch(slice(None)), 1, generator=torch.Generator().manual_seed(0))
    assert draw.log_px.mean().item() - data.schema.log_scale == pytest.approx(right.mean(), abs=0.2)
