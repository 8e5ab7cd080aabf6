"""Labels read off codes of recordings: spoken digits, beside principal components of the same features."""

from facts import paragraph, table
from sections import Floor, Section
from uses.job import Job, Measured, Method
from uses.probe_methods import LABELS

CASE = "fsdd"
VAEKIT = "vaekit, preset audio"
INPUTS = {"codes": "codes", "pca": "principal components", "raw": "all features"}


def section(found: Measured) -> Section:
    text = paragraph(
        f"""Free Spoken Digit Dataset, takes 0 to 4 for the test and 5 to 19 for training, log-mel features. The preset
        `audio` sees no label; logistic regression and five nearest neighbours are then fitted to its
        {found.mean(VAEKIT, "latents"):.0f} codes, to as many principal components of the same features, and to all
        features, of the training rows. Accuracy is over the recordings of the test; microseconds are from features to
        label, of the logistic regression."""
    )
    lines = [
        [f"{label}, {said}"]
        + [found.shown(VAEKIT, f"{label} {kind}_{name}") for kind in ("linear", "neighbours")]
        + [found.shown(VAEKIT, f"{label} linear_{name}_time", digits=0)]
        for label in LABELS
        for name, said in INPUTS.items()
    ]
    floors = [
        Floor(
            f"probe: accuracy of {label}s from codes above that from components",
            found.mean(VAEKIT, f"{label} linear_codes") - found.mean(VAEKIT, f"{label} linear_pca"),
            0.0,
        )
        for label in LABELS
    ]
    titles = ["", "logistic regression", "five neighbours", "microseconds"]
    return Section("Labels of recordings", f"{text}\n\n{table(titles, lines)}", floors)


JOB = Job("probe", (CASE,), {VAEKIT: Method("uses.probe_methods:vaekit")}, section)
