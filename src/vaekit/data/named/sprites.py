"""Small pictures whose every factor of variation is known: a shape of some size, turned by some angle, somewhere.

Like dSprites (Matthey et al., 2017; used by Kim and Mnih, 2018, arXiv 1802.05983), but made here and smaller. Angles
cover a quarter turn: over a whole one, a square looks the same four times, and its angle could not be known.
"""

import numpy as np

from vaekit.data.schema import Binary
from vaekit.data.table import Table

SIDE = 32  # pixels
SHAPES = ("square", "ellipse", "heart")
SCALES = np.linspace(0.7, 1, 4)
ANGLES = np.linspace(0, np.pi / 2, 10, endpoint=False)
# In pixels: no point of a sprite of scale 1 is farther from its centre, and the centres are so far from the edges. With
# just these numbers, no two of the pictures are the same.
RADIUS = 7.8
PLACES = np.linspace(7.9, SIDE - 7.9, 12)  # of the centre, along each axis


def sprites() -> Table:
    """All 17,280 sprites, (17280, 1, 32, 32) of 0 and 1, in the order of their factors, the last of which runs fastest.

    A pixel is 1 where its centre lies within the shape. The factors are shape, scale, angle, x and y.
    """
    sizes = {"shape": len(SHAPES), "scale": len(SCALES), "angle": len(ANGLES), "x": len(PLACES), "y": len(PLACES)}
    factors = np.indices(tuple(sizes.values())).reshape(len(sizes), -1).T
    offset = np.arange(SIDE) + 0.5 - PLACES[:, None]  # (places, pixels)
    x, y = offset[:, None, None, :], offset[None, :, :, None]
    cos, sin = np.cos(ANGLES), np.sin(ANGLES)
    shape = (-1, 1, 1, 1, 1)
    pictures = []
    for inside in (_square, _ellipse, _heart):
        for scale in RADIUS * SCALES:
            u = (cos.reshape(shape) * x + sin.reshape(shape) * y) / scale
            v = (cos.reshape(shape) * y - sin.reshape(shape) * x) / scale
            pictures += [inside(u, v).astype(np.uint8)]
    return Table.of(
        name="sprites",
        values=np.concatenate([part.reshape(-1, 1, SIDE, SIDE) for part in pictures]),
        labels=np.ascontiguousarray(factors[:, 0]),
        classes=SHAPES,
        stored=Binary(),
        factors=np.ascontiguousarray(factors),
        factor_names=tuple(sizes),
        factor_sizes=tuple(sizes.values()),
    )


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Of points (u, v) of the unit disc, with v pointing down: which are in the shape."""
    return np.maximum(abs(u), abs(v)) <= np.sqrt(0.5)


def _ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u**2 + (v / 0.5) ** 2 <= 1


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = 1.35 * u, 0.15 - 1.35 * v
    return (u**2 + v**2 - 1) ** 3 <= u**2 * v**3
