"""What exporters write in several nodes: response normalisation by pooling, and inputs whose channels come last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archsim.errors import WorkloadError
from archsim.workload.assemble import as_map
from archsim.workload.draft import Draft
from archsim.workload.layers import Lrn
from archsim.workload.onnx_node import OnnxNode

LRN_BY_POOLING = "LRN by pooling"
"""Operator name of a found response normalisation; no file can hold it, operators there are identifiers."""

CHANNELS_FIRST = [0, 3, 1, 2]
SHAPE_ONLY = ("Identity", "If", "Reshape", "Squeeze")
LRN_CHAIN = ("Pow", "Add", "Mul", "AveragePool", "Pad", "Reshape", "Mul")
KEEPS_LAYOUT = ("Add", "Div", "Identity", "Mul", "Sub")
Makers = Mapping[str, OnnxNode]


def with_lrn(nodes: Sequence[OnnxNode]) -> list[OnnxNode]:
    """Return the nodes with x / (k + alpha * mean of x^2 over channels)^beta as one node each.

    PyTorch's LocalResponseNorm is exported like that. The nodes between stay and are not needed any more.
    """
    makers = {output: node for node in nodes for output in node.outputs}
    return [_lrn_node(node, makers) or node for node in nodes]


def _lrn_node(div: OnnxNode, makers: Makers) -> OnnxNode | None:
    """Return the node that takes x, beta, k, alpha, the pads and the shape of x^2; None if `div` ends no such chain."""
    if div.op != "Div" or len(div.inputs) != 2:
        return None
    x, power = div.inputs
    chain = _chain(power, div, makers)
    if chain is None or chain[-1].inputs != (x, x):
        return None
    *_, pool, pad, _, _ = chain
    if pad.attributes.get("mode", b"constant") != b"constant" or any(pad.inputs[2:]):
        return None
    given = tuple(node.inputs[1] for node in chain[:-1] if node is not pool)
    return OnnxNode(div.index, div.name, LRN_BY_POOLING, (x, *given), div.outputs, pool.attributes)


def _chain(tensor: str, reader: OnnxNode, makers: Makers) -> list[OnnxNode] | None:
    """Return the nodes of LRN_CHAIN that lead to `tensor`, last first; changes of shape in between are left out."""
    found: list[OnnxNode] = []
    for op in LRN_CHAIN:
        node = _maker(tensor, reader, makers)
        while node is not None and node.op != op and node.op in SHAPE_ONLY:
            node = _maker(_source(node), node, makers)
        if node is None or node.op != op or len(node.inputs) < (1 if op == "AveragePool" else 2):
            return None
        found.append(node)
        tensor, reader = node.inputs[0], node
    return found


def _maker(tensor: str, reader: OnnxNode, makers: Makers) -> OnnxNode | None:
    """Return the node that makes `tensor`; None if it stands behind its reader, as in files that are not valid."""
    node = makers.get(tensor)
    return node if node is not None and node.index < reader.index else None


def _source(node: OnnxNode) -> str:
    """Return the tensor whose shape is changed; PyTorch writes a squeeze of an unknown axis as an If with branches."""
    if node.op != "If":
        return "".join(node.inputs[:1])
    branch = node.attributes.get("then_branch")
    squeezed = [inner for inner in getattr(branch, "node", ()) if inner.op_type == "Squeeze"]
    return str(squeezed[0].input[0]) if squeezed and squeezed[0].input else ""


def lrn_by_pooling(node: OnnxNode, draft: Draft) -> None:
    """Response normalisation as found by `with_lrn`."""
    source = draft.tensor(node.inputs[0])
    C, H, W = as_map(draft.shapes[source])
    beta, k, alpha = (_scalar(node, draft, position) for position in (1, 2, 3))
    pads, shape = draft.constant(node.inputs, 4, "pads"), draft.sizes(node.inputs, 5, "shape")
    window = [int(size) for size in node.attributes.get("kernel_shape", ())]
    half = window[0] // 2 if window else 0
    expected = [[2 * half + 1, 1, 1], [0, 0, half, 0, 0] * 2, [1, C, H, W]]
    rest = [W if size == -1 else size for size in shape[1:]]
    got = [window, [] if pads is None else pads.reshape(-1).tolist(), rest]
    if got != expected or not _plain(node):
        raise WorkloadError(
            f"a response normalisation must average an odd number of channels around each, with zeros outside: "
            f"expected window, pads and shape {expected}, got {got}"
        )
    draft.add(
        Lrn(name=node.name, inputs=(source,), output=node.outputs[0], size=window[0], alpha=alpha, beta=beta, bias=k)
    )


def _scalar(node: OnnxNode, draft: Draft, position: int) -> float:
    values = draft.constant(node.inputs, position, "constant")
    if values is None or values.size != 1:
        raise WorkloadError(f"constant {node.inputs[position]!r} of a response normalisation must be one number")
    return float(values.reshape(-1)[0])


def _plain(node: OnnxNode) -> bool:
    """True if the averaging window moves by one and is neither spread nor padded."""
    moves = {*node.attributes.get("strides", ()), *node.attributes.get("dilations", ())}
    return moves <= {1} and not any(node.attributes.get("pads", ()))


def channels_come_last(source: str, output: str, nodes: Sequence[OnnxNode]) -> bool:
    """True if every use of the input moves its last axis to the front, at most after constants are applied to it.

    TensorFlow's images are (N, H, W, C); converters begin with a Transpose to (N, C, H, W).
    """
    last, moved = {source}, False
    for node in nodes:
        if node.op == "Shape" or not last.intersection(node.inputs):
            continue
        if node.op == "Transpose" and node.attributes.get("perm") == CHANNELS_FIRST:
            moved = True
        elif node.op in KEEPS_LAYOUT:
            last.update(node.outputs)
        else:
            return False
    return moved and output not in last
