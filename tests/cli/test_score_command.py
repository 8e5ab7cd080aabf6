"""`vaekit score`: a file of scores, odd rows with their cells, and a threshold."""

import json

import numpy as np
import pytest
from pyarrow import csv, parquet

from vaekit import open_run

WORDS = "epochs=5 lr=0.02 latent=2 encoder.widths=8 decoder.widths=8 data.label=none train.device=cpu"


def rows_of_people(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    tall = rng.integers(0, 2, n)
    return [f"{160 + 30 * one + rng.normal():.2f},{['long', 'short'][one]},{rng.normal():.2f}" for one in tall]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A run, and other rows, of which the fourth is odd by its height."""
    from vaekit.cli.main import main

    home = tmp_path_factory.mktemp("people")
    (home / "t.csv").write_text("\n".join(["height,coat,mood", *rows_of_people(300, 0)]))
    with pytest.raises(SystemExit) as leaving:
        main(["train", str(home / "t.csv"), *WORDS.split(), "--run-dir", str(home / "run")])
    assert leaving.value.code == 0
    others = rows_of_people(40, 1)
    others[3] = "900.5,long,0.1"
    (home / "other.csv").write_text("\n".join(["height,coat,mood", *others]))
    return home


def test_an_odd_row_is_flagged_and_its_cell_named(cli, cli_json, people, tmp_path):
    words = f"score {people / 'run'} {people / 'other.csv'} --samples 20 --level 0.05"
    found = cli_json(f"{words} --out {tmp_path}/s.csv")
    table = csv.read_csv(tmp_path / "s.csv").to_pydict()
    assert table["row"] == list(range(40))
    assert table["flagged"] == [int(p <= 0.05) for p in table["p_value"]]
    assert int(np.argmin(table["score"])) == 3
    assert (table["cell_1"][3], table["flagged"][3]) == ("height", 1)
    assert table["below_1"][3] > 3
    assert (found["odd"][0]["row"], found["odd"][0]["cells"][0]["name"]) == (3, "height")
    assert found["flagged"] == sum(table["flagged"])
    assert found["held_out_rows"] == 30
    same = open_run(people / "run").score(people / "other.csv", samples=20, level=0.05)
    assert same.score == pytest.approx(table["score"], abs=1e-6)
    code, out, err = cli(f"{words} --out {tmp_path}/s.parquet")
    assert (code, err) == (0, "")
    for text in ("rows are flagged", "odd by", "height"):
        assert text in out
    assert parquet.read_table(tmp_path / "s.parquet")["score"].to_pylist() == pytest.approx(table["score"], abs=1e-6)


def test_test_rows_of_the_run_by_default_and_a_share_is_flagged(cli_json, people, tmp_path):
    found = cli_json(f"score {people / 'run'} --samples 5 --contamination 0.1 --out {tmp_path}/s.npz")
    assert (found["rows"], found["flagged"]) == (30, 3)
    with np.load(tmp_path / "s.npz") as arrays:
        assert arrays["flagged"].sum() == 3
    assert cli_json(f"score {people / 'run'} --samples 5 --out {tmp_path}/t.csv")["flagged"] is None
    assert "flagged" not in csv.read_csv(tmp_path / "t.csv").column_names


def test_given_columns_and_a_pipe(cli, cli_json, people, tmp_path):
    whole, part = (
        cli_json(f"score {people / 'run'} --samples 50 --out {tmp_path}/{name}.csv {more}")
        for name, more in (("a", ""), ("b", "--given mood"))
    )
    assert part["score"]["value"] > whole["score"]["value"]
    assert "given mood" in part["what"]
    code, out, _ = cli(f"score {people / 'run'} --samples 50 --given mood --out -")
    assert (code, out) == (0, (tmp_path / "b.csv").read_text())


def test_pictures_are_scored_by_their_pixels(cli, trained, tmp_path):
    code, out, err = cli(f"score {trained} --samples 5 --contamination 0.02 --out {tmp_path}/s.csv --json")
    assert code == 0, err
    found = json.loads(out)
    assert found["rows"] == 180
    assert found["complexity"] is not None
    assert found["odd"][0]["cells"][0]["name"].startswith("(")
    assert found["odd"][0]["cells"][0]["given_rest"] < 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--level 0.1 --contamination 0.1", "give one"),
        ("--level 0", "level is 0"),
        ("--contamination 1", "contamination is 1"),
        ("--given age", "these are height, coat, mood"),
        ("--samples 0", "samples is 0"),
    ],
)
def test_one_clear_error(cli, people, tmp_path, words, said):
    code, out, err = cli(f"score {people / 'run'} --out {tmp_path}/s.csv {words}")
    assert (code, out, said in " ".join(err.split())) == (2, "", True), err
    assert not list(tmp_path.iterdir())
