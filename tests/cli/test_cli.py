"""Every command, from the words of the command line to its files."""

import inspect
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from pyarrow import parquet
from tiny import TINY

from vaekit.cli.app import app
from vaekit.data import DataSpec, Limit, prepare


def test_training_writes_a_run_folder_and_names_what_is_next(cli, tmp_path):
    code, out, err = cli(f"train digits {TINY} --run-dir '{tmp_path / 'a run'}'")
    assert code == 0, err
    folder = tmp_path / "a run"
    for name in ("run.yaml", "environment.json", "data.json", "metrics.jsonl", "STATUS"):
        assert (folder / name).exists()
    assert {p.name for p in (folder / "checkpoints").rglob("*.safetensors")} == {
        "best.safetensors",
        "last.safetensors",
        "training.safetensors",
    }
    assert len(list((folder / "samples").glob("*.png"))) == 4
    assert (folder / "STATUS").read_text() == "finished\n"
    written = yaml.safe_load((folder / "run.yaml").read_text())
    assert written["model"]["likelihood"] == {"levels": 17, "kind": "categorical"}
    assert [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    assert "training loss" in out
    for verb in ("evaluate", "report", "sample", "encode"):
        assert f"vaekit {verb}" in out
    assert "Traceback" not in err


def test_next_steps_stand_apart_from_what_they_do():
    from rich.console import Console

    from vaekit.cli.console import print_next_steps

    console, schema = Console(width=80), prepare(DataSpec(source="digits"), Limit()).schema
    with console.capture() as printed:
        print_next_steps(console, Path("/a/rather/long/path/to/the [first] of all the runs"), schema)
    lines = printed.get().strip().splitlines()
    assert lines[0] == "The run is in /a/rather/long/path/to/the [first] of all the runs. Next:"
    assert len(lines) == 5
    words = ("the log", "curves", "new rows", "codes of")
    assert len({line.index(what) for line, what in zip(lines[1:], words, strict=True)}) == 1
    assert "--out samples.png  new rows" in lines[3]
    assert "'/a/rather/long/path/to/the [first] of all the runs'" in lines[1]
    with console.capture() as printed:
        print_next_steps(console, Path("run"), replace(schema, kind="table"))
    assert "vaekit sample run -n 1000 --out samples.csv" in printed.get()


def test_a_run_can_be_repeated_from_its_own_settings(cli, cli_json, trained, tmp_path):
    again = cli_json(f"train --config {trained / 'run.yaml'} --run-dir {tmp_path / 'again'}")
    first = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    assert again["valid_elbo"] == first["valid_elbo"]


def test_run_folders_are_numbered(cli_json, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [cli_json(f"train digits {TINY} train.epochs=1")["run_dir"] for _ in range(2)]
    assert names == ["runs/digits-1", "runs/digits-2"]


def test_evaluate_gives_the_contracted_json(cli_json, trained):
    out = cli_json(f"evaluate {trained} --samples 8")
    for key in ("elbo", "log_likelihood", "bits_per_dim", "rate", "distortion", "active_units", "baseline"):
        assert set(out[key]) == {"value", "stderr", "n", "unit", "warning"}
        assert out[key]["n"] == 180
    assert len(out["kl_per_dimension"]) == 3
    assert out["elbo"]["value"] < out["log_likelihood"]["value"]
    assert out["samples"] == 8
    assert cli_json(f"evaluate {trained} --samples 8")["log_likelihood"] == out["log_likelihood"]


def test_evaluate_prints_a_table_with_errors_units_and_the_baseline(cli, trained):
    code, out, _ = cli(f"evaluate {trained} --samples 8 --split valid --rows 20")
    assert code == 0
    for part in ("ELBO", "log-likelihood", "± s.e.", "nats", "baseline", "valid rows, 20 rows, K = 8"):
        assert part in out


def test_soft_bernoulli_is_labelled_wherever_it_is_printed(cli, cli_json, tmp_path):
    run = tmp_path / "soft"
    _, out, _ = cli(f"train digits {TINY} model.likelihood=soft_bernoulli --run-dir {run}")
    assert "not a log-likelihood" in out
    assert "not a log-likelihood" in cli(f"evaluate {run} --samples 4")[1]
    evaluated = cli_json(f"evaluate {run} --samples 4")
    assert "not a log-likelihood" in evaluated["log_likelihood"]["warning"]
    assert evaluated["bits_per_dim"]["value"] is None


@pytest.mark.parametrize("ending", ["png", "npy", "npz", "csv"])
def test_sample_writes_every_format(cli, trained, tmp_path, ending):
    out = tmp_path / f"s.{ending}"
    code, printed, err = cli(f"sample {trained} -n 10 --out {out}")
    assert code == 0, err
    assert "10 rows" in printed
    x = read(out, "x")
    if ending == "png":
        assert x.size > 10 * 64
    else:
        assert x.reshape(10, -1).shape == (10, 64)
        assert set(np.unique(x)) <= set(range(17))


def test_samples_depend_on_the_seed_and_means_are_not_draws(cli, trained, tmp_path):
    for name, flags in {"a": "", "b": "", "c": "--seed 1", "mean": "--mean"}.items():
        assert cli(f"sample {trained} -n 4 --out {tmp_path / name}.npy {flags}")[0] == 0
    a, b, c, mean = (np.load(tmp_path / f"{name}.npy") for name in ("a", "b", "c", "mean"))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert not np.array_equal(mean, np.round(mean))


@pytest.mark.parametrize("ending", ["npy", "npz", "csv"])
def test_codes_go_out_and_come_back(cli, trained, tmp_path, ending):
    codes, pictures = tmp_path / f"codes.{ending}", tmp_path / "decoded.npy"
    assert cli(f"encode {trained} --out {codes}")[0] == 0
    assert cli(f"decode {trained} {codes} --out {pictures}")[0] == 0
    assert np.load(pictures).shape == (180, 1, 8, 8)
    if ending == "npz":
        with np.load(codes) as arrays:
            assert {name: arrays[name].shape for name in arrays} == {
                "mean": (180, 3),
                "scale": (180, 3),
                "label": (180,),
            }


def test_reconstruct_pictures_and_numbers_of_own_and_other_data(cli, trained, tmp_path):
    assert cli(f"reconstruct {trained} --out {tmp_path / 'pairs.png'}")[0] == 0
    assert read(tmp_path / "pairs.png", "").shape[1] > 100
    np.save(tmp_path / "other.npy", np.arange(5 * 64).reshape(5, 1, 8, 8) % 17)
    assert cli(f"reconstruct {trained} {tmp_path / 'other.npy'} --out {tmp_path / 'r.npy'}")[0] == 0
    assert np.load(tmp_path / "r.npy").shape == (5, 1, 8, 8)
    assert cli(f"evaluate {trained} --data {tmp_path / 'other.npy'} --samples 2")[0] == 0


def test_report_of_one_and_of_two(cli, trained, tmp_path):
    assert cli(f"report {trained} --samples 2 --out {tmp_path / 'one.html'}")[0] == 0
    code, out, err = cli(f"report {trained} {trained} --samples 2 --out {tmp_path / 'two.html'}")
    assert code == 0, err
    assert "two.html" in out.replace("\n", "")
    assert (tmp_path / "two.html").stat().st_size > 20_000


def test_a_table_goes_all_the_way(cli, cli_json, tmp_path):
    rng = np.random.default_rng(0)
    rows = [",".join(f"{v:.4f}" for v in rng.normal(5, 3, 3)) + f",{'ab'[i % 2]}" for i in range(80)]
    (tmp_path / "t.csv").write_text("width,height,depth,species\n" + "\n".join(rows))
    run = tmp_path / "run"
    code, _, err = cli(f"train {tmp_path / 't.csv'} data.label=species train.epochs=1 model.latent=2 --run-dir {run}")
    assert code == 0, err
    assert cli_json(f"evaluate {run} --samples 2")["bits_per_dim"]["value"] is None
    assert cli(f"sample {run} -n 5 --out {tmp_path / 's.csv'}")[0] == 0
    assert (tmp_path / "s.csv").read_text().startswith("width,height,depth\n")
    assert cli(f"encode {run} --out {tmp_path / 'z.csv'}")[0] == 0
    assert (tmp_path / "z.csv").read_text().startswith('"row","z0","z1","label"\n')
    assert cli(f"report {run} --samples 2")[0] == 0
    for verb in ("sample", "reconstruct"):
        code, out, err = cli(f"{verb} {run} --force --out {tmp_path / 'picture.png'}")
        assert code == 0, err
        assert verb != "sample" or "draws of p(x|z)" in out  # means of columns are no rows


def test_presets_are_listed_and_printed(cli, cli_json):
    names = set(cli_json("presets"))
    assert {"tutorial", "tutorial-score", "tutorial-detached", "digits", "digits-continuous", "mnist"} <= names
    assert all(name in cli("presets")[1] for name in names)
    printed = yaml.safe_load(cli("presets tutorial")[1])
    assert printed["limit"] == {"train": 500, "valid": 100, "memory_gb": None, "data_gb": 1.0}


def test_data_is_listed_and_described(cli, cli_json):
    assert "fashion-mnist" in cli("data")[1]
    assert "bundled" in cli_json("data")["digits"]["where"]
    facts = cli_json("data digits")
    assert facts["shape"] == [1, 8, 8]
    assert facts["likelihood"] == "categorical"
    assert "17 levels" in cli("data digits")[1]


def test_a_file_is_described_wherever_it_lies(cli, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n" + "".join(f"{i},{i * i / 7}\n" for i in range(40)))
    code, out, _ = cli(f"data {path}")
    assert code == 0
    assert "table.csv" in out
    assert f"vaekit train {path}" in out


def read(path, name):
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return np.asarray(picture)
    if path.suffix == ".csv":
        return np.loadtxt(path, delimiter=",", skiprows=1)
    loaded = np.load(path)
    return loaded if path.suffix == ".npy" else loaded[name]


def test_a_run_goes_on_by_its_folder_alone(cli, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    code, out, err = cli(f"train --resume {run}")
    assert code == 0, err
    assert re.search(r"going on from step (\d+) of \1\n", out)
    assert "Next:" in out
    code, out, _ = cli(f"train --resume {run} --json")
    assert json.loads(out)["status"] == "finished"


def test_resume_takes_no_other_words(cli, trained):
    for words in ("train.epochs=9", "digits", "--preset digits", "--from elsewhere", "--run-dir elsewhere"):
        code, _, err = cli(f"train --resume {trained} {words}")
        assert code == 2
        assert f"{words.split()[-1]} would change them" in " ".join(err.split())


def test_a_run_is_extended_and_another_begun_from_it_and_both_say_so(cli, cli_json, trained, tmp_path):
    extended, begun = tmp_path / "extended", tmp_path / "begun"
    assert cli_json(f"train --extend {trained} --epochs 3 --run-dir {extended}")["epoch"] == 3
    found = cli_json(f"train --from {trained} {TINY} objective=iwae --run-dir {begun}")
    assert found["provenance"][0].startswith("initialised from digits (best weights, epoch ")
    for run, said in ((extended, "extended from 2 to 3 epochs"), (begun, "initialised from digits")):
        assert cli_json(f"evaluate {run} --samples 2")["provenance"][0].startswith(said)
        assert said in " ".join(cli(f"evaluate {run} --samples 2")[1].split())
        assert cli(f"report {run} --samples 2")[0] == 0
        assert said in (run / "report.html").read_text()
    code, out, _ = cli(f"train --resume {extended}")
    assert (code, "extended from 2 to 3 epochs" in out) == (0, True)


def test_what_goes_with_no_extension_is_named(cli, trained):
    for words, part in (
        ("digits train.epochs=9", "digits would change it"),
        (f"--resume {trained} train.epochs=9", "--resume would change it"),
        ("--preset digits train.epochs=9", "--preset digits would change it"),
        ("train.epochs=2", "has 2 already"),
        ("train.epochs=3 model.latent=9", "by --from"),
    ):
        code, _, err = cli(f"train --extend {trained} {words}")
        assert (code, part in " ".join(err.split())) == (2, True), err


def test_no_bar_is_drawn_where_stderr_is_no_screen_whatever_the_environment_asks_for(cli, tmp_path, monkeypatch):
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):  # as in the cells of a notebook
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TERM", "xterm-color")
    code, out, err = cli(f"train digits {TINY} --run-dir {tmp_path / 'run'}")
    frames = re.findall(r"\x1b\[\??\d*[A-Zhl]|\r", out + err)  # of the cursor; colours end in m
    assert (code, frames) == (0, [])
    monkeypatch.delenv("FORCE_COLOR")
    monkeypatch.setenv("NO_COLOR", "1")
    code, out, err = cli(f"evaluate {tmp_path / 'run'} --samples 2")
    assert (code, "\x1b" in out + err) == (0, False)


def test_the_next_step_after_data_keeps_the_settings_just_given(cli, tmp_path):
    path = tmp_path / "a table.csv"
    path.write_text("a,b,c\n" + "".join(f"{i / 7},{i * i / 7},{i % 3}\n" for i in range(40)))
    code, out, _ = cli(f"data '{path}' data.drop=[b] --label c")
    assert code == 0
    assert f"Next: vaekit train '{path}' 'data.drop=[b]' --label c" in out


def test_a_name_may_hold_what_looks_like_markup(cli, tmp_path):
    name = "'name=\"[bold] [red]x[\"'"
    code, out, err = cli(f"train digits {TINY} {name} --run-dir '{tmp_path}/[/dim]'")
    assert code == 0, err
    assert "[bold] [red]x[: digits" in out
    for line in (f"evaluate '{tmp_path}/[/dim]' --samples 2", f"report '{tmp_path}/[/dim]' --samples 2"):
        code, out, err = cli(line)
        assert (code, "[/dim]" in out) == (0, True), err
    code, _, err = cli("train '[/red]'")
    assert (code, "[/red]" in err) == (3, True)


def test_resume_needs_a_run(cli, tmp_path):
    code, _, err = cli(f"train --resume {tmp_path}")
    assert code == 4
    assert "is not a run folder" in " ".join(err.split())


def test_codes_in_parquet_decode_like_those_in_numpy(cli, trained, tmp_path):
    for name in ("codes.parquet", "codes.npy"):
        assert cli(f"encode {trained} --out {tmp_path / name}")[0] == 0
        assert cli(f"decode {trained} {tmp_path / name} --out {tmp_path / name}.npy")[0] == 0
    np.testing.assert_array_equal(np.load(tmp_path / "codes.parquet.npy"), np.load(tmp_path / "codes.npy.npy"))
    table = parquet.read_table(tmp_path / "codes.parquet")
    assert table.column_names == ["row", "z0", "z1", "z2", "scale0", "scale1", "scale2", "label"]
    assert table["row"].to_pylist() == list(range(180))


@pytest.mark.parametrize("verb", sorted(name for name in app if not name.startswith("-")))
def test_the_help_of_a_verb_says_what_every_option_is_and_has_an_example(verb: str) -> None:
    for argument in app[verb].assemble_argument_collection(parse_docstring=True):
        assert argument.parameter.help, f"{verb} {argument.names}"
    assert f"vaekit {verb}" in inspect.getdoc(app[verb].default_command).partition("Parameters")[0]
