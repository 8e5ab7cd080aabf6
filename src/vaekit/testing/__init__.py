"""Checks that a part keeps to what vaekit relies on: run them in the tests of your own priors, families and objectives.

Each check builds the part in float64, tries it on small random inputs, and raises AssertionError that says which
property does not hold. They are the contract tests of vaekit's own parts. Nothing of the caller's is changed.
"""

from vaekit.testing.likelihood_check import check_likelihood
from vaekit.testing.objective_check import check_objective
from vaekit.testing.posterior_check import check_posterior
from vaekit.testing.prior_check import check_prior

__all__ = ["check_likelihood", "check_objective", "check_posterior", "check_prior"]


def __dir__() -> list[str]:
    return __all__
