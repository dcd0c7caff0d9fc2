"""ONNX import: a file with trained weights becomes a Network, with everything folded that machines do not execute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from archsim.errors import WorkloadError
from archsim.workload import onnx_layers, onnx_maps
from archsim.workload.assemble import assemble
from archsim.workload.draft import Draft
from archsim.workload.folding import fold, fold_input_norm, take_input_norm
from archsim.workload.graph import Network
from archsim.workload.onnx_file import OnnxGraph, read_onnx
from archsim.workload.onnx_node import OnnxNode
from archsim.workload.onnx_patterns import LRN_BY_POOLING, channels_come_last, lrn_by_pooling
from archsim.workload.onnx_shapes import evaluate

Converter = Callable[[OnnxNode, Draft], None]

OPERATORS: Mapping[str, Converter] = {
    "Add": onnx_layers.add,
    "AveragePool": onnx_maps.average_pool,
    "BatchNormalization": onnx_layers.batch_norm,
    "Clip": onnx_layers.clip,
    "Concat": onnx_layers.concat,
    "Conv": onnx_layers.conv,
    "Div": onnx_layers.div,
    "Dropout": onnx_maps.dropout,
    "Flatten": onnx_maps.flatten,
    "Gemm": onnx_layers.gemm,
    "GlobalAveragePool": onnx_maps.global_average_pool,
    "GlobalMaxPool": onnx_maps.global_max_pool,
    "Identity": onnx_maps.identity,
    "LRN": onnx_maps.lrn,
    "MatMul": onnx_layers.matmul,
    "MaxPool": onnx_maps.max_pool,
    "Mul": onnx_layers.mul,
    "Pad": onnx_maps.pad,
    "ReduceMax": onnx_maps.reduce_max,
    "ReduceMean": onnx_maps.reduce_mean,
    "Relu": onnx_layers.relu,
    "Reshape": onnx_maps.reshape,
    "Sigmoid": onnx_layers.sigmoid,
    "Softmax": onnx_maps.softmax,
    "Squeeze": onnx_maps.squeeze,
    "Sub": onnx_layers.sub,
    "Tanh": onnx_layers.tanh,
    "Transpose": onnx_maps.transpose,
    "Unsqueeze": onnx_maps.unsqueeze,
}


def import_onnx(path: Path, *, fold_input: bool = False) -> Network:
    """Return the network of an ONNX file; `fold_input` folds the input's normalisation into the first convolution.

    The normalisation of the input becomes `Network.input_norm`; then the network's input is the normalised tensor.
    Raises: WorkloadError naming file, node and rule.
    """
    graph = read_onnx(path, OPERATORS)
    draft = _draft(graph)
    try:
        return _finish(graph, draft, path.stem, fold_input)
    except WorkloadError as error:
        raise WorkloadError(f"{graph.file}: {error}") from None


def _draft(graph: OnnxGraph) -> Draft:
    """Convert all nodes; errors name the node."""
    draft = Draft(dict(graph.constants), graph.opset, graph.batch, {graph.input: graph.input_shape})
    if len(graph.input_shape) == 3 and channels_come_last(graph.input, graph.output, graph.nodes):
        H, W, C = graph.input_shape
        draft.shapes[graph.input] = (C, H, W)
        draft.channel_last.add(graph.input)
    for node in graph.nodes:
        try:
            _convert(node, draft)
        except WorkloadError as error:
            raise WorkloadError(f"{graph.file}: {node.place()}: {error}") from None
    return draft


def _convert(node: OnnxNode, draft: Draft) -> None:
    """Evaluate a node that needs no data, else add its layer."""
    if node.folds(draft):
        evaluate(node, draft)
    else:
        {**OPERATORS, LRN_BY_POOLING: lrn_by_pooling}[node.op](node, draft)


def _finish(graph: OnnxGraph, draft: Draft, name: str, fold_input: bool) -> Network:
    output = draft.tensor(graph.output)
    if not draft.layers:
        raise WorkloadError("the network has no layers")
    if graph.output_shape not in (None, draft.shapes[output]):
        raise WorkloadError(
            f"output {graph.output!r} is declared as {graph.output_shape}, its layers give {draft.shapes[output]}"
        )
    layers, params = fold(draft.layers, draft.params, output)
    norm, source, input_norm = take_input_norm(layers, graph.input, output), graph.input, None
    if norm is not None:
        layers.remove(norm)
        input_norm, source = params.pop(norm.name), norm.output
    if fold_input:
        if input_norm is None:
            raise WorkloadError("fold_input_norm: the network does not normalise its input, there is nothing to fold")
        params, input_norm = fold_input_norm(layers, params, input_norm, source), None
    return assemble(
        name,
        layers,
        {source: draft.shapes[graph.input]},
        output,
        params={name: exact.rounded() for name, exact in params.items()},
        input_norm=None if input_norm is None else input_norm.rounded(),
        non_negative=(source,) if fold_input else (),
        notes=tuple(draft.notes),
    )
