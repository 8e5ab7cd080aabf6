"""Expression of genes against closed forms, differences between groups of cells, and both from the command line."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from pyarrow import csv
from scipy import stats
from scipy.special import expit
from torch import Tensor, nn
from torch import distributions as td

from naming import naming
from vaekit import fit, open_run
from vaekit.cli.main import main
from vaekit.data import Dataset, DataSpec, Field, Rows, Schema, dataset_of, rows_like
from vaekit.data.codes import read_codes
from vaekit.data.context import given_context
from vaekit.data.schema import Context
from vaekit.errors import DataError, NotApplicable, SpecError
from vaekit.models import VAE, Bernoulli, Conditional, StandardNormal
from vaekit.models.likelihoods import NegativeBinomial, Poisson, ZeroInflated
from vaekit.runs import run
from vaekit.uses import differential_expression, expression

SPREAD, BATCHES = 0.5, ("b1", "b2")
NAMES = [f"cell {place}" for place in range(240)]


class Known(nn.Module):
    """q(z|x) = N(ln(x_0 + 1), 0.5^2)."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor, context: Tensor | None = None) -> td.Distribution:
        loc = x[:, :1].double().log1p()
        return td.Independent(td.Normal(loc, torch.full_like(loc, SPREAD), validate_args=False), 1)


class Rates(nn.Module):
    """Raw numbers of two genes, of rates 3 e^(z + shift) and 3 e^0, and others that do not matter."""

    def __init__(self, numbers: int):
        super().__init__()
        self.numbers = numbers

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        shift = torch.zeros_like(z) if context is None else 2.0 * context[..., 1:2].to(z).expand_as(z)
        first = torch.cat([z + shift, torch.zeros_like(z)], -1) + np.log(3)
        return torch.cat([first, *[torch.zeros_like(first)] * (self.numbers - 1)], -1)


@dataclass
class OfTwoGenes:
    """A trained run, as far as uses need one."""

    model: VAE
    schema: Schema
    dataset: Dataset

    def data(self) -> Dataset:
        return self.dataset

    def rows(self, data: Any = None, context: Any = None) -> Rows:
        return data if isinstance(data, Rows) else rows_like(data, DataSpec(support="count"), self.schema, context)


def of_two_genes(family: Any, prior: Any = None) -> OfTwoGenes:
    data = dataset_of(np.arange(40).reshape(20, 2), DataSpec(support="count"))
    likelihood = Conditional(Rates(family.features((1,))), family, (2,))
    model = VAE(Known(), StandardNormal().build(1) if prior is None else prior, likelihood).double()
    return OfTwoGenes(model, replace(data.schema, columns=("up", "flat")), data)


CELLS = np.array([[0, 3], [4, 0], [60, 1]])


@pytest.mark.parametrize("family", [NegativeBinomial(), Poisson(), ZeroInflated()], ids=lambda one: one.kind)
def test_shares_and_their_quantiles_are_those_of_the_logistic_of_a_gaussian(family):
    found = expression(of_two_genes(family), CELLS, samples=4000, level=0.8, size=100.0)
    loc = np.log1p(CELLS[:, :1])
    ends = [100 * expit(loc + SPREAD * stats.norm.ppf(p))[:, 0] for p in (0.1, 0.9)]
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    mean = 100 * expit(loc + SPREAD * nodes) @ weights / weights.sum()
    assert found.genes == ("up", "flat")
    np.testing.assert_allclose(found.mean[:, 0], mean, rtol=0.02)
    np.testing.assert_allclose(found.mean.sum(1), 100, rtol=1e-5)
    np.testing.assert_allclose([found.lower[:, 0], found.upper[:, 0]], ends, rtol=0.05)
    np.testing.assert_allclose(found.lower[:, 1] + found.upper[:, 0], 100, rtol=1e-3)


def test_at_the_size_of_each_cell_it_is_the_rate_and_few_genes_are_as_among_all():
    run = of_two_genes(Poisson())
    found = expression(run, CELLS, samples=4000, size=None)
    np.testing.assert_allclose(found.mean[:, 0], 3 * np.exp(np.log1p(CELLS[:, 0]) + SPREAD**2 / 2), rtol=0.05)
    np.testing.assert_allclose(found.lower[:, 1], 3)
    some = expression(run, CELLS, genes=["flat"], samples=50)
    np.testing.assert_allclose(some.mean[:, 0], expression(run, CELLS, samples=50).mean[:, 1], rtol=1e-6)
    again = expression(run, np.tile(CELLS, (70, 1)), genes=["flat"], samples=50)
    np.testing.assert_allclose(again.mean[:3], some.mean, rtol=1e-6)


def test_changes_are_those_of_the_closed_form():
    run = of_two_genes(NegativeBinomial())
    first, second = np.array([[20, 0]] * 7), np.array([[0, 5], [0, 9]])
    found = differential_expression(run, first, second, pairs=4000, delta=1.0, level=0.5, pseudocount=0.0)
    noise = np.random.default_rng(0).normal(size=(2, 100_000)) * SPREAD
    shares = expit(np.array([[np.log(21)], [0.0]]) + noise)
    truth = np.log2(shares[0] / shares[1])
    assert found.change[0] == pytest.approx(truth.mean(), abs=4 * truth.std() / 4000**0.5)
    assert (found.lower[0], found.upper[0]) == pytest.approx(tuple(np.quantile(truth, [0.25, 0.75])), abs=0.05)
    assert found.probability[0] == pytest.approx((np.abs(truth) > 1).mean(), abs=0.04)
    assert found.first[0] == pytest.approx(1e4 * shares[0].mean(), rel=0.02)
    assert found.second[0] == pytest.approx(1e4 * shares[1].mean(), rel=0.02)
    high, low = sorted(found.probability)[::-1]
    assert sorted(found.false_discovery_rate) == pytest.approx(sorted([1 - high, (2 - high - low) / 2]))
    swapped = differential_expression(run, second, first, pairs=4000, pseudocount=0.0)
    assert swapped.change[0] == pytest.approx(-truth.mean(), abs=4 * truth.std() / 4000**0.5)


def test_the_pseudocount_is_the_share_that_genes_without_a_count_have():
    run = of_two_genes(Poisson())
    found = differential_expression(run, np.array([[20, 0]] * 5), np.array([[30, 4]] * 5), pairs=200)
    drawn = differential_expression(run, np.array([[20, 0]] * 5), np.array([[30, 4]] * 5), pairs=200, pseudocount=0.0)
    assert drawn.first[1] / 1e4 < found.pseudocount < 0.5
    assert abs(found.change[1]) < abs(drawn.change[1])


def test_cells_of_a_batch_are_compared_with_those_of_the_same_and_the_decoder_can_be_given_another():
    class PriorOfContext(nn.Module):
        def forward(self, context: Tensor) -> td.Distribution:
            loc = torch.zeros(len(context), 1, dtype=torch.float64)
            return td.Independent(td.Normal(loc, torch.ones_like(loc), validate_args=False), 1)

    run = of_two_genes(Poisson(), PriorOfContext())
    context = Context(
        "columns",
        ("batch=b1", "batch=b2", "batch is missing"),
        (0.0,) * 3,
        (1.0,) * 3,
        (Field("batch", "categorical", BATCHES),),
    )
    run.schema = replace(run.schema, context=context)
    of_batch = {name: torch.from_numpy(given_context(context, {"batch": name})) for name in BATCHES}

    def cells(*batches: str) -> Rows:
        alike = torch.zeros(len(batches), 2)
        return Rows(alike, context=torch.cat([of_batch[name] for name in batches]))

    mixed = differential_expression(run, cells("b1", "b1", "b2"), cells("b2", "b2", "b2", "b1"), pairs=1000)
    assert abs(mixed.change[0]) < 0.1  # without batches it were 2 / ln 2 / 4 or so
    with pytest.raises(DataError, check=naming("first")):
        differential_expression(run, cells("b1"), cells("b2"))
    own = expression(run, cells("b1", "b2"), samples=200)
    other = expression(run, cells("b1", "b2"), samples=200, given={"batch": "b2"})
    assert own.mean[0, 0] < other.mean[0, 0] - 1000
    np.testing.assert_array_equal(own.mean[1], other.mean[1])
    with pytest.raises(DataError, check=naming("batch", "b3")):
        expression(run, cells("b1"), given={"batch": "b3"})


def test_what_cannot_be_computed_is_refused():
    run = of_two_genes(Poisson())
    with pytest.raises(DataError, check=naming("genes", "upp")):
        expression(run, CELLS, genes=["upp"])
    with pytest.raises(DataError, check=naming("given")):
        expression(run, CELLS, given={"batch": "b1"})
    for field, value in (("size", 0.0), ("level", 1.0)):
        with pytest.raises(SpecError, check=naming(field, value)):
            expression(run, CELLS, **{field: value})
    for field, value in (("delta", -1.0), ("pseudocount", float("inf"))):
        with pytest.raises(SpecError, check=naming(field, value)):
            differential_expression(run, CELLS, CELLS, **{field: value})
    binary = of_two_genes(Bernoulli())
    binary.schema = run.schema
    with pytest.raises(NotApplicable):
        expression(binary, CELLS // 60)


def write_h5ad(path: Path) -> None:
    """Cells of three kinds in two batches; the first gene is high in kind A alone."""
    rng = np.random.default_rng(0)
    kinds, batches = rng.integers(0, 3, 240), rng.integers(0, 2, 240)
    shares = np.where(kinds[:, None] == 0, [8, 1, 1, 1, 1], [1, 2, 2, 2, 2]) * np.where(
        batches[:, None], 1.0, [1, 1, 1, 2, 2]
    )
    counts = rng.poisson(60 * shares / shares.sum(1, keepdims=True)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["X"] = counts
        file["var/_index"] = ["high", "b", "c", "d", "e"]
        file["var"].attrs["_index"] = "_index"
        file["obs/_index"] = NAMES
        file["obs"].attrs["_index"] = "_index"
        for name, codes, categories in (("kind", kinds, ["A", "B, late", "C"]), ("batch", batches, ["b1", "b2"])):
            file[f"obs/{name}/codes"], file[f"obs/{name}/categories"] = codes.astype(np.int8), categories


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("cells")
    write_h5ad(home / "a.h5ad")
    widths = ("encoder.widths=8", "decoder.widths=8", "latent=2", "epochs=30", "lr=0.02", "batch_size=32")
    of_batch = ("context=batch", "context_to=decoder", "train.device=cpu")
    fit(run(str(home / "a.h5ad"), *widths, *of_batch, preset="cells", run_dir=home / "run"), progress=False)
    return home


def call(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    assert isinstance(left.value.code, int)
    return left.value.code


def test_files_of_expression_hold_what_python_gives(home, tmp_path):
    run, words = home / "run", ("--samples", 20, "--level", 0.5, "--given", "batch=b1")
    assert call("expression", run, "--out", tmp_path / "e.h5ad", *words) == 0
    assert call("expression", run, "--out", tmp_path / "e.csv", "--genes", "d", "high", *words) == 0
    assert call("expression", run, home / "a.h5ad", "--out", tmp_path / "e.npz", *words) == 0
    found = open_run(run).expression(home / "a.h5ad", samples=20, level=0.5, given={"batch": "b1"})
    assert (found.lower <= found.upper).all()
    with h5py.File(tmp_path / "e.h5ad") as file:
        for name, values in (("X", found.mean), ("layers/lower", found.lower), ("layers/upper", found.upper)):
            np.testing.assert_array_equal(file[name], values)
        assert file["var/_index"].asstr()[:].tolist() == list(found.genes)
        assert file["obs/_index"].asstr()[:].tolist() == NAMES
    table = csv.read_csv(tmp_path / "e.csv").to_pydict()
    assert list(table) == ["row", "name", "d", "d lower", "d upper", "high", "high lower", "high upper"]
    assert table["name"] == NAMES
    np.testing.assert_allclose(table["high upper"], found.upper[:, 0], rtol=1e-5)
    with np.load(tmp_path / "e.npz") as arrays:
        np.testing.assert_array_equal(arrays["lower"], found.lower)
        assert arrays["name"].tolist() == NAMES


def test_cells_keep_their_names_in_whatever_is_written_of_them(home, tmp_path):
    run = home / "run"
    assert call("encode", run, home / "a.h5ad", "--out", tmp_path / "all.h5ad") == 0
    with h5py.File(tmp_path / "all.h5ad") as file:
        codes, spreads = file["X"][:], file["layers/scale"][:]
        assert file["obs/_index"].asstr()[:].tolist() == NAMES
        assert file["var/_index"].asstr()[:].tolist() == ["z0", "z1"]
    np.testing.assert_array_equal(codes, open_run(run).encode(home / "a.h5ad"))
    assert (spreads > 0).all()
    assert call("encode", run, "--out", tmp_path / "own.csv") == 0
    own = csv.read_csv(tmp_path / "own.csv").to_pydict()
    assert 0 < len(own["name"]) < len(NAMES)  # the run's own test rows, wherever they stand in the file
    np.testing.assert_allclose(own["z1"], codes[[NAMES.index(name) for name in own["name"]], 1], rtol=1e-4)
    np.testing.assert_array_equal(next(read_codes(tmp_path / "own.csv", 2).blocks())[:, 1], np.float32(own["z1"]))
    assert call("score", run, "--out", tmp_path / "s.csv", "--samples", 5) == 0
    assert call("evaluate", run, "--per-row", tmp_path / "b.csv", "--samples", 5) == 0
    for name in ("s.csv", "b.csv"):
        assert csv.read_csv(tmp_path / name)["name"].to_pylist() == own["name"]


def test_a_gene_that_differs_between_groups_comes_first(home, tmp_path, capsys):
    run, out = home / "run", tmp_path / "d.csv"
    words = ("differential", run, "--groupby", "kind", "--pairs", 300, "--out", out)
    assert call(*words, "--group1", "A", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    table = csv.read_csv(out).to_pydict()
    assert shown["genes"][0]["gene"] == table["gene"][0] == "high"
    assert table["change"][0] > 1
    assert table["probability"][0] > 0.95
    assert table["mean_1"][0] > 4 * table["mean_2"][0]
    assert call(*words, "--group1", "B, late", "--group2", "C", "--force") == 0
    assert "high" in capsys.readouterr().out
    assert abs(csv.read_csv(out)["change"][0].as_py()) < 0.3


def test_types_of_cells_are_read_off_codes_that_know_none(home, capsys):
    assert call("evaluate", home / "run", "--suite", "representation", "--label", "kind", "--json") == 0
    found = json.loads(capsys.readouterr().out)["representation"]
    assert found["linear_codes"]["value"] > 0.4  # one kind of three stands out
    assert found["linear_codes"]["n"] == 24
    with pytest.raises(DataError, check=naming("data.label", "kin")):
        open_run(home / "run").with_label("kin")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("differential {run} --group1 A --out {out}.csv", 2, "no labels"),
        ("differential {run} --groupby kind --group1 D --out {out}.csv", 2, "labels are A"),
        ("differential {run} --groupby kin --group1 A --out {out}.csv", 3, "did you mean kind"),
        ("differential {run} --groupby batch --group1 b1 --out {out}.csv", 2, "is the context"),
        ("differential {run} --groupby kind --group1 A --group2 A --out {out}.csv", 2, "both groups"),
        ("differential {run} --groupby kind --group1 A --out {out}.h5ad", 2, "ending"),
        ("expression {run} --genes hig --out {out}.csv", 3, "did you mean high"),
        ("expression {run} --size 0 --out {out}.csv", 2, "library size"),
        ("expression {run} --given batch=b9 --out {out}.csv", 2, "b1, b2"),
    ],
)
def test_errors_of_use_are_one_line(home, tmp_path, capsys, words, code, said):
    assert call(*words.format(run=home / "run", out=tmp_path / "x").split()) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert said in " ".join(lines)
    assert not list(tmp_path.iterdir())
