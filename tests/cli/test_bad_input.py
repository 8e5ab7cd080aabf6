"""Each mistake: one clear error, the documented exit code, no traceback, nothing left behind."""

import gzip
import json
import shutil

import numpy as np
import pytest
from tiny import TINY


@pytest.fixture
def files(tmp_path):
    """A folder of bad data."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(30, 3))
    broken = table.copy()
    broken[7, 1] = np.nan
    endless = table.copy()
    endless[3, 2] = np.inf
    np.save(tmp_path / "nan.npy", broken)
    np.save(tmp_path / "inf.npy", endless)
    np.save(tmp_path / "one.npy", table[:1])
    np.save(tmp_path / "constant.npy", np.c_[table, np.ones(30)])
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}, None]), allow_pickle=True)
    np.save(tmp_path / "good.npy", table)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "truncated.npy").write_bytes((tmp_path / "good.npy").read_bytes()[:200])
    (tmp_path / "renamed.csv").write_bytes((tmp_path / "good.npy").read_bytes())
    (tmp_path / "text.npy").write_text("a,b\n1,2\n")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1,2,3\n")
    (tmp_path / "words.csv").write_text("a,b\n1,x\n2,y\n3,z\n4,w\n")
    (tmp_path / "twice.yaml").write_text("data: {source: digits}\ntrain: {epochs: 1}\ntrain: {lr: 0.1}\n")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "cut-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x03\0\0\0\x64")[:-4])
    return tmp_path


@pytest.mark.parametrize(
    ("line", "code", "parts"),
    [
        ("train", 2, ["no data", "vaekit train digits"]),
        ("train --preset digit", 2, ["no preset 'digit'", "did you mean 'digits'"]),
        ("train digits train.epoch=3", 2, ["'train.epoch'", "did you mean 'train.epochs'"]),
        ("train digits train.epochs=500001", 2, ["train.epochs is 500001", "less than or equal to 500000"]),
        ("train digits train.epochs=ten", 2, ["train.epochs is 'ten'", "integer"]),
        ("train mnist-8bit", 2, ["mnist-8bit is a preset", "--preset mnist-8bit"]),
        ("train digit", 3, ["'digit'", "digits"]),
        ("train nowhere/file.npy", 3, ["nowhere/file.npy"]),
        ("train digits mnist", 2, ["one DATA at a time"]),
        ("train digits model.likelihood=bernoulli", 2, ["17 levels", "categorical"]),
        ("train digits model.latent=0", 2, ["model.latent is 0", "greater than or equal to 1"]),
        ("train digits limit.memory_gb=0.001", 2, ["GB", "limit.memory_gb"]),
        ("train digits train.device=cuda:7", 2, ["cuda:7"]),
        ("train digits --preset digits --config x.yaml", 2, ["--preset and --config"]),
        ("train --config nowhere.yaml", 2, ["cannot read the config"]),
        ("train digits --epoch 3", 2, ["--epoch: did you mean 'train.epochs'?"]),
        ("train digits --gpu", 2, ["--gpu: did you mean 'train.device=cuda'?"]),
        ("train digits --latent", 2, ["--latent has no value"]),
        ("train digits --jsn", 2, ["--jsn: did you mean '--json'?"]),
        ("train digits -x", 2, ["no option -x"]),
        ("train digits --widths 3", 2, ["model.encoder.widths or model.decoder.widths"]),
        (f"train {'x' * 5000}", 3, ["no data is named"]),
        (f"train digits data.drop=[{'x' * 5000}]", 2, ["data.drop"]),
        ("frobnicate", 2, ["frobnicate"]),
        ("train digits name=../evil", 2, ["name is '../evil'"]),
        ("train --config {files}/twice.yaml", 2, ["twice.yaml", "the key 'train' stands twice"]),
        ("sample {run} --seed=-1 --out x.png", 2, ["--seed is -1", "at least 0"]),
        ("sample {run} --out {files}/folder.png", 2, ["is a folder"]),
        ("evaluate nowhere", 4, ["nowhere is not a run folder"]),
        ("evaluate", 2, ["RUN"]),
        ("report", 2, ["no run"]),
        ("report nowhere", 4, ["not a run folder"]),
        ("presets nothing", 2, ["no preset 'nothing'"]),
        ("data nothing", 3, ["'nothing'"]),
        ("train {files}/nan.npy data.missing=refuse", 3, ["nan.npy", "row 7", "column 1"]),
        ("train {files}/inf.npy", 3, ["inf.npy", "row 3", "column 2"]),
        ("train {files}/one.npy", 3, ["one.npy", "1 row"]),
        ("train {files}/constant.npy data.scale=standard", 3, ["constant", "column 3", "data.drop"]),
        ("train {files}/objects.npy", 3, ["objects.npy", "object"]),
        ("train {files}/empty.csv", 3, ["empty.csv", "empty"]),
        ("train {files}/empty.npy", 3, ["empty.npy", "empty"]),
        ("train {files}/truncated.npy", 3, ["truncated.npy"]),
        ("train {files}/renamed.csv", 3, ["renamed.csv", "NumPy"]),
        ("train {files}/text.npy", 3, ["text.npy"]),
        ("train {files}/ragged.csv", 3, ["ragged.csv"]),
        ("train {files}/words.csv", 3, ["words.csv", "'b'"]),
        ("train {files}/cut-ubyte.gz", 3, ["cut-ubyte.gz"]),
        ("train {files}", 3, ["folder"]),
        ("sample {run} --out x.jpg", 2, ["x.jpg", ".png"]),
        ("sample {run} --out nowhere/x.png", 2, ["no folder nowhere"]),
        ("sample {run} -n 0 --out x.png", 2, ["--number is 0"]),
        ("sample {run} -n many --out x.png", 2, ["many"]),
        ("sample {run} -n 1.5 --out x.png", 2, ["-n: '1.5' is not a whole number"]),
        ("sample {run} --seed 1.5 --out x.png", 2, ["--seed: '1.5' is not a whole number"]),
        ("evaluate {run} --rows 1.0e400", 2, ["--rows: '1.0e400' is not a whole number"]),
        ("evaluate {run} --data=", 2, ["--data is empty"]),
        ("evaluate {run} --samples 0", 2, ["samples is 0"]),
        ("evaluate {run} --samples 1000001", 2, ["--samples is 1000001", "at most 1000000"]),
        ("evaluate {run} --suite all --samples 1000001", 2, ["at most 1000000"]),
        ("evaluate {run} --data {files}/good.npy", 3, ["rows of shape (3,)"]),
        ("decode {run} {files}/good.npy --out x.npy", 3, ["x"]),
        ("decode {run} {files}/nan.npy --out x.npy", 3, ["not finite", "row 7"]),
        ("decode {run} {files}/objects.npy --out x.npy", 3, ["holds Python objects"]),
        ("decode {run} nowhere.npy --out x.npy", 3, ["nowhere.npy cannot be read", "No such file", "vaekit encode"]),
        ("reconstruct {run} {files}/good.npy --out x.png", 3, ["rows of shape"]),
    ],
)
def test_one_clear_error(cli, files, trained, monkeypatch, line, code, parts):
    monkeypatch.chdir(files)
    before = sorted(files.iterdir())
    if "decode" in line and "good" in line:
        np.save(files / "good.npy", np.zeros((4, 2)))
        parts = ["rows of shape (2,)", "needs rows of (3,)"]
    found, out, err = cli(line.format(files=files, run=trained))
    flat = " ".join(err.split())
    assert found == code, err
    for part in parts:
        assert part in flat, err
    assert "Traceback" not in err
    assert out == ""
    assert len(err.strip().splitlines()) <= 4
    assert sorted(files.iterdir()) == before, "something was left behind"


@pytest.mark.parametrize("text", ["{", "[1]", "{}"])
def test_a_damaged_schema_is_named(cli, trained, tmp_path, text):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "data.json").write_text(text)
    code, _, err = cli(f"sample {run} --out {tmp_path / 'x.npy'}")
    assert (code, f"{run}/data.json: not a data schema" in " ".join(err.split())) == (4, True)


def test_an_unwritable_folder(cli, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = cli(f"train digits {TINY} --run-dir {tmp_path / 'file' / 'run'}")
    assert code == 2
    assert "cannot write a run into" in err


def test_an_existing_run_is_not_overwritten(cli, trained):
    before = (trained / "metrics.jsonl").read_bytes()
    code, _, err = cli(f"train digits {TINY} --run-dir {trained}")
    assert (code, "holds a run already" in " ".join(err.split())) == (2, True)
    assert (trained / "metrics.jsonl").read_bytes() == before


def test_divergence_leaves_with_5_and_keeps_the_folder(cli, tmp_path):
    code, _, err = cli(f"train digits {TINY} train.lr=1e30 --run-dir {tmp_path / 'run'}")
    assert code == 5
    for part in ("at step", "term '", "training row", "largest weight", "Try a smaller train.lr"):
        assert part in " ".join(err.split())
    assert (tmp_path / "run" / "STATUS").read_text().startswith("failed")


def test_debug_shows_the_traceback(cli):
    code, _, err = cli("evaluate nowhere --debug")
    assert code == 4
    assert "Traceback" in err


def test_json_is_valid_even_where_numbers_are_not_finite(cli_json, trained):
    out = cli_json(f"evaluate {trained} --samples 1 --rows 1")
    assert json.dumps(out, allow_nan=False)
    assert out["elbo"]["stderr"] is None


def test_a_last_step_that_ruins_the_weights_is_divergence_too(cli, tmp_path):
    one_step = "train.epochs=1 train.batch_size=96 train.lr=1e20"
    code, _, err = cli(f"train digits {TINY} {one_step} --run-dir {tmp_path / 'run'}")
    assert code == 5, err
    assert "not finite after step 1" in " ".join(err.split())


def test_weights_that_are_gone_are_not_replaced_in_silence(cli, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (best,) = (run / "checkpoints").glob("*/best.safetensors")
    best.unlink()
    for option in ("", "--weights best"):
        code, _, err = cli(f"evaluate {run} --samples 1 {option}")
        assert (code, "best.safetensors" in " ".join(err.split())) == (4, True)
    assert cli(f"evaluate {run} --samples 1 --weights last")[0] == 0, "no other file is needed"


@pytest.mark.parametrize("budget", ["10x", "0s", "ten minutes"])
def test_a_budget_that_is_no_time(cli, budget):
    code, _, err = cli(f"train digits 'train.budget={budget}'")
    assert code == 2
    assert f"train.budget: '{budget}' is not a time to train for: write 90s, 10m or 1.5h, above 0" in " ".join(
        err.split()
    )


def test_codes_are_not_written_over_their_data(cli, trained, tmp_path):
    table = tmp_path / "table.parquet"
    assert cli(f"encode {trained} --out {table}")[0] == 0
    before = table.read_bytes()
    code, _, err = cli(f"encode {trained} {table} --out {table} --force")
    assert (code, table.read_bytes()) == (2, before)
    assert "which is the data" in " ".join(err.split())
