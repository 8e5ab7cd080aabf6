"""Which engine runs a training, and in which precision."""

import torch
import torch.nn.functional as F
from torch import nn

from vaekit import kernels
from vaekit.measured import Measured, shortest_calls, threads_help
from vaekit.training.engine.autograd import Autograd
from vaekit.training.engine.programs import FIRST_TRACED, Programs
from vaekit.training.spec import Train
from vaekit.training.state import State
from vaekit.words import counted

TRACED_FROM = 500  # steps of a training: for fewer, tracing does not pay
NOTEWORTHY_FROM = 500  # steps of a training, in which it matters whether the machine is busy
BF16_FROM = 1.5  # times the speed of single precision

measured = Measured("precision")


def build_engine(state: State, settings: Train, steps: int) -> Autograd:
    """The engine for a training of so many steps; notes in the state which precision it computes in."""
    kernels.remember(state.at.kernels)
    if state.at.precision is None:
        state.advance(precision=state.step.world.agree(choose_precision(settings.precision, state.step)))
    is_long = steps >= TRACED_FROM or settings.budget is not None or settings.compile == "on"
    alone = state.step.world.size == 1
    engine = Programs(state, settings, FIRST_TRACED) if alone and is_long else Autograd(state)
    why = "as requested" if settings.precision == "bf16" else "which is much faster on this machine"
    notices = [f"networks compute in bf16, {why}"] if state.at.precision == "bf16" else []
    if settings.compile == "on" and not alone:
        notices += ["several processes run uncompiled"]
    elif settings.compile == "on" and settings.budget is None and steps <= FIRST_TRACED:
        notices += [f"not compiled: {counted(steps, 'step is', 'steps are')} over before there is anything to compile"]
    if steps >= NOTEWORTHY_FROM and (busy := slowed_by_others(next(state.step.parameters()).device)):
        notices += [busy]
    engine.notice = "; ".join(notices)
    return engine


def choose_precision(requested: str, step: nn.Module) -> str:
    """fp32 or bf16: the one that is requested; for `auto`, bf16 where it is much faster and weights are in fp32."""
    weight = next(step.parameters())
    if requested != "auto" or weight.dtype != torch.float32:
        return "fp32" if requested == "auto" else requested
    if weight.device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if weight.device.type == "cpu" and bf16_gain() > BF16_FROM else "fp32"


def bf16_gain() -> float:
    """How many times faster a product in bf16 is than the fastest in single precision, on this CPU."""
    if not (kernels.has_onednn() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return 0.0
    gain = measured.get(name := f"gain of bf16 threads={torch.get_num_threads()}")
    if not isinstance(gain, float):
        x, weight = torch.ones(256, 512), torch.ones(512, 512)
        (half,) = shortest_calls([F.linear], x.bfloat16(), weight.bfloat16(), None)
        gain = min(shortest_calls(kernels.KERNELS.values(), x, weight, None)) / half
        measured.put(name, gain)
    return gain


def slowed_by_others(device: torch.device) -> str:
    """A notice where other programs use this machine's cores, so that threads wait for one another; else empty."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or (gain := threads_help()) >= 1:
        return ""
    return (
        f"this machine is busy: {threads} threads are slower than one ({gain:.2f} times its speed); OMP_NUM_THREADS=1 "
        "is faster until its cores are free"
    )
