"""The importance-weighted bound against closed forms, its curve over K, and the bound that it is not."""

import math
import os
import shutil

import numpy as np
import pytest
import torch
from stories import Stretched, rows_of, story

from naming import naming
from vaekit import evaluate
from vaekit.errors import SpecError
from vaekit.evaluation import bound_curve
from vaekit.evaluation.importance import effective_samples, weighted_bound

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("latents", [1, 10, 40])
def test_5000_samples_of_a_posterior_too_wide_give_the_likelihood(latents):
    truth = story(latents)
    x = rows_of(truth, 30)
    bound = evaluate(truth.vae(Stretched(truth)), x, samples=5000)["log_likelihood"]
    assert bound.value == pytest.approx(float(truth.log_px(x).mean()), abs=0.02)
    assert bound.warning == ""


@pytest.mark.parametrize("latents", [1, 10])
def test_an_analytic_kl_inside_the_logarithm_overshoots(latents):
    """ln (1/K) sum_k p(x|z_k) - KL(q || p), which is found in released code, is no bound.

    With the exact posterior N(m, v) of one latent with loading w, ln p(x|z) = ln p(x) + ln q(z|x) - ln p(z), so that
    for many samples the excess over ln p(x) is ln E_q[q / p] - E_q[ln q / p]. By Gaussian integrals, with v = 1 - a,
    where a = v w^2 / noise^2 is the variance of the posterior over that of the noise, both in units of x:

        a / 2 - ln(1 + a) / 2 + m^2 (1 - a) / (2 (1 + a))
    """
    samples, truth = 3000, story(latents)
    x = rows_of(truth, 50)
    model = truth.vae(Stretched(truth, 1.0))
    with torch.no_grad():
        draw = model.draw(x, samples, generator=torch.Generator().manual_seed(0))
    (latent,) = draw.latents
    wrong = draw.log_px.logsumexp(0) - math.log(samples) - latent.closed_kl()

    a, m = 1 - truth.best_diagonal() ** 2, truth.true_posterior(x).loc
    excess = (0.5 * a - 0.5 * a.log1p() + m**2 * (1 - a) / (2 * (1 + a))).sum(-1)
    off = wrong - truth.log_px(x) - excess
    assert abs(float(off.mean())) < 3 * float(off.std()) / math.sqrt(len(x))
    assert float(excess.mean()) > (1 if latents == 10 else 0.1)
    right = evaluate(model, x, samples=20)["log_likelihood"].value
    assert right == pytest.approx(float(truth.log_px(x).mean()), abs=1e-8)


def test_the_curve_rises_from_the_elbo_to_the_likelihood():
    truth = story(10)
    x, q = rows_of(truth, 40), Stretched(truth, 1.6)
    model = truth.vae(q)
    curve = bound_curve(model, x, (2000, 1, 10, 100))
    assert [point.samples for point in curve] == [2000, 1, 10, 100]
    last, *values = (point.bound.value for point in curve)
    exact = float(truth.log_px(x).mean())
    assert values == sorted(values)
    assert values[-1] < last < exact + 0.05
    assert last == pytest.approx(exact, abs=0.05)
    base = q(x).base_dist
    assert values[0] == pytest.approx(float(truth.elbo(x, base.loc, base.scale).mean()), abs=0.05)
    evaluated = evaluate(model, x, 2000)
    assert curve[0].bound == evaluated["log_likelihood"]
    assert curve[0].effective_samples == evaluated["effective_samples"]
    assert curve[1].effective_samples.value == pytest.approx(1)


def test_few_effective_samples_are_said_at_the_k_where_they_are_few():
    truth = story(10)
    few, many = bound_curve(truth.vae(Stretched(truth, 2.0)), rows_of(truth, 20), (100, 4000))
    assert "20 of 20 rows have an effective sample size below 10 of 100" in few.bound.warning
    assert many.bound.warning == ""


def test_smaller_bounds_are_averages_over_disjoint_groups():
    log_w = torch.tensor([[0.0], [1.0], [2.0], [3.0], [100.0]], dtype=torch.float64)
    pairs = [math.log((math.exp(a) + math.exp(b)) / 2) for a, b in ((0, 1), (2, 3))]
    assert weighted_bound(log_w, 2).item() == pytest.approx(sum(pairs) / 2)
    one = (1 + math.e) ** 2 / (1 + math.e**2)
    assert effective_samples(log_w, 2).item() == pytest.approx(one)


MEASURES = {"evaluate": (evaluate, 5), "curve": (bound_curve, (1, 5))}


@pytest.fixture(params=MEASURES)
def stopped(request, tmp_path):
    """An evaluation of 250 rows that was stopped after two blocks of 100: how to go on, what it should come to, and how
    often a block is then encoded."""
    measure, samples = MEASURES[request.param]
    truth, keep = story(1), tmp_path / "kept"
    model, x, encoded = truth.vae(), rows_of(truth, 250), []
    encode = model.encode
    model.encode = lambda x, *context: encoded.append(len(x)) or encode(x, *context)
    done = []

    def stop(rows):
        done.append(rows)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(model, x, samples, keep=keep, progress=stop)
    assert sorted(path.name for path in keep.iterdir()) == ["0.npz", "100.npz"]

    def go_on(keep=keep, samples=samples, seed=0):
        encoded.clear()
        return measure(model, x, samples, keep=keep, seed=seed), encoded.count(100)

    return go_on, *go_on(keep=None), keep, model


def test_what_is_kept_of_a_stopped_evaluation_is_not_done_again(stopped):
    go_on, right, whole, *_ = stopped
    found, encoded = go_on()
    assert found == right
    assert encoded == whole - 2


def test_what_is_kept_of_other_rows_samples_seeds_or_weights_is_done_again(stopped):
    go_on, right, whole, _, model = stopped
    assert go_on(seed=1)[1] == whole
    assert go_on(samples=6 if isinstance(right, dict) else (1, 6))[1] == whole
    assert go_on()[0] == right
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    other, encoded = go_on()
    assert encoded == whole
    assert other != right


def changed(file, numbers=None, rows=None, dtype=None, key=True):
    with np.load(file) as arrays:
        parts = {name: arrays[name] for name in arrays.files}
    for name in [name for name in parts if name != "about"]:
        value = parts[name] if numbers is None else parts[name] + numbers
        parts[name] = value[:rows].astype(dtype or value.dtype)
    if not key:
        del parts["about"]
    np.savez(file, **parts)


DAMAGE = {
    "other numbers": lambda file: changed(file, numbers=60.0),
    "other numbers, and no key": lambda file: changed(file, numbers=60.0, key=False),
    "fewer rows": lambda file: changed(file, rows=50),
    "another type": lambda file: changed(file, dtype=np.complex64),
    "text": lambda file: file.write_bytes(b"text"),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-40]),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a FIFO": lambda file: (file.unlink(), os.mkfifo(file)),
    "a link": lambda file: file.rename(file.parent.parent / "away") and file.symlink_to(file.parent.parent / "away"),
    "huge": lambda file: os.truncate(file, 10 << 30),
    "objects": lambda file: np.savez(file, np.array([{}], dtype=object)),
    "another block": lambda file: shutil.copy(file.with_name("100.npz"), file),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_kept_and_not_whole_is_done_again(stopped, damage):
    go_on, right, _, keep, _ = stopped
    DAMAGE[damage](keep / "0.npz")
    assert go_on()[0] == right


def test_nothing_is_kept_behind_a_link(stopped, tmp_path):
    go_on, right, _, keep, _ = stopped
    keep.rename(tmp_path / "elsewhere")
    keep.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "0.npz").unlink()
    assert go_on()[0] == right
    assert not (tmp_path / "elsewhere" / "0.npz").exists()


def test_an_evaluation_that_cannot_be_kept_is_done_all_the_same(tmp_path):
    truth, file = story(1), tmp_path / "no folder"
    file.touch()
    x = rows_of(truth, 20)
    assert evaluate(truth.vae(), x, 5, keep=file) == evaluate(truth.vae(), x, 5)


def test_bad_numbers_of_samples_are_refused():
    truth = story(1)
    for rows, samples in ((0, (1,)), (3, ()), (3, (5, 0))):
        with pytest.raises(SpecError, check=naming("samples" if rows else "data", 0)):
            bound_curve(truth.vae(), rows_of(truth, 3)[:rows], samples)
