"""What is said of tables as people have them is true, and names the cell, the column and the setting."""

import numpy as np
import pytest
from preparing import refused
from reading import write

from naming import naming
from vaekit.data import Dataset, DataSpec, Limit, prepare
from vaekit.errors import DataError

RNG = np.random.default_rng(0)


def prepared(path, **settings) -> Dataset:
    return prepare(DataSpec(source=str(path), **settings), Limit())


def text(header: str, *columns) -> str:
    """A CSV file of columns."""
    return header + "\n" + "".join(",".join(map(str, row)) + "\n" for row in zip(*columns, strict=True))


def numbers(rows: int = 100) -> list:
    return np.round(RNG.normal(size=rows), 3).tolist()


def test_columns_that_are_left_out_may_miss_cells_where_none_may_be_missing(tmp_path):
    dates = [f"2020-01-{1 + day % 28:02}" for day in range(100)]
    whole = write(tmp_path, "whole.csv", text("date,a,b", dates, numbers(), numbers()))
    assert prepared(whole, missing="refuse").schema.columns == ("a", "b")
    a, b = numbers(), numbers()
    a[7], b[5], b[9] = "", "", ""
    holes = write(tmp_path, "holes.csv", text("date,a,b", dates, a, b))
    with refused(DataError, "row 5 .*column 'b' is the first of 3 cells", check=naming("DataSpec.missing", "refuse")):
        prepared(holes, missing="refuse")
    with refused(DataError, "column 'a' is the first of 1 cells"):
        prepared(holes, missing="refuse", drop=("b",))


@pytest.mark.parametrize(("given", "word"), [(True, "yes"), (False, "no"), ("yes", "yes"), ("auto", "auto")])
def test_yes_and_no_may_be_given_as_yaml_reads_them(given, word):
    assert DataSpec(header=given).header == word


def test_a_header_of_numbers_is_pointed_out(tmp_path):
    years = write(tmp_path, "years.csv", text("2019,2020,2021", numbers(), numbers(), numbers()))
    read = prepared(years)
    assert read.schema.columns == ("column 0", "column 1", "column 2")
    assert [notice for notice in read.schema.notices if "2019, 2020, 2021" in notice and "header=yes" in notice]
    named = prepared(years, header="yes")
    assert named.schema.columns == ("2019", "2020", "2021")
    assert not named.schema.notices
    assert not prepared(years, header="no").schema.notices


@pytest.mark.parametrize("first", ["3,2,1", "0.1,0.5,0.9", "-1,0,1"])
def test_numbers_that_may_be_a_row_are_one(tmp_path, first):
    rows = [RNG.normal(size=100).round(3) * 9 for _ in range(3)]
    assert not prepared(write(tmp_path, "t.csv", text(first, *rows))).schema.notices
