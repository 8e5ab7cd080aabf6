"""Sizes in the context reach the rates of counts: with one group of latents or several, and in the baseline."""

from typing import Any

import pytest
import torch
from torch import Tensor

from vaekit.data import Rows
from vaekit.evaluation import baseline, evaluate
from vaekit.models import (
    VAE,
    Conditional,
    DenseHierarchy,
    Gaussian,
    Mlp,
    NegativeBinomial,
    Poisson,
    SizeFactor,
    StandardNormal,
)
from vaekit.models.building import BuildContext
from vaekit.models.networks.context import with_context
from vaekit.randomness import new_generator

SIZES = SizeFactor(index=1, loc=1.0, scale=2.0)


def of_one_group(head: Any) -> Any:
    encoder = with_context(lambda shape: Mlp((8,)).build(shape, 4), (3,), 2)
    decoder = with_context(lambda shape: Mlp((8,)).build(shape, head.features((3,))), (2,), 2)
    return VAE(Conditional(encoder, Gaussian(), (2,)), StandardNormal().build(2), Conditional(decoder, head, (3,)))


def of_two_groups(head: Any) -> Any:
    context = BuildContext((3,), 2)
    return DenseHierarchy(latent=(2, 2), widths=(8,)).build(Gaussian(), StandardNormal(), head, context)


@pytest.mark.parametrize("make", [of_one_group, of_two_groups])
@pytest.mark.parametrize("family", [Poisson(), NegativeBinomial(rates="softmax", dispersion="gene")])
def test_rates_are_multiplied_by_sizes(family: Any, make: Any) -> None:
    model = make(family.with_sizes((3,), SIZES)).double()
    x = torch.poisson(torch.full((6, 3), 4.0, dtype=torch.float64), generator=new_generator(1))
    context = torch.randn(6, 2, generator=new_generator(2), dtype=torch.float64)
    draw = model.draw(x, 5, context=context, generator=new_generator(3))
    latents = [latent.z for latent in draw.latents]
    assert draw.px.batch_shape == (5, 6)
    torch.testing.assert_close(draw.log_px, model.decode(latents, context).log_prob(x))
    if family.rates == "softmax":
        sizes = (SIZES.loc + SIZES.scale * context[:, 1]).exp()
        torch.testing.assert_close(draw.px.mean.sum(-1), sizes.expand(5, -1))
    joint = model.log_joint(x, [z[0] for z in latents], context)
    torch.testing.assert_close(joint, draw.log_px[0] + draw.log_pz[0])
    assert model.generate(4, context=context[:4], generator=new_generator(1)).shape == (4, 3)
    with pytest.raises((ValueError, TypeError), match="context"):
        model.draw(x)


def test_the_baseline_is_given_sizes_and_beats_one_that_is_not() -> None:
    generator = new_generator(4)
    log_sizes = torch.randn(400, generator=generator)
    rates = torch.tensor([0.5, 3.0, 10.0])
    x = torch.poisson(log_sizes.exp()[:, None] * rates, generator=generator)
    context = torch.stack([torch.zeros(400), (log_sizes - SIZES.loc) / SIZES.scale], 1)

    def found(head: Any) -> float:
        likelihood = Conditional(torch.nn.Linear(2, 3), head, (3,))
        rows: list[Rows] = [Rows(x[part], context=context[part]) for part in (slice(300), slice(300, 400))]
        return float(baseline(likelihood, *rows).value or 0.0)

    sized, plain = found(Poisson().with_sizes((3,), SIZES)), found(Poisson())

    def by_hand(x: Tensor, means: Tensor) -> float:
        return float(torch.distributions.Poisson(means).log_prob(x).sum(1).mean())

    sizes = log_sizes.exp()[:, None]
    assert sized == pytest.approx(by_hand(x[300:], sizes[300:] * x[:300].sum(0) / sizes[:300].sum()), rel=1e-5)
    assert plain == pytest.approx(by_hand(x[300:], x[:300].mean(0).expand(100, -1)), rel=1e-5)
    assert sized > plain + 5
    model = of_one_group(Poisson().with_sizes((3,), SIZES))
    assert evaluate(model, Rows(x, context=context), 2)["elbo"].n == 400
