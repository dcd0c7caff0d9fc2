"""Calibration: the range of every tensor in fp32, and the scales that follow from it, ties solved."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

import numpy as np

from archsim.errors import WorkloadError
from archsim.threads import map_blocks
from archsim.workload.formats import Fixed, NumberFormat, Scale
from archsim.workload.graph import FloatArray, Network, walk
from archsim.workload.layers import Concat, Layer, Pad, Pool, Reshape, Wiring
from archsim.workload.params import Array
from archsim.workload.reference import float_compute, input_tensor

BLOCK_IMAGES = 4
"""Small, so that calibration fits beside anything and keeps all cores busy; the ranges do not depend on it."""

Ranges = Mapping[str, tuple[float, float]]


def calibrate(network: Network, images: Array) -> dict[str, tuple[float, float]]:
    """Return (min, max) of every tensor of the fp32 network over `images` (raw pixels), with one BLAS thread.

    Raises: WorkloadError if a layer has no weights, no image is given, or a tensor is not finite.
    """
    if not len(images):
        raise WorkloadError("calibration needs at least 1 image; got 0")
    blocks = [images[first : first + BLOCK_IMAGES] for first in range(0, len(images), BLOCK_IMAGES)]
    ranges: dict[str, tuple[float, float]] = {}
    for found in map_blocks(partial(_block_ranges, network), blocks):
        for tensor, (low, high) in found.items():
            known = ranges.get(tensor, (low, high))
            ranges[tensor] = (min(low, known[0]), max(high, known[1]))
    return ranges


def channel_means(network: Network, images: Array) -> dict[str, Array]:
    """Return the mean activation of every channel of every fp32 tensor over `images` (raw pixels), float64 (C,).

    Raises: WorkloadError as `calibrate`.
    """
    if not len(images):
        raise WorkloadError("calibration needs at least 1 image; got 0")
    blocks = [images[first : first + BLOCK_IMAGES] for first in range(0, len(images), BLOCK_IMAGES)]
    sums: dict[str, Array] = {}
    for found in map_blocks(partial(_block_sums, network), blocks):
        for tensor, values in found.items():
            sums[tensor] = sums.get(tensor, 0.0) + values
    return {tensor: values / len(images) for tensor, values in sums.items()}


def calibration_inputs(network: Network, images: Array, names: Collection[str]) -> dict[str, Array]:
    """Return what enters the named layers of the fp32 network on `images` (raw pixels), float32 (images, ...).

    Raises: WorkloadError as `calibrate`.
    """
    if not len(images):
        raise WorkloadError("calibration needs at least 1 image; got 0")
    blocks = [images[first : first + BLOCK_IMAGES] for first in range(0, len(images), BLOCK_IMAGES)]
    parts = map_blocks(partial(_block_inputs, network, names), blocks)
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _block_inputs(network: Network, names: Collection[str], images: Array) -> dict[str, Array]:
    """Return the inputs of some layers for one block of images."""
    kept: dict[str, Array] = {}
    compute = float_compute(network)

    def watched(layer: Layer, tensors: tuple[Array, ...]) -> Array:
        if layer.name in names:
            kept[layer.name] = tensors[0]
        return compute(layer, tensors)

    walk(network, input_tensor(network, images), watched)
    return kept


def _block_sums(network: Network, images: Array) -> dict[str, Array]:
    """Return, summed over one block of images, every channel's mean over its map."""
    sums: dict[str, Array] = {}
    compute, inputs = float_compute(network), input_tensor(network, images)

    def watched(layer: Layer, tensors: tuple[Array, ...]) -> Array:
        values = compute(layer, tensors)
        sums[layer.output] = _channel_sums(values)
        return values

    sums[network.input] = _channel_sums(inputs)
    walk(network, inputs, watched)
    return sums


def _channel_sums(values: FloatArray) -> Array:
    maps = values.reshape(*values.shape[:2], -1).astype(np.float64)
    return np.asarray(maps.mean(axis=2).sum(axis=0))


def _block_ranges(network: Network, images: Array) -> dict[str, tuple[float, float]]:
    """Return (min, max) of every tensor over one block of images."""
    ranges: dict[str, tuple[float, float]] = {}
    inputs = input_tensor(network, images)
    ranges[network.input] = _range(network.input, inputs)
    walk(network, inputs, _watched(float_compute(network), ranges))
    return ranges


def _watched(
    compute: Callable[[Layer, tuple[Array, ...]], Array], ranges: dict[str, tuple[float, float]]
) -> Callable[[Layer, tuple[Array, ...]], Array]:
    """Return `compute` that also notes the range of every tensor it makes."""

    def watched(layer: Layer, inputs: tuple[Array, ...]) -> Array:
        values = compute(layer, inputs)
        ranges[layer.output] = _range(layer.output, values)
        return values

    return watched


def _range(tensor: str, values: FloatArray) -> tuple[float, float]:
    """Return (min, max). Raises: WorkloadError if a value is not finite."""
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise WorkloadError(f"tensor {tensor!r} leaves fp32 during calibration: its range is {low} .. {high}")
    return low, high


def tensor_scales(network: Network, ranges: Ranges, number_format: NumberFormat) -> dict[str, Scale]:
    """Return the scale of every tensor; in fixed point, tied tensors share the smallest number of fraction bits."""
    scales = {tensor: number_format.scale_of(*ranges[tensor]) for tensor in network.shapes}
    if isinstance(number_format, Fixed):
        for group in tied_tensors(network):
            shared = min((scales[tensor] for tensor in group), key=lambda scale: scale.fraction_bits)
            scales.update(dict.fromkeys(group, shared))
    return scales


def tied_tensors(network: Network) -> list[frozenset[str]]:
    """Return the groups of tensors whose codes are moved unchanged from one to the other (house rule 6)."""
    parent = {tensor: tensor for tensor in network.shapes}

    def root(tensor: str) -> str:
        while parent[tensor] != tensor:
            tensor = parent[tensor]
        return tensor

    for one, other in _ties(network):
        parent[root(one)] = root(other)
    groups: dict[str, set[str]] = {}
    for tensor in parent:
        groups.setdefault(root(tensor), set()).add(tensor)
    return [frozenset(group) for group in groups.values() if len(group) > 1]


def _ties(network: Network) -> Iterator[tuple[str, str]]:
    """Yield (input, output) of every layer that only moves codes."""
    for layer in network.layers:
        if isinstance(layer, Reshape | Wiring | Pad | Concat) or (isinstance(layer, Pool) and layer.kind == "max"):
            for tensor in layer.inputs:
                yield tensor, layer.output
