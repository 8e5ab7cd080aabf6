"""The scale of a calibrated Gaussian is where the residuals are, at any point of training."""

import numpy as np
import pytest
import torch

from vaekit.models.likelihoods.gaussian import LearnedScale
from vaekit.runs import TrainingRun, load, make_run

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {"widths": [16]}


def lines(noise: float = 0.05, rows: int = 1000) -> np.ndarray:
    rng = np.random.default_rng(0)
    t, u = rng.standard_normal((2, rows))
    return np.stack([t, 2 * t, -t, u, u + t, 3 * u], 1) + noise * rng.standard_normal((rows, 6))


def training_of(
    x: np.ndarray, folder, scale: str = "auto", per_dimension: bool = True, run_dir=None, network=TINY, **train
) -> TrainingRun:
    path = folder / "x.npy"
    np.save(path, x)
    likelihood = {"kind": "calibrated_gaussian", "per_dimension": per_dimension}
    model = {"likelihood": likelihood, "latent": 4, "encoder": network, "decoder": network}
    data = {"source": str(path), "scale": scale}
    return TrainingRun.start(
        make_run({"data": data, "model": model, "train": train, "run_dir": run_dir and str(run_dir)})
    )


def trained(training: TrainingRun) -> TrainingRun:
    for _ in training.events():
        pass
    return training


def scale_of(training: TrainingRun) -> torch.Tensor:
    head = training.model.likelihood.head
    assert isinstance(head, LearnedScale)
    return (0.5 * head.log_variance.detach()).exp()


@torch.no_grad()
def residuals(training: TrainingRun) -> torch.Tensor:
    """Root mean squared, (columns,), of training rows at samples of z, in units of the table."""
    x = training.data.train.batch(slice(0, len(training.data.train)))
    draw = training.model.draw(x, 20, generator=torch.Generator().manual_seed(0))
    return (x - draw.px.mean).square().mean((0, 1)).sqrt()


def test_sigma_reaches_the_residuals_within_the_default_training(tmp_path) -> None:
    training = trained(training_of(lines(), tmp_path, network={}, epochs=50, weights="last"))
    torch.testing.assert_close(
        scale_of(training), residuals(training), rtol=0.4, atol=0
    )  # of 20 batches, while they fall
    assert scale_of(training).max() < 0.25  # a weight under Adam was at 0.83


def test_one_shared_sigma_is_the_root_mean_square_of_all_residuals(tmp_path) -> None:
    training = trained(training_of(lines(), tmp_path, per_dimension=False, epochs=20, weights="last"))
    torch.testing.assert_close(scale_of(training), residuals(training).square().mean().sqrt(), rtol=0.1, atol=0)


def test_constant_pictures_neither_collapse_nor_explode(tmp_path) -> None:
    x = np.full((200, 8, 8), 0.5, np.float32)
    for per_dimension in (False, True):
        training, losses = training_of(x, tmp_path, "none", per_dimension, epochs=10), []
        for event in training.events():
            losses += [event.metrics["train_loss"], -event.metrics["valid_elbo"]] if event.kind == "epoch" else []
        assert np.isfinite(losses).all()
        assert max(losses) < 64 * 20
        assert min(losses) > -64 * 10


def test_columns_of_any_units_train_alike(tmp_path) -> None:
    """In raw units of 1e-6 to 1e6 a table gets within noise of what it gets standardised, less the ln of its units."""
    x, units = lines(0.3), np.array([1e-6, 1, 1e6, 1e3, 10, 1e-2])
    raw = trained(training_of(x * units, tmp_path, "none", epochs=10)).state.at.best_elbo
    same = trained(training_of(x, tmp_path, "none", epochs=10)).state.at.best_elbo
    assert raw is not None
    assert same is not None
    assert raw + np.log(units).sum() == pytest.approx(same, abs=0.05)


def test_a_batch_in_pieces_moves_the_scale_as_the_whole_does(tmp_path) -> None:
    x = lines(rows=300)
    whole = scale_of(trained(training_of(x, tmp_path, epochs=3, weights="last")))
    pieces = scale_of(trained(training_of(x, tmp_path, epochs=3, weights="last", micro_batch=50)))
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-5)


def test_a_run_that_was_stopped_goes_on_with_the_same_scale(tmp_path) -> None:
    x = lines(rows=300)
    whole = trained(training_of(x, tmp_path, epochs=4, weights="last", run_dir=tmp_path / "whole"))
    training = training_of(x, tmp_path, epochs=4, weights="last", run_dir=tmp_path / "run")
    for event in training.events():
        if event.kind == "step" and event.step == 4:
            training.stop()
    again = trained(TrainingRun.resume(tmp_path / "run"))
    for key, value in whole.state.step.model.state_dict().items():
        assert again.state.step.model.state_dict()[key].equal(value), key
    assert load(tmp_path / "run").likelihood.head.log_variance.equal(again.model.likelihood.head.log_variance)


def test_the_norm_that_is_clipped_leaves_the_scale_out(tmp_path) -> None:
    """Whatever the scale's slope, the weights' steps are those of the others' slopes."""
    training = training_of(lines(), tmp_path, clip=1e9)
    assert all(
        p is not training.model.likelihood.head.log_variance for p in training.state.learners[0].updates.parameters
    )
