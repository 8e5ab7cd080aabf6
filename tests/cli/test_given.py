"""`vaekit sample --given`: values of the columns that a model is conditioned on."""

import numpy as np
import pytest
from pyarrow import csv


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("people") / "people.csv"
    sexes = rng.choice(["Female", "Male"], 600)
    lines = [
        f"{sex},{rng.integers(18, 80)},{rng.normal(10 if sex == 'Male' else -10):.3f},{rng.normal():.3f}"
        for sex in sexes
    ]
    path.write_text("sex,age,height,other\n" + "\n".join(lines) + "\n")
    return path


def test_rows_are_of_what_is_given(cli, cli_json, people, tmp_path):
    run = tmp_path / "run"
    settings = (
        "data.context=[sex,age] train.epochs=15 model.latent=2 model.encoder.widths=[16] model.decoder.widths=[16]"
    )
    assert cli(f"train {people} {settings} --run-dir {run}")[0] == 0
    heights = {}
    for sex in ("Female", "Male"):
        out = tmp_path / f"{sex}.csv"
        printed = cli_json(f"sample {run} -n 200 --given sex={sex} age=40 --out {out}")
        assert printed["given"] == [f"sex={sex}", "age=40"]
        assert f"given sex={sex}, age=40" in printed["what"]
        heights[sex] = csv.read_csv(out)["height"].to_numpy().mean()
    assert heights["Male"] > heights["Female"] + 3
    for given, why in (
        ("sex=Martian", "Female"),
        ("weight=3", "age"),
        ("age=old", "no number"),
        ("age", "column=value"),
    ):
        code, _, err = cli(f"sample {run} --given {given} --out {tmp_path / 'no.csv'}")
        assert code == 2
        assert why in err
