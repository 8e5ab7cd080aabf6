"""Which optimiser updates the weights: specs of Adam and its variants, and any other of torch."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, PlainSerializer
from torch import nn
from torch.optim import Optimizer

from vaekit.errors import SpecError
from vaekit.setting_errors import nearest, short
from vaekit.spec import spec

Decay = Annotated[float, Field(ge=0, lt=1)]
Betas = tuple[Decay, Decay]
PREFIX = "torch.optim."
NAMES = ("adam", "adamw", "adamax")
UNFIT = {
    "LBFGS": "computes the loss several times for each step",
    "SparseAdam": "takes sparse gradients only",
}


@spec
class Adam:
    """Adam (Kingma and Ba, 2015, arXiv 1412.6980)."""

    betas: Betas = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    kind: Literal["adam"] = "adam"

    @property
    def title(self) -> str:
        """The optimiser's name."""
        return "Adam"


@spec
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, arXiv 1711.05101)."""

    betas: Betas = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    kind: Literal["adamw"] = "adamw"

    @property
    def title(self) -> str:
        """The optimiser's name."""
        return "AdamW"


@spec
class Adamax:
    """Adam's variant with the infinity norm (Kingma and Ba, 2015, section 7.1)."""

    betas: Betas = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    kind: Literal["adamax"] = "adamax"

    @property
    def title(self) -> str:
        """The optimiser's name."""
        return "Adamax"


@spec
class TorchOptimiser:
    """An optimiser of `torch.optim`, by its name.

    Args:
        name: Of the class, such as RMSprop.
        settings: Its arguments besides parameters and learning rate.

    Example:
        >>> TorchOptimiser("SGD", {"momentum": 0.9}).title
        'SGD'
    """

    name: str = "SGD"
    settings: Mapping[str, bool | int | float | tuple[float, ...]] = Field(default_factory=dict)
    kind: Literal["torch"] = "torch"

    def __post_init__(self) -> None:
        known = getattr(torch.optim, self.name, None)
        if not (isinstance(known, type) and issubclass(known, Optimizer)) or known is Optimizer:
            raise SpecError(
                f"torch.optim has no optimiser {self.name!r}: use one such as SGD, RMSprop or NAdam",
                field="name",
                value=self.name,
            )
        if self.name in UNFIT:
            raise SpecError(
                f"torch.optim.{self.name} {UNFIT[self.name]}, which training does not do: use another",
                field="name",
                value=self.name,
            )
        try:
            self.make([nn.Parameter(torch.zeros(1, 1))], 1e-3)
        except (TypeError, ValueError) as error:
            raise SpecError(
                f"torch.optim.{self.name} does not take {dict(self.settings)}: {error}",
                field="settings",
                value=dict(self.settings),
            ) from None

    @property
    def title(self) -> str:
        """The optimiser's name."""
        return self.name

    def make(self, parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
        """The optimiser of these parameters."""
        return getattr(torch.optim, self.name)(parameters, lr=lr, **self.settings)


_NO_CLOSURE = inspect.Parameter("closure", inspect.Parameter.KEYWORD_ONLY, default=None)


def _name_of(function: object) -> str:
    if isinstance(function, str):
        return function
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"


@spec
class PythonOptimiser:
    """An optimiser that a Python function makes.

    A file records the function's name alone, so that a training can be evaluated and used from its folder, but not
    resumed.

    Args:
        function: From the parameters to an optimiser of them.
    """

    function: Annotated[Callable[..., Any] | str, PlainSerializer(_name_of)]
    kind: Literal["python"] = "python"

    @property
    def title(self) -> str:
        """The function's name."""
        return _name_of(self.function)

    def make(self, parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
        """The optimiser of these parameters.

        Raises:
            SpecError: Only the function's name is known.
            TypeError: The function makes something else.
            ValueError: The optimiser needs what training does not do, or holds none of the parameters.
        """
        if isinstance(self.function, str):
            raise SpecError(
                f"the optimiser was made by the Python function {self.function}, of which only the name is kept: train "
                "further with Train(optimiser=) of a new run that is initialised from this one",
                field="Train.optimiser",
                value=self.function,
            )
        parameters = list(parameters)
        made = self.function(iter(parameters))
        if not isinstance(made, Optimizer):
            raise TypeError(f"the optimiser is made as a {type(made).__name__}: it must be a torch.optim.Optimizer")
        name = type(made).__name__
        if inspect.signature(made.step).parameters.get("closure", _NO_CLOSURE).default is inspect.Parameter.empty:
            raise SpecError(
                f"{name} {UNFIT['LBFGS']}, which training does not do: use another", field="Train.optimiser"
            )
        held = {id(weight) for group in made.param_groups for weight in group["params"]}
        if held.isdisjoint(map(id, parameters)):
            raise SpecError(
                f"the optimiser, {name}, holds none of the model's weights, so that no weight would move: make it of "
                "the parameters that the function is called with, as lambda p: torch.optim.Adam(p)",
                field="Train.optimiser",
            )
        return made


def _as_optimiser(value: object) -> object:
    """Names of torch's optimisers, their classes, and functions, as the specs that stand for them."""
    if isinstance(value, Optimizer):
        name = type(value).__name__
        raise ValueError(f"an optimiser made already is none: give a function, as lambda p: torch.optim.{name}(p)")
    if isinstance(value, str) and value.startswith(PREFIX):
        return {"kind": "torch", "name": value.removeprefix(PREFIX)}
    if isinstance(value, str) and value not in (*NAMES, "torch"):
        raise ValueError(
            f"'{short(value)}' is not an optimiser{nearest(value, NAMES)}: write {', '.join(NAMES)}, or another of "
            f"torch, as {PREFIX}RMSprop"
        )
    if isinstance(value, str):
        return {"kind": value}
    if isinstance(value, type) and getattr(torch.optim, value.__name__, None) is value:
        return {"kind": "torch", "name": value.__name__}
    if not (callable(value) or hasattr(value, "kind") or isinstance(value, Mapping)):
        raise ValueError(
            f"{value!r} is not an optimiser: give a name, {', '.join(NAMES)} or {PREFIX}RMSprop, a class of "
            "torch.optim, or a function, as lambda p: torch.optim.SGD(p, lr=0.1)"
        )
    return {"kind": "python", "function": value} if callable(value) else value


AdamKind = Adam | AdamW | Adamax
Optimiser = Annotated[
    Adam | AdamW | Adamax | TorchOptimiser | PythonOptimiser,
    Field(discriminator="kind"),
    BeforeValidator(_as_optimiser),
]
