"""Rows with weights: a row of weight 2 counts as two, and errors are those of weighted means."""

import math

import pytest
import torch
from torch import nn

from vaekit import VAE, Bernoulli, Conditional, Gaussian, StandardNormal, evaluate
from vaekit.evaluation.estimate import mean_of
from vaekit.randomness import new_generator


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
        with pytest.raises(ValueError, match="give each row one that is not below 0"):
            evaluate(model, x, 4, weight=wrong)
