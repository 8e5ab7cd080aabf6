"""`vaekit sample` from every source of z."""

import json
import shutil
import warnings
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import csv
from safetensors.torch import load_file
from torch import Tensor, nn
from torch import distributions as td

from vaekit import open_run, register
from vaekit.models.building import BuildContext
from vaekit.randomness import Purpose, new_generator
from vaekit.spec import spec

SOURCES = ("prior", "aggregated", "mixture", "flow")


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("samplers"))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Flows are fitted in few steps."""
    from vaekit.cli.console import request
    from vaekit.samplers import FromFlow

    monkeypatch.setitem(request.SAMPLERS, "flow", FromFlow(hidden=(16,), steps=30))


@pytest.mark.parametrize("source", SOURCES)
def test_rows_from_each_source_say_which(cli, cli_json, run, tmp_path, source):
    out = tmp_path / "x.npy"
    printed = cli_json(f"sample {run} --from {source} -n 20 --temperature 0.5 --out {out}")
    assert np.load(out).shape == (20, 1, 8, 8)
    assert (printed["from"], printed["temperature"], printed["mean"], printed["seed"]) == (source, 0.5, False, 0)
    assert printed["weights"]["weights"] == "best"
    assert source in printed["what"]
    first = np.load(out)
    assert cli(f"sample {run} --from {source} -n 20 --temperature 0.5 --out {out} --force")[0] == 0
    assert np.array_equal(np.load(out), first)
    code, printed, _ = cli(f"sample {run} --from {source} -n 20 --out {out} --mean --force")
    assert (code, "means of p(x|z), z from" in printed, "temperature 1, seed 0" in printed) == (0, True, True)
    assert not np.array_equal(np.load(out), first)


def test_what_was_fitted_stays_with_the_run_and_other_weights_have_their_own(cli_json, run, tmp_path):
    command = f"sample {run} --from mixture -n 4 --force --out {tmp_path / 'x.npy'}"
    assert [cli_json(command)["fitted"]["fitted"] for _ in range(2)] == ["now", "before"]
    assert {path.name for path in (run / "samplers").iterdir()} == {"mixture.json", "mixture.safetensors"}
    newest = max((run / "checkpoints").iterdir())
    tensors = [load_file(newest / f"{name}.safetensors") for name in ("best", "last")]
    same = all(tensors[0][name].equal(tensors[1][name]) for name in tensors[0])
    assert cli_json(f"{command} --weights last")["fitted"]["fitted"] == ("before" if same else "now")
    assert json.loads((run / "samplers" / "mixture.json").read_text())["sampler"]["components"] == 10
    assert cli_json(f"sample {run} -n 4 --force --out {tmp_path / 'x.npy'}")["fitted"] is None


@spec
class FromBox:
    """z uniform on the box that just holds the codes."""

    kind: Literal["box"] = "box"

    def build(self, context: BuildContext) -> "Box":
        return Box(*context.event_shape)

    def fit(self, codes: Tensor, seed: int = 0) -> "Box":
        box = Box(codes.shape[1])
        box.low.copy_(codes.amin(0))
        box.high.copy_(codes.amax(0))
        return box


class Box(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.low, self.high = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.ones(size))
        self.requires_grad_(False)

    def forward(self) -> td.Distribution:
        return td.Independent(td.Uniform(self.low, self.high), 1)


def test_a_registered_sampler_is_chosen_by_its_kind(cli_json, run, tmp_path):
    out = tmp_path / "x.npy"
    register("samplers", FromBox)
    printed = [cli_json(f"sample {run} --from box -n 5 --force --out {out}") for _ in range(2)]
    assert [one["fitted"]["fitted"] for one in printed] == ["now", "before"]
    assert np.load(out).shape == (5, 1, 8, 8)


def test_a_picture_has_its_source_below_it(cli, trained, tmp_path):
    pictures = []
    for name, flags in (("one", ""), ("other", "--temperature 0.9999999")):
        assert cli(f"sample {trained} -n 9 --mean {flags} --out {tmp_path / name}.png")[0] == 0
        with Image.open(tmp_path / f"{name}.png") as picture:
            pictures += [np.asarray(picture.convert("L")).astype(int)]
    grid = 3 * (48 + 3) + 3
    assert all(len(picture) > grid + 12 for picture in pictures)
    for picture in pictures:
        assert picture[grid:].min() < 100, "there is no text"
        assert picture[-2:].min() == 255
    height = min(len(picture) for picture in pictures)
    assert np.array_equal(*(picture[grid:height] for picture in pictures)), "both are of temperature 1, as printed"


@pytest.mark.parametrize(
    ("flags", "code", "parts"),
    [
        ("--temperature 0", 2, ["temperature is 0", "above 0"]),
        ("--temperature -1", 2, ["temperature is -1", "above 0"]),
        ("--temperature inf --from mixture", 2, ["temperature is inf"]),
        ("--temperature nan", 2, ["temperature is nan"]),
        ("--temperature warm", 2, ["warm"]),
        ("--from nowhere", 2, ["nowhere", "aggregated"]),
        ("--from mixtur", 2, ["did you mean 'mixture'"]),
        ("--from aggregated", 3, ["the data of", "gone.npy"]),
        ("--from mixture", 3, ["the data of", "gone.npy"]),
        ("--from flow", 3, ["the data of", "gone.npy"]),
    ],
)
def test_one_clear_error(cli, run, tmp_path, flags, code, parts):
    settings = run / "run.yaml"
    settings.write_text(settings.read_text().replace("source: digits", "source: gone.npy"))
    found, out, err = cli(f"sample {run} --out {tmp_path / 'x.npy'} {flags}")
    assert found == code, err
    for part in parts:
        assert part in " ".join(err.split()), err
    assert (out, "Traceback" in err) == ("", False)
    assert not (tmp_path / "x.npy").exists()


def test_a_flow_needs_two_dimensions(cli, tmp_path):
    small = "train.epochs=1 limit.train=60 limit.valid=20 model.latent=1 model.encoder.widths=[8]"
    assert cli(f"train digits {small} --run-dir {tmp_path / 'line'}")[0] == 0
    code, _, err = cli(f"sample {tmp_path / 'line'} --from flow --out {tmp_path / 'x.npy'}")
    assert (code, "there is 1" in " ".join(err.split())) == (2, True)
    assert cli(f"sample {tmp_path / 'line'} --from mixture --out {tmp_path / 'x.npy'}")[0] == 0


def test_values_given_are_the_context_that_rows_are_sampled_with(cli, tmp_path):
    """The numbers of the context by hand: a standardised number, one-hot categories, and whether each is missing."""
    rng = np.random.default_rng(0)
    age = rng.integers(20, 60, 60)
    sex = rng.choice(["f", "m"], 60)
    height = np.where(sex == "f", 165.25, 178.5)
    kids = pa.array([None if place % 9 == 4 else place % 4 for place in range(60)])
    table = pa.table({"x": rng.normal(size=60), "age": age, "y": rng.normal(size=60), "sex": sex, "height": height})
    table = table.append_column("kids", kids)
    csv.write_csv(table, tmp_path / "t.csv")
    words = (
        "data.context=[age,sex,height,kids] data.label=none epochs=1 latent=2 encoder.widths=4 decoder.widths=4 "
        "train.device=cpu"
    )
    assert cli(f"train {tmp_path / 't.csv'} {words} --run-dir {tmp_path / 'run'}")[0] == 0
    trained = open_run(tmp_path / "run")
    context = trained.schema.context
    mean, deviation = context.loc[0], context.scale[0]
    train = trained.data().train.context_of(slice(None))
    assert float(train[:, 0].mean()) == pytest.approx(0, abs=1e-5)
    assert float(train[:, 0].std(unbiased=False)) == pytest.approx(1, abs=1e-5)
    out = tmp_path / "x.npy"
    missing = [0, 1, 0, 1]  # of height and kids
    for given, numbers in (
        ("sex=f age=40.0", [(40 - mean) / deviation, 0, 1, 0, 0]),
        ("age=40", [(40 - mean) / deviation, 0, 0, 0, 1]),
        ("sex=m", [0, 1, 0, 1, 0]),
    ):
        code, printed, err = cli(f"sample {tmp_path / 'run'} -n 5 --seed 3 --mean --out {out} --given {given} --force")
        assert code == 0, err
        assert f"given {', '.join(given.split())}" in printed
        with torch.no_grad():
            generator = new_generator(3, Purpose.GENERATE)
            x = trained.model.generate(
                5, mean=True, generator=generator, context=torch.tensor([[*numbers, *missing]]).expand(5, -1)
            )
        np.testing.assert_allclose(np.load(out), trained.schema.to_array(x.numpy()), rtol=1e-5)
    given = "sex=f age=40.0 kids=3.0 height=170"
    assert cli(f"sample {tmp_path / 'run'} -n 5 --out {tmp_path / 'new.csv'} --given {given}")[0] == 0
    new = csv.read_csv(tmp_path / "new.csv")
    assert new.schema.equals(table.schema)
    assert [set(new[name].to_pylist()) for name in ("sex", "age", "kids", "height")] == [{"f"}, {40}, {3}, {170}]
    assert cli(f"reconstruct {tmp_path / 'run'} {tmp_path / 't.csv'} --out {tmp_path / 'same.csv'}")[0] == 0
    same = csv.read_csv(tmp_path / "same.csv")
    assert (same.schema, same["sex"], same["age"]) == (table.schema, table["sex"], table["age"])
    # Without values given, the context is that of training rows: here a height goes with each sex.
    for seed in (1, 2):
        code, printed, _ = cli(f"sample {tmp_path / 'run'} -n 40 --seed {seed} --out {tmp_path / f'{seed}.csv'}")
        assert (code, "with the context of training rows" in " ".join(printed.split())) == (0, True)
    new, other = (csv.read_csv(tmp_path / f"{seed}.csv") for seed in (1, 2))
    assert new.schema.equals(table.schema)
    assert new["age"] != other["age"]
    for name, most in (("age", None), ("sex", None), ("kids", 0)):
        assert set(new[name].to_pylist()) <= set(table[name].to_pylist())
        assert most is None or new[name].null_count > most
    assert {*zip(new["sex"].to_pylist(), new["height"].to_pylist(), strict=True)} == {("f", 165.25), ("m", 178.5)}
    assert trained.contexts(40, seed=1)[:9].equal(trained.contexts(9, seed=1))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        far = cli(f"sample {tmp_path / 'run'} --out {out} --given age=95 --force")
    assert (far[0], "note: age=95 is outside the range of the data, 20 to 59" in far[2]) == (0, True)
    for given, said in (
        ("age=-5", "below 0"),
        ("age=33.5", "no whole number"),
        ("kids=1.5", "no whole number"),
        ("sex=x", "none of its categories: they are f, m"),
        ("size=3", "no column of the context"),
        ("sex=f sex=m", "two values of 'sex'"),
    ):
        code, _, err = cli(f"sample {tmp_path / 'run'} --out {out} --given {given} --force")
        assert (code, said in " ".join(err.split())) == (2, True), err
