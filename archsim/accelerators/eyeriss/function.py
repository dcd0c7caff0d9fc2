"""The ofmap of a layer in both psum modes.

`wide`: exact products, 48-bit accumulator, one rounding at the ofmap; the order of additions does not matter.
`chip16`: 16-bit psums. Each product is shifted right (floor) by the layer's truncation point t before it is added; an
add that leaves 16 bits saturates. A PE sums over the taps of one filter row, its q channels innermost, starting from
zero, and its sum is then added to the psum of the PE before it: rows within a PE set, sets, channel blocks. The bias
(floor of the accumulator code shifted right by t, saturated) is the psum that enters the first PE. Activation and
requantisation work on the last psum, whose scale has t fraction bits less.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from archsim.accelerators.eyeriss.kernel import PSUM_MAX, PSUM_MIN, Array, accumulate_chip16
from archsim.accelerators.eyeriss.plan import EyerissPlan
from archsim.accelerators.eyeriss.tiles import channel_set_edges
from archsim.errors import WorkloadError
from archsim.kernels.elementwise import requantise
from archsim.workload.layers import Activation, Conv, Layer
from archsim.workload.nodes import activation_bounds
from archsim.workload.params import Accumulation, LayerParams, requantise_shift
from archsim.workload.reference import ReferenceResult, reference

WIDE_BITS = 48


def compute_wide(layer: Layer, x: Array, params: LayerParams, overflow: str) -> ReferenceResult:
    """Compute x (N, C, H, W) -> (N, M, P, Q), or (N, C) -> (N, M), in the 48-bit accumulator.

    Raises: AccumulatorOverflowError naming layer and image, if `overflow` is "error".
    """
    return reference(layer, x, params, Accumulation(WIDE_BITS, overflow))


def compute_chip16(conv: Conv, plan: EyerissPlan, x: Array, params: LayerParams, product_shift: int) -> ReferenceResult:
    """Compute x (N, C, H, W) -> (N, M, P, Q) with 16-bit psums in the order of the plan; saturated adds are events.

    Raises: WorkloadError if the network is shape-only.
    """
    if params.weights is None:
        raise WorkloadError(f"layer {conv.name!r} has no weights: the network is shape-only")
    top, left, bottom, right = conv.pad
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    weights = params.weights.reshape(conv.M, -1, conv.R, conv.S)
    bias, edges = psum_bias(conv, params, product_shift), channel_set_edges(conv, plan)
    psums = np.empty((len(x), conv.M, conv.P, conv.Q), np.int64)
    events = 0
    for n, p in product(range(len(x)), range(conv.P)):  # one row per call: calls stay short enough to be interrupted
        maps, row = padded[n : n + 1, :, p * conv.stride[0] :], psums[n : n + 1, :, p : p + 1]
        events += accumulate_chip16(maps, weights, bias, edges, conv.stride, conv.dilation, product_shift, row)
    y, saturated_words = finish_psums(psums, conv.activation, params, product_shift)
    return ReferenceResult(y, saturated_words, events)


def psum_bias(conv: Conv, params: LayerParams, product_shift: int) -> Array:
    """Return the bias as 16-bit psums, int64 (M,)."""
    if params.bias is None:
        return np.zeros(conv.M, np.int64)
    return np.asarray(np.clip(params.bias >> product_shift, PSUM_MIN, PSUM_MAX))


def finish_psums(psums: Array, activation: Activation, params: LayerParams, product_shift: int) -> tuple[Array, int]:
    """Apply activation and requantisation to psums; the network's output goes back to accumulator units.

    Returns: codes (or int64 accumulators) of the shape of psums, saturated words.
    """
    fraction_bits = params.x_scale.fraction_bits + params.w_scale.fraction_bits
    bounds = activation_bounds(activation, fraction_bits - product_shift)
    activated = np.clip(psums, *bounds) if bounds != (None, None) else psums
    shift = requantise_shift(params)
    if shift is None:
        return activated << product_shift, 0
    return requantise(activated, shift - product_shift, params.format.bits)
