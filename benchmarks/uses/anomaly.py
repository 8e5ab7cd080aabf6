"""Odd rows found among rows whose labels are unseen: ten sets of ADBench, beside isolation forests, ECOD and PyOD."""

from collections.abc import Sequence

from facts import paragraph, table
from sections import Floor, Section
from uses.job import Job, Measured, Method

DETECTOR, RUN = "VAEAnomalyDetector", "vaekit score"
FOREST, ECOD, PYOD = "IsolationForest", "ECOD", "VAE of PyOD"
CASES = (
    *("18_Ionosphere", "26_optdigits", "28_pendigits", "2_annthyroid", "30_satellite"),
    *("32_shuttle", "38_thyroid", "45_wine", "4_breastw", "6_cardio"),
)
ABOVE_PYOD = 0.03
UNIFORM = 9  # of ten sets
LARGE = ("26_optdigits", "28_pendigits", "2_annthyroid", "30_satellite", "38_thyroid", "6_cardio")
OF_PYOD = tuple(case for case in CASES if case != "32_shuttle")
SLOW = 1  # seed, of PyOD's VAE on `LARGE` sets: it takes small batches, many times; and none on shuttle


def mean_of(found: Measured, method: str, cases: Sequence[str]) -> float:
    """The mean area over those of the sets that a method was given; nan without any."""
    areas = [found.mean(method, "area", case) for case in cases if found.of(method, case)]
    return sum(areas) / len(areas) if areas else float("nan")


def section(found: Measured) -> Section:
    area = "area"
    methods = [name for name in JOB.methods if found.of(name)]
    shown = [[case, *(found.shown(name, area, case) for name in methods)] for case in CASES]
    mean = {name: mean_of(found, name, CASES) for name in methods}
    shown += [["mean", *(f"{mean[name]:.3f}" for name in methods)]]
    of_pyod = [case for case in CASES if found.of(PYOD, case)]
    uniform = {
        name: sum(found.mean(name, "uniform", case) >= 0.5 for case in CASES)
        for name in (DETECTOR, RUN)
        if found.of(name)
    }
    p_values = [
        [case, *(found.shown(name, number, case) for name in uniform for number in ("distance", "at most 0.05"))]
        for case in CASES
    ]
    titles = [f"{name}, {number}" for name in uniform for number in ("distance", "share at most 0.05")]
    seconds = [
        [name, found.shown(name, "cpu_seconds", digits=1), found.shown(name, "peak_gb", digits=1)] for name in methods
    ]
    text = paragraph(
        f"""Ten sets of ADBench (Han et al., 2022, arXiv 2206.09426): 70 % of the rows to train on, odd ones among them
        and labels unseen, and the area under the ROC curve on the others. All have their defaults, the same on every
        set: `{DETECTOR}()`, ranked by its composite statistic (log-densities of single columns, and as much of whole
        rows: the bound on ln p(x), and a coarse density of rows that the VAE makes); `{RUN}`, a run of `train` by
        default settings, by the same statistic, given one seed; {FOREST} of scikit-learn; {ECOD} and the VAE of PyOD,
        of 30 epochs in batches of 32, which is given {SLOW} seed on sets of more than 1,000 rows, and none on shuttle,
        where it takes long."""
    )
    rest = paragraph(
        """P-values of ordinary rows that were held out: the distance of Kolmogorov and Smirnov to the uniform, and the
        share at most 0.05. They are by training rows, odd ones among them; these can be left out only where they stand
        apart from the ordinary ones, and where they do not, p-values of ordinary rows are too large. A set counts as
        uniform if in at least half of the seeds the test's p is above 0.01, which at 10,000 rows sees distances of
        0.016."""
    )
    floors = [
        Floor(f"odd rows: mean area, beside {FOREST}", mean[DETECTOR], mean.get(FOREST, 0.0)),
        Floor(f"odd rows: mean area, beside {ECOD}", mean[DETECTOR], mean.get(ECOD, 0.0)),
        Floor(
            f"odd rows: mean area, beside the {PYOD} on {len(of_pyod)} sets",
            mean_of(found, DETECTOR, of_pyod),
            mean_of(found, PYOD, of_pyod) + ABOVE_PYOD,
        ),
        Floor("odd rows: sets of ten whose p-values are uniform", uniform.get(DETECTOR, 0), UNIFORM),
    ]
    tables = [table(["", *methods], shown), rest, table(["", *titles], p_values)]
    tables += [table(["", "seconds of CPU, mean over sets", "peak GB"], seconds)]
    return Section("Odd rows", "\n\n".join([text, *tables]), floors)


JOB = Job(
    "anomaly",
    CASES,
    {
        DETECTOR: Method("uses.anomaly_methods:detector"),
        RUN: Method("uses.anomaly_methods:run", seeds=1),
        FOREST: Method("uses.anomaly_methods:forest"),
        ECOD: Method("uses.anomaly_methods:ecod", peer="pyod"),
        PYOD: Method("uses.anomaly_methods:autoencoder", "pyod", dict.fromkeys(LARGE, SLOW), OF_PYOD),
    },
    section,
)
