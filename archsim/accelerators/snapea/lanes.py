"""The timing law of one PE, in closed form: cycles and reads of a group of windows from what its lanes did.

A group is `lanes` horizontally adjacent windows of one output row and one kernel; all lanes work on the same weight
at a time and the group ends when its last lane stops, after `op` = m steps of at most K. The front end is `bubble`
cycles ahead: an early end throws away what is in flight, unless it belongs to the next group already. Source: section
3.6 of V. Akhlaghi, UC San Diego 2020, for the lanes; cycle by cycle, `rtl/snapea_pe`.
"""

from __future__ import annotations

import numpy as np

from archsim.workload.params import Array


def group_steps(K: Array | int, op: Array | int, bubble: int) -> Array:
    """Return the cycles of a group that is followed by another: min(K, m + B); also its weight and index reads."""
    return np.asarray(np.minimum(K, np.asarray(op) + bubble))


def group_drain(K: Array | int, op: Array | int, bubble: int) -> Array:
    """Return the further cycles of a group that no other follows: m + B in all."""
    return np.asarray(op) + bubble - group_steps(K, op, bubble)


def input_reads(K: Array | int, op: Array | int, bubble: int) -> Array:
    """Return the reads of input words, `lanes` wide: one less than steps if the end was early; m in the ideal B = 0."""
    early = np.asarray(op) + bubble <= K
    return group_steps(K, op, bubble) - (early & (bubble > 0))


def lane_reads(K: Array | int, op: Array | int, lane_op: Array | int, bubble: int) -> Array:
    """Return the words one lane reads of a group that ended after `op`, if a lane that has stopped reads no more."""
    return np.asarray(np.minimum(np.asarray(lane_op) + max(bubble - 1, 0), input_reads(K, op, bubble)))


def pe_cycles(K: Array, op: Array, bubble: int) -> int:
    """Return the cycles of a PE from its first issue to its last check: groups in order, K and op int64 (groups,)."""
    if not len(op):
        return 0
    return int(group_steps(K, op, bubble).sum() + group_drain(K[-1], op[-1], bubble))
