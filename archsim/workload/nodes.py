"""The arithmetic of the layers no machine runs: on codes where that is exact, else on real values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from archsim.errors import WorkloadError
from archsim.kernels.elementwise import add_fixed, lrn, sigmoid, softmax, tanh
from archsim.kernels.pool import average_pool_fixed, average_pool_float, max_pool
from archsim.workload.formats import Fixed, Scale
from archsim.workload.graph import FloatParams
from archsim.workload.layers import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Elementwise,
    Layer,
    Lrn,
    Pad,
    Pool,
    Reshape,
    Softmax,
    Wiring,
)
from archsim.workload.params import Array, Tensor

_INT64 = np.iinfo(np.int64)


def activate(values: Array, activation: Activation) -> Array:
    """Return real values after the activation, in their own dtype."""
    if activation.kind == "relu":
        return np.maximum(values, 0)
    return np.clip(values, activation.low, activation.high) if activation.kind == "clip" else values


def activation_bounds(activation: Activation, fraction_bits: int) -> tuple[int | None, int | None]:
    """Return what the activation clips an accumulator with `fraction_bits` to; None: open. Rounded half to even."""
    if activation.kind == "none":
        return None, None
    high = math.inf if activation.kind == "relu" else activation.high
    low = 0.0 if activation.kind == "relu" else activation.low
    return _bound(low, fraction_bits), _bound(high, fraction_bits)


def _bound(value: float, fraction_bits: int) -> int | None:
    """Return value * 2^fraction_bits, None where no 64-bit accumulator gets there."""
    if math.isinf(value):
        return None
    code = round(math.ldexp(value, fraction_bits))
    return code if _INT64.min <= code <= _INT64.max else None


def moves_codes(layer: Layer) -> bool:
    """True if every output element is one of the input elements, or zero."""
    return isinstance(layer, Reshape | Wiring | Pad | Concat) or (isinstance(layer, Pool) and layer.kind == "max")


def move(layer: Layer, arrays: Sequence[Array]) -> Array:
    """Return the output of a layer that moves elements, whatever they are (codes of one scale, or values)."""
    x = arrays[0]
    if isinstance(layer, Reshape):
        return x.reshape(len(x), *layer.shape)
    if isinstance(layer, Concat):
        return np.concatenate(arrays, axis=1)
    if isinstance(layer, Pad):
        top, left, bottom, right = layer.pad
        return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    if isinstance(layer, Wiring):
        return _wire(layer, x)
    assert isinstance(layer, Pool)
    return max_pool(x, layer.R, layer.S, layer.stride, layer.pad, layer.ceil_mode)


def _wire(layer: Wiring, x: Array) -> Array:
    source = np.asarray(layer.source)
    y: Array = x[:, np.maximum(source, 0), :: layer.stride[0], :: layer.stride[1]]
    y[:, source < 0] = 0
    return y


def node_values(layer: Layer, arrays: Sequence[Array], params: FloatParams | None) -> Array:
    """Return the real output of `layer` for real inputs (N, ...), float32 or float64; averages are float32.

    Raises: WorkloadError for a layer that needs a machine.
    """
    if moves_codes(layer):
        return move(layer, arrays)
    rule = _VALUES.get(type(layer))
    if rule is None:
        names = ", ".join(sorted(kind.__name__ for kind in (*_VALUES, Concat, Pad, Reshape, Wiring)))
        raise WorkloadError(f"layer {layer.name!r} ({type(layer).__name__}) needs a machine; without one run: {names}")
    return rule(layer, arrays, params)


def _pool_values(layer: Pool, arrays: Sequence[Array], params: FloatParams | None) -> Array:
    geometry = (layer.R, layer.S, layer.stride, layer.pad, layer.ceil_mode)
    return average_pool_float(arrays[0], *geometry, layer.count_include_pad)


def _add_values(layer: Add, arrays: Sequence[Array], params: FloatParams | None) -> Array:
    return activate(arrays[0] + arrays[1], layer.activation)


def _elementwise_values(layer: Elementwise, arrays: Sequence[Array], params: FloatParams | None) -> Array:
    x = arrays[0]
    if layer.function == "relu" or layer.function == "clip":
        return activate(x, Activation(layer.function, layer.low, layer.high))
    function = sigmoid if layer.function == "sigmoid" else tanh
    return function(x).astype(x.dtype)


def _lrn_values(layer: Lrn, arrays: Sequence[Array], params: FloatParams | None) -> Array:
    return lrn(arrays[0], layer.size, layer.alpha, layer.beta, layer.bias).astype(arrays[0].dtype)


def _softmax_values(layer: Softmax, arrays: Sequence[Array], params: FloatParams | None) -> Array:
    return softmax(arrays[0]).astype(arrays[0].dtype)


def _batch_norm_values(layer: BatchNorm, arrays: Sequence[Array], params: FloatParams | None) -> Array:
    assert params is not None
    return scale_and_shift(arrays[0], params)


def scale_and_shift(values: Array, params: FloatParams) -> Array:
    """Return values (N, C, ...) * scale + shift per channel, in the values' own dtype."""
    per_channel = (-1, *(1,) * (values.ndim - 2))
    scale, shift = (np.asarray(one, values.dtype).reshape(per_channel) for one in (params.weights, params.bias))
    return np.asarray(values * scale + shift)


_VALUES: Mapping[type[Layer], Callable[[Any, Sequence[Array], FloatParams | None], Array]] = {
    Pool: _pool_values,
    Add: _add_values,
    Elementwise: _elementwise_values,
    Lrn: _lrn_values,
    Softmax: _softmax_values,
    BatchNorm: _batch_norm_values,
}


def node_fixed(layer: Layer, inputs: Sequence[Tensor], y_scale: Scale) -> Tensor | None:
    """Return the fixed-point output of a layer that is exact on codes (house rule 6), None if it is not."""
    number_format = inputs[0].format
    assert isinstance(number_format, Fixed)
    if moves_codes(layer):
        aligned = [one.to(number_format, y_scale).codes for one in inputs]  # tied, so nothing is converted
        return Tensor(move(layer, aligned), number_format, y_scale)
    if isinstance(layer, Add):
        codes, saturated = _add_codes(layer, inputs, y_scale, number_format.bits)
        return Tensor(codes, number_format, y_scale, saturated)
    if isinstance(layer, Pool):
        codes, saturated = _average_codes(layer, inputs[0], y_scale, number_format.bits)
        return Tensor(codes, number_format, y_scale, saturated)
    return None


def _add_codes(layer: Add, inputs: Sequence[Tensor], y_scale: Scale, bits: int) -> tuple[Array, int]:
    f_a, f_b = (one.scale.fraction_bits for one in inputs)
    f = max(f_a, f_b)
    low, high = activation_bounds(layer.activation, f)
    a, b = (np.ascontiguousarray(one.codes) for one in inputs)
    return add_fixed(a, b, f - f_a, f - f_b, low, high, f - y_scale.fraction_bits, bits)


def _average_codes(layer: Pool, x: Tensor, y_scale: Scale, bits: int) -> tuple[Array, int]:
    geometry = (layer.R, layer.S, layer.stride, layer.pad, layer.ceil_mode, layer.count_include_pad)
    return average_pool_fixed(x.codes, *geometry, y_scale.fraction_bits - x.scale.fraction_bits, bits)
