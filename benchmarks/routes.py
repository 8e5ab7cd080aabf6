"""Ways to run the same training step, against one another and against its matrix products alone.

    python benchmarks/routes.py --write docs/performance.md

Each way gives the gradients of one batch from the same weights, images and noise, and is checked against autograd's
before it is timed; data, optimiser and loop are left out. All take turns, batch by batch of calls.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from facts import paragraph, provenance, put_into, table
from speed import of_limit, of_vaekit
from vaekit.training.engine import Autograd, Programs
from vaekit.training.engine.compiling import compile_program, opaque
from vaekit.training.noise import Noise
from vaekit.training.spec import Train
from vaekit.training.step import StepInputs

BATCHES = (16, 128, 512)
CALLS = {16: 200, 128: 60, 512: 20}
Call = Callable[[], Sequence[Tensor]]


class Setting:
    """One batch at the tutorial's model, and what the ways are made from."""

    def __init__(self, batch: int):
        self.training = of_vaekit.start("mlp", batch)
        self.step = self.training.state.step
        self.parameters = list(self.step.parameters())
        self.x = self.training.data.train.batch(slice(0, batch))
        noise = torch.randn(1, batch, self.training.run.model.latent, generator=torch.Generator().manual_seed(0))
        self.inputs = StepInputs(self.x, self.training.run.objective, noise=Noise([noise]))
        self.scale = 1 / batch
        self.engine = Programs(self.training.state, Train(batch_size=batch, compile="off"))
        self.engine(self.inputs, self.scale, True)
        (self.traced,) = self.engine.traced.values()

    def flat(self) -> list[Tensor]:
        return self.engine.flat(self.inputs)

    def program(self, run: Callable[..., Sequence[Tensor]]) -> Call:
        inputs = self.flat()

        def call() -> Sequence[Tensor]:
            with torch.no_grad():
                return run(*inputs)[1:]

        return call

    def by_autograd(self, step: Callable[..., dict[str, Tensor]]) -> Call:
        def call() -> Sequence[Tensor]:
            for p in self.parameters:
                p.grad = None
            (step(self.inputs)["loss"] * self.scale).backward()
            return [p.grad for p in self.parameters]

        return call


def autograd(setting: Setting) -> Call:
    return setting.by_autograd(Autograd(setting.training.state).step)


def compiled_step(setting: Setting) -> Call:
    return setting.by_autograd(torch.compile(setting.step, dynamic=False))


def program(setting: Setting) -> Call:
    return setting.program(setting.traced.run)


def guarded_program(setting: Setting) -> Call:
    return setting.program(torch.compile(opaque(setting.traced.program), fullgraph=True, dynamic=False))


def inductor(setting: Setting) -> Call:
    return setting.program(compile_program(setting.traced.program, setting.flat()))


def inductor_in_cpp(setting: Setting) -> Call:
    from torch._inductor import compile

    with torch.no_grad():
        program = opaque(setting.traced.program)
        return setting.program(compile(program, setting.flat(), options={"cpp_wrapper": True}))


def ahead_of_time(setting: Setting) -> Call:
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    with torch.no_grad():
        exported = torch.export.export(opaque(setting.traced.program), tuple(setting.flat()))
        return setting.program(aoti_load_package(aoti_compile_and_package(exported)))


WAYS: dict[str, Callable[[Setting], Call]] = {
    "autograd": autograd,
    "program": program,
    "`torch.compile` of the step, autograd": compiled_step,
    "`torch.compile` of the program": guarded_program,
    "inductor, without dynamo's guards (what vaekit does)": inductor,
    "inductor, wrapper in C++": inductor_in_cpp,
    "AOTInductor": ahead_of_time,
}


def milliseconds(batch: int, rounds: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Of each way, and of the products alone, round by round; and why a way failed."""
    setting = Setting(batch)
    calls, failed = {}, {}
    for name, make in WAYS.items():
        try:
            calls[name] = make(setting)
            check(calls[name](), autograd(setting)())
        except Exception as error:  # a way that does not work is a result
            failed[name] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}"
            calls.pop(name, None)
    products = of_limit._step(batch)
    calls["products alone"] = lambda: [product() for product in products]
    found = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(CALLS[batch]):
                call()
            if number:
                found[name] += [(time.perf_counter() - began) / CALLS[batch] * 1e3]
    return found, failed


def check(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def report(results: dict[int, tuple[dict[str, list[float]], dict[str, str]]]) -> str:
    rows = []
    for name in [*WAYS, "products alone"]:
        cells = []
        for found, failed in results.values():
            if name in failed:
                cells += ["fails"]
                continue
            ratio = statistics.median(a / b for a, b in zip(found["products alone"], found[name], strict=True))
            cells += [f"{statistics.median(found[name]):.2f} ms, {ratio:.2f}"]
        rows += [[name, *cells]]
    reasons = {f"- {name}: {why}" for _, failed in results.values() for name, why in failed.items()}
    text = paragraph("Milliseconds for the gradients of a batch, and the share that the matrix products are of it.")
    header = ["", *(f"batch {batch}" for batch in results)]
    return "\n\n".join([text, table(header, rows), *(["\n".join(sorted(reasons))] if reasons else [])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    results = {batch: milliseconds(batch, arguments.rounds) for batch in BATCHES}
    text = f"{report(results)}\n\n{provenance([0])}"
    print(text)
    if arguments.write:
        put_into(arguments.write, "benchmarks/routes.py", text)


if __name__ == "__main__":
    main()
