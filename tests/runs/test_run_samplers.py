"""Samplers of a run: fitted once, found again, fitted anew when what they stand for has changed."""

import json
import shutil

import pytest
import torch

from naming import naming
from vaekit.errors import DataError, SpecError
from vaekit.evaluation import fingerprint
from vaekit.randomness import new_generator
from vaekit.runs import fit, make_run, open_run, override, preset, reopen, sampling
from vaekit.runs.samplers import training_codes
from vaekit.samplers import FromAggregated, FromFlow, FromMixture, FromPrior

MIXTURE = FromMixture(components=3)
FLOW = FromFlow(transforms=1, hidden=(8,), steps=10)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    small = ["train.epochs=1", "limit.train=96", "limit.valid=40", "model.latent=3", "model.encoder.widths=[16]"]
    fit(make_run({**override(preset("digits"), [*small, "model.decoder.widths=[16]"]), "run_dir": str(folder)}))
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def drawn(folder, sampler, temperature=1.0, n=40):
    chosen = sampling(open_run(folder), sampler, temperature)
    return chosen.model.generate(n, generator=new_generator(0), mean=True), chosen


@pytest.mark.parametrize("sampler", [FromPrior(), FromAggregated(), MIXTURE, FLOW], ids=lambda s: s.kind)
def test_every_source_gives_rows_of_the_model_and_says_which(run, sampler, globals_untouched):
    weights = fingerprint(open_run(run).model)
    with globals_untouched():
        x, chosen = drawn(run, sampler)
        cold, _ = drawn(run, sampler, 0.2)
    assert x.shape == (40, 1, 8, 8)
    assert cold.std(0).mean() < x.std(0).mean()
    assert torch.equal(drawn(run, sampler, n=300)[0][:40], x)
    assert chosen.source == str(sampler)
    assert chosen.model.posterior is not None
    assert fingerprint(open_run(run).model) == weights


def test_the_prior_is_what_the_model_generates_from(run):
    model = open_run(run).model
    assert torch.equal(drawn(run, None)[0], model.generate(40, generator=new_generator(0), mean=True))


@pytest.mark.parametrize("sampler", [MIXTURE, FLOW], ids=lambda s: s.kind)
def test_what_was_fitted_is_found_again(run, sampler):
    first, chosen = drawn(run, sampler)
    assert chosen.facts["fitted"] == "now"
    about = json.loads((run / "samplers" / f"{sampler.kind}.json").read_text())
    assert (about["format_version"], about["weights"]) == (1, fingerprint(open_run(run).model))
    (run / "run.yaml").write_text((run / "run.yaml").read_text().replace("source: digits", "source: gone.npy"))
    again, chosen = drawn(run, sampler)
    assert chosen.facts["fitted"] == "before"
    assert torch.equal(first, again)


@pytest.mark.parametrize("damage", ["weights", "settings", "tensors", "json", "gone"])
def test_what_no_longer_holds_is_fitted_anew(run, damage):
    first, _ = drawn(run, MIXTURE)
    tensors, about = (run / "samplers" / f"mixture.{ending}" for ending in ("safetensors", "json"))
    sampler, opened = MIXTURE, open_run(run)
    if damage == "weights":
        with torch.no_grad():
            next(opened.model.parameters()).add_(0.1)
    elif damage == "settings":
        sampler = FromMixture(components=2)
    elif damage == "tensors":
        tensors.write_bytes(tensors.read_bytes()[:-4] + b"\0\0\0\1")
    elif damage == "json":
        about.write_text("{")
    else:
        tensors.unlink()
    chosen = sampling(opened, sampler)
    assert chosen.facts["fitted"] == "now"
    assert sampling(opened, sampler).facts["fitted"] == "before"
    if damage in ("tensors", "json", "gone"):
        assert torch.equal(chosen.model.generate(40, generator=new_generator(0), mean=True), first)


def test_a_folder_that_cannot_be_written_does_not_stop_a_draw(run):
    (run / "samplers").write_text("in the way")
    with pytest.warns(UserWarning, match="could not be kept"):
        assert drawn(run, MIXTURE)[1].facts["fitted"] == "now"


def test_codes_are_draws_of_the_posterior_of_training_rows(run):
    opened = open_run(run)
    train = reopen(opened).train
    z = training_codes(opened.model, train, 96 * 200)
    (q,) = opened.model.encode(train.batch(slice(None))).posteriors
    assert z.shape == (96 * 200, 3)
    torch.testing.assert_close(z.mean(0), q.mean.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(z.var(0), q.variance.mean(0) + q.mean.var(0), rtol=0.1, atol=0)
    assert len(training_codes(opened.model, train, 10)) == 10


def test_errors_are_clear(run):
    opened = open_run(run)
    with pytest.raises(SpecError, check=naming("temperature", 0.0)):
        sampling(opened, temperature=0.0)
    (run / "run.yaml").write_text((run / "run.yaml").read_text().replace("source: digits", "source: gone.npy"))
    for sampler in (FromAggregated(), MIXTURE):
        with pytest.raises(DataError, check=naming("data.source", "gone.npy")):
            sampling(open_run(run), sampler)


def test_a_temperature_is_of_every_group_of_a_hierarchy(tmp_path):
    settings = ["train.epochs=1", "limit.train=96", "limit.valid=40", "model.groups.latent=[4, 3]"]
    base = override(preset("hvae-2level"), ["data.source=digits", *settings, "model.groups.widths=[16]"])
    fit(make_run({**base, "run_dir": str(tmp_path / "hierarchical")}))
    opened, generator = open_run(tmp_path / "hierarchical"), new_generator(0)
    _, latents = sampling(opened, None, 1e-4).model.simulate(200, generator=generator)
    assert all(z.std(0).max() < 0.01 for z in latents)
    _, latents = sampling(opened).model.simulate(200, generator=generator)
    assert all(z.std(0).min() > 0.1 for z in latents)
    below = "and from the prior below the first group"
    assert [below in sampling(opened, source).source for source in (None, FromAggregated())] == [False, True]
