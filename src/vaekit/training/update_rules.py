"""Updates of the weights by their gradients, and what they keep of each weight.

Adam and its variants are torch's own update rules, called as functions, in their fused form where there is one: torch's
optimiser classes around them import the compiler (a second, before the first step), and spend on hooks a third of what
a small model's update takes. Other optimisers are those classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.adamax import adamax

from vaekit.training.distributed import placed_like
from vaekit.training.optimisers import Adamax, AdamKind, AdamW, Optimiser, PythonOptimiser, TorchOptimiser

aten = torch.ops.aten

# Of a moment: far below what can move a weight, and above what takes a processor many times longer. Squares decay more
# slowly, and are kept for longer, so that the root of one is never cleared beside a moment that counts.
NEGLIGIBLE, NEGLIGIBLE_SQUARE = 1e-30, 1e-36
MOST_KEPT = 8  # tensors that an optimiser keeps of a parameter, each of its size at most
NUMBER = ":number"  # ends the name of what an optimiser keeps as a Python number


@runtime_checkable
class OwnRule(Protocol):
    """A module whose own parameters move by their gradients, but by a rule of their own."""

    def follow_gradient(self) -> None:
        """Move the parameters by the gradient that was left in them."""
        ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """The parameters that it moves."""
        ...


def own_rules(module: nn.Module) -> list[OwnRule]:
    """The parts of a module that move their parameters by a rule of their own."""
    return [part for part in module.modules() if isinstance(part, OwnRule)]


class Updates(ABC):
    """An optimiser at work.

    Args:
        parameters: What it updates, by their gradients; one without a gradient is left as it is.
        others: Modules that update theirs among these themselves.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], others: Iterable[OwnRule] = ()):
        self.others = list(others)
        theirs = {id(parameter) for part in self.others for parameter in part.parameters(recurse=False)}
        self.all_parameters = list(parameters)
        self.parameters = [parameter for parameter in self.all_parameters if id(parameter) not in theirs]

    def __call__(self, lr: float) -> None:
        """One step at this learning rate."""
        with torch.no_grad():
            for part in self.others:
                part.follow_gradient()
        self.update(lr)

    @abstractmethod
    def update(self, lr: float) -> None:
        """Move the parameters at this learning rate."""

    def clear_gradients(self) -> None:
        """Drop the gradients of all parameters."""
        for parameter in self.all_parameters:
            parameter.grad = None

    @abstractmethod
    def clear_negligible(self) -> None:
        """Set moments to zero whose weights have long had no gradient, as those of a pixel that is always black.

        In time they would be denormal, and slow a CPU's update fivefold.
        """

    @abstractmethod
    def kept(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """What is kept of a parameter, by name; nothing before its first update."""

    @abstractmethod
    def expected(self, parameter: nn.Parameter, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the names, shapes and types that may be kept of a parameter, where `found` is in a file."""

    @abstractmethod
    def restore(self, parameter: nn.Parameter, found: Mapping[str, Tensor]) -> None:
        """Keep of a parameter what was kept of it before."""

    @abstractmethod
    def forget(self) -> None:
        """Keep nothing of any parameter, as before the first update."""


class AdamUpdates(Updates):
    """Adam, AdamW or Adamax; see `Updates` for the other arguments.

    Args:
        settings: Which of them, and its numbers.
    """

    def __init__(self, settings: AdamKind, parameters: Iterable[nn.Parameter], others: Iterable[OwnRule] = ()):
        super().__init__(parameters, others)
        self.settings = settings
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}
        self.fused = all(p.device.type in ("cpu", "cuda", "mps") and p.is_floating_point() for p in self.parameters)
        self.alike = len({(p.device, p.dtype) for p in self.parameters}) == 1
        self.second = "exp_inf" if isinstance(settings, Adamax) else "exp_avg_sq"

    @torch.no_grad()
    def update(self, lr: float) -> None:
        chosen = self.settings
        trained: list[Tensor] = []
        gradients, states = [], []
        for parameter in self.parameters:
            if parameter.grad is not None:
                trained += [parameter]
                gradients += [laid_out_as(parameter, parameter.grad)]
                states += [self.state.get(parameter) or self._start(parameter)]
        if not trained:
            return
        means, squares, steps = ([state[name] for state in states] for name in ("exp_avg", self.second, "step"))
        decoupled = isinstance(chosen, AdamW)
        numbers: dict[str, Any] = {
            "lr": lr,
            "beta1": chosen.betas[0],
            "beta2": chosen.betas[1],
            "eps": chosen.eps,
            "weight_decay": chosen.weight_decay if decoupled else 0.0,
        }
        if isinstance(chosen, Adamax):
            return adamax(trained, gradients, means, squares, steps, **numbers)
        numbers |= {"amsgrad": False, "maximize": False}
        tensors = (trained, gradients, means, squares, [], steps)
        if not (self.fused and self.alike):
            return adam(*tensors, fused=self.fused, decoupled_weight_decay=decoupled, **numbers)
        # as `adam` does it, but for sorting the parameters by device and type at every step
        aten._foreach_add_.Scalar(steps, 1)
        (aten._fused_adamw_ if decoupled else aten._fused_adam_).default(*tensors, **numbers)

    @torch.no_grad()
    def clear_negligible(self) -> None:
        for state in self.state.values():
            for name, least in (("exp_avg", NEGLIGIBLE), (self.second, NEGLIGIBLE_SQUARE)):
                state[name].mul_(state[name].abs() > least)

    def kept(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        return self.state.get(parameter, {})

    def expected(self, parameter: nn.Parameter, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        like = {"dtype": parameter.dtype, "device": "meta"}
        shape = tuple(parameter.shape)
        return {
            "step": torch.empty((), dtype=torch.float32, device="meta"),
            "exp_avg": torch.empty(shape, **like),
            self.second: torch.empty(shape, **like),
        }

    def restore(self, parameter: nn.Parameter, found: Mapping[str, Tensor]) -> None:
        self.state[parameter] = {name: placed_like(value, parameter) for name, value in found.items()}

    def forget(self) -> None:
        self.state.clear()

    def _start(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        self.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device if self.fused else None),
            "exp_avg": torch.zeros_like(parameter),
            self.second: torch.zeros_like(parameter),
        }
        return self.state[parameter]


class TorchUpdates(Updates):
    """Any optimiser of torch; see `Updates` for the other arguments.

    Its learning rates are those that it is made with, times what the schedule makes of `lr`. What it keeps of each
    parameter is part of a checkpoint; numbers that it changes in its `param_groups` are not.

    Args:
        settings: Which optimiser.
        lr: Learning rate of the training, before its schedule.
    """

    def __init__(
        self,
        settings: TorchOptimiser | PythonOptimiser,
        lr: float,
        parameters: Iterable[nn.Parameter],
        others: Iterable[OwnRule] = (),
    ):
        super().__init__(parameters, others)
        self.lr = lr
        self.optimiser = settings.make(self.parameters, lr)
        self.rates = [group["lr"] for group in self.optimiser.param_groups]

    def update(self, lr: float) -> None:
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * (lr / self.lr)
        self.optimiser.step()

    @torch.no_grad()
    def clear_negligible(self) -> None:
        for parameter in self.parameters:
            for value in self.optimiser.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == parameter.shape and value.is_floating_point():
                    value.mul_(value.abs() > NEGLIGIBLE_SQUARE)

    def kept(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, value in self.optimiser.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                found[name] = value
            elif isinstance(value, int | float):
                found[name + NUMBER] = torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
            elif value is not None:
                raise TypeError(
                    f"{type(self.optimiser).__name__} keeps a {type(value).__name__} of each parameter ({name}), which "
                    "no checkpoint can hold: use an optimiser that keeps tensors and numbers"
                )
        return found

    def expected(self, parameter: nn.Parameter, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        most = max(1, parameter.numel())
        return {name: value if value.numel() <= most else parameter for name, value in found.items()}

    def restore(self, parameter: nn.Parameter, found: Mapping[str, Tensor]) -> None:
        self.optimiser.state[parameter] = {
            name.removesuffix(NUMBER): value.item() if name.endswith(NUMBER) else self._placed(value, parameter)
            for name, value in found.items()
        }

    def _placed(self, value: Tensor, parameter: nn.Parameter) -> Tensor:
        """On the parameter's device, but counts of steps where torch keeps them."""
        on_device = any(group.get("fused") or group.get("capturable") for group in self.optimiser.param_groups)
        return placed_like(value, parameter) if value.dim() or on_device else value.to("cpu", copy=True)

    def forget(self) -> None:
        self.optimiser.state.clear()


def build_updates(
    settings: Optimiser, lr: float, parameters: Iterable[nn.Parameter], others: Iterable[OwnRule] = ()
) -> Updates:
    """The optimiser of a training; see `TorchUpdates` for the arguments."""
    if isinstance(settings, TorchOptimiser | PythonOptimiser):
        return TorchUpdates(settings, lr, parameters, others)
    return AdamUpdates(settings, parameters, others)


def laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with its numbers in memory as the parameter's are, as they are where autograd accumulates it.

    On a CPU the fused rules read both alike, and take no notice of strides.
    """
    return gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
