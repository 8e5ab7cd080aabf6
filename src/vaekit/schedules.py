"""Schedules: specs of a number that changes during training, evaluated at a step of so many.

The arithmetic serves Python numbers and tensors () alike.
"""

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from torch import Tensor

from vaekit.spec import by_kind, spec

Fraction = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


def at_most_one(x: float | Tensor) -> float | Tensor:
    """The smaller of x and 1, for x >= 0."""
    return x ** (x < 1)


@spec
class Constant:
    """1 throughout."""

    kind: Literal["constant"] = "constant"

    @property
    def rising(self) -> float:
        """The share of all steps after which it no longer rises; a learning rate may fall from there."""
        return 0.0

    def at(self, step: int, steps: int) -> float:
        """The value, at any step."""
        return 1.0


@spec
class Warmup:
    """A straight line from `start` to `end` over the first `over` of all steps, then `end`.

    As beta, this is KL warm-up (Bowman et al., 2016, arXiv 1511.06349; Sonderby et al., 2016, arXiv 1602.02282).

    Example:
        >>> Warmup(over=0.1).at(50, 1000)
        0.5
    """

    start: Annotated[float, Field(ge=0)] = 0.0
    end: Annotated[float, Field(ge=0)] = 1.0
    over: Fraction = 0.1
    kind: Literal["warmup"] = "warmup"

    @property
    def rising(self) -> float:
        return self.over

    def at(self, step: int | Tensor, steps: int | Tensor) -> float | Tensor:
        """The number at a step; a tensor () where these are."""
        return self.start + (self.end - self.start) * at_most_one(step / (self.over * steps))


@spec
class Cyclical:
    """Warm-up again and again.

    In each of `cycles` it is a straight line from `start` to `end` over the share `rise` of the cycle, then `end`.

    As beta: Fu et al., 2019, arXiv 1903.10145, equations 6 and 7.

    Example:
        >>> Cyclical(cycles=4, rise=0.5).at(1 / 16, 1)
        0.5
    """

    start: Annotated[float, Field(ge=0)] = 0.0
    end: Annotated[float, Field(ge=0)] = 1.0
    cycles: Annotated[int, Field(ge=1)] = 4
    rise: Fraction = 0.5
    kind: Literal["cyclical"] = "cyclical"

    def at(self, step: int | float | Tensor, steps: int | Tensor) -> float | Tensor:
        """The number at a step; a tensor () where these are."""
        return self.start + (self.end - self.start) * at_most_one((self.cycles * step / steps) % 1 / self.rise)


@spec
class Anneal:
    """From `start` to `end` by equal factors over the first `over` of all steps, then `end`.

    Example:
        >>> round(Anneal(start=1.0, end=0.25, over=1.0).at(50, 100), 6)
        0.5
    """

    start: Positive = 1.0
    end: Positive = 0.5
    over: Fraction = 0.5
    kind: Literal["anneal"] = "anneal"

    @property
    def rising(self) -> float:
        """The share of all steps in which it changes."""
        return self.over

    def at(self, step: int | Tensor, steps: int | Tensor) -> float | Tensor:
        """The number at a step; a tensor () where these are."""
        return self.start * (self.end / self.start) ** at_most_one(step / (self.over * steps))


@spec
class Cosine:
    """A half cosine from 1 to `end`, after a straight rise over the first `warmup` of all steps.

    Source: Loshchilov and Hutter, 2017, arXiv 1608.03983, equation 5, without restarts.
    """

    end: Annotated[float, Field(ge=0, le=1)] = 0.0
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    kind: Literal["cosine"] = "cosine"

    @property
    def rising(self) -> float:
        return self.warmup

    def at(self, step: int, steps: int) -> float:
        """The value at a step of so many."""
        rise = self.warmup * steps
        if step < rise:
            return (step + 1) / (rise + 1)
        done = min(1.0, (step - rise) / max(1.0, steps - rise))
        return self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * done))


Schedule = Annotated[Constant | Warmup | Cosine, Field(discriminator="kind"), by_kind]


def _rising(value: object) -> object:
    return {"kind": "warmup", **value} if isinstance(value, dict) else value


Changing = Annotated[Warmup | Cyclical, Field(discriminator="kind"), by_kind, BeforeValidator(_rising)]
Weight = Annotated[float, Field(ge=0)] | Changing
"""A number, or one that changes with the step; settings without a kind are a warm-up's."""
