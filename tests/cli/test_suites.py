"""`vaekit evaluate --suite`, and the context of models that are conditioned on labels."""

import json
import re

import numpy as np
import pytest
from tiny import TINY

from vaekit import registry
from vaekit.evaluation.results import measure_of
from vaekit.processes import World

SUITES = ("likelihood", "latents", "samples", "disentanglement", "representation", "ranking", "table")
FACTS = {"run", "data", "protocol", "rows", "importance_samples", "seed", "weights", "provenance", "not_applicable"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few chains, a flow of few steps, features that are hardly trained."""
    from vaekit.cli import suites
    from vaekit.cli.console import request
    from vaekit.evaluation import Annealing, disentanglement, features
    from vaekit.samplers import FromFlow

    monkeypatch.setattr(suites, "ANNEALING", Annealing(chains=4, temperatures=4))
    monkeypatch.setattr(suites, "ANNEALED_ROWS", 10)
    monkeypatch.setitem(request.SAMPLERS, "flow", FromFlow(hidden=(8,), steps=10))
    monkeypatch.setattr(features, "STEPS", 20)
    monkeypatch.setattr(features, "EPOCHS", 1)
    for name, number in {"VOTES": 200, "TESTS": 100}.items():
        monkeypatch.setattr(disentanglement, name, number)


def run_with(cli, folder, settings, data="digits"):
    tiny = TINY if "hierarchical" not in settings else TINY.split(" model.")[0]
    code, _, err = cli(f"train {data} {tiny} train.epochs=1 {settings} --run-dir {folder}")
    assert code == 0, err
    return folder


@pytest.fixture(scope="module")
def conditioned(tmp_path_factory):
    """A run whose model is conditioned on labels; tests only read it."""
    from vaekit.cli.main import main

    folder = tmp_path_factory.mktemp("runs") / "conditioned"
    with pytest.raises(SystemExit) as leaving:
        main(["train", "digits", *TINY.split(), "data.context=label", "--run-dir", str(folder)])
    assert leaving.value.code == 0
    return folder


def test_all_suites_in_one_object(cli_json, trained):
    out = cli_json(f"evaluate {trained} --suite all --rows 60 --samples 8")
    assert set(out) == {*SUITES, *FACTS}
    assert set(out["not_applicable"]) == {"disentanglement", "ranking", "table"}
    assert "known factors" in out["not_applicable"]["disentanglement"]
    assert out["disentanglement"] == {}
    assert (out["rows"], out["importance_samples"], out["seed"]) == (60, 8, 0)
    for suite in SUITES:
        for name, estimate in out[suite].items():
            assert set(estimate) == {"value", "stderr", "n", "unit", "warning"}
            assert estimate["value"] is not None
            unit = re.escape(measure_of(name).unit).replace(r"\{\}", ".+")
            assert re.fullmatch(unit, estimate["unit"]), name
    assert "not Inception" in out["samples"]["prior.kid"]["unit"]
    sources = {name.split(".")[0] for name in out["samples"]}
    # those of other packages, too, which other tests may have registered
    assert sources == {"training_rows", "prior", "aggregated", "mixture", "flow", *registry.kinds("samplers")}
    assert len(out["representation"]) == 12


def test_suites_agree_with_the_usual_bounds_and_with_themselves(cli_json, trained):
    plain = cli_json(f"evaluate {trained} --samples 12")
    found = cli_json(f"evaluate {trained} --suite likelihood --samples 12")["likelihood"]
    assert found["bound_12"]["value"] == pytest.approx(plain["log_likelihood"]["value"], rel=1e-9)
    assert found["effective_samples_of_12"] == plain["effective_samples"]
    assert found["bound_1"]["value"] == pytest.approx(plain["elbo"]["value"], abs=0.1)
    assert found["bound_10"]["value"] == pytest.approx(found["bound_12"]["value"], abs=0.1)
    assert found["annealed_lower"]["n"] == found["bound_on_annealed_rows_12"]["n"] == 10
    gap = found["bidirectional_upper"]["value"] - found["bidirectional_lower"]["value"]
    assert found["bidirectional_gap"]["value"] == pytest.approx(gap)
    found = cli_json(f"evaluate {trained} --suite latents")["latents"]
    assert found["rate"]["value"] == pytest.approx(plain["rate"]["value"], rel=1e-5)
    assert found["active_units"] == plain["active_units"]
    assert [found[f"kl_dimension_{i}"] for i in range(3)] == plain["kl_per_dimension"]
    value = {name: estimate["value"] for name, estimate in found.items()}
    assert value["mutual_information"] + value["marginal_kl"] == pytest.approx(value["sampled_rate"])
    assert value["total_correlation"] + value["dimension_wise_kl"] == pytest.approx(value["marginal_kl"])


@pytest.mark.parametrize(("suite", "parts"), [
    ("likelihood", ["K = 8", "weighted bound, K = 1 ", "effective samples, K = 8", "AIS: lower", "BDMC: gap"]),
    ("latents", ["active units, by KL", "of 3 dimensions", "mutual information", "KL of each latent dimension, nats:"]),
    ("samples", ["training rows", "aggregated", "mixture", "Frechet distance", "own classifier of the labels, not"]),
    ("representation", ["fitted to 96 training rows", "linear probe on codes", "microseconds"]),
])  # fmt: skip
def test_a_suite_alone_is_a_table(cli, trained, suite, parts, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    code, out, err = cli(f"evaluate {trained} --suite {suite} --rows 60 --samples 8")
    assert code == 0, err
    assert out.startswith(f"{trained}: digits, test rows, 60 rows")
    for part in (f"\n{suite}\n", "±", *parts):
        assert part in out
    others = [other for other in SUITES if other != suite]
    assert not any(f"\n{other}\n" in out for other in others)


@pytest.mark.parametrize(("words", "code", "parts"), [
    ("--suite disentanglement", 3, ["known factors of variation", "`sprites`"]),
    ("--suite representation --split train", 2, ["fitted to the training rows", "--split valid"]),
    ("--suite samples --rows 5", 3, ["5 rows are too few", "give 30 at least"]),
    ("--suite nothing", 2, ["nothing", "disentanglement"]),
    ("--suite latents --rows 0", 2, ["--rows is 0"]),
])  # fmt: skip
def test_one_clear_refusal(cli, trained, words, code, parts):
    found, out, err = cli(f"evaluate {trained} {words}")
    assert (found, out) == (code, ""), err
    for part in parts:
        assert part in " ".join(err.split())
    assert "Traceback" not in err


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_of_the_table_of_samples_is_folded(width):
    from rich.console import Console

    from vaekit.cli.console import cross_tables
    from vaekit.evaluation import Estimate

    sources, lines = ("training_rows", "prior", "aggregated", "mixture", "flow"), ("kid", "frechet_distance")
    found = {f"{s}.{line}": Estimate(-0.0261 - i, 0.0141, 180, "") for i, s in enumerate(sources) for line in lines}
    found["nothing.kid"] = found["nothing.frechet_distance"] = Estimate(None, 0.0, 180, "", "why")
    console, tables = Console(width=width), cross_tables(found, width)
    assert len(tables) == {60: 3, 80: 2, 120: 1}[width]
    with console.capture() as printed:
        for table in tables:
            console.print(table)
    assert len(printed.get().splitlines()) == len(tables) * 3
    assert printed.get().count("±") == 10
    assert all(part in printed.get() for part in ("training rows", "aggregated", "-4.026 ± 0.014"))


def test_one_process_only(cli, trained, monkeypatch):
    monkeypatch.setattr(World, "join", lambda: World(0, 2))
    code, _, err = cli(f"evaluate {trained} --suite latents")
    assert (code, "`vaekit evaluate --suite latents` works in one process" in " ".join(err.split())) == (2, True)


@pytest.mark.parametrize(("settings", "why"), [
    ("model.posterior=deterministic objective.beta=0", "no density"),
    ("'model.posterior={kind: vq, classes: 8}'", "one of a few code vectors"),
    ("'model.posterior={kind: categorical, classes: 3}' objective.gradient=enumerate", "moves z along gradients"),
    ("model.posterior=von_mises_fisher model.prior=uniform_sphere", "the unit sphere"),
    ("'model={kind: hierarchical, groups: {latent: [3, 2], widths: [8]}}'", "several groups of latents, each given"),
])  # fmt: skip
def test_a_measure_that_does_not_apply_is_none_with_the_reason(cli, cli_json, tmp_path, settings, why):
    run = run_with(cli, tmp_path / "run", settings)
    out = {}
    for suite in ("likelihood", "latents"):
        out |= cli_json(f"evaluate {run} --suite {suite} --rows 40 --samples 4")
        assert all((found["value"] is None) <= bool(found["warning"]) for found in out[suite].values())
    assert any(why in found["warning"] for suite in ("likelihood", "latents") for found in out[suite].values())
    assert (out["likelihood"]["bound_4"]["value"] is None) == ("deterministic" in settings)
    if "groups" in settings:
        groups = [out["latents"][f"kl_group_{number}"]["value"] for number in (1, 2)]
        assert sum(groups) == pytest.approx(out["latents"]["rate"]["value"], rel=0.1)
        assert out["likelihood"]["annealed_lower"]["value"] is not None


def test_models_conditioned_on_labels(cli, cli_json, conditioned):
    out = cli_json(f"evaluate {conditioned} --suite all --rows 40 --samples 4")
    assert set(out["not_applicable"]) == {"disentanglement", "representation", "ranking", "table"}
    assert "computed from the label" in out["not_applicable"]["representation"]
    assert all(found["value"] is not None for suite in ("likelihood", "latents") for found in out[suite].values())
    assert out["samples"]["prior.coverage"]["value"] is not None
    assert out["samples"]["mixture.coverage"]["value"] is None
    assert "only its prior takes" in out["samples"]["mixture.coverage"]["warning"]
    code, out, _ = cli(f"evaluate {conditioned} --suite samples --rows 40")
    assert code == 0
    assert all(part in out for part in ("aggregated; mixture; ", ": z of a model", "each draw is conditioned on"))


def test_samples_name_the_label_that_they_are_conditioned_on(cli_json, conditioned, tmp_path):
    command = f"sample {conditioned} -n 3 --mean --force --out {tmp_path / 'x.npy'}"
    assert cli_json(command)["what"].endswith("every label in turn")
    drawn = []
    for label in (3, 3, 7):
        assert cli_json(f"{command} --label {label}")["what"].endswith(f"label {label}")
        drawn += [np.load(tmp_path / "x.npy")]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.allclose(drawn[0], drawn[2])


def test_other_data_without_labels(cli, cli_json, trained, tmp_path):
    np.save(tmp_path / "other.npy", np.arange(60 * 64).reshape(60, 1, 8, 8) % 17)
    words = f"evaluate {trained} --data {tmp_path / 'other.npy'} --suite"
    code, _, err = cli(f"{words} representation")
    assert (code, "no labels" in err) == (3, True)
    out = cli_json(f"{words} samples")
    assert out["samples"]["training_rows.kid"]["n"] == 60


@pytest.mark.parametrize("ending", ["npz", "csv", "parquet"])
def test_codes_decode_with_the_labels_beside_them(cli, cli_json, conditioned, tmp_path, ending):
    codes, out = tmp_path / f"codes.{ending}", tmp_path / "x.npy"
    assert cli(f"encode {conditioned} --out {codes}")[0] == 0
    assert "each z with its own label" in cli_json(f"decode {conditioned} {codes} --out {out}")["what"]
    own = np.load(out)
    assert cli(f"reconstruct {conditioned} --out {out} --force")[0] == 0
    np.testing.assert_allclose(own, np.load(out), atol=1e-4)
    assert cli_json(f"decode {conditioned} {codes} --label 3 --out {out} --force")["what"].endswith("label 3")
    labels = np.load(tmp_path / "codes.npz")["label"] if ending == "npz" else None
    if labels is not None:
        three = np.load(out)
        np.testing.assert_allclose(three[labels == 3], own[labels == 3], atol=1e-5)
        assert not np.allclose(three[labels != 3], own[labels != 3])


def test_labels_that_do_not_fit_are_refused(cli, conditioned, trained, tmp_path):
    z = np.zeros((4, 3), np.float32)
    np.save(tmp_path / "z.npy", z)
    np.savez(tmp_path / "z.npz", mean=z, label=np.array([0, 1, 2, 77]))
    out = tmp_path / "x.npy"
    for words, code, part in (
        (f"{conditioned} {tmp_path / 'z.npy'}", 2, "give --label"),
        (f"{conditioned} {tmp_path / 'z.npy'} --label 77", 2, "should be one of 0, 1"),
        (f"{conditioned} {tmp_path / 'z.npz'}", 3, "from 0 to 9"),
        (f"{trained} {tmp_path / 'z.npy'} --label 3", 2, "not trained with data.context=label"),
    ):
        found, _, err = cli(f"decode {words} --out {out}")
        assert (found, part in " ".join(err.split())) == (code, True), err
    assert not out.exists()


def test_covariates_are_a_context_too(cli, cli_json, tmp_path):
    rng = np.random.default_rng(0)
    rows = [",".join(f"{v:.4f}" for v in rng.normal(5, 3, 4)) + f",{'ab'[i % 2]}" for i in range(300)]
    (tmp_path / "t.csv").write_text("width,height,depth,age,species\n" + "\n".join(rows))
    run = tmp_path / "run"
    words = "data.label=species data.context=[age] train.epochs=1 model.latent=2"
    assert cli(f"train {tmp_path / 't.csv'} {words} --run-dir {run}")[0] == 0
    out = cli_json(f"evaluate {run} --suite representation")
    assert 0 <= out["representation"]["linear_codes"]["value"] <= 1
    assert cli(f"encode {run} --out {tmp_path / 'z.npz'}")[0] == 0
    code, printed, _ = cli(f"decode {run} {tmp_path / 'z.npz'} --out {tmp_path / 'x.csv'}")
    assert (code, "at the mean of age" in printed) == (0, True)


def test_factors_are_measured_where_the_data_has_them(cli, tmp_path):
    run = run_with(cli, tmp_path / "run", "model.encoder.widths=[8] data.context=label", "sprites")
    code, out, err = cli(f"evaluate {run} --suite disentanglement")
    assert code == 0, err
    for part in (
        "factors: shape, scale, angle, x, y; the model is conditioned on the label",
        "MIG",
        "DCI completeness",
    ):
        assert part in out


def test_json_is_the_only_thing_on_stdout(cli, trained):
    _, out, _ = cli(f"evaluate {trained} --suite latents --json")
    assert list(json.loads(out))[:2] == ["latents", "not_applicable"]
