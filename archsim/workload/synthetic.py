"""Seeded tensors for layers that have shapes only: weights as training leaves them, ifmaps with a stated zero share.

Ifmaps are non-negative like an image or the output of a ReLU: half-normal values of unit scale, zeros at random places.
Weights are normal with variance 2 / fan-in: sums keep the scale of the ifmap, and both signs are equally likely.
Source: He et al., Delving Deep into Rectifiers (arXiv 1502.01852), equation 10.
"""

from __future__ import annotations

import math

import numpy as np

from archsim.errors import WorkloadError
from archsim.workload.graph import FloatArray
from archsim.workload.layers import Conv, Layer, Linear, OpStream
from archsim.workload.params import Array, LayerParams
from archsim.workload.random import rng_for

STREAM = "synthetic"
PEAK = 4.0
"""Values are cut at four standard deviations, so the range of every synthetic tensor is known beforehand."""
SMALLEST = 1 / 64
"""Non-zero values are at least this, so that a coarse number format adds no zeros to the stated share."""


def synthetic_range(non_negative: bool) -> tuple[float, float]:
    """Return the (min, max) that stands for a calibration where there is nothing to calibrate on."""
    return (0.0 if non_negative else -PEAK, PEAK)


def ifmap_shape(layer: Layer) -> tuple[int, ...]:
    """Return the shape of one image's ifmap. Raises: WorkloadError for a layer no machine runs."""
    if isinstance(layer, Conv):
        return (layer.C, layer.H, layer.W)
    if isinstance(layer, Linear):
        return (layer.C,)
    if isinstance(layer, OpStream):
        return (1, layer.H, layer.W)
    raise WorkloadError(f"layer {layer.name!r}: {type(layer).__name__} has no synthetic ifmap (Conv, Linear, OpStream)")


def weight_shape(layer: Layer) -> tuple[int, ...]:
    """Return the shape of the weights. Raises: WorkloadError for a layer without weights."""
    if isinstance(layer, Conv):
        return (layer.M, layer.C // layer.groups, layer.R, layer.S)
    if isinstance(layer, Linear):
        return (layer.M, layer.C)
    raise WorkloadError(f"layer {layer.name!r}: {type(layer).__name__} has no weights (Conv, Linear)")


def synthetic_ifmap(layer: Layer, zero_fraction: float, n_images: int, seed: int) -> FloatArray:
    """Return float32 (n_images, *ifmap) with exactly round(zero_fraction * size) zeros per image.

    Image i is the same whatever `n_images` is.
    Raises: WorkloadError for a layer no machine runs, or a fraction outside 0..1.
    """
    if not 0 <= zero_fraction <= 1:
        raise WorkloadError(f"layer {layer.name!r}: zero fraction must lie within 0 .. 1; got {zero_fraction}")
    shape = ifmap_shape(layer)
    return np.stack([_one_ifmap(layer.name, shape, zero_fraction, image, seed) for image in range(n_images)])


def _one_ifmap(name: str, shape: tuple[int, ...], zero_fraction: float, image: int, seed: int) -> FloatArray:
    rng = rng_for(seed, STREAM, name, "ifmap", image)
    size = math.prod(shape)
    values = np.clip(np.abs(rng.standard_normal(size, np.float32)), SMALLEST, PEAK)
    values[rng.permutation(size)[: round(zero_fraction * size)]] = 0
    return values.reshape(shape)


def synthetic_weights(layer: Layer, seed: int) -> FloatArray:
    """Return float32 weights, Conv (M, C/groups, R, S) or Linear (M, C): normal, cut at four deviations."""
    shape = weight_shape(layer)
    normal = rng_for(seed, STREAM, layer.name, "weights", 0).standard_normal(shape, np.float32)
    deviation = np.float32(math.sqrt(2 / math.prod(shape[1:])))
    np.clip(normal, -PEAK, PEAK, out=normal)
    normal *= deviation
    return normal


def synthetic_codes(layer: Layer, params: LayerParams, zero_fraction: float, seed: int) -> Array:
    """Return synthetic ifmap codes of one batch (layer.N images) in the format and scale of `params`."""
    values = synthetic_ifmap(layer, zero_fraction, layer.N, seed)
    return params.format.encode(values, params.x_scale)
