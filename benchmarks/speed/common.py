"""What all contenders share: the models' sizes, weights, data and noise, as NumPy arrays."""

import gzip
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIDE, PIXELS, HIDDEN, LATENT = 28, 784, 512, 16
LEARNING_RATE = 1e-3
ROWS = 60_000
HELD_OUT = 500
EVERY = 100  # steps between two looks at the held-out images
CHUNK = 500  # samples of z decoded at once for the importance-weighted bound

# Of each layer's weights, encoder first. Matrices are (in, out), kernels (out, in, height, width). The convolutional
# decoder ends in a kernel and a bias of each pixel.
SHAPES: dict[str, list[tuple[int, ...]]] = {
    "mlp": [
        (PIXELS, HIDDEN),
        (HIDDEN, HIDDEN),
        (HIDDEN, 2 * LATENT),
        (LATENT, HIDDEN),
        (HIDDEN, HIDDEN),
        (HIDDEN, PIXELS),
    ],
    "conv": [
        (32, 1, 3, 3),
        (64, 32, 3, 3),
        (64 * 7 * 7, 256),
        (256, 2 * LATENT),
        (LATENT, 256),
        (256, 64 * 7 * 7),
        (32, 64, 3, 3),
        (1, 32, 3, 3),
    ],
}

Weights = list[tuple[np.ndarray, np.ndarray]]


def images(rows: int = ROWS, part: str = "train") -> np.ndarray:
    """The first images of a part of MNIST, train or t10k: (rows, 784) uint8."""
    path = Path(os.environ["VAEKIT_DATA"]) / "mnist" / f"{part}-images-idx3-ubyte.gz"
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16).reshape(-1, PIXELS)[:rows].copy()


def unit(rows: int = ROWS, part: str = "train") -> np.ndarray:
    """The same in [0, 1], single precision."""
    return images(rows, part) / np.float32(255)


def weights(net: str = "mlp") -> Weights:
    """Weights and biases of each layer, as torch would draw them."""
    rng, found = np.random.default_rng(0), []
    for shape in SHAPES[net]:
        matrix = len(shape) == 2
        bound = 1 / math.sqrt(shape[0] if matrix else math.prod(shape[1:]))
        biases = PIXELS if shape is SHAPES[net][-1] else shape[1] if matrix else shape[0]
        found += [tuple(rng.uniform(-bound, bound, s).astype(np.float32) for s in (shape, (biases,)))]
    return found


def noise(rows: int, seed: int = 1) -> np.ndarray:
    """Of z, (rows, 16)."""
    return np.random.default_rng(seed).standard_normal((rows, LATENT)).astype(np.float32)


def held_out() -> tuple[np.ndarray, np.ndarray]:
    """The images on which a run is judged, in [0, 1], and the noise at which."""
    return unit(HELD_OUT, "t10k"), noise(HELD_OUT, seed=2)


def reference(net: str, batch: int) -> dict[str, float]:
    """The mean loss of the first images at `weights()` and `noise()`, in double precision, by both forms of the KL."""
    x, eps = images(batch) / 255.0, noise(batch).astype(np.float64)
    layers = [(w.astype(np.float64), b.astype(np.float64)) for w, b in weights(net)]
    encode, decode = {"mlp": (_perceptron, _perceptron), "conv": (_conv_encoder, _conv_decoder)}[net]
    half = len(layers) // 2
    h = encode(layers[:half], x)
    mu, log_var = h[:, :LATENT], h[:, LATENT:]
    z = mu + np.exp(log_var / 2) * eps
    logits = decode(layers[half:], z)
    distortion = (np.logaddexp(0, logits) - x * logits).sum(1)
    closed = 0.5 * (mu**2 + np.exp(log_var) - log_var - 1).sum(1)
    sampled = 0.5 * (z**2 - eps**2 - log_var).sum(1)
    return {"closed": float((distortion + closed).mean()), "sampled": float((distortion + sampled).mean())}


def _perceptron(layers: Weights, h: np.ndarray) -> np.ndarray:
    for number, (w, b) in enumerate(layers):
        h = h @ w + b
        h = np.maximum(h, 0) if number < len(layers) - 1 else h
    return h


def _conv_encoder(layers: Weights, x: np.ndarray) -> np.ndarray:
    h = x.reshape(-1, 1, SIDE, SIDE)
    for w, b in layers[:2]:
        h = np.maximum(_convolve(h, w, 2) + b[:, None, None], 0)
    return _perceptron(layers[2:], h.reshape(len(h), -1))


def _conv_decoder(layers: Weights, z: np.ndarray) -> np.ndarray:
    h = np.maximum(_perceptron(layers[:2], z), 0).reshape(-1, 64, 7, 7)
    (w, b), (last, pixels) = layers[2:]
    h = np.maximum(_convolve(_double(h), w, 1) + b[:, None, None], 0)
    return _convolve(_double(h), last, 1).reshape(len(h), -1) + pixels


def _double(h: np.ndarray) -> np.ndarray:
    return h.repeat(2, 2).repeat(2, 3)


def _convolve(h: np.ndarray, w: np.ndarray, stride: int) -> np.ndarray:
    padded = np.pad(h, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nchwij,ocij->nohw", windows, w, optimize=True)


def reach(advance: Callable[[int], object], bound: Callable[[], float], elbo: float, most: int) -> int:
    """Train until the bound on the held-out images is at least `elbo`; the steps that it took."""
    for steps in range(0, most + 1, EVERY):
        found = bound()
        if found >= elbo:
            return steps
        advance(EVERY)
    raise RuntimeError(f"the ELBO is {found:.2f} after {most} steps: it was to reach {elbo}")


def peak_memory() -> float:
    """Largest resident memory of this process so far, in GB."""
    lines = Path("/proc/self/status").read_text().splitlines()  # getrusage would count the parent's memory too
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9
