"""The checks of `vaekit.testing` say what is wrong with a part; ours pass them in the contract tests."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td

from naming import naming
from vaekit import register
from vaekit.errors import SpecError
from vaekit.gradients import Pathwise
from vaekit.models.families import LikelihoodHead
from vaekit.models.likelihoods import Bernoulli, Gaussian
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
        spread = (x.double().std(0).flatten() - 0.1).clamp_min(1e-3)
        start = torch.cat([x.double().mean(0).flatten(), spread.expm1().log()])
        return start[:-1] if self.wrong == "start" else start


LIKELIHOODS = {
    "event": "event shape",
    "batch": "other rows",
    "extreme": "not finite at raw numbers of",
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
    ("wrong", "why"), [("batch", "other rows"), ("event", "event shape"), ("single", "float32"), ("shift", "follow")]
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


# Priors that are wrong in more than one dimension, and right ones with awkward shapes.


class Module(nn.Module):
    def __init__(self, make: Any):
        super().__init__()
        self.make = make

    def forward(self, context: Tensor | None = None) -> Any:
        return self.make()


class Of:
    """A prior's spec that makes a distribution of the size."""

    over: Any = ("real",)

    def __init__(self, make: Any):
        self.make = make

    def build(self, size: int, ctx: Any = None) -> nn.Module:
        return Module(lambda: self.make(size))


def filled(size: int, value: float) -> Tensor:
    return torch.full((size,), value, dtype=torch.float64)


def normal(size: int) -> td.Normal:
    return td.Normal(filled(size, 0.0), filled(size, 1.0), validate_args=False)


class FirstTwo(td.Independent):
    def log_prob(self, value: Tensor) -> Tensor:
        return td.Normal(0.0, 1.0, validate_args=False).log_prob(value[..., :2]).sum(-1)


class Correlated(td.Independent):
    def rsample(self, sample_shape: Any = ()) -> Tensor:
        x = super().rsample(sample_shape)
        if x.shape[-1] < self.least:
            return x
        second = 0.95 * x[..., :1] + math.sqrt(1 - 0.95**2) * x[..., 1:2]
        return torch.cat([x[..., :1], second, x[..., 2:]], -1)

    least = 2

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.rsample(sample_shape).detach()


class CorrelatedFrom3(Correlated):
    least = 3


class TooDenseFrom3(td.Independent):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + (0.3 if value.shape[-1] > 2 else 0.0)


class MixesRows(td.Independent):
    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value - 0.01 * value.mean(0))


class NoSampling(td.Distribution):
    def __init__(self, size: int):
        super().__init__(torch.Size(), torch.Size((size,)), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return -value.square().sum(-1)


def of(wrong: type) -> Of:
    return Of(lambda size: wrong(normal(size), 1, validate_args=False))


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (of(FirstTwo), r"do not follow log_prob in 5 dimension"),
        (of(Correlated), "product of tanh"),
        (of(CorrelatedFrom3), r"do not follow log_prob in 5 dimension"),
        (of(TooDenseFrom3), r"does not add up to 1"),
        (of(MixesRows), "depends on the other rows"),
        (Of(NoSampling), "sampling, by rsample or sample, raises NotImplementedError"),
    ],
    ids=["first-two", "correlated", "correlated-from-3", "too-dense", "mixes-rows", "no-sampling"],
)
def test_a_prior_that_is_wrong_in_many_dimensions_fails(spec: Any, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        check_prior(spec)


def two_narrow_modes(size: int) -> td.Distribution:
    centres = torch.stack([filled(size, -50.0), filled(size, 50.0)])
    each = td.Independent(td.Normal(centres, torch.full_like(centres, 0.05)), 1, validate_args=False)
    return td.MixtureSameFamily(td.Categorical(filled(2, 1.0)), each, validate_args=False)


@pytest.mark.filterwarnings("ignore:the quadrature of exp")
@pytest.mark.parametrize(
    "make",
    [
        lambda size: td.Independent(td.StudentT(filled(size, 0.5)), 1, validate_args=False),
        lambda size: td.Independent(td.Normal(filled(size, 1000.0), filled(size, 1e-3)), 1, validate_args=False),
        lambda size: td.Independent(td.Gumbel(filled(size, 0.0), filled(size, 1.0)), 1, validate_args=False),
        lambda size: td.MultivariateNormal(filled(size, 0.0), 0.05 * torch.eye(size, dtype=torch.float64) + 0.95),
        two_narrow_modes,
    ],
    ids=["heavy-tails", "narrow", "skewed", "correlated", "two-modes"],
)
def test_a_right_prior_of_an_awkward_shape_passes(make: Any) -> None:
    check_prior(Of(make))


def test_where_the_quadrature_does_not_converge_it_says_so() -> None:
    with pytest.warns(UserWarning, match="unsure"):
        check_prior(Of(two_narrow_modes), sizes=(2,))


class NoContext(Module):
    def forward(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.make()


class Dropping(Module):
    def forward(self, context: Tensor | None = None) -> Any:
        scale = 2.0 if self.training else 1.0
        base = self.make().base_dist
        return td.Independent(td.Normal(base.loc, scale * base.scale), 1, validate_args=False)


def independent() -> td.Independent:
    return td.Independent(normal(2), 1, validate_args=False)


@pytest.mark.parametrize(
    ("module", "why"),
    [(NoContext(independent), r"context=None\), raises TypeError"), (Dropping(independent), "train and eval mode")],
    ids=["no-context", "modes"],
)
def test_a_prior_without_context_or_with_modes_fails(module: nn.Module, why: str) -> None:
    class Spec(Of):
        def build(self, size: int, ctx: Any = None) -> nn.Module:
            return module

    with pytest.raises(AssertionError, match=why):
        check_prior(Spec(None), sizes=(2,))


def test_a_prior_that_takes_no_context_where_the_model_has_one_fails() -> None:
    class Refusing(Module):
        def forward(self, context: Tensor | None = None) -> td.Distribution:
            if context is not None:
                raise RuntimeError("no context here")
            return super().forward()

    class Spec(Of):
        def build(self, size: int, ctx: Any = None) -> nn.Module:
            return (Refusing if ctx.context_size else Module)(independent)

    with pytest.raises(AssertionError, match=r"calling the prior with a context.*no context here"):
        check_prior(Spec(None), sizes=(2,))


def test_a_spec_that_is_no_spec_says_what_is_missing() -> None:
    class NoBuild:
        over = ("real",)

    class Narrow(NoBuild):
        def build(self) -> nn.Module:
            return Module(independent)

    class Text(Of):
        over = "real"

    class Key(NoBuild):
        def build(self, size: int, ctx: Any) -> nn.Module:
            return {}["weights"]

    for spec, why in (
        (NoBuild(), r"no `build\(self, size, ctx=ALONE\)`"),
        (Narrow(), r"build\(size, ctx\).*raises TypeError"),
        (Text(None), r'tuple of kinds of z, as in over = \("real",\)'),
        (Key(), r"build\(size, ctx\).*raises KeyError: 'weights'"),
    ):
        with pytest.raises(AssertionError, match=why):
            check_prior(spec)


@pytest.mark.parametrize("check", [check_prior, check_posterior, check_likelihood, check_objective])
def test_a_class_is_refused_where_an_instance_is_checked(check: Any) -> None:
    with pytest.raises(TypeError, match=rf"give an instance, as in {check.__name__}\(Gaussian\(\)\)"):
        check(Gaussian)


@pytest.mark.parametrize("check", [check_prior, check_objective])
def test_an_object_without_the_attributes_of_a_part_fails(check: Any) -> None:
    with pytest.raises(AssertionError, match="it has no"):
        check(object())


def unchecked(function: Any) -> Any:
    """A function without the test suite's checks of its types."""
    return getattr(function, "__wrapped__", function)


def test_an_instance_is_refused_where_a_class_is_registered() -> None:
    with pytest.raises(SpecError, match=r"as in register\(.priors., Broken\)", check=naming("part")):
        unchecked(register)("priors", Broken(""))
    with pytest.raises(SpecError, match=r"decorate a class with vaekit.spec.spec", check=naming("part")):
        unchecked(register)("priors", Broken)


def test_correlated_samples_of_a_posterior_and_of_a_likelihood_fail() -> None:
    class Posterior(BrokenPosterior):
        def __call__(self, raw: Tensor, event_shape: Any = None, units: Any = None) -> td.Distribution:
            mean, scale = raw.chunk(2, -1)
            return Correlated(td.Normal(mean, 0.1 + scale.square(), validate_args=False), 1, validate_args=False)

    class Likelihood(BrokenLikelihood):
        def __call__(self, raw: Tensor, event_shape: Any = None) -> td.Distribution:
            base = super().__call__(raw, event_shape).base_dist  # pyright: ignore[reportAttributeAccessIssue]
            return Paired(base, len(event_shape or (1,)), validate_args=False)

    class Paired(td.Independent):
        def sample(self, sample_shape: Any = ()) -> Tensor:
            x = super().sample(sample_shape)
            if x.shape[-1] < 7:
                return x
            loc, scale = self.base_dist.loc, self.base_dist.scale  # pyright: ignore[reportAttributeAccessIssue]
            unit = (x - loc) / scale
            return loc + scale * torch.cat([unit[..., :1], unit[..., :1], unit[..., 2:]], -1)

        rsample = sample

    with pytest.raises(AssertionError, match="do not follow log_prob in 2"):
        check_posterior(Posterior())
    with pytest.raises(AssertionError, match="do not follow log_prob in 7"):
        check_likelihood(Likelihood(""))


def test_samples_of_many_cells_that_go_together_fail() -> None:
    class Copied(td.Independent):
        def sample(self, sample_shape: Any = ()) -> Tensor:
            return super().sample(sample_shape)[..., :1].expand(*sample_shape, *self.batch_shape, *self.event_shape)

    class Likelihood(Bernoulli):
        def __call__(self, raw: Tensor, event_shape: Any = None) -> td.Distribution:
            return Copied(td.Bernoulli(logits=raw.reshape(*raw.shape[:-1], *(event_shape or (1,)))), 1)

    with pytest.raises(AssertionError, match=r"do not follow log_prob over \d+ values"):
        check_likelihood(Likelihood(), events=((5,),))
