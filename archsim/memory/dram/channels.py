"""Several channels: independent controllers, each with the lines that its bits of the address give it."""

from __future__ import annotations

import numpy as np

from archsim.memory.dram import fields
from archsim.memory.dram.config import DramConfig
from archsim.memory.dram.controller import CHUNK, Controller, Counters
from archsim.memory.dram.fields import Array


class Channels:
    """All channels of a memory, from cycle 0 on. Requests of one channel keep their order; nothing joins channels."""

    def __init__(self, config: DramConfig) -> None:
        self.controllers = tuple(Controller(config) for _ in range(config.channels))
        self.shift, self.bits = config.address_bits["channel"]

    def split(self, runs: Array) -> list[tuple[Array, Array]]:
        """Return, for each channel, its runs and the index of the run each is a part of.

        runs int64 (n, RUN_FIELDS), lines of the whole memory; the parts have lines of their channel. A run without a
        gap is one contiguous run in every channel it reaches. One with a gap is a run for every block of lines that
        a channel has in one piece, each at its time.
        """
        owners = np.arange(len(runs))
        if self.bits and runs[:, fields.GAP].any():
            runs, owners = self._blocks(runs)
        return [self._of_channel(runs, owners, channel) for channel in range(len(self.controllers))]

    def _blocks(self, runs: Array) -> tuple[Array, Array]:
        """Cut runs with a gap where the channel changes; return the pieces and the run each comes from."""
        first, last = runs[:, fields.FIRST], runs[:, fields.FIRST] + runs[:, fields.LINES] - 1
        pieces = np.where(runs[:, fields.GAP] > 0, (last >> self.shift) - (first >> self.shift) + 1, 1)
        owners = np.repeat(np.arange(len(runs)), pieces)
        nth, cut = np.arange(len(owners)) - np.repeat(np.cumsum(pieces) - pieces, pieces), runs[owners]
        block = (cut[:, fields.FIRST] >> self.shift) + nth
        start = np.where(nth > 0, block << self.shift, cut[:, fields.FIRST])
        stop = np.where(nth + 1 < pieces[owners], (block + 1) << self.shift, last[owners] + 1)
        cut[:, fields.AT] += (start - cut[:, fields.FIRST]) * cut[:, fields.GAP]
        cut[:, fields.FIRST], cut[:, fields.LINES] = start, stop - start
        return cut, owners

    def _of_channel(self, runs: Array, owners: Array, channel: int) -> tuple[Array, Array]:
        """Return the parts of runs that lie in one channel, and their owners."""
        local = runs.copy()
        local[:, fields.FIRST] = self._lines_before(runs[:, fields.FIRST], channel)
        end = self._lines_before(runs[:, fields.FIRST] + runs[:, fields.LINES], channel)
        local[:, fields.LINES] = end - local[:, fields.FIRST]
        local[:, fields.LEFT] = np.where(runs[:, fields.LEFT] > 0, local[:, fields.LINES], 0)
        there = local[:, fields.LINES] > 0
        return local[there], owners[there]

    def _lines_before(self, lines: Array, channel: int) -> Array:
        """Return how many lines below each of `lines` a channel has: the number of the next one it has itself."""
        block = 1 << self.shift
        rest = lines & ((block << self.bits) - 1)
        before: Array = (lines >> (self.shift + self.bits) << self.shift) + np.clip(rest - channel * block, 0, block)
        return before

    def serve(self, runs: Array) -> None:
        """Serve runs, int64 (n, RUN_FIELDS), to their end; cycles of their ends and lines left are written into them.

        Ends are known of runs that somebody waits for: LEFT is LINES, or 0.
        """
        for controller, (parts, owners) in zip(self.controllers, self.split(runs)):
            left = parts[:, fields.LEFT].copy()
            controller.serve(parts)
            np.maximum.at(runs[:, fields.END], owners, parts[:, fields.END])
            np.subtract.at(runs[:, fields.LEFT], owners, left - parts[:, fields.LEFT])

    def offer(self, lines: Array, writes: Array, first: int = 0, gap: int = 0, chunk: int = CHUNK) -> None:
        """Serve requests, int (n,), request k not before cycle first + gap*k, each channel its own in order."""
        at = first + gap * np.arange(len(lines))
        for start in range(0, len(lines), chunk):
            part = slice(start, start + chunk)
            self.take(lines[part], writes[part], at[part], drain=start + chunk >= len(lines))

    def take(self, lines: Array, writes: Array, at: Array, *, drain: bool) -> None:
        """Take requests, int (n,), none before its cycle; finish them only if no more come."""
        channel = (lines >> self.shift) & ((1 << self.bits) - 1)
        local = lines >> (self.shift + self.bits) << self.shift | lines & ((1 << self.shift) - 1)
        for number, controller in enumerate(self.controllers):
            mine = channel == number
            controller.take(local[mine], writes[mine], at[mine], drain=drain)

    @property
    def latencies(self) -> Array:
        """Reads of all channels by their latency in cycles, int64 (LONGEST + 1,)."""
        return np.asarray(np.sum([one.latencies for one in self.controllers], axis=0))

    @property
    def counters(self) -> Counters:
        """What all channels have done so far, up to the last data of any of them."""
        every = [one.counters for one in self.controllers]
        cycles = max(one.cycles for one in every)
        summed = {
            name: sum(getattr(one, name) for one in every)
            for name in (
                "hits", "misses", "conflicts", "forwarded", "merged", "read_latency_cycles", "activates", "precharges",
                "reads", "writes", "refreshes",
            )
        }  # fmt: skip
        active = sum(one.active_cycles_until(cycles) for one in every)
        return Counters(cycles, **summed, closed_active_cycles=active, ranks=sum(one.ranks for one in every))
