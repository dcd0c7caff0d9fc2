"""ONNX operators without trained weights: pooling, padding, normalisation across channels, changes of shape."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal, TypeAlias

from archsim.errors import WorkloadError
from archsim.workload.assemble import Shape, as_map
from archsim.workload.draft import Draft
from archsim.workload.layers import Lrn, Pad, Pool, Reshape, Softmax
from archsim.workload.onnx_layers import attribute_ints, attribute_text, exact, note_training, window
from archsim.workload.onnx_node import OnnxNode

Kind: TypeAlias = Literal["max", "average"]
AXIS_LAST_SOFTMAX = 13


def max_pool(node: OnnxNode, draft: Draft) -> None:
    """MaxPool; its second output (indices) is not available."""
    _pool(node, draft, "max")


def average_pool(node: OnnxNode, draft: Draft) -> None:
    """AveragePool."""
    _pool(node, draft, "average")


def _pool(node: OnnxNode, draft: Draft, kind: Kind) -> None:
    source = draft.tensor(node.inputs[0])
    _, H, W = as_map(draft.shapes[source])
    if "kernel_shape" not in node.attributes:
        raise WorkloadError("needs the attribute kernel_shape")
    R, S = attribute_ints(node, "kernel_shape", (1, 1))
    stride, pad, dilation = window(node, (H, W), (R, S))
    if dilation != (1, 1):
        raise WorkloadError(f"dilations must be 1 in a pooling, got {dilation}")
    layer = Pool(
        name=node.name, inputs=(source,), output=node.outputs[0], kind=kind, R=R, S=S, stride=stride, pad=pad,
        ceil_mode=bool(node.attributes.get("ceil_mode", 0)) and attribute_text(node, "auto_pad", "NOTSET") == "NOTSET",
        count_include_pad=bool(node.attributes.get("count_include_pad", 0)),
    )  # fmt: skip
    draft.add(layer)


def global_average_pool(node: OnnxNode, draft: Draft) -> None:
    """GlobalAveragePool: a window as large as the map."""
    _global_pool(node.name, draft.tensor(node.inputs[0]), node.outputs[0], draft, "average")


def global_max_pool(node: OnnxNode, draft: Draft) -> None:
    """GlobalMaxPool: a window as large as the map."""
    _global_pool(node.name, draft.tensor(node.inputs[0]), node.outputs[0], draft, "max")


def _global_pool(name: str, source: str, output: str, draft: Draft, kind: Kind) -> None:
    _, H, W = as_map(draft.shapes[source])
    draft.add(Pool(name=name, inputs=(source,), output=output, kind=kind, R=H, S=W, stride=(1, 1)))


def reduce_mean(node: OnnxNode, draft: Draft) -> None:
    """ReduceMean over H and W: a global average pool."""
    _reduce(node, draft, "average")


def reduce_max(node: OnnxNode, draft: Draft) -> None:
    """ReduceMax over H and W: a global max pool."""
    _reduce(node, draft, "max")


def _reduce(node: OnnxNode, draft: Draft, kind: Kind) -> None:
    """Add a global pool, and a reshape if the axes are not kept."""
    source, output = draft.tensor(node.inputs[0]), node.outputs[0]
    shape = as_map(draft.shapes[source])
    given = _axes(node, draft)
    if given is None or sorted(axis % 4 for axis in given) != [2, 3]:
        raise WorkloadError(f"axes must be H and W (2 and 3), got {given}")
    if node.attributes.get("keepdims", 1):
        _global_pool(node.name, source, output, draft, kind)
        return
    _global_pool(node.name, source, f"{output}.kept", draft, kind)
    draft.add(Reshape(name=f"{node.name}.squeeze", inputs=(f"{output}.kept",), output=output, shape=shape[:1]))


def _axes(node: OnnxNode, draft: Draft) -> list[int] | None:
    """Return the axes of a node, batch axis included in the count: an attribute in old files, an input in new ones."""
    given = draft.constant(node.inputs, 1, "axes")
    if given is not None:
        return [int(axis) for axis in given.reshape(-1).tolist()]
    return [int(axis) for axis in node.attributes["axes"]] if "axes" in node.attributes else None


def lrn(node: OnnxNode, draft: Draft) -> None:
    """LRN across channels."""
    source = draft.tensor(node.inputs[0])
    layer = Lrn(
        name=node.name, inputs=(source,), output=node.outputs[0], size=int(node.attributes["size"]),
        alpha=float(node.attributes.get("alpha", 1e-4)), beta=float(node.attributes.get("beta", 0.75)),
        bias=float(node.attributes.get("bias", 1.0)),
    )  # fmt: skip
    draft.add(layer)


def pad(node: OnnxNode, draft: Draft) -> None:
    """Pad with zeros in H and W."""
    source = draft.tensor(node.inputs[0])
    as_map(draft.shapes[source])
    mode = attribute_text(node, "mode", "constant")
    value = draft.constant(node.inputs, 2, "constant_value")
    fill = float(node.attributes.get("value", 0.0)) if value is None else float(exact(value).reshape(-1)[0])
    if mode != "constant" or fill != 0:
        raise WorkloadError(f"only padding with the constant 0 is supported, got mode {mode!r}, value {fill}")
    top, left, bottom, right = _map_pads(node, draft)
    draft.add(Pad(name=node.name, inputs=(source,), output=node.outputs[0], pad=(top, left, bottom, right)))


def _map_pads(node: OnnxNode, draft: Draft) -> tuple[int, int, int, int]:
    """Return (top, left, bottom, right); pads of the batch and channel axes must be 0."""
    given = draft.constant(node.inputs, 1, "pads")
    values = [int(v) for v in (node.attributes.get("pads", ()) if given is None else given.reshape(-1).tolist())]
    axes = draft.constant(node.inputs, 3, "axes")
    order = [0, 1, 2, 3] if axes is None else [int(axis) % 4 for axis in axes.reshape(-1).tolist()]
    if len(values) != 2 * len(order):
        raise WorkloadError(f"pads must hold two numbers per axis, got {values} for axes {order}")
    borders = dict.fromkeys(range(8), 0)
    for position, axis in enumerate(order):
        borders[axis], borders[axis + 4] = values[position], values[position + len(order)]
    if any(borders[side] for side in (0, 1, 4, 5)):
        raise WorkloadError(f"only H and W can be padded, got pads {values} for axes {order}")
    return (borders[2], borders[3], borders[6], borders[7])


def softmax(node: OnnxNode, draft: Draft) -> None:
    """Softmax over the classes."""
    source = draft.tensor(node.inputs[0])
    shape = draft.shapes[source]
    axis = int(node.attributes.get("axis", -1 if draft.opset >= AXIS_LAST_SOFTMAX else 1))
    if axis % (len(shape) + 1) != 1 or prod(shape[1:]) != 1:
        raise WorkloadError(f"must run over the classes (axis 1) of a flat tensor, got axis {axis} of {shape}")
    draft.add(Softmax(name=node.name, inputs=(source,), output=node.outputs[0]))


def identity(node: OnnxNode, draft: Draft) -> None:
    """Identity: removed."""
    draft.drop(node.outputs[0], draft.tensor(node.inputs[0]))
    if node.inputs[0] in draft.channel_last:
        draft.channel_last.add(node.outputs[0])


def dropout(node: OnnxNode, draft: Draft) -> None:
    """Dropout, which does nothing in inference: removed."""
    training = draft.constant(node.inputs, 2, "training_mode")
    if training is not None and training.any():
        note_training(draft)
    identity(node, draft)


def _reshape_to(node: OnnxNode, draft: Draft, shape: Sequence[int]) -> None:
    """Add a Reshape, or nothing where the shape stays."""
    source, target = draft.tensor(node.inputs[0]), tuple(int(size) for size in shape)
    if target == draft.shapes[source]:
        draft.drop(node.outputs[0], source)
    else:
        draft.add(Reshape(name=node.name, inputs=(source,), output=node.outputs[0], shape=target))


def flatten(node: OnnxNode, draft: Draft) -> None:
    """Flatten of everything behind the batch axis."""
    shape = draft.shapes[draft.tensor(node.inputs[0])]
    axis = int(node.attributes.get("axis", 1))
    if axis % (len(shape) + 1) != 1:
        raise WorkloadError(f"axis must be 1 (all but the batch), got {axis}")
    _reshape_to(node, draft, (prod(shape),))


def reshape(node: OnnxNode, draft: Draft) -> None:
    """Reshape that leaves the batch axis alone; its shape may be computed from shapes."""
    _reshape_to(node, draft, _target(draft.sizes(node.inputs, 1, "shape"), node, draft))


def _target(wanted: list[int | None], node: OnnxNode, draft: Draft) -> Shape:
    """Return the target without the batch axis; None is N, 0 copies an axis, one -1 is inferred."""
    shape = draft.shapes[draft.tensor(node.inputs[0])]
    batch, rest = wanted[0] if wanted else 0, [size for size in wanted[1:] if size is not None]
    written = f"[{', '.join('N' if size is None else str(size) for size in wanted)}]"
    if not rest or len(rest) < len(wanted) - 1 or batch not in (None, -1, 0, 1, draft.batch):
        raise WorkloadError(f"must keep the batch axis in front, got shape {written}")
    if node.attributes.get("allowzero", 0) and 0 in wanted:
        raise WorkloadError(f"a size of 0 would leave nothing, got shape {written} with allowzero")
    if [batch, *rest].count(-1) > 1:
        raise WorkloadError(f"can infer one axis only, got shape {written}")
    sizes = [shape[i] if size == 0 and i < len(shape) else size for i, size in enumerate(rest)]
    return tuple(prod(shape) // max(-prod(sizes), 1) if size == -1 else size for size in sizes)


def squeeze(node: OnnxNode, draft: Draft) -> None:
    """Squeeze of axes of size 1 behind the batch axis."""
    shape = draft.shapes[draft.tensor(node.inputs[0])]
    given = _axes(node, draft)
    if given is None:
        axes = {i + 1 for i, size in enumerate(shape) if size == 1}
    else:
        axes = {axis % (len(shape) + 1) for axis in given}
    if 0 in axes or any(shape[axis - 1] != 1 for axis in axes):
        raise WorkloadError(f"can drop axes of size 1 behind the batch axis only, got axes {given} of (N, *{shape})")
    _reshape_to(node, draft, [size for i, size in enumerate(shape) if i + 1 not in axes])


def unsqueeze(node: OnnxNode, draft: Draft) -> None:
    """Unsqueeze: new axes of size 1 behind the batch axis."""
    shape = list(draft.shapes[draft.tensor(node.inputs[0])])
    given = _axes(node, draft) or []
    rank = len(shape) + 1 + len(given)
    axes = sorted(axis % rank for axis in given)
    if not axes or axes[0] == 0:
        raise WorkloadError(f"can add axes behind the batch axis only, got axes {given}")
    for axis in axes:
        shape.insert(axis - 1, 1)
    _reshape_to(node, draft, shape)


def transpose(node: OnnxNode, draft: Draft) -> None:
    """Transpose that only moves axes of size 1, so the data stay in order, or that of a channel-last input."""
    if node.inputs[0] in draft.channel_last:
        draft.drop(node.outputs[0], draft.tensor(node.inputs[0]))
        return
    shape = draft.shapes[draft.tensor(node.inputs[0])]
    rank = len(shape) + 1
    order = [int(axis) for axis in node.attributes.get("perm", range(rank - 1, -1, -1))]
    if sorted(order) != list(range(rank)):
        raise WorkloadError(f"perm must hold every axis of (N, {', '.join(map(str, shape))}) once, got {order}")
    moved = [axis for axis in order if axis > 0 and shape[axis - 1] != 1]
    if order[0] != 0 or moved != sorted(moved):
        raise WorkloadError(
            f"must leave the data in order, got perm {order} of (N, {', '.join(map(str, shape))}); "
            "only the network's input may come channel-last, and its first Transpose must have perm [0, 3, 1, 2]"
        )
    _reshape_to(node, draft, [shape[axis - 1] for axis in order[1:]])
