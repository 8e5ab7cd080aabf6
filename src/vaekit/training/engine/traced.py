"""How the gradients of a step are computed: through autograd, operation by operation, or by a program."""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from vaekit.models.networks import products
from vaekit.training.distributed import syncing, wrap
from vaekit.training.engine.compiling import Call, CannotCompile, compile_if_faster, compile_program, pays, record
from vaekit.training.engine.program import choose_products, trace
from vaekit.training.recording import Untraceable
from vaekit.training.spec import Train
from vaekit.training.state import State

TRACED_FROM = 500  # steps of a training: for fewer, tracing does not pay
FIRST_TRACED = 20  # steps before are through autograd, so that the first does not wait
BF16_FROM = 1.5  # times the speed of single precision
WORTH_TELLING = 60  # seconds of training, from which on a person may wonder why it is not compiled
WATCHED = 30  # calls of a program before it is decided whether to compile it
SETTLED = 3  # calls of what was decided on, before a step's time is what it will be

Noise = Sequence[Tensor | None]
Given = Sequence[Tensor | None]  # x, context, noise of each group


def build_engine(state: State, settings: Train, steps: int) -> "Engine":
    """The engine for a training of so many steps."""
    if state.at.precision is None:
        state.advance(precision=state.step.world.agree(choose_precision(settings.precision, state.step)))
    state.step.bf16 = state.at.precision == "bf16"
    is_long = steps >= TRACED_FROM or settings.budget is not None or settings.compile == "on"
    alone = state.step.world.size == 1
    engine = Programs(state, settings, FIRST_TRACED) if alone and is_long else Autograd(state)
    why = "as asked" if settings.precision == "bf16" else "which is much faster on this machine"
    told = [f"networks compute in bf16, {why}"] if state.step.bf16 else []
    if settings.compile == "on" and not alone:
        told += ["several processes run uncompiled"]
    elif settings.compile == "on" and settings.budget is None and steps <= FIRST_TRACED:
        told += [f"not compiled: {steps} steps are over before there is anything to compile"]
    engine.told = "; ".join(told)
    return engine


def choose_precision(asked: str, step: nn.Module) -> str:
    """fp32 or bf16: what is asked for; for `auto`, bf16 where it is much faster and weights are single precision."""
    weight = next(step.parameters())
    if asked != "auto" or weight.dtype != torch.float32:
        return "fp32" if asked == "auto" else asked
    if weight.device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if weight.device.type == "cpu" and products.bf16_gain() > BF16_FROM else "fp32"


def slowed_by_others(device: torch.device) -> str:
    """What to tell of a machine whose cores are in use by others, so that threads wait for one another."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or (gain := products.threads_help()) >= 1:
        return ""
    return (
        f"this machine is busy: {threads} threads are slower than one ({gain:.2f} times its speed); OMP_NUM_THREADS=1 "
        "is faster until its cores are free"
    )


class Autograd:
    """For several processes, short runs, and whatever cannot be traced."""

    def __init__(self, state: State):
        self.state = state
        self.engine = wrap(state.step, state.step.world)
        self.told = ""  # what there is to tell, once
        self.decided = True  # how steps are to be computed

    def __call__(self, x: Tensor, context: Tensor | None, noise: Noise, scale: float, last: bool) -> dict[str, Tensor]:
        """Add the gradient of scale times the loss to that of each parameter; returns the step's sums, detached.

        last: whether this piece of a batch is its last.
        """
        with syncing(self.engine, last):
            out: dict[str, Tensor] = self.engine(x, None, context, noise, self.state.at.step)
            (_minimised(out) * scale).backward()
        return {name: value.detach() for name, value in out.items()}


def _minimised(sums: Mapping[str, Tensor]) -> Tensor:
    """What is differentiated: both players' losses at once, since neither has gradients for the other's weights."""
    return sums["loss"] + sums["discriminator_loss"] if "discriminator_loss" in sums else sums["loss"]


@dataclass
class Traced:
    """A program, how it is run, and what its results are: the sums stacked, then the gradients of some parameters."""

    program: fx.GraphModule
    run: Call
    sums: Sequence[str]
    parameters: Sequence[nn.Parameter]
    seconds: list[float] = field(default_factory=list)  # that its calls took


class Programs:
    """The step as a program for each shape of batch; through autograd once one cannot be traced.

    What is decided about compiling is noted in the state, and followed where it is there.

    first: the first step that is run by a program.
    """

    def __init__(self, state: State, settings: Train, first: int = 0):
        self.state, self.step, self.batch_size, self.first = state, state.step, settings.batch_size, first
        self.parameters = dict(state.step.named_parameters())
        self.buffers = dict(state.step.named_buffers())
        self.traced: dict[object, Traced] = {}
        self.untraceable = False
        self.autograd = Autograd(state)
        self.budget = settings.seconds()
        self.told = ""
        if state.at.compiled is None and settings.compile != "auto":
            state.advance(compiled=settings.compile == "on")

    def __call__(self, x: Tensor, context: Tensor | None, noise: Noise, scale: float, last: bool) -> dict[str, Tensor]:
        if self.untraceable or self.state.at.step < self.first:
            return self.autograd(x, context, noise, scale, last)
        given = (x, context, *noise)
        key = (scale, self.step.objective, *(None if t is None else (t.shape, t.dtype) for t in given))
        if key not in self.traced:
            try:
                self.traced[key] = self._trace(given, scale)
            except Untraceable as why:
                self.untraceable = True
                self.told = f"each step runs one operation after the other, since it cannot be traced: {why}"
                return self.autograd(x, context, noise, scale, last)
        return self._run(self.traced[key], given)

    @property
    def decided(self) -> bool:
        """Whether steps are as fast by now as they are going to be."""
        if self.untraceable:
            return True
        ran = max((len(traced.seconds) for traced in self.traced.values()), default=0)
        return self.state.at.compiled is not None and ran >= SETTLED

    def _is_main(self, given: Given) -> bool:
        """Whether these rows are as many as a piece of a whole batch, and not of the rest of an epoch."""
        whole = min(self.batch_size, self.step.rows)
        pieces = math.ceil(whole / (self.state.at.micro_batch or whole))
        return whole // pieces <= len(_x(given)) <= math.ceil(whole / pieces)

    def _run(self, traced: Traced, given: Given) -> dict[str, Tensor]:
        began = time.perf_counter()
        with torch.no_grad():
            sums, *gradients = traced.run(*self._inputs(given))
        for parameter, gradient in zip(traced.parameters, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        if len(traced.seconds) < WATCHED:
            traced.seconds += [time.perf_counter() - began]
        if self.state.at.compiled is None and len(traced.seconds) == WATCHED and self._is_main(given):
            self._decide(traced, given)
        return dict(zip(traced.sums, sums.unbind(), strict=True))

    def _inputs(self, given: Given) -> list[Tensor]:
        x = _x(given)
        dtype = torch.float32 if x.device.type == "mps" else torch.float64
        clock = torch.tensor([self.state.at.step, self.step.steps], dtype=dtype, device=x.device)
        tensors = [t for t in given if t is not None]
        return [*self.parameters.values(), *self.buffers.values(), *tensors, clock]

    def _spare_inputs(self, given: Given) -> list[Tensor]:
        """Inputs for a call on trial: a step may change the buffers."""
        weights = len(self.parameters)
        return [t if i < weights else t.clone() for i, t in enumerate(self._inputs(given))]

    def _trace(self, given: Given, scale: float) -> Traced:
        sums: list[str] = []
        parameters: list[nn.Parameter] = []

        def gradients(*flat: Tensor) -> list[Tensor]:
            left = iter(flat)
            weights = {name: next(left) for name in self.parameters}
            others = {name: next(left) for name in self.buffers}
            x, context, *noise = (None if t is None else next(left) for t in given)
            step, self.step.steps = next(left).unbind()
            with torch.enable_grad():
                out = functional_call(self.step, weights | others, (x, None, context, noise, step))
                found = torch.autograd.grad(_minimised(out) * scale, list(weights.values()), allow_unused=True)
            sums[:] = out
            parameters[:] = [p for p, g in zip(self.parameters.values(), found, strict=True) if g is not None]
            return [torch.stack([value.detach() for value in out.values()]), *(g for g in found if g is not None)]

        inputs, steps = self._spare_inputs(given), self.step.steps
        try:
            program = trace(gradients, inputs)
        finally:
            self.step.steps = steps
        self.state.advance(kernels={**self.state.at.kernels, **choose_products(program)})
        traced = Traced(program, program.forward, list(sums), list(parameters))
        if self.state.at.compiled and self._is_main(given):
            try:
                began = time.perf_counter()
                traced.run = compile_program(program, inputs)
                self.told = f"compiled, in {time.perf_counter() - began:.0f} s"
            except CannotCompile as why:
                self.told = f"goes on uncompiled ({why})"
        traced.run = self._recorded(traced.run, self._inputs(given))
        return traced

    def _recorded(self, call: Call, inputs: list[Tensor]) -> Call:
        """On a GPU the call as a CUDA graph, which works on the parameters and buffers where they lie."""
        lasting = len(self.parameters) + len(self.buffers)
        return record(call, inputs, lasting) if inputs[0].device.type == "cuda" else call

    def _decide(self, traced: Traced, given: Given) -> None:
        """Whether to compile the program that is called most."""
        seconds, at = statistics.median(traced.seconds), self.state.at
        calls = self.step.steps - at.step
        if self.budget is not None and at.steps is None:
            calls = int((self.budget - at.total_seconds) / seconds)
        promising, reckoning = pays(traced.program, seconds, calls)
        compiled, found = None, reckoning
        if promising:
            inputs = self._spare_inputs(given)
            try:
                compiled, found = compile_if_faster(traced.program, inputs, lambda call: self._recorded(call, inputs))
            except CannotCompile as why:
                found = str(why)
        if compiled is not None:
            traced.run = self._recorded(compiled, self._inputs(given))
            self.traced = {key: one for key, one in self.traced.items() if one is traced}  # others are compiled in turn
        self.state.advance(compiled=compiled is not None)
        if promising or calls * seconds > WORTH_TELLING:
            self.told = f"{'not ' if compiled is None else ''}compiled: {found}"


def _x(given: Given) -> Tensor:
    assert given[0] is not None
    return given[0]


Engine = Autograd | Programs
