"""Commands of a channel: what each does to banks, buses and the requests that wait."""

from __future__ import annotations

from archsim.kernels._jit import njit

# fmt: off
# isort: off
from archsim.memory.dram.fields import (
    ACT, ACTIVE, ACTIVE_ARRIVAL, ACTIVE_CYCLES, ACTIVE_ORDER, ACTIVE_REGION, ACTIVE_RUN, ACTIVE_WRITE, ACT_READY,
    ARRIVAL, BLOCKED, BUS_READY, CLOCK, COL_READY, COMMANDS, CONFLICTS, FAR, FAW, FAW_AT, HEAD, HIT, HITS, ID, LAST,
    LATENCIES, LATENCY, LONGEST, MISS, MISSES, NEXT_REFRESH, N_PREA, N_REF, OF_RUN, OPEN, OPEN_ROW, OPEN_SINCE,
    PENDING, PRE, PREA, PREA_READY, PRE_READY, RANK_ACTIVE, RANK_PENDING, RANK_READY, RD, REFRESH_AT, REF_READY, ROW,
    SEEN, SERVED, WHOSE, Array, Rules,
)
# isort: on
# fmt: on
from archsim.memory.dram.kernel_requests import finish, first_of, rate, unqueue


@njit(inline="always", counted=False)
def rank_of(rules: Rules, b: int) -> int:
    """Return the rank of a bank."""
    return b >> (rules.group_bits + rules.bank_bits)


@njit(inline="always", counted=False)
def let_activate(rules: Rules, banks: Array, rank: int, at: int) -> None:
    """Let no bank of a rank be activated before `at`."""
    for i in range(rules.banks):
        if rules.ranks == 1 or rank_of(rules, i) == rank:
            banks[RANK_READY, i] = max(banks[RANK_READY, i], at)


@njit(inline="always", counted=False)
def block(rules: Rules, ranks: Array, banks: Array, slots: Array, rank: int) -> None:
    """Hold back all that waits for a rank while it has a refresh pending; let it go on if it has none."""
    for b in range(rules.banks):
        if rank_of(rules, b) == rank:
            banks[BLOCKED, b] = ranks[RANK_PENDING, rank]
            rate(rules, banks, slots, 0, b)
            rate(rules, banks, slots, 1, b)


@njit(inline="always", counted=False)
def occupy(rules: Rules, ranks: Array, banks: Array, b: int, w: int, at: int) -> None:
    """What a column command allows from now on: the data bus turns, the bank may close later."""
    per_group, rank = 1 << rules.bank_bits, rank_of(rules, b)
    first = (b >> rules.bank_bits) << rules.bank_bits
    write_end = at + rules.CWL + rules.burst
    turned = at + rules.burst + rules.tRTRS
    if w == 0:
        read, write = at + max(rules.burst, rules.tCCD_S), at + rules.CL + rules.burst + 2 - rules.CWL
        read_group, write_group = at + max(rules.burst, rules.tCCD_L), write
        close, read_else, write_else = at + rules.tRTP, turned, turned + rules.CL - rules.CWL
    else:
        read, write = write_end + rules.tWTR_S, at + max(rules.burst, rules.tCCD_S)
        read_group, write_group = write_end + rules.tWTR_L, at + max(rules.burst, rules.tCCD_L)
        close, read_else, write_else = write_end + rules.tWR, turned + rules.CWL - rules.CL, turned
    if rules.ranks == 1:
        for i in range(rules.banks):
            banks[BUS_READY, i] = max(banks[BUS_READY, i], read)
            banks[BUS_READY + 1, i] = max(banks[BUS_READY + 1, i], write)
    else:
        for i in range(rules.banks):
            same = rank_of(rules, i) == rank
            banks[BUS_READY, i] = max(banks[BUS_READY, i], read if same else read_else)
            banks[BUS_READY + 1, i] = max(banks[BUS_READY + 1, i], write if same else write_else)
    for i in range(first, first + per_group):
        banks[BUS_READY, i] = max(banks[BUS_READY, i], read_group)
        banks[BUS_READY + 1, i] = max(banks[BUS_READY + 1, i], write_group)
    banks[PRE_READY, b] = max(banks[PRE_READY, b], close)
    ranks[PREA_READY, rank] = max(ranks[PREA_READY, rank], close)


@njit(inline="always", counted=False)
def serve(
    rules: Rules, now: Array, ranks: Array, banks: Array, slots: Array, runs: Array, b: int, queue: int, at: int
) -> None:
    """Read or write a line: of the request the bank was activated for, or of the oldest that hits the open row."""
    if queue == 2:
        w, arrival, run = banks[ACTIVE_WRITE, b], banks[ACTIVE_ARRIVAL, b], banks[ACTIVE_RUN, b]
        region = banks[ACTIVE_REGION, b]
        banks[ACTIVE_ORDER, b] = FAR
        now[ACTIVE] -= 1
        ranks[RANK_ACTIVE, rank_of(rules, b)] -= 1
    else:
        w, slot = queue, banks[HIT + queue, b]
        arrival, run, region = slots[ARRIVAL, w, slot], slots[OF_RUN, w, slot], slots[WHOSE, w, slot]
        now[HITS] += 1 - slots[SEEN, w, slot]
        banks[SERVED, b] += banks[MISS + w, b] >= 0
        banks[HIT + w, b] = first_of(slots, w, unqueue(now, banks, slots, w, slot, b), banks[OPEN_ROW, b], True)
    occupy(rules, ranks, banks, b, w, at)
    now[COMMANDS + 5 * region + RD + w] += 1
    if w == 0:
        latency = at + rules.CL + rules.burst - arrival
        now[LATENCY] += latency
        now[LATENCIES + min(latency, LONGEST)] += 1
        at += rules.CL + rules.burst
    now[LAST] = max(now[LAST], at)
    finish(now, runs, run, at)
    rate(rules, banks, slots, 0, b)
    rate(rules, banks, slots, 1, b)


@njit(inline="always", counted=False)
def activate(rules: Rules, now: Array, ranks: Array, banks: Array, slots: Array, b: int, w: int, at: int) -> None:
    """Open the row of the oldest request of a bank; the bank is its until it is served."""
    slot, rank = banks[MISS + w, b], rank_of(rules, b)
    per_group = 1 << rules.bank_bits
    first, row = (b >> rules.bank_bits) << rules.bank_bits, slots[ROW, w, slot]
    now[MISSES] += 1 - slots[SEEN, w, slot]
    now[COMMANDS + 5 * slots[WHOSE, w, slot] + ACT] += 1
    if ranks[OPEN, rank] == 0:
        ranks[OPEN_SINCE, rank] = at
    ranks[OPEN, rank] += 1
    ranks[RANK_ACTIVE, rank] += 1
    now[ACTIVE] += 1
    banks[ACTIVE_ORDER, b], banks[ACTIVE_WRITE, b] = slots[ID, w, slot], w
    banks[ACTIVE_ARRIVAL, b], banks[ACTIVE_RUN, b] = slots[ARRIVAL, w, slot], slots[OF_RUN, w, slot]
    banks[ACTIVE_REGION, b] = slots[WHOSE, w, slot]
    unqueue(now, banks, slots, w, slot, b)
    banks[OPEN_ROW, b], banks[SERVED, b] = row, 0
    banks[COL_READY, b], banks[ACT_READY, b] = at + rules.tRCD, at + rules.tRC
    banks[PRE_READY, b] = max(banks[PRE_READY, b], at + rules.tRAS)
    ranks[PREA_READY, rank] = max(ranks[PREA_READY, rank], at + rules.tRAS)
    ranks[REF_READY, rank] = max(ranks[REF_READY, rank], at + rules.tRC)
    ranks[FAW + ranks[FAW_AT, rank], rank] = at
    ranks[FAW_AT, rank] = (ranks[FAW_AT, rank] + 1) & 3
    other_group = max(at + rules.tRRD_S, ranks[FAW + ranks[FAW_AT, rank], rank] + rules.tFAW)
    same_group = max(other_group, at + rules.tRRD_L)
    if rules.ranks > 1:
        let_activate(rules, banks, rank, other_group)
    else:
        for i in range(rules.banks):
            banks[RANK_READY, i] = max(banks[RANK_READY, i], other_group)
    for i in range(first, first + per_group):
        banks[RANK_READY, i] = same_group
    for v in range(2):
        banks[HIT + v, b] = first_of(slots, v, banks[HEAD + v, b], row, True)
        banks[MISS + v, b] = first_of(slots, v, banks[HEAD + v, b], row, False)
    rate(rules, banks, slots, 0, b)
    rate(rules, banks, slots, 1, b)


@njit(inline="always", counted=False)
def _close(rules: Rules, banks: Array, slots: Array, b: int, at: int) -> None:
    """Close a bank: all that waits for it needs an ACT now."""
    banks[OPEN_ROW, b] = -1
    banks[ACT_READY, b] = max(banks[ACT_READY, b], at + rules.tRP)
    for w in range(2):
        banks[HIT + w, b], banks[MISS + w, b] = -1, banks[HEAD + w, b]
    rate(rules, banks, slots, 0, b)
    rate(rules, banks, slots, 1, b)


@njit(inline="always", counted=False)
def precharge(rules: Rules, now: Array, ranks: Array, banks: Array, slots: Array, b: int, w: int, at: int) -> None:
    """Close one bank for a request of another row."""
    slot, rank = banks[MISS + w, b], rank_of(rules, b)
    if slot >= 0 and slots[SEEN, w, slot] == 0:
        now[CONFLICTS] += 1
        slots[SEEN, w, slot] = 1
    now[COMMANDS + 5 * (slots[WHOSE, w, slot] if slot >= 0 else 0) + PRE] += 1
    ranks[OPEN, rank] -= 1
    if ranks[OPEN, rank] == 0:
        now[ACTIVE_CYCLES] += at - ranks[OPEN_SINCE, rank]
    ranks[REF_READY, rank] = max(ranks[REF_READY, rank], at + rules.tRP)
    _close(rules, banks, slots, b, at)


@njit(inline="always", counted=False)
def maintain(
    rules: Rules, now: Array, ranks: Array, banks: Array, slots: Array, command: int, rank: int, at: int
) -> None:
    """Close all banks of a rank, or refresh them."""
    if command == PREA:
        now[N_PREA] += 1
        now[ACTIVE_CYCLES] += at - ranks[OPEN_SINCE, rank]
        ranks[OPEN, rank] = 0
        ranks[REF_READY, rank] = max(ranks[REF_READY, rank], at + rules.tRP)
        for b in range(rules.banks):
            if rank_of(rules, b) == rank:
                _close(rules, banks, slots, b, at)
    else:
        now[N_REF] += 1
        now[PENDING] -= 1
        ranks[RANK_PENDING, rank] -= 1
        ranks[REF_READY, rank] = at + rules.tRFC
        ranks[PREA_READY, rank] = max(ranks[PREA_READY, rank], at + rules.tRFC)
        let_activate(rules, banks, rank, at + rules.tRFC)
        block(rules, ranks, banks, slots, rank)


@njit(inline="always", counted=False)
def fall_due(rules: Rules, now: Array, ranks: Array, banks: Array, slots: Array) -> None:
    """Refreshes whose cycle has come are pending from now on."""
    now[NEXT_REFRESH] = FAR
    for rank in range(rules.ranks):
        if now[CLOCK] >= ranks[REFRESH_AT, rank]:
            now[PENDING] += 1
            ranks[RANK_PENDING, rank] += 1
            ranks[REFRESH_AT, rank] += rules.tREFI
            block(rules, ranks, banks, slots, rank)
        now[NEXT_REFRESH] = min(now[NEXT_REFRESH], ranks[REFRESH_AT, rank])
