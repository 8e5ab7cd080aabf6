"""A run that ends in ruin says so: on the screen, in JSON, in its folder and report, and with --strict by exit 5."""

import json

import numpy as np
import pytest
from tiny import TINY

from vaekit.training import RunFolder

RUINED = f"train digits {TINY} train.lr=10"


@pytest.fixture
def ids():
    def read(folder) -> set[str]:
        return {one.id for one in RunFolder(folder).findings()}

    return read


def test_a_ruined_run_says_so_everywhere(cli, tmp_path, ids):
    code, out, err = cli(f"{RUINED} --run-dir {tmp_path / 'run'}")
    assert code == 0
    assert {"learning_rate", "exploded", "worse_than_baseline"} <= ids(tmp_path / "run")
    for text in ("train.lr is 10", "nats above that of the best model without z", "Fix: train.lr=0.001"):
        assert text in err
    assert "worse_than_baseline" in out
    code, _, err = cli(f"report {tmp_path / 'run'}")
    assert code == 0, err
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("Error: In epoch 1 the loss was") == page.count("Warning: train.lr is 10") == 1


def test_strict_leaves_with_5_and_keeps_the_weights(cli, tmp_path):
    code, out, err = cli(f"{RUINED} --strict --json --run-dir {tmp_path / 'run'}")
    assert code == 5
    assert "exploded" in err.splitlines()[-1]
    said = json.loads(out)
    assert said["status"] == "finished"
    severities = {one["id"]: one["severity"] for one in said["findings"]}
    assert severities["worse_than_baseline"] == "error"
    assert severities["learning_rate"] == "warning"
    code, _, err = cli(f"evaluate {tmp_path / 'run'} --samples 1")
    assert code == 0, err


def test_strict_lets_a_sound_run_pass(cli, tmp_path, ids):
    code, _, err = cli(f"train digits {TINY} train.epochs=30 train.lr=0.01 --strict --run-dir {tmp_path / 'run'}")
    assert code == 0, err
    assert not ids(tmp_path / "run") & {"exploded", "worse_than_baseline"}


def test_a_far_outlier_is_named_with_its_column_before_the_first_step(cli, tmp_path, ids):
    rows = np.random.default_rng(0).normal(size=(200, 3))
    rows[17, 1] = 1e7
    np.savetxt(tmp_path / "t.csv", rows, delimiter=",", header="a,weight,c", comments="")
    code, _, err = cli(f"train {tmp_path / 't.csv'} train.epochs=1 model.latent=2 --run-dir {tmp_path / 'run'}")
    assert code == 0, err
    assert "far_values" in ids(tmp_path / "run")
    (line,) = (line for line in err.splitlines() if "interquartile" in line)
    assert "'weight' from" in line
    assert "1e+07" in line
    assert "'a'" not in line


def test_columns_left_as_large_as_they_are_stored_are_named(cli, tmp_path, ids):
    rows = np.random.default_rng(0).normal(size=(60, 2)) * [1, 1e5]
    np.savetxt(tmp_path / "t.csv", rows, delimiter=",", header="a,b", comments="")
    settings = "train.epochs=1 model.latent=2 data.scale=none"
    code, _, err = cli(f"train {tmp_path / 't.csv'} {settings} --run-dir {tmp_path / 'run'}")
    assert code == 0, err
    assert "unscaled" in ids(tmp_path / "run")
    assert "data.scale=standard" in err
