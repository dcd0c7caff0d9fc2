"""Pictures as outputs of a network: how close one is to another, and made-up scenes to try kernels on.

The scenes are dead leaves: discs that cover each other, radii by a power law between two limits, each with a shade of
its own and a soft shading. Their statistics are close to those of photographs. Source: A. B. Lee, D. Mumford, J.
Huang, Occlusion Models for Natural Images, IJCV 41, 2001.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from archsim.workload.random import rng_for

Array = npt.NDArray[Any]
PEAK = 255
IDENTICAL_dB = 100.0
"""What counts as the ratio of two equal pictures, and the most any two can have."""
SCENE_HEIGHT, SCENE_WIDTH = 120, 160
LEAVES = 1500
RADII = (2.0, 60.0)
NOISE = 2.0


def as_picture(values: Array) -> Array:
    """Return values as pixels, uint8: rounded half to even, cut to 0..255; what is no number is 0."""
    pixels: Array = np.clip(np.rint(np.nan_to_num(values, nan=0.0)), 0, PEAK).astype(np.uint8)
    return pixels


def psnr_dB(pictures: Array, exact: Array) -> Array:
    """Return the peak signal-to-noise ratio of every picture uint8 (n, ...), float64 (n,), at most IDENTICAL_dB."""
    error = pictures.reshape(len(pictures), -1).astype(np.float64) - exact.reshape(len(exact), -1)
    squares = (error * error).mean(axis=1)
    ratios: Array = np.minimum(IDENTICAL_dB, 10 * np.log10(PEAK * PEAK / np.maximum(squares, 1e-30)))
    return ratios


def scenes(split: str, first: int, count: int) -> Array:
    """Return made-up scenes, uint8 (count, 120, 160); scene i of a split is always the same."""
    return np.stack([_scene(split, index) for index in range(first, first + count)])


@lru_cache(maxsize=64)
def _scene(split: str, index: int) -> Array:
    """Drop leaves from front to back: a pixel keeps the first that covers it."""
    rng = rng_for(0, "scenes", split, "leaves", index)
    rows, columns = np.mgrid[:SCENE_HEIGHT, :SCENE_WIDTH]
    shade = np.full((SCENE_HEIGHT, SCENE_WIDTH), rng.uniform(0, PEAK))
    open_pixels = np.ones(shade.shape, bool)
    low, high = RADII
    radii = 1 / np.sqrt(rng.uniform(1 / high**2, 1 / low**2, LEAVES))  # density ~ r^-3
    centres = rng.uniform((-high, -high), (SCENE_HEIGHT + high, SCENE_WIDTH + high), (LEAVES, 2))
    shades, slopes = rng.uniform(0, PEAK, LEAVES), rng.normal(0, 30, (LEAVES, 2))
    for radius, (y, x), level, (down, right) in zip(radii, centres, shades, slopes, strict=True):
        box = _span(y, radius, SCENE_HEIGHT), _span(x, radius, SCENE_WIDTH)
        dy, dx = rows[box] - y, columns[box] - x
        leaf = open_pixels[box] & (dy * dy + dx * dx < radius * radius)
        shade[box][leaf] = (level + (down * dy + right * dx) / radius)[leaf]
        open_pixels[box] &= ~leaf
    return as_picture(shade + rng.normal(0, NOISE, shade.shape))


def _span(centre: float, radius: float, size: int) -> slice:
    """Return the rows or columns a leaf may cover."""
    return slice(max(0, int(centre - radius)), max(0, min(size, int(centre + radius) + 1)))
