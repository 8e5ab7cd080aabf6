"""Features of x that samples are compared in: what a small classifier of the data's labels sees, or the data itself.

No network trained elsewhere comes along, so a distance here is never the FID of Inception features: each extractor has
a `name` that every number computed with it carries.
"""

import math
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.data import Rows, StreamedRows
from vaekit.errors import DataError
from vaekit.evaluation.blocks import Blocks, Data
from vaekit.models.conditional import Rescale
from vaekit.models.networks.convolutional import Conv
from vaekit.models.networks.mlp import Mlp
from vaekit.randomness import Purpose, new_generator, sklearn_seed
from vaekit.samplers.fitting import fit_network, seeded

SIZE = 64  # features of a classifier
TRAINED_ON = 60_000  # rows, at most
STEPS, EPOCHS = 600, 4  # updates of a classifier: at least so many, and so many times through its rows
COMPONENTS = 64


@runtime_checkable
class Extractor(Protocol):
    """A module from x (n, *data) to features (n, d); `name` says which, for whatever prints a number."""

    name: str
    training: bool

    def __call__(self, x: Tensor) -> Tensor: ...

    def train(self, mode: bool = True) -> Any:
        """Enter training mode, or evaluation mode."""
        ...

    def state_dict(self) -> Any:
        """All tensors that are saved, by name."""
        ...


class ClassifierFeatures(nn.Module):
    """The last hidden layer of a classifier: convolutions for images and sequences, fully connected for tables.

    Divided by `spread`, so that those of training rows have a mean square of 1.
    """

    spread: Tensor

    def __init__(self, shape: tuple[int, ...], classes: int, scale: Rescale):
        super().__init__()
        body = Conv((16, 32), hidden=128) if len(shape) > 1 else Mlp((128,))
        self.hidden = nn.Sequential(scale, body.build(shape, SIZE), nn.ReLU())
        self.top = nn.Linear(SIZE, classes)
        self.register_buffer("spread", torch.ones(()))
        self.name = f"{SIZE} features of vaekit's own classifier of the labels, not Inception"

    def forward(self, x: Tensor) -> Tensor:
        return self.hidden(x) / self.spread

    def logits(self, x: Tensor) -> Tensor:
        """Of each class, (n, classes)."""
        return self.top(self.hidden(x))


class PcaFeatures(nn.Module):
    """The first principal components of the values."""

    mean: Tensor
    components: Tensor

    def __init__(self, mean: Tensor, components: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("components", components)
        self.name = f"{len(components)} principal components of the raw values"

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1).to(self.mean.dtype) - self.mean) @ self.components.T


class RawFeatures(nn.Module):
    """The values themselves."""

    name = "the raw values"

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).to(torch.get_default_dtype())


def classifier_features(rows: Rows | StreamedRows, seed: int = 0) -> ClassifierFeatures:
    """The features of a classifier trained on rows and their labels; the same for the same rows and seed.

    It sees at most 60,000 rows, four times each (600 steps of 128 at least): a few seconds for 8x8 digits, and about
    half a minute on one core for MNIST.

    Args:
        rows: Training rows with labels.
        seed: Of its weights and of the order of the rows.

    Raises:
        DataError: There are no labels, or fewer than two.
    """
    labels = rows.labels
    if labels is None or len(labels.unique()) < 2:
        raise DataError(
            "a classifier needs rows with labels of two classes or more: use pca_features, or raw_features",
            field="rows",
        )
    chosen = rows.some(TRAINED_ON)
    first = rows.batch(chosen[:1000], new_generator(seed, Purpose.CLASSIFIER_SCALE, device=rows.device)).float()
    scale = Rescale(float(first.mean()), float(first.std().clamp_min(1e-6)))
    with seeded(new_generator(seed, Purpose.CLASSIFIER)):
        fitted = ClassifierFeatures(tuple(rows.shape), int(labels.max()) + 1, scale).to(rows.device)
    noise = new_generator(seed, Purpose.CLASSIFIER_ROWS, device=rows.device)

    def loss(index: Tensor) -> Tensor:
        index = chosen[index.to(chosen.device)]
        return F.cross_entropy(fitted.logits(rows.batch(index, noise)), labels[index.to(labels.device)])

    steps = max(STEPS, EPOCHS * math.ceil(len(chosen) / 128))
    order = new_generator(seed, Purpose.CLASSIFIER_ORDER)
    fit_network(fitted, loss, len(chosen), steps=steps, generator=order, batch_size=128)
    fitted.requires_grad_(False).eval()
    fitted.spread.copy_(fitted(first).square().mean().sqrt().clamp_min(1e-6))
    return fitted


def pca_features(rows: Rows | StreamedRows, size: int = COMPONENTS, seed: int = 0) -> PcaFeatures:
    """The first principal components of at most 10,000 training rows; fewer where there are fewer dimensions.

    All are divided by one number, so that those of training rows have a mean square of 1.

    Args:
        rows: Training rows.
        size: How many components.
        seed: Of binarisation, and of the search for components.
    """
    from sklearn.decomposition import PCA  # slow to import

    index = rows.some(10_000)
    x = rows.batch(index, new_generator(seed, Purpose.COMPONENTS_ROWS, device=rows.device)).flatten(1).float()
    start = sklearn_seed(seed, Purpose.COMPONENTS)
    found = PCA(min(size, *x.shape), random_state=start).fit(x.cpu().numpy())
    spread = max(float(np.sqrt(found.explained_variance_.mean())), 1e-12)
    mean, components = (torch.from_numpy(part).float().to(x.device) for part in (found.mean_, found.components_))
    return PcaFeatures(mean, components / spread)


def choose_features(rows: Rows | StreamedRows, seed: int = 0) -> Extractor:
    """The features to compare samples in: a classifier's where training rows have labels, else principal components.

    Args:
        rows: Training rows.
        seed: Of the classifier's weights and of binarisation.
    """
    labelled = rows.labels is not None and len(rows.labels.unique()) > 1
    return classifier_features(rows, seed) if labelled else pca_features(rows, seed=seed)


def features_of(extractor: Extractor, data: Data, seed: int = 0) -> Tensor:
    """The features of rows.

    Args:
        extractor: From x to features.
        data: x (n, *data), or the rows of a split of a data set.
        seed: Of binarisation.

    Returns:
        (n, d), in double precision on the CPU.
    """
    (found,) = Blocks(extractor, data, seed).map(lambda block: (extractor(block.x),))
    return found.double().cpu()
