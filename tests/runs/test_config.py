"""Settings: YAML <-> tree <-> path=value, and what each mistake is answered with."""

import functools
from importlib.resources import files
from typing import get_origin, get_type_hints

import pytest
import yaml
from pydantic import TypeAdapter

from naming import naming
from unions import members
from vaekit.errors import ConfigError
from vaekit.runs import Run, make_run, override, override_in_order, parse_yaml, preset, presets, read_yaml, to_yaml
from vaekit.setting_errors import all_paths, members_of, settings_of


@pytest.mark.parametrize("name", presets())
def test_presets_are_short_valid_and_survive_a_round_trip(name):
    lines = (files("vaekit") / "presets" / f"{name}.yaml").read_text().splitlines()
    assert len(lines) <= 25
    run = make_run(preset(name))
    assert run.about
    assert make_run(parse_yaml(to_yaml(run), name)) == run
    assert run.name == name


def test_every_default_is_written_out():
    written = yaml.safe_load(to_yaml(make_run(preset("digits"))))
    assert written["format_version"] == 1
    assert written["train"]["optimiser"] == {"betas": [0.9, 0.999], "eps": 1e-8, "kind": "adam"}
    assert written["objective"]["gradient"] == {"kind": "pathwise"}


def test_overrides_reach_any_depth_and_leave_the_tree_alone():
    tree = preset("digits")
    changed = make_run(override(tree, ["train.epochs=3", "objective.beta.over=0.5", "model.encoder.widths=[7]"]))
    assert (changed.train.epochs, changed.objective.beta.over, changed.model.encoder.widths) == (3, 0.5, (7,))
    assert make_run(tree) == make_run(preset("digits"))


@pytest.mark.parametrize("assignment", ["model.encoder.kind=conv", "model.encoder=conv", "model.encoder={kind: conv}"])
def test_another_kind_drops_the_settings_of_the_one_before(assignment):
    assert make_run(override(preset("digits"), [assignment])).model.encoder.kind == "conv"


def test_a_bare_name_of_a_kind_takes_further_settings():
    run = make_run(override({}, ["objective.gradient=score", "objective.gradient.baseline=false"]))
    assert run.objective.gradient.baseline is False


def test_a_bare_name_stands_for_every_choice_wherever_it_is_one():
    found, seen, waiting = [], set(), [Run]
    while waiting:
        spec = waiting.pop()
        for hint in get_type_hints(spec, include_extras=True).values():
            inside = [choice for choice in members(hint) if hasattr(choice, "__pydantic_fields__")]
            waiting += [choice for choice in inside if choice not in seen]
            seen |= set(inside)
            for choice in inside:
                kind = choice.__pydantic_fields__.get("kind")
                needed = any(field.is_required() for field in choice.__pydantic_fields__.values())
                if kind is not None and not needed and len(members(hint)) > 1:
                    found.append(kind.default)
                    assert isinstance(TypeAdapter(hint).validate_python(kind.default), choice)
    assert {"anneal", "warmup", "hamiltonian", "spatial", "vamp", "student_t"} <= set(found)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("model.latent=8", "model.kind=hierarchical"),
        ("model.prior.components=5", "model.prior=vamp"),
        ("objective.gradient.baseline=false", "objective.gradient={kind: score}"),
    ],
)
def test_a_setting_that_a_later_one_drops_is_refused_and_not_lost(earlier, later):
    with pytest.raises(ConfigError, check=naming(earlier.partition("=")[0])):
        override_in_order(preset("digits"), [earlier, later])


def test_settings_that_drop_nothing_stand_in_any_order():
    tree = override_in_order({}, ["model.encoder.widths=[7]", "model.encoder.kind=mlp", "seed=1", "seed=2"])
    assert tree == {"model": {"encoder": {"widths": [7], "kind": "mlp"}}, "seed": 2}


def lists(tree, place):
    """The paths of all settings below a place that are lists, with the kinds that they need, and their types."""
    for name, hint in settings_of(tree).items():
        for member in members_of(hint):
            kind = getattr(member, "kind", None)
            yield from lists(member, [*place, (name, kind)])
            if get_origin(member) is tuple:
                yield [*place, (name, None)], member


@pytest.mark.parametrize("place", [place for place, _ in lists(Run, [])], ids=lambda place: place[-1][0])
def test_a_single_value_stands_for_a_list_of_it_wherever_there_is_one(place):
    path, assignments = "", []
    for name, kind in place:
        path = f"{path}.{name}".strip(".")
        assignments += [f"{path}.kind={kind}"] if kind else []
    value = {"drop": "a", "context": "label", "penalties": "dip"}.get(place[-1][0], "2")
    listed = f"[{value}, {value}]" if place[-1][0] == "image_size" else f"[{value}]"

    def outcome(value):
        try:
            return make_run(override({}, [*assignments, f"{path}={value}"]))
        except ConfigError as error:  # that of a hierarchical VAE whose groups do not match, say: the same for both
            return str(error).partition(" is ")[0]

    if place[-1][0] == "betas":  # two unlike numbers, which must be written out
        with pytest.raises(ConfigError, check=naming(path, 0.5)):
            make_run(override({}, [*assignments, f"{path}=0.5"]))
    else:
        assert outcome(value) == outcome(listed)


@pytest.mark.parametrize("word", ["latent=2", "epochs=3", "lr=0.1", "batch_size=7", "beta=0.5", "encoder.widths=[3]"])
def test_the_end_of_a_path_stands_for_it_where_only_one_ends_so(word):
    end, _, value = word.partition("=")
    (whole,) = [path for path in all_paths(Run) if path.endswith(f".{end}") and path.count(".") == 1 + end.count(".")]
    assert make_run(override({}, [word])) == make_run(override({}, [f"{whole}={value}"]))


def test_the_end_of_a_path_is_looked_for_in_the_tree_as_it_stands():
    assert make_run(override({}, ["model.prior=vamp", "components=5"])).model.prior.components == 5
    with pytest.raises(ConfigError, check=naming("components", 5)):
        make_run(override({}, ["components=5"]))
    with pytest.raises(ConfigError, check=naming("model.latent")):
        override_in_order({}, ["latent=8", "model.kind=hierarchical"])


@pytest.mark.parametrize("value", ["791", "-999", "1.5", "x"])
@pytest.mark.parametrize("setting", ["data.label", "data.drop", "data.missing_values", "data.context", "name"])
def test_names_and_texts_may_look_like_numbers(setting, value):
    tree = make_run(override({}, [f"{setting}={value}"]))
    found = functools.reduce(getattr, setting.split("."), tree)
    assert found in (value, (value,))
    assert make_run(parse_yaml(to_yaml(tree), "run.yaml")) == tree


def test_numbers_as_people_write_them():
    run = make_run(override({}, ["train.lr=1e-3", "seed=7", "train.patience=null"]))
    assert (run.train.lr, run.seed, run.train.patience) == (1e-3, 7, None)


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        (
            "model.encoder.hidden=9",
            ["did you mean 'model.encoder.widths'?", "of model.encoder.kind=conv or resnet"],
        ),
        ("model.prior=null", ["model.prior is None", "settings with a kind, as in model.prior.kind=..."]),
        ("objective.beta=-1", ["greater than or equal to 0, or settings with a kind, as in objective.beta.kind=..."]),
        ("name=a/b", ["name is 'a/b'", "without slashes"]),
        ("train.device=gpu", ["train.device is 'gpu'", "one of auto, cpu"]),
        ("train.epoch=3", ["unknown setting 'train.epoch'", "did you mean 'train.epochs'"]),
        ("epoch=3", ["unknown setting 'epoch'", "did you mean 'train.epochs'"]),
        ("model.kind=ladder", ["model.kind is 'ladder' (did you mean 'hierarchical'?)"]),
        ("model.posterior=point", ["did you mean 'deterministic'?"]),
        ("model.prior=gmm", ["did you mean 'mixture'?"]),
        ("hidden_dim=3", ["did you mean 'model.encoder.widths'"]),
        ("learning_rate=3", ["did you mean 'train.lr'"]),
        ("gpu=1", ["did you mean 'train.device=cuda'"]),
        ("widths=[3]", ["'widths' may be model.encoder.widths or model.decoder.widths", "in full"]),
        ("train.lr=[0.1,0.01]", ["train.lr is [0.1, 0.01]", "valid number", "start a run for each"]),
        ("model.latent=[2,4]", ["model.latent is [2, 4]", "valid integer", "start a run for each"]),
        (
            "objective.gradient=[score,pathwise]",
            ["is ['score', 'pathwise']", "start a run for each"],
        ),
        ("modle.latent=3", ["unknown setting 'modle'", "did you mean 'model'"]),
        ("model.encoder.width=[3]", ["'model.encoder.width'", "did you mean 'model.encoder.widths'"]),
        ("objective.beta.ovr=0.1", ["'objective.beta.ovr'", "did you mean 'objective.beta.over'"]),
        ("objective.gradient=scores", ["objective.gradient.kind is 'scores'", "did you mean 'score'", "pathwise"]),
        ("model.likelihood=gausian", ["model.likelihood.kind is 'gausian'", "did you mean 'gaussian'"]),
        ("model.likelihood=categorical", ["model.likelihood.levels is missing"]),
        ("train.epochs=many", ["train.epochs is 'many'", "valid integer"]),
        ("train.epochs=0", ["train.epochs is 0", "greater than or equal to 1"]),
        ("train.lr=-1", ["train.lr is -1", "greater than 0"]),
        ("train.lr=.nan", ["train.lr is nan", "finite"]),
        ("model.latent=0", ["model.latent is 0", "greater than or equal to 1"]),
        ("train.device=gpu", ["train.device is 'gpu'"]),
        ("objective.kl=exact", ["objective.kl is 'exact'", "'closed'"]),
        ("objective.beta=high", ["objective.beta"]),
        ("train.optimiser.betas=[0.9]", ["train.optimiser.betas"]),
        ("seed=-1", ["seed is -1"]),
        ("data=3", ["data is 3"]),
        ("train.epochs", ["'train.epochs' is not a setting", "path=value"]),
        ("=3", ["'=3' is not a setting"]),
        ("train.lr={", ["not YAML"]),
    ],
)
def test_each_mistake_is_named_with_value_rule_and_fix(assignment, parts):
    with pytest.raises(ConfigError) as error:
        make_run(override(preset("digits"), [assignment]))
    for part in parts:
        assert part in str(error.value)
    assert error.value.exit_code == 2
    assert len(str(error.value).splitlines()) == 1


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError) as error:
        make_run(override({}, ["train.epochs=no", "model.latnt=3"]))
    assert len(str(error.value).splitlines()) == 2


def test_kl_closed_with_stick_the_landing_is_refused():
    with pytest.raises(ConfigError, check=naming("objective.kl", "closed")):
        make_run(override({}, ["objective.kl=closed", "objective.gradient=stick_the_landing"]))


def test_a_setting_of_one_in_a_list_is_told_how_to_write_the_list():
    with pytest.raises(
        ConfigError,
        match=r"whole, as in .*penalties='\[{weight: .* kind: factor",
        check=naming("objective.penalties"),
    ):
        override(preset("factor-vae"), ["objective.penalties.weight=3"])


def test_unknown_presets_name_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'digits'", check=naming("preset", "digit")):
        preset("digit")


def test_runs_are_frozen():
    with pytest.raises(Exception, match="frozen"):
        Run().seed = 3


@pytest.mark.parametrize(("content", "part"), [("- 1", "holds list"), ("a: [", "not YAML"), ("", "holds NoneType")])
def test_files_that_hold_no_settings(tmp_path, content, part):
    (tmp_path / "run.yaml").write_text(content)
    with pytest.raises(ConfigError, match=part, check=naming("config", str(tmp_path / "run.yaml"))):
        read_yaml(tmp_path / "run.yaml")
    with pytest.raises(ConfigError, check=naming("config", str(tmp_path / "none.yaml"))):
        read_yaml(tmp_path / "none.yaml")
