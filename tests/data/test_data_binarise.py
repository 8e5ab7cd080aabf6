"""Binarisation: test rows drawn once, by NumPy's generator and seed, and dynamic draws with the right probabilities."""

import os

import numpy as np
import pytest
import torch

from vaekit.data import DataSpec, Limit, Rows, prepare

FAILURE_RATE = 2e-5
GREY = np.random.default_rng(0).integers(0, 256, (40, 6, 5), dtype=np.uint8)
TEST = np.random.default_rng(1).integers(0, 256, (30, 6, 5), dtype=np.uint8)


def prepared(folder, limit: Limit | None = None, test: np.ndarray | None = TEST, train=GREY, **settings):
    path = folder / "a.npz"
    np.savez(path, X=train, **({} if test is None else {"X_test": test}))
    return prepare(DataSpec(source=str(path), **{"binarise": "dynamic", **settings}), limit or Limit())


def everything(rows: Rows) -> np.ndarray:
    return rows.batch(slice(None)).numpy()


def test_the_test_set_is_drawn_once_from_the_seed_alone(tmp_path):
    expected = np.random.RandomState(777).binomial(1, TEST / 255.0)[:, None]
    for limit in (Limit(), Limit(train=5, valid=2)):
        for seed in (0, 1):
            data = prepared(tmp_path, limit, seed=seed)
            np.testing.assert_array_equal(everything(data.test), expected)
    assert "RandomState(777)" in data.schema.protocol
    assert "dynamic binarisation in training" in data.schema.protocol


def test_a_divided_test_set_keeps_its_draws(tmp_path):
    whole = np.random.RandomState(777).binomial(1, TEST / 255.0)[:, None]
    data = prepared(tmp_path, valid_from="test", valid_fraction=0.2)
    plain = prepared(tmp_path, valid_from="test", valid_fraction=0.2, binarise="none")
    kept = [int(np.flatnonzero((TEST[:, None] == row).all(axis=(1, 2, 3)))[0]) for row in everything(plain.test)]
    assert len(kept) == 24
    np.testing.assert_array_equal(everything(data.test), whole[kept])
    grey = everything(plain.valid)
    expected = np.random.RandomState(778).binomial(1, grey / 255.0)
    np.testing.assert_array_equal(everything(data.valid), expected)


@pytest.mark.parametrize("train", [GREY, (GREY // 16).astype(np.uint8), GREY / 255])
def test_a_carved_test_set_is_drawn_once(tmp_path, train):
    settings = {"test": None, "train": train, "test_fraction": 0.3, "valid_fraction": 0.2}
    if train.max() == 15:
        settings |= {"support": "levels", "levels": 16}
    data = prepared(tmp_path, **settings)
    plain = prepared(tmp_path, **settings, binarise="none", scale="none")
    top = {255: 255.0, 15: 15.0, 1: 1.0}[round(float(train.max()))]
    for rows, grey, seed in ((data.test, plain.test, 777), (data.valid, plain.valid, 778)):
        p = everything(grey).astype(np.float64 if top > 1 else np.float32) / top
        drawn = np.random.RandomState(seed).binomial(1, p)
        assert (everything(rows) == drawn).mean() == 1
        np.testing.assert_array_equal(everything(rows), everything(rows))


@pytest.mark.parametrize("kind", ["bytes", "17 levels", "floats"])
def test_dynamic_draws_have_the_right_mean(kind):
    """The mean over many draws of each grey level, by z-score, at one failure rate for all the levels together."""
    top = 16 if kind == "17 levels" else 255
    levels = torch.arange(top + 1, dtype=torch.uint8)[:, None]
    if kind == "floats":
        rows = Rows(levels.float() / 255, dynamic=True)
    else:
        rows = Rows(levels, scale=float(top), dynamic=True)
    generator = torch.Generator().manual_seed(0)
    draws = 10_000
    index = torch.arange(top + 1).repeat(draws // 20)
    ones = torch.zeros(top + 1)
    for _ in range(20):
        x = rows.batch(index, generator)
        assert set(x.unique().tolist()) == {0.0, 1.0}
        ones += x.view(-1, top + 1).sum(0)
    p = torch.arange(top + 1) / top
    assert ones[0] == 0
    assert ones[-1] == draws
    z = (ones / draws - p)[1:-1] / (p * (1 - p) / draws).sqrt()[1:-1]
    bound = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 - FAILURE_RATE / (2 * (top - 1)), dtype=float))
    assert z.abs().max() < bound


def test_training_rows_are_drawn_afresh_by_the_generator_given(tmp_path):
    rows = prepared(tmp_path).train
    assert rows.values.dtype == torch.uint8
    before = torch.get_rng_state()
    first = rows.batch(slice(0, 8), torch.Generator().manual_seed(1))
    same = rows.batch(torch.arange(8), torch.Generator().manual_seed(1))
    other = rows.batch(slice(0, 8), torch.Generator().manual_seed(2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_numpy_s_own_generator_is_left_alone(tmp_path):
    before = np.random.get_state()[1].copy()
    prepared(tmp_path)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_threshold(tmp_path):
    for train, cut in ((GREY, 128), (GREY / 255, 0.5)):
        settings = {"train": train, "test": train, "scale": "none"}
        data = prepared(tmp_path, binarise="threshold", **settings)
        plain = prepared(tmp_path, binarise="none", **settings)
        for rows, grey in ((data.train, plain.train), (data.valid, plain.valid), (data.test, plain.test)):
            np.testing.assert_array_equal(everything(rows), everything(grey) >= cut)
    assert "threshold" in data.schema.protocol


# Rows.


def test_rows_are_gathered_scaled_and_cut():
    values = torch.arange(24, dtype=torch.uint8).view(6, 1, 2, 2)
    rows = Rows(values, labels=torch.arange(6), loc=2.0, scale=4.0)
    x = rows.batch(torch.tensor([5, 0]))
    assert torch.equal(x, (values[[5, 0]].float() - 2) / 4)
    assert (len(rows), rows.shape) == (6, (1, 2, 2))
    few = rows.take(2).to("cpu")
    assert (len(few), few.loc, few.scale) == (2, 2.0, 4.0)
    assert few.labels is not None
    assert few.labels.tolist() == [0, 1]
    assert len(rows.take(100)) == 6
    assert torch.equal(rows.batch(slice(1, 3)), rows.batch(torch.tensor([1, 2])))


def test_every_grey_level_divides_exactly():
    rows = Rows(torch.arange(256, dtype=torch.uint8)[:, None], scale=255.0)
    assert torch.equal(rows.batch(slice(None))[:, 0], torch.arange(256) / 255)


@pytest.mark.needs_data
@pytest.mark.skipif("VAEKIT_DATA" not in os.environ, reason="VAEKIT_DATA is not set")
def test_binarised_mnist_is_the_published_one():
    data = prepare(DataSpec(source="mnist", binarise="dynamic"), Limit(train=100, valid=100))
    plain = prepare(DataSpec(source="mnist"), Limit(train=1, valid=1))
    grey = everything(plain.test).reshape(10_000, 784)
    expected = np.random.RandomState(777).binomial(1, grey / 255.0)
    np.testing.assert_array_equal(everything(data.test).reshape(10_000, 784), expected)
    assert data.train.values.dtype == torch.uint8
