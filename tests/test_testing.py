"""The checks of `vaekit.testing` say what is wrong with a part; ours pass them in the contract tests."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td

from vaekit.gradients import Pathwise
from vaekit.models.families import LikelihoodHead
from vaekit.models.likelihoods import Gaussian
from vaekit.objectives import Elbo, Terms
from vaekit.priors import Mixture
from vaekit.testing import check_likelihood, check_objective, check_posterior, check_prior

pytestmark = pytest.mark.usefixtures("one_thread")
counter = itertools.count()


def test_a_check_changes_nothing_of_the_caller() -> None:
    before = torch.get_rng_state()
    check_prior(Mixture(components=2))
    assert torch.equal(before, torch.get_rng_state())


class Normal(td.Normal):
    """A normal distribution with one thing wrong."""

    def __init__(self, size: int, wrong: str, scale: Tensor):
        super().__init__(torch.zeros(size, dtype=torch.float64), scale, validate_args=False)
        self.wrong = wrong

    def expand(self, batch_shape, _instance=None):
        return Normal(1, self.wrong, self.scale[:1].expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        found = super().log_prob(value)
        if self.wrong == "constant":
            return found + 0.1
        if self.wrong == "batch":
            return found - found.detach().mean() * 0.01
        if self.wrong == "single":
            return found.float()
        if self.wrong == "nan":
            return found * torch.nan
        return super().log_prob(value * 2) + 0.6931 if self.wrong == "scale" else found

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        found = super().rsample(sample_shape)
        if self.wrong == "shift":
            return found + 0.3
        return found + next(counter) if self.wrong == "unseeded" else found

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.rsample(sample_shape).detach()


class BrokenPrior(nn.Module):
    def __init__(self, size: int, wrong: str):
        super().__init__()
        self.size, self.wrong = size, wrong
        self.log_scale = nn.Parameter(torch.zeros(size))
        self.unused = nn.Parameter(torch.zeros(1)) if wrong == "unused" else None
        self.hidden = torch.rand(size) if wrong == "hidden" else torch.zeros(size)

    def forward(self, context: Tensor | None = None) -> Any:
        scale = (self.log_scale + self.hidden).double().exp()
        base = Normal(self.size, self.wrong, scale.detach() if self.wrong == "detached" else scale)
        if self.wrong == "tensor":
            return base.loc
        return base if self.wrong == "batched" else td.Independent(base, 1, validate_args=False)


class Broken:
    """A prior's spec with one thing wrong."""

    over = ("real",)

    def __init__(self, wrong: str):
        self.wrong = wrong

    def __repr__(self) -> str:
        return f"Broken({self.wrong!r})"

    def build(self, size: int, ctx: Any = None) -> Any:
        if self.wrong == "refuses":
            raise ValueError("never")
        return BrokenPrior(size, self.wrong) if self.wrong != "module" else 3


PRIORS = {
    "tensor": "not a torch Distribution",
    "module": "not a torch module",
    "batched": "event shape",
    "refuses": "none of the sizes",
    "constant": r"integrates to 1\.1",
    "shift": "do not follow log_prob",
    "scale": "do not follow log_prob",
    "unseeded": "same generator",
    "batch": "depends on the other rows",
    "single": "float32",
    "nan": "not finite",
    "unused": "unused",
    "detached": "no gradient",
    "hidden": "saved weights",
}


def test_a_prior_with_nothing_wrong_passes() -> None:
    check_prior(Broken(""))


@pytest.mark.parametrize("wrong", PRIORS)
def test_a_broken_prior_fails_with_what_is_wrong(wrong: str) -> None:
    with pytest.raises(AssertionError, match=PRIORS[wrong]) as found:
        check_prior(Broken(wrong))
    assert str(found.value).startswith(f"check_prior(Broken('{wrong}')): ")


class BrokenLikelihood(LikelihoodHead):
    accepts = ("real",)

    def __init__(self, wrong: str):
        self.wrong = wrong

    def features(self, event_shape: Any) -> int:
        return super().features(event_shape) * 2

    def of_values(self, raw: Tensor, event_shape: Any = None) -> td.Distribution:
        shape = raw.shape[-1:] if event_shape is None else event_shape
        mean, raw_scale = raw.unflatten(-1, (2, -1)).unbind(-2)
        scale = raw_scale.exp() if self.wrong == "extreme" else nn.functional.softplus(raw_scale.clamp(-30)) + 0.1
        lead = raw.shape[:-1]
        mean, scale = mean.reshape(*lead, *shape), scale.reshape(*lead, *shape)
        if self.wrong == "batch":
            mean = mean - mean.mean()
        if self.wrong == "support":
            return td.LogNormal(mean, scale, validate_args=False)
        return td.Normal(mean, scale.detach() if self.wrong == "detached" else scale, validate_args=False)

    def __call__(self, raw: Tensor, event_shape: Any = None) -> td.Distribution:
        base = self.of_values(raw, event_shape)
        reduced = 1 if event_shape is None else len(event_shape)
        return td.Independent(base, reduced - (self.wrong == "event"), validate_args=False)

    def initial_parameters(self, x: Tensor) -> Tensor:
        start = torch.cat([x.double().mean(0).flatten(), torch.zeros(x[0].numel())])
        return start[:-1] if self.wrong == "start" else start


LIKELIHOODS = {
    "event": "event shape",
    "batch": "other rows",
    "extreme": "not finite",
    "start": "initial_parameters has shape",
}


def test_a_likelihood_with_nothing_wrong_passes() -> None:
    check_likelihood(BrokenLikelihood(""))


@pytest.mark.parametrize("wrong", LIKELIHOODS)
def test_a_broken_likelihood_fails_with_what_is_wrong(wrong: str) -> None:
    with pytest.raises(AssertionError, match=LIKELIHOODS[wrong]):
        check_likelihood(BrokenLikelihood(wrong))


class BrokenPosterior(Gaussian):
    """A diagonal Gaussian with one thing wrong."""


@pytest.mark.parametrize(
    ("wrong", "why"), [("batch", "other rows"), ("event", "batch shape"), ("single", "float32"), ("shift", "follow")]
)
def test_a_broken_posterior_fails_with_what_is_wrong(wrong: str, why: str) -> None:
    class Family(BrokenPosterior):
        def __call__(self, raw: Tensor, event_shape: Any = None, units: Any = None) -> td.Distribution:
            mean, scale = raw.chunk(2, -1)
            mean = mean - mean.mean() if wrong == "batch" else mean
            scale = 0.1 + scale.square()
            if wrong == "single":
                mean, scale = mean.float(), scale.float()
            base = Shifted(mean, scale, validate_args=False) if wrong == "shift" else td.Normal(mean, scale)
            return td.Independent(base, 0 if wrong == "event" else 1, validate_args=False)

    with pytest.raises(AssertionError, match=why):
        check_posterior(Family())


class Shifted(td.Normal):
    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return super().rsample(sample_shape) + 0.3 * self.scale

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.rsample(sample_shape).detach()


class BrokenObjective:
    gradient = Pathwise()

    def __init__(self, wrong: str):
        self.wrong, self.samples = wrong, 0 if wrong == "samples" else 2

    def __call__(self, draw: Any, ctx: Any = None) -> Terms:
        value = Elbo()(draw).value
        if self.wrong == "short":
            value = value[:1]
        if self.wrong == "order":
            value = value * torch.arange(1, 1 + len(value))
        if self.wrong == "random":
            value = value + next(counter)
        if self.wrong == "nan":
            value = value.log()
        if self.wrong == "single":
            value = value.float()
        if self.wrong == "decoder":
            value = draw.log_pz.mean(0) - draw.log_qz.mean(0)
        return Terms(value.detach() if self.wrong == "detached" else value, {})


OBJECTIVES = {
    "samples": "above 0",
    "short": "for each row",
    "order": "another order",
    "random": "second time",
    "nan": "not finite",
    "single": "float32",
    "decoder": "the decoder",
    "detached": "no gradient",
}


@pytest.mark.parametrize("wrong", OBJECTIVES)
def test_a_broken_objective_fails_with_what_is_wrong(wrong: str) -> None:
    with pytest.raises(AssertionError, match=OBJECTIVES[wrong]):
        check_objective(BrokenObjective(wrong))


def test_an_objective_with_nothing_wrong_passes() -> None:
    check_objective(BrokenObjective(""))
