"""A network while it is being imported: layers, float64-exact parameters and tensor shapes, not yet folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from archsim.errors import WorkloadError
from archsim.workload.assemble import Shape, layer_shape
from archsim.workload.graph import FloatParams
from archsim.workload.layers import Layer
from archsim.workload.params import Array

Exact = npt.NDArray[np.float64]

BATCHES = (101, 103)
"""Batch sizes that shape arithmetic is evaluated for; primes no network has as a size of its own."""


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
    """Layers so far; `shapes` (C, H, W) of every tensor; `alias` maps removed tensors to kept ones.

    `per_batch` holds what shape arithmetic gives for each of BATCHES where it depends on N. `channel_last` names the
    tensors of the file that are (N, H, W, C) there.
    """

    constants: dict[str, Array]
    opset: int
    batch: int | None
    shapes: dict[str, Shape]
    channel_last: set[str] = field(default_factory=set)
    per_batch: dict[str, Sequence[Array]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
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
        what = "is a constant" if name in self else "does not exist"
        raise WorkloadError(f"input {name!r} must be computed from the network's input, it {what}")

    def __contains__(self, name: object) -> bool:
        """True if `name` is a constant or was computed from shapes and constants alone."""
        return name in self.constants or name in self.per_batch

    def known(self, name: str, batch: int) -> Array:
        """Return the values of a tensor the draft knows, for number `batch` of BATCHES."""
        return self.constants[name] if name in self.constants else self.per_batch[name][batch]

    def learn(self, name: str, values: Sequence[Array]) -> None:
        """Keep what was computed for each of BATCHES: a constant if all are equal."""
        if all(np.array_equal(values[0], other) for other in values[1:]):
            self.constants[name] = values[0]
        else:
            self.per_batch[name] = values

    def constant(self, inputs: Sequence[str], position: int, what: str) -> Array | None:
        """Return the constant at `position` of a node's inputs, None if left out. Raises: WorkloadError if computed."""
        name = inputs[position] if position < len(inputs) else ""
        if not name:
            return None
        if name not in self.constants:
            how = "depends on the batch size" if name in self.per_batch else "is computed"
            raise WorkloadError(f"{what} {name!r} must be a constant of the file, it {how}")
        return self.constants[name]

    def sizes(self, inputs: Sequence[str], position: int, what: str) -> list[int | None]:
        """Return the integers at `position` of a node's inputs, None where one is N; empty if left out.

        Raises: WorkloadError if they are computed from data or depend on N in another way.
        """
        values = self.per_batch.get(inputs[position]) if position < len(inputs) else None
        if values is None:
            given = self.constant(inputs, position, what)
            return [] if given is None else [int(size) for size in given.reshape(-1)]
        pairs = list(zip(*(sizes.reshape(-1).tolist() for sizes in values), strict=False))
        odd = [pair for pair in pairs if pair != BATCHES and pair[0] != pair[1]]
        if odd or len({sizes.size for sizes in values}) > 1:
            raise WorkloadError(f"{what} {inputs[position]!r} must hold numbers and N, got {pairs} for N = {BATCHES}")
        return [None if pair == BATCHES else int(pair[0]) for pair in pairs]
