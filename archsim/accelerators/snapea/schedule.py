"""From the steps of every group of lanes to busy cycles of PEs, for several batches at once.

ideal: every PE runs on its own until its row takes the next portion. column_sync: the PEs of a column receive every
chunk of a kernel together and work in lock-step, group by group.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.accelerators.snapea.config import SnapeaConfig
from archsim.accelerators.snapea.lanes import group_drain, group_steps, input_reads
from archsim.accelerators.snapea.plan import Portions, SnapeaPlan, portions_of
from archsim.workload.layers import Conv
from archsim.workload.params import Array

Tiles = tuple[tuple[int, ...], ...]


class Busy(NamedTuple):
    """What one batch makes the PEs do.

    steps: weights (and indices) read; input_reads: rows of words read; pe_cycles: sum over all PEs; delivered_weights:
    weights that reach a weight buffer, every PE counted; tiles: `ideal_tiles` or `synchronous_tiles`.
    """

    steps: int
    input_reads: int
    pe_cycles: int
    delivered_weights: int
    tiles: Tiles


def busy_batches(config: SnapeaConfig, conv: Conv, plan: SnapeaPlan, group_op: Array) -> list[Busy]:
    """Return what each batch makes the PEs do; group_op int (M, batches, N*P, groups): steps of every group."""
    bubble = config.bubble_cycles
    weights = np.array(plan.kernel_weights)[:, None, None, None]
    steps = group_steps(weights, group_op, bubble)
    reads = input_reads(weights, group_op, bubble).sum(axis=(0, 2, 3))
    times = _portion_cycles(config, conv, plan, group_op, steps)
    if config.weight_stream == "ideal":
        delivered = _delivered(config, weights, steps, plan.portions)
        tiles = [ideal_tiles(config, one) for one in times.max(axis=1)]
    else:
        busy, streamed = _in_step(config, conv, plan, group_op)
        active_rows = np.bincount(np.arange(plan.portions) // plan.pe_rows)
        delivered = (streamed.sum(axis=2) * active_rows).sum(axis=1)
        tiles = [synchronous_tiles(config, *one) for one in zip(busy, streamed)]
    totals = zip(steps.sum(axis=(0, 2, 3)), reads, times.sum(axis=(1, 2)), delivered, tiles)
    return [Busy(int(a), int(b), int(c), int(d), e) for a, b, c, d, e in totals]


def ideal_tiles(config: SnapeaConfig, portion_cycles: Array) -> Tiles:
    """Return for each row of PEs the cycles of its portions, one after another; portion_cycles int64 (portions,)."""
    return tuple(tuple(portion_cycles[h :: config.pe_rows].tolist()) for h in range(config.pe_rows))


def synchronous_tiles(config: SnapeaConfig, busy: Array, streamed: Array) -> Tiles:
    """Return for each column of PEs two rows, turn by turn and kernel by kernel: cycles, and weights streamed.

    busy, streamed: int64 (turns, M).
    """
    columns = [(busy[:, v :: config.pe_columns], streamed[:, v :: config.pe_columns]) for v in range(config.pe_columns)]
    return tuple(tuple(part.reshape(-1).tolist()) for column in columns for part in column)


def compute_cycles(config: SnapeaConfig, plan: SnapeaPlan, tiles: Tiles) -> int:
    """Return the cycles of the PEs with an infinitely fast memory."""
    if config.weight_stream == "ideal":
        return max(sum(row) for row in tiles)
    columns = [np.array(busy).reshape(plan.turns, -1).sum(axis=1) for busy in tiles[::2] if busy]
    return int(np.max(columns, axis=0).sum())


def _portion_cycles(config: SnapeaConfig, conv: Conv, plan: SnapeaPlan, group_op: Array, steps: Array) -> Array:
    """Return the cycles of every PE of a portion, int64 (batches, columns, portions): its steps and the last drain."""
    portions, columns = portions_of(conv, plan), min(config.pe_columns, conv.M)
    first, last = portions.image * conv.P + portions.row, portions.image * conv.P + portions.row_end
    left, right = portions.column // plan.lanes, -(-portions.column_end // plan.lanes)
    cycles = np.empty((group_op.shape[1], columns, plan.portions), np.int64)
    for v in range(columns):
        sums = np.zeros((group_op.shape[1], group_op.shape[2] + 1, group_op.shape[3] + 1), np.int64)
        sums[:, 1:, 1:] = steps[v :: config.pe_columns].sum(axis=0).cumsum(axis=1).cumsum(axis=2)
        cycles[:, v] = sums[:, last, right] - sums[:, first, right] - sums[:, last, left] + sums[:, first, left]
        final = range(v, conv.M, config.pe_columns)[-1]
        op = group_op[final][:, last - 1, right - 1]
        cycles[:, v] += group_drain(plan.kernel_weights[final], op, config.bubble_cycles)
    return cycles * config.step_cycles(conv.stride[1])


def _streamed(config: SnapeaConfig, weights: Array, steps: Array) -> Array:
    """Return the weights a group asks for of a kernel that does not fit: whole chunks, one ahead of the one at work.

    What is asked for comes, needed or not.
    """
    return np.asarray(np.minimum(weights, (-(-steps // config.chunk_weights) + 1) * config.chunk_weights))


def _delivered(config: SnapeaConfig, weights: Array, steps: Array, portions: int) -> Array:
    """Return the weights that reach the PEs, int64 (batches,): a kernel that fits comes once per portion."""
    streamed, kernels = _streamed(config, weights, steps).sum(axis=(2, 3)), weights[:, :, 0, 0]
    return np.asarray(np.where(kernels <= config.buffered_weights, kernels * portions, streamed).sum(axis=0))


def _in_step(config: SnapeaConfig, conv: Conv, plan: SnapeaPlan, group_op: Array) -> tuple[Array, Array]:
    """Return cycles and streamed weights of every turn and kernel, int64 (batches, turns, M), columns in lock-step."""
    M, batches = group_op.shape[:2]
    weights = np.array(plan.kernel_weights)[:, None, None]
    kernels, fits = weights[:, :, 0], weights[:, :, 0] <= config.buffered_weights
    busy, streamed = np.zeros((2, batches, plan.turns, M), np.int64)
    for t in range(plan.turns):
        slowest = _slowest(plan, portions_of(conv, plan), group_op, t)
        steps = group_steps(weights, slowest, config.bubble_cycles)
        busy[:, t] = steps.sum(axis=2).T
        streamed[:, t] = np.where(fits, kernels, _streamed(config, weights, steps).sum(axis=2)).T
        for final in range(max(0, M - config.pe_columns), M):
            busy[:, t, final] += group_drain(plan.kernel_weights[final], slowest[final, :, -1], config.bubble_cycles)
    return busy * config.step_cycles(conv.stride[1]), streamed


def _slowest(plan: SnapeaPlan, portions: Portions, group_op: Array, turn: int) -> Array:
    """Return the steps of the slowest row of PEs, group by group, int64 (M, batches, groups)."""
    P = group_op.shape[2] // plan.batch
    mine = range(turn * plan.pe_rows, min((turn + 1) * plan.pe_rows, plan.portions))
    slowest = np.zeros((*group_op.shape[:2], int(portions.groups[mine].max())), np.int64)
    for i in mine:
        rows = slice(portions.image[i] * P + portions.row[i], portions.image[i] * P + portions.row_end[i])
        groups = slice(portions.column[i] // plan.lanes, -(-portions.column_end[i] // plan.lanes))
        own = group_op[:, :, rows, groups].reshape(*group_op.shape[:2], -1)
        slowest[:, :, : own.shape[2]] = np.maximum(slowest[:, :, : own.shape[2]], own)
    return slowest
