"""`draw` refuses x that the likelihood gives no probability, and says which value, why, and what to do."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td

from naming import naming
from unions import examples, name
from vaekit.errors import DataError
from vaekit.models import VAE, Conditional, Gaussian, Likelihood, Mlp, StandardNormal
from vaekit.models.distributions.noise import draw_from
from vaekit.models.families import LikelihoodFamily
from vaekit.randomness import new_generator

SIZE = 3
REFUSED = {
    "bernoulli": [0.5, 2.0, -1.0],
    "soft_bernoulli": [1.5, -0.1],
    "continuous_bernoulli": [1.01, -0.1],
    "categorical": [0.5, 3.0, -1.0],
    "beta_binomial": [0.5, 7.0, -1.0],
    "logistic_mixture": [0.5, 7.0, -1.0],
    "poisson": [0.5, -1.0],
    "negative_binomial": [0.5, -1.0],
    "zero_inflated": [0.5, -1.0],
}


def model_of(likelihood: nn.Module) -> VAE:
    posterior = Conditional(nn.Linear(SIZE, 4), Gaussian(), (2,))
    return VAE(posterior, StandardNormal().build(2), likelihood)


def likelihood_of(head: LikelihoodFamily) -> Conditional:
    return Conditional(Mlp(widths=(4,)).build((2,), head.features((SIZE,))), head, (SIZE,))


@pytest.mark.parametrize("head", examples(Likelihood), ids=name)
def test_a_draw_takes_what_the_likelihood_gives_and_nothing_else(head: LikelihoodFamily) -> None:
    model = model_of(likelihood_of(head))
    with torch.no_grad():
        x = draw_from(model.decode((torch.randn(5, 2),)), (), new_generator(1)).float()
    assert model.draw(x, 2).log_px.shape == (2, 5)
    for value in (*REFUSED.get(head.kind, []), math.nan, math.inf):
        bad = x.clone()
        bad[3, 1] = value
        with pytest.raises(DataError, match=f"row 3 of x holds {value:g}", check=naming("row", 3)) as refused:
            model.draw(bad, 2)
        assert len(str(refused.value)) < 240


def test_it_says_what_to_do() -> None:
    x = torch.full((2, SIZE), 0.5)
    heads = {head.kind: head for head in examples(Likelihood)}
    with pytest.raises(DataError, match=r"over \{0, 1\}: binarise the data", check=naming("row", 0)):
        model_of(likelihood_of(heads["bernoulli"])).draw(x)
    with pytest.raises(DataError, match="whole numbers from 0 to 2: give whole numbers", check=naming("row", 0)):
        model_of(likelihood_of(heads["categorical"])).draw(x)


class Torchs(nn.Module):
    """Somebody's own p(x|z)."""

    def __init__(self, family):
        super().__init__()
        self.family, self.layer = family, nn.Linear(2, SIZE)

    def forward(self, z: Tensor) -> td.Distribution:
        return td.Independent(self.family(self.layer(z)), 1)


def test_a_distribution_of_torch_is_taken_at_its_word() -> None:
    grey = torch.full((2, SIZE), 0.5)
    ones = torch.ones(2, SIZE)
    binary = model_of(Torchs(lambda raw: td.Bernoulli(logits=raw, validate_args=False)))
    assert binary.draw(ones).log_px.isfinite().all()
    with pytest.raises(DataError, match=r"holds 0\.5", check=naming("row", 0)):
        binary.draw(grey)
    positive = model_of(Torchs(lambda raw: td.LogNormal(raw, 1.0, validate_args=False)))
    assert positive.draw(grey).log_px.isfinite().all()
    with pytest.raises(DataError, match=r"holds -0\.5", check=naming("row", 0)):
        positive.draw(-grey)
    # where values may lie depends on z here, so that p(x|z) itself has to say it
    around = model_of(Torchs(lambda raw: td.Uniform(raw - 9, raw + 9, validate_args=False)))
    assert around.draw(grey).log_px.isfinite().all()


def test_training_does_without_the_check() -> None:
    model = model_of(likelihood_of(examples(Likelihood)[0]))
    assert model.draw(torch.full((2, SIZE), 0.5), check=False).log_px.isfinite().all()
