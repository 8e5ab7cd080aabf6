"""vaekit's training on a GPU, as shares of what the GPU does in products and in copies."""

import math
import os
import time
from collections.abc import Callable
from functools import partial

import torch

from facts import paragraph, table
from sections import Section
from speed.common import ROWS, SHAPES
from speed.rounds import AUTO, Bench, at_work, training_rates
from speed.training import SETTLING_SECONDS, SETTLING_STEPS

BATCHES, PRECISIONS = (128, 512, 4096), ("fp32", "bf16")
SIDE, COPIED = 8192, 2**30  # of a square matrix; bytes
WEIGHTS = sum(math.prod(shape) + shape[1] for shape in SHAPES["mlp"])
OUTPUTS = sum(shape[1] for shape in SHAPES["mlp"])
# Forward, weights' gradient and inputs' gradient, the last not for the first layer.
OPERATIONS = 6 * sum(a * b for a, b in SHAPES["mlp"]) - 2 * math.prod(SHAPES["mlp"][0])


def bytes_of_step(batch: int) -> int:
    """At least: weights read twice, gradients written; Adam reads four numbers and writes three; outputs, twice."""
    return 4 * (10 * WEIGHTS + 2 * batch * OUTPUTS)


def seconds(call: Callable[[], object], times: int = 20) -> float:
    """Of one call, the fastest of three turns."""
    turns = []
    for _ in range(4):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(times):
            call()
        torch.cuda.synchronize()
        turns += [(time.perf_counter() - began) / times]
    return min(turns[1:])


def ceilings() -> tuple[float, float]:
    """Operations per second of a bf16 product, and bytes per second, read and written, of a copy."""
    a, b = (torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    source = torch.empty(COPIED, dtype=torch.uint8, device="cuda")
    goal = torch.empty_like(source)
    return 2 * SIDE**3 / seconds(lambda: a @ b), 2 * COPIED / seconds(lambda: goal.copy_(source))


def gpu(bench: Bench) -> Section:
    operations, bandwidth = ceilings()
    torch.cuda.empty_cache()
    rows = []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    with at_work(bench, AUTO, CUDA_VISIBLE_DEVICES=visible) as worker:
        for batch in BATCHES:
            requests = {name: partial(worker.request, settings=[f"train.precision={name}"]) for name in PRECISIONS}
            for request in requests.values():
                request("settle", net="mlp", batch=batch, steps=SETTLING_STEPS, seconds=SETTLING_SECONDS)
            found = training_rates(bench, requests, "mlp", batch, epochs=100)
            for name in PRECISIONS:
                rate, epochs = found.median(name), found.times(1e-3 / ROWS)
                rows += [
                    [
                        batch,
                        name,
                        f"{1 / epochs.median(name):.0f}",
                        f"{rate * OPERATIONS / operations:.1%}",
                        f"{rate / batch * bytes_of_step(batch) / bandwidth:.1%}",
                    ]
                ]
    introduction = paragraph(f"""
        vaekit on one {torch.cuda.get_device_name()}: medians for an epoch of 60,000 images without validation, and the
        work of its steps as a share of what was measured beside it: {operations / 1e12:.0f} TFLOP/s in a bf16 product
        of {SIDE} rows and columns, {bandwidth / 1e12:.2f} TB/s in a copy. The bytes of a step are the least there can
        be, in single precision: weights, gradients, moments, and each layer's output once written and once read.
    """)
    header = ["batch", "precision", "epoch, ms", "of the product's speed", "of the copy's speed"]
    return Section("On a GPU", f"{introduction}\n\n{table(header, rows)}")
