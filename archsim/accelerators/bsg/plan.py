"""Groups of layers, partitions, and the plan of a layer: which slices it has and where its words come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from archsim.accelerators.base import Placement, Plan
from archsim.accelerators.bsg.config import BsgConfig
from archsim.workload.layers import Conv, Layer, Linear
from archsim.workload.params import Array

Extents = tuple[int, ...]


@dataclass(frozen=True)
class BsgPlacement(Placement):
    """`partitions`: how often a group is run through per image; `reads_base`: the base vector is read before it."""

    partitions: int = 1
    reads_base: bool = False


@dataclass(frozen=True)
class BsgPlan(Plan):
    """Slices of one layer: their sizes along each axis, filters outermost.

    `code_words`: words of a slice's code vector, 0 where slices are loaded. `reloaded`: loaded slices are read from
    DRAM in every partition, else once. `affine_words`: scale and bias. `base_words`: read before the layer.
    """

    partitions: int
    positions: int
    filters: Extents
    channels: Extents
    rows: Extents
    columns: Extents
    code_words: int
    base_words: int
    reloaded: bool
    affine_words: int
    ifmap_words: int
    ofmap_words: int

    @property
    def slices(self) -> int:
        """Slices of the layer."""
        return len(self.filters) * len(self.channels) * len(self.rows) * len(self.columns)

    @property
    def weights(self) -> int:
        """Weights of the layer."""
        return sum(self.filters) * sum(self.channels) * sum(self.rows) * sum(self.columns)

    @property
    def visits(self) -> int:
        """How often the layer is run through per batch."""
        return self.batch * self.partitions

    @property
    def read_words(self) -> int:
        """Words of parameters read from DRAM per batch."""
        slices = self.slices * self.code_words or self.weights * (self.visits if self.reloaded else 1)
        return slices + self.base_words + self.affine_words

    def describe(self) -> dict[str, int | str]:
        """Return the fields of the mapping."""
        return {
            "batch": self.batch,
            "partitions": self.partitions,
            "slices": self.slices,
            "weights": "generated" if self.code_words else "loaded",
            "parameter_words_read": self.read_words,
            "ifmap_words_read": self.batch * self.ifmap_words,
            "ofmap_words_written": self.batch * self.ofmap_words,
        }


def slice_sizes(plan: BsgPlan) -> tuple[Array, Array]:
    """Return filters and taps (channels * rows * columns) of every slice in order, int64 (slices,)."""
    axes = np.meshgrid(plan.filters, plan.channels, plan.rows, plan.columns, indexing="ij")
    filters, channels, rows, columns = (axis.reshape(-1).astype(np.int64) for axis in axes)
    return filters, channels * rows * columns


def part(total: int, parts: int, index: int) -> int:
    """Return the size of one of `parts` pieces of `total` that differ by one at most."""
    return total * (index + 1) // parts - total * index // parts


def partition_sizes(plan: BsgPlan) -> Counter[int]:
    """Return how many partitions of an image have how many output positions."""
    return Counter(part(plan.positions, plan.partitions, index) for index in range(plan.partitions))


def as_conv(layer: Layer) -> Conv:
    """Return the convolution the array runs: a Linear is 1 x 1 over a 1 x 1 map."""
    if isinstance(layer, Conv):
        return layer
    assert isinstance(layer, Linear)
    return Conv(
        name=layer.name, inputs=layer.inputs, output=layer.output, N=layer.N, activation=layer.activation,
        C=layer.C, M=layer.M, H=1, W=1, R=1, S=1,
    )  # fmt: skip


def plan_layer(
    config: BsgConfig, layer: Layer, placement: BsgPlacement, *, generated: bool, able: bool, affine_words: int
) -> BsgPlan:
    """Return the plan of a layer; `able`: it could be generated, so the baseline reloads it in every partition."""
    conv = as_conv(layer)
    shape = (conv.M, conv.C // conv.groups, conv.R, conv.S)
    filters, channels, rows, columns = (_cut(size, most) for size, most in zip(shape, config.slice_shape))
    return BsgPlan(
        batch=conv.N,
        partitions=min(placement.partitions, conv.P * conv.Q),
        positions=conv.P * conv.Q,
        filters=filters,
        channels=channels,
        rows=rows,
        columns=columns,
        code_words=config.code_words if generated else 0,
        base_words=config.code_words if placement.reads_base else 0,
        reloaded=able,
        affine_words=affine_words,
        ifmap_words=0 if "ifmap" in placement.chip else conv.C * conv.H * conv.W,
        ofmap_words=0 if "ofmap" in placement.chip else conv.M * conv.P * conv.Q,
    )


def _cut(size: int, most: int) -> Extents:
    """Return the sizes of pieces of at most `most`."""
    return tuple(min(most, size - first) for first in range(0, size, most))


def place_layers(config: BsgConfig, layers: Sequence[Layer], reads_base: bool) -> dict[str, Placement]:
    """Cut the run of layers into groups: only the map between two groups leaves the chip, and is read again.

    A Linear works on what the group before it left: its maps stay on chip. The base vector comes first.
    """
    convs = [layer for layer in layers if isinstance(layer, Conv)]
    borders = group_borders(convs)
    placed: dict[str, Placement] = {
        layer.name: BsgPlacement(frozenset({"ifmap", "ofmap"}), "fc") for layer in layers if isinstance(layer, Linear)
    }
    for number, (first, end) in enumerate(pairwise([*borders, len(convs)])):
        group = convs[first:end]
        partitions = max(-(-layer.M * layer.P * layer.Q // config.partition_words) for layer in group)
        for layer in group:
            chip = {"ifmap"} if layer is not group[0] else set[str]()
            chip |= {"ofmap"} if layer is not group[-1] else set()
            placed[layer.name] = BsgPlacement(frozenset(chip), f"group {number + 1}", partitions)
    if layers and reads_base:
        head = placed[layers[0].name]
        assert isinstance(head, BsgPlacement)
        placed[layers[0].name] = BsgPlacement(head.chip, head.group, head.partitions, True)
    return placed


def group_borders(convs: Sequence[Conv]) -> list[int]:
    """Return the indices of the layers that begin a group: those that shrink the map, and the first.

    Where a layer that widens the map stands in front of one that shrinks it, the border goes before it: there the map
    is smaller.
    """
    borders = [0] if convs else []
    for index, layer in enumerate(convs):
        if max(layer.stride) == 1:
            continue
        while index and _widens(convs[index - 1], convs[index]):
            index -= 1
        if index > borders[-1]:
            borders.append(index)
    return borders


def _widens(before: Conv, layer: Conv) -> bool:
    """Return whether `layer` reads the ofmap of `before`, and that is larger than what `before` reads."""
    return before.output == layer.inputs[0] and before.M * before.P * before.Q > before.C * before.H * before.W
