"""What a trained model is used for: bounds with many samples, codes, pictures."""

from facts import paragraph
from sections import Floor, Section
from speed.common import CHUNK, ROWS
from speed.rounds import AUTO, EAGER, LIMIT, PYTHAE, Bench, Rounds, comparison, rates, team

SAMPLES = 5000
GENERATED = 10_000


def iwae(bench: Bench) -> Section:
    samples = CHUNK if bench.quick else SAMPLES
    with team(bench, (AUTO, PYTHAE, LIMIT)) as workers:
        calls = {
            name: lambda images, w=worker: w.request("iwae", images=images, samples=samples)
            for name, worker in workers.items()
        }
        found = rates(bench, calls, probe=2, most=1000)
    floors = [
        Floor(f"bound with {samples:,} samples: times pythae", found.ratio(AUTO, PYTHAE).median, 5),
        Floor(f"bound with {samples:,} samples: of the limit", found.ratio(AUTO, LIMIT).median, 0.65),
    ]
    introduction = paragraph(f"""
        The importance-weighted bound with {samples:,} samples of z for each image: `evaluate`, pythae's `get_nll` with
        batches of {CHUNK}, and as the limit the decoder's matrix products alone, {CHUNK} samples at once, by the faster
        of MKL and oneDNN.
    """)
    shown = comparison(found, "images/s", {"of the limit": LIMIT, "times pythae": PYTHAE})
    return Section(f"The bound with {samples:,} samples", f"{introduction}\n\n{shown}", floors)


def encode(bench: Bench) -> Section:
    text = """Means and scales of q(z|x) for images in [0, 1]: `vaekit encode` without reading and writing, against the
        same layers in `nn.Sequential`, 100 images at once."""
    with team(bench, (AUTO, EAGER)) as workers:
        calls = {name: lambda images, w=worker: w.request("encode", images=images) for name, worker in workers.items()}
        found = rates(bench, calls, probe=2000, most=ROWS)
    return _against_eager("Encoding", "encode", text, found)


def sample(bench: Bench) -> Section:
    text = f"""Means of p(x|z) for z from the prior: `model.generate({GENERATED}, mean=True)`, against the same layers
        in `nn.Sequential`, 100 images at once."""
    with team(bench, (AUTO, EAGER)) as workers:
        calls = {
            name: lambda times, w=worker: sum(w.request("sample", images=GENERATED) for _ in range(times))
            for name, worker in workers.items()
        }
        found = rates(bench, calls, probe=1, most=1000).times(GENERATED)
    return _against_eager("Sampling", "sample", text, found)


def _against_eager(title: str, what: str, text: str, found: Rounds) -> Section:
    floors = [Floor(f"{what}: times eager", found.ratio(AUTO, EAGER).median, 1.9)]
    shown = comparison(found, "images/s", {"times eager": EAGER})
    return Section(title, f"{paragraph(text)}\n\n{shown}", floors)
