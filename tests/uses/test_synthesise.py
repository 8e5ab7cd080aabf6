"""Rows with some columns given are draws of the others beside these."""

import numpy as np
import pyarrow as pa
import pytest

from naming import naming
from vaekit import fit
from vaekit.errors import DataError
from vaekit.runs import TrainedRun, run

pytestmark = pytest.mark.usefixtures("one_thread")
ROWS = 2000


@pytest.fixture(scope="module")
def table() -> pa.Table:
    rng = np.random.default_rng(0)
    job = rng.choice(["clerk", "cook", "driver"], ROWS, p=[0.5, 0.4, 0.1])
    hours = np.where(job == "cook", 20 + 2 * rng.poisson(5, ROWS), 40)
    late = rng.random(ROWS) < np.where(hours == 40, 0.2, 0.7)
    return pa.table({"job": job, "hours": pa.array(hours, mask=rng.random(ROWS) < 0.1), "late": late})


@pytest.fixture(scope="module")
def trained(table) -> TrainedRun:
    return fit(
        run("train.epochs=25", "train.patience=null", "train.lr=0.005", preset="synthetic"), table, progress=False
    )


def share(table: pa.Table, of: str, value: object) -> float:
    return float(np.mean([one == value for one in table[of].to_pylist()]))


def test_samples_are_a_table_like_the_data_with_its_holes(table, trained):
    made = trained.sample(3000)
    assert made.column_names == table.column_names
    for column, value in (("job", "driver"), ("hours", 40), ("hours", None), ("late", True)):
        assert share(made, column, value) == pytest.approx(share(table, column, value), abs=0.04)
    cooks = [
        hours for job, hours in zip(made["job"].to_pylist(), made["hours"].to_pylist(), strict=True) if job == "cook"
    ]
    assert np.mean([hours != 40 for hours in cooks]) > 0.9


def test_what_is_given_moves_what_was_drawn_before_it(table, trained):
    made = trained.sample(800, given={"late": True}, seed=1)
    assert share(made, "late", True) == 1
    seen = table.filter(table["late"])
    assert share(made, "job", "cook") == pytest.approx(share(seen, "job", "cook"), abs=0.07)
    assert made.slice(0, 50).equals(trained.sample(50, given={"late": True}, seed=1))


@pytest.mark.parametrize(
    ("given", "field"), [({"work": "cook"}, "work"), ({"job": "pilot"}, "job"), ({"hours": "long"}, "hours")]
)
def test_values_that_no_row_has_are_refused(trained, given, field):
    with pytest.raises(DataError, check=naming(field)):
        trained.sample(5, given=given)
