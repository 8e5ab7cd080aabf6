"""Several processes give what one gives; one that dies ends the run."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet
from runs_to_cut import make

from vaekit.runs import TrainingRun

HERE = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def environment() -> dict[str, str]:
    ours = [str(HERE), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(ours), "OMP_NUM_THREADS": "1"}


def start(processes: int, words: list[str]) -> subprocess.Popen[str]:
    first = [sys.executable] if processes == 1 else [*TORCHRUN, f"--nproc-per-node={processes}"]
    return subprocess.Popen(
        [*first, *words], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


TASKS = {
    "mlp": {"kind": "mlp", "batch_size": 6},  # 50 steps
    "score": {"kind": "score", "batch_size": 6},
    "in uneven pieces": {"kind": "score and average", "batch_size": 6},
    "streamed": {"kind": "streamed", "batch_size": 6},
    "a last batch of one row": {"kind": "score and average", "batch_size": 149, "epochs": 3},
    "codes": {"kind": "codes", "batch_size": 6},
    "divided codes": {"kind": "codes", "batch_size": 6, "parallel": "fsdp"},
    "discriminator": {"kind": "discriminator", "batch_size": 6},
    "discriminator, a last batch of one row": {"kind": "discriminator", "batch_size": 149},
    "penalties of a batch": {"kind": "penalties", "batch_size": 6},
    "free nats": {"kind": "free nats", "batch_size": 6},
    "divided mlp": {"kind": "mlp", "batch_size": 6, "parallel": "fsdp"},
    "divided conv": {"kind": "conv", "batch_size": 6, "parallel": "fsdp"},
    "stopped early": {"epochs": 40, "patience": 1, "lr": 0.1, "schedule": "constant"},
    "gradient": {"do": "gradient", "batch_size": 50},
    "divided gradient": {"do": "gradient", "batch_size": 50, "parallel": "fsdp"},
    "asked to stop": {"stop_at": 7},
}
# Of three processes, which divide unevenly, a task of each way to share the work.
OF_THREE = (
    "in uneven pieces",
    "a last batch of one row",
    "divided mlp",
    "gradient",
    "divided gradient",
    "asked to stop",
)
TRAINED = [name for name, task in TASKS.items() if task.get("do") != "gradient" and name != "asked to stop"]


def work(processes: int, folder: Path, tasks: dict) -> dict:
    process = start(processes, [str(HERE / "worker.py"), str(folder), json.dumps(tasks)])
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return torch.load(folder / "found.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What one, two and three processes make of each task."""
    tasks = {1: TASKS, 2: TASKS, 3: {name: TASKS[name] for name in OF_THREE}}
    return {n: work(n, tmp_path_factory.mktemp(f"by-{n}"), tasks[n]) for n in tasks}


@pytest.mark.parametrize(
    ("task", "processes"), [(task, n) for task in TRAINED for n in (2, 3) if n == 2 or task in OF_THREE]
)
def test_several_processes_train_what_one_trains(task, processes, found):
    one, several = found[1][task], found[processes][task]
    for name, value in one["weights"].items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(several["weights"][name], value, rtol=0, atol=1e-9)
    for ours, theirs in zip(one["metrics"], several["metrics"], strict=True):
        for name in set(ours) - {"seconds", "rows_per_second"}:
            assert theirs[name] == pytest.approx(ours[name], rel=1e-9), name


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("task", ["gradient", "divided gradient"])
def test_the_gradient_of_a_step(task, processes, found):
    for name, value in found[1][task].items():
        assert (found[processes][task][name] - value).norm() <= 1e-5 * value.norm(), name


def test_early_stopping_is_decided_once(found):
    ends = [found[n]["stopped early"]["metrics"] for n in (1, 2)]
    assert len({len(metrics) for metrics in ends}) == 1 < len(ends[0]) < 40
    assert len({metrics[-1]["best_epoch"] for metrics in ends}) == 1


@pytest.mark.parametrize("processes", [2, 3])
def test_one_process_that_is_asked_to_stop_stops_all_after_the_next_step(processes, found):
    assert found[processes]["asked to stop"]["step"] == 8


def test_a_process_that_dies_ends_the_run(tmp_path):
    began = time.monotonic()
    process = start(2, [str(HERE / "worker.py"), str(tmp_path), json.dumps({"a": {"die_at": 7}})])
    _, err = process.communicate(timeout=120)
    assert time.monotonic() - began < 60
    assert process.returncode != 0
    assert "Signal 9 (SIGKILL)" in err
    assert not processes_with(str(tmp_path))


def processes_with(mark: str) -> list[tuple[str, str]]:
    """Number and command line of the processes that carry the mark, in the order of their numbers."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found += [(path.parent.name, path.read_text())]
    return sorted((pair for pair in found if mark in pair[1]), key=lambda pair: int(pair[0]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    list(TrainingRun.start(make("mlp", folder)).events())
    return folder / "run"


def vaekit(processes: int, *words: object) -> tuple[int, str, str]:
    process = start(processes, ["-m", "vaekit", *map(str, words)])
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


DIFFERENT = """
import os, sys
import numpy as np
rank = int(os.environ["RANK"])
folder = os.path.join(sys.argv[1], str(rank))
os.makedirs(folder)
os.chdir(folder)
np.save("x.npy", np.random.default_rng(rank).integers(0, 256, (90, 8, 8), dtype=np.uint8))
from vaekit.cli.main import main
try:
    main(sys.argv[2:])
except SystemExit as left:
    with open("code", "w") as file:
        file.write(str(left.code))
    os._exit(0)  # or torchrun would stop the other before it has said why
"""


@pytest.mark.parametrize("verb", ["train", "encode"])
def test_processes_with_different_data_are_refused_at_each(verb, trained, tmp_path):
    words = {
        "train": ["x.npy", "train.epochs=1", "--run-dir", str(tmp_path / "run")],
        "encode": [str(trained), "x.npy", "--out", str(tmp_path / "run.parquet")],
    }
    (tmp_path / "work.py").write_text(DIFFERENT)
    process = start(2, [str(tmp_path / "work.py"), str(tmp_path), verb, *words[verb]])
    _, err = process.communicate(timeout=120)
    assert [(tmp_path / rank / "code").read_text() for rank in "01"] == ["3", "3"], err
    assert "processes 0 and 1 of this run have different data" in " ".join(err.split())
    assert not list(tmp_path.glob("run*"))


def test_codes_do_not_depend_on_the_number_of_processes(trained, tmp_path):
    np.save(tmp_path / "more.npy", np.random.default_rng(1).integers(0, 256, (1234, 8, 8), dtype=np.uint8))
    tables = []
    for processes in (1, 3):
        out = tmp_path / f"codes-{processes}.parquet"
        code, _, err = vaekit(processes, "encode", trained, tmp_path / "more.npy", "--out", out)
        assert code == 0, err
        assert out.is_dir() == (processes > 1)
        tables += [parquet.read_table(out).sort_by("row")]
    assert tables[0]["row"].to_pylist() == list(range(1234))
    assert tables[0].equals(tables[1])
    code, out, err = vaekit(2, "encode", trained, "--out", tmp_path / "codes.npy")
    assert "end its name in .parquet" in err.replace("\n", " ")


def test_bad_data_is_one_error_and_the_last_line_of_torchrun(tmp_path):
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n3,x\n4,5\n")
    code, out, err = vaekit(2, "train", tmp_path / "bad.csv", "data.support=real", "--run-dir", tmp_path / "run")
    lines = [line for line in err.splitlines() if "the column 'b' holds 'x'" in line]
    assert (code, out) == (1, "")  # the code is torchrun's; each process left with 3
    assert lines[0].startswith("vaekit: ")
    assert len(lines) == 2
    assert err.splitlines()[-2] == lines[1], "the last line but the rule below it"
    assert not (tmp_path / "run").exists()


def test_estimates_do_not_depend_on_the_number_of_processes(trained):
    found = []
    for processes in (1, 3):
        code, out, err = vaekit(processes, "evaluate", trained, "--samples", 3, "--split", "train", "--json")
        assert code == 0, err
        found += [json.loads(out)]
    assert found[0] == found[1]


def test_training_by_several_processes_restarts_where_it_was(tmp_path):
    """One process is killed; torchrun starts all anew, and they go on."""
    np.save(tmp_path / "x.npy", np.random.default_rng(1).integers(0, 256, (900, 8, 8), dtype=np.uint8))
    run, settings = tmp_path / "run", ["train.epochs=30", "train.save_every=5", "model.encoder.widths=[16]"]
    words = ["--max-restarts=1", "-m", "vaekit", "train", tmp_path / "x.npy", *settings, "--run-dir", run]
    process = start(2, [str(word) for word in words])
    while not list(run.glob("checkpoints/*-step-[1-9]*")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    victim = [int(pid) for pid, text in processes_with(str(run)) if "torch.distributed.run" not in text][-1]
    os.kill(victim, signal.SIGKILL)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "going on from step" in out
    assert (run / "STATUS").read_text() == "finished\n"
    epochs = [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(1, 31))
