"""No two draws of a process have the same key: recorded over whole runs of every kind."""

import importlib
import pkgutil
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import vaekit
from vaekit.cli import suites
from vaekit.cli.main import main
from vaekit.evaluation import Annealing, disentanglement, features
from vaekit.randomness import BLOCK, Purpose, new_generator, noise_of_rows
from vaekit.samplers import FromFlow

TINY = (
    "digits train.epochs=2 limit.train=120 limit.valid=40 train.batch_size=40 data.binarise=dynamic "
    "model.latent=3 model.encoder={kind: mlp, widths: [8]} model.decoder={kind: mlp, widths: [8]}"
)
KINDS = {
    "dense": "",
    "vamp": "model.prior={kind: vamp, components: 5}",
    "of one's own sampling": "model.prior={kind: mixture, components: 5} objective={kind: regularised, "
    "penalties: [{kind: mmd, weight: 1}]}",
    "noise of single steps": "model.latent=4000 objective={kind: regularised, penalties: [{kind: mmd, weight: 1}]}",
    "fewer samples later": "objective={kind: switch, at: 0.5, first: {kind: iwae, samples: 5}, then: {kind: elbo}} "
    "train.epochs=4",
    "vq": "model.posterior={kind: vq, classes: 4, dim: 3} model.prior={kind: factorised}",
    "categorical": "model.posterior={kind: categorical, classes: 4} model.prior={kind: factorised} "
    "objective.gradient={kind: score}",
    "discriminator": "objective={kind: regularised, penalties: [{kind: factor, weight: 2, "
    "critic: {network: {kind: mlp, widths: [8]}}}]}",
    "hierarchical": "model={kind: hierarchical}",
}
EVERY_COMMAND = ("dense", "vq")  # the others are trained and evaluated alone
COMMANDS = {
    "evaluate": "evaluate {run} --samples 4",
    "evaluate training rows": "evaluate {run} --samples 4 --split train",
    "suites": "evaluate {run} --samples 4 --suite all --rows 40",
    "suites on training rows": "evaluate {run} --samples 4 --suite all --split train",
    "sample": "sample {run} -n 5 --out {out}/x.npy",
    "sample from a flow": "sample {run} -n 5 --from flow --out {out}/flow.npy",
    "sample from the aggregated posterior": "sample {run} -n 5 --from aggregated --out {out}/aggregated.npy",
    "encode": "encode {run} --out {out}/z.npz",
    "reconstruct": "reconstruct {run} --out {out}/x.png",
    "report": "report {run} --out {out}/report.html --samples 4",
}


class Keys:
    """Every key that generators were made of, and the lines of code and shapes of noise that they were made for."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.uses: dict[tuple[object, ...], set[object]] = {}
        for module in pkgutil.walk_packages(vaekit.__path__, "vaekit."):
            if module.name != "vaekit.__main__":
                importlib.import_module(module.name)
        for name, module in list(sys.modules.items()):
            if name.startswith("vaekit.") and name != "vaekit.randomness":
                for recorded in (self.new_generator, self.noise_of_rows):
                    if hasattr(module, recorded.__name__):
                        patch.setattr(module, recorded.__name__, recorded)

    def new_generator(self, seed, *key, device="cpu"):
        self.note(seed, key, sys._getframe(1))
        return new_generator(seed, *key, device=device)

    def noise_of_rows(self, draw, rows, batch, seed, *key, device="cpu", dim=0):
        noise = noise_of_rows(draw, rows, batch, seed, *key, device=device, dim=dim)
        one = noise.movedim(dim, 0).shape[1:]  # of a row
        for block in range(-(-batch // BLOCK)):
            self.note(seed, (*key, block), sys._getframe(1), tuple(one), batch)
        return noise

    def note(self, seed, key, frame, *what) -> None:
        if key[:1] != (Purpose.TRIAL,):  # whose numbers are thrown away
            numbers = tuple(n for part in key for n in (part.value if isinstance(part, Purpose) else (part,)))
            self.uses.setdefault((seed, *numbers), set()).add((frame.f_code.co_filename, frame.f_lineno, *what))

    def shared(self) -> dict[tuple[object, ...], set[object]]:
        return {key: uses for key, uses in self.uses.items() if len(uses) > 1}


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """Few chains, a flow of few steps, features that are hardly trained."""
    monkeypatch.setattr(suites, "ANNEALING", Annealing(chains=2, temperatures=2))
    monkeypatch.setattr(suites, "ANNEALED_ROWS", 5)
    monkeypatch.setitem(suites.SAMPLERS, "flow", FromFlow(hidden=(8,), steps=5))
    monkeypatch.setattr(features, "STEPS", 10)
    monkeypatch.setattr(features, "EPOCHS", 1)
    for name in ("VOTES", "TESTS"):
        monkeypatch.setattr(disentanglement, name, 50)


@pytest.fixture
def keys(monkeypatch) -> Iterator[Keys]:
    with monkeypatch.context() as patch:
        yield Keys(patch)


def command(line: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(shlex.split(line))
    return leaving.value.code


def settings(kind: str) -> list[str]:
    """The words of a training, each with the spaces that it has."""
    found: list[str] = []
    for word in f"{TINY} {KINDS[kind]}".split(" "):
        if found and found[-1].count("{") > found[-1].count("}"):
            found[-1] += f" {word}"
        elif word:
            found += [word]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_draws_of_a_process_have_the_same_key(keys: Keys, kind: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [word for word in settings(kind) if kind != "hierarchical" or not word.startswith("model.")]
    assert command(shlex.join(["train", *words, "--run-dir", str(run)])) == 0
    assert keys.uses
    assert not keys.shared()
    for name, line in list(COMMANDS.items())[: None if kind in EVERY_COMMAND else 2]:
        keys.uses.clear()
        code = command(line.format(run=run, out=tmp_path))
        assert code == 0 or (name == "sample from a flow" and kind == "vq"), name
        assert not keys.shared(), name


def test_the_recorder_sees_a_key_that_is_used_twice(keys: Keys) -> None:
    for _ in range(2):
        keys.new_generator(0, Purpose.STEP, 1)
    assert not keys.shared()
    keys.new_generator(0, Purpose.STEP, 1)
    assert len(keys.shared()) == 1


def test_purposes_do_not_share_numbers() -> None:
    assert len(Purpose) == len({purpose.value for purpose in Purpose}) == len(Purpose.__members__)
    assert new_generator(3, Purpose.START_ROWS).initial_seed() == new_generator(3, 0, 1).initial_seed()


def test_noise_of_a_part_of_a_batch_is_that_of_the_whole() -> None:
    def draw(n: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(n, 2, generator=generator)

    whole = noise_of_rows(draw, slice(0, 600), 600, 0, Purpose.POSTERIOR, 1)
    parts = [
        noise_of_rows(draw, slice(a, b), 600, 0, Purpose.POSTERIOR, 1) for a, b in ((0, 200), (200, 300), (300, 600))
    ]
    assert torch.cat(parts).equal(whole)
