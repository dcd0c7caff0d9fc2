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
    FAW, FAW_AT, FINISHED, FIRST, GAP, GLIDED, GLIDES, GROUP_READY, HEAD, HIT, HIT_AT, HITS, ID, LAST, LATENCIES,
    LATENCY, LEFT, LINE, LINES, LOGGED, LONGEST, MISS, MODE, NEXT_REFRESH, OF_RUN, OFFER, OPEN_ROW, ORDER, PENDING,
    PRE_AT, QUEUE, RANK_ACT, RD, READS, REGION, ROW, RUN, SEEN, STEP, TAIL, WHOSE, WRITE, WRITES, WRITES_HIGH, FREE,
    Array, Rules,
)
from archsim.memory.dram.kernel_commands import occupy
from archsim.memory.dram.kernel_requests import finish, place, rate, unqueue
# isort: on
# fmt: on

WORTH = 4
"""Steps from which on it is worth looking whether there is nothing but hits."""


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
    if not (steady and full and hits):
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
    rank, activate = max(now[RANK_ACT], now[FAW + now[FAW_AT]] + rules.tFAW), FAR
    before, other = now[NEXT_REFRESH], -1
    for b in range(rules.banks):
        if banks[ACTIVE_ORDER, b] < FAR:
            before = min(before, max(banks[COL_READY, b], banks[BUS_READY + banks[ACTIVE_WRITE, b], b]))
        before = min(before, banks[PRE_AT + w, b])
        activate = min(activate, max(banks[ACT_AT + w, b], banks[GROUP_READY, b]))
        if banks[HIT_AT + w, b] < FAR and b != bank:
            if other >= 0 or banks[MISS + w, b] >= 0:
                before = 0
            other = b
    return other, int(min(before, max(rank, activate)))


@njit(inline="always", counted=False)
def _hit(rules: Rules, now: Array, banks: Array, slots: Array, runs: Array, w: int, b: int, at: int, log: Array) -> int:
    """Serve the first request of a bank in cycle `at` and take it out; return the cycle of its end."""
    slot, end = banks[HEAD + w, b], at
    if w == 0:
        end += rules.CL + rules.burst
        latency = end - slots[ARRIVAL, 0, slot]
        now[LATENCY] += latency
        now[LATENCIES + min(latency, LONGEST)] += 1
    now[HITS] += 1 - slots[SEEN, w, slot]
    now[COMMANDS + 5 * slots[WHOSE, w, slot] + RD + w] += 1
    finish(now, runs, slots[OF_RUN, w, slot], end)
    unqueue(now, banks, slots, w, slot, b)
    if len(log) > 0:
        log[now[LOGGED], 0], log[now[LOGGED], 1] = at, RD + w
        log[now[LOGGED], 2], log[now[LOGGED], 3] = b, banks[OPEN_ROW, b]
        now[LOGGED] += 1
    return int(end)


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
def _leap(rules: Rules, now: Array, slots: Array, runs: Array, w: int, steps: int, pace: int, at: int) -> int:
    """Serve and take `steps` lines, the last in cycle `at`, if all that wait came `pace` apart; return the last end."""
    run, end = now[RUN], at
    for slot in range(QUEUE):
        slots[LINE, w, slot] += steps
        slots[ID, w, slot] += steps
        slots[ARRIVAL, w, slot] += steps * pace
    if w == 0:
        end += rules.CL + rules.burst
        latency = QUEUE * pace + rules.CL + rules.burst
        now[LATENCY] += steps * latency
        now[LATENCIES + min(latency, LONGEST)] += steps
    now[HITS] += steps
    now[COMMANDS + 5 * runs[run, REGION] + RD + w] += steps
    if runs[run, LEFT] > 0:
        runs[run, LEFT] -= steps
        runs[run, END] = max(runs[run, END], end)
    now[ORDER] += steps
    now[STEP] += steps
    now[OFFER] = at + 1
    return int(end)


@njit(inline="always", counted=False)
def _ready(banks: Array, w: int, b: int) -> int:
    """Return the cycle from which the hits of a bank may go; FAR if it has none."""
    if b < 0 or banks[HEAD + w, b] < 0:
        return FAR
    return int(max(banks[COL_READY, b], banks[BUS_READY + w, b]))


@njit(inline="always", counted=False)
def _settle(rules: Rules, now: Array, banks: Array, slots: Array, w: int, b: int, at: int) -> None:
    """Write down what follows from the last hit of a bank, in cycle `at`."""
    if at > -FAR:
        banks[HIT + w, b] = banks[HEAD + w, b]
        occupy(rules, now, banks, b, w, at)
        rate(rules, banks, slots, 0, b)
        rate(rules, banks, slots, 1, b)


@njit(counted=False)
def glide(
    rules: Rules, now: Array, banks: Array, slots: Array, runs: Array, until: int, wanted: int, log: Array
) -> bool:
    """Serve hits as long as nothing else can happen; tell whether there were any."""
    first, w = now[STEP], runs[now[RUN], WRITE]
    bank, row = place(rules, runs[now[RUN], FIRST] + first)
    last = first + _lines_ahead(rules, now, banks, slots, runs, bank, row)
    if last - first < WORTH:
        return False
    other, before = _only_hits(rules, now, banks, w, bank)
    before = min(before, until)
    pace, beside = max(rules.burst, rules.tCCD_L), max(rules.burst, rules.tCCD_S)
    if other >> rules.bank_bits == bank >> rules.bank_bits:
        beside = pace
    bank_at, other_at, end, alike = -FAR, -FAR, 0, 0
    while now[STEP] < last:
        ready, other_ready = _ready(banks, w, bank), _ready(banks, w, other)
        at = max(now[CLOCK], min(ready, other_ready))
        if at >= before:
            break
        alike = alike + 1 if at == max(bank_at, other_at) + pace else 1
        older = other_ready < FAR and slots[ID, w, banks[HEAD + w, other]] < slots[ID, w, banks[HEAD + w, bank]]
        if other_ready <= at and (older or ready > at):
            end = _hit(rules, now, banks, slots, runs, w, other, at, log)
            banks[BUS_READY + w, other], other_at = at + pace, at
            banks[BUS_READY + w, bank] = max(banks[BUS_READY + w, bank], at + beside)
            if rules.closed and banks[HEAD + w, other] < 0:
                last = now[STEP] + 1  # the bank may be closed now
        else:
            end = _hit(rules, now, banks, slots, runs, w, bank, at, log)
            banks[BUS_READY + w, bank], bank_at = at + pace, at
            if other_ready < FAR:
                banks[BUS_READY + w, other] = max(banks[BUS_READY + w, other], at + beside)
        now[CLOCK] = at + 1
        if at + 1 >= until or 0 < wanted <= now[FINISHED] or 0 < len(log) <= now[LOGGED]:
            break
        _take(now, banks, slots, runs, w, bank, at)
        if alike >= QUEUE and other_ready == FAR and len(log) == 0:
            steps = min(last - now[STEP], (before - 2 - at) // pace)
            if steps > 0:
                bank_at = at + steps * pace
                end = _leap(rules, now, slots, runs, w, steps, pace, bank_at)
                banks[BUS_READY + w, bank], now[CLOCK] = bank_at + pace, bank_at + 1
    _settle(rules, now, banks, slots, w, bank, bank_at)
    _settle(rules, now, banks, slots, w, other, other_at)
    now[LAST] = max(now[LAST], end)
    now[GLIDES] += end > 0
    now[GLIDED] += now[STEP] - first
    return end > 0
