"""What a channel makes of a trace: cycles, what requests found, how long reads took, power and energy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.memory.dram.channels import Channels
from archsim.memory.dram.config import LINE_BYTES, DramConfig
from archsim.memory.dram.controller import Counters
from archsim.memory.dram.energy import energies_pJ
from archsim.memory.dram.fields import Array
from archsim.memory.dram.in_order_controller import InOrderController
from archsim.memory.dram.profiles import Level
from archsim.memory.dram.timings import lengthened, row_text, timing_text
from archsim.memory.dram.trace import Requests
from archsim.units import PS_PER_NS, energy_pJ_to_power_mW

PERCENTILES = (50, 90, 99, 99.9)


@dataclass(frozen=True, eq=False)
class Played:
    """A trace that has been served. `latencies`: reads by their latency in cycles, the last entry for all above.

    `row`: what all its data lay at; None for exact. Commands cost what the DRAM's own timings make of its currents.
    """

    config: DramConfig
    counters: Counters
    latencies: Array
    row: Level | None = None

    @property
    def energy_pJ(self) -> dict[str, float]:
        """Energy by command and kind of standby; an activate pays for its precharge."""
        done, price = self.counters, energies_pJ(self.config, self.row.supply_mV if self.row else None)
        counts = {
            "act": done.activates,
            "read": done.reads,
            "write": done.writes,
            "refresh": done.refreshes * (self.row.refresh_energy if self.row else 1.0),
            "active_cycle": done.active_cycles,
            "idle_cycle": done.idle_cycles,
            "read_bit": done.reads * 8 * LINE_BYTES,
            "write_bit": done.writes * 8 * LINE_BYTES,
        }
        return {name: n * price[name] for name, n in counts.items()}

    def percentile(self, share: float) -> int:
        """Return the latency in cycles that this share of reads, in percent, does not exceed."""
        reached = np.cumsum(self.latencies)
        return int(np.searchsorted(reached, np.ceil(reached[-1] * share / 100))) if reached[-1] else 0

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain data, units in the names."""
        done, energy = self.counters, self.energy_pJ
        us = done.cycles * self.config.tCK_ps / PS_PER_NS / 1000
        moved, read = done.reads + done.writes, np.flatnonzero(self.latencies)
        timed = lengthened(self.config, [self.row] if self.row else [])
        return {
            "timings": timing_text(timed),
            "row": self._row_text(),
            "cycles": done.cycles,
            "latency_us": us,
            "row_hits": done.hits,
            "row_misses": done.misses,
            "row_conflicts": done.conflicts,
            "reads": done.reads,
            "writes": done.writes,
            "forwarded_reads": done.forwarded,
            "merged_writes": done.merged,
            "activates": done.activates,
            "precharges": done.precharges,
            "refreshes": done.refreshes,
            "active_cycles": done.active_cycles,
            "idle_cycles": done.idle_cycles,
            "bandwidth_GB_per_s": moved * LINE_BYTES / us / 1000 if us else 0.0,
            "peak_bandwidth_GB_per_s": self.config.peak_bandwidth_GB_per_s,
            "read_latency_cycles": {
                "mean": done.mean_read_latency_cycles,
                "least": int(read[0]) if len(read) else 0,
                **{f"p{share:g}": self.percentile(share) for share in PERCENTILES},
                "most": int(read[-1]) if len(read) else 0,
            },
            "read_latency_histogram": {int(at): int(self.latencies[at]) for at in read},
            "energy_pJ": energy,
            "energy_total_pJ": sum(energy.values()),
            "power_mW": energy_pJ_to_power_mW(sum(energy.values()), us),
        }

    def _row_text(self) -> str | None:
        """Return the row of the profile, and what it asks for."""
        if self.row is None:
            return None
        return ": ".join(one for one in (self.row.label, row_text(self.config, self.row)) if one)


def play(config: DramConfig, pieces: Iterable[Requests], row: Level | None = None) -> Played:
    """Serve a trace from a channel at rest, its data at a row; memory in use does not grow with its length."""
    timed = lengthened(config, [row] if row else [])
    controller = Channels(timed) if config.policy == "fr_fcfs" else InOrderController(timed)
    for piece, last in _with_last(pieces):
        controller.take(piece.lines, piece.writes, piece.at, drain=last)
    return Played(config, controller.counters, controller.latencies, row)


def _with_last(pieces: Iterable[Requests]) -> Iterator[tuple[Requests, bool]]:
    """Yield pieces and whether it is the last one."""
    source = iter(pieces)
    held = next(source, None)
    while held is not None:
        following = next(source, None)
        yield held, following is None
        held = following
