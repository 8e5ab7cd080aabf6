"""Training by slices in turns: the tutorial's perceptrons, convolutions, and two processes against one."""

import torch

from facts import paragraph, table
from sections import Floor, Section
from speed.common import reference
from speed.rounds import (
    AUTO,
    BEFORE,
    EAGER,
    JAX,
    LIMIT,
    PLAIN,
    PROGRAM,
    PYTHAE,
    Bench,
    Worker,
    at_work,
    comparison,
    in_turns,
    pair,
    team,
    training_rates,
)

BATCHES, CONV_BATCH = (16, 128, 512), 64
OF_LIMIT = {16: 0.42, 128: 0.60, 512: 0.65}
CHECKED, TOLERANCE = 64, 1e-4
SETTLING_STEPS, SETTLING_SECONDS = 1500, 60


def check(workers: dict[str, Worker], net: str) -> str:
    """Stop unless all compute the same loss from the same weights, images and noise; says how far apart they are."""
    right, furthest = reference(net, CHECKED), 0.0
    for name, worker in workers.items():
        if name in (LIMIT, AUTO):  # the limit has no loss, and what is shipped is PLAIN with other kernels
            continue
        for kl, value in worker.request("loss", net=net, batch=CHECKED).items():
            gap = abs(value / right[kl] - 1)
            if not gap <= TOLERANCE:
                raise SystemExit(
                    f"{name} computes another loss on {net}, with the {kl} KL: {value:.6f}, and it is {right[kl]:.6f} "
                    f"in double precision, further apart than {TOLERANCE:g} of it. Nothing was compared"
                )
            furthest = max(furthest, gap)
    return (
        f"All compute the loss of the same weights, {CHECKED} images and noise within {furthest:.1g} of its value in "
        "double precision."
    )


def settle(bench: Bench, worker: Worker, net: str, batch: int) -> str:
    """Train as shipped until vaekit has decided what to compile; what it said."""
    steps = 20 if bench.quick else SETTLING_STEPS
    notices = worker.request("settle", net=net, batch=batch, steps=steps, seconds=SETTLING_SECONDS)
    return f"At batch {batch}, vaekit as shipped said: {'; '.join(notices) or 'nothing'}."


def train(bench: Bench) -> Section:
    parts, floors = [], []
    with team(bench, (PLAIN, AUTO, PYTHAE, JAX, PROGRAM, EAGER, LIMIT)) as workers:
        checked = check(workers, "mlp")
        for batch in BATCHES:
            notices = settle(bench, workers[AUTO], "mlp", batch)
            found = training_rates(bench, {n: w.request for n, w in workers.items()}, "mlp", batch)
            against = {"of the limit": LIMIT, "times pythae": PYTHAE, "times JAX": JAX}
            shown = comparison(found, "samples/s", against)
            parts += [f"### Batches of {batch}\n\n{shown}\n\n{paragraph(notices)}"]
            plain = f"training at batch {batch}, {PLAIN}"
            floors += [
                Floor(f"{plain}: times pythae", found.ratio(PLAIN, PYTHAE).median, 1.8),
                Floor(f"{plain}: of the limit", found.ratio(PLAIN, LIMIT).median, OF_LIMIT[batch]),
            ]
            if batch >= 128:
                ratio = found.ratio(AUTO, JAX).median
                floors += [Floor(f"training at batch {batch}, {AUTO}: times JAX", ratio, 0.9)]
    introduction = paragraph(f"""
        Perceptrons 784-512-512-32 and 16-512-512-784, soft-label cross-entropy, one sample of z, Adam at 1e-3, 60,000
        MNIST images. {checked}
    """)
    return Section("Training", "\n\n".join([introduction, *parts]), floors)


def conv(bench: Bench) -> Section:
    with team(bench, (PLAIN, AUTO, PYTHAE, JAX)) as workers:
        checked = check(workers, "conv")
        notices = settle(bench, workers[AUTO], "conv", CONV_BATCH)
        found = training_rates(bench, {n: w.request for n, w in workers.items()}, "conv", CONV_BATCH)
    introduction = paragraph(f"""
        `kind: conv` with channels (32, 64) and hidden 256 for encoder and decoder, batches of {CONV_BATCH}; pythae has
        the same layers, upsampling and convolution apart, JAX the same with channels last, step by step, because on a
        CPU XLA runs convolutions inside of a scan many times slower. No limit is computed for convolutions.
        {checked} {notices}
    """)
    shown = comparison(found, "samples/s", {"times pythae": PYTHAE, "times JAX": JAX})
    return Section("Training with convolutions", f"{introduction}\n\n{shown}")


def before(bench: Bench) -> Section:
    """This vaekit against another checkout's, by the same interpreter and packages."""
    if bench.before is None:
        raise SystemExit("the part 'before' needs --before CHECKOUT, a folder with another version of vaekit")
    cases = [*(("mlp", batch) for batch in BATCHES), ("conv", CONV_BATCH)]
    rows, floors = [], []
    with team(bench, (PLAIN, BEFORE)) as workers:
        for net, batch in cases:
            found = training_rates(bench, {n: w.request for n, w in workers.items()}, net, batch)
            ratio = found.ratio(PLAIN, BEFORE)
            rows += [[net, batch, *(f"{found.spread(name):,.0f}" for name in (BEFORE, PLAIN)), f"{ratio:.3f}"]]
            floors += [Floor(f"training {net} at batch {batch}: times what it was before", ratio.median, 0.97)]

    def first(name: str) -> float:
        with at_work(bench, name) as worker:
            worker.request("train", net="mlp", batch=BATCHES[1], steps=1)
            return worker.age

    found = in_turns(bench, {name: lambda n=name: first(n) for name in (PLAIN, BEFORE)})
    ratio = found.ratio(PLAIN, BEFORE)
    rows += [["first step", BATCHES[1], *(f"{found.spread(name):.2f} s" for name in (BEFORE, PLAIN)), f"{ratio:.3f}"]]
    floors += [Floor("first step from the start of the process: of what it took", ratio.median, 1.03, most=True)]
    introduction = paragraph("Samples/s, not compiled, and the time from the start of a process to its first step.")
    shown = table(["", "batch", BEFORE, "now", "ratio"], rows)
    return Section("Against an earlier version", f"{introduction}\n\n{shown}", floors)


def processes(bench: Bench) -> Section:
    one, two = "one process", "two processes"
    parts = []
    with team(bench, [PLAIN]) as workers, pair(bench, PLAIN) as both:
        for batch in BATCHES[1:]:
            found = training_rates(bench, {one: workers[PLAIN].request, two: both}, "mlp", batch)
            parts += [f"### Batches of {batch} over all processes\n\n{comparison(found, 'samples/s', {'ratio': one})}"]
    threads = torch.get_num_threads()
    introduction = paragraph(f"""
        {PLAIN}: one process with {threads} threads against two with {max(1, threads // 2)} each, joined
        as torchrun joins them (DDP, gloo).
    """)
    return Section("Two processes", "\n\n".join([introduction, *parts]))
