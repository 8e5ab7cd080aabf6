"""Errors are compared by kind, and by the field and value that they name."""

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from naming import naming
from vaekit.cli.console.writing import check_out
from vaekit.errors import ConfigError, DataError, NotApplicable, SpecError, VaekitError
from vaekit.evaluation import Annealing
from vaekit.runs import Run, TrainingRun, make_run
from vaekit.setting_errors import all_paths

PACKAGE = Path(__file__).parents[1] / "src" / "vaekit"
OF_SURROUNDINGS = {  # functions that raise what no setting is to blame for: a missing package, torchrun, a folder gone
    "_by_soundfile",
    "_check_folder",
    "_opened",
    "check_built",
    "check_one_process",
    "check_onnx_installed",
    "check_ready",
    "open_hub",
    "piped",
    "write_h5ad",
}
OF_WORDS = {  # tests of what is said
    "test_a_missing_soundfile_is_one_line_with_what_brings_it",
    "test_a_part_that_is_made_wrongly_says_so_in_one_line_as_a_value_error",
    "test_all_mistakes_are_told_at_once",
    "test_each_mistake_is_named_with_value_rule_and_fix",
    "test_every_rule_of_the_table_refuses_some_settings",
    "test_hostile_settings_are_refused_at_once_in_two_lines_at_most",
    "test_hostile_words_are_refused_in_two_lines_at_most",
    "test_mistakes_in_the_settings_of_a_part_from_outside_are_explained_like_ours",
    "test_without_datasets_one_line_says_what_brings_it",
    "test_without_h5py_one_line_says_what_brings_it",
    "test_without_soundfile_one_line_says_what_brings_it",
    "test_without_the_extra_it_is_one_line",
}
LIBRARY = ("models", "objectives", "evaluation", "training", "samplers")  # and not runs, report and cli


def test_a_spec_names_the_setting_that_it_refuses():
    with pytest.raises(SpecError, check=naming("chains", 0)):
        Annealing(chains=0)


@pytest.mark.parametrize(
    ("tree", "field", "value"),
    [
        ({"train": {"epochs": -1}}, "train.epochs", -1),
        ({"model": {"latent": "many"}}, "model.latent", "many"),
        ({"train": {"epoch": 3}}, "train.epoch", 3),
    ],
)
def test_a_configuration_names_its_first_mistake(tree, field, value):
    with pytest.raises(ConfigError, check=naming(field, value)):
        make_run(tree)


def test_an_output_that_cannot_be_written_is_named(tmp_path):
    for path in (tmp_path / "x.txt", tmp_path / "none" / "x.npy", tmp_path):
        with pytest.raises(ConfigError, check=naming("out", path)):
            check_out(path, (".npy",))


@pytest.mark.parametrize("kind", [SpecError, DataError, NotApplicable])
def test_errors_of_the_library_are_value_errors(kind):
    assert issubclass(kind, ValueError)
    assert issubclass(kind, VaekitError)


def test_errors_keep_their_field_between_processes():
    error = pickle.loads(pickle.dumps(ConfigError("--rows is 0", field="rows", value=0)))
    assert (str(error), error.field, error.value) == ("--rows is 0", "rows", 0)


def calls(folder: Path, *called: str) -> Iterator[tuple[str, ast.Call]]:
    """The calls of these names in all functions of a folder's modules, each with the name of its function."""
    for module in sorted(folder.rglob("*.py")):
        for function in ast.walk(ast.parse(module.read_text())):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Call) and ast.unparse(node.func) in called:
                        yield function.name, node


def has(call: ast.Call, keyword: str) -> bool:
    return keyword in [given.arg for given in call.keywords]


def test_refusals_of_settings_name_them():
    refusals = calls(PACKAGE, "ConfigError", "SpecError")
    assert {function for function, call in refusals if not has(call, "field")} == OF_SURROUNDINGS


def test_refusals_of_settings_are_compared_by_what_they_name():
    refusals = [
        (function, call)
        for function, call in calls(Path(__file__).parent, "pytest.raises")
        if re.search(r"\b(ConfigError|SpecError)\b", ast.unparse(call.args[0]))
    ]
    assert {function for function, call in refusals if not has(call, "check")} == OF_WORDS


def texts(module: Path) -> Iterator[tuple[int, str]]:
    """The text constants of a module, without its docstrings, each with its line."""
    tree = ast.parse(module.read_text())
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.lineno, node.value


def words_of_settings() -> re.Pattern[str]:
    """The path of a setting, an option, or a command."""
    paths = "|".join(sorted(map(re.escape, (path for path in all_paths(Run) if "." in path)), key=len, reverse=True))
    commands = "|".join(path.stem for path in (PACKAGE / "cli").glob("*.py"))
    return re.compile(rf"(?<![\w./])({paths})(?![\w(])|(?<![\w-])--[a-z]|vaekit ({commands})\b")


def test_the_library_speaks_of_arguments_and_not_of_settings_options_or_commands():
    words = words_of_settings()
    assert all(
        map(words.search, ("set train.lr=1", "objective.elbo.beta is 2", "(--run-dir)", "as `vaekit train` does"))
    )
    assert not any(map(words.search, ("Train.lr is 1", "call model.draw(x)", "data.json", "a - b", "Elbo.beta=1")))
    found = [
        f"{module.relative_to(PACKAGE)}:{line}: {text}"
        for package in LIBRARY
        for module in sorted((PACKAGE / package).rglob("*.py"))
        for line, text in texts(module)
        if words.search(text)
    ]
    assert not found


def test_a_run_names_settings_where_the_library_names_arguments(tmp_path):
    run = make_run({"data": {"source": "digits"}, "train": {"lr": 10, "epochs": 1}, "run_dir": str(tmp_path / "run")})
    run = run.model_copy(update={"limit": type(run.limit)(train=40, valid=20)})
    training = TrainingRun.start(run)
    event = next(event for event in training.events() if event.finding)
    assert event.finding.fix == "train.lr=0.001"
    assert event.message == event.finding.text
    assert "train.lr is 10" in event.message
    with pytest.raises(ConfigError, match="give another run_dir, or", check=naming("run_dir", str(tmp_path / "run"))):
        TrainingRun.start(run)
