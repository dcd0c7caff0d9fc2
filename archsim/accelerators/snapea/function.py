"""The ofmap of a layer and what its windows did: the PE's data rules over a block of images.

Weights int16, activations unsigned 16 bit, accumulator 48 bits that starts at the bias. A window may stop only where
every negative sum becomes 0 anyway: the layer ends in a ReLU and its ifmap cannot be negative. Other layers run dense.
Source: V. Akhlaghi, UC San Diego 2020, sections 3.3 and 3.6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from archsim.accelerators.snapea.config import ACCUMULATOR_BITS, SnapeaConfig
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
ACCUMULATOR_MAX = (1 << (ACCUMULATOR_BITS - 1)) - 1
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
    maps = unsigned(x, stored.params).reshape(-1, conv.C, conv.H, conv.W)
    run = Pass(config, conv, stored, maps, batch)
    for first, last in row_blocks(run.shape, run.block_rows, straddle=True):
        run.block(first, last)
    shape = (len(x), conv.M, conv.P, conv.Q) if isinstance(layer, Conv) else (len(x), conv.M)
    by_batch = (conv.M, len(x) // batch, run.batch_rows, -1)
    return Outcome(
        run.output.y.reshape(shape), run.output.saturated, run.group_op.reshape(by_batch), run.stats, run.lost_shares()
    )


class Pass:
    """One pass of a layer over its images, block by block of output rows; buffers are made once."""

    def __init__(self, config: SnapeaConfig, conv: Conv, stored: SnapeaStored, x: Array, batch: int) -> None:
        params, streams = stored.params, stored.extra
        assert params.weights is not None and streams is not None
        weights = params.weights.reshape(conv.M, -1, conv.R, conv.S)
        self.config, self.conv, self.batch_rows = config, conv, batch * conv.P
        self.shape = conv_shape(x, weights, conv.stride, conv.pad, conv.dilation, conv.groups)
        self.flat = np.ascontiguousarray(x).reshape(-1)
        overflows = overflow_possible(int(x.max(initial=0)), weights, params.bias, ACCUMULATOR_BITS)
        self.kernels = all_kernels(config, streams, bias_or_zeros(params.bias, conv.M), overflows)
        self.block_rows = max(1, min(BLOCK_WINDOWS, BLOCK_BYTES // (4 * self.shape.K)) // conv.Q)
        windows = min(self.block_rows, len(x) * conv.P) * conv.Q
        self.columns = np.empty(self.shape.K * windows, np.int32)
        self.sums, self.zeros = np.empty(conv.M * windows), np.zeros(conv.M, np.int64)
        self.lost = np.empty(conv.M * windows if streams.n.any() else 0)
        self.group_op = np.empty((conv.M, len(x) * conv.P, row_groups(conv, config.lanes)), np.int32)
        self.stats = np.zeros((len(x) // batch, conv.M, len(STATS)), np.int64)
        self._lost: list[list[Array]] = [[] for _ in range(len(x) // batch)]
        bounds = activation_bounds(conv.activation, params.x_scale.fraction_bits + params.w_scale.fraction_bits)
        size = (len(x), conv.M, conv.P * conv.Q)
        self.output = FinishedOutput(size, *bounds, requantise_shift(params), params.format.bits)

    def block(self, first: int, last: int) -> None:
        """Run all kernels on output rows [first, last), counted over all images."""
        shape, windows = self.shape, (last - first) * self.shape.Q
        columns = self.columns[: shape.K * windows]
        filters, channels = shape.M // shape.groups, shape.C // shape.groups
        step = max(1, CALL_PRODUCTS // (shape.K * windows))
        for g in range(shape.groups):
            gather_columns(self.flat, g * channels, channels, *shape.kernel_arguments, first, last, columns)
            for m in range(g * filters, (g + 1) * filters, step):
                self._run(slice(m, min(m + step, (g + 1) * filters)), first, windows, columns)

    def _run(self, part: slice, first: int, windows: int, columns: Array) -> None:
        """Run some kernels of one group on a block of `windows` windows."""
        count, conv = part.stop - part.start, self.conv
        sums = self.sums[: count * windows].reshape(count, windows)
        lost = self.lost[: count * windows].reshape(-1, windows)
        bubble = self.config.bubble_cycles if self.config.lane_gate_input else -1
        place = Place(conv.Q, self.config.lanes, bubble, self.batch_rows, first, part.start)
        kernels = Kernels(*self.kernels[:2], *(values[part] for values in self.kernels[2:]))
        peak, at = run_block(columns, place, kernels, self.config.sign_floor, sums, lost, self.group_op, self.stats)
        if peak > ACCUMULATOR_MAX:
            reason = f"a partial sum of magnitude {peak} leaves the {ACCUMULATOR_BITS}-bit accumulator"
            raise AccumulatorOverflowError(conv.name, reason, (first * conv.Q + at) // (conv.P * conv.Q))
        self.output.write(sums, self.zeros[part], first * conv.Q, part.start)
        if len(lost):
            self._keep_lost(lost, first)

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
    positives = np.append(0, np.cumsum(work.weights > 0))
    rises = positives[work.end] > positives[work.negative]
    thresholds = np.clip(streams.th + (config.th_compare == "<="), -ACCUMULATOR_MAX, ACCUMULATOR_MAX)
    return Kernels(
        work.weights, work.index, work.start, work.speculated, work.negative, work.end, streams.lengths,
        streams.negative_at, streams.n, bias, thresholds, rises | overflows,
    )  # fmt: skip
