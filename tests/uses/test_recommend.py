"""Rankings of items for users, and what is measured of them."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow.csv
import pytest
import torch
from scipy import sparse
from torch.distributions import Normal

from naming import naming
from vaekit.cli.main import main
from vaekit.data import Interactions
from vaekit.errors import DataError, NotApplicable, SpecError
from vaekit.runs import open_run
from vaekit.uses import hold_out, ranking, recommend

USERS, ITEMS = 60, 12
TINY = [
    "train.epochs=60",
    "train.batch_size=10",
    "train.lr=0.01",
    "train.log_every=60",
    "model.latent=2",
    "data.rows=uid",
    "data.items=iid",
]


class Scores(torch.nn.Module):
    """A model whose mean of p(x|z) is a table of scores; a row says which by the number of its first item."""

    def __init__(self, scores):
        super().__init__()
        self.scores = torch.nn.Parameter(torch.tensor(scores, dtype=torch.float32))

    def encode(self, x, context=None):
        return SimpleNamespace(posteriors=[Normal(x.argmax(1).float(), 1.0)])

    def decode(self, z, context=None):
        return SimpleNamespace(mean=self.scores[z[0].long()].detach())


class Run:
    """A trained run over such a model."""

    def __init__(self, scores):
        self.model = Scores(scores)
        self.schema = SimpleNamespace(columns=tuple(f"i{n}" for n in range(len(scores[0]))))

    def data(self):
        raise NotImplementedError

    def rows(self, data, context=None):
        x = torch.from_numpy(data.toarray()).float()
        return SimpleNamespace(to=lambda device: rows_of(x))


def rows_of(x):
    class Some:
        def __len__(self):
            return len(x)

        def inputs(self, index):
            return {"x": x[index]}

    return Some()


def call(*words):
    """The exit code of a command."""
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return left.value.code


def interactions(rows, items=4):
    matrix = sparse.csr_array(np.array(rows, np.uint8))
    users = tuple(f"u{n}" for n in range(len(rows)))
    return Interactions(users, tuple(f"i{n}" for n in range(items)), matrix, 0, 0)


def test_what_was_had_is_left_out_and_the_rest_goes_by_score():
    run = Run([[9.0, 1.0, 3.0, 2.0], [1.0, 8.0, 4.0, 0.0]])
    found = recommend(run, interactions([[1, 0, 0, 0], [0, 1, 1, 0]]), top=3)
    assert found.users == ("u0", "u1")
    assert found.items.tolist() == [["i2", "i3", "i1"], ["i0", "i3", ""]]
    np.testing.assert_array_equal(found.scores, [[3.0, 2.0, 1.0], [1.0, 0.0, np.nan]])


def test_recall_and_ndcg_are_those_by_hand():
    run = Run([[9.0, 1.0, 3.0, 2.0], [1.0, 8.0, 4.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    seen = interactions([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    held_out = interactions([[0, 1, 1, 0, 1], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]], items=5)
    found = ranking(run, seen, held_out, top=2)
    # u0: i2, i3, of i1, i2 and one that the model does not know; u1: i2, i0, of i3; u2 has none held out
    assert found["recall_at_2"].value == pytest.approx((1 / 3 + 0) / 2)
    assert found["ndcg_at_2"].value == pytest.approx((1 / (1 + 1 / np.log2(3)) + 0) / 2)
    assert found["recall_at_2"].n == 2
    assert found["recall_at_2"].stderr == pytest.approx(np.std([1 / 3, 0], ddof=1) / np.sqrt(2))


def test_a_share_of_each_users_items_is_held_out():
    rows = np.ones((3, 10), np.uint8)
    rows[1, 2:], rows[2, 1:] = 0, 0
    whole = interactions(rows, items=10)
    seen, held_out = hold_out(whole, 0.35, seed=1)
    assert (seen.matrix + held_out.matrix != whole.matrix).nnz == 0
    assert held_out.matrix.sum(1).tolist() == [3, 1, 0]
    again, other = hold_out(whole, 0.35, seed=1)[1], hold_out(whole, 0.35, seed=2)[1]
    assert (again.matrix != held_out.matrix).nnz == 0
    assert (other.matrix != held_out.matrix).nnz > 0


def test_bad_arguments_are_named():
    run, few = Run([[1.0, 2.0, 3.0, 4.0]]), interactions([[1, 0, 0, 0]])
    with pytest.raises(SpecError, check=naming("top", 0)):
        recommend(run, few, top=0)
    with pytest.raises(SpecError, check=naming("share", 1.0)):
        hold_out(few, 1.0)
    with pytest.raises(DataError, check=naming("interactions")):
        recommend(run, interactions([[1, 0, 0, 0, 0]], items=5))
    with pytest.raises(DataError, check=naming("held_out")):
        ranking(run, few, interactions([[0, 0, 0, 0]]))
    with pytest.raises(SpecError, check=naming("held_out")):
        ranking(run, few, interactions([[0, 0, 1, 0], [0, 0, 1, 0]]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Users who like even items, or odd ones; one item of each, and one that nobody had before, are held out."""
    folder, rng = tmp_path_factory.mktemp("log"), np.random.default_rng(0)
    kept, held = ["uid,iid"], ["uid,iid", "0,999", "12345,1"]
    for user in range(USERS):
        items = rng.permutation(np.arange(user % 2, ITEMS, 2))[:5]
        kept += [f"{user},{item}" for item in items[:-1]]
        held += [f"{user},{items[-1]}"]
    (folder / "log.csv").write_text("\n".join(kept))
    (folder / "held.csv").write_text("\n".join(held))
    settings = [*TINY, "model.encoder.widths=[16]", "data.valid_fraction=0", "data.test_fraction=0"]
    call("train", folder / "log.csv", "--preset", "ratings", *settings, "--run-dir", folder / "run")
    return folder


def test_a_taste_is_found(folder, capsys):
    capsys.readouterr()
    assert call("recommend", folder / "run", "--held-out", folder / "held.csv", "--top", 2, "--json") == 0
    out = json.loads(capsys.readouterr().out)
    assert out["recall_at_2"]["value"] > 0.8  # by chance 2 of 8, and one of the first user's two is never found
    assert out["recall_at_2"]["n"] == USERS
    assert out["protocol"].startswith("weak generalisation: 61 held-out interactions of 60 users of log.csv, among 12")
    assert "1 item unknown to the model, and never found" in out["protocol"]
    assert "1 interaction of other users left out" in out["protocol"]


def test_users_that_training_left_out_are_ranked_by_a_part_of_their_items(folder, tmp_path, capsys):
    run = tmp_path / "run"
    call("train", folder / "log.csv", "--preset", "ratings", *TINY, "--run-dir", run)
    capsys.readouterr()
    assert call("evaluate", run, "--suite", "ranking", "--json") == 0
    found = json.loads(capsys.readouterr().out)["ranking"]
    assert found["recall_at_20"] == {"value": 1.0, "stderr": 0.0, "n": 6, "unit": "of 1", "warning": ""}  # of 12 items
    assert 0 < found["ndcg_at_20"]["value"] <= 1
    for split, said in (("test", "strong generalisation"), ("train", "weak generalisation")):
        assert call("evaluate", run, "--suite", "ranking", "--split", split) == 0
        assert f"{said}, to" in capsys.readouterr().out


def test_a_file_holds_the_ranking_of_each_user(folder, capsys):
    out = folder / "top.csv"
    assert call("recommend", folder / "run", "--out", out, "--top", 3) == 0
    found = pyarrow.csv.read_csv(out).to_pydict()
    assert list(found) == ["user", "rank", "item", "score"]
    assert found["rank"] == [1, 2, 3] * USERS
    had = {tuple(line.split(",")) for line in (folder / "log.csv").read_text().split("\n")[1:]}
    assert not had & {(str(user), str(item)) for user, item in zip(found["user"], found["item"], strict=True)}
    scores = np.array(found["score"]).reshape(USERS, 3)
    assert (np.diff(scores) <= 0).all()
    run = open_run(folder / "run")
    best = run.recommend(folder / "log.csv", top=3)
    assert best.items.ravel().tolist() == [str(item) for item in found["item"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "neither --out nor --held-out is given"),
        (["--out", "top.png"], "--out is top.png"),
        (["--out", "top.csv", "--top", "0"], "--top is 0: it should be at least 1"),
        (["nowhere.csv", "--out", "top.csv"], "nowhere.csv"),
    ],
)
def test_bad_options_are_one_line(folder, words, said, capsys):
    assert call("recommend", folder / "run", *words) in (2, 3)
    err = capsys.readouterr().err
    assert said in " ".join(err.split())
    assert err.count("\n") <= 3


def test_a_run_on_other_data_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n" + "\n".join(f"{n % 7}.5,{n % 5}.25" for n in range(40)))
    settings = ["train.epochs=1", "model.encoder.widths=[4]", "model.decoder.widths=[4]"]
    call("train", tmp_path / "x.csv", *settings, "--run-dir", tmp_path / "run")
    with pytest.raises(NotApplicable, check=naming("data.rows")):
        open_run(tmp_path / "run").interactions()
