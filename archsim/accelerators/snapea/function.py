"""The ofmap of a layer and what its windows did: the PE's data rules over a block of images.

Weights int16, activations unsigned 16 bit, accumulator 48 bits that starts at the bias. A window may stop only where
every negative sum becomes 0 anyway: the layer ends in a ReLU and its ifmap cannot be negative. Other layers run dense.
Source: V. Akhlaghi, UC San Diego 2020, sections 3.3 and 3.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from archsim.accelerators.snapea.config import ACCUMULATOR_BITS, ACCUMULATOR_MAX, SnapeaConfig
from archsim.accelerators.snapea.kernel import LARGEST, STATS, Kernels, Place, run_block
from archsim.accelerators.snapea.order import SnapeaStored, Streams
from archsim.accelerators.snapea.plan import as_conv, row_groups
from archsim.errors import AccumulatorOverflowError
from archsim.kernels._blocks import gather_columns
from archsim.kernels._geometry import bias_or_zeros, conv_shape
from archsim.kernels.conv import row_blocks
from archsim.kernels.finish import FinishedOutput
from archsim.kernels.stepwise import overflow_possible
from archsim.workload.formats import Fixed
from archsim.workload.layers import Conv, Layer
from archsim.workload.nodes import activation_bounds
from archsim.workload.params import Accumulation, Array, LayerParams, requantise_shift
from archsim.workload.reference import reference

BLOCK_WINDOWS = 256
BLOCK_BYTES = 1 << 20
"""Columns of a block stay in a core's own cache (2 MB measured on); fewer windows make the vector loops short."""
CALL_PRODUCTS = 1 << 29
"""Products of one call of the kernel: about a tenth of a second, so that Ctrl-C is seen."""
TERMINATES = {"exact": "sign", "predictive": "sign and threshold"}


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the windows of k batches did.

    y: codes of the ofmap, or accumulators; group_op int32 (M, k, N*P, groups): steps of every group of lanes; stats
    int64 (k, M, STATS) of `kernel.py`; lost: for each batch the results above 0 that the threshold took away, as shares
    of the batch's largest result.
    """

    y: Array
    saturated_words: int
    group_op: Array
    stats: Array
    lost: tuple[Array, ...]


def termination(config: SnapeaConfig, layer: Layer, params: LayerParams) -> str:
    """Return what may stop a window of `layer`, or why nothing may ('off: ...')."""
    activation = as_conv(layer).activation
    if config.mode == "dense":
        return "off: mode dense"
    if activation.kind == "none" or activation.low != 0:
        return "off: no ReLU"
    return TERMINATES[config.mode] if params.x_non_negative else "off: signed ifmap"


def unsigned(x: Array, params: LayerParams) -> Array:
    """Return codes as the PE reads them: int32, never negative if the layer says so, whatever a memory flipped."""
    assert isinstance(params.format, Fixed)
    codes = x.astype(np.int32)
    return codes & ((1 << params.format.bits) - 1) if params.x_non_negative else codes


def compute_dense(layer: Layer, x: Array, params: LayerParams) -> tuple[Array, int]:
    """Return (y, saturated words) of a layer whose windows never stop.

    Raises: AccumulatorOverflowError naming layer and image.
    """
    done = reference(layer, unsigned(x, params), params, Accumulation(ACCUMULATOR_BITS))
    return done.y, done.saturated_words


def compute(config: SnapeaConfig, layer: Layer, batch: int, x: Array, stored: SnapeaStored) -> Outcome:
    """Run x, codes (k*N, C, H, W) or (k*N, C) of a layer whose windows may stop, N = `batch`.

    Raises: AccumulatorOverflowError naming layer and image.
    """
    conv = as_conv(layer)
    windows = Windows(conv, unsigned(x, stored.params))
    run = Pass(config, conv, stored, windows, batch)
    for block in windows.blocks():
        run.block(block)
    shape = (len(x), conv.M, conv.P, conv.Q) if isinstance(layer, Conv) else (len(x), conv.M)
    by_batch = (conv.M, len(x) // batch, batch * conv.P, -1)
    return Outcome(
        run.output.y.reshape(shape), run.output.saturated, run.group_op.reshape(by_batch), run.stats, run.lost_shares()
    )


class Block(NamedTuple):
    """Some kernels of one group and a block of whole output rows from `first_row` on, counted over all images.

    columns int32 (K*windows,): what the windows hold, a row per (c, r, s); overwritten by the next block.
    """

    filters: slice
    first_row: int
    windows: int
    columns: Array


class Windows:
    """All windows of a layer over its images, x int32 (images, C, H, W) or (images, C), in blocks that suit a cache."""

    def __init__(self, conv: Conv, x: Array) -> None:
        self.conv = conv
        maps = x.reshape(-1, conv.C, conv.H, conv.W)
        kernels = np.broadcast_to(np.int16(0), (conv.M, conv.C // conv.groups, conv.R, conv.S))
        self.shape = conv_shape(maps, kernels, conv.stride, conv.pad, conv.dilation, conv.groups)
        self.flat = np.ascontiguousarray(maps).reshape(-1)
        self.rows = len(maps) * conv.P
        self.block_rows = max(1, min(BLOCK_WINDOWS, BLOCK_BYTES // (4 * self.shape.K)) // conv.Q)

    @property
    def most(self) -> int:
        """Windows of the largest block."""
        return min(self.block_rows, self.rows) * self.conv.Q

    def blocks(self) -> Iterator[Block]:
        """Yield every window with every kernel once; calls of a kernel stay short."""
        shape, filters = self.shape, self.conv.M // self.conv.groups
        buffer = np.empty(shape.K * self.most, np.int32)
        for first, last in row_blocks(shape, self.block_rows, straddle=True):
            windows = (last - first) * shape.Q
            columns = buffer[: shape.K * windows]
            step = max(1, CALL_PRODUCTS // (shape.K * windows))
            for g in range(shape.groups):
                self.gather(g, first, last, columns)
                for m in range(g * filters, (g + 1) * filters, step):
                    yield Block(slice(m, min(m + step, (g + 1) * filters)), first, windows, columns)

    def gather(self, group: int, first: int, last: int, columns: Array) -> None:
        """Write what the windows of output rows [first, last) hold of one group, (K*windows,)."""
        channels = self.shape.C // self.shape.groups
        gather_columns(self.flat, group * channels, channels, *self.shape.kernel_arguments, first, last, columns)


class Pass:
    """One pass of a layer over its images, block by block; buffers are made once."""

    def __init__(self, config: SnapeaConfig, conv: Conv, stored: SnapeaStored, windows: Windows, batch: int) -> None:
        params, streams = stored.params, stored.extra
        assert params.weights is not None and streams is not None
        self.config, self.conv, self.batch_rows = config, conv, batch * conv.P
        largest = int(windows.flat.max(initial=0))
        overflows = overflow_possible(largest, params.weights, params.bias, ACCUMULATOR_BITS)
        self.kernels = all_kernels(config, streams, bias_or_zeros(params.bias, conv.M), overflows)
        self.sums, self.zeros = np.empty(conv.M * windows.most), np.zeros(conv.M, np.int64)
        self.lost = np.empty(conv.M * windows.most if streams.n.any() else 0)
        images = windows.rows // conv.P
        self.group_op = np.empty((conv.M, windows.rows, row_groups(conv, config.lanes)), np.int32)
        self.stats = np.zeros((images // batch, conv.M, len(STATS)), np.int64)
        self._lost: list[list[Array]] = [[] for _ in range(images // batch)]
        bounds = activation_bounds(conv.activation, params.x_scale.fraction_bits + params.w_scale.fraction_bits)
        size = (images, conv.M, conv.P * conv.Q)
        self.output = FinishedOutput(size, *bounds, requantise_shift(params), params.format.bits)

    def block(self, block: Block) -> None:
        """Run the kernels of a block."""
        part, conv = block.filters, self.conv
        count = part.stop - part.start
        sums = self.sums[: count * block.windows].reshape(count, block.windows)
        lost = self.lost[: count * block.windows].reshape(-1, block.windows)
        bubble = self.config.bubble_cycles if self.config.lane_gate_input else -1
        place = Place(conv.Q, self.config.lanes, bubble, self.batch_rows, block.first_row, part.start)
        kernels, floor = self.kernels.part(part), self.config.sign_floor
        peak, at = run_block(block.columns, place, kernels, floor, sums, lost, self.group_op, self.stats)
        first_window = block.first_row * conv.Q
        if peak > ACCUMULATOR_MAX:
            reason = f"a partial sum of magnitude {peak} leaves the {ACCUMULATOR_BITS}-bit accumulator"
            raise AccumulatorOverflowError(conv.name, reason, (first_window + at) // (conv.P * conv.Q))
        self.output.write(sums, self.zeros[part], first_window, part.start)
        if len(lost):
            self._keep_lost(lost, block.first_row)

    def _keep_lost(self, lost: Array, first: int) -> None:
        """Keep what the threshold took away, by batch; lost (m, windows) begins at output row `first`."""
        batches = (first + np.arange(lost.shape[1]) // self.conv.Q) // self.batch_rows
        for batch in np.unique(batches):
            mine = lost[:, batches == batch]
            self._lost[batch].append(mine[mine > 0])

    def lost_shares(self) -> tuple[Array, ...]:
        """Return for each batch what the threshold took away, as shares of the batch's largest result."""
        largest = self.stats[:, :, LARGEST].max(axis=1)
        return tuple(np.concatenate([np.zeros(0), *parts]) / max(peak, 1) for parts, peak in zip(self._lost, largest))


def all_kernels(config: SnapeaConfig, streams: Streams, bias: Array, overflows: bool) -> Kernels:
    """Return all kernels of a layer as the compiled loops take them; bias int64 (M,).

    Step by step run kernels whose negative part rises somewhere, as disturbed weights make it, and all of them if a sum
    might leave the accumulator.
    """
    work = streams.work
    thresholds = np.clip(streams.th + (config.th_compare == "<="), -ACCUMULATOR_MAX, ACCUMULATOR_MAX)
    return Kernels(
        work.weights, work.index, work.start, work.speculated, work.negative, work.end, streams.lengths,
        streams.negative_at, streams.n, bias, thresholds, work.rises | overflows,
    )  # fmt: skip
