"""Faster ways to run a program: compiled by torch, or on a GPU as a recorded graph; and whether compiling pays."""

import copy
import hashlib
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import cast

import torch
from torch import Tensor, fx

from vaekit import kernels
from vaekit.measured import Measured
from vaekit.training.engine.simplifying import direct

Call = Callable[..., Sequence[Tensor]]

COST, GAIN = 25.0, 0.08  # seconds to compile, and share of a call's time won, where nothing is known of a program
PAYS = 2.0  # times its cost that compiling must save
LEAST_GAIN = 0.02
RACES = 12

measured = Measured("compiled")


class CannotCompile(Exception):
    """Compiling failed, mostly because there is no C++ compiler; the message says why."""


def name_of(program: fx.GraphModule) -> str:
    """A name for what a program computes, the same in every process."""
    shapes = [str(node.meta["form"].shape) for node in program.graph.nodes if node.op == "placeholder"]
    text = "\n".join([program.code, *shapes, f"{torch.get_num_threads()} threads"])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pays(program: fx.GraphModule, seconds: float, calls: int) -> tuple[bool, str]:
    """Whether compiling pays for so many more calls of so many seconds each, and the reason in words."""
    known = measured.get(name_of(program))
    facts = [known.get(fact) for fact in ("cost", "gain")] if isinstance(known, dict) else []
    known = [fact for fact in facts if isinstance(fact, float) and math.isfinite(fact)]
    cost, gain = known if len(known) == 2 else (COST, GAIN)
    saved = calls * seconds * gain
    how = "as measured before" if len(known) == 2 else "by rule of thumb"
    reason = f"it would save {saved:.0f} s of {calls * seconds:.0f} s and cost {cost:.0f} s, {how}"
    return gain > LEAST_GAIN and saved > PAYS * cost, reason


def compile_program(program: fx.GraphModule, inputs: Sequence[Tensor]) -> Call:
    """The program compiled for inputs like these, ready to run; raises CannotCompile."""
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's own, of its own insides
            from torch._inductor import compile

            # not torch.compile: its guards, checked at each call, take a tenth of a small step
            compiled = cast(Call, compile(opaque(program), list(inputs)))
            compiled(*inputs)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of many kinds; the program itself runs without
        cause = getattr(error, "inner_exception", error)
        reason = str(cause).strip().splitlines() or [""]
        raise CannotCompile(
            f"{type(cause).__name__}: {reason[0]}; compiling needs a C++ compiler such as g++, and Train.compile=off "
            "does without"
        ) from error
    return compiled


def compile_if_faster(
    program: fx.GraphModule, inputs: Sequence[Tensor], ready: Callable[[Call], Call]
) -> tuple[Call | None, str]:
    """The program compiled, if it then runs faster, and what was found. ready: makes a call what is to be run."""
    began = time.perf_counter()
    compiled = compile_program(program, inputs)
    cost = time.perf_counter() - began
    plain_seconds, compiled_seconds = _race([ready(direct(program)), ready(compiled)], inputs)
    gain = 1 - compiled_seconds / plain_seconds
    measured.put(name_of(program), {"cost": cost, "gain": gain})
    found = f"{plain_seconds * 1e3:.2f} ms plain, {compiled_seconds * 1e3:.2f} ms compiled, after {cost:.0f} s"
    return (compiled, found) if gain > LEAST_GAIN else (None, found)


def capture(call: Call, inputs: Sequence[Tensor], lasting: int) -> Call:
    """The call as a CUDA graph: all its kernels launched at once.

    The first `lasting` inputs are used where they lie, whatever a call is given.
    """
    held = [*inputs[:lasting], *(t.clone() for t in inputs[lasting:])]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        _run(call, [t.clone() for t in held])  # on trial: a step may change its buffers
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        results = call(*held)

    def replay(*given: Tensor) -> Sequence[Tensor]:
        for mine, theirs in zip(held[lasting:], given[lasting:], strict=True):
            mine.copy_(theirs)
        graph.replay()
        return [result.clone() for result in results]

    return replay


def opaque(program: fx.GraphModule) -> fx.GraphModule:
    """The program with each kernel of oneDNN as an operation that torch.compile leaves alone.

    It cannot lower one whose weights change.
    """
    hidden = copy.deepcopy(program)
    for node in hidden.graph.nodes:
        if node.target is kernels.KERNELS["onednn"]:
            node.target = _opaque_linear()
    hidden.recompile()
    return hidden


@cache
def _opaque_linear() -> Callable[..., Tensor]:
    def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return kernels.KERNELS["onednn"](x, weight, bias)

    operation = torch.library.custom_op("vaekit::onednn_linear", linear, mutates_args=())
    operation.register_fake(lambda x, weight, bias: x.new_empty(len(x), len(weight)))
    return torch.ops.vaekit.onednn_linear.default


def _run(call: Call, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    with torch.no_grad():
        return call(*inputs)


def _race(calls: Sequence[Call], inputs: Sequence[Tensor]) -> list[float]:
    """Seconds of a call of each, the median of several, in turn."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(RACES):
        for taken, call in zip(seconds, calls, strict=True):
            began = time.perf_counter()
            _run(call, inputs)
            if inputs[0].device.type == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in seconds]
