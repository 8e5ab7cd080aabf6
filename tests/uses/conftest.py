"""Runs whose model is a linear-Gaussian VAE, of which every answer is known in closed form."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch import distributions as td

from vaekit.data import Dataset, DataSpec, Rows, Schema, dataset_of, rows_like
from vaekit.models import VAE, LinearGaussian


class Widened(nn.Module):
    """p(z|x_observed) of a linear-Gaussian model, its covariance stretched: a posterior that is not exact."""

    def __init__(self, story: LinearGaussian, factor: float):
        super().__init__()
        self.story, self.factor = story, factor
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> td.MultivariateNormal:
        x = x.double()
        seen = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
        loadings, noise = self.story.loadings, self.story.noise**2
        kept = loadings * seen[..., None]
        precision = torch.eye(loadings.shape[1], dtype=x.dtype) + kept.mT @ kept / noise
        slope = ((x - self.story.offset) * seen)[..., None, :] @ loadings / noise
        mean = torch.linalg.solve(precision, slope.squeeze(-2))
        exact = td.MultivariateNormal(mean, precision_matrix=precision, validate_args=False)
        return td.MultivariateNormal(mean, scale_tril=self.factor * exact.scale_tril, validate_args=False)


@dataclass
class OfStory:
    """A trained run, as far as uses need one."""

    story: LinearGaussian
    model: VAE
    schema: Schema
    dataset: Dataset

    def data(self) -> Dataset:
        return self.dataset

    def rows(self, data: Any = None, context: Any = None) -> Rows:
        return data if isinstance(data, Rows) else rows_like(data, DataSpec(), self.schema, context)

    def given(self, row: np.ndarray, wanted: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """The mean and the covariance of some cells of a row given those that are not NaN."""
        story, seen = self.story, np.flatnonzero(~np.isnan(row))
        loadings, offset = story.loadings.numpy(), story.offset.numpy()
        covariance = loadings @ loadings.T + story.noise**2 * np.eye(len(offset))
        across = covariance[wanted][:, seen]
        slope = across @ np.linalg.inv(covariance[seen][:, seen])
        mean = offset[wanted] + slope @ (row[seen] - offset[seen])
        return mean, covariance[wanted][:, wanted] - slope @ across.T


@pytest.fixture(scope="session")
def linear() -> OfStory:
    generator = torch.Generator().manual_seed(0)
    loadings = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    story = LinearGaussian(loadings, torch.randn(4, generator=generator, dtype=torch.float64), 0.6)
    x = story.vae().generate(400, generator=generator).numpy()
    data = dataset_of(x, DataSpec(), valid=0.5)
    schema = replace(data.schema, columns=tuple(f"column {place}" for place in range(4)))
    return OfStory(story, story.vae(Widened(story, 1.3)), schema, data)
