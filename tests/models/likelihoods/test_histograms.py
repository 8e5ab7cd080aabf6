"""Histograms of numbers: their masses add up, values that repeat are drawn as they are, tails reach everywhere."""

import math

import pytest
import torch

from naming import naming
from vaekit.errors import SpecError
from vaekit.models.building import BuildContext
from vaekit.models.likelihoods.histogram import CountHistogram, Histogram

N = 3000


def with_spike(whole: bool) -> torch.Tensor:
    """A third of zeros among numbers of a lognormal distribution, (N, 1)."""
    generator = torch.Generator().manual_seed(0)
    x = (2 + torch.randn(N, 1, generator=generator, dtype=torch.float64)).exp()
    x = x.round() + 5 if whole else x
    return torch.where(torch.rand(N, 1, generator=generator) < 1 / 3, 0, x)


def test_a_measured_histogram_of_counts_adds_up_to_one_and_fits_its_rows():
    x = with_spike(whole=True)
    head = CountHistogram().build(BuildContext(event_shape=(1,))).double()
    p = head(head.initial_parameters(x))
    mass = p.log_prob(torch.arange(20_000, dtype=torch.float64)[:, None]).exp()
    assert float(mass.sum()) == pytest.approx(1, abs=1e-3)  # the rest is beyond
    assert float(mass[0]) == pytest.approx(float((x == 0).double().mean()), abs=0.01)
    assert float(mass[1:5].sum()) < 0.03  # where there are no rows
    drawn = p.sample((N,))
    assert (drawn == drawn.round()).all()
    assert (drawn >= 0).all()
    below = [(rows[:, 0, None] <= x.unique()).double().mean(0) for rows in (drawn, x)]
    assert float((below[0] - below[1]).abs().max()) < 0.04  # a Kolmogorov-Smirnov distance, of twice its 5 % point
    assert p.log_prob(torch.tensor([[1e6]], dtype=torch.float64)).isfinite().all()


def test_a_measured_histogram_of_numbers_has_its_spike_and_adds_up_to_one():
    x = with_spike(whole=False)
    head = Histogram().build(BuildContext(event_shape=(1,))).double()
    p = head(head.initial_parameters(x))
    assert float((p.sample((N,)) == 0).double().mean()) == pytest.approx(1 / 3, abs=0.05)
    of_spike = p.log_prob(torch.zeros(1, dtype=torch.float64)) + head.cell.log()
    assert float(of_spike.exp()) == pytest.approx(1 / 3, abs=0.03)
    grid = torch.linspace(-500, 3000, 140_001, dtype=torch.float64)[1:, None] - 1e-2 / 3  # not at the spike
    beside = float(p.log_prob(grid).exp().sum()) * 3500 / 140_000
    assert beside == pytest.approx(2 / 3, abs=0.03)
    mean, spread = p.sample((40_000,)).mean(), math.sqrt(float(p.variance) / 40_000)
    assert abs(float(mean - p.mean)) < 5 * spread


def test_a_few_rows_without_repeats_are_no_values_of_their_own():
    head = Histogram().build(BuildContext(event_shape=(1,)))
    head.measure(torch.randn(30, 1, generator=torch.Generator().manual_seed(0)))
    assert (head.there[head.intervals + 2 :] == 0).all()
    assert head.there.sum() == 3  # an interval and two tails


def test_all_that_is_saved_of_a_histogram_is_finite():
    head = CountHistogram().build(BuildContext(event_shape=(1,)))
    head.measure(with_spike(whole=True))
    assert all(value.isfinite().all() for value in head.state_dict().values())  # or its run folder is not read


def test_pictures_have_no_histogram():
    with pytest.raises(SpecError, check=naming("BuildContext.event_shape")):
        Histogram().build(BuildContext(event_shape=(1, 5, 5)))
