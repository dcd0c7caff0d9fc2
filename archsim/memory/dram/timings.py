"""Timings of a lower supply: what rows of a profile ask for in ns, and the cycles a channel keeps for them.

A row may state tRCD, tRP and tRAS; what it leaves out is as the DRAM's own. Cycles are whole, rounded up. A channel has
one set of timings at a time: the slowest of its own, which all that is exact keeps, and of the rows in use.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING

from archsim.errors import StudyError
from archsim.memory.dram.profiles import TIMED, Level
from archsim.units import PS_PER_NS

if TYPE_CHECKING:
    from archsim.memory.dram.config import DramConfig


def cycles_of(ns: float, tCK_ps: int) -> int:
    """Return whole cycles that last at least so long; decimal figures are taken as written."""
    return ceil(Fraction(repr(ns)) * PS_PER_NS / tCK_ps)


def own_cycles(config: DramConfig) -> dict[str, int]:
    """Return tRCD, tRP and tRAS of the DRAM itself."""
    return {name: getattr(config, f"{name}_cycles") for name in TIMED}


def row_cycles(config: DramConfig, row: Level) -> dict[str, int]:
    """Return tRCD, tRP and tRAS of a row, in cycles; the DRAM's own where it states none."""
    return own_cycles(config) | {name: cycles_of(ns, config.tCK_ps) for name, ns in row.timings_ns.items()}


def lengthened(config: DramConfig, rows: Iterable[Level]) -> DramConfig:
    """Return the DRAM with the slowest timings of its own and of these rows; itself if they ask for none.

    A bank's cycle follows: tRC is tRAS + tRP, or what it was if that is longer.
    """
    timed = [row for row in rows if row.timings_ns]
    if not timed:
        return config
    each = [own_cycles(config), *(row_cycles(config, row) for row in timed)]
    slowest = {f"{name}_cycles": max(cycles[name] for cycles in each) for name in TIMED}
    tRC_cycles = max(config.tRC_cycles, slowest["tRAS_cycles"] + slowest["tRP_cycles"])
    return config.model_copy(update={**slowest, "tRC_cycles": tRC_cycles})


def check_rows(config: DramConfig, rows: Iterable[Level]) -> None:
    """Refuse a row of open time in which nothing can be read. Raises: StudyError naming row, key and rule."""
    for i, row in enumerate(rows):
        asked, cycles = row.timings_ns, row_cycles(config, row)
        least = cycles["tRCD"] + config.tRTP_cycles
        if asked.keys() & {"tRCD", "tRAS"} and cycles["tRAS"] < least:
            told = _in_cycles("tRAS", asked["tRAS"], config) if "tRAS" in asked else f"{cycles['tRAS']} cycles"
            rule = f"tRAS must be at least tRCD + tRTP, {cycles['tRCD']} + {config.tRTP_cycles} cycles"
            of_ns = f"{_ns(least, config)} ns"
            field = f"profile.{i}.{'tRAS' if 'tRAS' in asked else 'tRCD'}_ns"
            raise StudyError(f"{rule} ({of_ns}), got {told}", field=field)


def timing_text(config: DramConfig) -> str:
    """Return the timings in force that a row may change, in cycles."""
    told = ", ".join(f"{name} {getattr(config, f'{name}_cycles')}" for name in (*TIMED, "tRC"))
    return f"{told} cycles of {_ns(1, config)} ns"


def row_text(config: DramConfig, row: Level) -> str:
    """Return what a row asks for, and what rounding up makes of it."""
    return ", ".join(_in_cycles(name, ns, config) for name, ns in row.timings_ns.items())


def notes(config: DramConfig, rows: Iterable[Level]) -> list[str]:
    """Return what a reader must know of timings at these rows; nothing if they ask for none."""
    timed = [row for row in rows if row.timings_ns]
    if not timed:
        return []
    fewest, most = PS_PER_NS // config.tCK_ps, ceil(PS_PER_NS / config.tCK_ps)
    return [
        *(f"timings at {row.label}: {row_text(config, row)}" for row in timed),
        f"timings: rounded up to cycles, so that 1 ns less is {fewest} or {most} cycles less; a layer keeps the slowest"
        f" of the rows it uses and of the DRAM's own ({timing_text(config)})",
    ]


def _ns(cycles: int, config: DramConfig) -> str:
    return f"{cycles * config.tCK_ps / PS_PER_NS:g}"


def _in_cycles(name: str, ns: float, config: DramConfig) -> str:
    cycles = cycles_of(ns, config.tCK_ps)
    return f"{name} {ns:g} ns = {cycles} cycles ({_ns(cycles, config)} ns)"
