"""Conditional: a network and a head, whose call returns a distribution given its input."""

import copy
import inspect
import math
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.errors import SpecError
from vaekit.models.building import ALONE
from vaekit.models.distributions.cells import observed
from vaekit.models.distributions.codes import CodeSpace
from vaekit.models.distributions.gamma import wide
from vaekit.models.families import Family, FittedHead, Head
from vaekit.models.likelihoods.initialisation import without_gaps
from vaekit.models.likelihoods.location_scale import LocationScale
from vaekit.models.networks.precision import run_network
from vaekit.models.networks.units import Units
from vaekit.models.parameters import Shape, floating
from vaekit.models.part_errors import check_module, refuse_context, refuse_dtype
from vaekit.models.protocols import DiscreteHead, HeadOfHoles, MeasuredHead, TiedHead


class Rescale(nn.Module):
    """(x - loc) / scale as floating point: what a network sees of x. Saved with the weights.

    Args:
        loc: Subtracted first.
        scale: Divided by then.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, loc: float = 0.0, scale: float = 1.0):
        super().__init__()
        self.register_buffer("loc", torch.tensor(float(loc)))
        self.register_buffer("scale", torch.tensor(float(scale)))

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(self.scale.dtype) - self.loc) / self.scale


class Log1p(nn.Module):
    """ln (1 + x): what a network sees of counts."""

    def forward(self, x: Tensor) -> Tensor:
        return floating(x).log1p()


class Conditional(nn.Module):
    """Input transform, network, head: `conditional(x)` is a distribution, as q(z|x) or p(x|z).

    Args:
        network: From (..., *in_shape) to (..., features), or for an image event to (..., channels, height, width), any
            torch module. As a likelihood it sees z as (samples, batch, size), so it must let leading dimensions pass,
            as `nn.Linear` and vaekit's own do. With a context it is called with that, too: see `WithContext`.
        head: The family whose distribution the raw numbers stand for, or the head that it built.
        event_shape: Shape of one event; by default one flat dimension.
        transform: Applied to the input first.
        units: Of the data, for the head of a likelihood: see `LocationScale`.

    Raises:
        TypeError: The network is no module, or the head no family.
        SpecError: The family has weights of its own, and no event shape says how many.

    Example:
        >>> posterior = Conditional(nn.Linear(8, 6), Gaussian())
        >>> posterior(torch.zeros(5, 8)).event_shape
        torch.Size([3])
    """

    def __init__(
        self,
        network: nn.Module,
        head: Family,
        event_shape: Shape | None = None,
        transform: nn.Module | None = None,
        units: Units | None = None,
    ):
        super().__init__()
        check_module(network, "network", "in_shape, features")
        if not isinstance(head, Family):
            given = f"the class {head.__name__}" if isinstance(head, type) else repr(head)
            raise TypeError(f"head is {given}: give a family of distributions that is made, such as Gaussian()")
        self.network = network
        self.head = _built(head, event_shape)
        self.event_shape = event_shape
        self.transform = nn.Identity() if transform is None else transform
        self.units = units

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Distribution:
        return self.of(self.raw(self.see(x, mask), context), context)

    def see(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the network sees of the input: x after the transform, which is called with the mask if it takes one."""
        if mask is None:
            return self.transform(x)
        x = observed(x, mask)
        return self.transform(x, mask=mask) if takes_mask(self.transform) else self.transform(x)

    def raw(self, seen: Tensor, context: Tensor | None = None) -> Tensor:
        """The network's raw numbers, (..., features), from what it sees of the input."""
        inputs = (seen,) if context is None else (seen, context)
        try:
            raw = run_network(self.network, *inputs)
        except (RuntimeError, TypeError) as error:
            refuse_dtype(error, inputs)
            refuse_context(error, self.network, "network", inputs, context is not None)
            raise
        return self._flat(raw)

    def of(self, raw: Tensor, context: Tensor | None = None) -> Distribution:
        """The distribution that raw numbers (..., features) stand for, beside the context where the head takes it."""
        if self.head.takes_context:
            return cast(TakesContext, self.head)(raw, self.event_shape, context)
        if self.units is None:
            return self.head(raw, self.event_shape)
        return cast(LocationScale, self.head)(raw, self.event_shape, self.units)

    @property
    def code_space(self) -> CodeSpace | None:
        """What its values are made of, if they are discrete codes."""
        return self.head.code_space(self.event_shape or ()) if isinstance(self.head, DiscreteHead) else None

    @property
    def has_density(self) -> bool:
        """Whether its distributions are densities or probability masses, and not single values."""
        return getattr(self.head, "has_density", True)

    def _flat(self, raw: Tensor) -> Tensor:
        if self.event_shape is None or len(self.event_shape) < 2:
            return raw
        dims, wanted = len(self.event_shape), self.head.features(self.event_shape)
        is_image = raw.shape[1 - dims :] == self.event_shape[1:] and math.prod(raw.shape[-dims:]) == wanted
        return raw.flatten(-dims) if is_image and raw.shape[-1] != wanted else raw

    def measure(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> None:
        """Measure the units, and what else the head holds of the data.

        Args:
            x: Rows, (n, *event).
            context: Of these rows, where the head takes it.
            mask: True where a cell is observed; None where all are.
        """
        if mask is not None and isinstance(self.head, HeadOfHoles):
            self.head.measure_holes(mask)
        x = without_gaps(x, mask)
        if self.units is not None:
            self.units.measure(x, cast(LocationScale, self.head).best)
        if isinstance(self.head, MeasuredHead):
            self.head.measure(x, context)

    @torch.no_grad()
    def initialise_from(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> None:
        """Initialise the bias of the network's output with the raw numbers that fit rows best without an input.

        The network must have an `output_bias`, as vaekit's own have.

        Args:
            x: Rows, (n, *event).
            context: Of these rows, where the head takes it.
            mask: True where a cell is observed; None where all are.
        """
        self.measure(x, context, mask)
        x = without_gaps(x, mask)
        given = (context,) if self.head.takes_context else ()
        initial = self._fitted_head.initial_parameters(x if self.units is None else self.units(x), *given)
        self.network.output_bias.copy_(initial)  # pyright: ignore[reportCallIssue, reportArgumentType]

    def constant(self, x: Tensor, quick: bool = False, mask: Tensor | None = None) -> Distribution:
        """The best distribution that depends on nothing: see `without_latents`."""
        return self.without_latents(x, quick=quick, mask=mask)()

    @torch.no_grad()
    def without_latents(
        self, x: Tensor, context: Tensor | None = None, quick: bool = False, mask: Tensor | None = None
    ) -> "WithoutLatents":
        """The best distribution that depends on no z; this module stays as it is.

        It is in double precision, where the device has it, so that a far outlier has a density, if a small one.

        Args:
            x: Rows that it is fitted to, (n, *event).
            context: Of these rows, where the head takes it.
            quick: Use the initial parameters only, where the best take long.
            mask: True where a cell is observed; None where all are.
        """
        head, units = copy.deepcopy((self._fitted_head, self.units))
        head = head.untied() if isinstance(head, TiedHead) else head
        alone = Conditional(nn.Identity(), head, self.event_shape, units=units)
        alone = alone if x.device.type == "mps" else alone.double()
        alone.measure(x, context, mask)
        x = without_gaps(x, mask)
        x, given = wide(x) if units is None else units(wide(x)), (context,) if head.takes_context else ()
        return WithoutLatents(alone, wide(head.initial_parameters(x, *given) if quick else head.fitted(x, *given)))

    @property
    def _fitted_head(self) -> FittedHead:
        if not isinstance(self.head, FittedHead):
            raise TypeError(
                f"{type(self.head).__name__} is no likelihood, so no parameters of it are fitted to data: use a family "
                "of p(x|z)"
            )
        return self.head


@dataclass(frozen=True)
class WithoutLatents:
    """A distribution of x that depends on no z: called with the context of rows, where the head takes it.

    Attributes:
        conditional: Whose head makes it.
        raw: Its raw numbers, (features,).
    """

    conditional: Conditional
    raw: Tensor

    @torch.no_grad()
    def __call__(self, context: Tensor | None = None) -> Distribution:
        return self.conditional.of(self.raw, context)


@runtime_checkable
class TakesContext(Protocol):
    """A head that is called with the context, too."""

    def __call__(self, raw: Tensor, event_shape: Shape | None, context: Tensor | None) -> Distribution: ...


def takes_mask(module: nn.Module) -> bool:
    """Whether the call of a module has an argument `mask`."""
    return "mask" in inspect.signature(module.forward).parameters


def _built(family: Family, event_shape: Shape | None) -> Head:
    if event_shape is not None:
        return family.build(ALONE.over(event_shape))
    if not isinstance(family, Head):
        raise SpecError(
            f"{type(family).__name__} has weights of its own: give event_shape=, which says how many",
            field="event_shape",
        )
    return family
