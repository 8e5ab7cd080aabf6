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
    with refused(DataError, "column 'a' is the first of 1 cell"):
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


def with_cells(cells: dict[int, str], whole: bool = False) -> list:
    """Numbers, but for some cells."""
    found = list(range(100)) if whole else numbers()
    return [cells.get(row, number) for row, number in enumerate(found)]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("context", [(), ("a",)])
def test_a_text_among_numbers_is_named_with_its_row(tmp_path, whole, context):
    path = write(tmp_path, "t.csv", text("a,b,c", with_cells({41: "oops", 60: "n/d"}, whole), numbers(), numbers()))
    with refused(
        DataError, "'a'", "'oops' in row 41 ", r'missing_values=\["oops"\]', check=naming("DataSpec.columns", "a")
    ):
        prepared(path, context=context)
    read = prepared(path, missing_values=("oops",))
    assert {field.name: field.kind for field in read.schema.fields or ()}["a"] == ("count" if whole else "real")
    assert prepared(path, drop=("a",)).schema.columns == ("b", "c")
    assert prepared(path, columns={"a": "ignore"}).schema.columns == ("b", "c")


@pytest.mark.parametrize("text_of_hole", ["n/d", "-", "N.A.", "missing"])
def test_what_is_usual_for_missing_cells_is_missing_among_numbers(tmp_path, text_of_hole):
    cells = [text_of_hole if row % 7 == 0 else cell for row, cell in enumerate(numbers())]
    path = write(tmp_path, "t.csv", text("a,b", cells, numbers()))
    read = prepared(path)
    assert [field.kind for field in read.schema.fields or ()] == ["real", "real"]
    assert read.schema.missing
    assert any(repr(text_of_hole) in notice and "(15)" in notice for notice in read.schema.notices)
    with refused(DataError, "row 0 ", "first of 15 cells that are missing"):
        prepared(path, missing="refuse")


def test_texts_among_names_of_categories_stay(tmp_path):
    words = [("-", "x", "12")[row % 3] for row in range(100)]
    path = write(tmp_path, "t.csv", text("a,b", words, numbers()))
    found = {field.name: field.categories for field in prepared(path).schema.fields or ()}
    assert found["a"] == ("-", "12", "x")


def test_missing_values_come_on_top_of_the_usual_ones(tmp_path):
    path = write(tmp_path, "t.csv", text("a,b", with_cells({3: "?", 5: "-999"}), numbers()))
    read = prepared(path, missing_values=("-999",))
    assert [field.kind for field in read.schema.fields or ()] == ["real", "real"]
