"""The benchmarks measure what they say."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.covariance import LedoitWolf

from vaekit.data import DataSpec, Limit, prepare
from vaekit.evaluation import Estimate
from vaekit.models import VAE, Bernoulli, Conditional, Gaussian, Mlp, StandardNormal
from vaekit.objectives import Score

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import ablation_evidence
import quality
import routes
import stability
import tables_gaussian


@pytest.mark.needs_data
def test_both_ways_of_a_step_have_the_same_gradients():
    setting = routes.Setting(16)
    routes.check(routes.program(setting)(), routes.autograd(setting)())


def test_the_running_baseline_is_settled_before_noise_is_measured():
    torch.manual_seed(0)
    posterior = Conditional(Mlp((16,)).build((64,), 4), Gaussian())
    model = VAE(posterior, StandardNormal().build(2), Conditional(Mlp((16,)).build((2,), 64), Bernoulli()))
    x = torch.rand(20, 64).round()

    def noise(gradient: Score) -> float:
        return torch.stack(list(ablation_evidence.gradients(model, x, gradient, 100, 0, 0))).var(0).sum().item()

    assert noise(Score()) < 0.2 * noise(Score(baseline=False))


def test_many_samples_are_for_the_seed_that_is_worst_with_few(monkeypatch, tmp_path):
    def measured(promise, seed, runs, samples, half):
        value = {0: -84.0, 1: -84.5, 2: -83.0}[seed] + math.log10(samples)
        numbers = {name: Estimate(value, 0.1, 10, "nats") for name in quality.COLUMNS}
        made = {"epochs": 1, "steps": 10, "best_epoch": 1, "training": 5.0, "evaluation": 1.0}
        return quality.Measured(
            seed, samples, half, numbers, Estimate(-200.0, 0.1, 10, "nats"), **made, protocol="", trained_in="fp32"
        )

    monkeypatch.setattr(quality, "measure", measured)
    promise = quality.Promise("mnist-10m", 1000, (0, 1, 2), log_likelihood=-81.4, worst_at=10)
    runs = quality.measure_all(promise, promise.seeds, tmp_path, half=True)
    assert [(run.seed, run.samples, run.half) for run in runs] == [
        (0, 10, False),
        (1, 10, False),
        (2, 10, False),
        (1, 10, True),
        (1, 1000, True),
    ]
    text, passed = quality.part(promise, runs)
    assert not passed
    assert "-81.50 nats" in text
    assert "**FAIL**" in text


def test_a_short_run_ends_well_or_says_that_it_does_not(tmp_path):
    """The smallest instances of `make stability`: few rows, a far outlier, columns that cannot be standardised."""
    names = ("2 rows", "one far outlier", "a near-constant column", "not scaled, to 1e5")
    found = {
        cell.name: stability.measure(cell, tree, [*settings, "train.epochs=3"], tmp_path)
        for cell, tree, settings in stability.cells(1)
        if cell.name in names
    }
    assert set(found) == set(names)
    assert not [cell for cell in found.values() if cell.is_silent]
    assert found["a near-constant column"].outcome == "finished"  # it is set aside
    assert "far_values" in dict(found["one far outlier"].findings)
    assert "unscaled" in dict(found["not scaled, to 1e5"].findings)


def test_a_ruin_without_an_error_is_silent_and_cells_are_kept(tmp_path):
    cell = stability.Cell("table", "t", "default", 0, "finished", 10, loss=5.0, baseline=4.0)
    named = stability.replace(cell, findings=(("worse_than_baseline", "error"),))
    assert cell.is_ruined
    assert cell.is_silent
    assert named.is_ruined
    assert not named.is_silent
    assert not stability.replace(cell, loss=3.0).is_ruined
    assert stability.replace(cell, loss=3.0, exploded=True).is_silent
    file = tmp_path / "cells.jsonl"
    file.write_text(stability.json.dumps(stability.asdict(named)) + "\n{cut")
    assert stability.kept(file) == {named.key: named}
    assert "**1 silent ruins** in 2 runs; 2 ruins at all" in stability.page([cell, named], 1)


def test_the_gaussian_beside_small_tables_is_that_of_scipy_in_stored_units():
    rng = np.random.default_rng(0)
    x = np.c_[rng.standard_normal((200, 2)) @ [[3, 1], [0, 0.1]] + [50, -2], np.zeros(200)]
    data = prepare(DataSpec(test_fraction=0.5), Limit(), data=x[:, :2])
    train, test = (data.schema.to_stored(rows.batch(slice(None)).double().numpy()) for rows in (data.train, data.test))
    fit = LedoitWolf().fit((train - train.mean(0)) / train.std(0))
    covariance = train.std(0) * fit.covariance_ * train.std(0)[:, None]
    expected = stats.multivariate_normal(train.mean(0), covariance).logpdf(test)
    np.testing.assert_allclose(tables_gaussian.full_gaussian(data), expected, rtol=1e-5)
    trained = prepare(DataSpec(test_fraction=0.5, scale="none"), Limit(), data=x).train.batch(slice(None))[:, 0]
    x[:, 2] = ~np.isin(x[:, 0].astype(np.float32), trained.numpy())
    assert np.isfinite(tables_gaussian.full_gaussian(prepare(DataSpec(test_fraction=0.5), Limit(), data=x))).all()


def test_small_tables_are_judged_by_the_mean_over_seeds_and_by_every_seed():
    cells = [{"vae": -3.0, "gaussian": -2.5, "columns": -3.0}, {"vae": -1.0, "gaussian": -2.0, "columns": -1.5}]
    assert tables_gaussian.judged(cells, "gaussian") == (True, False)
    assert tables_gaussian.judged(cells, "columns") == (True, True)
    assert tables_gaussian.judged(cells[:1], "gaussian") == (False, False)
