"""JAX and optax, the data on the device: all steps in one lax.scan; convolutions with channels last, in a loop."""

import time
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from speed import common
from speed.common import LATENT, LEARNING_RATE, SIDE, held_out, images, noise, unit, weights

optimiser = optax.adam(LEARNING_RATE)


def _start(net: str) -> list:
    """The common weights; for convolutions, laid out for channels last."""
    layers = weights(net)
    if net == "conv":
        for number, (w, b) in enumerate(layers):
            if w.ndim == 4:
                layers[number] = (w.transpose(2, 3, 1, 0), b)
            elif w.shape[0] == 64 * 7 * 7:
                layers[number] = (w.reshape(64, 7, 7, -1).transpose(1, 2, 0, 3).reshape(w.shape), b)
            elif w.shape[1] == 64 * 7 * 7:
                columns = (a.reshape(-1, 64, 7, 7).transpose(0, 2, 3, 1).reshape(a.shape) for a in (w, b))
                layers[number] = tuple(columns)
    return [(jnp.asarray(w), jnp.asarray(b)) for w, b in layers]


def _perceptron(layers, h):
    for number, (w, b) in enumerate(layers):
        h = h @ w + b
        h = jax.nn.relu(h) if number < len(layers) - 1 else h
    return h


def _convolve(h, w, stride=1):
    shape = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(h, w, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=shape)


def _double(h):
    n, height, width, channels = h.shape
    h = jnp.broadcast_to(h[:, :, None, :, None], (n, height, 2, width, 2, channels))
    return h.reshape(n, 2 * height, 2 * width, channels)


def _encode(net, layers, x):
    if net == "mlp":
        return _perceptron(layers, x)
    h = x.reshape(-1, SIDE, SIDE, 1)
    for w, b in layers[:2]:
        h = jax.nn.relu(_convolve(h, w, 2) + b)
    return _perceptron(layers[2:], h.reshape(len(h), -1))


def _decode(net, layers, z):
    if net == "mlp":
        return _perceptron(layers, z)
    h = jax.nn.relu(_perceptron(layers[:2], z)).reshape(-1, 7, 7, 64)
    (w, b), (last, pixels) = layers[2:]
    h = jax.nn.relu(_convolve(_double(h), w) + b)
    return _convolve(_double(h), last).reshape(len(h), -1) + pixels


@partial(jax.jit, static_argnums=0)
def objective(net, params, x, eps):
    half = len(params) // 2
    h = _encode(net, params[:half], x)
    mu, log_var = h[:, :LATENT], h[:, LATENT:]
    logits = _decode(net, params[half:], mu + jnp.exp(log_var / 2) * eps)
    distortion = (jax.nn.softplus(logits) - x * logits).sum(1)
    rate = 0.5 * (mu**2 + jnp.exp(log_var) - log_var - 1).sum(1)
    return (distortion + rate).mean()


def _step(net, data, carry, step):
    params, state = carry
    index, key = step
    x = data[index].astype(jnp.float32) / 255
    eps = jax.random.normal(key, (len(index), LATENT))
    loss, grads = jax.value_and_grad(objective, argnums=1)(net, params, x, eps)
    updates, state = optimiser.update(grads, state, params)
    return (optax.apply_updates(params, updates), state), loss


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def scan(net, data, carry, key, order):
    """A step for each row of `order`, which are the numbers of its images; the sum of the losses."""
    carry, losses = jax.lax.scan(partial(_step, net, data), carry, (order, jax.random.split(key, len(order))))
    return carry, losses.sum()


_one = jax.jit(_step, static_argnums=0, donate_argnums=2)


def loop(net, data, carry, key, order):
    """The same step by step: on a CPU, XLA runs convolutions inside of a scan many times slower."""
    total = 0.0
    for step in zip(order, jax.random.split(key, len(order)), strict=True):
        carry, loss = _one(net, data, carry, step)
        total += loss
    return carry, total


def loss(net: str, batch: int) -> dict[str, float]:
    return {"closed": float(objective(net, _start(net), unit(batch), noise(batch)))}


class Training:
    def __init__(self, net: str):
        self.net, self.data, self.key = net, jnp.asarray(images()), jax.random.key(1)
        self.params = _start(net)
        self.state = optimiser.init(self.params)
        self.rng, self.order = np.random.default_rng(0), np.empty(0, np.int64)

    def advance(self, batch: int, steps: int) -> None:
        rows = batch * steps
        if len(self.order) < rows:
            self.order = self.rng.permutation(len(self.data))
        order, self.order = self.order[:rows].reshape(steps, batch), self.order[rows:]
        self.key, key = jax.random.split(self.key)
        run = loop if self.net == "conv" else scan
        (self.params, self.state), total = run(self.net, self.data, (self.params, self.state), key, order)
        if not np.isfinite(total):  # which waits for it
            raise RuntimeError(f"the losses sum to {total}")


_training = cache(Training)


def train(net: str, batch: int, steps: int) -> float:
    """Seconds for so many steps; the first call with their number compiles."""
    training = _training(net)
    began = time.perf_counter()
    training.advance(batch, steps)
    return time.perf_counter() - began


def reach(batch: int, elbo: float, most: int) -> int:
    training, (x, eps) = _training("mlp"), held_out()
    return common.reach(
        lambda steps: training.advance(batch, steps),
        lambda: -float(objective("mlp", training.params, x, eps)),
        elbo,
        most,
    )
