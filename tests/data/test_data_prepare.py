"""From a spec to splits: no row twice, limits that leave the test set alone; the schema; real files."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from preparing import GREY, TABLE, refused
from sklearn.datasets import load_digits

from naming import naming
from vaekit.data import Binary, Count, DataSpec, Levels, Limit, Real, Rows, Schema, Unit, prepare
from vaekit.data.open import open_table
from vaekit.errors import DataError, ModelFileError, SpecError
from vaekit.runs import TrainingRun, make_run

NUMBERED = np.arange(60.0)[:, None] * [1.0, -2.0] + 7


def numbers(rows: Rows) -> list[int]:
    """Which rows of NUMBERED these are; rows of a test set are numbered from 1000."""
    return [round(float(row[0]) - 7) for row in rows.batch(slice(None))]


# Splits.


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(3, 60),
    tests=st.sampled_from([0, 0, 2, 20]),
    valid=st.floats(0.01, 0.45),
    test=st.floats(0.01, 0.45),
    seed=st.integers(0, 2**40),
    valid_from=st.sampled_from(["train", "test"]),
)
def test_every_row_is_in_one_split_and_the_seed_decides(tmp_path_factory, n, tests, valid, test, seed, valid_from):
    path = tmp_path_factory.getbasetemp() / "split.npz"
    arrays = {"X": NUMBERED[:n]} | ({"X_test": NUMBERED[:tests] + 1000} if tests else {})
    np.savez(path, **arrays)
    settings = {"valid_fraction": valid, "test_fraction": test, "valid_from": valid_from, "scale": "none"}
    spec = DataSpec(source=str(path), seed=seed, **settings)
    data = prepare(spec, Limit())
    parts = [numbers(rows) for rows in (data.train, data.valid, data.test)]
    assert sorted(parts[0] + parts[1] + parts[2]) == [*range(n), *range(1000, 1000 + tests)]
    assert all(parts)
    assert parts[2] == sorted(parts[2])
    if tests:
        from_test = [row for row in parts[1] if row >= 1000]
        assert len(from_test) == (len(parts[1]) if valid_from == "test" else 0)
    again = prepare(spec, Limit(train=1, valid=1))
    assert numbers(again.train) == parts[0][:1]
    assert numbers(again.valid) == parts[1][:1]
    assert numbers(again.test) == parts[2]


def test_seeds_and_fractions(make):
    data = make(NUMBERED, scale="none", valid_fraction=0.2, test_fraction=0.3)
    assert (len(data.train), len(data.valid), len(data.test)) == (30, 12, 18)
    other = make(NUMBERED, scale="none", valid_fraction=0.2, test_fraction=0.3, seed=1)
    assert numbers(other.test) != numbers(data.test)
    fewer = make(NUMBERED, scale="none", valid_fraction=0.1, test_fraction=0.3)
    assert numbers(fewer.test) == numbers(data.test)
    assert numbers(data.train) != sorted(numbers(data.train))
    assert "12 and 18 of 60 rows" in data.schema.protocol
    assert "split seed 0" in data.schema.protocol


@pytest.mark.parametrize("limit", [Limit(), Limit(train=4), Limit(valid=2)])
@pytest.mark.parametrize("tests", [0, 20])
@pytest.mark.parametrize("valid_from", ["train", "test"])
@pytest.mark.parametrize("test_fraction", [0, 0.2])
def test_without_validation_rows_all_train_and_some_of_them_stand_in(make, limit, tests, valid_from, test_fraction):
    arrays = {"X": NUMBERED} | ({"X_test": NUMBERED[:tests] + 1000} if tests else {})
    data = make(arrays, limit, scale="none", valid_fraction=0, test_fraction=test_fraction, valid_from=valid_from)
    train, valid, test = (numbers(rows) for rows in (data.train, data.valid, data.test))
    assert len(test) == (tests or 60 * test_fraction)
    assert valid
    assert set(valid) <= set(train)
    assert not set(test) & set(train)
    if limit.train is None:
        assert sorted(train + (test if not tests else [])) == [*range(60)]
    assert len(train) == (limit.train or 60 - (0 if tests else len(test)))
    assert "no rows are kept out for validation" in data.schema.protocol


def test_without_validation_rows_all_are_streamed(make):
    data = make(NUMBERED, scale="none", valid_fraction=0, stream="always")
    train, test = set(numbers(data.train.at(torch.arange(54)))), set(numbers(data.test))
    assert train == {*range(60)} - test
    assert set(numbers(data.valid)) < train


def test_labels_go_with_their_rows(make):
    labels = np.arange(60) % 7
    data = make({"X": NUMBERED, "y": labels}, scale="none")
    for rows in (data.train, data.valid, data.test):
        assert rows.labels is not None
        assert rows.labels.dtype == torch.int64
        assert rows.labels.tolist() == labels[numbers(rows)].tolist()


def test_limits_are_upper_bounds(make):
    data = make(NUMBERED, Limit(train=49, valid=7))
    assert (len(data.train), len(data.valid)) == (48, 6)
    assert "limited" not in data.schema.protocol
    assert "limited to 5 training rows" in make(NUMBERED, Limit(train=5, valid=7)).schema.protocol
    assert "limited to 5 training and 2 validation rows" in make(NUMBERED, Limit(train=5, valid=2)).schema.protocol


@pytest.mark.parametrize("rows", [1, 2])
def test_too_few_rows(make, rows):
    with refused(DataError, f"has {rows} row", "at least one row each"):
        make(NUMBERED[:rows])
    with refused(DataError, "1 training and 5 test rows"):
        make({"X": NUMBERED[:1], "X_test": NUMBERED[:5]})
    with refused(DataError, "5 training and 1 test rows"):
        make({"X": NUMBERED[:5], "X_test": NUMBERED[:1]}, valid_from="test")


def test_fractions_that_leave_nothing(make):
    with pytest.raises(SpecError, check=naming("DataSpec.valid_fraction", 0.6)):
        make(NUMBERED, valid_fraction=0.6, test_fraction=0.5)


# The spec.


def test_no_source():
    with pytest.raises(SpecError, check=naming("DataSpec.source", None)):
        prepare(DataSpec(), Limit())


@pytest.mark.parametrize(
    "settings",
    [{"valid_fraction": -0.1}, {"test_fraction": 1}, {"levels": 1}, {"seed": -1}, {"support": "x"}, {"unknown": 1}],
)
def test_specs_are_checked(settings):
    with pytest.raises(SpecError, check=naming(*next(iter(settings.items())))):
        DataSpec(**settings)
    with pytest.raises(SpecError, check=naming("train", 0)):
        Limit(train=0)


# The schema.


@pytest.mark.parametrize(
    ("array", "settings"), [(TABLE, {}), (GREY, {"scale": "unit"}), (GREY, {"binarise": "dynamic"})]
)
def test_schema_round_trip(make, array, settings):
    labels = np.array([f"kind {i % 3} é" for i in range(len(array))])
    schema = make({"X": array, "y": labels}, **settings).schema
    assert Schema.from_json(schema.to_json()) == schema
    assert '"format_version": 1' in schema.to_json()
    assert schema.classes == ("kind 0 é", "kind 1 é", "kind 2 é")


def test_schema_of_another_kind_is_refused(make):
    text = make(TABLE).schema.to_json()
    with refused(ModelFileError, "format_version"):
        Schema.from_json(text.replace('"format_version": 1', '"format_version": 2'))
    for bad in ("", "{}", "[]", text[:40], text.replace('"name"', '"nom"'), text.replace('"real"', '"surreal"')):
        with pytest.raises(ModelFileError):
            Schema.from_json(bad)


def test_supports_read_well():
    shown = [str(support) for support in (Binary(), Levels(17), Unit(), Real(), Count())]
    assert shown == ["binary", "17 levels (0 to 16)", "unit interval [0, 1]", "real", "counts"]


def test_fingerprint_changes_with_the_data_only(make):
    labels = np.arange(50) % 3
    prints = [
        make({"X": TABLE, "y": labels}).schema.fingerprint,
        make({"X": TABLE + np.eye(50, 3), "y": labels}).schema.fingerprint,
        make({"X": TABLE, "y": labels[::-1]}).schema.fingerprint,
        make({"X": TABLE}).schema.fingerprint,
        make({"X": TABLE.astype("f4"), "y": labels}).schema.fingerprint,
        make({"X": TABLE[:30], "X_test": TABLE[30:]}).schema.fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    assert make({"X": TABLE, "y": labels}, Limit(train=9), seed=3, scale="none").schema.fingerprint == prints[0]


# Real files.

FOLDER = os.environ.get("VAEKIT_DATA")
needs_data = [pytest.mark.needs_data, pytest.mark.skipif(FOLDER is None, reason="VAEKIT_DATA is not set")]


@pytest.mark.parametrize(
    ("name", "rows", "columns", "drop"),
    [
        pytest.param(*row, marks=needs_data)
        for row in [
            ("18_Ionosphere", 351, 32, ()),
            ("26_optdigits", 5216, 62, ("column 0", "column 39")),
            ("28_pendigits", 6870, 16, ()),
            ("2_annthyroid", 7200, 6, ()),
            ("30_satellite", 6435, 36, ()),
            ("32_shuttle", 49097, 9, ()),
            ("38_thyroid", 3772, 6, ()),
            ("45_wine", 129, 13, ()),
            ("4_breastw", 683, 9, ()),
            ("6_cardio", 1831, 21, ()),
        ]
    ],
)
def test_anomaly_sets(name, rows, columns, drop):
    spec = DataSpec(source=f"{FOLDER}/anomaly/{name}.npz", drop=drop)
    if drop:
        with refused(DataError, "2 columns are constant", '"column 0", "column 39"'):
            prepare(DataSpec(source=spec.source, scale="standard"), Limit())
        aside = prepare(DataSpec(source=spec.source), Limit()).schema
        assert aside.columns == prepare(spec, Limit()).schema.columns
        assert [constant.name for constant in aside.constants] == list(drop)
    data = prepare(spec, Limit())
    assert len(data.train) + len(data.valid) + len(data.test) == rows
    assert data.schema.shape == (columns,)
    assert data.schema.classes == ("0", "1")
    assert data.schema.support == Real()
    x = data.train.batch(slice(None)).double()
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(0, correction=0), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "first"),
    [pytest.param("mnist", "0", marks=needs_data), pytest.param("fashion-mnist", "T-shirt", marks=needs_data)],
)
def test_idx_sets(name, first):
    data = prepare(DataSpec(source=name, valid_from="test"), Limit(train=500, valid=100))
    assert (len(data.train), len(data.valid), len(data.test)) == (500, 100, 9000)
    assert data.schema.shape == (1, 28, 28)
    assert data.schema.classes is not None
    assert (len(data.schema.classes), data.schema.classes[0]) == (10, first)


def test_errors_name_fields_in_python_and_settings_in_a_run():
    with pytest.raises(SpecError, match=r"^DataSpec\.drop=", check=naming("DataSpec.drop", ["a"])):
        prepare(DataSpec(source="digits", drop=("a",)), Limit())
    with pytest.raises(SpecError, match=r"^data\.drop=", check=naming("data.drop", ["a"])):
        TrainingRun.start(make_run({"data": {"source": "digits", "drop": ["a"]}}))


def test_digits_are_those_of_scikit_learn() -> None:
    images, digits = load_digits(return_X_y=True)
    table = open_table(DataSpec(source="digits"), Limit())
    assert np.array_equal(np.asarray(table.read(0)).reshape(-1, 64), images)
    assert table.labels is not None
    assert np.array_equal(table.labels, digits)
