"""Training: reproducible, stoppable, honest about what diverges."""

import itertools
import math

import pytest
import torch

from naming import naming
from vaekit.errors import ConfigError, Diverged, ModelFileError
from vaekit.runs import TrainingRun, fit, load, make_run, open_run, override, preset, train
from vaekit.training import RunFolder, pack, read_weights
from vaekit.training.checkpoints.store import Checkpoint
from vaekit.training.patience import LEAST_STEPS


def tiny(*settings: str, run_dir=None):
    base = ["limit.train=96", "limit.valid=40", "train.epochs=2", "train.batch_size=32", "model.latent=3"]
    small = ["model.encoder.widths=[16]", "model.decoder.widths=[16]"]
    run = make_run(override(preset("digits"), [*base, *small, *settings]))
    return run.model_copy(update={"run_dir": None if run_dir is None else str(run_dir)})


def weights_after(run) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in fit(run).model.state_dict().items()}


def kept(folder, name: str):
    return read_weights(RunFolder(folder).checkpoints.newest(), name)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("setting", ["data.binarise=none", "data.binarise=dynamic", "objective.gradient=score"])
def test_the_same_seed_gives_the_same_bits_whatever_ran_before(setting):
    first = weights_after(tiny(setting))
    torch.rand(7)
    before = torch.get_rng_state()
    second = weights_after(tiny(setting))
    assert torch.equal(before, torch.get_rng_state()), "training drew from the global generator"
    assert same(first, second)
    assert not same(first, weights_after(tiny(setting, "seed=1")))


def test_training_raises_the_bound_and_reports_it_per_row():
    events = list(train(tiny("train.epochs=40", "objective.beta=1", "train.lr=0.005")))
    assert [e.kind for e in events if e.kind != "step"] == ["start"] + ["epoch"] * 40 + ["end"]
    assert [e.step for e in events if e.kind == "step"] == list(range(1, 40 * 3 + 1))
    elbo = [e.metrics["valid_elbo"] for e in events if e.kind == "epoch"]
    assert elbo[-1] > elbo[0] + 1
    for event in events:
        if event.kind == "epoch":
            m = event.metrics
            assert m["valid_elbo"] == pytest.approx(-m["valid_distortion"] - m["valid_rate"])
            assert m["train_loss"] == pytest.approx(m["train_distortion"] + m["train_rate"], rel=1e-4)


def test_validation_is_the_elbo_whatever_beta_is():
    (weighted, plain) = (
        next(e.metrics for e in train(tiny("train.lr=1e-9", f"objective.beta={beta}")) if e.kind == "epoch")
        for beta in (7.0, 1.0)
    )
    assert weighted["valid_elbo"] == pytest.approx(plain["valid_elbo"], rel=1e-4)
    assert weighted["train_loss"] > plain["train_loss"]


def test_patience_stops_early_and_the_best_weights_are_handed_on(tmp_path):
    run = tiny("train.epochs=600", "train.patience=3", "train.lr=0.01", "objective.beta=1", run_dir=tmp_path / "run")
    training = TrainingRun.start(run)
    events = list(training.events())
    elbo = [e.metrics["valid_elbo"] for e in events if e.kind == "epoch"]
    best = max(range(len(elbo)), key=elbo.__getitem__)
    assert len(elbo) == max(best + 1, math.ceil(LEAST_STEPS / 3)) + 3 < 600
    assert "stopped early" in events[-1].message
    best_weights, about = kept(tmp_path / "run", "best")
    assert float(about["valid_elbo"]) == elbo[best]
    assert int(about["epoch"]) == best + 1
    assert same(dict(training.model.state_dict()), best_weights)
    assert not same(best_weights, kept(tmp_path / "run", "last")[0])


def test_last_weights_on_request(tmp_path):
    run = tiny("train.epochs=30", "train.lr=0.01", "train.weights=last", run_dir=tmp_path / "run")
    trained = weights_after(run)
    assert same(trained, kept(tmp_path / "run", "last")[0])
    assert same(trained, dict(load(tmp_path / "run").state_dict()))


def test_a_caller_that_stops_reading_keeps_the_weights(tmp_path):
    run = tiny("train.epochs=50", run_dir=tmp_path / "run")
    events = TrainingRun.start(run).events()
    list(itertools.islice(events, 6))
    events.close()
    assert (tmp_path / "run" / "STATUS").read_text() == "interrupted at step 4\n"
    _, about = kept(tmp_path / "run", "last")
    assert about["step"] == "4"
    assert load(tmp_path / "run").generate(2).shape == (2, 1, 8, 8)


def test_divergence_names_term_step_row_and_weight(tmp_path):
    run = tiny("train.lr=1e30", run_dir=tmp_path / "run")
    with pytest.raises(
        Diverged, match=r"at step \d+ \(epoch 1\): term '\w+' .* training row \d+; the largest weight"
    ) as e:
        fit(run)
    assert e.value.exit_code == 5
    assert (tmp_path / "run" / "STATUS").read_text().startswith("failed at step")


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax"])
def test_every_optimiser_lowers_the_loss(name):
    losses = [
        e.metrics["train_loss"]
        for e in train(tiny(f"train.optimiser={name}", "objective.beta=1", "train.epochs=20", "train.lr=0.01"))
        if e.kind == "epoch"
    ]
    assert losses[-1] < losses[0]


def test_the_learning_rate_follows_its_schedule_and_gradients_are_clipped():
    settings = ["train.schedule={kind: cosine, warmup: 0.5}", "train.clip=1e-12", "train.optimiser=adamw"]
    run = tiny(*settings, "train.optimiser.weight_decay=0", "train.optimiser.eps=1.0")
    start = TrainingRun.start(run)
    before = {name: value.clone() for name, value in start.model.state_dict().items()}
    events = [e for e in start.events() if e.kind == "epoch"]
    assert events[0].metrics["lr"] > events[1].metrics["lr"]
    for name, value in start.model.state_dict().items():
        assert torch.allclose(value, before[name], atol=1e-9), "a gradient of norm 1e-12 moved a weight"


class TestRunFolder:
    def test_a_write_that_fails_leaves_the_old_file_and_no_litter(self, tmp_path, monkeypatch):
        folder = RunFolder.create(tmp_path / "run")
        folder.write("STATUS", b"old")
        monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            folder.write("STATUS", b"new")
        assert (folder.path / "STATUS").read_text() == "old"
        assert sorted(p.name for p in folder.path.iterdir()) == ["LOCK", "STATUS", "checkpoints", "samples"]

    def test_a_folder_with_a_run_is_not_overwritten(self, tmp_path):
        fit(tiny("train.epochs=1", run_dir=tmp_path / "run"))
        with pytest.raises(ConfigError, check=naming("run_dir", str(tmp_path / "run"))):
            fit(tiny("train.epochs=1", run_dir=tmp_path / "run"))

    @pytest.mark.parametrize("content", [b"", b"not safetensors", b"\xff" * 100], ids=["empty", "text", "ones"])
    def test_what_is_not_safetensors_is_refused(self, tmp_path, content):
        with pytest.raises(ModelFileError, match=r"best\.safetensors is not a whole safetensors file"):
            read_weights(Checkpoint(tmp_path, {"best.safetensors": content}), "best")

    def test_weights_that_are_not_finite_are_refused(self, tmp_path):
        training = TrainingRun.start(tiny("train.epochs=1", run_dir=tmp_path / "run"))
        list(training.events())
        name = next(iter(training.state.best))
        training.state.best[name][0] = float("nan")
        training.folder.checkpoints.save(99, pack(training.state))
        with pytest.raises(ModelFileError, match=f"not finite, in {name}"):
            load(tmp_path / "run")

    def test_weights_of_another_model_are_refused(self, tmp_path):
        fit(tiny("train.epochs=1", run_dir=tmp_path / "a"))
        other = TrainingRun.start(tiny("train.epochs=1", "model.latent=5", run_dir=tmp_path / "b"))
        list(other.events())
        RunFolder(tmp_path / "a").checkpoints.save(99, pack(other.state))
        with pytest.raises(ModelFileError, match="of another model"):
            load(tmp_path / "a")

    @pytest.mark.parametrize("file", ["run.yaml", "data.json"])
    @pytest.mark.parametrize("content", [b"", b"[1, 2]", b"\xff\xfe", b"{}"])
    def test_damaged_descriptions_are_refused(self, tmp_path, file, content):
        fit(tiny("train.epochs=1", run_dir=tmp_path / "run"))
        (tmp_path / "run" / file).write_bytes(content)
        with pytest.raises(ModelFileError):
            open_run(tmp_path / "run")

    def test_what_is_loaded_is_what_was_trained(self, tmp_path):
        trained = weights_after(tiny(run_dir=tmp_path / "run"))
        opened = open_run(tmp_path / "run")
        assert same(trained, dict(opened.model.state_dict()))
        assert not opened.model.training
        assert opened.settings.model.likelihood.kind == "categorical"
        history = opened.folder.history()
        assert [line["epoch"] for line in history] == [1, 2]
