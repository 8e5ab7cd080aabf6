"""Python and the command line build the same from the same words; wrong parts are refused in words of Python."""

import os
import subprocess
import sys

import pytest

import vaekit
from naming import naming
from vaekit.cli.train import train
from vaekit.data import names, where
from vaekit.errors import ConfigError, SpecError
from vaekit.runs import TrainingRun, open_run, preset, presets, run
from vaekit.runs.samplers import fingerprint
from vaekit.training import Train

FEW = ("limit.train=40", "limit.valid=10", "train.epochs=1", "train.batch_size=40", "train.precision=fp32")


@pytest.mark.parametrize("data", names())
def test_the_same_words_build_the_same_weights_in_python_as_on_the_command_line(data, tmp_path):
    if not where(data).startswith(("bundled", "found")):
        pytest.skip("VAEKIT_DATA is not set")
    words = (data, *FEW)
    train(*words, run_dir=tmp_path / "run")
    built = TrainingRun.start(run(*words))
    for _ in built.events():
        pass
    assert fingerprint(open_run(tmp_path / "run", built.run.train.weights).model) == fingerprint(built.model)
    assert open_run(tmp_path / "run").settings.model_copy(update={"run_dir": None}) == built.run


@pytest.mark.parametrize("name", presets())
def test_a_preset_is_the_run_that_its_name_trains(name):
    assert preset(name) == run(preset=name)
    assert run(name).model == preset(name).model if name in names() else True


def test_words_may_stand_in_any_order_and_with_dashes():
    assert run("--epochs", "3", "digits", "latent=2") == run("digits", "train.epochs=3", "--model.latent=2")


def test_data_without_a_preset_takes_the_defaults(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n")
    found = run(str(tmp_path / "a.csv"))
    assert (found.name, found.data.source) == ("a", str(tmp_path / "a.csv"))
    assert found.model == vaekit.Run().model


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: vaekit.Elbo(gradient="nonsense"), ["Elbo: gradient.kind is 'nonsense'", "pathwise"]),
        (lambda: vaekit.Elbo(gradient="scor"), ["did you mean 'score'"]),
        (lambda: vaekit.Elbo(samples=0), ["Elbo: samples is 0", "greater than or equal to 1"]),
        (lambda: vaekit.Elbo(bta=1), ["Elbo: unknown setting 'bta': did you mean 'beta'"]),
        (
            lambda: vaekit.Elbo(1.0, 0.0, None, False, 1, "auto", vaekit.gradients.Pathwise(), "elbo", 9),
            ["one argument too many"],
        ),
        (lambda: Train(lr=-1), ["Train: lr is -1", "greater than 0"]),
        (lambda: vaekit.Mlp((0,)), ["Mlp: widths is 0", "greater than or equal to 1"]),
        (lambda: vaekit.Mlp(widths="wide"), ["Mlp: widths is 'wide'", "valid integer"]),
        (lambda: vaekit.Conv(()), ["Conv: channels is ()", "at least 1 items"]),
        (lambda: vaekit.data.DataSpec(source=True), ["DataSpec: source is True", "valid string"]),
        (lambda: vaekit.Run(model=3), ["Run: model is 3"]),
        (
            lambda: vaekit.Run(train=Train(), epochs=3),
            ["Run: unknown setting 'epochs': did you mean 'train.epochs'"],
        ),
        (lambda: vaekit.Categorical(), ["Categorical: levels is missing"]),
        (lambda: vaekit.objectives.Warmup(over=2), ["Warmup: over is 2", "less than or equal to 1"]),
    ],
)
def test_a_part_that_is_made_wrongly_says_so_in_one_line_as_a_value_error(make, parts):
    with pytest.raises(SpecError) as error:
        make()
    assert isinstance(error.value, ValueError)
    assert len(str(error.value).splitlines()) == 1
    assert "pydantic" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_a_cell_that_is_run_twice_is_told_so_in_words_of_python(tmp_path):
    again = run("digits", *FEW, run_dir=tmp_path / "run")
    vaekit.fit(again)
    with pytest.raises(ConfigError, match="give another run_dir", check=naming("run_dir", str(tmp_path / "run"))):
        vaekit.fit(again)


def test_an_estimate_shows_its_error_and_unit():
    found = vaekit.Estimate(-92.13, 0.41, 180, "nats")
    assert str(found) == repr(found) == "-92.13 ± 0.41 nats"


WEIGHTS_COUNTED = """
import torch
from vaekit.models import Columns
from vaekit.models.building import BuildContext, FieldEvent
from vaekit.models.networks.columns import ColumnsAsNumbers
kinds = ("count", "positive", "real", "binary", "categorical", "ordinal")
fields = tuple(FieldEvent(kind, kind, 2 if kind == "binary" else 40) for kind in kinds)
with torch.device("meta"):
    ColumnsAsNumbers(fields, missing=True), Columns().of_fields(fields).build(BuildContext(event_shape=(6,)))
print([name for name in ("torch._dynamo",) if name in sys.modules])
"""


def test_a_verb_imports_only_what_it_needs():
    """Most of the time that a verb takes to begin is torch's; what only some need comes when it is needed."""
    slow = "matplotlib jinja2 scipy sklearn pyarrow zuko sympy torch._dynamo torch._inductor requests pandas"
    check = "import sys, vaekit.cli.app, vaekit.cli.suites, vaekit.cli.console.context, vaekit.cli.console.writing; "
    check += f"print([name for name in {slow.split()} if name in sys.modules]); " + WEIGHTS_COUNTED
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=environment, check=True)
    assert found.stdout == "[]\n[]\n"
