"""A run folder has one trainer, a truthful status, and, for equal runs, equal files."""

import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs_to_cut import cut, make
from safetensors import safe_open

import vaekit
from vaekit.errors import ConfigError, Diverged, ModelFileError, VaekitError
from vaekit.runs import TrainingRun, fit, load, open_run
from vaekit.training import RunFolder, pack_tensors

HERE = Path(__file__).parent
FORK = multiprocessing.get_context("fork")


def at_once(claim, processes: int) -> list[str]:
    """What each of several processes gets from `claim`, called at the same time; none lets go before all have tried."""
    found, start, end = FORK.SimpleQueue(), FORK.Barrier(processes), FORK.Barrier(processes)

    def work():
        start.wait(20)
        try:
            folder = claim()
            folder.write("run.yaml", f"{os.getpid()}".encode())
            answer = f"{folder.path} {os.getpid()}"
        except ConfigError:
            answer = "refused"
        end.wait(20)
        found.put(answer)
        os._exit(0)

    workers = [FORK.Process(target=work) for _ in range(processes)]
    for worker in workers:
        worker.start()
    answers = [found.get() for _ in workers]
    for worker in workers:
        worker.join()
    return answers


@pytest.mark.parametrize("exists", [False, True])
def test_of_two_starts_in_one_folder_one_succeeds(tmp_path, exists):
    for number in range(20):
        path = tmp_path / str(number)
        if exists:
            path.mkdir()
        answers = at_once(lambda path=path: RunFolder.create(path), 2)
        (winner,) = (answer for answer in answers if answer != "refused")
        assert winner == f"{path} {(path / 'run.yaml').read_text()}"


def test_starts_without_a_folder_each_get_one(tmp_path):
    for number in range(5):
        above = tmp_path / str(number)
        answers = at_once(lambda above=above: RunFolder.create_next(above, "run"), 3)
        assert sorted(answer.split()[0] for answer in answers) == [f"{above}/run-{i}" for i in (1, 2, 3)]


def test_a_deleted_lock_lets_no_second_trainer_in(tmp_path):
    events = TrainingRun.start(make("mlp", tmp_path)).events()
    next(events)
    (tmp_path / "run" / "LOCK").unlink()
    with pytest.raises(VaekitError, match="another process is training into"):
        list(TrainingRun.resume(tmp_path / "run").events())
    events.close()
    assert cut(TrainingRun.resume(tmp_path / "run"), 3) is False


def test_a_claim_ends_with_its_process(tmp_path):
    program = "import os, sys; from vaekit.training import RunFolder; RunFolder.create(sys.argv[1]); os._exit(9)"
    subprocess.run([sys.executable, "-c", program, tmp_path / "run"], check=False)
    RunFolder.create(tmp_path / "run")


def status(folder: Path) -> str:
    return (folder / "run" / "STATUS").read_text()


def test_the_status_is_true_however_training_ends(tmp_path, monkeypatch):
    training = TrainingRun.start(make("mlp", tmp_path))
    assert status(tmp_path) == "starting\n"
    del training
    assert status(tmp_path) == "interrupted at step 0\n"
    events = TrainingRun.resume(tmp_path / "run").events()
    next(events)
    assert status(tmp_path) == "running\n"
    events.close()
    assert status(tmp_path) == "interrupted at step 0\n"
    events = TrainingRun.resume(tmp_path / "run").events()
    next(events)
    with pytest.raises(BrokenPipeError):
        events.throw(BrokenPipeError())
    assert status(tmp_path).startswith("failed at step 0")
    list(TrainingRun.resume(tmp_path / "run").events())
    assert status(tmp_path) == "finished\n"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory")]
)
def test_no_memory_for_a_checkpoint_is_as_no_room_for_it(tmp_path, monkeypatch, error):
    def fail(state):
        raise error

    monkeypatch.setattr("vaekit.runs.writer.pack", fail)
    events = TrainingRun.start(make("mlp", tmp_path)).events()
    assert "out of memory" in next(events).message
    with pytest.warns(UserWarning, match="out of memory"):
        events.close()
    assert status(tmp_path).startswith("interrupted at step 0")
    assert not TrainingRun.resume(tmp_path / "run").folder.checkpoints.any()


def test_a_start_that_is_not_finite_diverges(tmp_path):
    training = TrainingRun.start(make("mlp", tmp_path))
    with torch.no_grad():
        next(training.model.parameters()).fill_(float("inf"))
    with pytest.raises(Diverged, match="not finite before the first step"):
        list(training.events())
    assert status(tmp_path).startswith("failed at step 0: the weights are not finite")


def test_values_that_no_network_takes_diverge(tmp_path):
    (tmp_path / "big.csv").write_text("a,b\n" + "\n".join(f"{i}e30,{i * i}e30" for i in range(1, 99)))
    tree = {
        "data": {"source": str(tmp_path / "big.csv"), "scale": "none", "support": "real"},
        "model": {"likelihood": "gaussian"},
        "run_dir": str(tmp_path / "run"),
    }
    with pytest.raises(Diverged):
        fit(vaekit.runs.make_run(tree))
    assert status(tmp_path).startswith("failed at step 0")


def hashes(folder: Path) -> dict[str, str]:
    """Of the files that equal runs have alike, by name; of progress.json and metrics.jsonl without clocks."""
    run, found = folder / "run", {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.suffix == ".safetensors" or name in ("data.json", "run.yaml", "STATUS"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif name.endswith("progress.json"):
            tree = json.loads(path.read_text())
            for at in (tree["progress"], tree["good"], *tree["unlogged"]):
                for clock in ("seconds", "total_seconds", "rows_per_second"):
                    at.pop(clock, None)
            found[name] = json.dumps(tree)
    return found


def test_equal_runs_have_equal_files_in_every_process(tmp_path):
    make("mlp", tmp_path)  # the data
    program = (
        "import sys; from pathlib import Path; from runs_to_cut import cut, make; from vaekit.runs import TrainingRun\n"
    )
    program += "cut(TrainingRun.start(make('score and average', Path(sys.argv[1]))), 35)"
    made = []
    for seed in ("1", "2"):
        words = {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
        subprocess.run([sys.executable, "-c", program, tmp_path], env={**os.environ, **words}, check=True)
        made += [hashes(tmp_path)]
        (tmp_path / "run").rename(tmp_path / f"by-{seed}")
    assert any(name.endswith("best.safetensors") for name in made[0])
    assert made[0] == made[1]


def test_tensors_are_packed_as_safetensors_reads_them(tmp_path):
    tensors = {
        "b": torch.arange(6.0).reshape(2, 3).t(),
        "a": torch.tensor(7, dtype=torch.int64),
        "empty": torch.zeros(0, 4),
        "flags": torch.tensor([True, False, True]),
        "double": torch.tensor([1e300], dtype=torch.float64),
    }
    content = pack_tensors(tensors, {"z": 1, "epoch": 2})
    assert content == pack_tensors(dict(reversed(tensors.items())), {"epoch": 2, "z": 1})
    (tmp_path / "x.safetensors").write_bytes(content)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"format_version": "1", "epoch": "2", "z": "1"}
        assert set(file.keys()) == set(tensors)
        for name, value in tensors.items():
            assert file.get_tensor(name).dtype == value.dtype
            assert torch.equal(file.get_tensor(name), value)


def test_without_the_optimiser_a_run_is_used_but_not_resumed(tmp_path):
    cut(TrainingRun.start(make("mlp", tmp_path)), 45)
    newest = tmp_path / "run" / "checkpoints" / "000002-step-45"
    weights = load(tmp_path / "run").state_dict()
    for name in ("training.safetensors", "last.safetensors", "progress.json"):
        (newest / name).unlink()
    size = sum(value.nbytes for value in weights.values())
    assert (newest / "best.safetensors").stat().st_size < size + 4000
    assert all(torch.equal(value, weights[name]) for name, value in load(tmp_path / "run").state_dict().items())
    (newest.parent / "000001-step-0").rename(tmp_path / "away")
    with pytest.raises(ModelFileError, match=r"training\.safetensors cannot be read|last\.safetensors cannot be read"):
        TrainingRun.resume(tmp_path / "run")


def test_a_run_says_which_vaekit_made_it(tmp_path):
    fit(make("mlp", tmp_path))
    assert open_run(tmp_path / "run").folder.environment()["vaekit"] == vaekit.__version__


def test_settings_are_utf_8_whatever_the_locale(tmp_path):
    run = make("mlp", tmp_path).model_copy(update={"name": "größe", "about": "naïve"})
    cut(TrainingRun.start(run), 45)
    program = "import sys; from vaekit.runs import open_run; print(ascii(open_run(sys.argv[1]).settings.name))"
    ended = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", program, tmp_path / "run"],
        env={**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
    )
    assert ended.stdout.strip() == ascii("größe"), ended.stderr
