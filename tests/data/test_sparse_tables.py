"""Sparse matrices: scipy's .npz, AnnData's .h5ad and tables of interactions, read as rows, and what is none."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reading import attempted, npz, refused, write
from scipy import sparse

from naming import naming
from vaekit.data import Binary, Count, DataSpec, Limit, Real, Rows, prepare
from vaekit.data.dataset import read_like
from vaekit.data.formats import h5ad
from vaekit.data.interactions import interactions_of
from vaekit.data.open import open_table
from vaekit.data.table import Table
from vaekit.errors import ConfigError, DataError, SpecError

COUNTS = np.random.default_rng(0).poisson(0.4, (40, 9)).astype(np.float32)
NAMES = [f"gene {i}" for i in range(9)]
TYPES = ["neuron", "muscle", "neuron", "skin"] * 10


def opened(path: Path, limit: Limit | None = None, **settings) -> Table:
    return open_table(DataSpec(source=str(path), **settings), limit or Limit())


@pytest.mark.parametrize("layout", ["csr", "csc", "coo"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i8", "|u1"])
def test_a_matrix_that_scipy_saved(tmp_path, layout, kind, dtype):
    matrix = getattr(sparse, f"{layout}_{kind}")(COUNTS).astype(np.dtype(dtype).newbyteorder("="))
    matrix.data = matrix.data.astype(dtype)
    sparse.save_npz(tmp_path / "a.npz", matrix)
    table = opened(tmp_path / "a.npz")
    np.testing.assert_array_equal(table.whole(), COUNTS)
    np.testing.assert_array_equal(table.pick([3, 1]).whole(), COUNTS[:, [3, 1]])
    assert table.whole().dtype == np.dtype(dtype).newbyteorder("=")
    assert table.streamable


def test_what_a_sparse_matrix_holds(tmp_path):
    for values, support in ((COUNTS, Count()), (COUNTS > 0, Binary()), (COUNTS / 3, Real())):
        sparse.save_npz(tmp_path / "a.npz", sparse.csr_array(values.astype(np.float32)))
        assert prepare(DataSpec(source=str(tmp_path / "a.npz")), Limit()).schema.stored == support
    sparse.save_npz(tmp_path / "a.npz", sparse.csr_array(COUNTS))
    of_file = prepare(DataSpec(source=str(tmp_path / "a.npz")), Limit())
    in_memory = prepare(DataSpec(), Limit(), data=sparse.csr_array(COUNTS))
    assert of_file.schema.stored == in_memory.schema.stored
    np.testing.assert_array_equal(of_file.train.batch(slice(None)), in_memory.train.batch(slice(None)))
    of_torch = prepare(DataSpec(), Limit(), data=torch.from_numpy(COUNTS).to_sparse())
    assert of_torch.schema == in_memory.schema
    np.testing.assert_array_equal(of_torch.train.batch(slice(None)), in_memory.train.batch(slice(None)))


GOOD = {
    "format": np.array(b"csr"),
    "shape": np.array([3, 4]),
    "data": np.ones(3),
    "indices": np.array([0, 1, 3]),
    "indptr": np.array([0, 1, 2, 3]),
}
BAD = {
    "another format": ({"format": np.array(b"bsr")}, "csr, csc, coo are read"),
    "a format that is a number": ({"format": np.array(3)}, "csr, csc, coo are read"),
    "a shape of three": ({"shape": np.array([3, 4, 5])}, "two integers are needed"),
    "no rows": ({"shape": np.array([0, 4])}, "rows and columns are needed"),
    "fewer rows": ({"shape": np.array([2, 4])}, "not those of a sparse matrix"),
    "an enormous number of rows": ({"shape": np.array([1 << 60, 4])}, "Limit.data_gb"),
    "an enormous number of columns": ({"shape": np.array([3, 1 << 60])}, "at most 1,000,000 are read"),
    "a column beyond": ({"indices": np.array([0, 1, 4])}, "not those of a sparse matrix"),
    "a negative column": ({"indices": np.array([0, 1, -1])}, "not those of a sparse matrix"),
    "rows that fall": ({"indptr": np.array([0, 2, 1, 3])}, "not those of a sparse matrix"),
    "rows that end early": ({"indptr": np.array([0, 1, 2, 2])}, "not those of a sparse matrix"),
    "indices that are not whole": ({"indices": np.array([0.0, 1.0, 3.0])}, "not integers"),
    "texts": ({"data": np.array(["a", "b", "c"])}, "one array of numbers is needed"),
}


@pytest.mark.parametrize("name", BAD)
def test_arrays_that_are_no_matrix_are_one_line(tmp_path, name):
    changed, said = BAD[name]
    assert len(opened(write(tmp_path, "a.npz", npz(**GOOD)))) == 3
    refused(write(tmp_path, "b.npz", npz(**{**GOOD, **changed})), said)


def test_an_archive_that_lacks_indices_is_one_line(tmp_path):
    arrays = {name: array for name, array in GOOD.items() if name != "indices"}
    refused(write(tmp_path, "a.npz", npz(**arrays)), "lacks the array 'indices'")
    places = {"format": np.array(b"coo"), "row": np.array([0, 1]), "col": np.array([0, 1]), "data": np.ones(2)}
    refused(write(tmp_path, "b.npz", npz(shape=np.array([1 << 40, 4]), **places)), check=naming("Limit.data_gb", 1.0))


h5py = pytest.importorskip("h5py")


def write_texts(group, name: str, texts: list[str]) -> None:
    group.create_dataset(name, data=texts, dtype=h5py.string_dtype())


def write_matrix(group, name: str, values: np.ndarray, layout: str = "csr") -> None:
    if layout == "dense":
        group.create_dataset(name, data=values, chunks=(7, 9), compression="gzip")
        return
    matrix = sparse.csr_array(values) if layout == "csr" else sparse.csc_array(values)
    part = group.create_group(name)
    part.attrs["encoding-type"], part.attrs["shape"] = f"{layout}_matrix", matrix.shape
    for piece in ("data", "indices", "indptr"):
        part.create_dataset(piece, data=getattr(matrix, piece))


def write_h5ad(path: Path, values: np.ndarray = COUNTS, layout: str = "csr", names: list[str] = NAMES) -> Path:
    with h5py.File(path, "w") as file:
        write_matrix(file, "X", values, layout)
        var, obs = file.create_group("var"), file.create_group("obs")
        var.attrs["_index"] = obs.attrs["_index"] = "_index"
        write_texts(var, "_index", names)
        write_texts(obs, "_index", [f"cell {i}" for i in range(len(values))])
        kind = obs.create_group("cell_type")
        write_texts(kind, "categories", ["muscle", "neuron", "skin"])
        kind.create_dataset("codes", data=np.array([["muscle", "neuron", "skin"].index(one) for one in TYPES], "i1"))
        batch = obs.create_group("batch")
        write_texts(batch, "categories", ["a", "b"])
        batch.create_dataset("codes", data=np.array([-1, 0, 1, 1] * 10, "i1"))
        obs.create_dataset("age", data=np.arange(40.0))
        write_texts(obs, "tissue", ["leg", "head"] * 20)
    return path


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_cells_and_genes(tmp_path, layout):
    path = write_h5ad(tmp_path / "a.h5ad", layout=layout)
    table = opened(path)
    np.testing.assert_array_equal(table.whole(), COUNTS)
    assert table.names == tuple(NAMES)
    assert (table.stored, table.classes) == (Count(), ("muscle", "neuron", "skin"))
    assert table.labels is not None
    assert [("muscle", "neuron", "skin")[label] for label in table.labels] == TYPES
    assert opened(path, label="none").labels is None
    assert opened(path, label="tissue").classes == ("head", "leg")
    assert opened(path, label="age").classes == tuple(str(i) for i in range(40))


def test_columns_of_obs_as_context(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad")
    spec = DataSpec(source=str(path), context=("batch", "age", "tissue"), missing="mask")
    data = prepare(spec, Limit())
    context = data.schema.context
    assert data.schema.columns == tuple(NAMES)
    assert data.schema.stored == Count()
    assert context is not None
    assert [field.name for field in context.fields] == ["batch", "age", "tissue"]
    assert context.fields[0].categories == ("a", "b")
    again = read_like(str(path), spec, data.schema, Limit())
    assert isinstance(again, Rows)
    assert again.context is not None
    assert again.context.shape == (40, len(context.names))
    np.testing.assert_array_equal(again.batch(slice(None)), COUNTS)
    known = again.context[:, :3].numpy()  # a, b, and neither
    np.testing.assert_array_equal(known[:4], [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0]])


def test_where_the_counts_are(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad", COUNTS / 3)
    assert opened(path).stored == Real()
    with h5py.File(path, "a") as file:
        write_matrix(file, "raw/X", COUNTS)
        file["raw/var"] = file["var"]
    assert opened(path).stored == Count()
    assert "raw.X" in opened(path).notices[0]
    with h5py.File(path, "a") as file:
        write_matrix(file, "layers/counts", 2 * COUNTS)
    np.testing.assert_array_equal(opened(path).whole(), 2 * COUNTS)


def test_genes_of_one_name_are_distinguished(tmp_path):
    names = ["a", "a", "b", "a-1", "a", *NAMES[5:]]
    table = opened(write_h5ad(tmp_path / "a.h5ad", names=names))
    found = list(table.names or ())
    assert len(set(found)) == 9
    assert (found[0], found[2], found[3]) == ("a", "b", "a-1")
    assert "distinguished" in table.notices[0]


def test_a_column_of_obs_that_is_not_there_is_named(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad")
    refused(path, "did you mean cell_type?", check=naming("DataSpec.label", "cell_typ"), label="cell_typ")


def test_without_h5py_one_line_says_what_brings_it(tmp_path, monkeypatch):
    path = write_h5ad(tmp_path / "a.h5ad")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"a\.h5ad is read by .* not installed: pip install 'vaekit\[cells\]'$"):
        opened(path)


def test_files_that_are_no_cells_are_one_line(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad")
    content = path.read_bytes()
    for length in (100, len(content) // 2, len(content) - 100):
        refused(write(tmp_path, "b.h5ad", content[:length]), "b.h5ad")
    with h5py.File(tmp_path / "c.h5ad", "w") as file:
        file.create_dataset("elsewhere", data=COUNTS)
    refused(tmp_path / "c.h5ad", "it holds no matrix X")
    with h5py.File(path, "a") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink("b.h5ad", "X")
    refused(path, "another file, which is not followed")


def test_names_that_unpack_to_gigabytes_are_refused_at_once(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(path, "r+") as file:
        del file["var/_index"]
        index = file["var"].create_dataset("_index", (len(NAMES),), "S100000000", chunks=(1,), compression="gzip")
        file["var"].attrs["_index"] = index.name.rpartition("/")[2]
    refused(path, "holds more than")


def test_a_matrix_of_zeros_that_unpacks_to_terabytes_is_refused_at_once(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(path, "a") as file:
        del file["X"]
        file.create_dataset("X", (1 << 32, 9), "f8", chunks=(1 << 16, 9), compression="gzip")
    refused(path, check=naming("Limit.data_gb", 1.0))
    with h5py.File(path, "a") as file:
        del file["X"]
        write_matrix(file, "X", COUNTS)
        del file["X/data"]
        file.create_dataset("X/data", (1 << 40,), "f8", chunks=(1 << 16,), compression="gzip")
    refused(path, "would unpack to")


@pytest.mark.parametrize("seed", range(12))
def test_damaged_bytes_are_read_or_one_line(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(h5ad, "SECONDS", 3)  # over some of these, HDF5 does not come to its end
    content = bytearray(write_h5ad(tmp_path / "a.h5ad").read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(content), 40):
        content[place] = rng.integers(256)
    table = attempted(write(tmp_path, "b.h5ad", bytes(content)))
    if isinstance(table, str):
        assert "\n" not in table
        assert "b.h5ad" in table
    else:
        assert table.whole().shape == (len(table), len(table.names or ()))


LOG = "uid,iid,stars\n3,b,5\n1,a,2\n3,a,1\n1,a,3\n2,c,4\n"


def test_users_are_rows_and_items_columns(tmp_path):
    path = write(tmp_path, "a.csv", LOG)
    table = opened(path, rows="uid", items="iid")
    assert table.names == ("a", "b", "c")
    assert table.stored == Binary()
    np.testing.assert_array_equal(table.whole(), [[1, 0, 0], [0, 0, 1], [1, 1, 0]])
    assert "1 interaction repeats another of the same user and item: counted once" in table.notices[0]
    rated = opened(path, rows="uid", items="iid", values="stars")
    np.testing.assert_array_equal(rated.whole(), [[5, 0, 0], [0, 0, 4], [1, 5, 0]])
    assert rated.stored == Count()
    assert "3 users (uid) and 3 items (iid)" in rated.note
    data = prepare(DataSpec(source=str(path), rows="uid", items="iid"), Limit())
    assert data.schema.columns == ("a", "b", "c")


def test_another_file_has_the_same_items_by_the_same_numbers(tmp_path):
    spec = DataSpec(source=str(write(tmp_path, "a.csv", LOG)), rows="uid", items="iid")
    schema = prepare(spec, Limit()).schema
    other = write(tmp_path, "b.csv", "uid,iid,stars\n3,c,1\n1,b,1\n1,new,1\n")
    with_new = read_like(str(other), spec, schema, Limit())
    np.testing.assert_array_equal(with_new.batch(slice(None)), [[0, 1, 0], [0, 0, 1]])
    found = interactions_of(opened(other), spec, users=("1", "2", "3"), items=schema.columns)
    np.testing.assert_array_equal(found.matrix.toarray(), [[0, 1, 0], [0, 0, 0], [0, 0, 1]])
    assert found.unknown == 1


@pytest.mark.parametrize(
    ("settings", "text", "said"),
    [
        ({"rows": "uid", "items": "iid"}, LOG + ",a,1\n", "row 5 (counted from 0), column 'uid', is missing"),
        ({"rows": "uid", "items": "iid", "values": "stars"}, LOG + "1,a,\n", "column 'stars', is no finite number"),
        ({"rows": "uid", "items": "iid"}, LOG + f"{1 << 60},a,1\n", "too long to be a name"),
    ],
)
def test_interactions_that_are_none_are_one_line(tmp_path, settings, text, said):
    path = write(tmp_path, "a.csv", text)
    with pytest.raises(DataError) as caught:
        opened(path, **settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "error", "field", "value"),
    [
        ({"rows": "uid"}, SpecError, "items", None),
        ({"values": "stars"}, SpecError, "rows", None),
        ({"rows": "user", "items": "iid"}, DataError, "rows", "user"),
    ],
)
def test_columns_of_interactions_are_named(tmp_path, settings, error, field, value):
    path = write(tmp_path, "a.csv", LOG)
    with pytest.raises(error, check=naming(f"DataSpec.{field}", value)):
        opened(path, **settings)


def test_interactions_are_for_tables(tmp_path):
    path = write(tmp_path, "a.npz", npz(**GOOD))
    with pytest.raises(SpecError, check=naming("DataSpec.rows", "uid")):
        opened(path, rows="uid", items="iid")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LOG, "DataSpec.rows=uid DataSpec.items=iid"),
        (LOG.replace("b", "1").replace("a", "2").replace("c", "3"), "DataSpec.rows=uid DataSpec.items=iid"),
        (LOG.replace("uid,iid", "userId,Movie ID"), "DataSpec.rows=userId DataSpec.items=Movie ID"),
        (LOG.replace("uid,iid", "who,what"), "DataSpec.rows=who DataSpec.items=what"),
    ],
)
def test_for_a_likelihood_of_shares_interactions_are_told_by_their_columns(tmp_path, text, said):
    source = str(write(tmp_path, "a.csv", text + text.partition("\n")[2] * 9))
    with pytest.raises(DataError) as caught:
        prepare(DataSpec(source=source), Limit(), by_column="never", shares=True)
    assert said in str(caught.value)
    if "who" in text:
        with pytest.raises(DataError, match=r"DataSpec.drop"):
            prepare(DataSpec(source=source), Limit(), by_column="never")
