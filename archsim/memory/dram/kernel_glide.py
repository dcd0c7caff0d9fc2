"""Run compression: while only hits on open rows can go, all that happens is known in advance. Exact, not approximate.

A long run keeps its queue full: each column command frees the slot the next line takes in the same cycle. As long as
these lines stay in one open row, at most two banks are served (the row before it may have a rest), and nothing else
can become legal, a step needs no search. Once all that wait have come at the pace of one bank, whole stretches of
steps differ by a shift of lines, orders and arrivals only.
"""

from __future__ import annotations

from archsim.kernels._jit import njit

# fmt: off
# isort: off
from archsim.memory.dram.fields import (
    ACT_AT, ACTIVE_ORDER, ACTIVE_WRITE, AFTER, ARRIVAL, AT, BEFORE, BUS_READY, CLOCK, COL_READY, COMMANDS, END, FAR,
    FINISHED, FIRST, GAP, GLIDED, GLIDES, HEAD, HIT, HIT_AT, HITS, ID, LAST, LATENCY, LEFT, LINE, LINES, LOGGED, MISS,
    MODE, NEXT_REFRESH, OF_RUN, OFFER, OPEN_ROW, ORDER, PENDING, PRE_AT, QUEUE, RANK_READY, RD, READS, REGION, ROW,
    RUN, SEEN, STEP, TAIL, WHOSE, WRITE, WRITES, WRITES_HIGH, FREE, Array, Rules,
)
from archsim.memory.dram.kernel_commands import occupy, rank_of
from archsim.memory.dram.kernel_requests import finish, place, rate, unqueue
# isort: on
# fmt: on

WORTH = 4
"""Steps from which on it is worth looking whether there is nothing but hits."""
LOOK_AGAIN = 8
"""Steps one by one after which it is worth looking whether all that wait is of the run by now."""


@njit(inline="always", counted=False)
def _lines_ahead(rules: Rules, now: Array, banks: Array, slots: Array, runs: Array, bank: int, row: int) -> int:
    """Return how many lines of the run may be taken one behind the other, by the queue, the row and the run; 0: none.

    The last line of a run is left to the ordinary steps.
    """
    run = now[RUN]
    w, line = runs[run, WRITE], runs[run, FIRST] + now[STEP]
    steady = now[PENDING] == 0 and now[MODE] == w and (w == 1 or now[WRITES] < WRITES_HIGH)
    full = now[READS + w] == QUEUE and runs[run, GAP] == 0 and runs[run, AT] < now[CLOCK]
    hits = banks[OPEN_ROW, bank] == row and banks[HIT_AT + w, bank] < FAR and banks[MISS + w, bank] < 0
    if not (steady and full and hits) or rules.column_shift > 0:
        return 0
    row_lines = 1 << rules.column_bits
    ahead = min(runs[run, LINES] - now[STEP] - 1, row_lines - (line & (row_lines - 1)))
    if now[WRITES] > 0:
        for slot in range(QUEUE):  # a line that waits to be written takes no slot
            if line <= slots[LINE, 1, slot] < line + ahead:
                ahead = 0
    return int(ahead)


@njit(inline="always", counted=False)
def _only_hits(rules: Rules, now: Array, banks: Array, w: int, bank: int) -> tuple[int, int]:
    """Return another bank with hits (-1: none), and the cycle before which only hits of these two can go."""
    before, other = now[NEXT_REFRESH], -1
    for b in range(rules.banks):
        if banks[ACTIVE_ORDER, b] < FAR:
            before = min(before, max(banks[COL_READY, b], banks[BUS_READY + banks[ACTIVE_WRITE, b], b]))
        before = min(before, banks[PRE_AT + w, b], max(banks[ACT_AT + w, b], banks[RANK_READY, b]))
        if banks[HIT_AT + w, b] < FAR and b != bank:
            if other >= 0 or banks[MISS + w, b] >= 0:
                before = 0
            other = b
    return other, int(before)


@njit(inline="always", counted=False)
def _hit(
    rules: Rules, now: Array, banks: Array, slots: Array, runs: Array, w: int, b: int, at: int, log: Array
) -> None:
    """Serve the first request of a bank in cycle `at` and take it out."""
    slot, end = banks[HEAD + w, b], at
    if w == 0:
        end += rules.CL + rules.burst
        now[LATENCY] += end - slots[ARRIVAL, 0, slot]
    now[HITS] += 1 - slots[SEEN, w, slot]
    now[LAST] = max(now[LAST], end)
    now[COMMANDS + 5 * slots[WHOSE, w, slot] + RD + w] += 1
    finish(now, runs, slots[OF_RUN, w, slot], end)
    unqueue(now, banks, slots, w, slot, b)
    if len(log) > 0:
        log[now[LOGGED], 0], log[now[LOGGED], 1] = at, RD + w
        log[now[LOGGED], 2], log[now[LOGGED], 3] = b, banks[OPEN_ROW, b]
        now[LOGGED] += 1


@njit(inline="always", counted=False)
def _take(now: Array, banks: Array, slots: Array, runs: Array, w: int, b: int, at: int) -> None:
    """Put the next line of the run, a hit, behind the others of its bank."""
    run, before = now[RUN], banks[TAIL + w, b]
    now[READS + w] += 1
    slot = slots[FREE, w, QUEUE - now[READS + w]]
    slots[LINE, w, slot], slots[ROW, w, slot] = runs[run, FIRST] + now[STEP], banks[OPEN_ROW, b]
    slots[ID, w, slot], slots[ARRIVAL, w, slot], slots[SEEN, w, slot] = now[ORDER], at, 0
    slots[OF_RUN, w, slot], slots[WHOSE, w, slot] = run if runs[run, LEFT] > 0 else -1, runs[run, REGION]
    slots[AFTER, w, slot], slots[BEFORE, w, slot], banks[TAIL + w, b] = -1, before, slot
    if before >= 0:
        slots[AFTER, w, before] = slot
    else:
        banks[HEAD + w, b] = slot
    now[ORDER] += 1
    now[STEP] += 1
    now[OFFER] = at + 1


@njit(inline="always", counted=False)
def _ready(banks: Array, w: int, b: int) -> int:
    """Return the cycle from which the hits of a bank may go; FAR if it has none."""
    if b < 0 or banks[HEAD + w, b] < 0:
        return FAR
    return int(max(banks[COL_READY, b], banks[BUS_READY + w, b]))


@njit(inline="always", counted=False)
def _next_hit(now: Array, banks: Array, slots: Array, w: int, bank: int, other: int) -> tuple[int, int]:
    """Return cycle and bank of the next hit: the oldest of those that may go first."""
    ready, other_ready = _ready(banks, w, bank), _ready(banks, w, other)
    at = max(now[CLOCK], min(ready, other_ready))
    if other_ready <= at and (ready > at or slots[ID, w, banks[HEAD + w, other]] < slots[ID, w, banks[HEAD + w, bank]]):
        bank = other
    return int(at), bank


@njit(inline="always", counted=False)
def _all_of_this_run(rules: Rules, now: Array, banks: Array, slots: Array, runs: Array, w: int) -> bool:
    """Tell whether all that wait in the queue are hits, and of the run that is being taken."""
    run, others = now[RUN], 0
    waiting = run if runs[run, LEFT] > 0 else -1
    for slot in range(QUEUE):
        others += (slots[OF_RUN, w, slot] != waiting) | (slots[WHOSE, w, slot] != runs[run, REGION])
    for b in range(rules.banks):
        others += banks[MISS + w, b] >= 0
    return others == 0


@njit(inline="always", counted=False)
def _leap_of(
    rules: Rules, now: Array, banks: Array, slots: Array, runs: Array, w: int, bank: int, other: int, at: int, b: int
) -> tuple[int, int, int]:
    """Return spacing, steps (FAR: any number) and last cycle of `other` from a first hit of bank `b` in cycle `at` on.

    Hits of one bank keep tCCD_L apart, and so do those of two banks of one group, in the order of their age. Hits of
    two groups take turns, tCCD_S apart, until one has none left. Steps 0: neither of this, or two ranks. The last step
    is `bank`'s.
    """
    beside = max(rules.burst, rules.tCCD_S)
    pace = max(beside, rules.tCCD_L)
    if other < 0 or banks[HEAD + w, other] < 0:
        return pace, FAR, -FAR
    if rules.closed or rank_of(rules, other) != rank_of(rules, bank):  # closed: a bank may be closed in between
        return pace, 0, -FAR
    if other >> rules.bank_bits == bank >> rules.bank_bits:
        beside = pace
    late = max(_ready(banks, w, bank), _ready(banks, w, other))
    block = (runs[now[RUN], FIRST] + now[STEP]) >> rules.column_bits
    youngest, theirs, older = slots[ID, w, banks[TAIL + w, other]], 0, 0
    for slot in range(QUEUE):
        theirs += slots[LINE, w, slot] >> rules.column_bits != block
        older += slots[ID, w, slot] < youngest
    if beside == pace:
        return pace, FAR if late <= at else 0, at + older * pace
    steps = 2 * theirs + (b != other) if late <= at + beside and pace <= 2 * beside else 0
    return beside, steps, at + (steps - 2) * beside


@njit(inline="always", counted=False)
def _leap(
    rules: Rules, now: Array, banks: Array, slots: Array, runs: Array, w: int, b: int, steps: int, spacing: int, at: int
) -> None:
    """Serve all that wait and more of the run, `steps` in all up to cycle `at`; as many lines of bank `b` come."""
    run, waited, end = now[RUN], 0, at
    first, line, order = at - (QUEUE - 1) * spacing, now[STEP] + steps - QUEUE, now[ORDER] + steps - QUEUE
    line += runs[run, FIRST]
    for slot in range(QUEUE):
        now[HITS] -= slots[SEEN, w, slot]
        waited += first + slot * spacing - slots[ARRIVAL, w, slot]
        slots[LINE, w, slot], slots[ROW, w, slot] = line + slot, banks[OPEN_ROW, b]
        slots[ID, w, slot], slots[SEEN, w, slot] = order + slot, 0
        slots[ARRIVAL, w, slot] = first + slot * spacing
        slots[AFTER, w, slot], slots[BEFORE, w, slot] = slot + 1, slot - 1
    slots[AFTER, w, QUEUE - 1], banks[HEAD + w, b], banks[TAIL + w, b] = -1, 0, QUEUE - 1
    if w == 0:
        end += rules.CL + rules.burst
        now[LATENCY] += waited + steps * (rules.CL + rules.burst)
    if runs[run, LEFT] > 0:
        runs[run, LEFT] -= steps
        runs[run, END] = max(runs[run, END], end)
    now[HITS] += steps
    now[COMMANDS + 5 * runs[run, REGION] + RD + w] += steps
    now[LAST] = max(now[LAST], end)
    now[ORDER] += steps
    now[STEP] += steps
    now[OFFER] = now[CLOCK] = at + 1


@njit(counted=False)
def glide(
    rules: Rules,
    now: Array,
    ranks: Array,
    banks: Array,
    slots: Array,
    runs: Array,
    until: int,
    wanted: int,
    log: Array,
) -> bool:
    """Serve hits as long as nothing else can happen; tell whether there were any."""
    first, w = now[STEP], runs[now[RUN], WRITE]
    bank, row = place(rules, runs[now[RUN], FIRST] + first)
    last = first + _lines_ahead(rules, now, banks, slots, runs, bank, row)
    if last - first < WORTH:
        return False
    other, before = _only_hits(rules, now, banks, w, bank)
    before, look, started = min(before, until), first, now[CLOCK]
    while now[STEP] < last:
        at, b = _next_hit(now, banks, slots, w, bank, other)
        if at >= before:
            break
        if now[STEP] >= look and len(log) == 0:
            look = now[STEP] + LOOK_AGAIN
            if _all_of_this_run(rules, now, banks, slots, runs, w):
                spacing, steps, other_at = _leap_of(rules, now, banks, slots, runs, w, bank, other, at, b)
                room = min(last - now[STEP], (before - 2 - at) // spacing + 1)
                if steps == FAR:
                    steps = room
                if QUEUE <= steps <= room:
                    if other_at > -FAR:
                        banks[HEAD + w, other], banks[TAIL + w, other] = -1, -1
                        occupy(rules, ranks, banks, other, w, other_at)
                    at, look = at + (steps - 1) * spacing, 0
                    _leap(rules, now, banks, slots, runs, w, bank, steps, spacing, at)
                    occupy(rules, ranks, banks, bank, w, at)
                    continue
        _hit(rules, now, banks, slots, runs, w, b, at, log)
        occupy(rules, ranks, banks, b, w, at)
        now[CLOCK] = at + 1
        if at + 1 >= until or 0 < wanted <= now[FINISHED] or 0 < len(log) <= now[LOGGED]:
            break
        _take(now, banks, slots, runs, w, bank, at)
        if rules.closed and banks[HEAD + w, b] < 0:
            break  # nobody waits for its row: the bank may be closed now
    if now[CLOCK] == started:
        return False
    for b in (bank, other):
        if b >= 0:
            banks[HIT + w, b] = banks[HEAD + w, b]
            for v in range(2):
                rate(rules, banks, slots, v, b)
    now[GLIDES] += 1
    now[GLIDED] += now[STEP] - first
    return True
