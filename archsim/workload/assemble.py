"""From a layer list to a Network: tensor shapes with their checks, non-negative tensors, the workload's hash.

Every loader (ONNX, shape-only YAML, topology CSV) ends here, so all networks obey the same shape rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, TypeAlias

import numpy as np

from archsim.errors import WorkloadError
from archsim.workload.graph import FloatParams, Network
from archsim.workload.layers import (
    Add,
    BatchNorm,
    Concat,
    Conv,
    Elementwise,
    Layer,
    Linear,
    Lrn,
    OpStream,
    Pad,
    Pool,
    Reshape,
    Softmax,
    Wiring,
    output_size,
)

Shape: TypeAlias = tuple[int, ...]
HASH_DIGITS = 16


def layer_shape(layer: Layer, inputs: Sequence[Shape]) -> Shape:
    """Return the shape of the layer's output, without the batch axis.

    Raises: WorkloadError stating the rule an input breaks and the value got.
    """
    return _RULES[type(layer)](layer, inputs)


def assemble(
    name: str,
    layers: Sequence[Layer],
    inputs: Mapping[str, Shape],
    output: str,
    **fields: Any,
) -> Network:
    """Return a Network over `layers`; the first of `inputs` is the network's input, `fields` are Network fields.

    Raises: WorkloadError naming the layer whose input has the wrong shape.
    """
    shapes = dict(inputs)
    for layer in layers:
        try:
            shapes[layer.output] = layer_shape(layer, [shapes[tensor] for tensor in layer.inputs])
        except WorkloadError as error:
            raise WorkloadError(f"layer {layer.name!r}: {error}") from None
    source = next(iter(inputs))
    known = fields.pop("non_negative", ())
    network = Network(name, tuple(layers), source, output, shapes, non_negative=non_negative(layers, known), **fields)
    return replace(network, workload_hash=workload_hash(network))


def flattened_map(tensor: str, layers: Sequence[Layer], shapes: Mapping[str, Shape]) -> tuple[int, int, int] | None:
    """Return the (C, H, W) of the map `tensor` was flattened from, None if it is not the output of a Reshape of one."""
    made = next((layer for layer in layers if layer.output == tensor), None)
    before = shapes[made.inputs[0]] if isinstance(made, Reshape) else ()
    return as_map(before) if len(before) == 3 else None


def non_negative(layers: Iterable[Layer], known: Iterable[str] = ()) -> frozenset[str]:
    """Return the tensors that cannot be below zero by construction; `known` are those given as such."""
    found = set(known)
    for layer in layers:
        if _clamped(layer) or (_keeps_sign(layer) and found.issuperset(layer.inputs)):
            found.add(layer.output)
    return frozenset(found)


def workload_hash(network: Network) -> str:
    """Return a short sha256 over layers, shapes and weights; the same in every process."""
    digest = hashlib.sha256()
    for part in (network.layers, network.input, network.output, sorted(network.shapes.items())):
        digest.update(repr(part).encode())
    digest.update(repr(sorted(network.zero_fractions.items())).encode())
    for name, params in sorted(network.params.items()):
        digest.update(name.encode())
        _digest_params(digest.update, params)
    if network.input_norm:
        _digest_params(digest.update, network.input_norm)
    return digest.hexdigest()[:HASH_DIGITS]


def _digest_params(update: Callable[[bytes], None], params: FloatParams) -> None:
    for array in (params.weights, params.bias):
        update(b"none" if array is None else np.ascontiguousarray(array).tobytes())


def _clamped(layer: Layer) -> bool:
    """True if the layer's own function has no negative result."""
    if isinstance(layer, Conv | Linear | Add):
        return layer.activation.non_negative
    if isinstance(layer, Elementwise):
        return layer.function in ("relu", "sigmoid") or (layer.function == "clip" and layer.low >= 0)
    return isinstance(layer, Softmax)


def _keeps_sign(layer: Layer) -> bool:
    """True if non-negative inputs give a non-negative output."""
    if isinstance(layer, Add):
        return layer.activation.kind == "none"
    return isinstance(layer, Pool | Concat | Wiring | Reshape | Pad | Lrn)


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise WorkloadError(rule)


def as_map(shape: Shape) -> tuple[int, int, int]:
    """Return the shape as (C, H, W). Raises: WorkloadError if it is not a map."""
    _require(len(shape) == 3, f"needs an input of shape (C, H, W), got {shape}")
    return (shape[0], shape[1], shape[2])


def check_window(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int]) -> None:
    """Check that a window of `kernel` (dilation included) fits the padded map.

    Raises: WorkloadError with the axis and both numbers.
    """
    _require(all(v > 0 for v in kernel), f"kernel must be at least 1, got {tuple(kernel)}")
    _require(all(v > 0 for v in stride), f"stride must be at least 1, got {tuple(stride)}")
    _require(all(v >= 0 for v in pad), f"pad must be 0 or more, got {tuple(pad)}")
    for axis, i in (("H", 0), ("W", 1)):
        padded = size[i] + pad[i] + pad[i + 2]
        rule = f"kernel {kernel[i]} is larger than the padded map: {axis} = {size[i]}, padded {padded}"
        _require(kernel[i] <= padded, rule)


def _conv_shape(layer: Conv, inputs: Sequence[Shape]) -> Shape:
    C, H, W = as_map(inputs[0])
    _require((C, H, W) == (layer.C, layer.H, layer.W), f"expects (C, H, W) {layer.C, layer.H, layer.W}, got {C, H, W}")
    _require(layer.M > 0, f"M must be at least 1, got {layer.M}")
    _require(layer.groups > 0, f"groups must be at least 1, got {layer.groups}")
    fits = layer.C % layer.groups == 0 and layer.M % layer.groups == 0
    _require(fits, f"groups {layer.groups} must divide C = {layer.C} and M = {layer.M}")
    _require(min(layer.dilation) > 0, f"dilation must be at least 1, got {layer.dilation}")
    reach = [d * (k - 1) + 1 for d, k in zip(layer.dilation, (layer.R, layer.S), strict=True)]
    check_window((H, W), reach if min(layer.R, layer.S) > 0 else (layer.R, layer.S), layer.stride, layer.pad)
    return (layer.M, layer.P, layer.Q)


def _linear_shape(layer: Linear, inputs: Sequence[Shape]) -> Shape:
    _require(len(inputs[0]) == 1, f"needs a flat input, got shape {inputs[0]}: flatten it first")
    _require(inputs[0] == (layer.C,), f"expects C = {layer.C} inputs, got {inputs[0][0]}")
    _require(layer.M > 0, f"M must be at least 1, got {layer.M}")
    return (layer.M,)


def pooled_size(size: int, kernel: int, stride: int, pad: tuple[int, int], ceil_mode: bool) -> int:
    """Return the number of pooling windows along one axis; `pad` is (before, after).

    With `ceil_mode` a last, partial window counts if it starts inside the map or the padding before it.
    """
    if not ceil_mode:
        return output_size(size, kernel, stride, sum(pad))
    count = -((kernel - size - sum(pad)) // stride) + 1
    return count - 1 if (count - 1) * stride >= size + pad[0] else count


def _pool_shape(layer: Pool, inputs: Sequence[Shape]) -> Shape:
    C, H, W = as_map(inputs[0])
    check_window((H, W), (layer.R, layer.S), layer.stride, layer.pad)
    top, left, bottom, right = layer.pad
    inside = max(top, bottom) < layer.R and max(left, right) < layer.S
    _require(inside, f"pad {layer.pad} must be smaller than the kernel {layer.R, layer.S}")
    rows = pooled_size(H, layer.R, layer.stride[0], (top, bottom), layer.ceil_mode)
    return (C, rows, pooled_size(W, layer.S, layer.stride[1], (left, right), layer.ceil_mode))


def _add_shape(layer: Add, inputs: Sequence[Shape]) -> Shape:
    _require(len(inputs) == 2, f"adds two tensors, got {len(inputs)}")
    _require(inputs[0] == inputs[1], f"adds tensors of one shape, got {inputs[0]} and {inputs[1]}")
    return inputs[0]


def _concat_shape(layer: Concat, inputs: Sequence[Shape]) -> Shape:
    same = len({shape[1:] for shape in inputs}) == 1
    _require(same, f"joins tensors that differ in channels only, got {', '.join(map(str, inputs))}")
    return (sum(shape[0] for shape in inputs), *inputs[0][1:])


def _op_stream_shape(layer: OpStream, inputs: Sequence[Shape]) -> Shape:
    _require(inputs[0] == (1, layer.H, layer.W), f"expects (1, H, W) {1, layer.H, layer.W}, got {inputs[0]}")
    _require(min(layer.P, layer.Q) > 0, f"an image needs pixels inside its border {layer.border}, got {inputs[0]}")
    return (1, layer.P, layer.Q)


def _lrn_shape(layer: Lrn, inputs: Sequence[Shape]) -> Shape:
    _require(layer.size > 0, f"size must be at least 1, got {layer.size}")
    return as_map(inputs[0])


def _reshape_shape(layer: Reshape, inputs: Sequence[Shape]) -> Shape:
    rule = f"cannot reshape {inputs[0]} ({prod(inputs[0])} values) to {layer.shape} ({prod(layer.shape)})"
    _require(prod(inputs[0]) == prod(layer.shape), rule)
    return layer.shape


def _pad_shape(layer: Pad, inputs: Sequence[Shape]) -> Shape:
    C, H, W = as_map(inputs[0])
    _require(min(layer.pad) >= 0, f"pad must be 0 or more, got {layer.pad}")
    top, left, bottom, right = layer.pad
    return (C, H + top + bottom, W + left + right)


def _wiring_shape(layer: Wiring, inputs: Sequence[Shape]) -> Shape:
    C, H, W = as_map(inputs[0])
    _require(min(layer.stride) > 0, f"stride must be at least 1, got {layer.stride}")
    _require(max(layer.source) < C, f"reads channel {max(layer.source)}, the input has {C}")
    return (len(layer.source), output_size(H, 1, layer.stride[0], 0), output_size(W, 1, layer.stride[1], 0))


def _same_shape(layer: Layer, inputs: Sequence[Shape]) -> Shape:
    return inputs[0]


_RULES: Mapping[type[Layer], Callable[[Any, Sequence[Shape]], Shape]] = {
    Conv: _conv_shape,
    Linear: _linear_shape,
    Pool: _pool_shape,
    Add: _add_shape,
    Concat: _concat_shape,
    Lrn: _lrn_shape,
    Elementwise: _same_shape,
    Softmax: _same_shape,
    Reshape: _reshape_shape,
    Pad: _pad_shape,
    BatchNorm: _same_shape,
    Wiring: _wiring_shape,
    OpStream: _op_stream_shape,
}
