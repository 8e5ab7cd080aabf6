"""What a part of a model may offer beyond its call, so that no one has to know which part it is."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.models.distributions.codes import CodeSpace
from vaekit.models.parameters import Shape


@runtime_checkable
class DiscreteHead(Protocol):
    """A head of q(z|x) whose z is discrete."""

    def code_space(self, event_shape: Shape) -> CodeSpace:
        """What z of this shape is made of."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A part with units of its own, which are measured on training rows."""

    def measure(self, x: Tensor) -> None:
        """Measure them on rows x (n, *data)."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """q(z|x) in steps, as `Conditional` has it: x as the network sees it, its raw numbers, and their distribution."""

    def see(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the network sees of the input."""
        ...

    def raw(self, seen: Tensor, context: Tensor | None = None) -> Tensor:
        """The network's raw numbers, (..., features), from what it sees of the input."""
        ...

    def of(self, raw: Tensor) -> Distribution:
        """The distribution that raw numbers stand for."""
        ...

    @property
    def code_space(self) -> CodeSpace | None:
        """What z is made of, if it is discrete."""
        ...

    @property
    def has_density(self) -> bool:
        """Whether q(z|x) is a density or a probability mass."""
        ...


@runtime_checkable
class EncodedBesideBatch(Protocol):
    """A prior made of q(z|x) at inputs of its own, which go through the encoder together with a batch."""

    def beside(self, seen: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The encoder's inputs for a batch, (batch, *data), and its context, with the prior's own after them."""
        ...

    def of_posteriors(self, posteriors: Distribution, context: Tensor | None) -> Distribution:
        """The prior, from q(z|x) at its own inputs, and the context of the batch."""
        ...


@runtime_checkable
class InitialisedFromInputs(Protocol):
    """A prior whose weights are best initialised from inputs of the encoder."""

    def initialise_from_inputs(self, seen: Tensor, context: Tensor | None) -> None:
        """Initialise from what the encoder's network sees of training rows, (n, *data), and their context."""
        ...


@runtime_checkable
class Reshaping(Protocol):
    """What is applied to x before the encoder, and gives rows of another shape."""

    @property
    def seen_shape(self) -> Shape:
        """Of what the encoder's network sees of one row."""
        ...


@runtime_checkable
class InitialisedFromEncodings(Protocol):
    """A head whose weights are best initialised from raw numbers of the encoder."""

    def initialise_from_encodings(self, raw: Tensor, generator: torch.Generator) -> None:
        """Initialise from the encoder's raw numbers for training rows, (n, features)."""
        ...


@runtime_checkable
class MeasuredHead(Protocol):
    """A head of p(x|z) that holds something of the data besides weights."""

    def measure(self, x: Tensor, context: Tensor | None = None) -> None:
        """Take it from training rows, (n, *data), and their context."""
        ...


@runtime_checkable
class HeadOfHoles(Protocol):
    """A head of p(x|z) that models which cells are missing."""

    def measure_holes(self, mask: Tensor) -> None:
        """Take what it holds of them from the masks of training rows, (n, *data), True where a cell is observed."""
        ...


@runtime_checkable
class TiedHead(Protocol):
    """A head of p(x|z) under which the values of a row depend on one another."""

    def untied(self) -> Any:
        """A copy under which they do not."""
        ...


@runtime_checkable
class OfRates(Protocol):
    """A distribution of counts by their rates."""

    @property
    def log_rate(self) -> Tensor:
        """ln of the rate of each value, (*batch)."""
        ...


@runtime_checkable
class OverFields(Protocol):
    """A likelihood that is of a table's columns one by one."""

    def of_fields(self, fields: Sequence[Any]) -> Any:
        """The same, with the likelihood of each of these columns."""
        ...
