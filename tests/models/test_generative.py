"""In blocks of one shape a row's result is the same to the last bit, whatever stands beside it."""

import pytest
import torch
from torch import Tensor

from naming import naming
from vaekit import VAE, Bernoulli, Conditional, Gaussian, StandardNormal
from vaekit.errors import SpecError
from vaekit.models import Conv, Mlp
from vaekit.models.generative import BLOCK, Generative, blocks_of, filled, in_blocks
from vaekit.randomness import new_generator

SHAPE = (1, 9, 9)


def build(network: Mlp | Conv) -> VAE:
    torch.manual_seed(1)
    return VAE(
        Conditional(network.build(SHAPE, 6), Gaussian(), (3,)),
        StandardNormal().build(3),
        Conditional(network.build((3,), 81, SHAPE), Bernoulli(), SHAPE),
    )


@pytest.fixture(params=[Mlp((50,)), Mlp((64, 48)), Conv((4, 8), 24)], ids=str)
def model(request) -> VAE:
    return build(request.param)


def encoded(model: VAE, x: torch.Tensor) -> torch.Tensor:
    """Means and standard deviations of q(z|x), (rows, 6)."""

    def moments(part: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (q,) = model.encode(part).posteriors
        return q.mean, q.stddev

    with torch.no_grad():
        return torch.cat(in_blocks(moments, x), 1)


def test_a_row_encodes_alike_alone_and_among_others(model) -> None:
    x = torch.rand(2 * BLOCK + 3, *SHAPE)
    whole = encoded(model, x)
    assert whole.shape == (len(x), 6)
    (q,) = model.encode(x).posteriors
    torch.testing.assert_close(whole, torch.cat([q.mean, q.stddev], 1).detach())
    for n in (1, 7, BLOCK, BLOCK + 1):
        assert torch.equal(encoded(model, x[:n]), whole[:n])
    others = torch.rand_like(x)
    others[5], others[BLOCK + 2] = x[5], x[BLOCK + 2]
    assert torch.equal(encoded(model, others)[[5, BLOCK + 2]], whole[[5, BLOCK + 2]])


@pytest.mark.parametrize("network", [Mlp((64, 48)), Conv((4, 8), 24)], ids=str)
def test_rows_encode_alike_in_any_order(network: Mlp | Conv) -> None:
    model, x = build(network), torch.rand(2 * BLOCK + 3, *SHAPE)
    whole = encoded(model, x)
    for rows in (torch.randperm(len(x)), torch.tensor([7]), torch.arange(3, 3 + BLOCK)):
        assert torch.equal(encoded(model, x[rows]), whole[rows])


@pytest.mark.parametrize("mean", [True, False])
def test_the_first_of_many_samples_are_those_of_few(model, mean: bool) -> None:
    def generate(n: int) -> torch.Tensor:
        return model.generate(n, generator=new_generator(5), mean=mean)

    many = generate(2 * BLOCK + 3)
    assert many.shape == (2 * BLOCK + 3, *SHAPE)
    for n in (0, 1, 10, BLOCK, BLOCK + 1):
        assert torch.equal(generate(n), many[:n])
    generator = new_generator(5)
    parts = [model.generate(n, generator=generator, mean=mean) for n in (BLOCK, BLOCK, 3)]
    assert torch.equal(torch.cat(parts), many)
    assert not torch.equal(many[:3], many[BLOCK : BLOCK + 3])


def test_blocks_cover_the_rows_and_a_part_is_filled_with_its_last() -> None:
    assert list(blocks_of(0)) == [slice(0, 0)]
    assert list(blocks_of(BLOCK)) == [slice(0, BLOCK)]
    assert list(blocks_of(BLOCK + 1)) == [slice(0, BLOCK), slice(BLOCK, BLOCK + 1)]
    part = filled(torch.arange(6).reshape(3, 2))
    assert part.shape == (BLOCK, 2)
    assert part[2:].unique(dim=0).tolist() == [[4, 5]]
    with pytest.raises(SpecError, check=naming("x")):
        in_blocks(lambda x: (x,), torch.empty(0, 2))


class Zeros(Generative):
    def new_block(self, context: Tensor | None, generator: torch.Generator | None, mean: bool) -> tuple[Tensor, ...]:
        return torch.zeros(BLOCK, 2), torch.zeros(BLOCK, 1)


def test_a_simulation_of_rows_that_cannot_be_is_refused() -> None:
    with pytest.raises(SpecError, check=naming("n", -1)):
        Zeros().simulate(-1)
    with pytest.raises(SpecError, check=naming("context")):
        Zeros().generate(5, context=torch.zeros(3, 1))
