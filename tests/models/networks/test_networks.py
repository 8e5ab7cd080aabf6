"""Parts of networks against what they stand for."""

import pytest
import torch
import torch.nn.functional as F

from vaekit.models import Mlp
from vaekit.models.networks.convolutional import Upwards, convolution_over
from vaekit.randomness import new_generator


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(1,), (8,), (7,), (8, 12), (7, 12), (7, 11), (4, 6, 2), (3, 5, 1)], ids=str)
def test_upwards_is_repeated_values_and_a_convolution(size: tuple[int, ...], bias: bool, channels: int) -> None:
    upwards = Upwards(convolution_over((channels, *size)), 5, channels, size, bias).double()
    x = torch.randn(2, 5, *(-(-side // 2) for side in size), dtype=torch.float64, generator=new_generator(0))
    x.requires_grad_()
    by_hand = getattr(F, f"conv{len(size)}d")(
        F.interpolate(x, scale_factor=2), upwards.convolution.weight, upwards.convolution.bias, padding=1
    )
    by_hand = by_hand[(..., *(slice(side) for side in size))]
    weights = torch.randn(by_hand.shape, dtype=torch.float64, generator=new_generator(1))
    torch.testing.assert_close(upwards(x), by_hand)
    inputs = [x, *upwards.parameters()]
    expected = torch.autograd.grad((weights * by_hand).sum(), inputs)
    torch.testing.assert_close(torch.autograd.grad((weights * upwards(x)).sum(), inputs), expected)


def test_a_perceptron_with_a_skip_is_the_layers_and_a_linear_one_and_begins_near_its_bias() -> None:
    torch.manual_seed(0)
    plain = Mlp((8,)).build((2, 3), 5)
    torch.manual_seed(0)
    network, x = Mlp((8,), skip=True).build((2, 3), 5), torch.randn(4, 7, 2, 3)
    bias = network.output_bias
    assert network.skip is not None
    expected = bias + 0.1 * (plain(x) - bias) + x.flatten(-2) @ network.skip.weight.T
    torch.testing.assert_close(network(x), expected)
    assert (network(x) - bias).abs().max() < 0.25
