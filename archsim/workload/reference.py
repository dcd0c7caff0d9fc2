"""The dense reference: what a network computes in a number format, and in fp32, without any approximation.

`reference` is one machine layer, `host_compute` one layer that no machine runs; `dense_compute` and `float_compute`
make of them the `compute` that `walk` takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, cast

import numpy as np

from archsim.errors import AccumulatorOverflowError, WorkloadError
from archsim.kernels.conv import conv_accumulate, conv_fixed, conv_float, linear_fixed, linear_float
from archsim.kernels.elementwise import requantise
from archsim.kernels.stepwise import accumulate_stepwise, overflow_possible
from archsim.workload.encode import encode_params
from archsim.workload.formats import AffineInt8, Fixed, NumberFormat, Scale
from archsim.workload.graph import FloatArray, FloatParams, Network
from archsim.workload.layers import Conv, Layer, Linear, Operand, OpStep, OpStream, Pads, Pair
from archsim.workload.nodes import activate, activation_bounds, node_fixed, node_values, scale_and_shift
from archsim.workload.params import Accumulation, Array, LayerParams, Tensor, requantise_shift

MachineLayer = Conv | Linear
Geometry = tuple[Pair, Pads, Pair, int]
DEFAULT_ACCUMULATION = Accumulation()


@dataclass(frozen=True, eq=False)
class ReferenceResult:
    """y (N, M, P, Q) or (N, M) in the layer's format; words that were saturated; partial sums that overflowed."""

    y: Array
    saturated_words: int = 0
    overflow_events: int = 0


def reference(
    layer: Layer, x: Array, params: LayerParams, accumulation: Accumulation = DEFAULT_ACCUMULATION
) -> ReferenceResult:
    """Compute a Conv or Linear densely in `params.format` from codes x (N, C, H, W) or (N, C).

    Fixed point: `accumulation` is obeyed (house rule 4), y holds codes, or int64 accumulators if `params.y_scale` is
    None. int8: y holds codes, or float64 values. fp32 and bfloat16: float32 products and sums; bfloat16 is rounded on
    storing only. Raises: AccumulatorOverflowError naming layer and image; WorkloadError for any other layer.
    """
    if not isinstance(layer, Conv | Linear):
        raise WorkloadError(f"layer {layer.name!r}: the reference runs Conv and Linear, got {type(layer).__name__}")
    if params.weights is None:
        raise WorkloadError(f"layer {layer.name!r} has no weights: the network is shape-only")
    if isinstance(params.format, Fixed):
        return _fixed(layer, x, params, accumulation)
    return _affine(layer, x, params) if isinstance(params.format, AffineInt8) else _floating(layer, x, params)


def output_scale(params: LayerParams) -> Scale:
    """Return the scale of a machine layer's output: `y_scale`, or that of accumulators kept as the network's output."""
    if params.y_scale is not None:
        return params.y_scale
    return Scale(fraction_bits=params.x_scale.fraction_bits + params.w_scale.fraction_bits)


# fixed point ---------------------------------------------------------------------------------------------------------
def _fixed(layer: MachineLayer, x: Array, params: LayerParams, accumulation: Accumulation) -> ReferenceResult:
    """Accumulate exactly, or step by step where the modelled accumulator could overflow; then finish once."""
    assert isinstance(params.format, Fixed) and params.weights is not None
    if accumulation.product_shift or overflow_possible(_peak(x), params.weights, params.bias, accumulation.bits):
        return _fixed_stepwise(layer, x, params, accumulation)
    bounds = activation_bounds(layer.activation, params.x_scale.fraction_bits + params.w_scale.fraction_bits)
    finish = (*bounds, requantise_shift(params), params.format.bits)
    if isinstance(layer, Linear):
        return ReferenceResult(*linear_fixed(x, params.weights, params.bias, *finish))
    return ReferenceResult(*conv_fixed(x, params.weights, params.bias, *_geometry(layer), *finish))


def _fixed_stepwise(layer: MachineLayer, x: Array, params: LayerParams, accumulation: Accumulation) -> ReferenceResult:
    """Check every partial sum; shifted products leave an accumulator with as many fraction bits less.

    The network's output is given back in f_x + f_w fraction bits.
    """
    dropped = accumulation.product_shift
    fraction_bits = params.x_scale.fraction_bits + params.w_scale.fraction_bits - dropped
    acc, events = _stepwise(layer, x, params, accumulation)
    bounds = activation_bounds(layer.activation, fraction_bits)
    acc = np.clip(acc, *bounds) if bounds != (None, None) else acc
    if params.y_scale is None:
        return ReferenceResult(acc << dropped, overflow_events=events)
    y, saturated = requantise(acc, fraction_bits - params.y_scale.fraction_bits, params.format.bits)
    return ReferenceResult(y, saturated, events)


def _stepwise(layer: MachineLayer, x: Array, params: LayerParams, accumulation: Accumulation) -> tuple[Array, int]:
    """Return the accumulators, summed in the order the weights are stored in, and the number of overflows.

    Raises: AccumulatorOverflowError if an overflow is an error.
    """
    assert params.weights is not None
    order = np.arange(params.weights[0].size)
    overflow = cast(Literal["error", "wrap", "saturate"], accumulation.overflow)
    bias = None if params.bias is None else params.bias >> accumulation.product_shift
    maps, weights = _as_maps(x), _as_maps(params.weights)
    acc, events, image, largest = accumulate_stepwise(
        maps, weights, bias, *_geometry(layer), order, accumulation.bits, overflow, accumulation.product_shift
    )
    if events and overflow == "error":
        reason = (
            f"a partial sum of magnitude {largest} leaves the {accumulation.bits}-bit accumulator (largest "
            f"{(1 << (accumulation.bits - 1)) - 1}); widen it or set overflow: wrap | saturate"
        )
        raise AccumulatorOverflowError(layer.name, reason, image)
    return acc.reshape(len(x), *acc.shape[1 : x.ndim]), events


def _peak(codes: Array) -> int:
    """Return max |codes|."""
    return max(int(codes.max()), -int(codes.min()))


def _as_maps(array: Array) -> Array:
    """Return (N, C) as (N, C, 1, 1): a linear layer is a 1x1 convolution of a 1x1 map."""
    return array if array.ndim == 4 else array[:, :, None, None]


def _geometry(layer: MachineLayer) -> Geometry:
    """Return stride, pad, dilation and groups."""
    if isinstance(layer, Linear):
        return (1, 1), (0, 0, 0, 0), (1, 1), 1
    return layer.stride, layer.pad, layer.dilation, layer.groups


# int8 affine ---------------------------------------------------------------------------------------------------------
def _affine(layer: MachineLayer, x: Array, params: LayerParams) -> ReferenceResult:
    """Four exact integer sums per window, combined in float64 in one fixed order; padding is the real value zero.

    With value = code * step + low, sum x*w over the n taps inside the map is
    s_x*s_w*sum(c_x*c_w) + s_x*l_w*sum(c_x) + l_x*s_w*sum(c_w) + l_x*l_w*n.
    """
    assert params.weights is not None
    return finish_affine(layer, _affine_sums(layer, x, params), params)


def finish_affine(layer: MachineLayer, sums: Array, params: LayerParams) -> ReferenceResult:
    """Finish real sums, float64 (N, M, P, Q), of an int8 layer: bias, activation, codes.

    y has the layer's shape, codes or, if `params.y_scale` is None, float64 values.
    """
    values = sums if params.bias is None else sums + params.bias[:, None, None]
    values = activate(values, layer.activation)
    values = values[:, :, 0, 0] if isinstance(layer, Linear) else values
    if params.y_scale is None:
        return ReferenceResult(values)
    assert isinstance(params.format, AffineInt8)
    steps = params.format.unclipped(values, params.y_scale)
    saturated = int(np.count_nonzero((steps < 0) | (steps > AffineInt8.code_max)))
    return ReferenceResult(params.format.clipped(steps), saturated)


def _affine_sums(layer: MachineLayer, x: Array, params: LayerParams) -> Array:
    """Return the real sums (N, M, P, Q), float64, before bias and activation."""
    assert params.weights is not None
    codes, weights, geometry = _as_maps(x).astype(np.int16), _as_maps(params.weights).astype(np.int16), _geometry(layer)
    groups = geometry[-1]
    one_image = np.ones((1, *codes.shape[1:]), np.int16)
    one_filter = np.ones((groups, *weights.shape[1:]), np.int16)
    (s_x, l_x), (s_w, l_w) = ((scale.step, scale.low) for scale in (params.x_scale, params.w_scale))

    def sums(images: Array, filters: Array) -> Array:
        acc = conv_accumulate(images, filters, None, *geometry).astype(np.float64)
        return np.repeat(acc, layer.M // acc.shape[1], axis=1)

    total = sums(codes, weights) * (s_x * s_w) + sums(codes, one_filter) * (s_x * l_w)
    return total + sums(one_image, weights) * (l_x * s_w) + sums(one_image, one_filter) * (l_x * l_w)


# floating point ------------------------------------------------------------------------------------------------------
def _floating(layer: MachineLayer, x: Array, params: LayerParams) -> ReferenceResult:
    """Products and sums in float32; stored in the format unless it is the network's output."""
    assert params.weights is not None
    values = _float_layer(layer, x, params.weights, params.bias)
    return ReferenceResult(values if params.y_scale is None else params.format.encode(values, params.y_scale))


def _float_layer(layer: MachineLayer, x: Array, weights: Array, bias: Array | None) -> Array:
    """Return float32 outputs after the activation."""
    if isinstance(layer, Linear):
        return activate(linear_float(x, weights, bias), layer.activation)
    return activate(conv_float(x, weights, bias, *_geometry(layer)), layer.activation)


def op_stream_reference(layer: OpStream, x: Array) -> FloatArray:
    """Evaluate scalar steps at every interior pixel of x (N, 1, H, W): float32 (N, 1, P, Q).

    One rounding per operation; a mac rounds twice: round(round(a*b) + c).
    """
    pixels = np.asarray(x, np.float32)
    done: list[FloatArray] = []
    for step in layer.steps:
        done.append(_op_step(step, [_operand(layer, ref, pixels, done) for ref in step.operands]))
    return np.broadcast_to(done[-1], (len(x), 1, layer.P, layer.Q)).copy()


def _operand(layer: OpStream, ref: Operand, x: Array, done: list[Array]) -> Array:
    """Return a pixel at an offset, with its sign turned or not, a constant, or an earlier result."""
    if ref[0] in ("pixel", "minus_pixel"):
        top, left = (layer.border + int(offset) for offset in ref[1:])
        shifted: Array = x[:, :, top : top + layer.P, left : left + layer.Q]
        return -shifted if ref[0] == "minus_pixel" else shifted
    return done[int(ref[1])] if ref[0] == "step" else np.asarray(ref[1], np.float32)


def _op_step(step: OpStep, operands: list[Array]) -> Array:
    """Apply one operation to float32 operands; every NumPy operation rounds once."""
    if step.op == "sqrt":
        return np.asarray(np.sqrt(operands[0]))
    if step.op == "add":
        return np.asarray(operands[0] + operands[1])
    product = operands[0] * operands[1]
    return np.asarray(product if step.op == "mul" else product + operands[2])


# whole networks ------------------------------------------------------------------------------------------------------
def float_compute(network: Network) -> Callable[[Layer, tuple[Array, ...]], Array]:
    """Return the `compute` of the fp32 network for `walk`: float32 arrays in and out."""

    def compute(layer: Layer, inputs: tuple[Array, ...]) -> Array:
        params = network.params.get(layer.name)
        if isinstance(layer, OpStream):
            return op_stream_reference(layer, inputs[0])
        if not isinstance(layer, Conv | Linear):
            return node_values(layer, inputs, params)
        return _float_layer(layer, inputs[0], *_trained(network, layer, params))

    return compute


def _trained(network: Network, layer: Layer, params: FloatParams | None) -> tuple[FloatArray, FloatArray | None]:
    """Return weights and bias. Raises: WorkloadError if the network is shape-only."""
    if params is None:
        raise WorkloadError(f"layer {layer.name!r} has no weights: {network.name} is shape-only")
    return params.weights, params.bias


def dense_compute(
    network: Network,
    scales: Mapping[str, Scale],
    number_format: NumberFormat,
    accumulation: Accumulation = DEFAULT_ACCUMULATION,
) -> Callable[[Layer, tuple[Tensor, ...]], Tensor]:
    """Return the `compute` of the dense network in one number format for `walk`: tensors in and out."""

    @cache
    def params_of(layer: Layer) -> LayerParams:
        return encode_params(network, layer, scales, number_format)

    def compute(layer: Layer, inputs: tuple[Tensor, ...]) -> Tensor:
        if not isinstance(layer, Conv | Linear):
            return host_compute(layer, inputs, network, scales)
        params = params_of(layer)
        x = inputs[0].to(number_format, params.x_scale)
        return Tensor(reference(layer, x.codes, params, accumulation).y, number_format, output_scale(params))

    return compute


def host_compute(layer: Layer, inputs: tuple[Tensor, ...], network: Network, scales: Mapping[str, Scale]) -> Tensor:
    """Compute a layer that no machine runs, in the format of its first input; the others are converted to it.

    `scales` are those of that format. Exact on codes where house rule 6 says so, else decode, compute, encode.
    Raises: WorkloadError for a layer that needs a machine.
    """
    number_format = inputs[0].format
    tensors = [
        one if one.format == number_format else one.to(number_format, scales[name])
        for one, name in zip(inputs, layer.inputs, strict=True)
    ]
    y_scale = scales[layer.output]
    exact = node_fixed(layer, tensors, y_scale) if isinstance(number_format, Fixed) else None
    if exact is not None:
        return exact
    values = node_values(layer, [one.values() for one in tensors], network.params.get(layer.name))
    return Tensor(number_format.encode(values, y_scale), number_format, y_scale)


def input_tensor(network: Network, images: Array) -> FloatArray:
    """Return raw pixels (N, H, W), (N, H, W, C) or (N, C, H, W) as the network's fp32 input, `input_norm` applied.

    Values are never divided or reordered. Raises: WorkloadError naming both shapes if they do not fit.
    """
    wanted, got = network.shapes[network.input], images.shape[1:]
    if len(wanted) == 3 and got == (*wanted[1:], wanted[0]):
        images = np.moveaxis(images, -1, 1)
    elif len(wanted) == 3 and wanted[0] == 1 and got == wanted[1:]:
        images = images[:, None]
    elif got != wanted:
        channels_last = f" or {(*wanted[1:], wanted[0])}" if len(wanted) == 3 else ""
        raise WorkloadError(f"images of shape {got} do not fit {network.name}: it takes {wanted}{channels_last}")
    pixels = np.ascontiguousarray(images, np.float32)
    return pixels if network.input_norm is None else scale_and_shift(pixels, network.input_norm)
