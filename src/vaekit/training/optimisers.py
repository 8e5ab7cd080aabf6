"""Adam and its kin over named state: torch's own update rules, in their fused form where there is one.

The rules are called as functions. Torch's optimiser classes around them import the compiler (a second, before the first
step), and spend on hooks a third of what a small model's update takes.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.adamax import adamax

from vaekit.training.spec import Adamax, AdamW, Optimiser

# Of a moment: far below what can move a weight, and above what takes a processor many times longer. Squares decay more
# slowly, and are kept for longer, so that the root of one is never cleared beside a moment that counts.
NEGLIGIBLE, NEGLIGIBLE_SQUARE = 1e-30, 1e-36
MOMENTS = 3  # tensors that are kept of a parameter, each of its size at most


@runtime_checkable
class OwnRule(Protocol):
    """A module whose own parameters move by their gradients, but by a rule of their own."""

    def follow_gradient(self) -> None: ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...


def own_rules(module: nn.Module) -> list[OwnRule]:
    return [part for part in module.modules() if isinstance(part, OwnRule)]


class Updates:
    """An optimiser at work.

    settings: which rule, and its numbers.
    parameters: what it updates, by their gradients; one without a gradient is left as it is.
    others: modules that update theirs among these themselves.
    """

    def __init__(self, settings: Optimiser, parameters: Iterable[nn.Parameter], others: Iterable[OwnRule] = ()):
        self.settings, self.others = settings, list(others)
        theirs = {id(parameter) for part in self.others for parameter in part.parameters(recurse=False)}
        self.every = list(parameters)
        self.parameters = [parameter for parameter in self.every if id(parameter) not in theirs]
        self.state: dict[nn.Parameter, dict[str, Tensor]] = {}
        self.fused = all(p.device.type in ("cpu", "cuda", "mps") and p.is_floating_point() for p in self.parameters)
        self.second = "exp_inf" if isinstance(settings, Adamax) else "exp_avg_sq"

    def clear_gradients(self) -> None:
        for parameter in self.every:
            parameter.grad = None

    @torch.no_grad()
    def __call__(self, lr: float) -> None:
        """One step at this learning rate."""
        for part in self.others:
            part.follow_gradient()
        chosen = self.settings
        trained: list[Tensor] = []
        gradients, states = [], []
        for parameter in self.parameters:
            if parameter.grad is not None:
                trained += [parameter]
                gradients += [_laid_out_as(parameter, parameter.grad)]
                states += [self.state.get(parameter) or self._start(parameter)]
        means, squares, steps = ([state[name] for state in states] for name in ("exp_avg", self.second, "step"))
        (beta1, beta2), eps = chosen.betas, chosen.eps
        if isinstance(chosen, Adamax):
            adamax(
                trained, gradients, means, squares, steps, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=0.0
            )
        else:
            adam(
                trained,
                gradients,
                means,
                squares,
                [],
                steps,
                fused=self.fused,
                lr=lr,
                beta1=beta1,
                beta2=beta2,
                eps=eps,
                weight_decay=chosen.weight_decay if isinstance(chosen, AdamW) else 0.0,
                decoupled_weight_decay=isinstance(chosen, AdamW),
                amsgrad=False,
                maximize=False,
            )

    @torch.no_grad()
    def clear_negligible(self) -> None:
        """Set to zero what has decayed to nearly that: moments of weights whose gradient has long been zero, such as
        those of a pixel that is always black. In time they would be denormal, and slow a CPU's update fivefold."""
        for state in self.state.values():
            for name, least in (("exp_avg", NEGLIGIBLE), (self.second, NEGLIGIBLE_SQUARE)):
                state[name].mul_(state[name].abs() > least)

    def kept(self, parameter: Tensor) -> dict[str, Tensor]:
        """Names, shapes and types of what is kept of a parameter, without numbers."""
        like = {"dtype": parameter.dtype, "device": "meta"}
        shape = tuple(parameter.shape)
        return {
            "step": torch.empty((), dtype=torch.float32, device="meta"),
            "exp_avg": torch.empty(shape, **like),
            self.second: torch.empty(shape, **like),
        }

    def _start(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        self.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device if self.fused else None),
            "exp_avg": torch.zeros_like(parameter),
            self.second: torch.zeros_like(parameter),
        }
        return self.state[parameter]


def _laid_out_as(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient with its numbers in memory as the parameter's are: on a CPU the fused rules read both alike, and
    take no notice of strides. (What autograd accumulates is so; what a program returns need not be.)"""
    return gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
