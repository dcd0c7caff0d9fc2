"""A channel's controller from Python: traces in chunks, counters out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from archsim.memory.dram import fields
from archsim.memory.dram.config import DramConfig
from archsim.memory.dram.fields import Array, Rules, State, fresh_state
from archsim.memory.dram.kernel import advance

CHUNK = 1 << 18
"""Requests handed to the kernel at once: memory stays small whatever the length of a trace."""
NO_LOG = np.zeros((0, 4), np.int64)


def rules_of(config: DramConfig) -> Rules:
    """Return organisation and spacings of a channel as the kernel takes them: integers, resolved once."""
    (channel, taken), fields_of = config.address_bits["channel"], config.address_bits
    bits = {name: n for name, (_, n) in fields_of.items()}
    shifts = {name: shift - (taken if shift > channel else 0) for name, (shift, _) in fields_of.items()}
    return Rules(
        CL=config.CL_cycles, CWL=config.CWL_cycles, burst=config.burst_cycles, tRCD=config.tRCD_cycles,
        tRP=config.tRP_cycles, tRAS=config.tRAS_cycles, tRC=config.tRC_cycles, tRTP=config.tRTP_cycles,
        tWR=config.tWR_cycles, tWTR_S=config.tWTR_S_cycles, tWTR_L=config.tWTR_L_cycles,
        tCCD_S=config.tCCD_S_cycles, tCCD_L=config.tCCD_L_cycles, tRRD_S=config.tRRD_S_cycles,
        tRRD_L=config.tRRD_L_cycles, tFAW=config.tFAW_cycles, tRFC=config.tRFC_cycles, tREFI=config.tREFI_cycles,
        tRTRS=config.tRTRS_cycles, ranks=config.ranks, banks=config.ranks * config.banks, group_bits=bits["group"],
        bank_bits=bits["bank"], column_bits=bits["column"], row_bits=bits["row"], rank_bits=bits.get("rank", 0),
        group_shift=shifts["group"], bank_shift=shifts["bank"], column_shift=shifts["column"],
        row_shift=shifts["row"], rank_shift=shifts.get("rank", 0), hit_cap=config.hit_cap or fields.FAR,
        closed=int(config.row_policy == "closed"),
    )  # fmt: skip


@dataclass(frozen=True)
class Counters:
    """What a channel did: cycles up to the last data, requests by what they found, commands, standby cycles of ranks.

    A hit, miss or conflict is what a request's first command found: its row open, no row, another one. Reads of lines
    that wait to be written are `forwarded`, writes to them `merged`; neither reaches the banks.
    """

    cycles: int
    hits: int
    misses: int
    conflicts: int
    forwarded: int
    merged: int
    read_latency_cycles: int
    activates: int
    precharges: int
    reads: int
    writes: int
    refreshes: int
    closed_active_cycles: int
    open_since: tuple[int, ...] = ()
    ranks: int = 1

    def active_cycles_until(self, cycle: int) -> int:
        """Return cycles up to `cycle` in which a row is open, of every rank."""
        return self.closed_active_cycles + sum(max(cycle - since, 0) for since in self.open_since)

    @property
    def active_cycles(self) -> int:
        """Cycles in which a row is open, of every rank."""
        return self.active_cycles_until(self.cycles)

    @property
    def idle_cycles(self) -> int:
        """Cycles in which no row is open, of every rank."""
        return self.ranks * self.cycles - self.active_cycles

    @property
    def mean_read_latency_cycles(self) -> float:
        """From acceptance to the end of the data, over reads that reached the banks."""
        return self.read_latency_cycles / self.reads if self.reads else 0.0


class Controller:
    """One channel of a memory, from cycle 0 on: all banks closed, all queues empty. Lines are those of the channel."""

    def __init__(self, config: DramConfig) -> None:
        self.rules = rules_of(config)
        self.state = fresh_state(self.rules, refresh=config.refresh)

    def offer(
        self, lines: Array, writes: Array, first: int = 0, gap: int = 0, log: Array = NO_LOG, chunk: int = CHUNK
    ) -> None:
        """Serve requests in order, request k not before cycle first + gap*k: lines, writes int (n,).

        log int64 (m, 4) takes cycle, command, bank, row of every command; it must be long enough.
        """
        self.offer_at(lines, writes, first + gap * np.arange(len(lines)), log, chunk)

    def offer_at(self, lines: Array, writes: Array, at: Array, log: Array = NO_LOG, chunk: int = CHUNK) -> None:
        """Serve requests in order, each not before its own cycle: lines, writes, at int (n,), at never falling."""
        for start in range(0, len(lines), chunk):
            part = slice(start, start + chunk)
            self.take(lines[part], writes[part], at[part], log, drain=start + chunk >= len(lines))

    def serve(self, runs: Array, log: Array = NO_LOG) -> None:
        """Serve runs, int64 (n, RUN_FIELDS), to their end; what is known of their ends is written into them."""
        self.state.now[fields.RUN] = 0
        advance(self.rules, *self.state, runs, fields.FAR, 0, 1, log)

    def take(self, lines: Array, writes: Array, at: Array, log: Array = NO_LOG, *, drain: bool) -> None:
        """Take requests, none before its cycle: lines, writes, at int (n,); finish them only if no more come."""
        runs = np.zeros((len(lines), fields.RUN_FIELDS), np.int64)
        runs[:, fields.FIRST], runs[:, fields.LINES], runs[:, fields.WRITE], runs[:, fields.AT] = lines, 1, writes, at
        self.state.now[fields.RUN] = 0
        advance(self.rules, *self.state, runs, fields.FAR, 0, int(drain), log)

    @property
    def latencies(self) -> Array:
        """Reads by their latency in cycles, int64 (LONGEST + 1,); the last entry holds all that took longer, too."""
        return self.state.now[fields.LATENCIES :]

    @property
    def counters(self) -> Counters:
        """What has been done so far."""
        now, ranks = self.state.now[: fields.SCALARS].tolist(), self.state.ranks
        activates, precharges, _, reads, writes = commands_of(self.state).tolist()
        return Counters(
            cycles=now[fields.LAST], hits=now[fields.HITS], misses=now[fields.MISSES],
            conflicts=now[fields.CONFLICTS], forwarded=now[fields.FORWARDED], merged=now[fields.MERGED],
            read_latency_cycles=now[fields.LATENCY], activates=activates,
            precharges=precharges + now[fields.N_PREA], reads=reads, writes=writes,
            refreshes=now[fields.N_REF], closed_active_cycles=now[fields.ACTIVE_CYCLES],
            open_since=tuple(ranks[fields.OPEN_SINCE, ranks[fields.OPEN] > 0].tolist()), ranks=self.rules.ranks,
        )  # fmt: skip


def commands_of(state: State) -> Array:
    """Return ACT, PRE, PREA (0), RD, WR over all regions, int64 (5,)."""
    counted: Array = state.now[fields.COMMANDS : fields.SCALARS].reshape(fields.REGIONS, 5).sum(axis=0)
    return counted


def served(config: DramConfig, requests: Iterable[tuple[Array, Array]], gap: int = 0) -> Counters:
    """Serve a trace given in pieces of (lines, writes) and return what the one channel of the memory did."""
    if config.channels > 1:
        raise ValueError(f"one controller is one channel, the memory has {config.channels}: use Channels")
    controller, first = Controller(config), 0
    for lines, writes in requests:
        controller.offer(lines, writes, first, gap)
        first += gap * len(lines)
    return controller.counters
