"""The in-order controller from Python, as `controller.py` is the first-ready one: traces in chunks, counters out."""

from __future__ import annotations

import numpy as np

from archsim.memory.dram import fields
from archsim.memory.dram import kernel_in_order as kernel
from archsim.memory.dram.config import DramConfig
from archsim.memory.dram.controller import CHUNK, NO_LOG, Counters, rules_of
from archsim.memory.dram.fields import Array
from archsim.memory.dram.in_order import QUEUE_DEPTH


class InOrderController:
    """One channel under `policy: in_order`, from cycle 0 on: all banks closed, all queues empty."""

    def __init__(self, config: DramConfig, depth: int = QUEUE_DEPTH) -> None:
        self.rules = rules_of(config)
        self.state = kernel.fresh_state(self.rules, depth, refresh=config.refresh)

    def offer(
        self, lines: Array, writes: Array, first: int = 0, gap: int = 0, log: Array = NO_LOG, chunk: int = CHUNK
    ) -> None:
        """Serve requests in order, request k not before cycle first + gap*k: lines, writes int (n,).

        log int64 (m, 4) takes cycle, command, bank, row of every command; it must be long enough.
        """
        for start in range(0, len(lines), chunk):
            part = slice(start, start + chunk)
            at = first + gap * np.arange(start, start + len(lines[part]), dtype=np.int64)
            self.advance(lines[part], writes[part], at, log=log, drain=int(start + chunk >= len(lines)))

    def advance(
        self,
        lines: Array,
        writes: Array,
        at: Array,
        *,
        data_ready: Array = kernel.ALWAYS,
        until: int = fields.FAR,
        drain: int = 1,
        log: Array = NO_LOG,
    ) -> None:
        """Offer requests, each from its cycle in `at` on; the rest as `advance_in_order` takes it."""
        self.state[0][kernel.TAKEN] = 0
        lines, writes, at = (np.asarray(one, np.int64) for one in (lines, writes, at))
        kernel.advance_in_order(self.rules, *self.state, lines, writes, at, data_ready, until, drain, log)

    def take(self, lines: Array, writes: Array, at: Array, log: Array = NO_LOG, *, drain: bool) -> None:
        """Take requests, none before its cycle: lines, writes, at int (n,); finish them only if no more come."""
        self.advance(lines, writes, at, drain=int(drain), log=log)

    @property
    def latencies(self) -> Array:
        """Reads by their latency in cycles, int64 (LONGEST + 1,); the last entry holds all that took longer, too."""
        return self.state[0][kernel.SCALARS :]

    @property
    def counters(self) -> Counters:
        """What has been done so far."""
        now = [int(one) for one in self.state[0]]
        commands = now[kernel.COMMANDS : kernel.COMMANDS + len(fields.COMMAND_NAMES)]
        return Counters(
            cycles=now[kernel.LAST], hits=now[kernel.HITS], misses=now[kernel.MISSES],
            conflicts=now[kernel.CONFLICTS], forwarded=0, merged=0, read_latency_cycles=now[kernel.LATENCY],
            activates=commands[fields.ACT], precharges=commands[fields.PRE] + commands[fields.PREA],
            reads=commands[fields.RD], writes=commands[fields.WR], refreshes=commands[fields.REF],
            closed_active_cycles=now[kernel.ACTIVE_CYCLES],
            open_since=(now[kernel.OPEN_SINCE],) if now[kernel.OPEN] else (),
        )  # fmt: skip
