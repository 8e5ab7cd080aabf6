"""data.label=none: no labels, where a column or an array that is called like one would be taken for them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vaekit.runs import run
from vaekit.runs.factory import open_data

ROWS = 40


@pytest.fixture
def sources(tmp_path):
    rng = np.random.default_rng(0)
    a, kinds = rng.normal(size=ROWS), np.arange(ROWS) % 3
    (tmp_path / "t.csv").write_text("a,class\n" + "".join(f"{x},{k}\n" for x, k in zip(a, kinds, strict=True)))
    pq.write_table(pa.table({"a": a, "class": kinds}), tmp_path / "t.parquet")
    np.savez(tmp_path / "t.npz", X=rng.normal(size=(ROWS, 2)), y=kinds)
    np.save(tmp_path / "t.npy", rng.normal(size=(ROWS, 2)))
    return tmp_path


@pytest.mark.parametrize("word", ["data.label=none", "data.label=", "data.label=null", "label=none", "data.label=''"])
@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.npz", "t.npy", "digits"])
def test_no_label_is_said_in_any_of_its_words(sources, name, word):
    source = name if name == "digits" else str(sources / name)
    _, found = open_data(run(source, word))
    assert found.schema.classes is None
    assert found.schema.columns is None or "class" in found.schema.columns or name in ("t.npz", "t.npy")
    if name in ("t.csv", "t.parquet"):
        _, looked_for = open_data(run(source))
        assert (looked_for.schema.classes, looked_for.schema.columns) == (("0", "1", "2"), ("a",))
        assert found.schema.columns == ("a", "class")
