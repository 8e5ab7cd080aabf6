"""`vaekit impute`: files keep their bytes but for the cells that were missing."""

import csv
import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

WORDS = "epochs=8 lr=0.02 latent=2 encoder.widths=8 decoder.widths=8 data.label=none train.device=cpu"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A CSV file with decimal commas, quotes, an identifier and holes; and its rows as lists of what is written."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("holes") / "t.csv"
    lines = ["name;height;coat;children"]
    for row in range(150):
        tall = int(rng.integers(0, 2))
        cells = [f'"no. {row}; ""x"""', f"{160 + 30 * tall + rng.normal():.1f}".replace(".", ",")]
        cells += [["long coat", '"short; warm"'][tall], str(rng.poisson(1 + 5 * tall))]
        for place, mark in ((1, ""), (2, " ? "), (3, "NA")):
            if rng.random() < 0.15:
                cells[place] = mark
        lines += [";".join(cells)]
    path.write_bytes("\r\n".join(lines).encode())
    return path


@pytest.fixture(scope="module")
def filled_run(table, tmp_path_factory):
    from vaekit.cli.main import main

    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.raises(SystemExit) as leaving:
        main(["train", str(table), *WORDS.split(), "--run-dir", str(folder)])
    assert leaving.value.code == 0
    return folder


def read(path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file, delimiter=";"))


def test_a_csv_file_is_filled_and_all_else_is_the_same_bytes(cli_json, filled_run, table, tmp_path):
    out = tmp_path / "filled.csv"
    found = cli_json(f"impute {filled_run} --out {out} --samples 50 --draws 2 --level 0.8")
    before, after = table.read_bytes().decode().split("\r\n"), out.read_bytes().decode().split("\r\n")
    assert len(before) == len(after)
    holes = 0
    for one, other in zip(read(table), read(out), strict=True):
        for cell, filled in zip(one, other, strict=True):
            if cell.strip() in ("", "?", "NA"):
                holes += 1
                assert filled.strip() not in ("", "?", "NA")
            else:
                assert cell == filled
    assert found["cells"] == holes > 40
    assert [line for line in after if line in before][: len(before) // 4]
    whole = [line for line in before if ";;" not in line and "?" not in line and "NA" not in line]
    assert whole == [other for one, other in zip(before, after, strict=True) if one in whole]
    assert {cells[2].strip() for cells in read(out)[1:]} == {"long coat", "short; warm"}
    assert [cells for cells in read(out)[1:] if "," not in cells[1] or not cells[3].isdigit()] == []
    names = {name: f"{tmp_path}/filled-{name}.csv" for name in ("1", "2", "lower", "upper")}
    assert found["beside"] == names
    drawn, low, high = (read(tmp_path / f"filled-{name}.csv") for name in ("1", "lower", "upper"))
    assert drawn != read(tmp_path / "filled-2.csv")
    assert [len(rows) for rows in (drawn, low, high)] == [151] * 3
    assert any(cells[2].strip() == "?" for cells in low), "a category without an order has no interval"
    number = lambda text: float(text.replace(",", "."))  # noqa: E731
    assert all(number(one[1]) <= number(other[1]) for one, other in zip(low[1:], high[1:], strict=True))
    assert found["hidden"]["coat"]["measure"] == "accuracy"
    assert found["hidden"]["height"]["coverage"]["n"] == found["hidden"]["height"]["imputed"]["n"]
    assert "name" not in found["hidden"]
    assert [note for note in found["notices"] if note.startswith("cells of columns")] == [
        "cells of columns that the model does not have stay as they are, the missing ones, too: name"
    ]


def test_the_same_seed_gives_the_same_file_and_a_pipe_what_a_file_gets(cli, filled_run, table, tmp_path):
    words = f"impute {filled_run} {table} --samples 20 --hide 0"
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        code, out, err = cli(f"{words} --seed {seed} --out {tmp_path}/{name}.csv")
        assert code == 0, err
        assert "missing cells filled" in out
    a, b, c = ((tmp_path / f"{name}.csv").read_bytes() for name in "abc")
    assert a == b != c
    code, out, _ = cli(f"{words} --seed 1 --out -")
    assert (code, out.replace("\r\n", "\n")) == (0, a.decode().replace("\r\n", "\n"))


def test_the_errors_are_a_table(cli, filled_run, tmp_path):
    code, out, _ = cli(f"impute {filled_run} --samples 20 --out {tmp_path}/x.csv")
    assert code == 0
    for text in ("20% of cells hidden", "height", "rmse", "column mean", "most frequent", "in 90%"):
        assert text in out


def test_other_forms_keep_what_they_can(cli, filled_run, tmp_path):
    rng = np.random.default_rng(1)
    table = pa.table(
        {
            "other": pa.array([[1], [2], [3]]),
            "children": pa.array([1, None, 3], pa.int16()),
            "coat": ["long coat", None, None],
            "height": [None, 171.123456789, 160.0],
        }
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    words = f"impute {filled_run} {tmp_path}/t.parquet --samples 20 --hide 0"
    assert cli(f"{words} --out {tmp_path}/filled.parquet")[0] == 0
    filled = parquet.read_table(tmp_path / "filled.parquet")
    assert filled.schema.equals(table.schema)
    assert filled["height"].to_pylist()[1:] == [171.123456789, 160.0]
    assert sum(column.null_count for column in filled.columns) == 0
    for name in ("filled.csv", "filled.npy", "filled.feather"):
        assert cli(f"{words} --out {tmp_path}/{name}")[0] == 0
    assert np.load(tmp_path / "filled.npy").shape == (3, 3)
    array = rng.normal(size=(60, 4))
    array[::7, 1] = np.nan
    np.save(tmp_path / "x.npy", array)
    assert cli(f"train {tmp_path}/x.npy epochs=1 latent=2 --run-dir {tmp_path}/run")[0] == 0
    assert cli(f"impute {tmp_path}/run --samples 20 --out {tmp_path}/y.npy")[0] == 0
    filled = np.load(tmp_path / "y.npy")
    assert np.array_equal(filled[~np.isnan(array)], array[~np.isnan(array)])
    assert np.isfinite(filled).all()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--out {out}/x.txt", 2, "ending is one of"),
        ("--out {out}/x.csv --samples 0", 2, "samples is 0"),
        ("--out {out}/x.csv --level 2", 2, "level is 2"),
        ("--out {out}/x.csv --hide 1", 2, "hide is 1"),
        ("--out {out}/x.csv --draws -1", 2, "draws is -1"),
        ("--out - --draws 2", 2, "name a file"),
        ("{out}/none.csv --out {out}/x.csv", 3, "none.csv"),
    ],
)
def test_one_clear_error(cli, filled_run, tmp_path, words, code, said):
    found, out, err = cli(f"impute {filled_run} {words.format(out=tmp_path)}")
    assert (found, out, said in " ".join(err.split())) == (code, "", True), err
    assert not list(tmp_path.glob("x*"))


def test_the_run_of_rows_that_are_gone_fills_others_and_says_so(cli, filled_run, table, tmp_path):
    import shutil

    run = shutil.copytree(filled_run, tmp_path / "run")
    settings = (run / "run.yaml").read_text()
    (run / "run.yaml").write_text(settings.replace(str(table), str(tmp_path / "gone.csv")))
    code, out, err = cli(f"impute {run} {table} --samples 20 --out {tmp_path}/x.csv --json")
    assert code == 0, err
    assert "no error on hidden cells" in " ".join(json.loads(out)["notices"])


def test_where_every_row_trains_cells_of_these_are_hidden_and_it_is_said(cli_json, table, tmp_path):
    folder = tmp_path / "run"
    cli_json(f"train {table} --preset imputation {WORDS} epochs=1 objective.samples=2 --run-dir {folder}")
    found = cli_json(f"impute {folder} --out {tmp_path / 'f.csv'} --samples 5")
    assert found["hidden"]["coat"]["imputed"]["n"] > 0
    assert any("every row trained" in note for note in found["notices"])
