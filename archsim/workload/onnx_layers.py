"""ONNX operators that compute: one converter per operator, each adds its layer to the draft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from archsim.errors import WorkloadError
from archsim.workload.assemble import as_map, flattened_map
from archsim.workload.draft import Draft, Exact, ExactParams
from archsim.workload.layers import (
    Add,
    BatchNorm,
    Concat,
    Conv,
    Elementwise,
    Linear,
    Pads,
    Pair,
    Wiring,
)
from archsim.workload.onnx_node import OnnxNode

Function: TypeAlias = Literal["relu", "clip", "tanh", "sigmoid"]


def exact(values: npt.NDArray[np.generic]) -> Exact:
    """Return constants as float64."""
    return np.asarray(values, np.float64)


def attribute_text(node: OnnxNode, name: str, default: str) -> str:
    """Return a string attribute."""
    value = node.attributes.get(name, default)
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def attribute_ints(node: OnnxNode, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """Return an attribute that holds one int per axis or border. Raises: WorkloadError if there are more or fewer."""
    values = tuple(int(v) for v in node.attributes.get(name, default))
    if len(values) != len(default):
        raise WorkloadError(f"{name} must hold {len(default)} numbers (two spatial axes), got {list(values)}")
    return values


def refuse_unless(node: OnnxNode, name: str, allowed: int) -> None:
    """Raise if an int attribute asks for something the simulator has no layer for."""
    value = node.attributes.get(name, allowed)
    if value != allowed:
        raise WorkloadError(f"{name} must be {allowed}, got {value}")


def _same_pads(size: Pair, reach: Pair, stride: Pair, upper: bool) -> Pads:
    """Return the pads that keep ceil(size / stride) windows; the odd one goes to the end if `upper`."""
    before, after = [0, 0], [0, 0]
    for axis in (0, 1):
        windows = -(-size[axis] // stride[axis])
        total = max((windows - 1) * stride[axis] + reach[axis] - size[axis], 0)
        small, large = total // 2, total - total // 2
        before[axis], after[axis] = (small, large) if upper else (large, small)
    return (before[0], before[1], after[0], after[1])


def window(node: OnnxNode, size: Pair, kernel: Pair) -> tuple[Pair, Pads, Pair]:
    """Return stride, pads and dilation of a convolution or pooling node on a map of `size`."""
    sh, sw = attribute_ints(node, "strides", (1, 1))
    dh, dw = attribute_ints(node, "dilations", (1, 1))
    top, left, bottom, right = attribute_ints(node, "pads", (0, 0, 0, 0))
    auto = attribute_text(node, "auto_pad", "NOTSET")
    if min(sh, sw, dh, dw) < 1:
        raise WorkloadError(f"strides and dilations must be at least 1, got {(sh, sw)} and {(dh, dw)}")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        reach = (dh * (kernel[0] - 1) + 1, dw * (kernel[1] - 1) + 1)
        top, left, bottom, right = _same_pads(size, reach, (sh, sw), auto == "SAME_UPPER")
    elif auto == "VALID":
        top = left = bottom = right = 0
    elif auto != "NOTSET":
        raise WorkloadError(f"auto_pad must be NOTSET, SAME_UPPER, SAME_LOWER or VALID, got {auto!r}")
    return (sh, sw), (top, left, bottom, right), (dh, dw)


def _weights(node: OnnxNode, draft: Draft, rank: int) -> Exact:
    weights = draft.constant(node.inputs, 1, "weights")
    if weights is None or weights.ndim != rank or 0 in weights.shape:
        got = "none" if weights is None else str(weights.shape)
        raise WorkloadError(f"weights must be a non-empty tensor of {rank} axes, got {got}")
    return exact(weights)


def _bias(node: OnnxNode, draft: Draft, M: int) -> Exact | None:
    bias = draft.constant(node.inputs, 2, "bias")
    return None if bias is None else per_channel(exact(bias), M, 1, "bias")


def per_channel(values: Exact, channels: int, rank: int, what: str) -> Exact:
    """Return (channels,) values out of a constant that broadcasts over a tensor of `rank` axes (batch left out).

    Raises: WorkloadError if the constant differs inside a channel.
    """
    shape = (1,) * (rank + 1 - values.ndim) + values.shape
    fits = len(shape) == rank + 1 and shape[0] == 1 and all(size == 1 for size in shape[2:])
    if values.size != 1 and not (fits and shape[1] == channels):
        raise WorkloadError(f"{what} must be one number per channel ({channels}), got shape {values.shape}")
    return np.broadcast_to(values.reshape(-1), (channels,)).copy()


def conv(node: OnnxNode, draft: Draft) -> None:
    """Conv, two spatial axes; a 1x1 channel copy becomes Wiring."""
    source = draft.tensor(node.inputs[0])
    C, H, W = as_map(draft.shapes[source])
    weights = _weights(node, draft, 4)
    M, _, R, S = weights.shape
    groups = int(node.attributes.get("group", 1))
    if attribute_ints(node, "kernel_shape", (R, S)) != (R, S):
        raise WorkloadError(f"kernel_shape {node.attributes['kernel_shape']} differs from the weights' {(R, S)}")
    if weights.shape[1] * groups != C:
        raise WorkloadError(
            f"weights {weights.shape} with {groups} group(s) need C = {weights.shape[1] * groups}, got {C}"
        )
    stride, pad, dilation = window(node, (H, W), (R, S))
    bias = _bias(node, draft, M)
    layer = Conv(
        name=node.name, inputs=(source,), output=node.outputs[0], C=C, M=M, H=H, W=W, R=R, S=S,
        stride=stride, pad=pad, dilation=dilation, groups=groups,
    )  # fmt: skip
    wires = _wires(weights[:, :, 0, 0], groups) if (R, S) == (1, 1) and bias is None and not any(pad) else None
    if wires is None:
        draft.add(layer, ExactParams(weights, bias))
    else:
        draft.add(Wiring(name=node.name, inputs=(source,), output=node.outputs[0], source=wires, stride=stride))


def _wires(weights: Exact, groups: int) -> tuple[int, ...] | None:
    """Return the input channel each output copies (-1 for none), None unless the weights only copy channels.

    weights: (M, C/groups). All zeros is a dead trained layer, not wiring.
    """
    ones = weights == 1
    if not ones.any() or not (ones | (weights == 0)).all() or ones.sum(axis=1).max() > 1:
        return None
    M, per_group = weights.shape
    first = np.arange(M) // (M // groups) * per_group
    return tuple(int(c) for c in np.where(ones.any(axis=1), first + ones.argmax(axis=1), -1))


def gemm(node: OnnxNode, draft: Draft) -> None:
    """Gemm with constant weights: y = alpha * x * B + beta * bias."""
    refuse_unless(node, "transA", 0)
    weights = _weights(node, draft, 2)
    weights = weights if node.attributes.get("transB", 0) else weights.T
    bias = _bias(node, draft, weights.shape[0])
    alpha, beta = float(node.attributes.get("alpha", 1.0)), float(node.attributes.get("beta", 1.0))
    _linear(node, draft, weights * alpha, None if bias is None else bias * beta)


def matmul(node: OnnxNode, draft: Draft) -> None:
    """MatMul of a flat tensor with constant weights (C, M)."""
    _linear(node, draft, _weights(node, draft, 2).T, None)


def _linear(node: OnnxNode, draft: Draft, weights: Exact, bias: Exact | None) -> None:
    source = draft.tensor(node.inputs[0])
    M, C = weights.shape
    layer = Linear(
        name=node.name, inputs=(source,), output=node.outputs[0], C=C, M=M,
        map_shape=flattened_map(source, draft.layers, draft.shapes),
    )  # fmt: skip
    draft.add(layer, ExactParams(np.ascontiguousarray(weights), bias))


def batch_norm(node: OnnxNode, draft: Draft) -> None:
    """BatchNormalization in inference: scale g/sqrt(var+eps) and shift beta - mean*scale per channel.

    A file exported in training mode carries the running statistics as well: they are used.
    """
    if node.attributes.get("training_mode", 0):
        note_training(draft)
    refuse_unless(node, "spatial", 1)
    source = draft.tensor(node.inputs[0])
    C = draft.shapes[source][0]
    g, beta, mean, var = (_bn_vector(node, draft, i, C) for i in range(1, 5))
    variance = var + float(node.attributes.get("epsilon", 1e-5))
    if variance.min() <= 0:
        raise WorkloadError(f"variance + epsilon must be above 0, got {variance.min()}")
    scale = g / np.sqrt(variance)
    _affine(node, draft, source, scale, beta - mean * scale)


def note_training(draft: Draft) -> None:
    """Let the network's notes say that the file describes training and is run as inference."""
    draft.notes["exported in training mode: batch normalisation uses the running statistics, dropout is off"] = None


def _bn_vector(node: OnnxNode, draft: Draft, position: int, C: int) -> Exact:
    what = ("scale", "bias", "mean", "variance")[position - 1]
    values = draft.constant(node.inputs, position, what)
    if values is None or values.shape != (C,):
        raise WorkloadError(f"{what} must have shape ({C},), got {None if values is None else values.shape}")
    return exact(values)


def _affine(node: OnnxNode, draft: Draft, source: str, scale: Exact, shift: Exact) -> None:
    layer = BatchNorm(name=node.name, inputs=(source,), output=node.outputs[0])
    draft.add(layer, ExactParams(scale, shift))


def add(node: OnnxNode, draft: Draft) -> None:
    """Add of two tensors, or of a tensor and a constant per channel: a shift, folded where it can be."""
    if any(name in draft for name in node.inputs):
        side, values = _channel_constant(node, draft)
        _scale_and_shift(node, draft, side, np.ones_like(values), values)
        return
    if draft.channel_last.intersection(node.inputs):
        raise WorkloadError("the network's input is channel-last, only constants can be added before its Transpose")
    tensors = tuple(draft.tensor(name) for name in node.inputs)
    draft.add(Add(name=node.name, inputs=tensors, output=node.outputs[0]))


def sub(node: OnnxNode, draft: Draft) -> None:
    """Sub of a tensor and a constant per channel."""
    side, values = _channel_constant(node, draft)
    scale = np.ones_like(values)
    if side == 0:
        _scale_and_shift(node, draft, side, scale, -values)
    else:
        _scale_and_shift(node, draft, side, -scale, values)


def mul(node: OnnxNode, draft: Draft) -> None:
    """Mul of a tensor by a constant per channel."""
    side, values = _channel_constant(node, draft)
    _scale_and_shift(node, draft, side, values, np.zeros_like(values))


def div(node: OnnxNode, draft: Draft) -> None:
    """Div of a tensor by a constant per channel."""
    side, values = _channel_constant(node, draft)
    if side == 1 or not values.all():
        raise WorkloadError("must divide a computed tensor by constants that are not 0")
    _scale_and_shift(node, draft, side, 1 / values, np.zeros_like(values))


def _channel_constant(node: OnnxNode, draft: Draft) -> tuple[int, Exact]:
    """Return the position of the computed input and the values (C,) of the other one, which must be constant."""
    moving = [position for position, name in enumerate(node.inputs) if name not in draft]
    if len(moving) != 1:
        raise WorkloadError("needs one computed tensor and one constant per channel, got two computed tensors")
    source = node.inputs[moving[0]]
    shape = draft.shapes[draft.tensor(source)]
    values = draft.constant(node.inputs, 1 - moving[0], "operand")
    assert values is not None
    factors = exact(values)
    if source in draft.channel_last and factors.size > 1:
        factors = np.moveaxis(factors.reshape((1,) * (4 - factors.ndim) + factors.shape), -1, 1)
    return moving[0], per_channel(factors, shape[0], len(shape), f"the constant of {node.op}")


def _scale_and_shift(node: OnnxNode, draft: Draft, side: int, scale: Exact, shift: Exact) -> None:
    _affine(node, draft, draft.tensor(node.inputs[side]), scale, shift)
    if node.inputs[side] in draft.channel_last:
        draft.channel_last.add(node.outputs[0])


def concat(node: OnnxNode, draft: Draft) -> None:
    """Concat along the channels."""
    tensors = tuple(draft.tensor(name) for name in node.inputs)
    axis, rank = int(node.attributes["axis"]), len(draft.shapes[tensors[0]]) + 1
    if axis % rank != 1:
        raise WorkloadError(f"axis must be 1 (channels), got {axis}")
    draft.add(Concat(name=node.name, inputs=tensors, output=node.outputs[0]))


def relu(node: OnnxNode, draft: Draft) -> None:
    """Relu."""
    _elementwise(node, draft, "relu")


def tanh(node: OnnxNode, draft: Draft) -> None:
    """Tanh."""
    _elementwise(node, draft, "tanh")


def sigmoid(node: OnnxNode, draft: Draft) -> None:
    """Sigmoid."""
    _elementwise(node, draft, "sigmoid")


def clip(node: OnnxNode, draft: Draft) -> None:
    """Clip with constant bounds; from 0 without an upper bound it is a Relu."""
    low, high = _bound(node, draft, 1, "min", -np.inf), _bound(node, draft, 2, "max", np.inf)
    if low > high:
        raise WorkloadError(f"min must not exceed max, got {low} and {high}")
    if (low, high) == (0.0, np.inf):
        _elementwise(node, draft, "relu")
    else:
        _elementwise(node, draft, "clip", low, high)


def _bound(node: OnnxNode, draft: Draft, position: int, name: str, default: float) -> float:
    given = draft.constant(node.inputs, position, name)
    return float(node.attributes.get(name, default)) if given is None else float(exact(given).reshape(-1)[0])


def _elementwise(
    node: OnnxNode, draft: Draft, function: Function, low: float = 0.0, high: float = float("inf")
) -> None:
    source = draft.tensor(node.inputs[0])
    draft.add(
        Elementwise(name=node.name, inputs=(source,), output=node.outputs[0], function=function, low=low, high=high)
    )
