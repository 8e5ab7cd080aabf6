"""Columns in turn: the chain rule holds exactly, what is missing included."""

import itertools

import pytest
import torch

from vaekit.models.building import BuildContext, FieldEvent
from vaekit.models.distributions.cells import observed_log_prob
from vaekit.models.likelihoods.autoregressive_columns import AutoregressiveColumns, ChainedHeads
from vaekit.models.networks.masked import MaskedNetwork

FIELDS = (FieldEvent("a", "binary", 2), FieldEvent("b", "categorical", 3), FieldEvent("c", "ordinal", 2))
ROWS = torch.tensor(list(itertools.product(range(2), range(3), range(2))), dtype=torch.float64)
HOLES = torch.tensor(list(itertools.product((True, False), repeat=3)))


@pytest.fixture(scope="module")
def head() -> ChainedHeads:
    """Of a small table, with random weights, and columns that are often missing."""
    torch.manual_seed(0)
    family = AutoregressiveColumns(width=12).of_fields(FIELDS)
    head = family.build(BuildContext(event_shape=(3,), fields=FIELDS)).double()
    head.measure(ROWS)
    head.measure_holes(torch.rand(100, 3) < torch.tensor([0.9, 0.5, 0.7]))
    for weight in head.network.parameters():
        torch.nn.init.normal_(weight, std=0.7)
    return head.requires_grad_(False)


@pytest.fixture(scope="module")
def masses(head) -> dict[tuple[float, ...], float]:
    """The probability of every row that there is; NaN is a missing cell."""
    px = head(torch.zeros(head.features((3,)), dtype=torch.float64))
    found = {}
    for mask, x in itertools.product(HOLES, ROWS):
        row = torch.where(mask, x, 0)
        key = tuple(torch.where(mask, x, -1).tolist())
        found[key] = float(observed_log_prob(px, row[None], mask[None]).exp())
    return found


def test_outputs_depend_on_the_columns_before_theirs_alone():
    torch.manual_seed(0)
    inputs, outputs = torch.tensor([2, 0, 1, 1]), torch.tensor([1, 0, 2, 2, 1])
    network = MaskedNetwork(inputs, outputs, columns=3, width=10)
    for weight in network.parameters():
        torch.nn.init.normal_(weight)
    slopes = torch.autograd.functional.jacobian(network, torch.randn(4))
    assert ((slopes != 0) == (outputs[:, None] > inputs)).all()


def test_probabilities_of_all_rows_with_all_their_holes_add_up_to_one(masses):
    assert sum(masses.values()) == pytest.approx(1, abs=1e-9)
    assert max(masses.values()) < 0.5


def test_draws_are_as_frequent_as_their_probabilities(head, masses):
    torch.manual_seed(1)
    drawn = head(torch.zeros(4000, head.features((3,)), dtype=torch.float64)).sample().nan_to_num(-1)
    for key, mass in masses.items():
        share = float((drawn == torch.tensor(key)).all(1).double().mean())
        assert abs(share - mass) < 5 * (mass * (1 - mass) / 4000) ** 0.5 + 1e-3


def test_given_cells_weigh_rows_by_their_probability_beside_what_was_drawn(head, masses):
    torch.manual_seed(2)
    px = head(torch.zeros(6000, head.features((3,)), dtype=torch.float64))
    rows, log_p = px.sample_given({1: 2.0})
    assert (rows[:, 1] == 2).all()
    wanted = sum(mass for key, mass in masses.items() if key[1] == 2)
    assert float(log_p.exp().mean()) == pytest.approx(wanted, abs=0.02)
    joint = sum(mass for key, mass in masses.items() if key[:2] == (1, 2)) / wanted
    weights = log_p.softmax(0)
    assert float(weights[rows[:, 0] == 1].sum()) == pytest.approx(joint, abs=0.04)


def test_without_ties_columns_are_independent(head):
    px = head.untied()(head.initial_parameters(ROWS))
    log_p = px.log_prob(ROWS).reshape(2, 3, 2)
    within = log_p - log_p.mean(0, keepdim=True)  # what a adds does not depend on b and c
    assert torch.allclose(within, within[:, :1, :1].expand_as(within))


def test_the_mean_has_no_holes(head):
    mean = head(torch.zeros(5, head.features((3,)), dtype=torch.float64)).mean
    assert mean.isfinite().all()
