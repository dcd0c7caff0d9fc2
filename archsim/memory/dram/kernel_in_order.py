"""`policy: in_order` compiled: the rules of `in_order.py`, the clock jumping over cycles in which nothing happens."""

from __future__ import annotations

import numpy as np

from archsim.kernels._jit import njit
from archsim.memory.dram.fields import ACT, FAR, LONGEST, NOTHING, PRE, PREA, RD, REF, WR, Array, Rules

CLOCK, PENDING, NEXT_REFRESH, COLUMN_TURN, ROW_TURN, RANK_ACT, FAW_AT, OPEN, ACTIVATING, WAITING, OPEN_SINCE = range(11)
LAST, HITS, MISSES, CONFLICTS, LATENCY, ACTIVE_CYCLES, TAKEN, EARLIEST, LOGGED = range(11, 20)
COMMANDS, FAW, SCALARS = 20, 26, 30
"""Indices of the scalars: the clock and the rank, counters; from COMMANDS on one counter of each command, from FAW on
the cycles of the last four ACT; behind them reads by their latency, LONGEST and above in the last."""
OPEN_ROW, FRESH, SEEN, COLUMN_AT, PRE_AT, ACT_AT, COUNT, HEAD, BANK_FIELDS = range(9)
READ_AT, WRITE_AT, GROUP_ACT, GROUP_FIELDS = range(4)
ROW, IS_WRITE, ARRIVAL, REQUEST_FIELDS = range(4)
"""First indices of the state of banks and of bank groups, last ones of what waits."""
State = tuple[Array, Array, Array, Array]
ALWAYS = np.ones(1, np.int64)


def fresh_state(rules: Rules, depth: int, *, refresh: bool = True) -> State:
    """Return a controller at cycle 0, int64: scalars, banks (BANK_FIELDS, banks), groups, queues (banks, depth, 3)."""
    now = np.zeros(SCALARS + LONGEST + 1, np.int64)
    now[NEXT_REFRESH], now[FAW : FAW + 4] = rules.tREFI if refresh else FAR, -FAR
    banks = np.zeros((BANK_FIELDS, rules.banks), np.int64)
    banks[OPEN_ROW] = -1
    groups = np.zeros((GROUP_FIELDS, 1 << rules.group_bits), np.int64)
    return now, banks, groups, np.zeros((rules.banks, depth, REQUEST_FIELDS), np.int64)


@njit(inline="always", counted=False)
def _place(rules: Rules, line: int) -> tuple[int, int]:
    """Return bank and row of a line: column, bank group, bank, row from the least significant bit."""
    block = line >> rules.column_bits
    group, bank = block & ((1 << rules.group_bits) - 1), (block >> rules.group_bits) & ((1 << rules.bank_bits) - 1)
    return (group << rules.bank_bits) | bank, block >> (rules.group_bits + rules.bank_bits)


@njit(inline="always", counted=False)
def _column(rules: Rules, now: Array, banks: Array, groups: Array, queues: Array) -> tuple[int, int, int]:
    """Return the bank that has the data bus, the cycle of its command, and the next one in which that may change."""
    t, mask = now[CLOCK], rules.banks - 1
    best, at, bank, later = rules.banks, FAR, NOTHING, FAR
    for b in range(rules.banks):
        head = banks[HEAD, b]
        if banks[COUNT, b] == 0 or banks[OPEN_ROW, b] != queues[b, head, ROW]:
            continue
        if now[PENDING] > 0 and banks[FRESH, b] == 0:
            continue
        if banks[COLUMN_AT, b] > t:
            later = min(later, banks[COLUMN_AT, b])
            continue
        turn = (b - now[COLUMN_TURN]) & mask
        if turn < best:
            best, bank = turn, b
            at = groups[READ_AT + queues[b, head, IS_WRITE], b >> rules.bank_bits]
    return bank, max(at, t), later


@njit(inline="always", counted=False)
def _row(rules: Rules, now: Array, banks: Array, groups: Array, queues: Array) -> tuple[int, int, int]:
    """Return ACT or PRE that may be issued now and its bank, or NOTHING and the next cycle in which one may be."""
    t, mask = now[CLOCK], rules.banks - 1
    rank = max(now[RANK_ACT], now[FAW + now[FAW_AT]] + rules.tFAW)
    best, command, bank, later = rules.banks, NOTHING, NOTHING, FAR
    for b in range(rules.banks):
        row = banks[OPEN_ROW, b]
        if banks[COUNT, b] == 0 or row == queues[b, banks[HEAD, b], ROW]:
            continue
        at = banks[PRE_AT, b] if row >= 0 else max(rank, banks[ACT_AT, b], groups[GROUP_ACT, b >> rules.bank_bits])
        if at > t:
            later = min(later, at)
            continue
        turn = (b - now[ROW_TURN]) & mask
        if turn < best:
            best, command, bank = turn, PRE if row >= 0 else ACT, b
    return command, bank, later


@njit(inline="always", counted=False)
def _choose(
    rules: Rules, now: Array, banks: Array, groups: Array, queues: Array, data_ready: Array
) -> tuple[int, int, int]:
    """Return the command of this cycle and its bank, or NOTHING and the next cycle in which there may be one."""
    t = now[CLOCK]
    bank, at, later = _column(rules, now, banks, groups, queues)
    if bank >= 0 and at == t and data_ready[t % len(data_ready)]:
        return RD + queues[bank, banks[HEAD, bank], IS_WRITE], bank, t
    if bank >= 0:
        later = min(later, max(at, t + 1))
    if now[PENDING] > 0:
        command, at = REF, 0
        if now[OPEN] > 0:
            command, at = PREA, FAR if now[ACTIVATING] > 0 else 0
        for b in range(rules.banks):
            at = max(at, banks[PRE_AT if command == PREA else ACT_AT, b])
        return (command, 0, t) if at <= t else (NOTHING, 0, min(later, at))
    command, bank, at = _row(rules, now, banks, groups, queues)
    return command, bank, min(later, at)


@njit(inline="always", counted=False)
def _serve(rules: Rules, now: Array, banks: Array, groups: Array, queues: Array, b: int) -> None:
    """Read or write for the first request of a bank."""
    t, head, own = now[CLOCK], banks[HEAD, b], b >> rules.bank_bits
    w = queues[b, head, IS_WRITE]
    write_end = rules.CWL + rules.burst
    for g in range(groups.shape[1]):
        burst = max(rules.burst, rules.tCCD_L if g == own else rules.tCCD_S)
        turned = rules.CL + rules.burst + 2 - rules.CWL
        if w == 1:
            turned = write_end + (rules.tWTR_L if g == own else rules.tWTR_S)
        groups[READ_AT + w, g] = max(groups[READ_AT + w, g], t + burst)
        groups[WRITE_AT - w, g] = max(groups[WRITE_AT - w, g], t + turned)
    banks[PRE_AT, b] = max(banks[PRE_AT, b], t + (write_end + rules.tWR if w == 1 else rules.tRTP))
    end = t if w == 1 else t + rules.CL + rules.burst
    if w == 0:
        latency = end - queues[b, head, ARRIVAL]
        now[LATENCY] += latency
        now[SCALARS + min(latency, LONGEST)] += 1
    now[LAST] = max(now[LAST], end)
    now[HITS] += 1 - banks[SEEN, b]
    now[ACTIVATING] -= banks[FRESH, b]
    banks[SEEN, b] = banks[FRESH, b] = 0
    banks[HEAD, b] = (head + 1) % queues.shape[1]
    banks[COUNT, b] -= 1
    now[WAITING] -= 1
    now[COLUMN_TURN] = (b + 1) % rules.banks


@njit(inline="always", counted=False)
def _activate(rules: Rules, now: Array, banks: Array, groups: Array, queues: Array, b: int) -> None:
    """Open the row of the first request of a bank."""
    t = now[CLOCK]
    now[MISSES] += 1 - banks[SEEN, b]
    banks[OPEN_ROW, b], banks[FRESH, b], banks[SEEN, b] = queues[b, banks[HEAD, b], ROW], 1, 1
    banks[COLUMN_AT, b], banks[ACT_AT, b] = t + rules.tRCD, t + rules.tRC
    banks[PRE_AT, b] = max(banks[PRE_AT, b], t + rules.tRAS)
    now[RANK_ACT], groups[GROUP_ACT, b >> rules.bank_bits] = t + rules.tRRD_S, t + rules.tRRD_L
    now[FAW + now[FAW_AT]] = t
    now[FAW_AT] = (now[FAW_AT] + 1) & 3
    if now[OPEN] == 0:
        now[OPEN_SINCE] = t
    now[OPEN] += 1
    now[ACTIVATING] += 1
    now[ROW_TURN] = (b + 1) % rules.banks


@njit(inline="always", counted=False)
def _close(rules: Rules, now: Array, banks: Array, command: int, b: int) -> None:
    """Close one bank or all of them, or refresh."""
    t = now[CLOCK]
    if command == PRE:
        now[CONFLICTS] += 1 - banks[SEEN, b]
        banks[SEEN, b] = 1
        now[ROW_TURN] = (b + 1) % rules.banks
    was_open = now[OPEN] > 0
    now[OPEN] = now[OPEN] - 1 if command == PRE else 0
    if was_open and now[OPEN] == 0:
        now[ACTIVE_CYCLES] += t - now[OPEN_SINCE]
    now[PENDING] -= command == REF
    wait = rules.tRFC if command == REF else rules.tRP
    for i in range(rules.banks):
        if i == b or command != PRE:
            banks[OPEN_ROW, i], banks[ACT_AT, i] = -1, max(banks[ACT_AT, i], t + wait)


@njit(inline="always", counted=False)
def _accept(rules: Rules, now: Array, banks: Array, queues: Array, line: int, write: int) -> None:
    """Put a request behind those of its bank."""
    b, row = _place(rules, line)
    slot = (banks[HEAD, b] + banks[COUNT, b]) % queues.shape[1]
    queues[b, slot, ROW], queues[b, slot, IS_WRITE], queues[b, slot, ARRIVAL] = row, write, now[CLOCK]
    banks[COUNT, b] += 1
    now[WAITING] += 1
    now[TAKEN] += 1


@njit(counted=False)
def advance_in_order(
    rules: Rules, now: Array, banks: Array, groups: Array, queues: Array, lines: Array, writes: Array, at: Array,
    data_ready: Array, until: int, drain: int, log: Array,
) -> None:  # fmt: skip
    """Go on until all requests are served, cycle `until` is reached, or the log is full.

    lines, writes, at int64 (n,): what is offered, in order, and from which cycle on; `now[TAKEN]` have been taken.
    data_ready (m,), repeated: cycles in which RD and WR may be issued.
    drain 0: only until the last request is taken; 2: to `until` whether there is work or not.
    log int64 (n, 4): cycle, command, bank, row of every command; with n = 0 nothing is written down.
    """
    while now[CLOCK] < until and not 0 < len(log) <= now[LOGGED]:
        taken = now[TAKEN]
        more = taken < len(lines)
        if not more and (drain == 0 or (drain == 1 and now[WAITING] == 0)):
            break
        t = now[CLOCK]
        if t >= now[NEXT_REFRESH]:
            now[PENDING] += 1
            now[NEXT_REFRESH] += rules.tREFI
        later = now[NEXT_REFRESH]
        takes = False
        if more and banks[COUNT, _place(rules, lines[taken])[0]] < queues.shape[1]:
            offered = max(at[taken], now[EARLIEST])
            takes = offered <= t
            later = min(later, offered)
        command, b, then = _choose(rules, now, banks, groups, queues, data_ready)
        if command >= 0 and len(log) > 0:
            some = banks[OPEN_ROW, b] if command in (RD, WR) else NOTHING
            log[now[LOGGED], 0], log[now[LOGGED], 1] = t, command
            log[now[LOGGED], 2] = NOTHING if command in (PREA, REF) else b
            log[now[LOGGED], 3] = queues[b, banks[HEAD, b], ROW] if command == ACT else some
            now[LOGGED] += 1
        if takes:  # behind the queue's end, so that what is served below is not this request
            _accept(rules, now, banks, queues, lines[taken], writes[taken])
            now[EARLIEST] = t + 1
        if command >= 0:
            now[COMMANDS + command] += 1
            if command in (RD, WR):
                _serve(rules, now, banks, groups, queues, b)
            elif command == ACT:
                _activate(rules, now, banks, groups, queues, b)
            else:
                _close(rules, now, banks, command, b)
        now[CLOCK] = t + 1 if takes or command >= 0 else min(max(min(later, then), t + 1), until)
