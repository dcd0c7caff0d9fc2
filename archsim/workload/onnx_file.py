"""Reading an ONNX file: plain nodes, constants, the tensors at both ends. Whatever is broken is told in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import WorkloadError, did_you_mean
from archsim.workload.assemble import Shape
from archsim.workload.onnx_node import FOLDABLE, OnnxNode
from archsim.workload.onnx_patterns import LRN_BY_POOLING, with_lrn
from archsim.workload.params import Array

STANDARD_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """The part of an ONNX file the network's output depends on, in topological order.

    Shapes are without the batch axis; `batch` is None if the axis is symbolic, `output_shape` None if not declared.
    `constants` holds initializers and the values of Constant nodes; floats are float32.
    """

    file: str
    opset: int
    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, Array]
    input: str
    input_shape: Shape
    batch: int | None
    output: str
    output_shape: Shape | None


def read_onnx(path: Path, supported: Collection[str]) -> OnnxGraph:
    """Read and check an ONNX file; `supported` are the operators the caller can use.

    Raises: WorkloadError in one line: not an ONNX file, truncated, weights missing, an unsupported operator (with the
    share of the MACs that depends on it), more than one input or output.
    """
    try:
        model = _load(path)
        constants = _constants(model.graph)
        nodes = _needed(with_lrn(_nodes(model.graph)), {value.name for value in model.graph.output})
        _check_operators(model, nodes, constants, supported)
        _check_model(model)
        return _graph(path.name, model, nodes, constants)
    except WorkloadError as error:
        raise WorkloadError(f"{path.name}: {' '.join(str(error).splitlines())}") from error.__cause__


def _load(path: Path) -> Any:
    """Return the ModelProto, external weights included; parsers and file system raise errors of many kinds."""
    import onnx

    try:
        model = onnx.load(str(path))
    except Exception as error:
        raise WorkloadError(f"not a readable ONNX file: {_first_line(error)}") from error
    if not model.graph.node:
        raise WorkloadError("not an ONNX network: it has no nodes")
    names = [name for node in model.graph.node for name in (node.name, node.op_type, *node.input, *node.output)]
    if not all(isinstance(name, str) for name in names):
        raise WorkloadError("not a valid ONNX network: a name in it is not UTF-8 text")
    return model


def _check_model(model: Any) -> None:
    import onnx

    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise WorkloadError(f"not a valid ONNX network: {_first_line(error)}") from error


def _graph(file: str, model: Any, nodes: tuple[OnnxNode, ...], constants: Mapping[str, Array]) -> OnnxGraph:
    graph = model.graph
    source = _only([value for value in graph.input if value.name not in constants], "input")
    sink = _only(graph.output, "output")
    batch, shape = _input_shape(source)
    opset = max((entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), default=1)
    return OnnxGraph(file, opset, nodes, constants, source.name, shape, batch, sink.name, _declared(sink))


def _check_operators(
    model: Any, nodes: Iterable[OnnxNode], constants: Mapping[str, Array], supported: Collection[str]
) -> None:
    known = set(constants)
    for node in nodes:
        if node.folds(known):
            known.update(node.outputs)
        elif node.op not in (*supported, LRN_BY_POOLING):
            share = _dependent_share(model, nodes, constants, node)
            raise WorkloadError(f"{node.place()}: operator {node.op!r} {_why_not(node)}{share}{_near(node, supported)}")


def _why_not(node: OnnxNode) -> str:
    if node.quantised:
        return "belongs to a quantised network; export it in floating point, a study chooses the number format"
    return "is supported for shapes and constants only, not for data" if node.op in FOLDABLE else "is not supported"


def _near(node: OnnxNode, supported: Collection[str]) -> str:
    return "" if node.quantised else did_you_mean(node.op, supported)


def _dependent_share(model: Any, nodes: Iterable[OnnxNode], constants: Mapping[str, Array], bad: OnnxNode) -> str:
    """Return `, n % of the MACs depend on it`, or nothing if no layer before or after it has known MACs."""
    macs, tainted = _macs(model, nodes, constants), set(bad.outputs)
    behind = 0
    for node in nodes:
        if tainted.intersection(node.inputs):
            tainted.update(node.outputs)
            behind += macs.get(node.index, 0)
    total = sum(macs.values())
    return f", {behind / total:.0%} of the known MACs depend on it" if total else ""


def _macs(model: Any, nodes: Iterable[OnnxNode], constants: Mapping[str, Array]) -> dict[int, int]:
    """Return the MACs per image of the nodes with constant weights whose map size onnx can infer, by node index."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except Exception:  # a foreign domain or a damaged text stops it; the share is only a hint
        return {}
    maps = {value.name: _dims(value)[2:] for value in (*inferred.value_info, *inferred.output)}
    macs = {}
    for node in nodes:
        sizes = maps.get(node.outputs[0]) if node.outputs else None
        weights = constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if node.op in ("Conv", "Gemm", "MatMul") and weights is not None and sizes is not None:
            macs[node.index] = weights.size * prod(size or 0 for size in sizes)
    return macs


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _constants(graph: Any) -> dict[str, Array]:
    constants = {tensor.name: _array(tensor, tensor.name) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            constants[node.output[0]] = _constant_value(node)
    return constants


def _constant_value(node: Any) -> Array:
    from onnx.helper import get_attribute_value

    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    for attribute in node.attribute:
        value = get_attribute_value(attribute)
        if attribute.name == "value":
            return _array(value, node.output[0])
        if attribute.name in kinds and np.asarray(value).dtype.kind in "if":
            return np.asarray(value, kinds[attribute.name])
    raise WorkloadError(f"Constant node of tensor {node.output[0]!r} holds no dense number or tensor")


def _array(tensor: Any, name: str) -> Array:
    """Return the tensor's values; floats of any width become float32."""
    from onnx import numpy_helper

    try:
        values: Array = np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:
        raise WorkloadError(f"tensor {name!r} cannot be read: {_first_line(error)}") from error
    if values.dtype.kind in "iub":
        return values
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise WorkloadError(f"tensor {name!r} holds values that are not finite float32 numbers")
    return values


def _nodes(graph: Any) -> list[OnnxNode]:
    """Return all nodes but Constants, under names that are unique: the file's, else operator and position."""
    used = Counter(node.name for node in graph.node)
    return [
        _node(node, index, node.name if node.name and used[node.name] == 1 else _fresh(node.op_type, index, used))
        for index, node in enumerate(graph.node)
        if node.op_type != "Constant"
    ]


def _fresh(op: str, index: int, used: Mapping[str, int]) -> str:
    name = f"{op.lower()}{index}"
    while used.get(name):
        name += "_"
    return name


def _node(proto: Any, index: int, name: str) -> OnnxNode:
    from onnx.helper import get_attribute_value

    op = proto.op_type if proto.domain in STANDARD_DOMAINS else f"{proto.domain}.{proto.op_type}"
    attributes = {attribute.name: get_attribute_value(attribute) for attribute in proto.attribute}
    return OnnxNode(index, name, op, tuple(proto.input), tuple(proto.output), attributes)


def _needed(nodes: list[OnnxNode], outputs: set[str]) -> tuple[OnnxNode, ...]:
    """Return the nodes the outputs depend on; files often carry branches that were only used in training."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return tuple(reversed(kept))


def _only(values: Any, what: str) -> Any:
    if len(values) != 1:
        names = ", ".join(value.name for value in values) or "none"
        raise WorkloadError(f"needs exactly one {what}, got {len(values)}: {names}")
    return values[0]


def _dims(value: Any) -> list[int | None]:
    """Return the declared axes; None for a symbolic one."""
    return [axis.dim_value if axis.HasField("dim_value") else None for axis in value.type.tensor_type.shape.dim]


def _input_shape(value: Any) -> tuple[int | None, Shape]:
    dims = _dims(value)
    shape = tuple(size for size in dims[1:] if size is not None)
    written = "x".join("?" if size is None else str(size) for size in dims) or "none"
    if len(dims) not in (2, 4) or len(shape) != len(dims) - 1 or min(shape) < 1 or dims[0] == 0:
        rule = "must have the shape (N, C, H, W) or (N, C), sizes at least 1 and only N symbolic"
        raise WorkloadError(f"input {value.name!r} {rule}, got {written}")
    return dims[0], shape


def _declared(value: Any) -> Shape | None:
    dims = _dims(value)[1:]
    shape = tuple(size for size in dims if size is not None)
    return shape if dims and len(shape) == len(dims) else None
