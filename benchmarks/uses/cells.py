"""Cells by their counts of genes: worm neurons, beside scvi-tools."""

from facts import paragraph
from sections import Floor, Section
from uses.cells_methods import FEW, LATENTS, NEIGHBOURS, SAMPLES, WEIGHED, WIDTH
from uses.job import Job, Measured, Method

CASE = "worm_neuron"
VAEKIT, AGAIN = "vaekit, preset cells", "vaekit, preset cells, again"
SCVI = "scvi-tools, its defaults"
CPU_SHARE = 0.5


def section(found: Measured) -> Section:
    names = {"log-likelihood": 2, "log-likelihood of all": 2, "accuracy of neighbours": 3}
    names |= {"cpu seconds of training": 0, "peak_gb": 1}
    checked, epochs = (found.mean(SCVI, name) for name in ("difference from marginal_ll", "epochs"))
    text = paragraph(
        f"""Worm neurons (Cao et al., 2017), 4,186 cells and 13,488 genes, a tenth of the cells held out by seed, and
        the others given to all, who choose their own validation cells among them: one hidden layer of {WIDTH},
        {LATENTS} latents, the likelihood given each cell's total. The log-likelihood is the importance-weighted bound
        with K = {SAMPLES:,} on the first {WEIGHED} held-out cells, and with K = {FEW} on all of them, with all
        constants, in nats for each cell, by one program for all; of scvi-tools it is {checked:+.2f} nats from what its
        own `marginal_ll` gives for 20 cells with K = 200. Neighbours are the {NEIGHBOURS} nearest of the other cells by
        the means of q(z|x), and say the type. scvi-tools has its defaults (zero-inflated negative binomial, at most 400
        epochs over which the weight of the KL rises) with `early_stopping=True`; it trained for {epochs:.0f}."""
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
