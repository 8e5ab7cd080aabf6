"""No two draws share a stream: every key is recorded over whole runs of every kind, and a second use of one fails.

What is drawn again on purpose, the same numbers for the same thing, is in `AGAIN`.
"""

import importlib
import pkgutil
import shlex
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch

import vaekit
from vaekit import randomness
from vaekit.cli import suites
from vaekit.cli.console import request
from vaekit.cli.main import main
from vaekit.evaluation import Annealing, disentanglement, features
from vaekit.objectives import bound_check, gradient_check
from vaekit.randomness import Purpose, new_generator, noise_of_rows, numpy_generator, sklearn_seed, split_generator
from vaekit.runs import TrainingRun, run
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
    "batches in pieces": "model.latent=4000 train.micro_batch=15",
    "several samples": "objective={kind: iwae, samples: 3, gradient: {kind: doubly_reparametrised}}",
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
    "score": "score {run} --out {out}/scores.csv --samples 4 --contamination 0.1",
    "report": "report {run} --out {out}/report.html --samples 4",
}


AGAIN = {  # (purpose, who draws it) -> why the same numbers are drawn in several calls; never twice in one call
    ("VALIDATE", "training.loop.validate"): "the same z of the validation rows in each epoch, so that epochs compare",
    ("GENERATE", "cli.train._draw"): "pictures of the same z in each epoch",
    ("DISCRIMINATOR", "runs.factory.build_discriminator"): "one is built to check the objective, and thrown away",
    ("EVALUATE", "evaluation.blocks.Blocks.block"): "z of a row is the same for every measure",
    ("EVALUATED_ROWS", "evaluation.blocks.Blocks.x"): "a row is the same for every measure",
    ("EVALUATED_ROWS", "cli.suites._spread"): "the same few rows in several suites",
    ("GENERATE", "cli.suites.samples.<locals>.<lambda>"): "samplers are compared at the same noise of p(x|z)",
    ("SAMPLER_CODES", "runs.samplers.training_codes"): "every sampler is fitted to the same codes",
    ("SCORED_ROWS", "evaluation.disentanglement._some"): "every score is of the same rows",
    ("PROBE_ROWS", "evaluation.representation.linear_probe"): "codes, components and raw data are probed alike",
    ("PROBE_FOLDS", "evaluation.representation.linear_probe"): "codes, components and raw data are probed alike",
    ("GENERATE", "report.collect._from_prior"): "means and draws are shown at the same z",
    ("split", "data.split._permuted"): "the data is read again",
}
IN_PIECES = {  # of a batch that goes through the model in pieces
    ("POSTERIOR", "training.noise.NoiseSource._noise"): "each piece takes its rows of the noise of the whole batch",
    ("BINARISE", "training.updater.Updater._binarising"): "each piece takes its rows of the noise of the whole batch",
}
RESUMED = {  # of a run that is stopped and resumed
    ("ORDER", "training.loop.train_model"): "the epoch that it was stopped in goes on in the same order",
    ("POSTERIOR", "training.noise.NoiseSource._noise"): "noise of several steps is drawn at once, and some are over",
    ("WEIGHTS", "runs.factory.build_model"): "the model is built again, and its weights are read over it",
    ("split", "data.split._permuted"): "the data is read again",
}


RECORDED = (new_generator, numpy_generator, sklearn_seed, split_generator)


def is_checker(frame: FrameType) -> bool:
    """Whether it is a wrapper that checks types in the tests."""
    return frame.f_globals["__name__"].startswith("jaxtyping") or frame.f_code.co_filename.startswith("<@beartype")


class Keys:
    """Every key that random numbers were drawn by, who drew them in which call, and the shapes of noise of a batch."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.uses: dict[tuple[object, ...], list[tuple[str, FrameType]]] = defaultdict(list)
        self.purposes: dict[tuple[object, ...], str] = {}
        self.shapes: dict[tuple[int, ...], set[tuple[int, ...]]] = defaultdict(set)
        for module in pkgutil.walk_packages(vaekit.__path__, "vaekit."):
            if module.name != "vaekit.__main__":
                importlib.import_module(module.name)
        made = {function.__name__: self.recorded(function) for function in RECORDED}
        made["noise_of_rows"] = self.noise_of_rows
        for name, module in list(sys.modules.items()):
            if name.startswith("vaekit."):
                for recorded in made.keys() & vars(module).keys():
                    patch.setattr(module, recorded, made[recorded])

    def recorded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def record(seed: int, *key: Any, **settings: Any) -> Any:
            self.note(seed, ("split", *key) if function is split_generator else key, sys._getframe(1))
            return function(seed, *key, **settings)

        return record

    def noise_of_rows(self, draw, rows, batch, seed, *key, **settings):
        def drawn(n: int, generator: torch.Generator) -> torch.Tensor:
            noise = draw(n, generator)
            self.shapes[generator.initial_seed(), n].add(tuple(noise.shape))
            return noise

        return noise_of_rows(drawn, rows, batch, seed, *key, **settings)

    def note(self, seed: int, key: tuple[Any, ...], frame: FrameType | None) -> None:
        while frame is not None and (frame.f_code.co_name == "noise_of_rows" or is_checker(frame)):
            frame = frame.f_back
        assert frame is not None
        purpose = key[0].name if isinstance(key[0], Purpose) else str(key[0])
        if purpose == "TRIAL":  # whose numbers are thrown away
            return
        numbers = tuple(n for part in key for n in (part.value if isinstance(part, Purpose) else (part,)))
        module = frame.f_globals["__name__"].removeprefix("vaekit.")
        self.purposes[seed, *numbers] = purpose
        self.uses[seed, *numbers] += [(f"{module}.{frame.f_code.co_qualname}", frame)]

    def shared(self, again: Collection[tuple[str, str]]) -> list[str]:
        """The keys of more than one draw, but for what may be drawn again."""
        found = []
        for key, uses in self.uses.items():
            who, calls = {name for name, _ in uses}, {id(frame) for _, frame in uses}
            may_be = len(who) == 1 and (self.purposes[key], *who) in again and len(calls) == len(uses)
            if len(uses) > 1 and not may_be:
                found += [f"{self.purposes[key]} {key}: {len(uses)} uses by {sorted(who)}"]
        return found + [f"noise of shapes {shapes}" for shapes in self.shapes.values() if len(shapes) > 1]

    def clear(self) -> None:
        self.uses.clear()
        self.shapes.clear()


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """Few chains, a flow of few steps, features that are hardly trained."""
    monkeypatch.setattr(suites, "ANNEALING", Annealing(chains=2, temperatures=2))
    monkeypatch.setattr(suites, "ANNEALED_ROWS", 5)
    monkeypatch.setitem(request.SAMPLERS, "flow", FromFlow(hidden=(8,), steps=5))
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


def words_of(kind: str) -> list[str]:
    return [word for word in settings(kind) if kind != "hierarchical" or not word.startswith("model.")]


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_draws_of_a_process_have_the_same_key(keys: Keys, kind: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert command(shlex.join(["train", *words_of(kind), "--run-dir", str(run)])) == 0
    assert keys.uses
    assert not keys.shared(AGAIN | (IN_PIECES if kind == "batches in pieces" else {}))
    for name, line in list(COMMANDS.items())[: None if kind in EVERY_COMMAND else 2]:
        keys.clear()
        code = command(line.format(run=shlex.quote(str(run)), out=shlex.quote(str(tmp_path))))
        assert code == 0 or (name == "sample from a flow" and kind == "vq"), name
        assert not keys.shared(AGAIN), name


@pytest.mark.parametrize("kind", ["dense", "noise of single steps", "discriminator"])
def test_a_resumed_run_goes_on_with_keys_that_were_not_used(keys: Keys, kind: str, tmp_path: Path) -> None:
    training = TrainingRun.start(run(*words_of(kind), f"run_dir={tmp_path / 'run'}"))
    for event in training.events():
        if event.kind == "epoch":
            training.stop()
    before = set(keys.uses)
    for _ in TrainingRun.resume(tmp_path / "run").events():
        pass
    assert "BINARISE" in {keys.purposes[key] for key in set(keys.uses) - before}
    assert not keys.shared(AGAIN | RESUMED)


def test_holes_are_filled_with_keys_of_their_own(keys: Keys, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    x[::5, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    run = f"train {tmp_path}/x.npy epochs=1 latent=2 encoder.widths=4 decoder.widths=4 --run-dir {tmp_path}/run"
    assert command(run) == 0
    keys.clear()
    assert command(f"impute {tmp_path}/run --out {tmp_path}/y.npy --samples 4 --draws 2") == 0
    assert {"IMPUTED_ROWS", "HIDDEN_CELLS", "HIDDEN_ROWS"} <= set(keys.purposes.values())
    assert not keys.shared(AGAIN)


def test_the_checks_of_gradient_estimators_share_no_key(keys: Keys) -> None:
    gradient_check(rows=20)
    bound_check(rows=20)
    assert keys.uses
    assert not keys.shared(())


def test_the_recorder_sees_a_key_that_is_used_twice(keys: Keys) -> None:
    def draw(times: int = 1) -> None:
        for _ in range(times):
            randomness.new_generator(0, Purpose.STEP, 1)

    (name,) = {f"{__name__}.{draw.__qualname__}"}
    draw()
    assert not keys.shared(())
    draw()
    assert len(keys.shared(())) == 1
    assert not keys.shared({("STEP", name)}), "declared"
    randomness.numpy_generator(0, Purpose.STEP, 1)
    assert keys.shared({("STEP", name)}), "two functions"
    keys.clear()
    draw(times=2)
    assert keys.shared({("STEP", name)}), "twice in one call"


def test_the_recorder_sees_noise_of_two_shapes(keys: Keys) -> None:
    for size in (2, 3):
        keys.noise_of_rows(lambda n, generator, size=size: torch.zeros(n, size), slice(0, 4), 4, 0, Purpose.POSTERIOR)
    assert keys.shared({("POSTERIOR", f"{__name__}.test_the_recorder_sees_noise_of_two_shapes")})


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


def test_generators_of_numpy_are_keyed_as_those_of_torch() -> None:
    keys = [(Purpose.PROBE_ROWS,), (Purpose.PROBE_FOLDS,), (Purpose.SCORED_ROWS,), (Purpose.SCORED_ROWS, 1)]
    streams = {tuple(numpy_generator(0, *key).integers(1 << 30, size=3)) for key in keys}
    streams |= {tuple(split_generator(0, part).integers(1 << 30, size=3)) for part in (0, 1)}
    assert len(streams) == len(keys) + 2
    assert len({sklearn_seed(0, *key) for key in keys}) == len(keys)


def test_splits_are_those_of_runs_that_were_made_before() -> None:
    assert (
        split_generator(7, 0).permutation(8).tolist() == np.random.Generator(np.random.PCG64(7)).permutation(8).tolist()
    )
    assert split_generator(7, 1).permutation(8).tolist() == [6, 3, 1, 0, 2, 4, 7, 5]
