"""Where settings meet data: the likelihood that fits, the memory that is there, the bias that starts well."""

import numpy as np
import pytest
import torch

from naming import naming
from unions import members
from vaekit.data import Real, Unit
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation import baseline
from vaekit.models import Likelihood
from vaekit.runs import TrainingRun, fit, make_run, open_rows, open_run, override, preset, reopen
from vaekit.runs.defaults import default_likelihood
from vaekit.runs.factory import build_model, open_data
from vaekit.runs.memory import activations_per_sample, check_memory

STICKING = "objective.gradient=stick_the_landing"
RELAXED = "model.posterior={kind: categorical, temperature: 1.0}"


def digits(*settings: str):
    return make_run(override(preset("digits"), settings))


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ([], "categorical"),
        (["data.binarise=dynamic"], "bernoulli"),
        (["data.scale=unit"], "continuous_bernoulli"),
        (["data.scale=standard"], "calibrated_gaussian"),
    ],
)
def test_the_likelihood_is_chosen_from_the_support(settings, kind):
    run, data = open_data(digits(*settings))
    assert run.model.likelihood.kind == kind
    assert data.schema.support.kind in run.model.likelihood.accepts


@pytest.mark.parametrize(
    ("settings", "right"),
    [
        (["model.likelihood=bernoulli"], r"17 levels .*model.likelihood=\{kind: categorical, levels: 17\}"),
        (["model.likelihood={kind: categorical, levels: 16}"], r"levels: 17\}"),
        (["model.likelihood=beta_binomial"], r"beta_binomial with 256 levels, which does not fit .*17 levels"),
        (["data.binarise=dynamic", "model.likelihood=continuous_bernoulli"], r"binary.*\{kind: bernoulli\}"),
        (["data.scale=standard", "model.likelihood=soft_bernoulli"], r"which does not fit digits"),
    ],
)
def test_a_likelihood_that_does_not_fit_is_refused_and_the_right_one_named(settings, right):
    with pytest.raises(ConfigError, match=right, check=naming("model.likelihood")):
        open_data(digits(*settings))


def test_every_likelihood_fits_some_support_by_default_or_by_name():
    accepted = {kind for head in members(Likelihood) for kind in head.accepts}
    assert accepted == {"binary", "levels", "unit", "real", "count", "mixed"}
    assert default_likelihood(Real(), "table").kind == "calibrated_student_t"
    assert default_likelihood(Real(), "image").kind == "calibrated_gaussian"
    assert default_likelihood(Unit(), "image").kind == "continuous_bernoulli"


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        (["model.prior=factorised"], "model.prior", "factorised"),
        (["model.prior=autoregressive"], "model.prior", "autoregressive"),
        (["model.posterior=fsq", "model.prior=flow"], "model.prior", "flow"),
        (["model.posterior=bernoulli", "model.prior=vamp"], "model.prior", "vamp"),
        (["model.posterior=vq", "model.prior=mixture"], "model.prior", "mixture"),
        (["model.posterior=categorical"], "objective.gradient", "pathwise"),
        (["model.posterior=bernoulli", STICKING], "objective.gradient", "stick_the_landing"),
        (
            ["model.posterior={kind: categorical, temperature: 1.0}", STICKING],
            "objective.gradient",
            "stick_the_landing",
        ),
        (["model.posterior=vq", "objective.gradient=score"], "objective.gradient", "score"),
        (["model.posterior=fsq", "objective.gradient=enumerate"], "objective.gradient", "enumerate"),
        (["objective.gradient=enumerate"], "objective.gradient", "enumerate"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_latents_that_do_not_go_together_are_refused(settings, field, value):
    with pytest.raises(ConfigError, check=naming(field, value)):
        TrainingRun.start(digits(*settings))


def test_more_values_of_z_than_can_be_listed_are_refused():
    with pytest.raises(ConfigError, match=r"2\^16 values of z, and at most 4096", check=naming("model")):
        TrainingRun.start(digits("model.posterior=bernoulli", "objective.gradient=enumerate"))


@pytest.mark.parametrize("latent", [1_000_000, 50_000_000])
def test_a_model_beyond_memory_is_refused_at_once(latent):
    run, data = open_data(digits(f"model.latent={latent}", "limit.memory_gb=12"))
    with pytest.raises(ConfigError, check=naming("limit.memory_gb", 12.0)):
        check_memory(run, data.schema)


def test_a_model_whose_weights_cannot_be_counted_is_refused_at_once():
    with pytest.raises(ConfigError, match="more weights than can be counted", check=naming("model")):
        TrainingRun.start(
            digits("model.latent=100000000", "model.posterior=full_gaussian", "model.encoder.widths=[65536]")
        )


def test_the_memory_that_is_allowed_can_be_set():
    run, data = open_data(digits("limit.memory_gb=0.0001"))
    with pytest.raises(ConfigError, check=naming("limit.memory_gb", 0.0001)):
        check_memory(run, data.schema)


def test_what_a_convolutional_decoder_gives_out_counts_as_memory():
    encoder, decoder = (f"model.{part}={{kind: conv, channels: [4], hidden: 8}}" for part in ("encoder", "decoder"))
    run, data = open_data(digits(encoder, decoder))
    raw = 17 * 64  # of all layers the most by far
    assert raw < activations_per_sample(build_model(run, data.schema), data.schema) < 2 * raw


@pytest.mark.parametrize(
    "network", ["{kind: conv, channels: [8, 8], hidden: 32}", "{kind: resnet, channels: [8, 8], hidden: 32}"]
)
def test_a_table_of_series_is_convolved_along_its_columns(tmp_path, network):
    generator = np.random.default_rng(0)
    phase = generator.uniform(0, 2 * np.pi, (400, 1))
    np.save(tmp_path / "series.npy", np.sin(np.arange(24) / 4 + phase) + 0.1 * generator.normal(size=(400, 24)))
    settings = [f"data.source={tmp_path / 'series.npy'}", f"model.encoder={network}", f"model.decoder={network}"]
    settings += ["model.latent=2", "train.epochs=20", "train.batch_size=20", f"run_dir={tmp_path / 'run'}"]
    model = fit(make_run(override({}, settings))).model
    assert any(isinstance(part, torch.nn.Conv1d) for part in model.posterior.modules())
    elbos = [line["valid_elbo"] for line in open_run(tmp_path / "run").folder.history()]
    assert elbos[-1] > elbos[0] + 10


@pytest.mark.parametrize("encoder", ["mlp", "conv"])
@pytest.mark.parametrize("settings", [[], ["data.binarise=dynamic"], ["data.scale=unit"], ["data.scale=standard"]])
def test_the_bias_start_decodes_to_the_best_model_without_latents(settings, encoder):
    """With the last layer's weights at zero, p(x|z) is the baseline itself."""
    training = TrainingRun.start(digits(*settings, f"model.decoder={encoder}", f"model.encoder={encoder}"))
    network = training.model.likelihood.network
    with torch.no_grad():
        (network.stages[-1].convolution.weight if encoder == "conv" else network.layers[-1].weight).zero_()
    x = training.data.valid.batch(slice(0, 50))
    few = training.data.train.batch(slice(0, len(training.data.train)), torch.Generator().manual_seed(0))
    with torch.no_grad():
        started = float(training.model.likelihood(torch.zeros(1, 16)).log_prob(x).mean())
    assert started == pytest.approx(baseline(training.model.likelihood, few, x).value, rel=0.01)


def test_the_bias_start_is_a_switch():
    training = TrainingRun.start(digits("model.bias_start=false"))
    assert training.model.likelihood.network.output_bias.abs().max() < 0.1


def test_weights_depend_on_the_seed_alone():
    run, data = open_data(digits())
    first, again = build_model(run, data.schema), build_model(run, data.schema)
    other = build_model(run.model_copy(update={"seed": 1}), data.schema)
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


class TestReopen:
    @pytest.fixture
    def table(self, tmp_path):
        rng = np.random.default_rng(0)
        np.savez(tmp_path / "t.npz", X=rng.normal(3, 2, size=(60, 4)), y=rng.integers(0, 2, 60))
        settings = [f"data.source={tmp_path / 't.npz'}", "train.epochs=1", "model.latent=2"]
        run = make_run(override({}, settings)).model_copy(update={"run_dir": str(tmp_path / "run")})
        fit(run)
        return tmp_path

    def test_the_same_rows_come_back(self, table):
        opened = open_run(table / "run")
        rows = open_rows(opened)
        assert torch.equal(rows.batch(slice(0, 6)), reopen(opened).test.batch(slice(0, 6)))

    def test_data_that_changed_is_refused(self, table):
        np.savez(table / "t.npz", X=np.random.default_rng(1).normal(size=(60, 4)), y=np.arange(60) % 2)
        with pytest.raises(DataError, check=naming("data.source", str(table / "t.npz"))):
            open_rows(open_run(table / "run"))

    def test_other_data_is_scaled_as_the_runs_was(self, table):
        opened = open_run(table / "run")
        other = np.random.default_rng(2).normal(3, 2, size=(9, 4))
        np.save(table / "other.npy", other)
        x = open_rows(opened, str(table / "other.npy")).batch(slice(0, 9))
        assert np.allclose(opened.schema.to_stored(x.numpy()), other, atol=1e-5)

    def test_other_data_of_another_shape_is_refused(self, table):
        np.save(table / "other.npy", np.zeros((9, 5)))
        with pytest.raises(DataError, match=r"rows of shape \(5,\)"):
            open_rows(open_run(table / "run"), str(table / "other.npy"))
