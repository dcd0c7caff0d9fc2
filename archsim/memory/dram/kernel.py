"""First-ready scheduling of one channel, exact to the cycle: the clock jumps from event to event.

Rules: those of Ramulator 2.1 (GenericDDR, FRFCFS, all-bank refresh, open row), source: CMU-SAFARI/ramulator2
@c5b1c3a478b6, as observed on traces. In a cycle the oldest legal command of any kind wins; a bank that was activated
for a request serves it before all others. All state is in arrays, so that a run can be interrupted at any cycle.
"""

from __future__ import annotations

from archsim.kernels._jit import njit

# fmt: off
# isort: off
from archsim.memory.dram.fields import (
    ACT, ACT_AT, ACT_READY, ACTIVE, ACTIVE_ARRIVAL, ACTIVE_CYCLES, ACTIVE_ORDER, ACTIVE_REGION, ACTIVE_RUN,
    ACTIVE_WRITE, AFTER, ARRIVAL, AT, BEFORE, BUS_READY, CLOCK, COL_READY, COMMANDS, CONFLICTS, END, FAR, FAW,
    FAW_AT, FINISHED, FIRST, FORWARDED, FREE, GAP, GROUP_READY, HEAD, HIT, HIT_AT, HIT_ORDER, HITS, ID, LAST,
    LATENCY, LEFT, LINE, LINES, LOGGED, MERGED, MISS, MISS_ORDER, MISSES, MODE, N_PREA, N_REF, NEXT_REFRESH,
    NOTHING, OF_RUN, OFFER, OPEN, OPEN_ROW, OPEN_SINCE, ORDER, PENDING, PRE, PRE_AT, PRE_READY, PREA, PREA_READY,
    QUEUE, RANK_ACT, RD, READS, REF, REF_READY, REGION, ROW, RUN, SEEN, SERVED, STEP, TAIL, WHOSE, WR, WRITE,
    WRITES, WRITES_HIGH, WRITES_LOW, Array, Rules,
)
# isort: on
# fmt: on


@njit(inline="always", counted=False)
def _place(rules: Rules, line: int) -> tuple[int, int]:
    """Return bank and row of a line: column, bank group, bank, row from the least significant bit."""
    block = line >> rules.column_bits
    group, bank = block & ((1 << rules.group_bits) - 1), (block >> rules.group_bits) & ((1 << rules.bank_bits) - 1)
    return (group << rules.bank_bits) | bank, block >> (rules.group_bits + rules.bank_bits)


@njit(inline="always", counted=False)
def _first(slots: Array, w: int, slot: int, row: int, equal: bool) -> int:
    """Return the first slot from `slot` on whose row is, or is not, `row`; -1 for none."""
    while slot >= 0 and (slots[ROW, w, slot] == row) != equal:
        slot = slots[AFTER, w, slot]
    return slot


@njit(inline="always", counted=False)
def _rate(rules: Rules, banks: Array, slots: Array, w: int, b: int) -> None:
    """Write down when the candidates of one bank and queue may go, as far as the bank is concerned."""
    hit, miss, closed = banks[HIT + w, b], banks[MISS + w, b], banks[OPEN_ROW, b] < 0
    capped = miss >= 0 and banks[SERVED, b] >= rules.hit_cap
    banks[HIT_AT + w, b] = banks[COL_READY, b] if hit >= 0 and not capped else FAR
    banks[HIT_ORDER + w, b] = slots[ID, w, hit] if hit >= 0 else FAR
    banks[MISS_ORDER + w, b] = slots[ID, w, miss] if miss >= 0 else FAR
    banks[ACT_AT + w, b] = banks[ACT_READY, b] if miss >= 0 and closed else FAR
    idle = not closed and banks[ACTIVE_ORDER, b] == FAR
    banks[PRE_AT + w, b] = banks[PRE_READY, b] if miss >= 0 and idle else FAR
    if rules.closed and idle and miss < 0 and banks[HIT, b] < 0 and banks[HIT + 1, b] < 0:
        banks[PRE_AT + w, b], banks[MISS_ORDER + w, b] = banks[PRE_READY, b], FAR - 1


@njit(inline="always", counted=False)
def _find(now: Array, slots: Array, line: int) -> bool:
    """Tell whether a write to this line waits."""
    found = False
    if now[WRITES] > 0:
        for slot in range(QUEUE):
            found |= slots[LINE, 1, slot] == line
    return found


@njit(inline="always", counted=False)
def _queue(
    rules: Rules, now: Array, banks: Array, slots: Array, w: int, line: int, run: int, region: int, cycle: int
) -> None:
    """Put a request behind those of its bank."""
    now[READS + w] += 1
    slot = slots[FREE, w, QUEUE - now[READS + w]]
    b, row = _place(rules, line)
    before = banks[TAIL + w, b]
    slots[LINE, w, slot], slots[ROW, w, slot], slots[ID, w, slot] = line, row, now[ORDER]
    slots[ARRIVAL, w, slot], slots[OF_RUN, w, slot], slots[SEEN, w, slot] = cycle, run, 0
    slots[WHOSE, w, slot] = region
    slots[AFTER, w, slot], slots[BEFORE, w, slot], banks[TAIL + w, b] = -1, before, slot
    if before >= 0:
        slots[AFTER, w, before] = slot
    else:
        banks[HEAD + w, b] = slot
    if row == banks[OPEN_ROW, b]:
        if banks[HIT + w, b] < 0:
            banks[HIT + w, b] = slot
            _rate(rules, banks, slots, 0, b)
            _rate(rules, banks, slots, 1, b)
    elif banks[MISS + w, b] < 0:
        banks[MISS + w, b] = slot
        _rate(rules, banks, slots, w, b)


@njit(inline="always", counted=False)
def _unqueue(now: Array, banks: Array, slots: Array, w: int, slot: int, b: int) -> int:
    """Take a request out; return the next one of its bank."""
    before, after = slots[BEFORE, w, slot], slots[AFTER, w, slot]
    if before >= 0:
        slots[AFTER, w, before] = after
    else:
        banks[HEAD + w, b] = after
    if after >= 0:
        slots[BEFORE, w, after] = before
    else:
        banks[TAIL + w, b] = before
    slots[LINE, w, slot] = -1
    slots[FREE, w, QUEUE - now[READS + w]] = slot
    now[READS + w] -= 1
    return int(after)


@njit(inline="always", counted=False)
def _finish(now: Array, runs: Array, run: int, cycle: int) -> None:
    """A line of a run is served at `cycle`; nobody waits for run -1."""
    if run >= 0:
        runs[run, LEFT] -= 1
        runs[run, END] = max(runs[run, END], cycle)
        now[FINISHED] += runs[run, LEFT] == 0


@njit(inline="always", counted=False)
def _offer(rules: Rules, now: Array, banks: Array, slots: Array, runs: Array) -> None:
    """Offer the next request in cycle index clock - 1, if its time has come; a full queue refuses."""
    cycle, run = now[CLOCK] - 1, now[RUN]
    if run == len(runs) or cycle < now[OFFER] or cycle < runs[run, AT] + runs[run, GAP] * now[STEP]:
        return
    line, w = runs[run, FIRST] + now[STEP], runs[run, WRITE]
    waiting = run if runs[run, LEFT] > 0 else -1
    if _find(now, slots, line):
        now[MERGED if w else FORWARDED] += 1
        _finish(now, runs, waiting, cycle + 1)
    elif now[READS + w] < QUEUE:
        _queue(rules, now, banks, slots, w, line, waiting, runs[run, REGION], cycle)
    else:
        return
    now[ORDER] += 1
    now[OFFER] = cycle + 1
    now[STEP] += 1
    if now[STEP] == runs[run, LINES]:
        now[RUN] += 1
        now[STEP] = 0


@njit(inline="always", counted=False)
def _next_offer(now: Array, slots: Array, runs: Array) -> int:
    """Return the cycle in which an offer will be taken if no command issues before; FAR if none."""
    run = now[RUN]
    if run == len(runs):
        return FAR
    w = runs[run, WRITE]
    if now[READS + w] == QUEUE and not _find(now, slots, runs[run, FIRST] + now[STEP]):
        return FAR
    return int(max(now[OFFER], runs[run, AT] + runs[run, GAP] * now[STEP]) + 1)


# commands ------------------------------------------------------------------------------------------------------------
@njit(inline="always", counted=False)
def _set_mode(now: Array) -> None:
    """Reads go first until writes pile up, or no read waits; then writes do until few are left and a read waits."""
    reads, writes = now[READS], now[WRITES]
    if now[MODE] == 0:
        if writes >= WRITES_HIGH or reads == 0:
            now[MODE] = 1
    elif writes <= WRITES_LOW and reads > 0:
        now[MODE] = 0


@njit(inline="always", counted=False)
def _earliest_active(rules: Rules, now: Array, banks: Array) -> tuple[int, int]:
    """Return cycle and bank of the next column command of a bank that was activated for a request."""
    at, best, bank = FAR, FAR, -1
    if now[ACTIVE] > 0:
        for b in range(rules.banks):
            if banks[ACTIVE_ORDER, b] < FAR:
                ready = max(now[CLOCK], banks[COL_READY, b], banks[BUS_READY + banks[ACTIVE_WRITE, b], b])
                if ready < at or (ready == at and banks[ACTIVE_ORDER, b] < best):
                    at, best, bank = ready, banks[ACTIVE_ORDER, b], b
    return at, bank


@njit(inline="always", counted=False)
def _earliest_queued(rules: Rules, now: Array, banks: Array, w: int, rank: int) -> int:
    """Return the cycle of the next command for a waiting request; `rank`: the first in which an ACT may be issued."""
    column, close, activate = FAR, FAR, FAR
    for b in range(rules.banks):
        column = min(column, max(banks[HIT_AT + w, b], banks[BUS_READY + w, b]))
        close = min(close, banks[PRE_AT + w, b])
        activate = min(activate, max(banks[ACT_AT + w, b], banks[GROUP_READY, b]))
    return int(min(max(now[CLOCK], min(column, close)), max(rank, activate)))


@njit(inline="always", counted=False)
def _oldest_queued(rules: Rules, banks: Array, w: int, at: int, rank: int) -> tuple[int, int]:
    """Return command and bank of the oldest request that may go in cycle `at`."""
    command, bank, best = NOTHING, -1, FAR
    for b in range(rules.banks):
        order = banks[HIT_ORDER + w, b] if max(banks[HIT_AT + w, b], banks[BUS_READY + w, b]) <= at else FAR
        if order < best:
            command, bank, best = RD + w, b, order
        order = banks[MISS_ORDER + w, b] if banks[PRE_AT + w, b] <= at else FAR
        if order < best:
            command, bank, best = PRE, b, order
        order = banks[MISS_ORDER + w, b] if max(rank, banks[ACT_AT + w, b], banks[GROUP_READY, b]) <= at else FAR
        if order < best:
            command, bank, best = ACT, b, order
    return command, bank


@njit(inline="always", counted=False)
def _choose(rules: Rules, now: Array, banks: Array) -> tuple[int, int, int, int]:
    """Return cycle, command, bank and queue (2: activated for it) of what comes next if nothing arrives before."""
    at, bank = _earliest_active(rules, now, banks)
    command, queue = RD + banks[ACTIVE_WRITE, bank], 2
    if now[PENDING] > 0:
        if now[OPEN] == 0:
            at, command = max(now[CLOCK], now[REF_READY]), REF
        elif now[ACTIVE] == 0:
            at, command = max(now[CLOCK], now[PREA_READY]), PREA
    elif at > now[CLOCK]:
        _set_mode(now)
        w = now[MODE]
        rank = max(now[CLOCK], now[RANK_ACT], now[FAW + now[FAW_AT]] + rules.tFAW)
        queued = _earliest_queued(rules, now, banks, w, rank)
        if queued < at:
            at, queue = queued, w
            command, bank = _oldest_queued(rules, banks, w, at, rank)
    return at, command, bank, queue


@njit(inline="always", counted=False)
def _occupy(rules: Rules, now: Array, banks: Array, b: int, w: int, at: int) -> None:
    """What a column command allows from now on: the data bus turns, the bank may close later."""
    per_group = 1 << rules.bank_bits
    first = (b >> rules.bank_bits) << rules.bank_bits
    write_end = at + rules.CWL + rules.burst
    if w == 0:
        read, write = at + max(rules.burst, rules.tCCD_S), at + rules.CL + rules.burst + 2 - rules.CWL
        read_group, write_group = at + max(rules.burst, rules.tCCD_L), write
        close = at + rules.tRTP
    else:
        read, write = write_end + rules.tWTR_S, at + max(rules.burst, rules.tCCD_S)
        read_group, write_group = write_end + rules.tWTR_L, at + max(rules.burst, rules.tCCD_L)
        close = write_end + rules.tWR
    for i in range(rules.banks):
        banks[BUS_READY, i] = max(banks[BUS_READY, i], read)
        banks[BUS_READY + 1, i] = max(banks[BUS_READY + 1, i], write)
    for i in range(first, first + per_group):
        banks[BUS_READY, i] = max(banks[BUS_READY, i], read_group)
        banks[BUS_READY + 1, i] = max(banks[BUS_READY + 1, i], write_group)
    banks[PRE_READY, b] = max(banks[PRE_READY, b], close)
    now[PREA_READY] = max(now[PREA_READY], close)


@njit(inline="always", counted=False)
def _column(rules: Rules, now: Array, banks: Array, slots: Array, runs: Array, b: int, queue: int, at: int) -> None:
    """Read or write a line: of the request the bank was activated for, or of the oldest that hits the open row."""
    if queue == 2:
        w, arrival, run = banks[ACTIVE_WRITE, b], banks[ACTIVE_ARRIVAL, b], banks[ACTIVE_RUN, b]
        region = banks[ACTIVE_REGION, b]
        banks[ACTIVE_ORDER, b] = FAR
        now[ACTIVE] -= 1
    else:
        w, slot = queue, banks[HIT + queue, b]
        arrival, run, region = slots[ARRIVAL, w, slot], slots[OF_RUN, w, slot], slots[WHOSE, w, slot]
        now[HITS] += 1 - slots[SEEN, w, slot]
        banks[SERVED, b] += banks[MISS + w, b] >= 0
        banks[HIT + w, b] = _first(slots, w, _unqueue(now, banks, slots, w, slot, b), banks[OPEN_ROW, b], True)
    _occupy(rules, now, banks, b, w, at)
    now[COMMANDS + 5 * region + RD + w] += 1
    if w == 0:
        now[LATENCY] += at + rules.CL + rules.burst - arrival
        at += rules.CL + rules.burst
    now[LAST] = max(now[LAST], at)
    _finish(now, runs, run, at)
    _rate(rules, banks, slots, 0, b)
    _rate(rules, banks, slots, 1, b)


@njit(inline="always", counted=False)
def _activate(rules: Rules, now: Array, banks: Array, slots: Array, b: int, w: int, at: int) -> None:
    """Open the row of the oldest request of a bank; the bank is its until it is served."""
    slot = banks[MISS + w, b]
    per_group = 1 << rules.bank_bits
    first, row = (b >> rules.bank_bits) << rules.bank_bits, slots[ROW, w, slot]
    now[MISSES] += 1 - slots[SEEN, w, slot]
    now[COMMANDS + 5 * slots[WHOSE, w, slot] + ACT] += 1
    if now[OPEN] == 0:
        now[OPEN_SINCE] = at
    now[OPEN] += 1
    now[ACTIVE] += 1
    banks[ACTIVE_ORDER, b], banks[ACTIVE_WRITE, b] = slots[ID, w, slot], w
    banks[ACTIVE_ARRIVAL, b], banks[ACTIVE_RUN, b] = slots[ARRIVAL, w, slot], slots[OF_RUN, w, slot]
    banks[ACTIVE_REGION, b] = slots[WHOSE, w, slot]
    _unqueue(now, banks, slots, w, slot, b)
    banks[OPEN_ROW, b], banks[SERVED, b] = row, 0
    banks[COL_READY, b], banks[ACT_READY, b] = at + rules.tRCD, at + rules.tRC
    banks[PRE_READY, b] = max(banks[PRE_READY, b], at + rules.tRAS)
    now[PREA_READY] = max(now[PREA_READY], at + rules.tRAS)
    now[REF_READY] = max(now[REF_READY], at + rules.tRC)
    now[RANK_ACT] = at + rules.tRRD_S
    for i in range(first, first + per_group):
        banks[GROUP_READY, i] = at + rules.tRRD_L
    now[FAW + now[FAW_AT]] = at
    now[FAW_AT] = (now[FAW_AT] + 1) & 3
    for v in range(2):
        banks[HIT + v, b] = _first(slots, v, banks[HEAD + v, b], row, True)
        banks[MISS + v, b] = _first(slots, v, banks[HEAD + v, b], row, False)
    _rate(rules, banks, slots, 0, b)
    _rate(rules, banks, slots, 1, b)


@njit(inline="always", counted=False)
def _close(rules: Rules, now: Array, banks: Array, slots: Array, b: int, at: int) -> None:
    """Close a bank: all that waits for it needs an ACT now."""
    banks[OPEN_ROW, b] = -1
    banks[ACT_READY, b] = max(banks[ACT_READY, b], at + rules.tRP)
    for w in range(2):
        banks[HIT + w, b], banks[MISS + w, b] = -1, banks[HEAD + w, b]
    _rate(rules, banks, slots, 0, b)
    _rate(rules, banks, slots, 1, b)


@njit(inline="always", counted=False)
def _precharge(rules: Rules, now: Array, banks: Array, slots: Array, b: int, w: int, at: int) -> None:
    """Close one bank for a request of another row."""
    slot = banks[MISS + w, b]
    if slot >= 0 and slots[SEEN, w, slot] == 0:
        now[CONFLICTS] += 1
        slots[SEEN, w, slot] = 1
    now[COMMANDS + 5 * (slots[WHOSE, w, slot] if slot >= 0 else 0) + PRE] += 1
    now[OPEN] -= 1
    if now[OPEN] == 0:
        now[ACTIVE_CYCLES] += at - now[OPEN_SINCE]
    now[REF_READY] = max(now[REF_READY], at + rules.tRP)
    _close(rules, now, banks, slots, b, at)


@njit(inline="always", counted=False)
def _maintain(rules: Rules, now: Array, banks: Array, slots: Array, command: int, at: int) -> None:
    """Close all banks, or refresh them."""
    if command == PREA:
        now[N_PREA] += 1
        now[OPEN] = 0
        now[ACTIVE_CYCLES] += at - now[OPEN_SINCE]
        now[REF_READY] = max(now[REF_READY], at + rules.tRP)
        for b in range(rules.banks):
            _close(rules, now, banks, slots, b, at)
    else:
        now[N_REF] += 1
        now[PENDING] -= 1
        now[REF_READY] = at + rules.tRFC
        now[RANK_ACT] = max(now[RANK_ACT], at + rules.tRFC)
        now[PREA_READY] = max(now[PREA_READY], at + rules.tRFC)


@njit(counted=False)
def advance(
    rules: Rules, now: Array, banks: Array, slots: Array, runs: Array, until: int, wanted: int, drain: int, log: Array
) -> None:
    """Go on until cycle `until` is reached, all is served, `wanted` runs have finished, or the log is full.

    drain 0: only until the last request is taken, more of them follow; 2: to `until` whether there is work or not.
    log int64 (n, 4): cycle, command, bank, row of every command; with n = 0 nothing is written down.
    """
    while (
        now[RUN] < len(runs)
        or (drain > 0 and now[READS] + now[WRITES] + now[ACTIVE] > 0)
        or (drain > 1 and now[CLOCK] < until)
    ):
        enough, full = 0 < wanted <= now[FINISHED], 0 < len(log) <= now[LOGGED]
        if now[CLOCK] >= until or enough or full:
            break
        _offer(rules, now, banks, slots, runs)
        if not drain and now[RUN] == len(runs):
            break
        if now[CLOCK] >= now[NEXT_REFRESH]:
            now[PENDING] += 1
            now[NEXT_REFRESH] += rules.tREFI
        at, command, bank, queue = _choose(rules, now, banks)
        arrival = min(now[NEXT_REFRESH], _next_offer(now, slots, runs))
        if arrival <= at or at >= until:
            now[CLOCK] = min(arrival, until)
            continue
        row = slots[ROW, queue, banks[MISS + queue, bank]] if command == ACT else NOTHING
        if command in (RD, WR):
            row = banks[OPEN_ROW, bank]
            _column(rules, now, banks, slots, runs, bank, queue, at)
        elif command == ACT:
            _activate(rules, now, banks, slots, bank, queue, at)
        elif command == PRE:
            _precharge(rules, now, banks, slots, bank, queue, at)
        else:
            bank = NOTHING
            _maintain(rules, now, banks, slots, command, at)
        if len(log) > 0:
            log[now[LOGGED], 0], log[now[LOGGED], 1] = at, command
            log[now[LOGGED], 2], log[now[LOGGED], 3] = bank, row
            now[LOGGED] += 1
        now[CLOCK] = at + 1
