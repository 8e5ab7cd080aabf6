"""What the values of a data set are, to a model: supports, scaling, and bad cells."""

import numpy as np
import pytest
import torch
from preparing import GREY, TABLE, refused

from naming import naming
from vaekit.data import Binary, Count, Levels, Limit, Real, Unit
from vaekit.errors import DataError, SpecError

# Supports and scaling.


@pytest.mark.parametrize(
    ("array", "stored"),
    [
        (GREY, Levels(256)),
        (GREY.astype(np.int32) // 20, Levels(13)),
        (GREY.astype(np.int32) * 2, Real()),
        (GREY.astype(np.int16) - 5, Real()),
        (GREY / 255, Unit()),
        (GREY.astype(np.float32), Real()),
        (GREY > 99, Binary()),
        ((GREY > 99) * 1.0, Binary()),
        (GREY.reshape(40, -1), Real()),
        (GREY.reshape(40, -1) / 255, Real()),
        (GREY.reshape(40, -1) > 99, Binary()),
        (TABLE, Real()),
    ],
)
def test_inferred_support(make, array, stored):
    assert make(array).schema.stored == stored


def test_masks_in_black_and_white_are_named(make):
    masks = np.where(GREY > 99, 255, 0).astype(np.uint8)
    assert [text for text in make(masks).schema.notices if "DataSpec.binarise=threshold" in text]
    assert make(masks, binarise="threshold").schema.support == Binary()
    for other in (GREY, masks.astype(bool), np.where(np.arange(5) == 0, 7, masks).astype(np.uint8)):
        assert not [text for text in make(other).schema.notices if "threshold" in text]
    assert not make(masks, binarise="threshold").schema.notices


@pytest.mark.parametrize(
    ("array", "settings", "discrete", "support", "dtype"),
    [
        (GREY, {}, True, Levels(256), torch.int64),
        (GREY, {}, False, Unit(), torch.float32),
        (GREY, {"scale": "unit"}, True, Unit(), torch.float32),
        (GREY, {"scale": "none"}, False, Levels(256), torch.int64),
        (GREY, {"scale": "standard"}, True, Real(), torch.float32),
        (GREY, {"support": "count"}, False, Real(), torch.float32),
        (GREY, {"support": "count"}, True, Count(), torch.float32),
        (GREY, {"support": "count", "scale": "none"}, True, Count(), torch.float32),
        (GREY, {"support": "levels", "levels": 300}, True, Levels(300), torch.int64),
        (GREY.astype(float), {"support": "levels"}, False, Unit(), torch.float32),
        (GREY / 255, {}, False, Unit(), torch.float32),
        (GREY > 9, {}, False, Binary(), torch.float32),
        (TABLE, {}, True, Real(), torch.float32),
        (GREY.reshape(40, -1) // 90, {"support": "levels"}, True, Levels(3), torch.int64),
        (GREY.reshape(40, -1), {"support": "levels", "levels": 256, "scale": "standard"}, True, Real(), torch.float32),
        (GREY, {"binarise": "dynamic"}, True, Binary(), torch.float32),
        (GREY, {"binarise": "threshold"}, True, Binary(), torch.float32),
        (GREY / 255, {"binarise": "dynamic", "scale": "unit"}, True, Binary(), torch.float32),
    ],
)
def test_support_as_the_model_sees_it(make, array, settings, discrete, support, dtype):
    data = make(array, discrete=discrete, **settings)
    assert data.schema.support == support
    for rows in (data.train, data.valid, data.test):
        x = rows.batch(slice(None))
        assert x.dtype == dtype
        assert x.shape == (len(rows), *data.schema.shape)
        assert rows.shape == x.shape[1:]
        if isinstance(support, Unit):
            assert x.min() >= 0
            assert x.max() <= 1
        if isinstance(support, Binary):
            assert set(x.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("array", "settings"),
    [(TABLE, {}), (GREY, {"scale": "standard"}), (GREY, {"scale": "unit"}), (GREY, {}), (GREY / 255, {})],
)
def test_to_stored_undoes_the_scaling(make, array, settings):
    data = make(array, **settings)
    rows = np.concatenate([part.batch(slice(None)).numpy() for part in (data.train, data.valid, data.test)])
    stored = data.schema.to_stored(rows)
    found = np.sort(stored.reshape(len(stored), -1), axis=0)
    np.testing.assert_allclose(found, np.sort(array.reshape(len(array), -1), axis=0), rtol=1e-5, atol=1e-5)


def test_standardised_by_the_training_rows(make):
    data = make(TABLE, Limit(train=20))
    x = data.train.batch(slice(None)).double()
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(0, correction=0), 1, atol=1e-6)
    assert data.schema.scale is not None
    assert len(data.schema.scale) == 3


@pytest.mark.parametrize(
    ("array", "settings"),
    [
        (TABLE, {"scale": "unit"}),
        (GREY > 9, {"scale": "standard"}),
        (TABLE, {"binarise": "dynamic"}),
        (GREY > 9, {"binarise": "threshold"}),
        (GREY, {"scale": "standard", "binarise": "dynamic"}),
        (GREY, {"levels": 9}),
    ],
)
def test_settings_that_contradict_the_data(make, array, settings):
    field, value = next(iter(settings.items()))
    with pytest.raises(SpecError, check=naming(f"DataSpec.{field}", value)):
        make(array, **settings)


@pytest.mark.parametrize(
    ("support", "value", "rule"),
    [
        ({"support": "binary"}, 2, "0 or 1"),
        ({"support": "levels", "levels": 17}, 17, "from 0 to 16"),
        ({"support": "levels", "levels": 17}, -1, "from 0 to 16"),
        ({"support": "levels"}, 0.5, "an integer"),
        ({"support": "unit"}, 1.25, "from 0 to 1"),
        ({"support": "count"}, -3, "non-negative integer"),
        ({"support": "count"}, 1.5, "non-negative integer"),
    ],
)
def test_declared_support_is_held_to(make, support, value, rule):
    table = np.zeros((10, 3))
    table[4, 1] = value
    check = naming("DataSpec.support", support["support"])
    with refused(DataError, str(value), "row 4", "column 'column 1'", rule, check=check):
        make(table, **support)
    images = np.zeros((10, 5, 4))
    images[7, 2, 3] = value
    with refused(DataError, str(value), "image 7", r"channel 0, row 2, column 3", rule, check=check):
        make(images, **support)


# Bad cells.


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_cells_that_are_not_finite(make, value):
    table = TABLE.copy()
    table[[9, 30], 1] = value
    with refused(DataError, str(value), "row 9", "column 'column 1'", "2 cells", r'DataSpec.drop=\["column 1"\]'):
        make(table, missing="refuse")
    images = GREY / 255
    images[5, 1, 2] = value
    with refused(DataError, str(value), "image 5", r"pixel \(channel 0, row 1, column 2\)", "1 cell "):
        make(images, missing="refuse")
    with refused(DataError, "row 9 of the test set"):
        make({"X": TABLE, "X_test": table}, missing="refuse")
    assert len(make(table, drop=("column 1",)).train)


def test_a_column_that_is_constant_in_the_training_rows_alone_is_scaled_by_its_range(make):
    table = np.c_[np.full(50, 2.0), TABLE]
    other = table.copy()
    other[:, 0] = 2, 5, *[2] * 48
    for settings in ({}, {"scale": "standard"}):
        data = make({"X": table, "X_test": other}, **settings)
        assert data.schema.constants == ()
        assert data.schema.loc is not None
        assert data.schema.scale is not None
        assert (data.schema.loc[0], data.schema.scale[0]) == (2, 3)
        assert torch.equal(data.train.batch(slice(None))[:, 0], torch.zeros(len(data.train)))
        assert data.test.batch(slice(None))[:, 0].tolist() == [0, 1, *[0] * 48]


def test_cells_beyond_float32(make):
    table = TABLE.copy()
    table[3, 2] = 1e39
    with refused(DataError, r"1e\+39", "row 3", "column 'column 2'", "32-bit"):
        make(table)


def test_outliers_are_defined_behaviour(make):
    table = TABLE.copy()
    table[3, 2] = 1e30
    data = make(table)
    assert all(torch.isfinite(rows.batch(slice(None))).all() for rows in (data.train, data.valid, data.test))
    tiny = TABLE * 1e-30
    test = tiny.copy()
    test[0, 0] = 1e30
    with refused(DataError, "column 'column 0'", "overflow", "leave the row out"):
        make({"X": tiny, "X_test": test})


@pytest.mark.parametrize(
    ("kind", "value", "differ"), [("f8", 0.3, 1e-15), ("f8", 1e6, 1e-9), ("f8", 1e-20, 3e-35), ("f4", 0.3, 3e-8)]
)
def test_columns_that_differ_by_rounding_alone_are_constant(make, kind, value, differ):
    noise = differ * np.random.default_rng(0).choice([-1, 0, 1], 50)
    table = np.c_[TABLE[:, :1], value + noise, TABLE[:, 1:]].astype(kind)
    with refused(DataError, "the column 'column 1' is constant", r'DataSpec.drop=\["column 1"\]'):
        make(table, scale="standard")
    schema = make(table).schema
    assert [constant.name for constant in schema.constants] == ["column 1"]
    assert schema.notices == ("not modelled, and put back into samples: 'column 1' (constant)",)


@pytest.mark.parametrize("other", [0.3 + 1e-9, 5.0, 1e9])
def test_of_a_column_that_is_constant_but_in_one_row_nothing_is_scaled_by_rounding(make, other):
    """Wherever that row is: in training, it is what the column varies by; else its range is, in all rows."""
    table = np.c_[TABLE[:, :1], np.full(50, 0.3), TABLE[:, 1:]]
    numbered = make(np.arange(50.0)[:, None] * [1.0, -2.0], scale="none")
    trained = set(numbered.train.batch(slice(None))[:, 0].long().tolist())
    for row in range(10):
        table[:, 1] = 0.3 + 1e-16 * (np.arange(50) % 2)
        table[row, 1] = other
        if row in trained:
            assert make(table).schema.scale[1] == pytest.approx(np.std([other, *[0.3] * 39]), rel=1e-6)
        else:
            assert make(table).schema.scale[1] == pytest.approx(abs(other - 0.3), rel=1e-6)


def test_columns_that_differ_by_little_are_data(make):
    table = np.c_[TABLE[:, :1], 0.3 + 1e-6 * TABLE[:, 0], TABLE[:, 1:]]
    assert make(table).schema.shape == (4,)
    doubles = np.c_[TABLE[:, :1], 0.3 + 1e-12 * TABLE[:, :1], 1e8 + 0.01 * TABLE[:, :1], 1e-20 * TABLE[:, :1]]
    assert make(doubles).schema.shape == (4,)
    stamps = np.c_[TABLE[:, :1], 1.7e9 + np.arange(50)]
    assert make(stamps).schema.shape == (2,)


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16])
def test_whole_numbers_over_all_of_their_range_are_data(make, kind):
    ends = np.iinfo(kind)
    spread = np.array([ends.min, ends.max, ends.max // 2], dtype=kind)
    table = np.c_[np.resize(spread, 50), np.arange(50) % 7].astype(kind)
    assert make(table, support="real", scale="standard").schema.shape == (2,)


def test_constant_columns(make):
    table = np.c_[TABLE[:, :1], np.full(50, 0.1), TABLE[:, 1:], np.zeros(50)]
    with refused(DataError, "2 columns are constant", r'DataSpec.drop=\["column 1", "column 4"\]'):
        make(table, scale="standard")
    with refused(DataError, "the column 'column 4' is constant in the 40 training rows"):
        make(table, drop=("column 1",), scale="standard")
    assert make(table).schema.shape == (3,)
    assert [(one.name, one.value) for one in make(table).schema.constants] == [("column 1", 0.1), ("column 4", 0.0)]
    assert make(table, scale="none").schema.shape == (5,)
    with refused(DataError, "every column is constant"):
        make(np.full((9, 2), 5.0))
    with refused(DataError, "every pixel"):
        make(np.full((9, 2, 2), 5.0))
    with refused(DataError, "one training row"):
        make(TABLE, Limit(train=1))
