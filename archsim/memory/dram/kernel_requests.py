"""Requests of a channel: offered, waiting in the queue of their bank, served."""

from __future__ import annotations

from archsim.kernels._jit import njit

# fmt: off
# isort: off
from archsim.memory.dram.fields import (
    ACTIVE_ORDER, ACT_AT, ACT_READY, AFTER, ARRIVAL, AT, BEFORE, BLOCKED, CLOCK, COL_READY, END, FAR, FINISHED, FIRST,
    FORWARDED, FREE, GAP, HEAD, HIT, HIT_AT, HIT_ORDER, ID, LEFT, LINE, LINES, MERGED, MISS, MISS_ORDER, OFFER,
    OF_RUN, OPEN_ROW, ORDER, PRE_AT, PRE_READY, QUEUE, READS, REGION, ROW, RUN, SEEN, SERVED, STEP, TAIL, WHOSE,
    WRITE, WRITES, Array, Rules,
)
# isort: on
# fmt: on


@njit(inline="always", counted=False)
def place(rules: Rules, line: int) -> tuple[int, int]:
    """Return bank and row of a line; banks of one group follow one another, and so do the groups of one rank."""
    rank = (line >> rules.rank_shift) & ((1 << rules.rank_bits) - 1)
    group = (line >> rules.group_shift) & ((1 << rules.group_bits) - 1)
    bank = (line >> rules.bank_shift) & ((1 << rules.bank_bits) - 1)
    bank |= ((rank << rules.group_bits) | group) << rules.bank_bits
    return bank, (line >> rules.row_shift) & ((1 << rules.row_bits) - 1)


@njit(inline="always", counted=False)
def first_of(slots: Array, w: int, slot: int, row: int, equal: bool) -> int:
    """Return the first slot from `slot` on whose row is, or is not, `row`; -1 for none."""
    while slot >= 0 and (slots[ROW, w, slot] == row) != equal:
        slot = slots[AFTER, w, slot]
    return slot


@njit(inline="always", counted=False)
def rate(rules: Rules, banks: Array, slots: Array, w: int, b: int) -> None:
    """Write down when the candidates of one bank and queue may go, as far as the bank is concerned.

    None may while its rank has a refresh pending.
    """
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
    if banks[BLOCKED, b] > 0:
        banks[HIT_AT + w, b], banks[ACT_AT + w, b], banks[PRE_AT + w, b] = FAR, FAR, FAR


@njit(inline="always", counted=False)
def is_written(now: Array, slots: Array, line: int) -> bool:
    """Tell whether a write to this line waits."""
    found = False
    if now[WRITES] > 0:
        for slot in range(QUEUE):
            found |= slots[LINE, 1, slot] == line
    return found


@njit(inline="always", counted=False)
def queue_up(
    rules: Rules, now: Array, banks: Array, slots: Array, w: int, line: int, run: int, region: int, cycle: int
) -> None:
    """Put a request behind those of its bank."""
    now[READS + w] += 1
    slot = slots[FREE, w, QUEUE - now[READS + w]]
    b, row = place(rules, line)
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
            rate(rules, banks, slots, 0, b)
            rate(rules, banks, slots, 1, b)
    elif banks[MISS + w, b] < 0:
        banks[MISS + w, b] = slot
        rate(rules, banks, slots, w, b)


@njit(inline="always", counted=False)
def unqueue(now: Array, banks: Array, slots: Array, w: int, slot: int, b: int) -> int:
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
def finish(now: Array, runs: Array, run: int, cycle: int) -> None:
    """A line of a run is served at `cycle`; nobody waits for run -1."""
    if run >= 0:
        runs[run, LEFT] -= 1
        runs[run, END] = max(runs[run, END], cycle)
        now[FINISHED] += runs[run, LEFT] == 0


@njit(inline="always", counted=False)
def offer(rules: Rules, now: Array, banks: Array, slots: Array, runs: Array) -> None:
    """Offer the next request in cycle index clock - 1, if its time has come; a full queue refuses."""
    cycle, run = now[CLOCK] - 1, now[RUN]
    if run == len(runs) or cycle < now[OFFER] or cycle < runs[run, AT] + runs[run, GAP] * now[STEP]:
        return
    line, w = runs[run, FIRST] + now[STEP], runs[run, WRITE]
    waiting = run if runs[run, LEFT] > 0 else -1
    if is_written(now, slots, line):
        now[MERGED if w else FORWARDED] += 1
        finish(now, runs, waiting, cycle + 1)
    elif now[READS + w] < QUEUE:
        queue_up(rules, now, banks, slots, w, line, waiting, runs[run, REGION], cycle)
    else:
        return
    now[ORDER] += 1
    now[OFFER] = cycle + 1
    now[STEP] += 1
    if now[STEP] == runs[run, LINES]:
        now[RUN] += 1
        now[STEP] = 0


@njit(inline="always", counted=False)
def next_offer(now: Array, slots: Array, runs: Array) -> int:
    """Return the cycle in which an offer will be taken if no command issues before; FAR if none."""
    run = now[RUN]
    if run == len(runs):
        return FAR
    w = runs[run, WRITE]
    if now[READS + w] == QUEUE and not is_written(now, slots, runs[run, FIRST] + now[STEP]):
        return FAR
    return int(max(now[OFFER], runs[run, AT] + runs[run, GAP] * now[STEP]) + 1)
