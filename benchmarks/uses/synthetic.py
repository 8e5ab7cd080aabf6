"""Synthetic tables: Adult, beside CTGAN's TVAE and the real rows."""

from facts import paragraph
from sections import Floor, Section
from uses.job import Job, Measured, Method

CASE = "adult"
VAEKIT, TVAE, REAL = "vaekit, VAESynthesizer", "TVAE (ctgan)", "real rows"
LEAST_AUC, MOST_COLUMN, MOST_PAIR, MOST_SECONDS = 0.905, 3.0, 3.5, 600.0


def section(found: Measured) -> Section:
    names = {"auc": 4, "column error, %": 2, "pair error, %": 2, "copies, %": 3, "cpu_seconds": 0, "peak_gb": 1}
    held_out = found.mean(REAL, "copies of test rows, %")
    text = paragraph(
        f"""Adult's 32,561 training rows, with ? for a missing cell, are learned, and as many rows are made. AUC is of
        scikit-learn's HistGradientBoosting with its defaults, which is trained on these to predict the income from the
        other columns, and tested on the 16,281 official test rows; of real rows it is trained on the training rows.
        Errors are means over columns and over pairs of 1 less the similarities of SDMetrics (KSComplement,
        TVComplement; CorrelationSimilarity, ContingencySimilarity with ten bins), from the training rows; of real rows
        they are those of the test rows. Copies are the share of rows that equal a training row: of the test rows,
        {held_out:.3f} % do. vaekit has its default settings, and TVAE those of ctgan 0.12.1 (300 epochs), with the
        columns of text declared as discrete, and missing texts as one more."""
    )
    floors = [
        Floor("synthetic Adult: AUC", found.mean(VAEKIT, "auc"), LEAST_AUC),
        Floor("synthetic Adult: error of columns", found.mean(VAEKIT, "column error, %"), MOST_COLUMN, " %", most=True),
        Floor("synthetic Adult: error of pairs", found.mean(VAEKIT, "pair error, %"), MOST_PAIR, " %", most=True),
        Floor("synthetic Adult: copies", found.mean(VAEKIT, "copies, %"), held_out, " %", most=True),
        Floor("synthetic Adult: seconds of CPU", found.mean(VAEKIT, "cpu_seconds"), MOST_SECONDS, " s", most=True),
    ]
    return Section("Synthetic tables", f"{text}\n\n{found.table(JOB.methods, names)}", floors)


JOB = Job(
    "synthetic",
    (CASE,),
    {
        VAEKIT: Method("uses.synthetic_methods:vaekit"),
        REAL: Method("uses.synthetic_methods:real", seeds=2),
        TVAE: Method("uses.synthetic_methods:tvae", peer="ctgan", seeds=1),
    },
    section,
)
