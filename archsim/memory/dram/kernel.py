"""First-ready scheduling of one channel, exact to the cycle: the clock jumps from event to event.

Rules: those of Ramulator 2.1 (GenericDDR, FRFCFS, all-bank refresh, open row), source: CMU-SAFARI/ramulator2
@c5b1c3a478b6, as observed on traces. In a cycle the oldest legal command of any kind wins; a bank that was activated
for a request serves it before all others. All state is in arrays, so that a run can be interrupted at any cycle.

Ranks share queues, mode, command bus and data bus; with one rank the rules are those above. Otherwise:
- tRRD, tFAW, tCCD, tWTR, what PREA and REF wait for, pending refreshes and active standby are counted for each rank.
- Between ranks only the data bus counts: a burst begins tRTRS after the end of another rank's. Data start CL after RD
  and CWL after WR, so from one rank's command to another's it takes burst + tRTRS (RD to RD, WR to WR), + CL - CWL (RD
  to WR), + CWL - CL (WR to RD).
- Refreshes of rank r fall due in the cycles tREFI*k + floor(r*tREFI/ranks) > 0, k = 0, 1, 2, ...
- In a cycle: (a) the oldest active request of any rank that is legal; (b) else PREA or REF of the lowest rank for which
  one is legal, where a rank has a refresh pending and no active request; (c) else, if some rank has no refresh pending,
  the mode is updated, and the oldest legal request of such ranks goes.
"""

from __future__ import annotations

from archsim.kernels._jit import njit

# fmt: off
# isort: off
from archsim.memory.dram.fields import (
    ACT, ACTIVE, ACTIVE_ORDER, ACTIVE_WRITE, ACT_AT, BUS_READY, CLOCK, COL_READY, FAR, FINISHED, HIT_AT, HIT_ORDER,
    LINES, LOGGED, MISS, MISS_ORDER, MODE, NEXT_REFRESH, NOTHING, OPEN, OPEN_ROW, PENDING, PRE, PREA, PREA_READY,
    PRE_AT, RANK_ACTIVE, RANK_PENDING, RANK_READY, RD, READS, REF, REF_READY, ROW, RUN, STEP, WR, WRITES, WRITES_HIGH,
    WRITES_LOW, Array, Rules,
)
# isort: on
# fmt: on
from archsim.memory.dram.kernel_commands import activate, fall_due, maintain, precharge, serve
from archsim.memory.dram.kernel_glide import WORTH, glide
from archsim.memory.dram.kernel_requests import next_offer, offer


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
def _earliest_refresh(rules: Rules, now: Array, ranks: Array) -> tuple[int, int, int]:
    """Return cycle, command and rank of what a pending refresh needs next."""
    at, command, rank = FAR, REF, 0
    for r in range(rules.ranks):
        if ranks[RANK_PENDING, r] > 0 and ranks[RANK_ACTIVE, r] == 0:
            ready = max(now[CLOCK], ranks[PREA_READY if ranks[OPEN, r] else REF_READY, r])
            if ready < at:
                at, command, rank = ready, PREA if ranks[OPEN, r] else REF, r
    return at, command, rank


@njit(inline="always", counted=False)
def _all_wait(rules: Rules, ranks: Array) -> bool:
    """Tell whether every rank has a refresh pending."""
    found = 0
    for r in range(rules.ranks):
        found += ranks[RANK_PENDING, r] > 0
    return found == rules.ranks


@njit(inline="always", counted=False)
def _earliest_queued(rules: Rules, now: Array, banks: Array, w: int) -> int:
    """Return the cycle of the next command for a waiting request."""
    column, close, activate = FAR, FAR, FAR
    for b in range(rules.banks):
        column = min(column, max(banks[HIT_AT + w, b], banks[BUS_READY + w, b]))
        close = min(close, banks[PRE_AT + w, b])
        activate = min(activate, max(banks[ACT_AT + w, b], banks[RANK_READY, b]))
    return int(max(now[CLOCK], min(column, close, activate)))


@njit(inline="always", counted=False)
def _oldest_queued(rules: Rules, banks: Array, w: int, at: int) -> tuple[int, int]:
    """Return command and bank of the oldest request that may go in cycle `at`."""
    command, bank, best = NOTHING, -1, FAR
    for b in range(rules.banks):
        order = banks[HIT_ORDER + w, b] if max(banks[HIT_AT + w, b], banks[BUS_READY + w, b]) <= at else FAR
        if order < best:
            command, bank, best = RD + w, b, order
        order = banks[MISS_ORDER + w, b] if banks[PRE_AT + w, b] <= at else FAR
        if order < best:
            command, bank, best = PRE, b, order
        order = banks[MISS_ORDER + w, b] if max(banks[ACT_AT + w, b], banks[RANK_READY, b]) <= at else FAR
        if order < best:
            command, bank, best = ACT, b, order
    return command, bank


@njit(inline="always", counted=False)
def _choose(rules: Rules, now: Array, ranks: Array, banks: Array) -> tuple[int, int, int, int]:
    """Return cycle, command, bank and queue (2: activated for it) of what comes next if nothing arrives before.

    The bank of PREA and REF is NOTHING less the rank.
    """
    at, bank = _earliest_active(rules, now, banks)
    command, queue = RD + banks[ACTIVE_WRITE, bank], 2
    if now[PENDING] > 0:
        refresh_at, refresh, rank = _earliest_refresh(rules, now, ranks)
        if refresh_at < at:
            at, command, bank = refresh_at, refresh, NOTHING - rank
        if _all_wait(rules, ranks):
            return at, command, bank, queue
    if at > now[CLOCK]:
        _set_mode(now)
        w = now[MODE]
        queued = _earliest_queued(rules, now, banks, w)
        if queued < at:
            at, queue = queued, w
            command, bank = _oldest_queued(rules, banks, w, at)
    return at, command, bank, queue


@njit(counted=False)
def advance(
    rules: Rules,
    now: Array,
    ranks: Array,
    banks: Array,
    slots: Array,
    runs: Array,
    until: int,
    wanted: int,
    drain: int,
    log: Array,
) -> None:
    """Go on until cycle `until` is reached, all is served, `wanted` runs have finished, or the log is full.

    drain 0: only until the last request is taken, more of them follow; 2: to `until` whether there is work or not.
    log int64 (n, 4): cycle, command, bank, row of every command; with n = 0 nothing is written down. The bank of PREA
    and REF is -1 less the rank.
    """
    while (
        now[RUN] < len(runs)
        or (drain > 0 and now[READS] + now[WRITES] + now[ACTIVE] > 0)
        or (drain > 1 and now[CLOCK] < until)
    ):
        enough, full = 0 < wanted <= now[FINISHED], 0 < len(log) <= now[LOGGED]
        if now[CLOCK] >= until or enough or full:
            break
        offer(rules, now, banks, slots, runs)
        if not drain and now[RUN] == len(runs):
            break
        # A request that was answered from the queue ends in this very cycle: who waited may ask again behind it.
        limit = min(until, now[CLOCK] + 1) if 0 < wanted <= now[FINISHED] else until
        if now[CLOCK] >= now[NEXT_REFRESH]:
            fall_due(rules, now, ranks, banks, slots)
        long = now[RUN] < len(runs) and runs[now[RUN], LINES] - now[STEP] > WORTH
        if long and glide(rules, now, ranks, banks, slots, runs, limit, wanted, log):
            continue
        at, command, bank, queue = _choose(rules, now, ranks, banks)
        arrival = min(now[NEXT_REFRESH], next_offer(now, slots, runs))
        if arrival <= at or at >= limit:
            now[CLOCK] = min(arrival, limit)
            continue
        row = slots[ROW, queue, banks[MISS + queue, bank]] if command == ACT else NOTHING
        if command in (RD, WR):
            row = banks[OPEN_ROW, bank]
            serve(rules, now, ranks, banks, slots, runs, bank, queue, at)
        elif command == ACT:
            activate(rules, now, ranks, banks, slots, bank, queue, at)
        elif command == PRE:
            precharge(rules, now, ranks, banks, slots, bank, queue, at)
        else:
            maintain(rules, now, ranks, banks, slots, command, NOTHING - bank, at)
        if len(log) > 0:
            log[now[LOGGED], 0], log[now[LOGGED], 1] = at, command
            log[now[LOGGED], 2], log[now[LOGGED], 3] = bank, row
            now[LOGGED] += 1
        now[CLOCK] = at + 1
