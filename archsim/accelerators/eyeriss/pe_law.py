"""What one PE does for one output row, in closed form: cycles, words and accesses.

With all streams always ready a row takes p*q*S cycles for the filters, q*S for the first window, p*q*S for each of F
columns and OVERHEAD_CYCLES. Only where windows lie so far apart that the words between them take longer than a column
(U*q > p*q*S, that is U > p*S) the ifmap stream sets the pace: one word per cycle, read or not.
"""

from __future__ import annotations

from typing import NamedTuple

OVERHEAD_CYCLES = 5
"""Taking the start; then, behind the last read of the spads: multiply, accumulate, add the incoming psum, send."""


class Primitive(NamedTuple):
    """A one-dimensional convolution: p filters, q channels, S taps, stride U, F output columns."""

    p: int
    q: int
    S: int
    U: int
    F: int

    @property
    def window_words(self) -> int:
        """q*S: ifmap words of a window."""
        return self.q * self.S

    @property
    def filter_words(self) -> int:
        """p*q*S: filter words, and MACs of a column."""
        return self.p * self.window_words

    @property
    def ifmap_words(self) -> int:
        """Words of the row, those between windows that do not touch included."""
        return ((self.F - 1) * self.U + self.S) * self.q

    @property
    def stored_words(self) -> int:
        """Words of the row that some window reads."""
        return ((self.F - 1) * min(self.U, self.S) + self.S) * self.q

    @property
    def macs(self) -> int:
        """MACs of the row, gated ones included."""
        return self.F * self.filter_words

    @property
    def psums(self) -> int:
        """Psums that come in, and that go out."""
        return self.F * self.p


def ifmap_stall_cycles(row: Primitive) -> int:
    """Return the cycles the PE waits for ifmap words that come one per cycle.

    The last window can begin one cycle after its first word, which is word `ifmap_words - window_words + 1`; without
    waiting it begins F-1 columns after the first one.
    """
    last_window = row.ifmap_words - 2 * row.window_words + 1
    return max(0, last_window - (row.F - 1) * row.filter_words)


def row_cycles(row: Primitive) -> int:
    """Return the cycles from the start to the last psum, no stream ever being held up."""
    return row.filter_words + row.window_words + row.macs + ifmap_stall_cycles(row) + OVERHEAD_CYCLES


def row_counts(row: Primitive, zero_taps: int) -> dict[str, int]:
    """Return the PE's counters after a row; `zero_taps`: zero words over all F windows of q*S words."""
    gated = zero_taps * row.p
    return {
        "cnt_mac": row.macs - gated,
        "cnt_mac_gated": gated,
        "cnt_ifmap_read": row.macs,
        "cnt_ifmap_write": row.stored_words,
        "cnt_filter_read": row.macs - gated,
        "cnt_filter_write": row.filter_words,
        "cnt_psum_read": row.macs,
        "cnt_psum_write": row.macs,
    }


def free_counts(row: Primitive) -> dict[str, int]:
    """Return the counters of time after a row during which no stream was ever held up."""
    return {
        "cnt_filter_stall": 0,
        "cnt_ifmap_stall": ifmap_stall_cycles(row),
        "cnt_psum_in_stall": 0,
        "cnt_psum_out_stall": 0,
        "cnt_cycles": row_cycles(row),
    }
