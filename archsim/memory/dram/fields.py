"""A controller's state as the compiled loops take it: a handful of arrays, and the names of their rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
FAR = 1 << 60
"""A cycle, or an order, that never comes."""
QUEUE = 32
"""Requests a queue holds; reads and writes have one each."""
WRITES_HIGH, WRITES_LOW = 26, 6
"""Writes waiting from which they are drained, and down to which: 0.8 and 0.2 of the queue."""
COMMAND_NAMES = ("ACT", "PRE", "PREA", "RD", "WR", "REF")
ACT, PRE, PREA, RD, WR, REF = range(6)
NOTHING = -1

CLOCK, MODE, READS, WRITES, PENDING, ACTIVE, NEXT_REFRESH, OFFER, RUN, STEP, ORDER, LAST, FINISHED, LOGGED = range(14)
HITS, MISSES, CONFLICTS, LATENCY, N_PREA, N_REF, ACTIVE_CYCLES, FORWARDED, MERGED = range(14, 23)
GLIDES, GLIDED, COMMANDS = range(23, 26)
REGIONS = 4
SCALARS = COMMANDS + 5 * REGIONS
LATENCIES, LONGEST = SCALARS, 4095
"""Indices of `State.now`: the clock and the controller, counters over all ranks, stretches of hits that were compressed
and the lines taken in them; from COMMANDS on ACT, PRE, PREA (0), RD, WR of every region; from LATENCIES on
reads by their latency, LONGEST and above in the last (those that were compressed are left out)."""
RANK_PENDING, RANK_ACTIVE, OPEN, OPEN_SINCE, REFRESH_AT, PREA_READY, REF_READY, FAW_AT, FAW, RANK_FIELDS = *range(9), 12
"""First indices of `State.ranks`: refreshes pending, banks activated for a request, banks open and since when, the next
refresh, what may be issued from when on, and the last four ACT as a ring."""
LINE, ROW, ID, ARRIVAL, OF_RUN, WHOSE, SEEN, AFTER, BEFORE, FREE, SLOT_FIELDS = range(11)
"""First indices of `State.slots`."""
HIT, HIT_AT, HIT_ORDER, MISS, MISS_ORDER, PRE_AT, ACT_AT, HEAD, TAIL, BUS_READY = range(0, 20, 2)
OPEN_ROW, SERVED, COL_READY, PRE_READY, ACT_READY, RANK_READY, BLOCKED = range(20, 27)
ACTIVE_ORDER, ACTIVE_WRITE, ACTIVE_ARRIVAL, ACTIVE_RUN, ACTIVE_REGION, BANK_FIELDS = range(27, 33)
"""First indices of `State.banks`; the first ten have two rows, for reads and for writes. ACT_READY: an ACT as far as
the bank itself is concerned, RANK_READY: as far as others of its rank are. BLOCKED: refreshes its rank has pending."""


class Rules(NamedTuple):
    """Spacings in cycles of the bus clock, and the organisation; all integers. Names as in JEDEC's standards.

    A field of a line's address has `bits` from `shift` on; the channel's are not part of the address any more. Banks
    are those of all ranks: rank, group and bank from the most to the least significant bit of a bank's number.
    """

    CL: int
    CWL: int
    burst: int
    tRCD: int
    tRP: int
    tRAS: int
    tRC: int
    tRTP: int
    tWR: int
    tWTR_S: int
    tWTR_L: int
    tCCD_S: int
    tCCD_L: int
    tRRD_S: int
    tRRD_L: int
    tFAW: int
    tRFC: int
    tREFI: int
    tRTRS: int
    ranks: int
    banks: int
    group_bits: int
    bank_bits: int
    column_bits: int
    row_bits: int
    rank_bits: int
    group_shift: int
    bank_shift: int
    column_shift: int
    row_shift: int
    rank_shift: int
    hit_cap: int
    closed: int


class State(NamedTuple):
    """All of a controller, int64: now (LATENCIES + LONGEST + 1,), ranks (RANK_FIELDS, ranks), banks (BANK_FIELDS,
    banks), slots (SLOT_FIELDS, 2, QUEUE).
    """

    now: Array
    ranks: Array
    banks: Array
    slots: Array


FIRST, LINES, WRITE, AT, GAP, REGION, LEFT, END, RUN_FIELDS = range(9)
"""Columns of the runs that are offered, int64 (runs, RUN_FIELDS): first line, lines, 1 for writes, cycle of the first
offer, cycles between offers, whose data they are; lines not yet served (0 from the start: nobody waits), cycle of the
last one's end."""


def fresh_state(rules: Rules, *, refresh: bool = True) -> State:
    """Return a controller at cycle 0: empty queues, all banks closed."""
    now = np.zeros(SCALARS + LONGEST + 1, np.int64)
    ranks = np.zeros((RANK_FIELDS, rules.ranks), np.int64)
    ranks[FAW : FAW + 4] = -FAR
    first = np.arange(rules.ranks) * rules.tREFI // rules.ranks
    ranks[REFRESH_AT] = np.where(first > 0, first, rules.tREFI) if refresh else FAR
    now[CLOCK], now[NEXT_REFRESH] = 1, ranks[REFRESH_AT].min()
    banks = np.zeros((BANK_FIELDS, rules.banks), np.int64)
    for field in (HIT, MISS, HEAD, TAIL):
        banks[field : field + 2] = -1
    for field in (HIT_AT, HIT_ORDER, MISS_ORDER, PRE_AT, ACT_AT):
        banks[field : field + 2] = FAR
    banks[OPEN_ROW], banks[ACTIVE_ORDER] = -1, FAR
    slots = np.zeros((SLOT_FIELDS, 2, QUEUE), np.int64)
    slots[LINE], slots[FREE] = -1, np.arange(QUEUE - 1, -1, -1)
    return State(now, ranks, banks, slots)
