"""Tables of the hub, by a stand-in for the package datasets, and by that itself where it is installed."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from naming import naming
from vaekit.data import DataSpec, Limit, prepare
from vaekit.data.open import open_table
from vaekit.errors import ConfigError, DataError, SpecError

ARROW = pa.table({"size": np.arange(20.0), "label": [0, 1] * 10})


def split(arrow: pa.Table) -> SimpleNamespace:
    features = {"size": None, "label": SimpleNamespace(names=["cat", "dog"])}
    return SimpleNamespace(data=SimpleNamespace(table=arrow), features=features)


@pytest.fixture
def hub(monkeypatch) -> list:
    """A package whose data set has the splits train and test; the list gets what is loaded."""
    called = []

    def load_dataset(name: str, revision: str | None = None) -> dict:
        if name != "owner/pets":
            raise FileNotFoundError(f"no data set {name}\nand a long explanation")
        called.append((name, revision))
        return {"train": split(ARROW), "test": split(ARROW.slice(0, 6))}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return called


def opened(source: str, **settings):
    return open_table(DataSpec(source=source, **settings), Limit())


def test_splits_revisions_and_classes(hub):
    data = prepare(DataSpec(source="hf:owner/pets@abc"), Limit())
    assert hub == [("owner/pets", "abc")]
    assert data.schema.classes == ("cat", "dog")
    assert len(data.test) == 6
    assert "splits train and test, revision abc" in data.schema.protocol
    one = opened("hf:owner/pets:test")
    assert (len(one), one.test_rows) == (6, 0)
    assert "no revision is pinned" in one.notices[0]


@pytest.mark.parametrize(
    ("source", "said"),
    [("hf:owner/none", "cannot be had (no data set owner/none)"), ("hf:owner/pets:valid", "splits are train, test")],
)
def test_what_is_not_there_is_one_line(hub, source, said):
    with pytest.raises(DataError, match=re.escape(said), check=naming("DataSpec.source", source)) as caught:
        opened(source)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_none(hub):
    with pytest.raises(SpecError, check=naming("DataSpec.source", "hf:")):
        opened("hf:")


def test_without_datasets_one_line_says_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'vaekit[hub]'")):
        opened("hf:owner/pets")


def test_a_folder_through_the_package_itself(tmp_path: Path):
    pytest.importorskip("datasets", reason="the extra hub is not installed")
    (tmp_path / "train.csv").write_text("a,b\n" + "".join(f"{i},{i / 3}\n" for i in range(12)))
    assert len(opened(f"hf:{tmp_path}:train")) == 12
