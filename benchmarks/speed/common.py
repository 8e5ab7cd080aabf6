"""What all contenders share: the model's sizes, weights, data and noise, as NumPy arrays."""

import gzip
import math
import os
from pathlib import Path

import numpy as np

PIXELS, HIDDEN, LATENT = 784, 512, 16
LAYERS = [
    (PIXELS, HIDDEN),
    (HIDDEN, HIDDEN),
    (HIDDEN, 2 * LATENT),
    (LATENT, HIDDEN),
    (HIDDEN, HIDDEN),
    (HIDDEN, PIXELS),
]
LEARNING_RATE = 1e-3
ROWS = 60_000

Weights = list[tuple[np.ndarray, np.ndarray]]


def images(rows: int = ROWS) -> np.ndarray:
    """MNIST's first training images, (rows, 784) uint8."""
    path = Path(os.environ["VAEKIT_DATA"]) / "mnist" / "train-images-idx3-ubyte.gz"
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16).reshape(-1, PIXELS)[:rows]


def weights(seed: int = 0) -> Weights:
    """Matrices (in, out) and biases of the six layers, as torch.nn.Linear would draw them."""
    rng = np.random.default_rng(seed)

    def draw(fan_in: int, *shape: int) -> np.ndarray:
        bound = 1 / math.sqrt(fan_in)
        return rng.uniform(-bound, bound, shape).astype(np.float32)

    return [(draw(a, a, b), draw(a, b)) for a, b in LAYERS]


def noise(rows: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, LATENT)).astype(np.float32)


def reference(batch: int) -> dict[str, float]:
    """The mean loss of the first images at `weights()` and `noise()`, in double precision, by both forms of the KL."""
    x = images(batch) / 255.0
    (w1, b1), (w2, b2), (w3, b3), (v1, c1), (v2, c2), (v3, c3) = (
        (w.astype(np.float64), b.astype(np.float64)) for w, b in weights()
    )
    h = np.maximum(np.maximum(x @ w1 + b1, 0) @ w2 + b2, 0) @ w3 + b3
    mu, log_var = h[:, :LATENT], h[:, LATENT:]
    eps = noise(batch).astype(np.float64)
    z = mu + np.exp(log_var / 2) * eps
    logits = np.maximum(np.maximum(z @ v1 + c1, 0) @ v2 + c2, 0) @ v3 + c3
    distortion = (np.logaddexp(0, logits) - x * logits).sum(1)
    closed = 0.5 * (mu**2 + np.exp(log_var) - log_var - 1).sum(1)
    sampled = 0.5 * (z**2 - eps**2 - log_var).sum(1)
    return {"closed": float((distortion + closed).mean()), "sampled": float((distortion + sampled).mean())}
