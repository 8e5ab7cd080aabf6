"""What parts are built for, and what they hold of one another."""

import copy
import math
import pickle
from types import MethodType
from typing import Any

import pytest
import torch
from torch import nn

from unions import examples, name
from vaekit.models import (
    VAE,
    Bernoulli,
    CategoricalPosterior,
    Conditional,
    DenseHierarchy,
    Gaussian,
    PowerSpherical,
    Prior,
    SpatialHierarchy,
    StandardNormal,
)
from vaekit.models.building import BuildContext
from vaekit.models.distributions.noise import draw_from
from vaekit.randomness import new_generator

IMAGE = (1, 8, 8)
BESIDE: dict[str, Any] = {"real": Gaussian(), "sphere": PowerSpherical(), "discrete": CategoricalPosterior(classes=3)}


def model_of(prior: Any) -> VAE:
    """A small model with a prior, and a posterior that goes with it."""
    torch.manual_seed(0)
    family = BESIDE[prior.over[0]]
    shape = family.z_shape(3)
    posterior = Conditional(nn.Linear(5, family.features(shape)), family, shape)
    context = BuildContext((5,), posterior=posterior, event_shape=shape)
    built = prior.build(math.prod(shape), context)
    return VAE(posterior, built, Conditional(nn.Linear(math.prod(shape), 5), Bernoulli())).double()


def log_p(model: VAE, z: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.prior().log_prob(z)


every_prior = pytest.mark.parametrize("prior", examples(Prior), ids=name)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deep", "pickle"]
)
@every_prior
def test_a_copy_of_a_model_has_a_prior_of_its_own(prior: Any, copied: Any) -> None:
    model = model_of(prior)
    z = draw_from(model.prior(), (4,), new_generator(1)).detach()
    other, before = copied(model), log_p(model, z)
    torch.testing.assert_close(log_p(other, z), before, rtol=0, atol=0)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(torch.linspace(0.1, 0.9, weight.numel()).reshape(weight.shape))
    assert log_p(model, z).equal(before)
    if list(model.prior.parameters()):
        assert not torch.allclose(log_p(other, z), before)


@every_prior
def test_a_prior_holds_no_methods_and_no_weights_of_the_posterior(prior: Any) -> None:
    model = model_of(prior)
    assert not [key for part in model.modules() for key, value in vars(part).items() if isinstance(value, MethodType)]
    of_posterior = {id(weight) for weight in model.posterior.parameters()}
    assert not of_posterior & {id(weight) for weight in model.prior.parameters()}


def test_the_prior_of_a_copy_follows_the_posterior_of_the_copy() -> None:
    (vamp,) = (prior for prior in examples(Prior) if prior.kind == "vamp")
    model = model_of(vamp)
    z = draw_from(model.prior(), (4,), new_generator(1)).detach()
    other, before = copy.deepcopy(model), log_p(model, z)
    with torch.no_grad():
        other.posterior.get_parameter("network.weight").mul_(2)
    assert log_p(model, z).equal(before)
    assert not torch.allclose(log_p(other, z), before)


class Noting:
    """What families note of the contexts that they are built with."""

    def __init__(self) -> None:
        self.seen: dict[str, BuildContext] = {}

    def family(self, role: str, base: type) -> Any:
        class Family(base):
            def build(_, context: BuildContext) -> Any:
                self.seen[role] = context
                return base()

        return Family()


@pytest.mark.parametrize("groups", [DenseHierarchy(latent=(3, 2)), SpatialHierarchy(latent=3)], ids=name)
def test_families_are_built_for_their_event_and_with_what_is_known_of_the_data(groups: Any) -> None:
    noting = Noting()
    context = BuildContext(IMAGE, 2)
    groups.build(noting.family("q", Gaussian), StandardNormal(), noting.family("p", Bernoulli), context)
    assert noting.seen == {
        "q": BuildContext(IMAGE, 2, event_shape=(3,)),
        "p": BuildContext(IMAGE, 2, event_shape=IMAGE),
    }
