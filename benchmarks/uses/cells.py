"""Cells by their counts of genes: worm neurons, beside scvi-tools."""

from facts import paragraph
from sections import Floor, Section
from uses.cells_methods import EPOCHS, LATENTS, NEIGHBOURS, SAMPLES, WARM_UP, WEIGHED, WIDTH
from uses.job import Job, Measured, Method

CASE = "worm_neuron"
VAEKIT, AGAIN = "vaekit, preset cells", "vaekit, preset cells, again"
SCVI = f"scvi-tools, {EPOCHS} epochs"
CPU_SHARE = 0.5


def section(found: Measured) -> Section:
    names = {"log-likelihood": 2, "accuracy of neighbours": 3, "cpu seconds of training": 0, "peak_gb": 1}
    checked = found.mean(SCVI, "difference from marginal_ll")
    text = paragraph(
        f"""Worm neurons (Cao et al., 2017), 4,186 cells and 13,488 genes, a tenth of the cells held out by seed, and
        the others given to all: one hidden layer of {WIDTH}, {LATENTS} latents, the likelihood given each cell's total.
        The log-likelihood is the importance-weighted bound with K = {SAMPLES:,} on the first {WEIGHED} held-out cells,
        with all constants, in nats for each cell, by one program for all; of scvi-tools it is
        {checked:+.2f} nats from what its own `marginal_ll` gives for 20 cells with K = 200. Neighbours are the
        {NEIGHBOURS} nearest of the other cells by the means of q(z|x), and say the type. scvi-tools has the preset's
        likelihood, and {EPOCHS} epochs where its default is 400; the weight of its KL rises over {WARM_UP:.0%} of
        them, as the preset's."""
    )
    ours, theirs = (found.mean(method, "log-likelihood") for method in (VAEKIT, SCVI))
    floors = [
        Floor("cells: nats for each cell above scvi-tools", ours - theirs, 0.0),
        Floor("cells: accuracy of neighbours above scvi-tools'", difference(found, "accuracy of neighbours"), 0.0),
        Floor("cells: seconds of CPU, of scvi-tools'", ratio(found), CPU_SHARE, most=True),
        Floor("cells: runs that give the same bits again", same_bits(found), 1),
    ]
    return Section("Cells", f"{text}\n\n{found.table((VAEKIT, SCVI), names)}", floors)


def difference(found: Measured, name: str) -> float:
    return found.mean(VAEKIT, name) - found.mean(SCVI, name)


def ratio(found: Measured) -> float:
    return found.mean(VAEKIT, "cpu seconds of training") / found.mean(SCVI, "cpu seconds of training")


def same_bits(found: Measured) -> int:
    digests = {cell.seed: cell.numbers["digest"] for cell in found.of(VAEKIT)}
    return sum(digests.get(cell.seed) == cell.numbers["digest"] for cell in found.of(AGAIN))


JOB = Job(
    "cells",
    (CASE,),
    {
        VAEKIT: Method("uses.cells_methods:vaekit"),
        SCVI: Method("uses.cells_methods:scvi", "scvi"),
        AGAIN: Method("uses.cells_methods:vaekit", seeds=1),
    },
    section,
)
