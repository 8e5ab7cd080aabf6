"""Logarithms of the Gamma function for likelihoods whose terms cancel.

Of a count of a million, ln x! is ten million, of which single precision loses whole nats.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_SHIFT = 4  # Stirling's series is used from here on, by Gamma(z) = Gamma(z + 4) / (z (z + 1) (z + 2) (z + 3))
_SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680)  # of 1/w, 1/w^3, ...: what it leaves is below 4e-9 at w = 4
_CONSTANT = math.log(2 * math.pi) / 2 - _SHIFT


def wide(values: Tensor) -> Tensor:
    """The same numbers in double precision, where the device has it (Apple's GPUs have not)."""
    return values if values.device.type == "mps" else values.double()


def log_factorial(x: Tensor) -> Tensor:
    """ln x! for x >= 0, in the precision of x."""
    place = nonzero_of_many(x)
    if place is None:
        return torch.lgamma(x + 1)
    return torch.zeros_like(x).index_put(place, torch.lgamma(x[place] + 1))


MANY, FEW = 1 << 20, 0.25  # numbers, and the share of them above 0, with which it pays to look at these alone


def nonzero_of_many(x: Tensor) -> tuple[Tensor, ...] | None:
    """Where x is above 0, if x is large and these are few, as counts of genes are; else None.

    On a CPU alone: a GPU is faster on all of them, and would have to wait for their number.
    """
    if x.device.type != "cpu" or x.numel() < MANY or int(x.count_nonzero()) > FEW * x.numel():
        return None
    return x.nonzero(as_tuple=True)


def gamma_rest(z: Tensor) -> Tensor:
    """ln Gamma(z) - z ln z + z for z > 0: what is left of ln Gamma without its large terms, about ln(2 pi / z) / 2.

    Within 4e-9 and a few roundings of the result; in double precision faster than `torch.lgamma`.
    """
    return _GammaRest.apply(z)


class _GammaRest(torch.autograd.Function):
    """`gamma_rest` and its derivative, in place where possible: on a CPU new memory costs more than the arithmetic."""

    @staticmethod
    def forward(ctx, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        inverse = z.reciprocal()
        found = (_SHIFT * inverse).log1p_().mul_(z + (_SHIFT - 0.5))
        found.sub_(inverse.log1p()).sub_((2 * inverse).log1p_()).sub_(inverse.mul_(3).log1p_())
        shifted = (z + _SHIFT).reciprocal_()
        square = shifted * shifted
        found.addcmul_(_polynomial(square, _SERIES), shifted)
        return found.add_(torch.log(z, out=square), alpha=-0.5).add_(_CONSTANT)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> Tensor:
        """digamma(z) - ln z, of operations that have a gradient themselves."""
        (z,) = ctx.saved_tensors
        outer = z * (z + 3)  # z (z + 3) and (z + 1) (z + 2), which is outer + 2
        sum_of_inverses = (2 * z + 3) * (outer.reciprocal() + (outer + 2).reciprocal())
        shifted = (z + _SHIFT).reciprocal()
        series = -0.5 * shifted - shifted**2 * _polynomial(shifted**2, [(2 * i + 1) * c for i, c in enumerate(_SERIES)])
        return gradients[0] * ((_SHIFT / z).log1p() + series - sum_of_inverses)


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    *others, second, first = coefficients
    found = first * x + second
    for coefficient in reversed(others):
        found = found * x + coefficient
    return found
