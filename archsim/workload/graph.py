"""A network: layers in topological order over named tensors, and the only loop over nodes in the project."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from archsim.workload.layers import Layer, OpStream

FloatArray = npt.NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class FloatParams:
    """Weights as imported (fp32). Conv: weights (M, C/groups, R, S); Linear: (M, C); bias (M,).

    `unfolded` and `channel_scale` (M,) hold the weights before batch normalisation was folded in, and the factor
    g/sqrt(var+eps), for machines that cannot scale theirs; `weights = unfolded * channel_scale`.
    BatchNorm layers: `weights` is the scale (C,) and `bias` the shift (C,).
    """

    weights: FloatArray
    bias: FloatArray | None = None
    unfolded: FloatArray | None = None
    channel_scale: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes in topological order with named tensors; `params` is empty for a shape-only network.

    `shapes` maps a tensor name to its shape without the batch axis. `non_negative` names the tensors that cannot be
    below zero by construction. `input_norm` (scale, shift per channel) is host pre-processing in fp32, not simulated.
    `zero_fractions` are stated by a shape-only network: layer -> (ifmap, ofmap); None where it states nothing.
    """

    name: str
    layers: tuple[Layer, ...]
    input: str
    output: str
    shapes: Mapping[str, tuple[int, ...]]
    params: Mapping[str, FloatParams] = field(default_factory=dict)
    non_negative: frozenset[str] = frozenset()
    input_norm: FloatParams | None = None
    zero_fractions: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    workload_hash: str = ""
    notes: tuple[str, ...] = ()

    @property
    def shape_only(self) -> bool:
        """True if layers have weights, but nobody gave them: such a network is timed, but cannot compute anything."""
        return not self.params and any(layer.weight_count for layer in self.layers)

    @property
    def macs_dense(self) -> int:
        """Dense MACs of one image."""
        return sum(layer.macs_dense // layer.N for layer in self.layers)

    @property
    def weight_count(self) -> int:
        """Trained weights of all layers, without biases."""
        return sum(layer.weight_count for layer in self.layers)

    @property
    def makes_pictures(self) -> bool:
        """True if the output is a picture, judged by its likeness to the exact one, not by a label."""
        return any(isinstance(layer, OpStream) and layer.output == self.output for layer in self.layers)

    def with_batch(self, batch: int) -> Network:
        """Return the network with N = `batch` in every layer."""
        return replace(self, layers=tuple(replace(layer, N=batch) for layer in self.layers))


def walk(network: Network, inputs: T, compute: Callable[[Layer, tuple[T, ...]], T]) -> T:
    """Run `compute(layer, input tensors)` over all nodes in order and return the network's output tensor.

    A tensor is dropped after its last consumer, so memory holds the live tensors only.
    """
    readers = Counter(name for layer in network.layers for name in layer.inputs)
    readers[network.output] += 1
    live = {network.input: inputs}
    for layer in network.layers:
        live[layer.output] = compute(layer, tuple(live[name] for name in layer.inputs))
        for name in layer.inputs:
            readers[name] -= 1
            if not readers[name]:
                live.pop(name, None)
    return live[network.output]
