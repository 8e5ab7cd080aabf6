"""Any posterior with any prior and any likelihood trains, is saved, and is loaded as the same."""

from typing import Any

import pytest
import torch

from unions import examples, members, name
from vaekit.errors import ConfigError
from vaekit.evaluation import evaluate
from vaekit.models import Categorical, FlowPosterior, Likelihood, Point, Posterior, Prior
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
POSTERIORS = [*(p for p in examples(Posterior) if not isinstance(p, FlowPosterior)), FlowPosterior(hidden=(8,))]
PRIORS = {"mixture": "{kind: mixture, components: 4}", "vamp": "{kind: vamp, components: 4}", "flow": "{kind: flow}"}
COUNTS = ["data.support=count"]
DATA = {"bernoulli": ["data.binarise=dynamic"], "poisson": COUNTS, "negative_binomial": COUNTS}


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


@pytest.mark.parametrize("likelihood", members(Likelihood), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("prior", examples(Prior), ids=name)
@pytest.mark.parametrize("posterior", POSTERIORS, ids=name)
def test_every_product(posterior: Any, prior: Any, likelihood: Any, tmp_path) -> None:
    kind = Categorical(17).kind if likelihood is Categorical else likelihood().kind
    levels = ", levels: 17" if likelihood is Categorical else ""
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


@pytest.mark.parametrize("objective", examples(Objective), ids=name)
@pytest.mark.parametrize("prior", examples(Prior), ids=name)
def test_every_objective_with_every_prior(objective: Any, prior: Any, tmp_path) -> None:
    prior_setting = PRIORS.get(prior.kind, prior.kind)
    train_and_load([f"objective={{kind: {objective.kind}}}", f"model.prior={prior_setting}"], tmp_path / "run")


@pytest.mark.parametrize("penalty", [member.kind for member in members(Regulariser)])
@pytest.mark.parametrize("prior", examples(Prior), ids=name)
def test_every_penalty_with_every_prior(penalty: str, prior: Any, tmp_path) -> None:
    prior_setting = PRIORS.get(prior.kind, prior.kind)
    settings = [f"objective={{kind: regularised, penalties: [{penalty}]}}", f"model.prior={prior_setting}"]
    train_and_load(settings, tmp_path / "run")
