"""One operator of an ONNX file, and which operators can be evaluated at import."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

FOLDABLE = frozenset((
    "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Flatten",
    "Floor", "Gather", "Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow",
    "Reciprocal", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Slice", "Split", "Sqrt",
    "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
))  # fmt: skip
"""Operators that are evaluated where they depend on constants and shapes only."""


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """One operator: `index` is its position in the file, `name` is unique in the network."""

    index: int
    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def place(self) -> str:
        """Return how messages call the node."""
        return f"node {self.name!r} (number {self.index}, {self.op})"

    def folds(self, known: Container[str]) -> bool:
        """True if the node needs no data: it takes a shape or a type, or computes with the `known` tensors only."""
        values = self.inputs[:1] if self.op == "CastLike" else self.inputs
        given = all(not name or name in known for name in values)
        return self.op == "Shape" or (given and self.op in FOLDABLE)

    @property
    def quantised(self) -> bool:
        """True if the operator computes with, or converts to or from, integer codes."""
        op = self.op.rsplit(".", 1)[-1]
        return op.startswith(("Quantize", "Dequantize", "DynamicQuantize", "QLinear", "QGemm")) or op.endswith(
            "Integer"
        )
