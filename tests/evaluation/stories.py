"""Linear-Gaussian stories, for which ln p(x) is known, with posteriors that are not exact."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vaekit.models import LinearGaussian


def story(latents: int, features: int = 60, noise: float = 0.5) -> LinearGaussian:
    """With orthogonal loadings, so that the exact posterior is diagonal; in double precision, seeded."""
    generator = torch.Generator().manual_seed(latents)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    loadings = torch.linalg.qr(normal(features, latents)).Q * torch.linspace(0.5, 4, latents, dtype=torch.float64)
    return LinearGaussian(loadings, normal(features), noise)


def rows_of(story: LinearGaussian, rows: int) -> Tensor:
    """x (rows, features) from p(x)."""
    generator = torch.Generator().manual_seed(1)
    features, latents = story.loadings.shape
    z = torch.randn(rows, latents, dtype=torch.float64, generator=generator)
    noise = torch.randn(rows, features, dtype=torch.float64, generator=generator)
    return z @ story.loadings.T + story.offset + story.noise * noise


class Stretched(nn.Module):
    """q(z|x): the posterior of orthogonal loadings, its standard deviations times `stretch`."""

    def __init__(self, story: LinearGaussian, stretch: float = 1.2):
        super().__init__()
        self.story, self.stretch = story, stretch

    def forward(self, x: Tensor) -> Distribution:
        loc = self.story.true_posterior(x).loc
        return Independent(Normal(loc, (self.stretch * self.story.best_diagonal()).expand_as(loc)), 1)
