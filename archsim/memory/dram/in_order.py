"""`policy: in_order`: a small controller that serves the requests of each bank in order, clock by clock.

It is what `rtl/dram_ctl` does, and what simple controllers on FPGAs do. Every bank has a machine (closed, activating,
open, precharging) and a queue of `QUEUE_DEPTH` requests, of which only the first is looked at. A request is (bank, row,
column, write). Cycles count from the end of the reset, the first is 0. In cycle t:

1. Acceptance: the request offered is taken if the queue of its bank is not full at the start of the cycle. It is seen
   from t+1 on. One offer per cycle, in order; nothing is forwarded, merged or overtaken within a bank.
2. If t is a multiple of tREFI, one more refresh is pending.
3. At most one command is issued, the first of these that may be:
   a. RD or WR. A bank is ready for it if the row of its first request is open and tRCD has passed; while a refresh is
      pending, only if that row was opened for this very request (activating: every row serves at least one). The bank
      that comes first, counted from the one behind the last bank served, has the data bus; its command is issued as
      soon as spacings allow and `data_ready` is set, and no other bank goes before. So no bank waits for ever.
   b. While a refresh is pending: PREA if a bank is open, none is activating and the spacings allow; REF if all are
      closed and the spacings allow. Nothing else.
   c. ACT of a closed bank, or PRE of one whose row is not that of its first request: the first bank that may, counted
      from the one behind the last bank that had a PRE or ACT.
4. Data of a read end at t + CL + burst; a write is done at t, and both leave their queue at t.

Spacings are those of the first-ready controller; `tests/dram/tick.py` has them as a table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from archsim.memory.dram.fields import ACT, FAR, NOTHING, PRE, PREA, RD, REF, WR
from archsim.rtl import RtlModel, Signals

QUEUE_DEPTH = 4
"""Requests that the queue of a bank holds."""
TAG_BITS = 8
COUNTERS = (
    "cnt_act", "cnt_pre", "cnt_prea", "cnt_rd", "cnt_wr", "cnt_ref", "cnt_hit", "cnt_miss", "cnt_conflict", "cnt_open"
)  # fmt: skip
COUNTED = {ACT: "cnt_act", PRE: "cnt_pre", PREA: "cnt_prea", RD: "cnt_rd", WR: "cnt_wr", REF: "cnt_ref"}
INPUTS = ("rst", "req_valid", "req_bank", "req_row", "req_column", "req_write", "req_tag")
IDLE: Signals = {**dict.fromkeys(INPUTS, 0), "data_ready": 1}
FIRST_COMMAND = {ACT: "cnt_miss", PRE: "cnt_conflict", RD: "cnt_hit", WR: "cnt_hit"}


class Waiting(NamedTuple):
    """A request in the queue of its bank."""

    row: int
    column: int
    write: int
    tag: int


class Bank:
    """The machine of one bank: its queue, its row, and the first cycles in which commands may follow."""

    def __init__(self) -> None:
        self.queue: deque[Waiting] = deque()
        self.row: int | None = None
        self.activating = self.seen = False
        self.column_at = self.precharge_at = self.activate_at = 0

    @property
    def hits(self) -> bool:
        """The row of the first request is open."""
        return bool(self.queue) and self.row == self.queue[0].row


class DramCtl:
    """The registers of `rtl/dram_ctl`, times as cycles instead of counters; one `step` is one clock cycle."""

    def __init__(self, parameters: Mapping[str, int]) -> None:
        self.p = parameters
        self.groups_of = [b * parameters["GROUPS"] // parameters["BANKS"] for b in range(parameters["BANKS"])]
        self.reset()

    def reset(self) -> None:
        """Empty all queues, close all banks, start at cycle 0."""
        self.now = self.pending = self.column_turn = self.row_turn = 0
        self.banks = [Bank() for _ in self.groups_of]
        self.bus_at = {RD: [0] * self.p["GROUPS"], WR: [0] * self.p["GROUPS"]}
        self.rank_activate_at, self.group_activate_at = 0, [0] * self.p["GROUPS"]
        self.activates = deque([-FAR] * 4, 4)
        self.reading: deque[tuple[int, int]] = deque()
        self.counters = dict.fromkeys(COUNTERS, 0)

    def step(self, inputs: Signals) -> Signals:
        """Return the ports within this cycle, then pass the clock edge."""
        self._count_refresh()
        command, b = self._choose(inputs["data_ready"])
        done = self.reading.popleft()[1] if self.reading and self.reading[0][0] == self.now else None
        offered = self.banks[inputs["req_bank"]].queue
        ready = len(offered) < self.p["DEPTH"]
        outputs = {
            "now": self.now,
            "req_ready": int(ready),
            **self._shown(command, b),
            "done_valid": int(done is not None),
            "done_tag": done or 0,
            **self.counters,
        }
        self.counters["cnt_open"] += any(bank.row is not None for bank in self.banks)
        if command != NOTHING:
            self._issue(command, b)
        if inputs["req_valid"] and ready:
            offered.append(Waiting(*(inputs[f"req_{name}"] for name in Waiting._fields)))
        self.now += 1
        if inputs["rst"]:
            self.reset()
        return outputs

    def _count_refresh(self) -> None:
        """One more refresh is pending after every tREFI cycles; 0 means never."""
        interval = self.p["T_REFI"]
        self.pending += bool(interval and self.now and self.now % interval == 0)

    def _choose(self, data_ready: int) -> tuple[int, int]:
        """Return the command of this cycle and its bank; NOTHING if there is none."""
        b = self._first(self.column_turn, (b for b, one in enumerate(self.banks) if self._wants_data(one)))
        if b is not None and data_ready:
            command = WR if self.banks[b].queue[0].write else RD
            if self.now >= self.bus_at[command][self.groups_of[b]]:
                return command, b
        if self.pending:
            return self._maintain(), 0
        b = self._first(self.row_turn, (b for b in range(len(self.banks)) if self._may_change_row(b)))
        return (NOTHING, 0) if b is None else (ACT if self.banks[b].row is None else PRE, b)

    def _first(self, turn: int, banks: Iterable[int]) -> int | None:
        """Return the bank that comes first when counted from `turn`."""
        return min(banks, key=lambda b: (b - turn) % len(self.banks), default=None)

    def _wants_data(self, bank: Bank) -> bool:
        return bank.hits and self.now >= bank.column_at and (bank.activating or not self.pending)

    def _maintain(self) -> int:
        """Return PREA or REF if it may be issued."""
        if all(bank.row is None for bank in self.banks):
            return REF if all(self.now >= bank.activate_at for bank in self.banks) else NOTHING
        served = not any(bank.activating for bank in self.banks)
        return PREA if served and all(self.now >= bank.precharge_at for bank in self.banks) else NOTHING

    def _may_change_row(self, b: int) -> bool:
        """Tell whether the bank's first request needs an ACT or PRE that may be issued now."""
        bank = self.banks[b]
        if not bank.queue or bank.hits:
            return False
        if bank.row is not None:
            return self.now >= bank.precharge_at
        rank = max(self.rank_activate_at, self.activates[0] + self.p["T_FAW"])
        return self.now >= max(bank.activate_at, rank, self.group_activate_at[self.groups_of[b]])

    def _shown(self, command: int, b: int) -> dict[str, int]:
        """Return the command bus; what a command does not have is 0."""
        bus = dict.fromkeys(("cmd_valid", "cmd", "cmd_bank", "cmd_row", "cmd_column", "cmd_tag"), 0)
        if command == NOTHING:
            return bus
        bus |= {"cmd_valid": 1, "cmd": command}
        if command in (ACT, PRE, RD, WR):
            bus["cmd_bank"] = b
        if command in (ACT, RD, WR):
            bus["cmd_row"] = self.banks[b].queue[0].row
        if command in (RD, WR):
            bus |= {"cmd_column": self.banks[b].queue[0].column, "cmd_tag": self.banks[b].queue[0].tag}
        return bus

    def _issue(self, command: int, b: int) -> None:
        """Change the state at the end of the cycle of a command."""
        self.counters[COUNTED[command]] += 1
        bank = self.banks[b]
        if command in FIRST_COMMAND and not bank.seen:
            self.counters[FIRST_COMMAND[command]] += 1
        if command in (RD, WR):
            self._move_data(command, b)
        elif command == ACT:
            self._activate(b)
        elif command == PRE:
            bank.seen, bank.row = True, None
            bank.activate_at = max(bank.activate_at, self.now + self.p["T_RP"])
        else:
            self.pending -= command == REF
            wait = self.p["T_RFC"] if command == REF else self.p["T_RP"]
            for one in self.banks:
                one.row, one.activate_at = None, max(one.activate_at, self.now + wait)
        if command in (ACT, PRE):
            self.row_turn = (b + 1) % len(self.banks)

    def _activate(self, b: int) -> None:
        bank, group = self.banks[b], self.groups_of[b]
        bank.row, bank.activating, bank.seen = bank.queue[0].row, True, True
        bank.column_at, bank.activate_at = self.now + self.p["T_RCD"], self.now + self.p["T_RC"]
        bank.precharge_at = max(bank.precharge_at, self.now + self.p["T_RAS"])
        self.rank_activate_at = self.now + self.p["T_RRD_S"]
        self.group_activate_at[group] = self.now + self.p["T_RRD_L"]
        self.activates.append(self.now)

    def _move_data(self, command: int, b: int) -> None:
        """Serve the first request of a bank: the bus turns, the row has to stay open a while."""
        p, bank, group = self.p, self.banks[b], self.groups_of[b]
        request = bank.queue.popleft()
        bank.activating = bank.seen = False
        self.column_turn = (b + 1) % len(self.banks)
        write_end = p["CWL"] + p["BURST"]
        for other in range(p["GROUPS"]):
            suffix = "L" if other == group else "S"
            burst = max(p["BURST"], p[f"T_CCD_{suffix}"])
            turned = write_end + p[f"T_WTR_{suffix}"] if command == WR else p["CL"] + p["BURST"] + 2 - p["CWL"]
            for next_one, gap in ((command, burst), (RD + WR - command, turned)):
                self.bus_at[next_one][other] = max(self.bus_at[next_one][other], self.now + gap)
        close = write_end + p["T_WR"] if command == WR else p["T_RTP"]
        bank.precharge_at = max(bank.precharge_at, self.now + close)
        if command == RD:
            self.reading.append((self.now + p["CL"] + p["BURST"], request.tag))


@dataclass(frozen=True)
class CtlCase:
    """Requests as ports, each from its cycle on; `data_ready`, repeated: when the data bus may be used."""

    about: str
    requests: tuple[Signals, ...]
    offered: tuple[int, ...]
    data_ready: tuple[int, ...]
    cycles: int
    outcomes: tuple[Signals, ...]
    totals: Signals

    def play(self, model: RtlModel) -> Iterator[tuple[Signals, Signals]]:
        """Reset, offer every request until it is taken, go on to the last cycle."""
        resets = {**IDLE, "rst": 1}
        yield resets, model.step(resets)
        taken = 0
        for cycle in range(self.cycles):
            inputs = {**IDLE, "data_ready": self.data_ready[cycle % len(self.data_ready)]}
            if offers := taken < len(self.requests) and cycle >= self.offered[taken]:
                inputs |= self.requests[taken]
            outputs = model.step(inputs)
            yield inputs, outputs
            taken += offers and outputs["req_ready"]
