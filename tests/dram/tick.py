"""A controller cycle by cycle in plain Python, written from the rules, not from the kernel: what the kernel must do.

Several ranks: queues, mode and buses are shared, all else is each rank's own. A burst keeps tRTRS from another rank's.
Rank r is to be refreshed in the cycles tREFI*k + floor(r*tREFI/ranks), cycle 0 excepted, and as long as that is
pending, only its active requests go on. In a cycle the active requests of all ranks come first, then refreshes, lowest
rank first, then the requests that wait for ranks that have none pending; if there is such a rank, the mode is updated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from archsim.memory.dram.fields import ACT, PRE, PREA, QUEUE, RD, REF, WR, Rules

Command = tuple[int, int, int, int]
"""Cycle, command, bank, row; the bank of PREA and REF is -1 less the rank."""
MOST_CYCLES = 60
"""No spacing but tRFC is longer."""


@dataclass(eq=False)
class Request:
    """A line to read or write."""

    line: int
    write: bool
    bank: int
    row: int
    arrival: int
    order: int
    seen: bool = False


@dataclass
class Ticking:
    """All state, spelled out: every command ever issued is kept, and legality is looked up in it."""

    rules: Rules
    refresh: bool = True
    log: list[Command] = field(default_factory=list)
    queues: tuple[list[Request], list[Request]] = field(default_factory=lambda: ([], []))
    active: dict[int, Request] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)
    served: dict[int, int] = field(default_factory=dict)
    mode: int = 0
    pending: dict[int, int] = field(default_factory=dict)
    hits: int = 0
    misses: int = 0
    conflicts: int = 0
    forwarded: int = 0
    merged: int = 0
    latency: int = 0
    last: int = 0
    known: dict[tuple[int, int], bool] = field(default_factory=dict)

    def run(self, requests: Sequence[tuple[int, bool, int]]) -> Ticking:
        """Offer (line, write, first cycle) in order; return when all is served."""
        waiting, cycle, order = list(requests), 0, 0
        while waiting or any(self.queues) or self.active:
            if waiting and cycle >= waiting[0][2] and self._accept(*waiting[0][:2], cycle, order):
                waiting.pop(0)
                order += 1
            self._tick(cycle + 1)
            cycle += 1
        return self

    def _accept(self, line: int, write: bool, cycle: int, order: int) -> bool:
        if any(line == other.line for other in self.queues[1]):
            self.merged += write
            self.forwarded += not write
            return True
        if len(self.queues[write]) == QUEUE:
            return False
        rules, groups = self.rules, 1 << self.rules.group_bits
        per_group = rules.banks // rules.ranks // groups
        group, bank = line // 2**rules.group_shift % groups, line // 2**rules.bank_shift % per_group
        row, rank = line // 2**rules.row_shift % 2**rules.row_bits, line // 2**rules.rank_shift % rules.ranks
        self.queues[write].append(Request(line, write, (rank * groups + group) * per_group + bank, row, cycle, order))
        return True

    def _tick(self, t: int) -> None:
        for rank in range(self.rules.ranks):
            if self.refresh and t % self.rules.tREFI == rank * self.rules.tREFI // self.rules.ranks:
                self.pending[rank] = self.pending.get(rank, 0) + 1
        self.known.clear()
        self._issue(t)

    def _issue(self, t: int) -> None:
        legal = [one for b, one in self.active.items() if self._legal(WR if one.write else RD, b, t)]
        if legal:
            one = min(legal, key=lambda other: other.order)
            del self.active[one.bank]
            self._column(one, t)
        elif any(self._maintain(t, rank) for rank in sorted(self.pending)):
            return
        elif len(self.pending) < self.rules.ranks:
            self._from_queue(t)

    def _maintain(self, t: int, rank: int) -> bool:
        """Close or refresh a rank if that is legal; tell whether it was."""
        rows, active = ([b for b in banks if self._rank(b) == rank] for banks in (self.rows, self.active))
        command = PREA if rows else REF
        if active or not self._legal(command, -1 - rank, t):
            return False
        for bank in rows:
            del self.rows[bank]
        if command == REF:
            self.pending[rank] -= 1
            self.pending = {r: n for r, n in self.pending.items() if n}
        self.log.append((t, command, -1 - rank, -1))
        return True

    def _rank(self, bank: int) -> int:
        return rank_of(self.rules, bank)

    def _from_queue(self, t: int) -> None:
        reads, writes = map(len, self.queues)
        if self.mode == 0 and (writes > 0.8 * QUEUE or reads == 0):
            self.mode = 1
        elif self.mode == 1 and writes < 0.2 * QUEUE and reads > 0:
            self.mode = 0
        queue = self.queues[self.mode]
        free = [one for one in queue if self._rank(one.bank) not in self.pending]
        wanted = [(one.order, self._next(one, queue), one) for one in free]
        legal = [one for one in wanted if one[1] is not None and self._legal(one[1], one[2].bank, t)]
        if not legal:
            if self.rules.closed:
                self._close_idle(t)
            return
        _, command, one = min(legal, key=lambda other: other[0])
        if command == ACT:
            self.misses += not one.seen
            queue.remove(one)
            self.active[one.bank], self.rows[one.bank], self.served[one.bank] = one, one.row, 0
            self.log.append((t, ACT, one.bank, one.row))
        elif command == PRE:
            self.conflicts += not one.seen
            one.seen = True
            del self.rows[one.bank]
            self.log.append((t, PRE, one.bank, -1))
        else:
            self.hits += not one.seen
            queue.remove(one)
            self.served[one.bank] += any(other.bank == one.bank and other.row != one.row for other in queue)
            self._column(one, t)

    def _next(self, one: Request, queue: Sequence[Request]) -> int | None:
        """Return what a request needs next, None if its bank is taken or others go first."""
        row = self.rows.get(one.bank)
        if row is None:
            return ACT
        if row != one.row:
            return None if one.bank in self.active else PRE
        waits = any(other.bank == one.bank and other.row != row for other in queue)
        if waits and self.served[one.bank] >= self.rules.hit_cap:
            return None
        return WR if one.write else RD

    def _close_idle(self, t: int) -> None:
        everyone = [one for queue in self.queues for one in queue]
        for bank, row in sorted(self.rows.items()):
            needed = any(one.bank == bank and one.row == row for one in everyone)
            mine = any(one.bank == bank for one in self.queues[self.mode])
            if (
                bank not in self.active
                and self._rank(bank) not in self.pending
                and not needed
                and not mine
                and self._legal(PRE, bank, t)
            ):
                del self.rows[bank]
                self.log.append((t, PRE, bank, -1))
                return

    def _column(self, one: Request, t: int) -> None:
        self.log.append((t, WR if one.write else RD, one.bank, one.row))
        end = t if one.write else t + self.rules.CL + self.rules.burst
        self.last = max(self.last, end)
        if not one.write:
            self.latency += end - one.arrival

    def _legal(self, command: int, bank: int, t: int) -> bool:
        if (command, bank) not in self.known:
            kept = spacings(self.rules, self.log, command, bank)
            self.known[command, bank] = all(at + gap <= t for at, gap in kept)
        return self.known[command, bank]


def rank_of(rules: Rules, bank: int) -> int:
    """Return the rank of a command's bank."""
    return -1 - bank if bank < 0 else bank // (rules.banks // rules.ranks)


@lru_cache
def table(rules: Rules, same: bool, group: bool) -> dict[tuple[int, int], int]:
    """Return cycles from one command to another of a rank: of the same bank, of the same group, or of neither."""
    write_end = rules.CWL + rules.burst
    column = max(rules.burst, rules.tCCD_L if group else rules.tCCD_S)
    return {
        (RD, RD): column,
        (WR, WR): column,
        (RD, WR): rules.CL + rules.burst + 2 - rules.CWL,
        (WR, RD): write_end + (rules.tWTR_L if group else rules.tWTR_S),
        (ACT, ACT): rules.tRC if same else rules.tRRD_L if group else rules.tRRD_S,
        (ACT, RD): rules.tRCD if same else 0,
        (ACT, WR): rules.tRCD if same else 0,
        (ACT, PRE): rules.tRAS if same else 0,
        (RD, PRE): rules.tRTP if same else 0,
        (WR, PRE): write_end + rules.tWR if same else 0,
        (PRE, ACT): rules.tRP if same else 0,
        (ACT, PREA): rules.tRAS,
        (RD, PREA): rules.tRTP,
        (WR, PREA): write_end + rules.tWR,
        (PREA, ACT): rules.tRP,
        (PREA, REF): rules.tRP,
        (PRE, REF): rules.tRP,
        (ACT, REF): rules.tRC,
        (REF, ACT): rules.tRFC,
        (REF, PREA): rules.tRFC,
        (REF, REF): rules.tRFC,
    }


def data_at(rules: Rules, command: int) -> int:
    """Return cycles from a column command to its burst."""
    return rules.CL if command == RD else rules.CWL


def spacings(rules: Rules, log: Sequence[Command], command: int, bank: int) -> list[tuple[int, int]]:
    """Return (cycle, cycles to keep from it) of every earlier command that `command` on `bank` has to respect."""
    rank, found, activates = rank_of(rules, bank), [], []
    refreshes = [one for one in log[-rules.tRFC : -MOST_CYCLES] if one[1] == REF]
    for at, earlier, other, _ in (*refreshes, *log[-MOST_CYCLES:]):
        if rank_of(rules, other) == rank:
            group = other >> rules.bank_bits == bank >> rules.bank_bits
            found.append((at, table(rules, other == bank, group).get((earlier, command), 0)))
            activates += [at] * (earlier == ACT)
        elif earlier in (RD, WR) and command in (RD, WR):
            turned = data_at(rules, earlier) + rules.burst + rules.tRTRS
            found.append((at, turned - data_at(rules, command)))
    if command == ACT and len(activates) >= 4:
        found.append((activates[-4], rules.tFAW))
    return found
