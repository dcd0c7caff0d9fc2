"""A timeline of what each part did when, for ui.perfetto.dev or chrome://tracing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from archsim.units import cycles_to_us

MAX_SLICES = 200_000
"""Default cap: about 25 MB of JSON, which the viewers still open at once."""


@dataclass
class Timeline:
    """Slices of work; `start_cycle` counts from `origin_us` in cycles of `clock_MHz`.

    `owner` is the study's name of the machine at work, so that two of a kind stay apart; none: the unit's own name.
    Slices after the first `max_slices` are dropped and counted in `dropped`.
    """

    clock_MHz: float
    origin_us: float = 0.0
    max_slices: int = MAX_SLICES
    owner: str = ""
    dropped: int = 0
    _slices: list[tuple[str, str, str, float, float]] = field(default_factory=list, init=False, repr=False)

    def __len__(self) -> int:
        return len(self._slices)

    def rebase(self, clock_MHz: float, origin_us: float, owner: str = "") -> None:
        """Let the next slices count from `origin_us` in cycles of `clock_MHz`: the next layer, another machine."""
        self.clock_MHz, self.origin_us, self.owner = clock_MHz, origin_us, owner

    def add(self, unit: str, track: str, name: str, start_cycle: int, duration_cycles: int) -> None:
        """Record that `track` of `unit` did `name` for `duration_cycles` from `start_cycle` on."""
        if len(self._slices) >= self.max_slices:
            self.dropped += 1
            return
        start_us = self.origin_us + cycles_to_us(start_cycle, self.clock_MHz)
        self._slices.append((self.owner or unit, track, name, start_us, cycles_to_us(duration_cycles, self.clock_MHz)))

    def to_dict(self) -> dict[str, Any]:
        """Return the trace in Chrome's JSON object format: a process per unit, a thread per track, times in us."""
        pids: dict[str, int] = {}
        tids: dict[tuple[str, str], int] = {}
        events = []
        for unit, track, name, ts, dur in self._slices:
            pid = pids.setdefault(unit, len(pids) + 1)
            tid = tids.setdefault((unit, track), len(tids) + 1)
            events.append({"ph": "X", "pid": pid, "tid": tid, "name": name, "ts": ts, "dur": dur})
        names = [_name("process_name", pid, 0, unit) for unit, pid in pids.items()]
        names += [_name("thread_name", pids[unit], tid, track) for (unit, track), tid in tids.items()]
        told = {"slices": len(events), "dropped_slices": self.dropped, "max_slices": self.max_slices}
        return {"traceEvents": names + events, "displayTimeUnit": "ns", "otherData": told}


def _name(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    """Return the metadata event that names a process or a thread."""
    return {"ph": "M", "pid": pid, "tid": tid, "name": kind, "args": {"name": name}}
