"""What the data do in a PE: when every window stops, and what comes out. Windows are the vector direction.

Inputs are never negative, so in the negative part of a kernel a partial sum only falls: the step at which it drops
below the floor follows from the number of partial sums that are not below it, and no branch depends on the data. Sums
are float64 and exact: the modelled accumulator has 48 bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.kernels._jit import njit

Array = npt.NDArray[Any]
STATS = (
    "macs", "negative", "positive", "sign_stops", "threshold_stops", "true_negative", "false_negative", "sign_lost",
    "lane_reads", "largest",
)  # fmt: skip
"""Columns of `stats`: MACs done, windows by their dense result and by how they stopped, words read by gated lanes, and
the largest dense result (where `lost` is asked for).

true_negative, false_negative: stopped by the threshold while the dense result is below, above 0; sign_lost: stopped by
the sign while it is above 0, which happens with disturbed weights only.
"""
MACS, NEGATIVE, POSITIVE, SIGN_STOPS, THRESHOLD_STOPS, TRUE_NEGATIVE, FALSE_NEGATIVE, SIGN_LOST, LANE_READS, LARGEST = (
    range(10)
)
NO_STOP, BY_SIGN, BY_THRESHOLD = range(3)


class Kernels(NamedTuple):
    """Some kernels of a layer as the compiled loops take them; arrays (m,) unless said otherwise.

    weights, rows (T,): the products to compute; start, speculated, negative, end: the parts of each kernel in them;
    length, negative_at, n: the same in positions of the stream; bias, threshold int64; stepwise bool: look at every
    partial sum by itself.
    """

    weights: Array
    rows: Array
    start: Array
    speculated: Array
    negative: Array
    end: Array
    length: Array
    negative_at: Array
    n: Array
    bias: Array
    threshold: Array
    stepwise: Array

    def part(self, filters: slice) -> Kernels:
        """Return some of the kernels; the products stay where they are."""
        return Kernels(*self[:2], *(values[filters] for values in self[2:]))


class Place(NamedTuple):
    """Windows of an output row, lanes, bubble cycles (-1: count no reads of gated lanes), output rows of a batch; first
    row (over all images) and filter of a block."""

    Q: int
    lanes: int
    bubble: int
    batch_rows: int
    first_row: int
    first_filter: int


@njit(inline="always")
def _add_eight(cols: Array, windows: Any, weights: Array, rows: Array, k: int, dense: Array) -> None:
    """dense[i] += the products of eight weights: one load and store of the sum for eight products."""
    r0, r1 = np.uint64(rows[k]) * windows, np.uint64(rows[k + 1]) * windows
    r2, r3 = np.uint64(rows[k + 2]) * windows, np.uint64(rows[k + 3]) * windows
    r4, r5 = np.uint64(rows[k + 4]) * windows, np.uint64(rows[k + 5]) * windows
    r6, r7 = np.uint64(rows[k + 6]) * windows, np.uint64(rows[k + 7]) * windows
    w0, w1, w2, w3 = float(weights[k]), float(weights[k + 1]), float(weights[k + 2]), float(weights[k + 3])
    w4, w5, w6, w7 = float(weights[k + 4]), float(weights[k + 5]), float(weights[k + 6]), float(weights[k + 7])
    for i in range(windows):
        low = w0 * cols[r0 + i] + w1 * cols[r1 + i] + w2 * cols[r2 + i] + w3 * cols[r3 + i]
        dense[i] += low + (w4 * cols[r4 + i] + w5 * cols[r5 + i] + w6 * cols[r6 + i] + w7 * cols[r7 + i])


@njit(inline="always")
def _add_products(cols: Array, windows: Any, weights: Array, rows: Array, first: int, end: int, dense: Array) -> None:
    """dense[i] += the products of the weights [first, end)."""
    k = first
    while k + 8 <= end:
        _add_eight(cols, windows, weights, rows, k, dense)
        k += 8
    while k < end:
        row, weight = np.uint64(rows[k]) * windows, float(weights[k])
        for i in range(windows):
            dense[i] += weight * cols[row + i]
        k += 1


@njit(inline="always")
def _add_and_count(
    cols: Array,
    windows: Any,
    weights: Array,
    rows: Array,
    first: int,
    end: int,
    floor: float,
    dense: Array,
    alive: Array,
) -> None:
    """The same for the negative part; alive[i] = how many of its partial sums are not below `floor`."""
    k = first
    while k + 4 <= end:
        r0, r1 = np.uint64(rows[k]) * windows, np.uint64(rows[k + 1]) * windows
        r2, r3 = np.uint64(rows[k + 2]) * windows, np.uint64(rows[k + 3]) * windows
        w0, w1, w2, w3 = float(weights[k]), float(weights[k + 1]), float(weights[k + 2]), float(weights[k + 3])
        for i in range(windows):
            s0 = dense[i] + w0 * cols[r0 + i]
            s1 = s0 + w1 * cols[r1 + i]
            s2 = s1 + w2 * cols[r2 + i]
            s3 = s2 + w3 * cols[r3 + i]
            alive[i] += s0 >= floor
            alive[i] += s1 >= floor
            alive[i] += s2 >= floor
            alive[i] += s3 >= floor
            dense[i] = s3
        k += 4
    while k < end:
        row, weight = np.uint64(rows[k]) * windows, float(weights[k])
        for i in range(windows):
            dense[i] += weight * cols[row + i]
            alive[i] += dense[i] >= floor
        k += 1


@njit(inline="always")
def _run_sums(
    cols: Array, windows: Any, part: Kernels, m: int, floor: float, dense: Array, op: Array, early: Array
) -> None:
    """Kernel m over all windows, stopped by the sign alone: dense sums, steps, and the sums after n weights."""
    bias = float(part.bias[m])
    for i in range(windows):
        dense[i] = bias
        op[i] = 0
    _add_products(cols, windows, part.weights, part.rows, part.start[m], part.speculated[m], dense)
    if part.n[m] > 0:
        for i in range(windows):
            early[i] = dense[i]
    _add_products(cols, windows, part.weights, part.rows, part.speculated[m], part.negative[m], dense)
    _add_and_count(cols, windows, part.weights, part.rows, part.negative[m], part.end[m], floor, dense, op)
    negatives, before, length = part.end[m] - part.negative[m], part.negative_at[m] + 1, part.length[m]
    for i in range(windows):
        op[i] = before + op[i] if op[i] < negatives else length


@njit(inline="always")
def _run_vector(
    cols: Array, windows: Any, part: Kernels, m: int, floor: float, dense: Array, op: Array, stop: Array, early: Array
) -> None:
    """Kernel m over all windows: dense sums, steps, and how each window stopped."""
    _run_sums(cols, windows, part, m, floor, dense, op, early)
    may_stop = part.end[m] > part.negative[m]
    for i in range(windows):
        stop[i] = BY_SIGN * (may_stop and dense[i] < floor)
    if part.n[m] > 0:
        threshold, n = float(part.threshold[m]), part.n[m]
        for i in range(windows):
            if early[i] < threshold:
                op[i] = n
                stop[i] = BY_THRESHOLD


@njit
def _run_stepwise(
    cols: Array, windows: int, part: Kernels, m: int, floor: int, dense: Array, op: Array, stop: Array
) -> tuple[int, int]:
    """The same, window by window and step by step; returns the largest |sum| before a stop and its window."""
    peak, where = 0, 0
    for i in range(windows):
        total = part.bias[m]
        largest = abs(total)
        stop[i], op[i] = NO_STOP, part.length[m]
        for k in range(part.start[m], part.end[m]):
            if k == part.speculated[m] and part.n[m] > 0 and total < part.threshold[m]:
                stop[i], op[i] = BY_THRESHOLD, part.n[m]
            total += int(part.weights[k]) * int(cols[int(part.rows[k]) * windows + i])
            if stop[i] == NO_STOP:
                largest = max(largest, abs(total))
                if k >= part.negative[m] and total < floor:
                    stop[i], op[i] = BY_SIGN, part.negative_at[m] + k - part.negative[m] + 1
        if part.speculated[m] == part.end[m] and part.n[m] > 0 and total < part.threshold[m]:
            stop[i], op[i] = BY_THRESHOLD, part.n[m]
        dense[i] = total
        if largest > peak:
            peak, where = largest, i
    return peak, where


@njit(inline="always")
def _tally(first: Any, end: Any, dense: Array, op: Array, stop: Array, stats: Array, batch: int, m: int) -> None:
    """Add up what windows [first, end) of one batch did: MACs, windows below and above 0, windows stopped."""
    macs, negative, positive, stopped = 0, 0, 0, 0
    for i in range(first, end):
        macs += op[i]
        negative += dense[i] < 0
        positive += dense[i] > 0
        stopped += stop[i] == BY_SIGN
    stats[batch, m, MACS] += macs
    stats[batch, m, NEGATIVE] += negative
    stats[batch, m, POSITIVE] += positive
    stats[batch, m, SIGN_STOPS] += stopped


@njit(inline="always")
def _tally_errors(first: Any, end: Any, dense: Array, stop: Array, stats: Array, batch: int, m: int) -> None:
    """Add up what the threshold stopped, and positive results lost either way; note the largest result."""
    stopped, true_negative, false_negative, sign_lost, largest = 0, 0, 0, 0, 0.0
    for i in range(first, end):
        largest = max(largest, dense[i])
        below, above = dense[i] < 0, dense[i] > 0
        stopped += stop[i] == BY_THRESHOLD
        true_negative += below & (stop[i] == BY_THRESHOLD)
        false_negative += above & (stop[i] == BY_THRESHOLD)
        sign_lost += above & (stop[i] == BY_SIGN)
    stats[batch, m, THRESHOLD_STOPS] += stopped
    stats[batch, m, TRUE_NEGATIVE] += true_negative
    stats[batch, m, FALSE_NEGATIVE] += false_negative
    stats[batch, m, SIGN_LOST] += sign_lost
    stats[batch, m, LARGEST] = max(stats[batch, m, LARGEST], int(largest))


@njit(inline="always")
def _group(first: int, Q: int, lanes: int, op: Array, group_op: Array, m: int, row: int) -> None:
    """The steps of every group of one output row, windows [first, first + Q): those of its slowest lane."""
    for g in range(group_op.shape[2]):
        longest = np.int64(0)
        for i in range(np.uint64(first + g * lanes), np.uint64(first + min((g + 1) * lanes, Q))):
            longest = max(longest, op[i])
        group_op[m, row, g] = longest


@njit
def _gated_reads(first: int, Q: int, lanes: int, op: Array, steps: Array, bubble: int, length: int) -> int:
    """The words the lanes of one output row read if a stopped lane reads no more; steps (groups,)."""
    lead = max(bubble - 1, 0)
    reads = 0
    for g in range(steps.size):
        early = steps[g] + bubble <= length
        most = min(length, steps[g] + bubble) - (early and bubble > 0)
        for i in range(first + g * lanes, first + min((g + 1) * lanes, Q)):
            reads += min(op[i] + lead, most)
    return reads


@njit
def run_block(
    cols: Array, place: Place, part: Kernels, floor: int, sums: Array, lost: Array, group_op: Array, stats: Array
) -> tuple[int, int]:
    """Run kernels over a block of whole output rows; returns the largest |partial sum| looked at and its window.

    cols int32 (K*L,): one row per (c, r, s), one column per window; a window stops in the negative part below `floor`.
    Out: sums float64 (m, L) after ReLU, 0 where a window stopped; lost float64 (m, L): dense results above 0 that the
    threshold took away, left alone if it has no rows; the block's part of group_op int32 (M, rows, groups); added to
    stats int64 (batches, M, STATS).
    """
    Q, lanes, bubble, batch_rows, first_row, first_filter = place
    count = sums.shape[1]
    windows = np.uint64(count)
    dense, early, op, stop = np.empty(count), np.empty(count), np.empty(count, np.int64), np.empty(count, np.int64)
    peak, where = 0, 0
    for k in range(part.start.size):
        if part.stepwise[k]:
            largest, at = _run_stepwise(cols, count, part, k, floor, dense, op, stop)
            if largest > peak:
                peak, where = largest, at
        else:
            _run_vector(cols, windows, part, k, float(floor), dense, op, stop, early)
        for i in range(windows):
            sums[k, i] = max(dense[i], 0.0) if stop[i] == NO_STOP else 0.0
        if lost.shape[0]:
            for i in range(windows):
                lost[k, i] = dense[i] if stop[i] == BY_THRESHOLD and dense[i] > 0 else 0.0
        row, rows, m = 0, count // Q, first_filter + k
        while row < rows:
            batch = (first_row + row) // batch_rows
            end = min(rows, (batch + 1) * batch_rows - first_row)
            first, last = np.uint64(row * Q), np.uint64(end * Q)
            _tally(first, last, dense, op, stop, stats, batch, m)
            if lost.shape[0] or part.n[k] > 0 or part.stepwise[k]:
                _tally_errors(first, last, dense, stop, stats, batch, m)
            row = end
        for row in range(rows):
            _group(row * Q, Q, lanes, op, group_op, m, first_row + row)
            if bubble >= 0:
                steps, batch = group_op[m, first_row + row], (first_row + row) // batch_rows
                stats[batch, m, LANE_READS] += _gated_reads(row * Q, Q, lanes, op, steps, bubble, part.length[k])
    return peak, where


@njit
def profile_block(
    cols: Array, windows: int, part: Kernels, floor: int, thresholds: Array, macs: Array, errors: Array
) -> None:
    """Run kernels once over a block of windows and evaluate many thresholds for each.

    cols as in `run_block`; thresholds float64 (m, T); added to: macs int64 (m, T), and errors float64 (m, T): the sum
    of the dense results above 0 that the threshold takes away. With n = 0 no threshold stops anything.
    """
    count = np.uint64(windows)
    dense, early, op = np.empty(windows), np.empty(windows), np.empty(windows, np.int64)
    for k in range(part.start.size):
        _run_sums(cols, count, part, k, float(floor), dense, op, early)
        n = part.n[k]
        for t in range(thresholds.shape[1]):
            done, lost, threshold = 0, 0.0, thresholds[k, t]
            for i in range(count):
                stops = n > 0 and early[i] < threshold
                done += n if stops else op[i]
                lost += max(dense[i], 0.0) * stops
            macs[k, t] += done
            errors[k, t] += lost


@njit
def leave_out_zeros(
    weights: Array,
    index: Array,
    first: Array,
    negative_at: Array,
    n: Array,
    kept_weights: Array,
    kept_index: Array,
    parts: Array,
    rises: Array,
) -> int:
    """Copy the products of all kernels but zeros before the negative part; returns how many there are.

    parts int64 (4, M): start, end of the speculation, of what is not negative, end; rises bool (M,): a weight of the
    negative part is above zero.
    """
    at = 0
    for m in range(len(n)):
        parts[0, m] = parts[1, m] = parts[2, m] = at
        rises[m] = False
        length = first[m + 1] - first[m]
        for k in range(length):
            weight = weights[first[m] + k]
            negative = k >= negative_at[m]
            if weight != 0 or negative:
                kept_weights[at], kept_index[at] = weight, index[first[m] + k]
                at += 1
            if k < n[m]:
                parts[1, m] = at
            if not negative:
                parts[2, m] = at
            elif weight > 0:
                rises[m] = True
        parts[3, m] = at
    return at
