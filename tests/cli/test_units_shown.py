"""What is shown of the log-densities of a standardised table: in the data's own units, everywhere the same."""

import math
import re

import numpy as np
import pytest

from vaekit.report import write_report

SETTINGS = "train.epochs=2 model.latent=2 model.encoder.widths=[8] model.decoder.widths=[8] seed=3"
SHIFT = 3 * math.log(1000)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A table of three columns, and the same times 1000, with the run folders they are trained into."""
    home = tmp_path_factory.mktemp("units")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 3)) * [1, 20, 0.3] + 7
    for name, factor in (("once", 1), ("times", 1000)):
        np.savetxt(home / f"{name}.csv", x * factor, delimiter=",", header="a,b,c", comments="")
    return {name: (home / f"{name}.csv", home / f"run-{name}") for name in ("once", "times")}


@pytest.fixture(scope="module")
def trained(folders):
    from vaekit.cli.main import main

    for csv, run in folders.values():
        with pytest.raises(SystemExit):
            main(["train", str(csv), *SETTINGS.split(), "--run-dir", str(run)])
    return {name: run for name, (_, run) in folders.items()}


def test_training_says_its_losses_in_the_datas_units(cli_json, cli, folders, tmp_path):
    found = {
        name: cli_json(f"train {csv} {SETTINGS} --run-dir {tmp_path / name}") for name, (csv, _) in folders.items()
    }
    once, times = found["once"], found["times"]
    for name, sign in {"train_loss": 1, "valid_elbo": -1, "valid_distortion": 1, "best_valid_elbo": -1}.items():
        assert times[name] - once[name] == pytest.approx(sign * SHIFT, abs=0.01), name
    assert times["valid_rate"] == pytest.approx(once["valid_rate"], abs=0.01)
    assert times["log_scale"] - once["log_scale"] == pytest.approx(SHIFT)
    _, out, _ = cli(f"train {folders['times'][0]} {SETTINGS} --run-dir {tmp_path / 'again'}")
    assert "log-densities are of rows in the data's own units" in out
    assert f"{-times['best_valid_elbo']:.2f}" in out


def test_evaluation_has_both_in_json_and_says_of_what(cli, cli_json, trained):
    once, times = (cli_json(f"evaluate {trained[name]} --samples 4") for name in ("once", "times"))
    for name, sign in {"elbo": 1, "log_likelihood": 1, "baseline": 1, "distortion": -1}.items():
        assert once[name]["value"] - times[name]["value"] == pytest.approx(sign * SHIFT, abs=0.01), name
        assert once[name]["scaled"] == pytest.approx(times[name]["scaled"], abs=0.01), name
    assert times["elbo"]["scaled"] - times["elbo"]["value"] == pytest.approx(times["log_scale"])
    _, out, _ = cli(f"evaluate {trained['times']} --samples 4")
    assert "in the data's own units" in out
    assert f"{times['elbo']['value']:.2f}" in out


def test_the_likelihood_suite_is_in_the_same_units(cli_json, trained):
    found = [cli_json(f"evaluate {trained[n]} --suite likelihood --samples 4 --rows 6") for n in ("once", "times")]
    once, times = (each["likelihood"] for each in found)
    shifted = ("bound_4", "bound_on_annealed_rows_4", "annealed_lower", "bidirectional_lower", "bidirectional_upper")
    for name in shifted:
        assert once[name]["value"] - times[name]["value"] == pytest.approx(SHIFT, abs=0.05), name
    assert once["bidirectional_gap"]["value"] == pytest.approx(times["bidirectional_gap"]["value"], abs=0.05)


def test_the_page_says_it_and_compares_runs_of_other_scales(cli_json, trained, tmp_path):
    page = write_report([trained["times"]], tmp_path / "page.html", samples=4).read_text()
    value = cli_json(f"evaluate {trained['times']} --samples 4")["baseline"]["value"]
    assert "in the data&#39;s own units" in page
    assert f"{value:.1f}".lstrip("-") in page


def test_masses_have_no_units_to_speak_of(cli, cli_json, trained, tmp_path):
    settings = "train.epochs=1 limit.train=40 limit.valid=20 model.latent=2 model.encoder.widths=[8]"
    _, out, _ = cli(f"train digits {settings} --run-dir {tmp_path / 'digits'}")
    assert "own units" not in out
    found = cli_json(f"evaluate {tmp_path / 'digits'} --samples 2 --rows 10")
    assert "log_scale" not in found
    assert "scaled" not in found["elbo"]
    soft = f"train digits {settings} data.scale=unit model.likelihood=soft_bernoulli --run-dir {tmp_path / 'soft'}"
    _, out, _ = cli(soft)
    assert "own units" not in out


def test_tables_keep_their_words_on_a_narrow_terminal(cli, trained, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    _, out, _ = cli(f"evaluate {trained['times']} --samples 4")
    for words in ("log-likelihood, importance-weighted", "baseline, independent dimensions, no z", "of 2 dimensions"):
        assert words in out
    assert "…" not in out
    monkeypatch.setenv("COLUMNS", "30")
    _, out, _ = cli(f"evaluate {trained['times']} --suite latents --rows 30")
    assert "rate, sampled at one z of each row" in out
    assert "…" not in re.sub(r"\s+", " ", out)
