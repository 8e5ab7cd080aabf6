"""Runs with size factors and weights of rows, from settings to evaluation."""

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from naming import naming
from vaekit.errors import ConfigError
from vaekit.evaluation import evaluate
from vaekit.runs import TrainingRun, fit, open_run, run
from vaekit.runs.factory import build_model, open_data, size_factor_of

SOFTMAX = "model.likelihood={kind: negative_binomial, rates: softmax, dispersion: gene}"
TINY = [
    "epochs=2",
    "batch_size=16",
    "latent=2",
    "model.encoder.widths=[8]",
    "model.decoder.widths=[8]",
    "data.support=count",
]


@pytest.fixture
def path(tmp_path):
    rng = np.random.default_rng(1)
    sizes = rng.lognormal(4, 0.8, 120)
    counts = rng.poisson(sizes[:, None] * rng.dirichlet(np.ones(5), 120))
    table = np.column_stack([counts, rng.integers(1, 4, 120)])
    path = tmp_path / "counts.parquet"
    parquet.write_table(pyarrow.table(dict(zip("abcdew", table.T, strict=True))), path, row_group_size=20)
    return str(path)


def test_softmax_rates_take_the_total_without_another_setting(path):
    found, data = open_data(run(path, *TINY, SOFTMAX, "data.drop=[w]"))
    factor = size_factor_of(data.schema)
    model = build_model(found, data.schema)
    x, context = data.train.batch(slice(None)), data.train.context_of(slice(None))
    np.testing.assert_allclose(factor.log_size(context).exp(), x.sum(1), rtol=1e-5)
    draw = model.draw(x, context=context, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(draw.px.mean[0].sum(1).detach(), x.sum(1), rtol=1e-4)


def test_softmax_rates_without_sizes_are_refused_in_words_of_settings(path):
    with pytest.raises(ConfigError, check=naming("data.size_factor")):
        open_data(run(path, *TINY, SOFTMAX, "data.size_factor=none"))


def test_other_likelihoods_of_counts_have_no_sizes_unless_they_are_set(path):
    assert open_data(run(path, *TINY, "likelihood=negative_binomial"))[1].schema.context is None
    sized = open_data(run(path, *TINY, "likelihood=negative_binomial", "data.size_factor=total"))[1]
    assert sized.schema.context.names == ("size_factor",)


@pytest.mark.parametrize("stream", ["never", "always"])
def test_a_run_with_sizes_and_weights_that_stopped_goes_on_bit_for_bit(path, tmp_path, stream):
    words = [path, *TINY, SOFTMAX, "data.weight=w", f"data.stream={stream}"]
    if stream == "always":
        words += ["limit.data_gb=0.0001"]
    whole = TrainingRun.start(run(*words))
    for _ in whole.events():
        pass
    cut = TrainingRun.start(run(*words, run_dir=tmp_path / "run"))
    for event in cut.events():
        if event.kind == "epoch":
            break
    again = TrainingRun.resume(tmp_path / "run")
    for _ in again.events():
        pass
    for one, other in zip(whole.state.step.model.parameters(), again.state.step.model.parameters(), strict=True):
        assert one.equal(other)


def test_evaluation_weights_rows(path, tmp_path):
    training = TrainingRun.start(run(path, *TINY, SOFTMAX, "data.weight=w", run_dir=tmp_path / "run"))
    for _ in training.events():
        pass
    trained = open_run(tmp_path / "run")
    rows = trained.rows()
    weight, values = rows.weight_of(slice(None)).double(), {}
    found = evaluate(trained.model, rows, 4, per_row=values.update)
    expected = float((weight.numpy() * values["elbo"]).sum() / weight.sum())
    assert found["elbo"].value == pytest.approx(expected, rel=1e-6)
    assert found["elbo"].value != pytest.approx(float(values["elbo"].mean()), rel=1e-6)
    assert trained.evaluate(samples=4)["elbo"].value == found["elbo"].value
    assert trained.sample(3).shape == (3, 5)


@pytest.mark.parametrize(("settings", "least", "most"), [([SOFTMAX], 0.0, 0.1), (["data.size_factor=none"], 0.5, 1.0)])
def test_codes_of_cells_of_one_type_say_nothing_of_their_size_where_the_model_is_given_it(settings, least, most):
    rng = np.random.default_rng(0)
    sizes = rng.lognormal(6, 0.7, 300)
    counts = rng.poisson(sizes[:, None] * rng.dirichlet(np.ones(30)))
    words = [*TINY, "epochs=8", "lr=0.01", "likelihood=negative_binomial", *settings]
    codes = fit(run(*words), counts, progress=False).encode(counts)
    inputs, log_sizes = np.c_[codes, np.ones(300)], np.log(sizes)
    residuals = log_sizes - inputs @ np.linalg.lstsq(inputs, log_sizes, rcond=None)[0]
    assert least <= 1 - residuals.var() / log_sizes.var() <= most
