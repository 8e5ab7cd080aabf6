"""The engine that runs a step as a program: a flat list of tensor operations, its backward pass included."""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from vaekit.models.networks.precision import networks_in_bf16
from vaekit.training.engine.autograd import Autograd, minimised
from vaekit.training.engine.compiling import Call, CannotCompile, capture, compile_if_faster, compile_program, pays
from vaekit.training.engine.recording import Untraceable
from vaekit.training.engine.simplifying import choose_products, direct, trace
from vaekit.training.noise import Noise
from vaekit.training.spec import Train
from vaekit.training.state import State
from vaekit.training.step import StepInputs
from vaekit.training.update_rules import laid_out_as

FIRST_TRACED = 20  # steps before are through autograd, so that the first does not wait
NOTEWORTHY = 60  # seconds of training, from which on a person may wonder why it is not compiled
WATCHED = 30  # calls of a program before it is decided whether to compile it
SETTLED = 3  # calls of what was decided on, before a step's time is what it will be


@dataclass
class Traced:
    """A program, how it is run, and what its results are: the sums stacked, then the gradients of some parameters.

    Attributes:
        program: The operations.
        run: Calls them, perhaps compiled.
        sums: Names of the sums.
        parameters: Those that have gradients.
        seconds: Taken by its first calls.
    """

    program: fx.GraphModule
    run: Call
    sums: Sequence[str]
    parameters: Sequence[nn.Parameter]
    seconds: list[float] = field(default_factory=list)


class Programs(Autograd):
    """The step as a program for each shape of batch; through autograd once one cannot be traced.

    What is decided about compiling is noted in the state, and followed where the state has it already.

    Args:
        state: Of the training; its precision is decided.
        settings: Of training.
        first: The first step that is run by a program.
    """

    def __init__(self, state: State, settings: Train, first: int = 0):
        super().__init__(state)
        self.batch_size, self.first = settings.batch_size, first
        self.parameters = dict(state.step.named_parameters())
        self.buffers = dict(state.step.named_buffers())
        self.traced: dict[object, Traced] = {}
        self.untraceable = False
        self.budget = settings.seconds()
        if state.at.compiled is None and settings.compile != "auto":
            state.advance(compiled=settings.compile == "on")

    def __call__(self, inputs: StepInputs, scale: float, last: bool) -> dict[str, Tensor]:
        """See `Autograd.__call__`."""
        if self.untraceable or self.state.at.step < self.first:
            return super().__call__(inputs, scale, last)
        key = (scale, inputs.objective, *(None if t is None else (t.shape, t.dtype) for t in _tensors(inputs)))
        if key not in self.traced:
            try:
                self.traced[key] = self._trace(inputs, scale)
            except Untraceable as why:
                self.untraceable = True
                self.notice = f"each step runs one operation after the other, since it cannot be traced: {why}"
                return super().__call__(inputs, scale, last)
        return self._run(self.traced[key], inputs)

    @property
    def decided(self) -> bool:
        """Whether steps are as fast by now as they are going to be."""
        if self.untraceable:
            return True
        ran = max((len(traced.seconds) for traced in self.traced.values()), default=0)
        return self.state.at.compiled is not None and ran >= SETTLED

    def _is_main(self, inputs: StepInputs) -> bool:
        """Whether these rows are as many as a piece of a whole batch, and not of the rest of an epoch."""
        whole = min(self.batch_size, self.state.step.rows)
        pieces = math.ceil(whole / (self.state.at.micro_batch or whole))
        return whole // pieces <= len(inputs.x) <= math.ceil(whole / pieces)

    def _run(self, traced: Traced, inputs: StepInputs) -> dict[str, Tensor]:
        began = time.perf_counter()
        with torch.no_grad():
            sums, *gradients = traced.run(*self.flat(inputs))
        for parameter, gradient in zip(traced.parameters, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        if len(traced.seconds) < WATCHED:
            traced.seconds += [time.perf_counter() - began]
        if self.state.at.compiled is None and len(traced.seconds) == WATCHED and self._is_main(inputs):
            self._decide(traced, inputs)
        return dict(zip(traced.sums, sums.unbind(), strict=True))

    def flat(self, inputs: StepInputs) -> list[Tensor]:
        """All that a program is called with; step and steps as a tensor, since numbers would be fixed in it."""
        dtype = torch.float32 if inputs.x.device.type == "mps" else torch.float64
        clock = torch.tensor([inputs.step, inputs.steps], dtype=dtype, device=inputs.x.device)
        tensors = [t for t in _tensors(inputs) if t is not None]
        return [*self.parameters.values(), *self.buffers.values(), *tensors, clock]

    def _spare(self, inputs: StepInputs) -> list[Tensor]:
        """As `flat`, for a call on trial: a step may change the buffers."""
        weights = len(self.parameters)
        return [t if i < weights else t.clone() for i, t in enumerate(self.flat(inputs))]

    def _trace(self, inputs: StepInputs, scale: float) -> Traced:
        sums: list[str] = []
        parameters: list[nn.Parameter] = []

        def gradients(*flat: Tensor) -> list[Tensor]:
            left = iter(flat)
            weights = {name: next(left) for name in self.parameters}
            others = {name: next(left) for name in self.buffers}
            traced_inputs = _with_tensors(inputs, left)
            with torch.enable_grad():
                with networks_in_bf16(self.state.at.precision == "bf16"):
                    out = functional_call(self.state.step, weights | others, (traced_inputs,))
                found = torch.autograd.grad(minimised(out) * scale, list(weights.values()), allow_unused=True)
            sums[:] = out
            pairs = [(p, g) for p, g in zip(self.parameters.values(), found, strict=True) if g is not None]
            parameters[:] = [parameter for parameter, _ in pairs]
            return [torch.stack([value.detach() for value in out.values()]), *(laid_out_as(p, g) for p, g in pairs)]

        spare = self._spare(inputs)
        program = trace(gradients, spare)
        self.state.advance(kernels={**self.state.at.kernels, **choose_products(program)})
        traced = Traced(program, direct(program), list(sums), list(parameters))
        if self.state.at.compiled and self._is_main(inputs):
            try:
                began = time.perf_counter()
                traced.run = compile_program(program, spare)
                self.notice = f"compiled, in {time.perf_counter() - began:.0f} s"
            except CannotCompile as why:
                self.notice = f"goes on uncompiled ({why})"
        traced.run = self._captured(traced.run, self.flat(inputs))
        return traced

    def _captured(self, call: Call, flat: list[Tensor]) -> Call:
        """On a GPU the call as a CUDA graph, which works on the parameters and buffers where they lie."""
        lasting = len(self.parameters) + len(self.buffers)
        return capture(call, flat, lasting) if flat[0].device.type == "cuda" else call

    def _decide(self, traced: Traced, inputs: StepInputs) -> None:
        """Whether to compile the program that is called most."""
        seconds, at = statistics.median(traced.seconds), self.state.at
        calls = int(inputs.steps) - at.step
        if self.budget is not None and at.steps is None:
            calls = int((self.budget - at.total_seconds) / seconds)
        promising, reason = pays(traced.program, seconds, calls)
        compiled, found = None, reason
        if promising:
            spare = self._spare(inputs)
            try:
                compiled, found = compile_if_faster(traced.program, spare, lambda call: self._captured(call, spare))
            except CannotCompile as why:
                found = str(why)
        if compiled is not None:
            traced.run = self._captured(compiled, self.flat(inputs))
            self.traced = {key: one for key, one in self.traced.items() if one is traced}  # others are compiled in turn
        self.state.advance(compiled=compiled is not None)
        if promising or calls * seconds > NOTEWORTHY:
            self.notice = f"{'not ' if compiled is None else ''}compiled: {found}"


def _tensors(inputs: StepInputs) -> list[Tensor | None]:
    """The tensors among the inputs, in the order in which a program takes them."""
    of_rows = [inputs.x, inputs.context, inputs.mask, inputs.weight]
    return [*of_rows, *inputs.noise.latents, inputs.noise.objective, inputs.noise.hiding]


def _with_tensors(inputs: StepInputs, tensors: Iterator[Tensor]) -> StepInputs:
    """The inputs with other tensors, in the order of `_tensors`, and last step and steps as one."""
    found = (None if t is None else next(tensors) for t in _tensors(inputs))
    x, context, mask, weight, *latents, objective, hiding = found
    assert x is not None
    step, steps = next(tensors).unbind()
    given = replace(inputs, x=x, context=context, mask=mask, weight=weight)
    return replace(given, noise=Noise(latents, objective, hiding), step=step, steps=steps)
