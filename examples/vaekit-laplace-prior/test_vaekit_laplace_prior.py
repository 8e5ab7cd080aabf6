"""The prior keeps to vaekit's contract, and has the density that it says."""

import torch
from scipy import stats
from vaekit_laplace_prior import Laplace

from vaekit.testing import check_prior


def test_it_keeps_to_the_contract_of_a_prior():
    check_prior(Laplace())


def test_its_density_is_that_of_scipy():
    z = torch.randn(4, 3, dtype=torch.float64)
    expected = torch.from_numpy(stats.laplace(scale=0.5).logpdf(z.numpy()).sum(-1))
    torch.testing.assert_close(Laplace(scale=0.5).build(3).double()().log_prob(z), expected)
