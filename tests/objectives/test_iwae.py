"""The importance-weighted family against closed forms: bounds by their formula, gradients by quadrature."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from naming import naming
from vaekit.errors import SpecError
from vaekit.models import LinearGaussian
from vaekit.objectives import Detached, DoublyReparametrised, Elbo, Iwae, Pathwise, Score, StickTheLanding
from vaekit.objectives.gradient_check import PosteriorPerRow, gradient_estimates
from vaekit.randomness import new_generator

ROWS = 40_000


def story(latents: int = 1) -> LinearGaussian:
    loadings = 0.8 * torch.randn(3, latents, dtype=torch.float64, generator=new_generator(0))
    return LinearGaussian(loadings, torch.zeros(3, dtype=torch.float64), 0.7)


def a_row() -> Tensor:
    return torch.tensor([[0.6, -1.1, 0.4]], dtype=torch.float64)


def a_posterior() -> tuple[Tensor, Tensor]:
    """loc and ln scale, not far from the true posterior's."""
    true = story().true_posterior(a_row())
    return true.mean + 0.3, true.variance.sqrt().log() + 0.2


def log_w(samples: int, latents: int = 2) -> tuple[Tensor, torch.Tensor]:
    model, x = (
        story(latents).vae(PosteriorPerRow(*(torch.full((4, latents), 0.1).double() for _ in range(2)))),
        a_row(),
    )
    draw = model.draw(x.expand(4, -1), samples, generator=new_generator(3))
    return draw, draw.log_w


@pytest.mark.parametrize(("groups", "alpha", "share"), [(1, 0, 0), (3, 0, 0), (2, 0.5, 0), (1, -1, 0), (2, 0, 0.25)])
def test_the_bound_is_its_formula(groups: int, alpha: float, share: float) -> None:
    draw, weights = log_w(6)
    order = 1 - alpha
    parts = (weights.reshape(groups, 6 // groups, 4) * order).exp().mean(1).log() / order
    expected = share * weights.mean(0) + (1 - share) * parts.mean(0)
    objective = Iwae(samples=6, groups=groups, alpha=alpha, elbo_share=share)
    torch.testing.assert_close(objective(draw).value, expected)


def test_with_the_true_posterior_every_bound_is_log_px() -> None:
    x = a_row()
    draw = story(2).vae().draw(x, samples=4)
    for objective in (Iwae(samples=4), Iwae(samples=4, groups=2, alpha=0.5), Iwae(samples=4, elbo_share=0.5)):
        torch.testing.assert_close(objective(draw).value, story(2).log_px(x))


def test_bounds_are_ordered_and_meet_the_elbo_at_one_sample() -> None:
    draw, weights = log_w(6)
    values = [Iwae(samples=6, groups=groups)(draw).value for groups in (6, 3, 2, 1)]
    for looser, tighter in itertools.pairwise(values):
        assert (tighter >= looser).all()
    torch.testing.assert_close(values[0], weights.mean(0))
    torch.testing.assert_close(values[0], Elbo(kl="sampled", samples=6)(draw).value)
    near_elbo = Iwae(samples=6, alpha=1 - 1e-6)(draw).value
    torch.testing.assert_close(near_elbo, weights.mean(0), rtol=1e-4, atol=1e-4)


def exact_gradient(objective: Iwae, samples: int = 2, nodes: int = 60) -> Tensor:
    """Of the expected bound with 2 samples in a group to (loc, ln scale), by Gauss and Hermite."""
    assert samples == 2
    loc, log_scale = (t.clone().requires_grad_() for t in a_posterior())
    points, weights = (torch.from_numpy(found) for found in np.polynomial.hermite_e.hermegauss(nodes))
    weights = weights / weights.sum()
    model, x = story().vae(), a_row().expand(nodes, -1)
    z = loc + log_scale.exp() * points[:, None]
    log_q = -0.5 * points**2 - log_scale[0] - 0.5 * math.log(2 * math.pi)
    each = model.log_joint(x, (z,)) - log_q
    order = 1 - objective.alpha
    both = torch.stack(torch.broadcast_tensors(each[:, None], each[None, :]))
    bound = ((order * both).logsumexp(0) - math.log(2)) / order
    mean = (weights[:, None] * weights[None, :] * bound).sum()
    value = objective.elbo_share * (weights * each).sum() + (1 - objective.elbo_share) * mean
    return torch.cat(torch.autograd.grad(value, (loc, log_scale)), -1)[0]


def z_scores(objective: Iwae, exact: Tensor, seed: int = 5) -> Tensor:
    loc, log_scale = a_posterior()
    found = gradient_estimates(objective, story(), a_row().expand(ROWS, -1), loc, log_scale, new_generator(seed))
    return (found.mean(0) - exact).abs() / (found.std(0) / math.sqrt(ROWS))


@pytest.mark.parametrize(
    "objective",
    [
        Iwae(samples=2),
        Iwae(samples=4, groups=2),
        Iwae(samples=2, alpha=0.4),
        Iwae(samples=2, elbo_share=0.3),
        Iwae(samples=2, gradient=DoublyReparametrised()),
        Iwae(samples=2, alpha=0.4, gradient=DoublyReparametrised()),
        Iwae(samples=4, groups=2, elbo_share=0.3, gradient=DoublyReparametrised()),
        Iwae(samples=2, gradient=Score()),
        Iwae(samples=2, gradient=Score(baseline=False)),
        Iwae(samples=4, groups=2, elbo_share=0.3, gradient=Score()),
        Iwae(samples=2, gradient=StickTheLanding()),
        Iwae(samples=2, gradient=Detached()),
        Iwae(samples=2, elbo_share=0.5, gradient=StickTheLanding()),
    ],
    ids=str,
)
def test_gradients_are_unbiased_where_they_say_so_and_nowhere_else(objective: Iwae) -> None:
    largest = float(z_scores(objective, exact_gradient(objective)).max())
    assert largest < 4 if objective.unbiased else largest > 8


def test_an_encoder_with_groups_of_its_own_climbs_the_bound_of_those_groups() -> None:
    objective = Iwae(samples=4, groups=1, encoder_groups=2, gradient=DoublyReparametrised())
    assert not objective.unbiased
    assert float(z_scores(objective, exact_gradient(Iwae(samples=2))).max()) < 4


def test_a_decoder_beside_such_an_encoder_climbs_the_whole_bound() -> None:
    def gradient(objective: Iwae) -> Tensor:
        model = story().vae(PosteriorPerRow(*(t.expand(8, -1) for t in a_posterior())))
        draw = model.draw(a_row().expand(8, -1), 4, generator=new_generator(2), score=False)
        (found,) = torch.autograd.grad(objective(draw).value.sum(), [model.likelihood.network.weight])
        return found

    apart = Iwae(samples=4, encoder_groups=4, gradient=DoublyReparametrised())
    torch.testing.assert_close(gradient(apart), gradient(Iwae(samples=4, gradient=DoublyReparametrised())))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_encoder_with_groups_of_one_climbs_the_elbo_where_the_bound_sees_but_the_best_sample(dtype) -> None:
    def gradient(objective: Iwae | Elbo) -> Tensor:
        loc, log_scale = (part.repeat(5, 1).to(dtype) for part in a_posterior())
        posterior = PosteriorPerRow(loc, log_scale + 5)
        model = story().vae(posterior).to(dtype)
        draw = model.draw(a_row().repeat(5, 1).to(dtype), 4, generator=new_generator(3), score=False)
        assert (draw.log_w.max(0).values - draw.log_w.min(0).values).max() > 1000
        weights = [*posterior.parameters()]
        return torch.cat([g.flatten() for g in torch.autograd.grad(objective(draw).value.sum(), weights)])

    apart = Iwae(samples=4, encoder_groups=4, gradient=DoublyReparametrised())
    torch.testing.assert_close(gradient(apart), gradient(Elbo(samples=4, gradient=StickTheLanding())))


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"samples": 5, "groups": 2}, "groups"),
        ({"samples": 4, "encoder_groups": 2}, "encoder_groups"),
        ({"samples": 1, "gradient": Score()}, "samples"),
        ({"samples": 4, "alpha": 1.0}, "alpha"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict, field: str) -> None:
    with pytest.raises(SpecError, check=naming(field, settings[field])):
        Iwae(**settings)


def test_another_number_of_samples_or_way_of_drawing_is_refused() -> None:
    draw, _ = log_w(6)
    with pytest.raises(
        SpecError, match="6 samples of z were drawn, which do not part into groups: draw 8", check=naming("draw")
    ):
        Iwae(samples=8, groups=4)(draw)
    with (
        torch.enable_grad(),
        pytest.raises(SpecError, match="needs z drawn with reparametrised=True, score=False", check=naming("draw")),
    ):
        Iwae(samples=6, gradient=DoublyReparametrised())(draw)


def test_the_score_is_noisier_than_the_path_and_noisier_still_without_a_baseline() -> None:
    true = story().true_posterior(a_row())
    loc, log_scale = true.mean + 0.02, true.variance.sqrt().log() + math.log(1.1)

    def variance(gradient) -> float:
        objective, x = Iwae(samples=4, gradient=gradient), a_row().expand(20_000, -1)
        return gradient_estimates(objective, story(), x, loc, log_scale, new_generator(1)).var(0).mean().item()

    assert variance(Pathwise()) < variance(Score()) < variance(Score(baseline=False))
