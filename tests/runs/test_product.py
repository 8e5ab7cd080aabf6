"""Any posterior with any prior and any likelihood trains, is saved, and is loaded as the same."""

import os
from typing import Any

import pytest
import torch

from unions import examples, members, name, over_real
from vaekit.errors import ConfigError
from vaekit.evaluation import evaluate
from vaekit.models import FlowPosterior, Likelihood, Point, Posterior, Prior
from vaekit.models.families import OverLevels
from vaekit.objectives import Objective, Regulariser
from vaekit.runs import Job, load, make_run, override, preset

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
POSTERIORS = [*(p for p in over_real(Posterior) if not isinstance(p, FlowPosterior)), FlowPosterior(hidden=(8,))]
PRIORS = {"mixture": "{kind: mixture, components: 4}", "vamp": "{kind: vamp, components: 4}", "flow": "{kind: flow}"}
COUNTS = ["data.support=count"]
DATA = {
    "bernoulli": ["data.binarise=dynamic"],
    "poisson": COUNTS,
    "negative_binomial": COUNTS,
    "zero_inflated": COUNTS,
}


def train_and_load(settings: list[str], folder: Any) -> None:
    run = make_run(override(preset("digits"), [*TINY, *settings, f"run_dir={folder}"]))
    job = Job.start(run)
    for event in job.events():
        assert all(torch.tensor(list(event.metrics.values())).isfinite())
    x = job.data.valid.batch(slice(0, 5), torch.Generator().manual_seed(0))
    ours, theirs = evaluate(job.model, x, samples=3), evaluate(load(folder), x, samples=3)
    assert {key: found.value for key, found in ours.items()} == {key: found.value for key, found in theirs.items()}
    drawn = job.model.generate(3, generator=torch.Generator().manual_seed(1))
    assert drawn.equal(load(folder).generate(3, generator=torch.Generator().manual_seed(1)))


def of_one_space(posterior: Any, prior: Any) -> bool:
    return posterior.support_of_z in prior.over


PAIRS = [
    pytest.param(q, p, id=f"{q.kind}-{p.kind}")
    for q in POSTERIORS
    for p in examples(Prior)
    if of_one_space(q, p) and q.support_of_z != "discrete"
]
STRANGERS = [(q, p) for q in POSTERIORS for p in examples(Prior) if not of_one_space(q, p)]


@pytest.mark.parametrize(("posterior", "prior"), STRANGERS, ids=name)
def test_a_posterior_and_a_prior_of_different_spaces_are_refused(posterior: Any, prior: Any) -> None:
    kinds = [f"model.posterior={posterior.kind}", f"model.prior={prior.kind}"]
    with pytest.raises(ConfigError, match=r"over .* z, and model.posterior is"):
        Job.start(make_run(override(preset("digits"), [*TINY, *kinds])))


# Every pair with some likelihood and every likelihood with the plain pair; all of the cube on request, in an hour.
WHOLE = bool(os.environ.get("VAEKIT_WHOLE_PRODUCT"))
PRODUCT = [
    pytest.param(*pair.values, likelihood, id=f"{pair.id}-{likelihood.__name__}")
    for i, pair in enumerate(PAIRS)
    for j, likelihood in enumerate(members(Likelihood))
    if WHOLE or i == 0 or j == i % len(members(Likelihood))
]


@pytest.mark.parametrize(("posterior", "prior", "likelihood"), PRODUCT)
def test_every_product(posterior: Any, prior: Any, likelihood: Any, tmp_path) -> None:
    over_levels = issubclass(likelihood, OverLevels)
    kind = (likelihood(levels=17) if over_levels else likelihood()).kind
    levels = ", levels: 17" if over_levels else ""
    settings = [
        f"model.posterior={posterior.kind}",
        f"model.prior={PRIORS.get(prior.kind, prior.kind)}",
        f"model.likelihood={{kind: {kind}{levels}}}",
        *DATA.get(kind, []),
    ]
    if isinstance(posterior, Point) and prior.kind == "vamp":
        with pytest.raises(ConfigError, match="a point posterior has none"):
            train_and_load(settings, tmp_path / "run")
        return
    train_and_load(settings, tmp_path / "run")


DISCRETE = {
    "categorical": ["model.posterior={kind: categorical, classes: 4}", "objective.gradient=score"],
    "gumbel": ["model.posterior={kind: categorical, classes: 4, temperature: {start: 1.0, end: 0.5}}"],
    "bernoulli": ["model.posterior=bernoulli", "objective={kind: iwae, samples: 3, gradient: score}"],
    "enumerated": ["model.posterior=bernoulli", "objective.gradient=enumerate"],
    "vq": ["model.posterior={kind: vq, classes: 6, dim: 2}"],
    "residual": ["model.posterior={kind: vq, classes: 6, dim: 2, depth: 2}", "objective={kind: iwae, samples: 2}"],
    "fsq": ["model.posterior={kind: fsq, levels: [4, 3]}"],
}


@pytest.mark.parametrize("prior", ["standard", "factorised", "{kind: autoregressive, width: 8}"])
@pytest.mark.parametrize("posterior", DISCRETE)
def test_every_discrete_posterior_with_every_prior_over_codes(posterior: str, prior: str, tmp_path) -> None:
    train_and_load([*DISCRETE[posterior], f"model.prior={prior}"], tmp_path / "run")


@pytest.mark.parametrize("objective", examples(Objective), ids=name)
@pytest.mark.parametrize("prior", examples(Prior), ids=name)
def test_every_objective_with_every_prior(objective: Any, prior: Any, tmp_path) -> None:
    settings = [f"objective={{kind: {objective.kind}}}", f"model.prior={PRIORS.get(prior.kind, prior.kind)}"]
    if "real" not in prior.over:
        settings += [f"model.posterior={'von_mises_fisher' if 'sphere' in prior.over else 'vq'}"]
    train_and_load(settings, tmp_path / "run")


@pytest.mark.parametrize("penalty", [member.kind for member in members(Regulariser)])
@pytest.mark.parametrize("prior", over_real(Prior), ids=name)
def test_every_penalty_with_every_prior(penalty: str, prior: Any, tmp_path) -> None:
    prior_setting = PRIORS.get(prior.kind, prior.kind)
    settings = [f"objective={{kind: regularised, penalties: [{penalty}]}}", f"model.prior={prior_setting}"]
    train_and_load(settings, tmp_path / "run")


WITH_NORMAL_NOISE = ["mmd", "adversary", "feature_gan", "decoder_slope"]


@pytest.mark.parametrize("penalty", WITH_NORMAL_NOISE)
@pytest.mark.parametrize("codes", ["gumbel", "vq", "fsq"])
def test_penalties_that_draw_take_discrete_codes_and_a_context(penalty: str, codes: str) -> None:
    penalised = f"objective={{kind: regularised, penalties: [{penalty}]}}"
    told = ["model.prior={kind: autoregressive, width: 8}", "data.context=label"]
    job = Job.start(make_run(override(preset("digits"), [*TINY, *DISCRETE[codes], penalised, *told])))
    for event in job.events():
        assert all(torch.tensor(list(event.metrics.values())).isfinite())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["model.posterior=point", "objective=iwae"], "use the elbo objective"),
        (["model.posterior=point", "objective=switch"], "use the elbo objective"),
        (["model.posterior=point", "objective.gradient=score"], "use gradient pathwise"),
        (["model.prior=mixture", "objective.kl=closed"], "use objective.kl=sampled"),
        (["model.posterior=planar", "objective={kind: regularised, penalties: [dip]}"], "model.posterior=gaussian"),
        (["model.kind=ladder", "objective={kind: regularised, penalties: [mmd]}"], "over one group of latents"),
    ],
)
def test_parts_that_do_not_go_together_are_refused_before_a_folder_is_made(settings, said, tmp_path) -> None:
    start = TINY[:4] if "model.kind=ladder" in settings else TINY
    run = make_run(override(preset("digits"), [*start, *settings, f"run_dir={tmp_path / 'run'}"]))
    with pytest.raises(ConfigError, match=said):
        Job.start(run)
    assert not (tmp_path / "run").exists()


REFINED = [
    *(f"model.posterior={p.kind}" for p in POSTERIORS if p.support_of_z == "real" and not isinstance(p, Point)),
    *(f"model.prior={PRIORS[p.kind]}" for p in over_real(Prior) if p.kind != "standard"),
]


@pytest.mark.parametrize("setting", REFINED)
def test_every_posterior_and_prior_over_real_z_is_refined(setting: str, tmp_path) -> None:
    train_and_load([setting, "model.refine={kind: hamiltonian, steps: 2}", "objective.samples=2"], tmp_path / "run")
