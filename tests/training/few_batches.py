"""Small runs on digits, and the gradients of a few of their batches."""

import torch

from vaekit.runs import TrainingRun, make_run, override, preset
from vaekit.training.updater import Updater

SMALL = ["limit.train=50", "limit.valid=10", "train.batch_size=20", "model.latent=3", "train.epochs=100"]
MLP = ["model.encoder.widths=[16]", "model.decoder.widths=[16]"]
ROWS = [slice(0, 20), slice(20, 40), slice(40, 50), slice(7, 27)]


def gradients(settings: list[str], make) -> list[torch.Tensor]:
    """The sums and gradients of a few batches, the weights moved a little in between."""
    training = start(settings)
    update = Updater(training.state, training.data.train, training.run.train, seed=0, steps=1000)
    update.engine, found = make(training.state), []
    for number, rows in enumerate(ROWS):
        training.state.advance(step=5 * number)
        _, sums = update.add_gradients(torch.arange(50)[rows], training.run.objective, 1000)
        found += [torch.tensor(list(sums.values()), dtype=torch.float64)]
        found += [p.grad.double().clone() for p in training.state.step.parameters() if p.grad is not None]
        with torch.no_grad():
            for p in training.state.step.parameters():
                p.add_(p.grad if p.grad is not None else 0, alpha=-0.01)
        update.step.settle()
    return found


def start(settings: list[str]) -> TrainingRun:
    return TrainingRun.start(make_run(override(preset("digits"), [*SMALL, *settings])))


def check_close(found: list[torch.Tensor], wanted: list[torch.Tensor], rtol: float = 1e-4) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol * float(other.abs().max()))
