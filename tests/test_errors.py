"""Errors are compared by kind, and by the field and value that they name."""

import pickle

import pytest

from vaekit.cli.writing import check_out
from vaekit.errors import ConfigError, DataError, NotApplicable, SpecError, VaekitError
from vaekit.evaluation import Annealing
from vaekit.runs import make_run


def test_a_spec_names_the_setting_that_it_refuses():
    with pytest.raises(SpecError) as refused:
        Annealing(chains=0)
    assert (refused.value.field, refused.value.value) == ("chains", 0)


@pytest.mark.parametrize(
    ("tree", "field", "value"),
    [
        ({"train": {"epochs": -1}}, "train.epochs", -1),
        ({"model": {"latent": "many"}}, "model.latent", "many"),
        ({"train": {"epoch": 3}}, "train.epoch", 3),
    ],
)
def test_a_configuration_names_its_first_mistake(tree, field, value):
    with pytest.raises(ConfigError) as refused:
        make_run(tree)
    assert (refused.value.field, refused.value.value) == (field, value)


def test_an_output_that_cannot_be_written_is_named(tmp_path):
    for path in (tmp_path / "x.txt", tmp_path / "none" / "x.npy", tmp_path):
        with pytest.raises(ConfigError) as refused:
            check_out(path, (".npy",))
        assert (refused.value.field, refused.value.value) == ("out", path)


@pytest.mark.parametrize("kind", [SpecError, DataError, NotApplicable])
def test_errors_of_the_library_are_value_errors(kind):
    assert issubclass(kind, ValueError)
    assert issubclass(kind, VaekitError)


def test_errors_keep_their_field_between_processes():
    error = pickle.loads(pickle.dumps(ConfigError("--rows is 0", field="rows", value=0)))
    assert (str(error), error.field, error.value) == ("--rows is 0", "rows", 0)
