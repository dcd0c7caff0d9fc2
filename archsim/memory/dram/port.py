"""The port of a DRAM channel on simpy's clock: accesses become runs of lines, the kernel serves them.

Nothing can be submitted before the next event of the environment, so the kernel runs freely up to it and stays exact.
Clocks are converted here, with integers, rounding up once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from archsim.counts import Counts
from archsim.memory.base import NOWHERE, Addresses, Direction, MemoryPort, Region
from archsim.memory.dram import fields
from archsim.memory.dram.channels import Channels
from archsim.memory.dram.config import LINE_BYTES, DramConfig
from archsim.memory.dram.controller import NO_LOG, Controller
from archsim.memory.dram.energy import REGIONS
from archsim.memory.dram.kernel import advance
from archsim.memory.dram.timings import timing_text
from archsim.units import BITS_PER_BYTE, PS_PER_NS

if TYPE_CHECKING:
    import simpy

NORMAL, AFTER_ALL = 1, 2
"""Priorities among the events of an instant: simpy's own, and behind it, when all who submit have done so."""
FEW_RUNS = 64


@dataclass
class Access:
    """What a machine waits for: runs not yet served, and when the last of the others ended, in bus cycles."""

    event: simpy.Event
    left: int = 0
    end: int = 0


class Lane:
    """One channel: its controller, the runs it has been given since it was last idle, and who waits for each."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.runs, self.taken = np.zeros((FEW_RUNS, fields.RUN_FIELDS), np.int64), 0
        self.waiting: dict[int, Access] = {}

    def submit(self, runs: fields.Array, access: Access) -> None:
        """Put runs behind those that are being served."""
        taken = self.taken + len(runs)
        if taken > len(self.runs):
            self.runs = np.concatenate([self.runs, np.zeros((taken, fields.RUN_FIELDS), np.int64)])
        self.runs[self.taken : taken] = runs
        self.waiting.update((i, access) for i in range(self.taken, taken))
        access.left += len(runs)
        self.taken = taken

    def advance(self, until: int, *, to_next: bool = False, idle: bool = False) -> None:
        """Work up to a bus cycle, or `to_next` run that is finished; `idle`: with nothing to do, too."""
        state = self.controller.state
        wanted = int(state.now[fields.FINISHED]) + 1 if to_next else 0
        advance(self.controller.rules, *state, self.runs[: self.taken], until, wanted, 1 + idle, NO_LOG)

    def next_end(self, until: int) -> int:
        """Return the cycle behind the next end of a run if that is before `until`, else `until`; nothing is changed.

        A write that is issued after a read may end before it.
        """
        trial = fields.State(*(part.copy() for part in self.controller.state))
        runs, unserved = self.runs[: self.taken].copy(), self.runs[: self.taken, fields.LEFT] > 0
        while True:
            finished = int(trial.now[fields.FINISHED])
            advance(self.controller.rules, *trial, runs, until, finished + 1, 1, NO_LOG)
            if trial.now[fields.FINISHED] == finished:
                return until
            until = min(until, int(runs[unserved & (runs[:, fields.LEFT] == 0), fields.END].min()) + 1)

    def finished(self) -> Iterator[tuple[Access, int]]:
        """Yield who waited for runs that have been finished, and when they ended; forget all once none is left."""
        served = np.flatnonzero(self.runs[: self.taken, fields.LEFT] == 0).tolist()
        for run in [run for run in served if run in self.waiting]:
            yield self.waiting.pop(run), int(self.runs[run, fields.END])
        if not self.waiting:
            self.taken = 0
            self.controller.state.now[fields.RUN] = 0


class DramPort(MemoryPort):
    """Channels from a reset on: all banks closed, refresh counter 0; regions begin at the given byte addresses."""

    stationary: ClassVar[bool] = False

    def __init__(
        self, env: simpy.Environment, clock_MHz: float, config: DramConfig, addresses: Addresses = NOWHERE
    ) -> None:
        super().__init__()
        self._env, self._config, self._addresses, self._clock_MHz = env, config, addresses, clock_MHz
        self._channels = Channels(config)
        self._lanes = [Lane(controller) for controller in self._channels.controllers]
        cycle_ps = Fraction(1_000_000) / Fraction(repr(clock_MHz))
        self._cycle, self._bus_cycle = cycle_ps.numerator, config.tCK_ps * cycle_ps.denominator
        self._token = 0

    def access(
        self,
        direction: Direction,
        region: Region,
        offset_bytes: int,
        n_bytes: int,
        *,
        stride_bytes: int = 0,
        rows: int = 1,
    ) -> simpy.Event:
        """Move `rows` rows of `n_bytes`, every line they touch whole. No bytes complete at once."""
        if not rows * n_bytes:
            return self._env.timeout(0)
        self.account(direction, region, rows * n_bytes)
        starts = self._addresses.get(region, 0) + offset_bytes + stride_bytes * np.arange(rows)
        if self.log is not None:
            at_us = self.log.origin_us + int(self._env.now) / self._clock_MHz
            self.log.runs += [(at_us, int(start), n_bytes, direction == "write") for start in starts]
        first = starts // LINE_BYTES
        new = np.zeros((rows, fields.RUN_FIELDS), np.int64)
        new[:, fields.LINES] = (starts + n_bytes - 1) // LINE_BYTES - first + 1
        new[:, fields.FIRST] = first % (self._config.capacity_bytes // LINE_BYTES)
        new[:, fields.WRITE], new[:, fields.REGION] = direction == "write", REGIONS.index(region)
        new[:, fields.LEFT] = new[:, fields.LINES]
        new[:, fields.AT] = self._bus_cycles(int(self._env.now))
        done = Access(self._env.event())
        for lane, (parts, _) in zip(self._lanes, self._channels.split(new)):
            lane.submit(parts, done)
        self._wake(0)
        return done.event

    def counts(self) -> Counts:
        """Return commands and standby cycles up to now, refreshes of a channel that nobody uses included.

        A precharge of all banks belongs to no region.
        """
        now, done = self._until_now(), self._channels.counters
        states = [lane.controller.state.now for lane in self._lanes]
        commands = np.sum([now[fields.COMMANDS : fields.SCALARS] for now in states], axis=0)
        by_region = commands.reshape(fields.REGIONS, -1).tolist()
        counts, active = Counts(), done.active_cycles_until(now)
        for region, done_for in zip(REGIONS, by_region):
            for action, n in (
                ("act", done_for[fields.ACT]),
                ("pre", done_for[fields.PRE]),
                ("read", done_for[fields.RD]),
                ("write", done_for[fields.WR]),
                ("read_bit", done_for[fields.RD] * LINE_BYTES * BITS_PER_BYTE),
                ("write_bit", done_for[fields.WR] * LINE_BYTES * BITS_PER_BYTE),
            ):
                counts.add(f"dram_{region}.{action}", n)
        counts.add("dram.pre_all", sum(int(now[fields.N_PREA]) for now in states))
        counts.add("dram.refresh", done.refreshes)
        counts.add("dram.active_cycle", active)
        counts.add("dram.idle_cycle", done.ranks * now - active)
        return counts

    def metrics(self) -> Mapping[str, Any]:
        """Return what requests found, what they waited, and how busy the data bus was."""
        now, done = self._until_now(), self._channels.counters
        moved = done.reads + done.writes
        return {
            "dram_row_hit_requests": done.hits,
            "dram_row_miss_requests": done.misses,
            "dram_row_conflict_requests": done.conflicts,
            "dram_row_requests": done.hits + done.misses + done.conflicts,
            "dram_queue_requests": done.forwarded + done.merged,
            "dram_read_requests": done.reads,
            "dram_read_latency_ns": done.read_latency_cycles * self._config.tCK_ps / PS_PER_NS,
            "dram_moved_bytes": moved * LINE_BYTES,
            "dram_elapsed_ns": now * self._config.tCK_ps / PS_PER_NS,
            "dram_bus_cycles": now * len(self._lanes),
            "dram_data_cycles": moved * self._config.burst_cycles,
            "dram_timings": timing_text(self._config),
        }

    def _until_now(self) -> int:
        """Let the channel work up to this instant, idle or not, and return it in bus cycles."""
        now = self._bus_cycles(int(self._env.now))
        for lane in self._lanes:
            lane.advance(now + 1, idle=True)
        return now

    def _bus_cycles(self, machine_cycles: int) -> int:
        """Return the first bus cycle that does not begin before a machine cycle."""
        return -(-machine_cycles * self._cycle // self._bus_cycle)

    def _wake(self, delay: int) -> None:
        """Look again in `delay` machine cycles, after all else of that instant; an earlier appointment is void."""
        self._token += 1
        self._schedule(self._env.event(), self._token, AFTER_ALL, delay).callbacks.append(self._step)

    def _schedule(self, event: simpy.Event, value: int | None, priority: int, delay: int) -> Any:
        """Let an event happen in `delay` machine cycles."""
        event._ok, event._value = True, value
        self._env.schedule(event, priority, delay)  # type: ignore[arg-type]
        return event

    def _step(self, event: simpy.Event) -> None:
        """Serve until something is finished or something else may happen; then arrange to go on."""
        if event.value != self._token:
            return
        while True:
            horizon = self._env.peek()
            self._advance(fields.FAR if horizon == inf else self._bus_cycles(int(horizon)) + 1)
            if not self._report():
                break
        if any(lane.waiting for lane in self._lanes):
            self._wake(int(horizon) - int(self._env.now))

    def _advance(self, until: int) -> None:
        """Let the channels work up to a bus cycle, or to the end of the next run: somebody may ask for more then.

        No channel may run ahead of an end in another one, so several look ahead first.
        """
        if len(self._lanes) > 1:
            until = min(lane.next_end(until) for lane in self._lanes)
        for lane in self._lanes:
            lane.advance(until, to_next=len(self._lanes) == 1)

    def _report(self) -> bool:
        """Tell those whose runs have all been finished; returns whether any run was."""
        finished = [one for lane in self._lanes for one in lane.finished()]
        for access, end in finished:
            access.left -= 1
            access.end = max(access.end, end)
            if not access.left:
                at = -(-access.end * self._bus_cycle // self._cycle)
                self._schedule(access.event, None, NORMAL, max(at - int(self._env.now), 0))
        return bool(finished)
