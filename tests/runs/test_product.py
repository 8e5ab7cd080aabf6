"""Any posterior with any prior and any likelihood trains; each part is saved, and is loaded as the same."""

import itertools
import os
import re
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from naming import naming
from unions import examples, members, name, over_real
from vaekit.errors import ConfigError
from vaekit.evaluation import evaluate
from vaekit.models import Likelihood, Posterior, Prior
from vaekit.models.compatibility import (
    RULES,
    PosteriorRow,
    PriorRow,
    Row,
    Rule,
    broken_rule,
    go_together,
    likelihood_row,
    penalty_row,
    posterior_row,
    prior_row,
    sampler_row,
)
from vaekit.models.likelihoods.categorical import OverLevels
from vaekit.objectives import Dip, Objective, Regulariser, TotalCorrelation
from vaekit.randomness import new_generator
from vaekit.runs import TrainingRun, load, make_run, override, preset
from vaekit.runs.validation import check_parts, rows_of
from vaekit.samplers import Sampler

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = [
    "limit.train=30",
    "limit.valid=10",
    "train.epochs=1",
    "train.batch_size=10",
    "model.latent=3",
    "model.encoder={kind: mlp, widths: [8]}",
    "model.decoder={kind: mlp, widths: [8]}",
]


DIGITS = preset("digits")


def settings_of(*settings: str) -> Any:
    return make_run(override(DIGITS, [*TINY[:4], *settings]))


def train_few_steps(settings: list[str], folder: Any = None) -> TrainingRun:
    """Train a few steps, whose numbers are finite; they are saved where there is a folder."""
    training = TrainingRun.start(settings_of(*settings, *([] if folder is None else [f"run_dir={folder}"])))
    for event in training.events():
        assert all(torch.tensor(list(event.metrics.values())).isfinite())
    return training


def train_and_load(settings: list[str], folder: Any, context: Tensor | None = None) -> Any:
    """Train a few steps and load what was saved: the numbers are finite, and the same. The trained model."""
    training = train_few_steps(settings, folder)
    x, loaded = training.data.valid.batch(slice(0, 5), new_generator(0)), load(folder)
    ours, theirs = (evaluate(model, x, samples=3, context=context) for model in (training.model, loaded))
    assert {key: found.value for key, found in ours.items()} == {key: found.value for key, found in theirs.items()}
    few = None if context is None else context[:3]
    drawn, again = (model.generate(3, generator=new_generator(1), context=few) for model in (training.model, loaded))
    assert drawn.equal(again)
    return training.model


HIERARCHIES = {
    "dense hierarchy": "{kind: dense, latent: [3, 2], widths: [8]}",
    "spatial hierarchy": "{kind: spatial, latent: 3, channels: [4, 6], groups: [0, 1], hidden: 8}",
}
SMALL = {
    "vq": "{kind: vq, classes: 6, dim: 2}",
    "fsq": "{kind: fsq, levels: [4, 3]}",
    "planar": "{kind: planar, steps: 2}",
    "radial": "{kind: radial, steps: 2}",
    "flow": "{kind: flow, hidden: [8]}",
    "categorical": "{kind: categorical, classes: 4}",
}
SMALL_PRIORS = {
    "mixture": "{kind: mixture, components: 4}",
    "vamp": "{kind: vamp, components: 4}",
    "flow": "{kind: flow, hidden: [8]}",
    "autoregressive": "{kind: autoregressive, width: 8}",
}
FLOWS = {f"{flow} flow": f"{{kind: flow, flow: {flow}, hidden: [8]}}" for flow in ("spline", "autoregressive")}
PRIORS = {prior.kind: SMALL_PRIORS.get(prior.kind, prior.kind) for prior in examples(Prior)} | FLOWS
DATA = {"binary": ["data.binarise=dynamic"], "count": ["data.support=count"]}  # by what a likelihood alone accepts
SCORE, NETWORKS = ["objective.gradient=score"], TINY[4:]


def of_posterior(setting: str, *others: str) -> list[str]:
    return [*NETWORKS, f"model.posterior={setting}", *others]


def of_hierarchy(groups: str) -> list[str]:
    return ["model.kind=hierarchical", f"model.groups={groups}"]


# The settings of each posterior; those of a hierarchical VAE are its first group's.
POSTERIORS: dict[str, list[str]] = {}
for family in examples(Posterior):
    learns = [] if posterior_row(family).reparametrised else SCORE
    POSTERIORS[family.kind] = of_posterior(SMALL.get(family.kind, family.kind), *learns)
POSTERIORS |= {
    f"{flow} flow": of_posterior(f"{{kind: flow, flow: {flow}, hidden: [8]}}") for flow in ("coupling", "spline")
}
POSTERIORS |= {kind: of_hierarchy(groups) for kind, groups in HIERARCHIES.items()}
POSTERIORS |= {
    "relaxed": of_posterior("{kind: categorical, classes: 4, temperature: {start: 1.0, end: 0.5}}"),
    "relaxed bits": of_posterior("{kind: bernoulli, temperature: 0.5}"),
    "bits in iwae": of_posterior("bernoulli", "objective={kind: iwae, samples: 3, gradient: score}"),
    "enumerated bits": of_posterior("bernoulli", "objective.gradient=enumerate"),
    "residual": of_posterior("{kind: vq, classes: 6, dim: 2, depth: 2}", "objective={kind: iwae, samples: 2}"),
}
# but for tables of mixed columns, which no array is
LIKELIHOODS = [member.__name__ for member in members(Likelihood) if "mixed" not in member.accepts]


POSTERIOR_ROWS: dict[str, PosteriorRow] = {
    name: posterior_row(settings_of(*settings).model.posterior) for name, settings in POSTERIORS.items()
}
PRIOR_ROWS: dict[str, PriorRow] = {
    name: prior_row(settings_of(f"model.prior={setting}").model.prior) for name, setting in PRIORS.items()
}


def fits(posterior: str, prior: str) -> bool:
    return go_together(prior=PRIOR_ROWS[prior], posterior=POSTERIOR_ROWS[posterior])


def likelihood_settings(name: str) -> list[str]:
    (likelihood,) = (member for member in members(Likelihood) if member.__name__ == name)
    over_levels = issubclass(likelihood, OverLevels)
    row = likelihood_row(likelihood(levels=17) if over_levels else likelihood())
    data = DATA[row.accepts[0]] if set(row.accepts) <= set(DATA) else []
    return [f"model.likelihood={{kind: {row.kind}{', levels: 17' if over_levels else ''}}}", *data]


def cells(whole: bool) -> list[tuple[str, str, str]]:
    """(posterior, prior, likelihood): the whole cube, or a part of it with every two of them together."""
    found: list[tuple[str, str, str]] = []
    before: Counter[tuple[str, ...]] = Counter()  # posteriors with the same priors, which go through these in turn
    for posterior in POSTERIORS:
        priors = tuple(prior for prior in PRIORS if fits(posterior, prior))
        for number, likelihood in enumerate(LIKELIHOODS, before[priors]):
            chosen = priors if whole else (priors[number % len(priors)],)
            found += [(posterior, prior, likelihood) for prior in chosen]
        before[priors] += 1
    return found


def test_every_two_parts_meet_in_some_cell() -> None:
    for first, second in itertools.combinations(range(3), 2):
        met, all_there_are = ({(cell[first], cell[second]) for cell in cells(whole)} for whole in (False, True))
        assert met == all_there_are


WHOLE = bool(os.environ.get("VAEKIT_WHOLE_PRODUCT"))  # all of the cube, in ten minutes of one core


@pytest.mark.parametrize(("posterior", "prior", "likelihood"), cells(WHOLE))
def test_every_product(posterior: str, prior: str, likelihood: str) -> None:
    settings = [*POSTERIORS[posterior], f"model.prior={PRIORS[prior]}", *likelihood_settings(likelihood)]
    model = train_few_steps(settings).model
    assert model.generate(3, generator=new_generator(1)).isfinite().all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_likelihood_is_saved_and_loaded(likelihood: str, tmp_path) -> None:
    train_and_load([*NETWORKS, *likelihood_settings(likelihood)], tmp_path / "run")


PAIRS = sorted({cell[:2] for cell in cells(whole=True)})
REFUSED = [(q, p) for q in POSTERIORS for p in PRIORS if not fits(q, p)]


@pytest.mark.parametrize(("posterior", "prior"), REFUSED)
def test_a_posterior_and_a_prior_that_do_not_go_together_are_refused(posterior: str, prior: str) -> None:
    run = settings_of(*POSTERIORS[posterior], f"model.prior={PRIORS[prior]}")
    with pytest.raises(ConfigError, check=naming("model.prior", PRIOR_ROWS[prior].kind)):
        TrainingRun.start(run)


@pytest.mark.parametrize(("posterior", "prior"), PAIRS)
def test_every_pair_depends_on_a_label(posterior: str, prior: str, tmp_path) -> None:
    settings = [*POSTERIORS[posterior], f"model.prior={PRIORS[prior]}", "data.context=label"]
    model = train_and_load(settings, tmp_path / "run", context=torch.eye(10)[:5])
    threes, sevens = (
        model.generate(4, mean=True, generator=new_generator(1), context=torch.eye(10)[label].expand(4, -1))
        for label in (3, 7)
    )
    assert not torch.allclose(threes, sevens)


@pytest.mark.parametrize("objective", examples(Objective), ids=name)
@pytest.mark.parametrize("prior", examples(Prior), ids=name)
def test_every_objective_with_every_prior(objective: Any, prior: Any) -> None:
    settings = [f"objective={{kind: {objective.kind}}}", f"model.prior={PRIORS[prior.kind]}", *NETWORKS]
    if "real" not in prior.over:
        settings += [f"model.posterior={'von_mises_fisher' if 'sphere' in prior.over else 'vq'}"]
    train_few_steps(settings)


@pytest.mark.parametrize("penalty", [member.kind for member in members(Regulariser)])
@pytest.mark.parametrize("prior", over_real(Prior), ids=name)
def test_every_penalty_with_every_prior(penalty: str, prior: Any) -> None:
    settings = [f"objective={{kind: regularised, penalties: [{penalty}]}}", f"model.prior={PRIORS[prior.kind]}"]
    train_few_steps([*NETWORKS, *settings])


DEMANDING = [Dip(), TotalCorrelation()]  # of q(z|x)
WITH_A_PATH = [q for q, row in POSTERIOR_ROWS.items() if row.reparametrised and q not in HIERARCHIES]


@pytest.mark.parametrize("penalty", DEMANDING, ids=name)
@pytest.mark.parametrize("posterior", WITH_A_PATH)
def test_a_penalty_takes_the_posteriors_that_the_table_says(penalty: Any, posterior: str, tmp_path) -> None:
    penalised = f"objective={{kind: regularised, penalties: [{penalty.kind}]}}"
    setting = POSTERIORS[posterior][: len(NETWORKS) + 1]
    prior = next(prior for prior in PRIORS if fits(posterior, prior))
    run = settings_of(*setting, f"model.prior={PRIORS[prior]}", penalised, f"run_dir={tmp_path / 'run'}")
    if go_together(penalty=penalty_row(penalty), posterior=POSTERIOR_ROWS[posterior]):
        TrainingRun.start(run)
    else:
        with pytest.raises(ConfigError, check=naming("model.posterior", POSTERIOR_ROWS[posterior].kind)):
            TrainingRun.start(run)


WITH_NORMAL_NOISE = ["mmd", "adversary", "feature_gan", "decoder_slope"]


@pytest.mark.parametrize("penalty", WITH_NORMAL_NOISE)
@pytest.mark.parametrize("codes", ["relaxed", "vq", "fsq"])
def test_penalties_that_draw_take_discrete_codes_and_a_context(penalty: str, codes: str) -> None:
    penalised = f"objective={{kind: regularised, penalties: [{penalty}]}}"
    conditional = ["model.prior={kind: autoregressive, width: 8}", "data.context=label"]
    train_few_steps([*POSTERIORS[codes], penalised, *conditional])


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        (["model.posterior=deterministic", "objective=iwae"], "objective", "iwae"),
        (["model.posterior=deterministic", "objective=switch"], "objective", "iwae"),
        (["model.posterior=deterministic", "objective.gradient=score"], "objective.gradient", "score"),
        (["model.prior=mixture", "objective.kl=closed"], "objective.kl", "closed"),
        (["model.posterior=planar", "objective={kind: regularised, penalties: [dip]}"], "model.posterior", "planar"),
        (["model.kind=hierarchical", "objective={kind: regularised, penalties: [mmd]}"], "objective", "regularised"),
    ],
)
def test_parts_that_do_not_go_together_are_refused_before_a_folder_is_made(settings, field, value, tmp_path) -> None:
    start = TINY[:4] if "model.kind=hierarchical" in settings else TINY
    run = make_run(override(DIGITS, [*start, *settings, f"run_dir={tmp_path / 'run'}"]))
    with pytest.raises(ConfigError, check=naming(field, value)):
        TrainingRun.start(run)
    assert not (tmp_path / "run").exists()


TABLE = [  # settings that break each rule, in its order
    ["model.prior=uniform_sphere"],
    ["model.posterior=deterministic", "model.prior=vamp"],
    ["model.kind=hierarchical", "model.posterior=bernoulli", "objective.gradient=score"],
    ["model.kind=hierarchical", "objective={kind: regularised, penalties: [mmd]}"],
    ["model.posterior=deterministic", "objective.gradient=score"],
    ["objective.gradient=enumerate"],
    ["model.posterior=bernoulli"],
    ["model.posterior=vq", "objective.gradient=stick_the_landing"],
    ["model.posterior=deterministic", "objective=switch"],
    ["objective={kind: iwae, gradient: enumerate}"],
    ["objective={kind: regularised, elbo: {gradient: score}, penalties: [mmd]}"],
    ["model.posterior=planar", "objective={kind: regularised, penalties: [mmd, dip]}"],
    ["model.posterior=full_gaussian", "objective={kind: regularised, penalties: [total_correlation]}"],
    ["model.prior=mixture", "objective={kind: regularised, elbo: {kl: closed}}"],
    ["model.posterior=deterministic", "model.refine=hamiltonian"],
    ["model.refine=hamiltonian", "objective.gradient=detached"],
    ["model.refine=hamiltonian", "objective=regularised"],
    ["model.refine=hamiltonian", "objective.kl=closed"],
]


WITHIN_AN_OBJECTIVE = {("objective", "gradient"), ("gradient", "penalty")}  # which it refuses when it is made
RULED = list(zip(TABLE, [rule for rule in RULES if "sampler" not in rule.parts], strict=True))


@pytest.mark.parametrize(("settings", "rule"), RULED, ids=lambda part: str(part)[:40])
def test_every_rule_of_the_table_refuses_some_settings(settings: list[str], rule: Rule) -> None:
    with pytest.raises(ConfigError, match=re.escape(rule.reason.split("{")[0])):
        check_parts(settings_of(*settings))
    if rule.parts not in WITHIN_AN_OBJECTIVE:
        assert rule in [broken_rule(**rows) for rows in rows_of(settings_of(*settings))]


@pytest.mark.parametrize("sampler", examples(Sampler), ids=name)
@pytest.mark.parametrize("family", examples(Posterior), ids=name)
def test_densities_are_fitted_to_real_codes_and_only_the_prior_takes_a_context(sampler: Any, family: Any) -> None:
    fitted, row = sampler.kind in ("mixture", "flow"), sampler_row(sampler)
    assert go_together(sampler=row, posterior=posterior_row(family)) is (not fitted or family.support_of_z == "real")
    assert go_together(sampler=row, context=Row("label")) is (sampler.kind == "prior")


REFINED = ["model.refine={kind: hamiltonian, steps: 2}", "objective.samples=2"]
REFINED_POSTERIORS = [
    q
    for q, row in POSTERIOR_ROWS.items()
    if go_together(refine=Row("hamiltonian"), posterior=row) and q not in HIERARCHIES
]


@pytest.mark.parametrize("posterior", REFINED_POSTERIORS)
def test_every_posterior_with_a_density_over_real_z_is_refined(posterior: str, tmp_path) -> None:
    train_and_load([*POSTERIORS[posterior], *REFINED], tmp_path / "run")


@pytest.mark.parametrize("prior", [prior for prior, row in PRIOR_ROWS.items() if "real" in row.over])
def test_a_posterior_is_refined_under_every_prior_over_real_z(prior: str, tmp_path) -> None:
    train_and_load([*NETWORKS, f"model.prior={PRIORS[prior]}", *REFINED], tmp_path / "run")
