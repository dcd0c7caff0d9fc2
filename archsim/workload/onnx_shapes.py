"""Shape arithmetic: what an ONNX file computes from shapes and constants alone is evaluated at import.

The batch N stays symbolic: everything is evaluated for two batch sizes, and what is equal for both does not depend on
N. The arithmetic itself is onnx's reference evaluator.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archsim.errors import WorkloadError
from archsim.workload.draft import BATCHES, Draft
from archsim.workload.onnx_node import OnnxNode
from archsim.workload.params import Array

DATA = np.zeros(0, np.float32)
"""Stands for a computed tensor where a node asks for its type only."""


def evaluate(node: OnnxNode, draft: Draft) -> None:
    """Make the outputs of a node that `folds` known to the draft. Raises: WorkloadError if onnx cannot evaluate it."""
    outputs = [name for name in node.outputs if name]
    if node.inputs and node.inputs[0] not in draft and node.op == "Shape":
        draft.learn(outputs[0], [_dims(node, draft, N) for N in BATCHES])
    elif draft.per_batch.keys() & set(node.inputs):
        runs = [_run(node, outputs, draft, batch) for batch in range(len(BATCHES))]
        for position, name in enumerate(outputs):
            draft.learn(name, [run[position] for run in runs])
    else:
        draft.constants.update(zip(outputs, _run(node, outputs, draft, 0), strict=True))


def _dims(node: OnnxNode, draft: Draft, N: int) -> Array:
    """Return the shape of a computed tensor as the file sees it, or the part a Shape node asks for."""
    name = node.inputs[0]
    shape = draft.shapes[draft.tensor(name)]
    shape = (*shape[1:], shape[0]) if name in draft.channel_last else shape
    return np.asarray((N, *shape)[node.attributes.get("start", 0) : node.attributes.get("end")], np.int64)


def _run(node: OnnxNode, outputs: Sequence[str], draft: Draft, batch: int) -> list[Array]:
    """Return the node's outputs for the batch size number `batch`."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    given = {name: draft.known(name, batch) if name in draft else DATA for name in node.inputs if name}
    try:
        proto = helper.make_node(node.op, node.inputs, node.outputs, **node.attributes)
        ends = [[helper.make_empty_tensor_value_info(name) for name in names] for names in (given, outputs)]
        graph = helper.make_graph([proto], "node", ends[0], ends[1])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", draft.opset)])
        with np.errstate(all="raise"):
            return [np.asarray(values) for values in ReferenceEvaluator(model).run(outputs, given)]
    except Exception as error:  # the evaluator raises whatever NumPy and its own checks raise
        raise WorkloadError(f"cannot be evaluated at import: {str(error) or type(error).__name__}") from error
