"""Parts from outside: registered in Python, chosen by kind, saved and loaded."""

import subprocess
import sys
from typing import Annotated, Literal

import pytest
import torch
from pydantic import Field
from torch import distributions as td
from torch import nn

import vaekit
from vaekit.errors import ConfigError, SpecError
from vaekit.registry import find, kinds
from vaekit.runs import ModelSpec, make_run, override, parse_yaml, run, to_yaml
from vaekit.spec import spec

PROGRAM = """
import sys, vaekit
from test_registry import Wide
if sys.argv[1] == "train":
    vaekit.register("priors", Wide)
    run = vaekit.runs.run("digits", "model.prior=wide", "train.epochs=1", "limit.train=60", run_dir=sys.argv[2])
    vaekit.fit(run, progress=False)
if sys.argv[1] == "register":
    vaekit.register("priors", Wide)
print(type(vaekit.load(sys.argv[2]).prior).__name__)
"""


class WidePrior(nn.Module):
    def __init__(self, size: int, scale: float):
        super().__init__()
        self.size, self.scale = size, scale

    def forward(self, context: torch.Tensor | None = None) -> td.Distribution:
        zeros = torch.zeros(self.size)
        return td.Independent(td.Normal(zeros, zeros + self.scale, validate_args=False), 1, validate_args=False)


@spec
class Wide:
    """A normal prior of another scale."""

    scale: Annotated[float, Field(gt=0)] = 2.0
    kind: Literal["wide"] = "wide"

    over = ("real",)

    def build(self, size, *context, **others) -> WidePrior:
        return WidePrior(size, self.scale)


def test_a_registered_part_is_chosen_by_its_kind_and_survives_yaml():
    assert vaekit.register("priors", Wide) is Wide
    chosen = run("digits", "model.prior=wide", "model.prior.scale=3")
    assert chosen.model.prior == Wide(3.0)
    assert make_run(parse_yaml(to_yaml(chosen), "run.yaml")) == chosen
    assert make_run(override(chosen, ["model.prior=mixture"])).model.prior.kind == "mixture"
    assert ModelSpec(prior="wide").prior == Wide()
    assert vaekit.Run(model=ModelSpec(prior=Wide(1.0))).model.prior.scale == 1.0


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["model.prior=wid"], ["did you mean 'wide'", "mixture", "vamp"]),
        (["model.prior=wide", "model.prior.scale=-1"], ["model.prior.scale is -1", "greater than 0"]),
        (["model.prior=wide", "model.prior.scal=1"], ["did you mean 'model.prior.scale'"]),
        (["model.prior={kind: wide, components: 3}"], ["unknown setting 'model.prior.components'", "mixture"]),
    ],
)
def test_mistakes_in_the_settings_of_a_part_from_outside_are_explained_like_ours(words, parts):
    vaekit.register("priors", Wide)
    with pytest.raises(ConfigError) as found:
        run("digits", *words)
    assert all(part in str(found.value) for part in parts)


@spec
class Lacking:
    kind: Literal["lacking"] = "lacking"


@spec
class Taken:
    kind: Literal["wide"] = "wide"
    over = ("real",)

    def build(self, size: int) -> nn.Module:
        return nn.Identity()


@pytest.mark.parametrize(
    ("group", "part", "why"),
    [
        ("prior", Wide, "priors, posteriors"),
        ("priors", WidePrior, "no spec with a kind"),
        ("priors", Lacking, "lacks build, over"),
        ("priors", Taken, "already"),
    ],
)
def test_what_is_no_part_of_a_group_is_refused(group, part, why):
    vaekit.register("priors", Wide)
    with pytest.raises(SpecError, match=why):
        vaekit.register(group, part)


def test_kinds_from_outside_are_listed_and_found():
    vaekit.register("priors", Wide)
    assert "wide" in kinds("priors")
    assert find("priors", "wide") is Wide
    assert find("likelihoods", "wide") is None


def test_a_run_with_such_a_part_is_loaded_where_it_is_registered_and_says_so_elsewhere(tmp_path):
    def program(word: str) -> subprocess.CompletedProcess:
        words = [sys.executable, "-c", PROGRAM, word, str(tmp_path / "run")]
        return subprocess.run(words, cwd=__file__.rpartition("/")[0], capture_output=True, text=True, timeout=120)

    for word in ("train", "register"):
        done = program(word)
        assert done.stdout.split() == ["WidePrior"], done.stderr
    error = program("load").stderr.splitlines()[-1]
    for part in ("ModelFileError", "model.prior.kind is 'wide'", "'wide' from the module test_registry", "install"):
        assert part in error
