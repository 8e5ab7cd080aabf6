"""Any posterior with any prior and any likelihood trains, is saved, and is loaded as the same."""

import itertools
import os
from typing import Any

import pytest
import torch
from torch import Tensor

from unions import examples, members, name, over_real
from vaekit.errors import ConfigError
from vaekit.evaluation import evaluate
from vaekit.models import Likelihood, Posterior, Prior
from vaekit.models.likelihoods.categorical import OverLevels
from vaekit.objectives import Objective, Regulariser
from vaekit.randomness import new_generator
from vaekit.runs import TrainingRun, load, make_run, override, preset

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


def train_and_load(settings: list[str], folder: Any, context: Tensor | None = None) -> Any:
    """Train a few steps and load what was saved: the numbers are finite, and the same. The trained model."""
    run = make_run(override(preset("digits"), [*TINY[:4], *settings, f"run_dir={folder}"]))
    job = TrainingRun.start(run)
    for event in job.events():
        assert all(torch.tensor(list(event.metrics.values())).isfinite())
    x, loaded = job.data.valid.batch(slice(0, 5), new_generator(0)), load(folder)
    ours, theirs = (evaluate(model, x, samples=3, context=context) for model in (job.model, loaded))
    assert {key: found.value for key, found in ours.items()} == {key: found.value for key, found in theirs.items()}
    told = None if context is None else context[:3]
    drawn, again = (model.generate(3, generator=new_generator(1), context=told) for model in (job.model, loaded))
    assert drawn.equal(again)
    return job.model


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
COUNTS = ["data.support=count"]
DATA = {
    "bernoulli": ["data.binarise=dynamic"],
    "poisson": COUNTS,
    "negative_binomial": COUNTS,
    "zero_inflated": COUNTS,
}
SCORE, NETWORKS = ["objective.gradient=score"], TINY[4:]


def of_posterior(setting: str, *others: str) -> list[str]:
    return [*NETWORKS, f"model.posterior={setting}", *others]


def of_hierarchy(groups: str) -> list[str]:
    return ["model.kind=hierarchical", f"model.groups={groups}"]


# By what each is over: its name and its settings.
POSTERIORS: dict[str, dict[str, list[str]]] = {support: {} for support in ("real", "sphere", "discrete")}
for head in examples(Posterior):
    learns = SCORE if head.kind in ("categorical", "bernoulli") else []
    POSTERIORS[head.support_of_z][head.kind] = of_posterior(SMALL.get(head.kind, head.kind), *learns)
POSTERIORS["real"] |= {
    f"{flow} flow": of_posterior(f"{{kind: flow, flow: {flow}, hidden: [8]}}") for flow in ("coupling", "spline")
}
POSTERIORS["real"] |= {kind: of_hierarchy(groups) for kind, groups in HIERARCHIES.items()}
POSTERIORS["discrete"] |= {
    "relaxed": of_posterior("{kind: categorical, classes: 4, temperature: {start: 1.0, end: 0.5}}"),
    "relaxed bits": of_posterior("{kind: bernoulli, temperature: 0.5}"),
    "bits in iwae": of_posterior("bernoulli", "objective={kind: iwae, samples: 3, gradient: score}"),
    "enumerated bits": of_posterior("bernoulli", "objective.gradient=enumerate"),
    "residual": of_posterior("{kind: vq, classes: 6, dim: 2, depth: 2}", "objective={kind: iwae, samples: 2}"),
}
OVER = {spec.kind: spec.over for spec in examples(Prior)}
LIKELIHOODS = [member.__name__ for member in members(Likelihood)]


def kind_of(prior: str) -> str:
    return "flow" if prior.endswith("flow") else prior


def likelihood_settings(name: str) -> list[str]:
    (likelihood,) = (member for member in members(Likelihood) if member.__name__ == name)
    over_levels = issubclass(likelihood, OverLevels)
    kind = (likelihood(levels=17) if over_levels else likelihood()).kind
    return [f"model.likelihood={{kind: {kind}{', levels: 17' if over_levels else ''}}}", *DATA.get(kind, [])]


def cells(whole: bool) -> list[tuple[str, str, str]]:
    """(posterior, prior, likelihood): the whole cube, or a part of it with every two of them together."""
    found = []
    for support, posteriors in POSTERIORS.items():
        priors = [prior for prior in PRIORS if support in OVER[kind_of(prior)]]
        for (i, posterior), (j, likelihood) in itertools.product(enumerate(posteriors), enumerate(LIKELIHOODS)):
            chosen = priors if whole else [priors[(i + j) % len(priors)]]
            found += [(posterior, prior, likelihood) for prior in chosen]
    return found


def test_every_two_parts_meet_in_some_cell() -> None:
    for first, second in itertools.combinations(range(3), 2):
        met, all_there_are = ({(cell[first], cell[second]) for cell in cells(whole)} for whole in (False, True))
        assert met == all_there_are


SETTINGS = {name: settings for posteriors in POSTERIORS.values() for name, settings in posteriors.items()}
SUPPORT = {name: support for support, posteriors in POSTERIORS.items() for name in posteriors}
WHOLE = bool(os.environ.get("VAEKIT_WHOLE_PRODUCT"))  # all of the cube, in ten minutes of one core


@pytest.mark.parametrize(("posterior", "prior", "likelihood"), cells(WHOLE))
def test_every_product(posterior: str, prior: str, likelihood: str, tmp_path) -> None:
    settings = [*SETTINGS[posterior], f"model.prior={PRIORS[prior]}", *likelihood_settings(likelihood)]
    if (posterior, prior) == ("deterministic", "vamp"):
        with pytest.raises(ConfigError, match="a point posterior has none"):
            train_and_load(settings, tmp_path / "run")
        return
    train_and_load(settings, tmp_path / "run")


PAIRS = sorted({cell[:2] for cell in cells(whole=True)} - {("deterministic", "vamp")})
STRANGERS = [(q, p) for q in SETTINGS for p in PRIORS if SUPPORT[q] not in OVER[kind_of(p)]]


@pytest.mark.parametrize(("posterior", "prior"), STRANGERS)
def test_a_posterior_and_a_prior_of_different_spaces_are_refused(posterior: str, prior: str) -> None:
    settings = [*TINY[:4], *SETTINGS[posterior], f"model.prior={PRIORS[prior]}"]
    with pytest.raises(ConfigError, match=r"over .* z, and model.posterior is"):
        TrainingRun.start(make_run(override(preset("digits"), settings)))


@pytest.mark.parametrize(("posterior", "prior"), PAIRS)
def test_every_pair_is_told_a_label_and_heeds_it(posterior: str, prior: str, tmp_path) -> None:
    settings = [*SETTINGS[posterior], f"model.prior={PRIORS[prior]}", "data.context=label"]
    model = train_and_load(settings, tmp_path / "run", context=torch.eye(10)[:5])
    threes, sevens = (
        model.generate(4, mean=True, generator=new_generator(1), context=torch.eye(10)[label].expand(4, -1))
        for label in (3, 7)
    )
    assert not torch.allclose(threes, sevens)


@pytest.mark.parametrize("objective", examples(Objective), ids=name)
@pytest.mark.parametrize("prior", examples(Prior), ids=name)
def test_every_objective_with_every_prior(objective: Any, prior: Any, tmp_path) -> None:
    settings = [f"objective={{kind: {objective.kind}}}", f"model.prior={PRIORS[prior.kind]}", *NETWORKS]
    if "real" not in prior.over:
        settings += [f"model.posterior={'von_mises_fisher' if 'sphere' in prior.over else 'vq'}"]
    train_and_load(settings, tmp_path / "run")


@pytest.mark.parametrize("penalty", [member.kind for member in members(Regulariser)])
@pytest.mark.parametrize("prior", over_real(Prior), ids=name)
def test_every_penalty_with_every_prior(penalty: str, prior: Any, tmp_path) -> None:
    settings = [f"objective={{kind: regularised, penalties: [{penalty}]}}", f"model.prior={PRIORS[prior.kind]}"]
    train_and_load([*NETWORKS, *settings], tmp_path / "run")


WITH_NORMAL_NOISE = ["mmd", "adversary", "feature_gan", "decoder_slope"]


@pytest.mark.parametrize("penalty", WITH_NORMAL_NOISE)
@pytest.mark.parametrize("codes", ["relaxed", "vq", "fsq"])
def test_penalties_that_draw_take_discrete_codes_and_a_context(penalty: str, codes: str) -> None:
    penalised = f"objective={{kind: regularised, penalties: [{penalty}]}}"
    told = ["model.prior={kind: autoregressive, width: 8}", "data.context=label"]
    job = TrainingRun.start(make_run(override(preset("digits"), [*TINY[:4], *SETTINGS[codes], penalised, *told])))
    for event in job.events():
        assert all(torch.tensor(list(event.metrics.values())).isfinite())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["model.posterior=deterministic", "objective=iwae"], "use the elbo objective"),
        (["model.posterior=deterministic", "objective=switch"], "use the elbo objective"),
        (["model.posterior=deterministic", "objective.gradient=score"], "use gradient pathwise"),
        (["model.prior=mixture", "objective.kl=closed"], "use objective.kl=sampled"),
        (["model.posterior=planar", "objective={kind: regularised, penalties: [dip]}"], "model.posterior=gaussian"),
        (["model.kind=hierarchical", "objective={kind: regularised, penalties: [mmd]}"], "over one group of latents"),
    ],
)
def test_parts_that_do_not_go_together_are_refused_before_a_folder_is_made(settings, said, tmp_path) -> None:
    start = TINY[:4] if "model.kind=hierarchical" in settings else TINY
    run = make_run(override(preset("digits"), [*start, *settings, f"run_dir={tmp_path / 'run'}"]))
    with pytest.raises(ConfigError, match=said):
        TrainingRun.start(run)
    assert not (tmp_path / "run").exists()


REFINED = ["model.refine={kind: hamiltonian, steps: 2}", "objective.samples=2"]
DENSE = [q for q, support in SUPPORT.items() if support == "real" and q != "deterministic" and "hierarchy" not in q]


@pytest.mark.parametrize("posterior", DENSE)
def test_every_posterior_over_real_z_is_refined(posterior: str, tmp_path) -> None:
    train_and_load([*SETTINGS[posterior], *REFINED], tmp_path / "run")


@pytest.mark.parametrize("prior", [prior for prior in PRIORS if "real" in OVER[kind_of(prior)]])
def test_a_posterior_is_refined_under_every_prior_over_real_z(prior: str, tmp_path) -> None:
    train_and_load([*NETWORKS, f"model.prior={PRIORS[prior]}", *REFINED], tmp_path / "run")
