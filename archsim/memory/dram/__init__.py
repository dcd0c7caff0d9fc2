"""DRAM: commands of a channel to the cycle, their energy, and what a lower supply does to the data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from archsim.approx import Knob, LayerSetting, Setting
from archsim.counts import Column, Counts
from archsim.energy import PriceTable
from archsim.errors import StudyError
from archsim.memory.base import NOWHERE, Addresses, Memory, Region, RequestLog
from archsim.memory.dram.config import DramConfig
from archsim.memory.dram.energy import ACTIONS, REGIONS, dram_prices
from archsim.memory.dram.presets import PRESETS
from archsim.memory.dram.profiles import Level, Profile
from archsim.memory.dram.rtl import BIT_ERROR_INJECTOR, DRAM_CTL
from archsim.memory.dram.timings import lengthened, notes, timing_text
from archsim.threads import Progress

if TYPE_CHECKING:
    import numpy.typing as npt
    import simpy

    from archsim.memory.dram.port import DramPort

APPROXIMATE: tuple[Region, ...] = ("weights", "ifmap", "ofmap")
"""Regions whose errors can be chosen; spilled psums are kept at the supply in force."""
MOST_LEVELS = 33


class Dram(Memory):
    """Channels of one rank or more behind their controllers."""

    kind = "dram"
    about = "command-level timing, energy of every command, errors of a lower supply or longer refresh"
    Config = DramConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    knobs = tuple(
        Knob(f"dram_{region}", MOST_LEVELS, "layer", f"level n: the {region} lie in DRAM at row n of `profile`")
        for region in APPROXIMATE
    )
    actions = ACTIONS
    rtl = (DRAM_CTL, BIT_ERROR_INJECTOR)
    addressed = True
    columns = (
        Column("row hits", "dram_row_hit_requests", "dram_row_requests", "share of requests whose row was open"),
        Column("latency ns", "dram_read_latency_ns", "dram_read_requests", "mean from acceptance to data, reads"),
        Column("GB/s", "dram_moved_bytes", "dram_elapsed_ns", "bytes moved, in whole lines of 64, over the latency"),
        Column("bus", "dram_data_cycles", "dram_bus_cycles", "share of bus cycles with data"),
        Column("stalled", "memory_stall_cycles", "cycles", "share of the machine's cycles it waits for memory"),
    )
    config: DramConfig

    def __init__(self, config: DramConfig) -> None:
        super().__init__(config)
        self._slower: dict[str, Dram] = {}

    @property
    def prices(self) -> PriceTable:
        """Prices of commands and standby cycles at the supply in force."""
        return dram_prices(self.config)

    @cached_property
    def profile(self) -> Profile | None:
        """What lower supplies or longer refresh intervals do to the data. Raises: StudyError."""
        return self.config.profile_in_force()

    def knobs_in_force(self) -> tuple[Knob, ...]:
        """As many levels as the profile has rows; without one there is level 0 only."""
        rows = len(self.profile.levels) if self.profile else 0
        return tuple(replace(knob, levels=rows + 1) for knob in self.knobs)

    def prices_at(self, setting: LayerSetting, counts: Counts) -> PriceTable:
        """Return the prices under a layer's levels: commands at the supply of the region they serve.

        Standby and refresh take the highest supply, and refresh the shortest interval, among the regions in use.
        """
        rows = {region: self._row(setting, region) for region in REGIONS}
        if not any(rows.values()):
            return self.prices
        force = self.config.supply_in_force_mV
        supplies = {region: (row.supply_mV if row else None) or force for region, row in rows.items()}
        used = [region for region in REGIONS if counts[f"dram_{region}.read"] or counts[f"dram_{region}.write"]]
        refresh = {region: row.refresh_energy if row else 1.0 for region, row in rows.items()}
        standby_mV = max((supplies[region] for region in used), default=force)
        return dram_prices(self.config, supplies, standby_mV, max((refresh[region] for region in used), default=1.0))

    def clocked(self, setting: LayerSetting, chip: Collection[str] = ()) -> Dram:
        """Return the DRAM with the slowest timings of its own and of the rows of regions that are not on chip."""
        rows = (self._row(setting, region) for region in APPROXIMATE if region not in chip)
        config = lengthened(self.config, (row for row in rows if row))
        if config is self.config:
            return self
        return self._slower.setdefault(timing_text(config), Dram(config))

    def _row(self, setting: LayerSetting, region: Region) -> Level | None:
        """Return the row of the profile a region lies at; None for exact."""
        level = setting.level(f"dram_{region}")
        assert isinstance(level, int)
        return self.profile.levels[level - 1] if level and self.profile else None

    @property
    def capacity_bytes(self) -> int:
        """Bytes of all channels and ranks."""
        return self.config.capacity_bytes

    def check_setting(self, setting: Setting) -> None:
        """Studies are first-ready, and no level may lie above the supply of what is exact. Raises: StudyError."""
        if self.config.policy != "fr_fcfs":
            raise StudyError(f"policy {self.config.policy!r} plays traces (archsim dram), studies take 'fr_fcfs'")
        for layer, one in setting.items():
            for region in APPROXIMATE:
                self._check_supply(
                    self._row(one, region), f"level {one.level(f'dram_{region}')} of dram_{region} of {layer}"
                )

    def _check_supply(self, row: Level | None, told: str) -> None:
        """Refuse a row above the supply of what is exact. Raises: StudyError."""
        force = self.config.supply_in_force_mV
        if row and row.supply_mV and row.supply_mV > force:
            raise StudyError(
                f"{told} is {row.supply_mV} mV, above the supply in force ({force} mV): it would cost energy and errors"
            )

    def notes(self, setting: Setting) -> Sequence[str]:
        """Name the profile that errors and savings come from, and the timings of its rows in use."""
        used = [self._row(one, region) for one in setting.values() for region in APPROXIMATE]
        if self.profile is None or not any(used):
            return ()
        profile, model = self.profile, self.config.error_model
        errors = f"errors: {profile.name} ({profile.source}), model {model.kind}; the profile decides the saving"
        return (errors, *notes(self.config, (row for row in profile.levels if row in used)))

    @property
    def bandwidth_bytes_per_us(self) -> float:
        """Peak of the data buses."""
        return 1000 * self.config.peak_bandwidth_GB_per_s

    def port(self, env: simpy.Environment, clock_MHz: float, addresses: Addresses = NOWHERE) -> DramPort:
        """Return the port of a fresh channel: all banks closed, refresh counter 0."""
        from archsim.memory.dram.port import DramPort

        return DramPort(env, clock_MHz, self.config, addresses)

    def write_requests(self, log: RequestLog, path: Path) -> None:
        """Write a trace for Ramulator 2 (`.ldst`) or DRAMsim3 (any other name)."""
        from archsim.memory.dram.trace import write_trace

        write_trace(log, path, self.config)

    def play_trace(
        self, path: Path, gap_cycles: int, progress: Progress | None = None, level: int = 0
    ) -> dict[str, Any]:
        """Serve a trace of Ramulator 2 or DRAMsim3, all its data at a level."""
        from archsim.memory.dram.played import play
        from archsim.memory.dram.trace import read_trace

        rows = self.profile.levels if self.profile else ()
        if not 0 <= level <= len(rows):
            raise StudyError(
                f"must be from 0 (exact) to {len(rows)}, the rows of the profile, got {level}", field="level"
            )
        row = rows[level - 1] if level else None
        self._check_supply(row, f"level {level}")
        return play(self.config, read_trace(path, self.config, gap_cycles, progress), row).to_dict()

    def perturb(
        self,
        tensor: npt.NDArray[Any],
        region: Region,
        level: int,
        layer: str,
        image: int,
        *,
        bits: int,
        seed: int = 0,
        address: int = 0,
    ) -> npt.NDArray[Any]:
        """Return `tensor` with the flips of this read: a function of all arguments and of the device."""
        from archsim.memory.dram.errors import perturb

        assert self.profile is not None
        key = (seed, region, layer, image)
        ber = self.profile.levels[level - 1].ber
        return perturb(tensor, ber, self.config.error_model, key, address, self.config, bits=bits)
