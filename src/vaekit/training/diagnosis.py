"""What the history of a training shows to be wrong: one function for each thing, of metrics by epoch and settings."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vaekit.findings import Finding
from vaekit.training.optimisers import AdamKind
from vaekit.training.spec import Train
from vaekit.words import counted

History = Sequence[Mapping[str, float | None]]

NO_BETTER = 1e-3, 1e-5  # nats, and of the baseline: a loss closer to it than this is as good
COLLAPSED_RATE = 0.1  # nats
STILL_FALLING = 0.02  # of all that was gained over the baseline, in the last tenth of the epochs
SHORT = 500  # steps, in which Adam moves a weight by half at a learning rate of 0.001
USUAL_LR = 1e-3
LEAST_LR = 1e-6  # with which Adam moves a weight by a thousandth in 1,000 steps


@dataclass(frozen=True)
class TrainingFacts:
    """What the findings depend on besides the history.

    Attributes:
        settings: Of training.
        values: Numbers in a row of the data.
        rising: Steps until which a schedule rises, so that the loss is not yet what is minimised.
        over: Whether training has come to its end.
        stopped_early: Whether that was because validation did not improve.
        valid_rows: On how many rows the losses of validation are.
    """

    settings: Train
    values: int
    rising: float = 0.0
    over: bool = False
    stopped_early: bool = False
    valid_rows: float = math.inf


def findings(history: History, about: TrainingFacts) -> list[Finding]:
    """What is wrong, errors first. Before training is over, only what further epochs cannot undo."""
    lines = [line for line in history if _loss(line) is not None]
    if not lines:
        return []
    at_the_end: tuple[Detector, ...] = (worse_than_baseline, skipped, collapsed, still_improving)
    detectors = (exploded, *(at_the_end if about.over else ()))
    found = [detect(lines, about) for detect in detectors]
    order = ("error", "warning", "info")
    return sorted((one for one in found if one is not None), key=lambda one: order.index(one.severity))


Detector = Callable[[History, TrainingFacts], Finding | None]


def worse_than_baseline(history: History, about: TrainingFacts) -> Finding | None:
    """The weights that are kept are worse on validation rows than the best model without z.

    The log ratio of two densities that are close varies over rows by about twice its mean g, so that g is k standard
    errors where it is 2 k^2 / rows: above two of them it is an error, and below a warning.
    """
    line = _kept(history, about)
    loss, baseline = _number(_loss(line)), _baseline(history)
    if baseline is None or loss <= baseline + NO_BETTER[0] + NO_BETTER[1] * abs(baseline):
        return None
    clear = loss > baseline + 8 / about.valid_rows
    independent = f"Train.epochs={2 * len(history)}, unless the numbers of a row do not depend on one another"
    return Finding(
        "worse_than_baseline",
        "error" if clear else "warning",
        value=loss - baseline,
        threshold=0.0,
        why=(
            f"The weights that are kept (epoch {line['epoch']:.0f}) have a validation loss {loss - baseline:,.4g} nats "
            "above that of the best model without z: they know "
            + ("less" if clear else f"no more, as far as {counted(int(about.valid_rows), 'row shows', 'rows show')},")
            + " of the data than its averages do."
        ),
        fix=_slower_or_longer(history, about) if clear else independent,
    )


def exploded(history: History, about: TrainingFacts) -> Finding | None:
    """In some epoch the loss with beta = 1 was far above the baseline, in training or in validation.

    Far is more than the largest of all that training gained over the baseline, half of the baseline, and a quarter of a
    nat for each number of a row; five times that while a schedule rises, when a small weight of the KL lets it grow.
    The first epoch is judged by validation alone: its mean in training is also that of an untrained model.
    """
    baseline = _baseline(history)
    if baseline is None:
        return None
    gained = baseline - min(_number(_loss(line)) for line in history)
    far = max(gained, abs(baseline) / 2, about.values / 4)
    worst, where, limit = -math.inf, 0.0, 0.0
    for line in history:
        allowed = baseline + far * (5 if _number(line["step"]) <= about.rising else 1)
        for loss in (_loss(line), None if line is history[0] else _training_loss(line)):
            if loss is not None and loss > allowed and loss > worst:
                worst, where, limit = loss, _number(line["epoch"]), allowed
    if worst == -math.inf:
        return None
    return Finding(
        "exploded",
        "error",
        value=worst - baseline,
        threshold=limit - baseline,
        why=(
            f"In epoch {where:.0f} the loss was {worst - baseline:,.6g} nats above that of the best model without z. "
            "Weights that have been there seldom get as good as they could."
        ),
        fix=_slower(about.settings) + ("" if about.settings.clip else " Train.clip=50"),
    )


def skipped(history: History, about: TrainingFacts) -> Finding | None:
    """Most steps were skipped, because their gradients were longer than `Train.skip_above`."""
    line = history[-1]
    count, steps = _number(line.get("skipped") or 0.0), max(1.0, _number(line["step"]))
    if count <= steps / 2:
        return None
    limit = about.settings.skip_above or 0.0
    return Finding(
        "steps_skipped",
        "error",
        value=count,
        threshold=steps / 2,
        why=(
            f"{count:,.0f} of {steps:,.0f} steps were skipped, since their gradients were longer than "
            f"Train.skip_above={limit:g}: the model has hardly trained."
        ),
        fix=f"Train.skip_above={_round(100 * limit)}, or Train.skip_above=null Train.clip={_round(limit)}",
    )


def collapsed(history: History, about: TrainingFacts) -> Finding | None:
    """The rate is nearly zero: z says nothing of x."""
    rate = _number(_kept(history, about).get("valid_rate"))
    # that of a deterministic posterior, which has none, counts as 0
    if rate == 0 or rate >= COLLAPSED_RATE or _number(history[-1]["step"]) < SHORT:
        return None
    return Finding(
        "posterior_collapse",
        "warning",
        value=rate,
        threshold=COLLAPSED_RATE,
        why=(
            f"The rate is {rate:.3f} nats: z says nothing of x, and the decoder ignores it. That is right only if the "
            "numbers of a row do not depend on one another."
        ),
        fix="train longer, or with Elbo.free_nats=0.5, or Elbo.beta={over: 0.5}",
    )


def still_improving(history: History, about: TrainingFacts) -> Finding | None:
    """Training ended while the validation loss was still falling."""
    if about.stopped_early:
        return None
    losses = [_number(_loss(line)) for line in history]
    baseline, last = _baseline(history), history[-1]
    epochs, steps = len(losses), _number(last["step"])
    tenth = max(1, math.ceil(epochs / 10))
    start = max(losses[0], -math.inf if baseline is None else baseline)
    gained = start - min(losses)
    before = min(losses[:-tenth], default=start)
    late = before - min(losses)
    if late <= STILL_FALLING * gained or worse_than_baseline(history, about):
        return None
    more = max(2 * epochs, math.ceil(epochs * 2 * SHORT / max(steps, 1.0)))
    return Finding(
        "still_improving",
        "warning",
        value=late,
        threshold=STILL_FALLING * gained,
        why=(
            f"The validation loss was still falling when training ended after {counted(int(steps), 'step')}: by "
            f"{late:,.3g} nats in the last {'epoch' if tenth == 1 else f'{tenth} epochs'}, of {gained:,.3g} in all."
        ),
        fix=f"Train.epochs={more}"
        if about.settings.budget is None
        else f"a longer Train.budget, or Train.epochs={more}",
    )


def learning_rate(settings: Train) -> Finding | None:
    """A learning rate that is too large for Adam and its variants."""
    largest = 0.05
    if settings.lr <= largest or not isinstance(settings.optimiser, AdamKind):
        return None
    return Finding(
        "learning_rate",
        "warning",
        value=settings.lr,
        threshold=largest,
        why=(
            f"Train.lr is {settings.lr:g}, and {settings.optimiser.title} moves every weight by about that much in "
            "each step: networks mostly explode above 0.05."
        ),
        fix=f"Train.lr={USUAL_LR:g}",
    )


def _kept(history: History, about: TrainingFacts) -> Mapping[str, float | None]:
    if about.settings.weights == "last":
        return history[-1]
    return min(history, key=lambda line: _number(_loss(line)))


def _loss(line: Mapping[str, float | None]) -> float | None:
    """The validation loss by which the best epoch is chosen."""
    bound = line.get("valid_bound", line.get("valid_elbo"))
    return None if bound is None else -bound


def _training_loss(line: Mapping[str, float | None]) -> float | None:
    """That with beta = 1; of several samples of z by their bound, beside which the ELBO of each may be far lower."""
    bound = line.get("train_bound", line.get("train_elbo"))
    return None if bound is None else -bound


def _baseline(history: History) -> float | None:
    found = history[-1].get("valid_baseline")
    return None if found is None or not math.isfinite(found) else -found


def _slower_or_longer(history: History, about: TrainingFacts) -> str:
    """A setting to try.

    Steps that are too short to get anywhere are to be longer, and fewer of them than any model needs call for more;
    else they are too long.
    """
    settings, steps = about.settings, _number(history[-1]["step"])
    if settings.lr < LEAST_LR:
        return f"Train.lr={USUAL_LR:g}"
    if settings.lr <= USUAL_LR and steps < SHORT:
        return f"Train.epochs={math.ceil(len(history) * 2 * SHORT / max(1.0, steps))}"
    look = "" if settings.lr > USUAL_LR else ", or correct outliers and constant columns of the data"
    return f"{_slower(settings)}{look}"


def _slower(settings: Train) -> str:
    return f"Train.lr={_round(min(settings.lr / 10, USUAL_LR))}"


def _number(value: float | None) -> float:
    return math.inf if value is None else float(value)


def _round(value: float) -> str:
    return f"{value:.2g}"
