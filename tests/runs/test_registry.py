"""Parts from outside: registered in Python, chosen by kind, saved and loaded."""

import importlib
import os
import subprocess
import sys
from typing import Annotated, Literal

import pytest
import torch
from pydantic import Field
from torch import distributions as td
from torch import nn

import vaekit
from naming import naming
from vaekit.errors import ConfigError, SpecError
from vaekit.gradients import Gradient, Pathwise
from vaekit.objectives import Elbo
from vaekit.registry import GROUPS, UNIONS, find, kinds
from vaekit.runs import ModelSpec, make_run, override, parse_yaml, run, to_yaml
from vaekit.samplers import FromAggregated, FromPrior
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
class OurKind:
    kind: Literal["mixture"] = "mixture"
    over = ("real",)

    def build(self, size: int) -> nn.Module:
        return nn.Identity()


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
        ("priors", Lacking, r"lacks build\(size, ctx\), over, which all priors have: add them"),
        ("objectives", Lacking, r"lacks __call__\(draw, ctx\), samples, gradient, which all objectives have"),
        ("gradients", Lacking, r"weighs_paths.*surrogate.*: derive it from vaekit.gradients.GradientEstimator, or add"),
        ("penalties", Lacking, r"lacks __call__\(draw, ctx\), needs_noise, build\(context\)"),
        ("samplers", Lacking, r"lacks build\(context\), fit\(codes, seed\)"),
        ("priors", OurKind, "the kind 'mixture' of priors is vaekit.models.priors.mixture.Mixture already: rename it"),
        ("priors", Taken, "already"),
    ],
)
def test_what_is_no_part_of_a_group_is_refused(group, part, why):
    vaekit.register("priors", Wide)
    with pytest.raises(SpecError, match=why, check=naming("part" if group in GROUPS else "group")):
        vaekit.register(group, part)


@spec
class WithFields:
    """An objective whose number of samples has no default."""

    samples: int
    gradient: Gradient = Pathwise()
    kind: Literal["with_fields"] = "with_fields"

    def __call__(self, draw, ctx=None):
        return Elbo(samples=self.samples, gradient=self.gradient)(draw, ctx)


def test_a_member_may_be_a_field_without_a_default():
    assert vaekit.register("objectives", WithFields) is WithFields


@pytest.mark.parametrize("group", GROUPS)
def test_our_own_parts_have_what_is_demanded_of_others(group):
    from unions import members  # not at the top: a program of a test imports this module from elsewhere

    module, name = UNIONS[group]
    own = members(getattr(importlib.import_module(module), name))
    for part in own:
        if part in (FromPrior, FromAggregated):  # of the model, and not fitted
            continue
        with pytest.raises(SpecError, check=naming("part")):
            vaekit.register(group, type(part.__name__, (part,), {}))


def test_kinds_from_outside_are_listed_and_found():
    vaekit.register("priors", Wide)
    assert "wide" in kinds("priors")
    assert find("priors", "wide") is Wide
    assert find("likelihoods", "wide") is None


def test_a_run_with_such_a_part_is_loaded_where_it_is_registered_and_says_so_elsewhere(tmp_path):
    def program(word: str) -> subprocess.CompletedProcess:
        words = [sys.executable, "-c", PROGRAM, word, str(tmp_path / "run")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        here = __file__.rpartition("/")[0]
        return subprocess.run(words, cwd=here, env=environment, capture_output=True, text=True, timeout=120)

    for word in ("train", "register"):
        done = program(word)
        assert done.stdout.split() == ["WidePrior"], done.stderr
    error = program("load").stderr.splitlines()[-1]
    for part in ("ModelFileError", "model.prior.kind is 'wide'", "'wide' from the module test_registry", "install"):
        assert part in error
