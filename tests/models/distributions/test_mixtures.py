"""A mixture's density by matrix products is torch's."""

import torch
from torch import distributions as td

from vaekit.models.distributions.base import independent
from vaekit.models.distributions.mixtures import GaussianMixture, mixture


def parts(dtype: torch.dtype, components: int = 7, size: int = 5) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(3, components, size, generator=generator, dtype=torch.float64)
    return tuple(
        t.to(dtype).requires_grad_() for t in (3 + 2 * draw[0], (draw[1] - 1).exp(), draw[2, :, 0], 3 + 2 * draw[2, :4])
    )


def both(dtype: torch.dtype) -> list[torch.Tensor]:
    """Values and gradients by vaekit, then by torch."""
    loc, scale, logits, z = parts(dtype)
    components = independent(td.Normal(loc, scale, validate_args=False), 1)
    ours = mixture(components, logits)
    assert isinstance(ours, GaussianMixture)
    theirs = td.MixtureSameFamily(td.Categorical(logits=logits), components)
    found = []
    for p in (ours, theirs):
        value = p.log_prob(z.expand(2, -1, -1))
        found += [
            torch.cat([value.flatten(), *(g.flatten() for g in torch.autograd.grad(value.sum(), parts_of(p, z)))])
        ]
    return found


def parts_of(p: td.MixtureSameFamily, z: torch.Tensor) -> list[torch.Tensor]:
    normal = p.component_distribution.base_dist
    return [normal.loc, normal.scale, z]


def test_values_and_gradients_are_torchs() -> None:
    ours, theirs = both(torch.float64)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_little_is_lost_in_single_precision() -> None:
    ours, _ = both(torch.float32)
    _, exact = both(torch.float64)
    torch.testing.assert_close(ours.double(), exact, rtol=1e-3, atol=1e-3)


def test_weights_that_depend_on_a_context_are_the_rows_own() -> None:
    loc, scale, logits, z = parts(torch.float64)
    components = independent(td.Normal(loc, scale, validate_args=False), 1)
    conditional = mixture(components, torch.stack([logits, logits.flip(0), 0 * logits, logits]))
    assert conditional.batch_shape == (4,)
    torch.testing.assert_close(conditional.log_prob(z)[0], mixture(components, logits).log_prob(z[0]))
