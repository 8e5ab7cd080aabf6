"""Rows with weights: a row of weight 2 counts as two, and errors are those of weighted means."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from naming import naming
from vaekit import VAE, Bernoulli, Conditional, Gaussian, StandardNormal, evaluate
from vaekit.data import Rows
from vaekit.data.rows import in_their_weights
from vaekit.errors import SpecError
from vaekit.evaluation import baseline
from vaekit.evaluation.estimate import mean_of
from vaekit.models import Laplace
from vaekit.randomness import new_generator
from vaekit.training.baseline import validation_baseline


def test_equal_weights_change_nothing() -> None:
    rows = torch.randn(50, generator=new_generator(1))
    plain, weighted = mean_of(rows, "nats"), mean_of(rows, "nats", weight=torch.full((50,), 3.0))
    assert weighted.value == pytest.approx(plain.value, abs=1e-12)
    assert weighted.stderr == pytest.approx(plain.stderr, rel=1e-12)
    assert weighted.n == 50


def test_a_weighted_mean_has_the_error_that_it_varies_by() -> None:
    weight = 3 * torch.rand(200, generator=new_generator(2), dtype=torch.float64)
    rows = torch.randn(4000, 200, generator=new_generator(3), dtype=torch.float64)
    found = [mean_of(part, "nats", weight=weight) for part in rows]
    values = torch.tensor([estimate.value for estimate in found])
    exact = float(weight.square().sum().sqrt() / weight.sum())
    assert float(values.std()) == pytest.approx(exact, rel=5 / math.sqrt(2 * 4000))
    assert sum(estimate.stderr for estimate in found) / 4000 == pytest.approx(exact, rel=0.01)
    assert found[0].n == round(1 / exact**2)
    assert math.isnan(mean_of(rows[0], "nats", weight=torch.eye(200)[0]).stderr)


def test_rows_of_weight_0_count_for_nothing_and_of_weight_2_twice() -> None:
    model = VAE(
        Conditional(nn.Linear(6, 4), Gaussian()), StandardNormal().build(2), Conditional(nn.Linear(2, 6), Bernoulli())
    )
    x = torch.bernoulli(torch.full((7, 6), 0.5), generator=new_generator(1))
    per_row = {}
    evaluate(model, x, 4, per_row=per_row.update)
    weight = torch.tensor([2.0, 0.0, 1.0, 0.0, 0.0, 3.0, 1.0])
    found = evaluate(model, x, 4, weight=weight)
    for name, values in per_row.items():
        assert found[name].value == pytest.approx(float((weight.numpy() * values).sum() / 7), rel=1e-6)
        assert found[name].n == round(49 / 15)
    bits = -found["log_likelihood"].value / (6 * math.log(2))
    assert found["bits_per_dim"].value == pytest.approx(bits, rel=1e-6)
    for wrong in (weight[:3], -weight, 0 * weight):
        with pytest.raises(SpecError, check=naming("weight")):
            evaluate(model, x, 4, weight=wrong)


def weighted_rows(n: int = 40) -> tuple[Rows, torch.Tensor]:
    """Rows with weights of 0, 1, 2 and 3, divided by their mean, and how often each would be there instead."""
    x = torch.randn(n, 3, generator=new_generator(1)) * torch.tensor([1.0, 5.0, 0.1])
    often = torch.arange(n) % 4
    x[often == 0] = 1e4
    return Rows(x, weight=often / often.float().mean()), often


@pytest.mark.parametrize("head", [Gaussian(), Laplace()])
def test_the_best_model_without_z_is_fitted_to_rows_as_often_as_they_count(head) -> None:
    rows, often = weighted_rows()
    repeated = Rows(rows.values.repeat_interleave(often, 0))
    likelihood = Conditional(nn.Linear(2, 6), head, (3,))
    found, right = baseline(likelihood, rows, rows), baseline(likelihood, repeated, repeated)
    assert found.value == pytest.approx(right.value, rel=1e-6)
    model = VAE(Conditional(nn.Linear(3, 4), Gaussian()), StandardNormal().build(2), likelihood)
    of_training = validation_baseline(model, rows, rows, 0), validation_baseline(model, repeated, repeated, 0)
    assert of_training[0] == pytest.approx(of_training[1], rel=1e-6)
    assert of_training[0] == pytest.approx(right.value, rel=1e-5)


def test_no_more_rows_are_given_than_may_be_and_each_in_proportion() -> None:
    weight = torch.rand(1000, generator=new_generator(1)) * 1e-3 + (torch.arange(1000) == 7) * 500.0
    rows = Rows(torch.zeros(1000, 1), weight=weight)
    given = in_their_weights(rows, torch.arange(1000), 4000)
    counts, right = torch.bincount(given, minlength=1000), weight * 4000 / weight.sum()
    assert len(given) == 4000
    assert float((counts - right).abs().max()) <= 1
    assert in_their_weights(replace(rows, weight=None), torch.arange(5), 9).tolist() == [0, 1, 2, 3, 4]
