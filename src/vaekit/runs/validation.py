"""Which settings of a run go together: every check, with the settings named and a fix."""

from collections.abc import Iterator

import torch
from torch import nn

from vaekit.data import Dataset, Schema
from vaekit.data.schema import Levels
from vaekit.data.spec import CONTEXT_PARTS
from vaekit.errors import ConfigError
from vaekit.models import (
    VAE,
    HierarchicalVAE,
    Likelihood,
    Prior,
)
from vaekit.models.compatibility import (
    ModelRow,
    Row,
    Rule,
    broken_rule,
    go_together,
    gradient_row,
    likelihood_fits,
    likelihood_row,
    objective_row,
    penalty_row,
    posterior_row,
    prior_row,
    refusal,
)
from vaekit.models.distributions.codes import CodeSpace, check_enumerable
from vaekit.objectives import InPhases, StepContext, phases_of
from vaekit.randomness import Purpose, new_generator
from vaekit.runs.defaults import default_likelihood
from vaekit.runs.tree import Run, naming_settings
from vaekit.setting_errors import members_of


def check_likelihood(family: Likelihood, schema: Schema) -> None:
    """Refuse a likelihood whose support is not the data's, and name the one that fits.

    Args:
        family: Of p(x|z).
        schema: Of the data.

    Raises:
        ConfigError: The likelihood gives values of the data no probability.
    """
    support = schema.support
    given = likelihood_row(family)
    if likelihood_fits(given, support.kind, support.count if isinstance(support, Levels) else 2):
        if given.needs_size and (schema.context is None or schema.context.size is None):
            raise ConfigError(
                f"model.likelihood is {given.in_words} whose rates are shares of a row's size (rates: softmax), and "
                "data.size_factor is none: use data.size_factor=total or a column, or model.likelihood.rates=free",
                field="data.size_factor",
            )
        return
    right = likelihood_row(default_likelihood(support if schema.loc is None else schema.stored, schema.kind))
    levels = "" if right.levels is None else f", levels: {right.levels}"
    raise ConfigError(
        f"model.likelihood is {given.in_words}, which does not fit {schema.name}: its values are {schema.stored}"
        f"{'' if support == schema.stored else f', scaled to {support}'}; use "
        f"model.likelihood={{kind: {right.kind}{levels}}}"
        + (", or make the values binary with data.binarise=dynamic" if tuple(family.accepts) == ("binary",) else ""),
        field="model.likelihood",
        value=family,
    )


@torch.no_grad()
def check_objective(run: Run, model: VAE | HierarchicalVAE, data: Dataset, discriminator: nn.Module | None) -> None:
    """Refuse an objective that does not go with the model, by one trial of it on two rows.

    Args:
        run: Its settings.
        model: Untrained.
        data: Whose training rows are read.
        discriminator: Of the objective; None where it has none.

    Raises:
        ValueError: The objective does not go with the model.
    """
    some = data.train.some(2)
    given = data.train.inputs(some, new_generator(run.seed, Purpose.TRIAL))
    objective = run.objective
    model.eval()
    for phase in phases_of(objective):
        draw = model.draw(
            samples=phase.samples,
            **given,
            generator=new_generator(run.seed, Purpose.TRIAL),
            enumerate=phase.gradient.enumerate,
        )
        generator = new_generator(run.seed, Purpose.TRIAL)
        with naming_settings():
            phase(draw, StepContext(model=model, generator=generator, discriminator=discriminator))
    model.train()


SETTINGS = {  # what the parts of the table are in settings
    "posterior": "model.posterior",
    "prior": "model.prior",
    "model": "model.kind",
    "objective": "objective",
    "penalty": "objective.penalties",
    "gradient": "objective.gradient",
    "kl": "objective.kl",
    "refine": "model.refine",
}


def check_parts(run: Run) -> None:
    """Refuse parts of a model and its objective that break a rule of `vaekit.models.compatibility`.

    Args:
        run: Its settings.

    Raises:
        ConfigError: Parts do not go together.
    """
    for rows in rows_of(run):
        if rule := broken_rule(**rows):
            first = rule.parts[0]
            raise ConfigError(_why(rule, rows), field=SETTINGS[first], value=rows[first].kind)
    if isinstance(run.objective, InPhases) and run.train.budget is not None:
        kind = run.objective.kind
        raise ConfigError(
            f"train.budget needs steps of one length, and objective.kind is {kind}: set train.epochs",
            field="train.budget",
            value=run.train.budget,
        )
    _check_context_to(run)


def samples_are_conditional(run: Run) -> bool:
    """Whether what a model generates depends on the context.

    Args:
        run: Its settings.
    """
    to = run.data.context_to
    return "decoder" in to or ("prior" in to and prior_row(run.model.prior).is_conditional)


def _check_context_to(run: Run) -> None:
    """Refuse a choice of parts for the context of which nothing would come.

    Raises:
        ConfigError: There is no context, or no part that it is given to takes one, or the parts share a path.
    """
    to = run.data.context_to
    if set(to) == set(CONTEXT_PARTS):
        return
    said = f"data.context_to is {', '.join(to)}"
    if not run.data.context:
        raise ConfigError(
            f"{said}, and there is no context to give: set data.context, or leave data.context_to out",
            field="data.context_to",
            value=to,
        )
    if run.model.several_groups and set(to) != {"encoder"}:
        raise ConfigError(
            f"{said}, and in a hierarchical VAE what leads from one group of latents to the next is prior, posterior "
            "and decoder in one: use data.context_to=encoder, or all three parts",
            field="data.context_to",
            value=to,
        )
    if "encoder" not in to and not samples_are_conditional(run):
        raise ConfigError(
            f"{said}, and model.prior is {run.model.prior.kind}, which takes no context: add decoder or encoder, or "
            "use model.prior=flow or mixture",
            field="data.context_to",
            value=to,
        )


def rows_of(run: Run) -> Iterator[dict[str, Row]]:
    """The rows of the parts that meet in a run, by name: for each phase of its objective, with each of its penalties.

    Args:
        run: Its settings.
    """
    spec = run.model
    for phase in phases_of(run.objective):
        rows = {
            "posterior": posterior_row(spec.posterior),
            "prior": prior_row(spec.prior),
            "model": ModelRow(spec.kind, spec.several_groups),
            "objective": objective_row(phase),
            "gradient": gradient_row(phase.gradient),
        }
        for name, kind in (("kl", getattr(phase, "kl", None)), ("refine", getattr(spec.refine, "kind", None))):
            if kind is not None:
                rows[name] = Row(kind)
        yield rows
        for penalty in getattr(phase, "penalties", ()):
            yield {**rows, "penalty": penalty_row(penalty)}


def _why(rule: Rule, rows: dict[str, Row]) -> str:
    priors = [row.kind for row in map(prior_row, members_of(Prior)) if go_together(**{**rows, "prior": row})]
    return refusal(rule, rows, SETTINGS, priors)


def check_enumerable_latents(run: Run, space: CodeSpace | None) -> None:
    """Refuse to enumerate more values of z than can be.

    Args:
        run: Its settings.
        space: What z is made of; None where it is not discrete.

    Raises:
        ValueError: There are too many.
    """
    if run.objective.gradient.enumerate and space is not None:
        check_enumerable(space.positions, space.classes)
