"""What training is compared with: the best model without z, by scipy's densities."""

import numpy as np
import pytest
from scipy import stats

from vaekit.runs import TrainingRun, run


@pytest.mark.parametrize("likelihood", ["gaussian", "calibrated_gaussian", "laplace"])
@pytest.mark.parametrize(("centre", "spread"), [(0.0, 1.0), (3e8, 1e6), (1e-3, 1e-7)])
def test_the_baseline_of_a_training_knows_no_units(tmp_path, likelihood, centre, spread):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(centre, spread, (200, 3)))
    settings = ("data.scale=none", "train.epochs=1", "train.patience=1", "encoder.widths=4", "decoder.widths=4")
    training = TrainingRun.start(run(str(tmp_path / "x.npy"), *settings, f"model.likelihood={likelihood}"))
    found = [event.metrics["valid_baseline"] for event in training.events() if event.kind == "epoch"]
    train, valid = (
        rows.batch(slice(0, len(rows))).double().numpy() for rows in (training.data.train, training.data.valid)
    )
    if likelihood == "laplace":
        middle = np.median(train, 0)
        log_p = stats.laplace.logpdf(valid, middle, np.abs(train - middle).mean(0))
    else:
        log_p = stats.norm.logpdf(valid, train.mean(0), train.std(0))
    assert found == [pytest.approx(log_p.sum(1).mean(), abs=1e-3)]
