"""Of many counts that are mostly 0, the others alone are looked at: with the same result."""

from typing import Any

import pytest
import torch

from vaekit.models import Multinomial, NegativeBinomial, Poisson, ZeroInflated
from vaekit.models.building import BuildContext
from vaekit.models.distributions import gamma
from vaekit.randomness import new_generator


@pytest.mark.parametrize("family", [Poisson(), NegativeBinomial(), ZeroInflated(), Multinomial()], ids=lambda f: f.kind)
def test_a_density_and_its_gradient_are_those_of_all_counts(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, size = new_generator(1), 300
    head = family.build(BuildContext(event_shape=(size,))).double() if isinstance(family, Multinomial) else family
    raw = torch.randn(2, 5, family.features((size,)), generator=generator, dtype=torch.float64, requires_grad=True)
    x = torch.poisson(torch.full((5, size), 0.1, dtype=torch.float64), generator=generator)
    found = []
    for many in (1, 1 << 30):
        monkeypatch.setattr(gamma, "MANY", many)
        assert (gamma.nonzero_of_many(x) is None) == (many > 1)
        log_p = head(raw, (size,)).log_prob(x)
        found += [(log_p, *torch.autograd.grad(log_p.sum(), raw))]
    for sparse, dense in zip(*found, strict=True):
        torch.testing.assert_close(sparse, dense, rtol=1e-9, atol=1e-9)
