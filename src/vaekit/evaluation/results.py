"""The names, units and one-line explanations of everything that is measured.

The tables of the command line and the report read them here, and nowhere else. Nothing here imports torch.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal

from vaekit.evaluation.estimate import short

NATS, BITS, SHARE = "nats", "bits/dim", "of 1"
LOWER_BOUND = "lower bound on ln p(x)"
NOT_A_LIKELIHOOD = "not a log-likelihood"
SCORE = f"a soft-label cross-entropy, {NOT_A_LIKELIHOOD}"
WHY_NOT_A_LIKELIHOOD = f"{NOT_A_LIKELIHOOD}: the soft-label cross-entropy is no density on [0, 1]"


@dataclass(frozen=True)
class Measure:
    """What a measure is called and what its values mean.

    Attributes:
        label: Its name in a table; {} is the number at the end of the estimate's name, as in `bound_100`.
        unit: Of its values; {} depends on the model or the settings, and is empty where other words stand there.
        definition: In a few words or a formula, shown beside the label.
        about: One line more, for a reader who has room for it; {samples} is K.
        higher_is_better: Whether runs are ranked by it, the largest value first.
        log_density: 1 of a log-density of rows, -1 of what is less a log-density, such as a loss, and 0 of others:
            which way its values move where rows are in other units.
    """

    label: str
    unit: str = NATS
    definition: str = ""
    about: str = ""
    higher_is_better: bool = False
    log_density: Literal[-1, 0, 1] = 0

    @property
    def of_score(self) -> "Measure":
        """The measure where p(x|z) is a score: nothing of it is called a likelihood."""
        label = self.label.replace("log-likelihood", measure_of("bound").label)
        about = self.about.replace("ln p(x)", "the score of x").replace("log-likelihood", "bound")
        return replace(self, label=label, about=about)

    @property
    def title(self) -> str:
        """The label and the definition, for tables that show nothing else."""
        return f"{self.label}, {self.definition}" if self.definition else self.label


ACTIVE_KL = 0.01  # nats
ACTIVE_VARIANCE = 0.01
NO_KL_PER_DIMENSION = "the KL of single dimensions has no closed form"
_TIME = Measure("  time, from x to label", "microseconds", about="for each row, in batches of 100")
_ANNEALED = {  # by annealed importance sampling, and by bidirectional Monte Carlo
    "acceptance": ("acceptance", "of trajectories", "probability that a Hamiltonian trajectory is accepted"),
    "effective_chains": ("effective chains", "of {}", "how many of the chains carry the weight"),
}

MEASURES: dict[str, Measure] = {
    "log_likelihood": Measure(
        "log-likelihood",
        definition="importance-weighted",
        about=f"{LOWER_BOUND}, K = {{samples}}",
        higher_is_better=True,
        log_density=1,
    ),
    "elbo": Measure(
        "ELBO",
        about=f"{LOWER_BOUND}, the objective of training at beta = 1",
        higher_is_better=True,
        log_density=1,
    ),
    "loss": Measure("loss", about="what training minimises", log_density=-1),
    "baseline": Measure(
        "baseline",
        definition="independent dimensions, no z",
        about="ln p(x) of the best model without z, each dimension on its own, fitted to training rows",
        log_density=1,
    ),
    "distortion": Measure(
        "distortion", definition="-E ln p(x|z)", about="what is lost in reconstruction", log_density=-1
    ),
    "rate": Measure("rate", definition="KL(q(z|x) || p(z))", about="what z carries"),
    "bits_per_dim": Measure("bits per dimension", BITS, about="-log-likelihood / (D ln 2)"),
    "effective_samples": Measure("effective samples", "of {}", about="how many of the K samples carry the weight"),
    "active_units": Measure(
        "active units, by KL", "of {} dimensions", about=f"latent dimensions whose mean KL is above {ACTIVE_KL} nats"
    ),
    "active_units_by_variance": Measure(
        "active units, by variance",
        "of {} dimensions",
        about=f"latent dimensions whose posterior mean varies by more than {ACTIVE_VARIANCE}",
    ),
    "bound": Measure("importance-weighted bound, K = {}", about=LOWER_BOUND, log_density=1),
    "effective_samples_of": Measure("effective samples, K = {}", "of {}", about="how many samples carry the weight"),
    "bound_on_annealed_rows": Measure("bound, K = {}, same rows as AIS", about=LOWER_BOUND, log_density=1),
    "annealed_lower": Measure("AIS: lower bound", about="on ln p(x), by annealed importance sampling", log_density=1),
    **{
        f"annealed_{name}": Measure(f"AIS: {label}", unit, about=about)
        for name, (label, unit, about) in _ANNEALED.items()
    },
    "bidirectional_lower": Measure(
        "BDMC: lower bound", about="on ln p(x), by chains towards the posterior", log_density=1
    ),
    "bidirectional_upper": Measure(
        "BDMC: upper bound", about="on ln p(x), by chains that begin at the posterior", log_density=1
    ),
    "bidirectional_gap": Measure("BDMC: gap", about="upper less lower bound, on rows that the model generates"),
    **{
        f"bidirectional_{name}": Measure(f"BDMC: {label}", unit, about=about)
        for name, (label, unit, about) in _ANNEALED.items()
    },
    "kl_group": Measure("KL of group {}", about="of latents, given the groups above it"),
    "kl_dimension": Measure("KL of each latent dimension", about="KL(q(z_i|x) || p(z_i))"),
    "sampled_rate": Measure("rate, sampled at one z of each row", about="the sum of the terms below"),
    "mutual_information": Measure("mutual information I(x; z)", about="what z says about which row it came from"),
    "marginal_kl": Measure("KL(q(z) || p(z))", about="from the aggregate posterior to the prior"),
    "total_correlation": Measure("total correlation of q(z)", about="KL(q(z) || prod_j q(z_j))"),
    "dimension_wise_kl": Measure("KL of each q(z_j), summed", about="sum_j KL(q(z_j) || p(z_j))"),
    "frechet_distance": Measure("Frechet distance", "over {}", about="between Gaussians fitted to features"),
    "kid": Measure("KID", "over {}", about="squared maximum mean discrepancy of features, cubic kernel"),
    "precision": Measure("precision", "over {}", about="share of samples near some row"),
    "recall": Measure("recall", "over {}", about="share of rows near some sample"),
    "density": Measure("density", "over {}", about="samples near rows, about 1 where both are alike"),
    "coverage": Measure("coverage", "over {}", about="share of rows with a sample near them"),
    "column_error": Measure("error of columns", SHARE, about="mean distance from those of training rows"),
    "pair_error": Measure("error of pairs of columns", SHARE, about="mean distance from those of training rows"),
    "auc": Measure("AUC of the target", SHARE, about="by gradient boosting, tested on held-out rows"),
    "r2": Measure("R2 of the target", SHARE, about="by gradient boosting, tested on held-out rows"),
    "closest": Measure("distance to a training row", SHARE, about="the closest, by the mean over columns"),
    "copies": Measure("copies of training rows", SHARE, about="share of rows that equal one in every cell"),
    "recall_at": Measure("Recall@{}", SHARE, about="share of a user's held-out items among the first of the ranking"),
    "ndcg_at": Measure("NDCG@{}", SHARE, about="how near the beginning of the ranking a user's held-out items are"),
    "mig": Measure("MIG", SHARE, about="gap of mutual information between the best two dimensions of each factor"),
    "sap": Measure("SAP", SHARE, about="gap of prediction between the best two dimensions of each factor"),
    "modularity": Measure("modularity", SHARE, about="whether a dimension depends on one factor only"),
    "disentanglement": Measure("DCI disentanglement", SHARE, about="whether a dimension serves one factor only"),
    "completeness": Measure("DCI completeness", SHARE, about="whether a factor is served by one dimension only"),
    "informativeness": Measure("DCI informativeness", SHARE, about="accuracy with which factors are predicted"),
    "factor_vae": Measure("FactorVAE score", SHARE, about="accuracy of a majority vote on the fixed factor"),
    "linear_codes": Measure("linear probe on codes", "of rows", about="share of labels that are right"),
    "linear_pca": Measure("linear probe on principal components", "of rows", about="share of labels that are right"),
    "linear_raw": Measure("linear probe on raw values", "of rows", about="share of labels that are right"),
    "neighbours_codes": Measure("nearest neighbours on codes", "of rows", about="share of labels that are right"),
    "neighbours_pca": Measure("nearest neighbours on components", "of rows", about="share of labels that are right"),
    "neighbours_raw": Measure("nearest neighbours on raw values", "of rows", about="share of labels that are right"),
    **{f"{probe}_{of}_time": _TIME for probe in ("linear", "neighbours") for of in ("codes", "pca", "raw")},
}
SPLITS = {"train_": "training", "valid_": "validation", "best_valid_": "best validation"}  # of metrics of training
SAMPLE_QUALITIES = ("frechet_distance", "kid", "precision", "recall", "density", "coverage")


def measure_of(name: str) -> Measure:
    """The measure of an estimate by the name that it has in JSON, as in `elbo`, `bound_100` or `prior.kid`.

    So is that of a metric of training, as in `valid_elbo`.

    Example:
        >>> measure_of("bound_100").label, measure_of("bound").label, measure_of("valid_elbo").label
        ('importance-weighted bound, K = 100', 'importance-weighted bound', 'validation ELBO')
    """
    name = name.rpartition(".")[2]
    for prefix, split in SPLITS.items():
        if name.startswith(prefix):
            found = measure_of(name.removeprefix(prefix))
            return replace(found, label=f"{split} {found.label}")
    base, number = (name, "") if name in MEASURES else _split(name)
    found = MEASURES.get(base, Measure(base.replace("_", " "), ""))
    return replace(found, label=found.label.format(number) if number else found.label.removesuffix(", K = {}"))


def label_of(name: str) -> str:
    """What a measure is called, by the name that it has in JSON; see `measure_of`."""
    return measure_of(name).label


def title_of(name: str) -> str:
    """What a table of estimates calls one, by the name that it has in JSON.

    Example:
        >>> title_of("rate"), title_of("training_rows")
        ('rate, KL(q(z|x) || p(z))', 'training rows')
    """
    return measure_of(name).title


def unit_of(name: str, whole: object = "") -> str:
    """The unit of an estimate by its name, of a count with the number that it is out of.

    Example:
        >>> unit_of("elbo"), unit_of("active_units", 8), unit_of("active_units")
        ('nats', 'of 8 dimensions', 'dimensions')
    """
    unit = measure_of(name).unit
    return unit.format(whole) if whole != "" else unit.replace("of {} ", "")


def units_in_words(*log_scales: float) -> str:
    """What log-densities are of, where the model sees scaled rows: of one run, or of several side by side."""
    beside = [f"{short(abs(one), 6)} nats {'higher' if one > 0 else 'lower'}" for one in log_scales]
    return (
        "log-densities are of rows in the data's own units; of scaled rows, (stored - loc) / scale, they are "
        f"{' / '.join(dict.fromkeys(beside))}"
    )


def _split(name: str) -> tuple[str, str]:
    """A name without the number at its end, and that number."""
    match = re.fullmatch(r"(.+)_(\d+)", name)
    return (match.group(1), match.group(2)) if match else (name, "")
