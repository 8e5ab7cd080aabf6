"""Normalising flows, by zuko: the one door through which it is imported."""

from functools import cache
from types import ModuleType
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch import distributions as td
from torch.distributions import Distribution, constraints

from vaekit.models.distributions import Unchecked
from vaekit.models.families import independent
from vaekit.spec import Several

Kind = Literal["autoregressive", "coupling", "spline"]
Transforms = Annotated[int, Field(ge=1, le=64)]
Widths = Annotated[Several[Annotated[int, Field(ge=1, le=4096)]], Field(max_length=16)]
MOMENT_DRAWS = 256


@cache
def zuko() -> ModuleType:
    """zuko, imported without its switching off validation for all of torch's distributions."""
    before = Distribution._validate_args
    try:
        import zuko as imported
        import zuko.flows
    finally:
        Distribution.set_default_validate_args(before)
    return imported


class Transformed(Unchecked):
    """Base noise e ~ N(0, I) of R^size through an invertible map: ln p(z) = ln N(e; 0, I) - ln |det dz/de|.

    Its mean and variance are those of 256 draws, the same each time.

    to_noise: zuko's transform from z to e.
    """

    has_rsample = True

    def __init__(self, to_noise: Any, base: Distribution):
        self.to_noise, self.base = to_noise, base
        super().__init__(base.batch_shape, base.event_shape)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.real_vector

    def push(self, noise: Tensor) -> Tensor:
        return self.to_noise.inv(noise)

    def push_and_score(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """z, and ln p(z) by the way that z came: fast where the way back is slow."""
        z, log_slope = self.to_noise.inv.call_and_ladj(noise)
        return z, self.base.log_prob(noise) - log_slope

    def log_prob(self, value: Tensor) -> Tensor:
        lead = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)  # zuko's couplings do not broadcast
        noise, log_slope = self.to_noise.call_and_ladj(value.expand(*lead, -1))
        return self.base.log_prob(noise) + log_slope

    def rsample(self, sample_shape=()) -> Tensor:
        return self.push(self.base.rsample(sample_shape))

    @property
    def mean(self) -> Tensor:
        return self._draws().mean(0)

    @property
    def variance(self) -> Tensor:
        return self._draws().var(0)

    def expand(self, batch_shape, _instance=None) -> "Transformed":
        return Transformed(self.to_noise, self.base.expand(batch_shape))

    def _draws(self) -> Tensor:
        like, generator = self.base.mean, torch.Generator().manual_seed(0)
        noise = torch.randn(MOMENT_DRAWS, *self.event_shape, generator=generator, dtype=like.dtype).to(like.device)
        batch = [1] * len(self.batch_shape)
        return self.push(noise.reshape(MOMENT_DRAWS, *batch, *self.event_shape).expand(-1, *like.shape))


class FlowNetwork(nn.Module):
    """A flow over z in R^size: called with nothing, or with a context (..., context), it is a distribution.

    flow: "autoregressive", masked and affine (MAF: Papamakarios et al., 2017, arXiv 1705.07057), fast to score and
        slow to draw from; "coupling", affine (RealNVP: Dinh et al., 2017, arXiv 1605.08803), fast in both; "spline",
        rational-quadratic couplings (NSF: Durkan et al., 2019, arXiv 1906.04032).
    inverse: turn an autoregressive flow around, so that its draws are fast and its densities elsewhere slow.
    """

    zeros: Tensor

    def __init__(
        self, flow: Kind, size: int, transforms: int, hidden: tuple[int, ...], context: int = 0, inverse: bool = False
    ):
        super().__init__()
        if size < 2:
            raise ValueError(
                f"a flow transforms dimensions of z by one another, and there is {size}: use more, or kind: mixture "
                "for a prior and kind: gaussian for a posterior"
            )
        flows: Any = zuko().flows
        settings: dict[str, Any] = {"context": context, "transforms": transforms, "hidden_features": list(hidden)}
        if flow != "autoregressive":
            settings["passes"] = 2  # of two halves, each transformed by the other
        make = flows.NSF if flow == "spline" else flows.MAF
        with torch.device("cpu"):  # zuko reads its masks while it builds, which those on "meta" do not allow
            self.to_noise = make(size, **settings).transform
        self.inverse = inverse and flow == "autoregressive"
        self.register_buffer("zeros", torch.zeros(size), persistent=False)

    def forward(self, context: Tensor | None = None) -> Transformed:
        to_noise = self.to_noise(context)
        loc = self.zeros if context is None else self.zeros.expand(*context.shape[:-1], -1)
        base = independent(td.Normal(loc, torch.ones_like(loc), validate_args=False), 1)
        return Transformed(to_noise.inv if self.inverse else to_noise, base)
