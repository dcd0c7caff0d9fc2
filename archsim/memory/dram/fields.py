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

CLOCK, MODE, READS, WRITES, PENDING, ACTIVE, OPEN, OPEN_SINCE, NEXT_REFRESH, OFFER, RUN, STEP, ORDER = range(13)
RANK_ACT, PREA_READY, REF_READY, FAW_AT, FAW, LAST, FINISHED, LOGGED = *range(13, 18), 21, 22, 23
HITS, MISSES, CONFLICTS, LATENCY, N_PREA, N_REF, ACTIVE_CYCLES, FORWARDED, MERGED = range(24, 33)
GLIDES, GLIDED, COMMANDS = range(33, 36)
REGIONS = 4
SCALARS = COMMANDS + 5 * REGIONS
LATENCIES, LONGEST = SCALARS, 4095
"""Indices of `State.now`: the clock and the controller, what the rank allows, counters, stretches of hits that were
compressed and the lines taken in them; from COMMANDS on ACT, PRE, PREA (0), RD, WR of every region; from LATENCIES on
reads by their latency, LONGEST and above in the last (those that were compressed are left out)."""
LINE, ROW, ID, ARRIVAL, OF_RUN, WHOSE, SEEN, AFTER, BEFORE, FREE, SLOT_FIELDS = range(11)
"""First indices of `State.slots`."""
HIT, HIT_AT, HIT_ORDER, MISS, MISS_ORDER, PRE_AT, ACT_AT, HEAD, TAIL, BUS_READY = range(0, 20, 2)
OPEN_ROW, SERVED, COL_READY, PRE_READY, ACT_READY, GROUP_READY = range(20, 26)
ACTIVE_ORDER, ACTIVE_WRITE, ACTIVE_ARRIVAL, ACTIVE_RUN, ACTIVE_REGION, BANK_FIELDS = range(26, 32)
"""First indices of `State.banks`; the first ten have two rows, for reads and for writes."""


class Rules(NamedTuple):
    """Spacings in cycles of the bus clock, and the organisation; all integers. Names as in JEDEC's standards.

    A field of a line's address has `bits` from `shift` on; the channel's are not part of the address any more.
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
    banks: int
    group_bits: int
    bank_bits: int
    column_bits: int
    row_bits: int
    group_shift: int
    bank_shift: int
    column_shift: int
    row_shift: int
    hit_cap: int
    closed: int


class State(NamedTuple):
    """All of a controller, int64: now (LATENCIES + LONGEST + 1,), banks (BANK_FIELDS, banks), slots (..., 2, QUEUE)."""

    now: Array
    banks: Array
    slots: Array


FIRST, LINES, WRITE, AT, GAP, REGION, LEFT, END, RUN_FIELDS = range(9)
"""Columns of the runs that are offered, int64 (runs, RUN_FIELDS): first line, lines, 1 for writes, cycle of the first
offer, cycles between offers, whose data they are; lines not yet served (0 from the start: nobody waits), cycle of the
last one's end."""


def fresh_state(rules: Rules, *, refresh: bool = True) -> State:
    """Return a controller at cycle 0: empty queues, all banks closed."""
    now = np.zeros(SCALARS + LONGEST + 1, np.int64)
    now[CLOCK], now[NEXT_REFRESH], now[FAW : FAW + 4] = 1, rules.tREFI if refresh else FAR, -FAR
    banks = np.zeros((BANK_FIELDS, rules.banks), np.int64)
    for field in (HIT, MISS, HEAD, TAIL):
        banks[field : field + 2] = -1
    for field in (HIT_AT, HIT_ORDER, MISS_ORDER, PRE_AT, ACT_AT):
        banks[field : field + 2] = FAR
    banks[OPEN_ROW], banks[ACTIVE_ORDER] = -1, FAR
    slots = np.zeros((SLOT_FIELDS, 2, QUEUE), np.int64)
    slots[LINE], slots[FREE] = -1, np.arange(QUEUE - 1, -1, -1)
    return State(now, banks, slots)
