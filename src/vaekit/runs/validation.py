"""Which settings of a run go together: every check, with the settings named and a fix."""

import torch
from torch import nn

from vaekit.data import Dataset, Schema
from vaekit.data.schema import Levels, Support
from vaekit.errors import ConfigError
from vaekit.models import (
    VAE,
    Bernoulli,
    CalibratedGaussian,
    Categorical,
    ContinuousBernoulli,
    Hamiltonian,
    HierarchicalVAE,
    Likelihood,
    NegativeBinomial,
    Prior,
)
from vaekit.models.compatibility import (
    PosteriorRow,
    PriorRow,
    gradient_conflict,
    posterior_row,
    prior_fits,
    prior_row,
)
from vaekit.models.distributions.codes import CodeSpace, check_enumerable
from vaekit.models.likelihoods.categorical import OverLevels
from vaekit.objectives import Gradient, Regularised, StepContext, Switch
from vaekit.randomness import Purpose, new_generator
from vaekit.runs.tree import HierarchicalSpec, ModelSpec, Run, naming_settings
from vaekit.setting_errors import members_of

MOST_LEVELS = 64  # with more, a softmax for each value is wasteful, and neighbouring levels are nearly alike


def default_likelihood(support: Support, kind: str) -> Likelihood:
    """The family that fits values of a support.

    Args:
        support: Of the data.
        kind: `image` or `table`.
    """
    if support.kind == "binary":
        return Bernoulli()
    if isinstance(support, Levels) and support.count <= MOST_LEVELS:
        return Categorical(support.count)
    if support.kind == "count":
        return NegativeBinomial()
    if support.kind in ("levels", "unit"):
        return ContinuousBernoulli()
    return CalibratedGaussian(per_dimension=kind == "table")


def check_likelihood(family: Likelihood, schema: Schema) -> None:
    """Refuse a likelihood whose support is not the data's, and name the one that fits.

    Args:
        family: Of p(x|z).
        schema: Of the data.

    Raises:
        ConfigError: The likelihood gives values of the data no probability.
    """
    support = schema.support
    fits = support.kind in family.accepts
    if fits and isinstance(family, OverLevels):
        count = support.count if isinstance(support, Levels) else 2
        fits = family.levels == count
    if fits:
        return
    right = default_likelihood(support if schema.loc is None else schema.stored, schema.kind)
    levels = f", levels: {right.levels}" if isinstance(right, Categorical) else ""
    given = f"{family.kind} with {family.levels} levels" if isinstance(family, OverLevels) else family.kind
    raise ConfigError(
        f"model.likelihood is {given}, which does not fit {schema.name}: its values are {schema.stored}"
        f"{'' if support == schema.stored else f', scaled to {support}'}; use "
        f"model.likelihood={{kind: {right.kind}{levels}}}"
        + (", or make the values binary with data.binarise=dynamic" if family.kind == "bernoulli" else "")
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
    x, context = data.train.batch(some, new_generator(run.seed, Purpose.TRIAL)), data.train.context_of(some)
    objective = run.objective
    model.eval()
    for phase in objective.phases if isinstance(objective, Switch) else (objective,):
        draw = model.draw(
            x,
            phase.samples,
            context=context,
            generator=new_generator(run.seed, Purpose.TRIAL),
            enumerate=phase.gradient.enumerate,
        )
        generator = new_generator(run.seed, Purpose.TRIAL)
        with naming_settings():
            phase(draw, StepContext(model=model, generator=generator, discriminator=discriminator))
    model.train()


def check_parts(run: Run) -> None:
    """Refuse a prior that is not over the posterior's kind of z, and a gradient that such z do not carry.

    Args:
        run: Its settings.

    Raises:
        ConfigError: Two parts do not go together.
    """
    spec, objective = run.model, run.objective
    posterior = posterior_row(spec.posterior)
    _check_prior(prior_row(spec.prior), posterior)
    if isinstance(spec, HierarchicalSpec) and posterior.z == "discrete":
        raise ConfigError(
            f"model.posterior is {posterior.kind}, and a hierarchical VAE's z are not discrete: use gaussian"
        )
    for phase in objective.phases if isinstance(objective, Switch) else (objective,):
        _check_gradient(phase.gradient, posterior, relaxable=hasattr(spec.posterior, "temperature"))
        if isinstance(spec, ModelSpec) and spec.refine is not None:
            _check_refined(run, spec.refine, phase.gradient, posterior)
    if isinstance(objective, Switch) and run.train.budget is not None:
        raise ConfigError("train.budget needs steps of one length, and objective.kind is switch: set train.epochs")


def _check_prior(prior: PriorRow, posterior: PosteriorRow) -> None:
    if prior_fits(prior, posterior):
        return
    rows = [prior_row(choice) for choice in members_of(Prior)]
    fitting = [row.kind for row in rows if prior_fits(row, posterior)]
    why = f"over {' or '.join(prior.over)} z, and model.posterior is {posterior.kind}, whose z is {posterior.z}"
    if posterior.z in prior.over:
        why = f"made of the posterior's density, and model.posterior is {posterior.kind}, which has none"
    raise ConfigError(
        f"model.prior is {prior.kind}, {why}: use model.prior={' or '.join(fitting)}, or another posterior"
    )


def _check_gradient(gradient: Gradient, posterior: PosteriorRow, relaxable: bool) -> None:
    conflict = gradient_conflict(gradient, posterior)
    if conflict is None:
        return
    relax = relaxable and gradient.reparametrised and not posterior.reparametrised
    raise ConfigError(
        f"objective.gradient {gradient.kind} does not go with model.posterior {posterior.kind}: {conflict.reason}: use "
        f"objective.gradient={' or '.join(conflict.instead)}"
        + (", or relax them with model.posterior.temperature=0.5" if relax else "")
    )


def _check_refined(run: Run, refine: Hamiltonian, gradient: Gradient, posterior: PosteriorRow) -> None:
    """Refuse what does not go with refined draws, which can be scored only as they are drawn."""
    if not posterior.refinable:
        raise ConfigError(
            f"model.refine is {refine.kind}, which moves draws of a density over real z, and model.posterior is "
            f"{posterior.kind}: use gaussian, full_gaussian or a flow, or set model.refine=null"
        )
    if not (gradient.reparametrised and gradient.score):
        raise ConfigError(
            f"model.refine is {refine.kind}, whose draws carry all their gradients along, and objective.gradient is "
            f"{gradient.kind}: use pathwise"
        )
    if isinstance(run.objective, Regularised):
        raise ConfigError(
            f"model.refine is {refine.kind}, whose draws have no density in closed form for the penalties of a "
            "regularised objective: use elbo or iwae"
        )


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
