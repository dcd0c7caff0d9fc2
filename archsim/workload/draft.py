"""A network while it is being imported: layers, float64-exact parameters and tensor shapes, not yet folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from archsim.errors import WorkloadError
from archsim.workload.assemble import Shape, layer_shape
from archsim.workload.graph import FloatParams
from archsim.workload.layers import Layer

Exact = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ExactParams:
    """Parameters in float64 while batch normalisations are folded in; meaning of the fields as in FloatParams."""

    weights: Exact
    bias: Exact | None = None
    unfolded: Exact | None = None
    channel_scale: Exact | None = None

    def rounded(self) -> FloatParams:
        """Return the parameters in float32."""
        return FloatParams(
            self.weights.astype(np.float32),
            *(None if a is None else a.astype(np.float32) for a in (self.bias, self.unfolded, self.channel_scale)),
        )


@dataclass
class Draft:
    """Layers so far; `shapes` of every tensor without the batch axis; `alias` maps removed tensors to kept ones."""

    constants: Mapping[str, npt.NDArray[np.generic]]
    opset: int
    batch: int | None
    shapes: dict[str, Shape]
    layers: list[Layer] = field(default_factory=list)
    params: dict[str, ExactParams] = field(default_factory=dict)
    alias: dict[str, str] = field(default_factory=dict)

    def add(self, layer: Layer, params: ExactParams | None = None) -> None:
        """Append a layer after checking that its inputs have shapes it can work on."""
        self.shapes[layer.output] = layer_shape(layer, [self.shapes[tensor] for tensor in layer.inputs])
        self.layers.append(layer)
        if params is not None:
            self.params[layer.name] = params

    def drop(self, output: str, source: str) -> None:
        """Let `output` be another name of the tensor `source`."""
        self.alias[output] = source
        self.shapes[output] = self.shapes[source]

    def tensor(self, name: str) -> str:
        """Return the tensor behind `name`. Raises: WorkloadError if it is a constant or unknown."""
        kept = self.alias.get(name, name)
        if kept in self.shapes:
            return kept
        what = "is a constant" if name in self.constants else "does not exist"
        raise WorkloadError(f"input {name!r} must be computed from the network's input, it {what}")

    def constant(self, inputs: Sequence[str], position: int, what: str) -> npt.NDArray[np.generic] | None:
        """Return the constant at `position` of a node's inputs, None if left out. Raises: WorkloadError if computed."""
        name = inputs[position] if position < len(inputs) else ""
        if not name:
            return None
        if name not in self.constants:
            raise WorkloadError(f"{what} {name!r} must be a constant of the file, it is computed")
        return self.constants[name]
