"""The table of properties says what the parts do."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from naming import naming
from unions import examples, name
from vaekit.errors import SpecError
from vaekit.models import CategoricalPosterior, Conditional, Likelihood, Posterior, Prior
from vaekit.models.building import BuildContext
from vaekit.models.compatibility import (
    go_together,
    likelihood_row,
    penalty_row,
    posterior_row,
    prior_row,
    takes_missing_cells,
)
from vaekit.models.distributions import factorises
from vaekit.models.distributions.noise import draw_from
from vaekit.models.drawing import Latent, enumerated_latent
from vaekit.models.vae import Draw
from vaekit.objectives import Dip, StepContext, TotalCorrelation
from vaekit.randomness import new_generator

pytestmark = pytest.mark.usefixtures("one_thread")

LATENT = 3
NONE = torch.zeros(2, 4, dtype=torch.float64)
FAMILIES = [*examples(Posterior), CategoricalPosterior(classes=3, temperature=0.5)]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f"{f.kind}-{FAMILIES.index(f)}")


def posterior_of(family: Any) -> Conditional:
    shape = family.z_shape(LATENT)
    torch.manual_seed(0)
    return Conditional(nn.Linear(6, family.features(shape)), family, shape).double()


def drawn(posterior: Conditional) -> tuple[Distribution, Tensor]:
    torch.manual_seed(1)
    q = posterior(torch.randn(4, 6, dtype=torch.float64))
    return q, draw_from(q, (2,), new_generator(1))


def reaches(value: Tensor, posterior: Conditional) -> bool:
    """Whether a gradient of a value reaches the encoder."""
    if not value.requires_grad:
        return False
    weights = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).reshape(value.shape)
    weight = posterior.network.weight
    (slope,) = torch.autograd.grad((weights * value).sum(), weight, allow_unused=True, retain_graph=True)
    return slope is not None and bool(slope.abs().max() > 0)


@every_family
def test_gradients_go_the_ways_that_the_table_says(family: Any) -> None:
    row, posterior = posterior_row(family), posterior_of(family)
    q, z = drawn(posterior)
    assert reaches(z, posterior) is row.reparametrised
    if row.has_density:
        assert reaches(q.log_prob(z.detach()), posterior) is row.has_score
    assert Latent(z, NONE, NONE, q).is_deterministic is not row.has_density


@every_family
@pytest.mark.parametrize("penalty", [Dip(), TotalCorrelation()], ids=name)
def test_penalties_take_the_distributions_that_the_table_says(penalty: Any, family: Any) -> None:
    q, z = drawn(posterior_of(family))
    draw = Draw(NONE, None, None, (Latent(z, NONE, NONE, q),), q, NONE)
    if go_together(penalty=penalty_row(penalty), posterior=posterior_row(family)):
        assert penalty(draw, StepContext()).value.isfinite().all()
    else:
        with pytest.raises(SpecError, check=naming("draw")):
            penalty(draw, StepContext())


@every_family
def test_what_is_enumerable_is_enumerated(family: Any) -> None:
    row, (q, _) = posterior_row(family), drawn(posterior_of(family))
    if not row.enumerable:
        with pytest.raises(SpecError, check=naming("q")):
            enumerated_latent(q, q)
        return
    small = type(family)(classes=3) if family.kind == "categorical" else family
    q, _ = drawn(posterior_of(small))
    torch.testing.assert_close(enumerated_latent(q, q).log_q.exp().sum(0), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("prior", examples(Prior), ids=name)
@every_family
def test_the_kl_is_in_closed_form_where_the_table_says(family: Any, prior: Any) -> None:
    row = posterior_row(family)
    if not go_together(prior=prior_row(prior), posterior=row):
        return
    posterior = posterior_of(family)
    p = prior.build(math.prod(family.z_shape(LATENT)), BuildContext((6,), posterior=posterior)).double()()
    q, z = drawn(posterior)
    known = Latent(z, NONE, NONE, q, p).closed_kl() is not None
    assert known is (prior.kind in row.closed_kl_to)


@pytest.mark.parametrize("shape", [(5,), (1, 2, 3), (3, 2, 3)])
@pytest.mark.parametrize("likelihood", examples(Likelihood), ids=name)
def test_missing_cells_go_with_what_the_table_says(likelihood: Any, shape: tuple[int, ...]) -> None:
    try:
        head = likelihood.build(BuildContext(event_shape=shape))
    except ValueError:
        return
    px = head(torch.zeros(2, likelihood.features(shape)), shape)
    assert factorises(px) is takes_missing_cells(likelihood_row(likelihood), shape)
