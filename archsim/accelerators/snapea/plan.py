"""The mapping of one layer: how its windows are cut into portions, and which PE works on which kernels.

A portion is a rectangle of output windows of one image, with the input they read. Portions go to the rows of PEs in
turn, kernels to the columns in turn: PE (h, v) runs portions h, h + rows, ... with kernels v, v + columns, ...
Source: V. Akhlaghi, UC San Diego 2020, section 3.6; sizes of portions are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from archsim.accelerators.base import Plan
from archsim.accelerators.snapea.config import SnapeaConfig
from archsim.errors import MappingError
from archsim.workload.layers import Conv, Layer, Linear
from archsim.workload.params import Array


@dataclass(frozen=True)
class SnapeaPlan(Plan):
    """Portions of `portion_rows` x `portion_columns` windows; the array works on `pe_rows` of them per turn.

    `kernel_weights`: weights of every kernel as they are streamed (dropped zeros do not count); `threshold_words`: two
    for every kernel that speculates, else 0.
    """

    pe_rows: int
    lanes: int
    portion_rows: int
    portion_columns: int
    portions: int
    turns: int
    kernel_weights: tuple[int, ...]
    threshold_words: tuple[int, ...]
    ifmap_on_chip: bool
    ofmap_on_chip: bool

    def describe(self) -> dict[str, int | str]:
        """Return the fields of the mapping; the weights are those of all kernels."""
        return {
            "batch": self.batch,
            "lanes": self.lanes,
            "portion_rows": self.portion_rows,
            "portion_columns": self.portion_columns,
            "portions": self.portions,
            "turns": self.turns,
            "streamed_weights": sum(self.kernel_weights),
            "threshold_words": sum(self.threshold_words),
            "ifmap_on_chip": int(self.ifmap_on_chip),
            "ofmap_on_chip": int(self.ofmap_on_chip),
        }


class Portions(NamedTuple):
    """The portions of one batch in the order they are dealt out, int64 arrays (portions,).

    Windows [row, row_end) x [column, column_end) of `image`; `groups` of lanes in it.
    """

    image: Array
    row: Array
    row_end: Array
    column: Array
    column_end: Array
    groups: Array


def as_conv(layer: Layer) -> Conv:
    """Return the convolution the array runs: a Linear is 1 x 1 over a 1 x 1 map, one window per image."""
    if isinstance(layer, Conv):
        return layer
    assert isinstance(layer, Linear)
    return Conv(
        name=layer.name, inputs=layer.inputs, output=layer.output, N=layer.N, activation=layer.activation,
        C=layer.C, M=layer.M, H=1, W=1, R=1, S=1,
    )  # fmt: skip


def row_groups(conv: Conv, lanes: int) -> int:
    """Return the groups of one output row; the last one may have lanes without a window."""
    return -(-conv.Q // lanes)


def input_extent(windows: int, kernel: int, stride: int, dilation: int, size: int) -> int:
    """Return how many of `size` input rows (or columns) so many adjacent windows span at most."""
    return min(size, (windows - 1) * stride + (kernel - 1) * dilation + 1)


def portion_words(conv: Conv, rows: int, columns: int) -> int:
    """Return the input words of a portion, all channels; padding is no data."""
    height = input_extent(rows, conv.R, conv.stride[0], conv.dilation[0], conv.H)
    return conv.C * height * input_extent(columns, conv.S, conv.stride[1], conv.dilation[1], conv.W)


@lru_cache(maxsize=256)
def portions_of(conv: Conv, plan: SnapeaPlan) -> Portions:
    """Return all portions of one batch, images outermost, then rows, then columns."""
    return cut_portions(conv, plan.lanes, plan.portion_rows, plan.portion_columns)


def cut_portions(conv: Conv, lanes: int, portion_rows: int, portion_columns: int) -> Portions:
    """Return the portions of one batch for a size of portions."""
    rows, columns = np.arange(0, conv.P, portion_rows), np.arange(0, conv.Q, portion_columns)
    image, row, column = (axis.reshape(-1) for axis in np.meshgrid(np.arange(conv.N), rows, columns, indexing="ij"))
    row_end, column_end = np.minimum(row + portion_rows, conv.P), np.minimum(column + portion_columns, conv.Q)
    groups = (row_end - row) * -(-(column_end - column) // lanes)
    return Portions(image, row, row_end, column, column_end, groups)


def choose_portions(config: SnapeaConfig, conv: Conv) -> tuple[int, int]:
    """Return (rows, columns) of a portion: the busiest row of PEs gets as few groups, the array as few turns as can be.

    Columns are cut only where full rows do not fit, at a multiple of the lanes, so that no group is torn apart.
    Raises: MappingError if not even one group of windows fits the I/O RAM of a row.
    """
    candidates = [
        (rows, columns) for rows in range(1, conv.P + 1) if (columns := _columns_that_fit(config, conv, rows))
    ]
    if not candidates:
        words = portion_words(conv, 1, min(config.lanes, conv.Q))
        raise MappingError(
            f"layer {conv.name!r}: input words of one group of windows within a row of PEs "
            f"(io_capacity {config.io_capacity}): got {words}, limit {config.row_words}"
        )
    return min(candidates, key=lambda size: _busiest(config, conv, *size))


def _columns_that_fit(config: SnapeaConfig, conv: Conv, rows: int) -> int:
    """Return the widest cut of an output row so that portions of `rows` rows fit, whole if possible; 0 if none does."""
    groups = row_groups(conv, config.lanes)
    for cuts in range(1, groups + 1):
        columns = min(conv.Q, -(-groups // cuts) * config.lanes)
        if portion_words(conv, rows, columns) <= config.row_words:
            return columns
    return 0


def _busiest(config: SnapeaConfig, conv: Conv, rows: int, columns: int) -> tuple[int, int, int]:
    """Return (groups of the busiest row of PEs, turns, portions)."""
    portions = cut_portions(conv, config.lanes, rows, columns)
    count = len(portions.groups)
    loads = np.bincount(np.arange(count) % config.pe_rows, portions.groups, config.pe_rows)
    return int(loads.max()), -(-count // config.pe_rows), count
