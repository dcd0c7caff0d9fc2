"""What a lower supply or rarer refreshes cost in bit errors: published measurements, and profiles made of them.

Sources print shares of 64-bit beats or 64-byte lines with at least one wrong bit; what is stored here are their
figures, and bit error rates follow from the thesis's law (4.11, 4.17), in which the width of the values cancels:
BER = 1 - (1 - share)^(1 / bits).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import expm1, log1p
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from archsim.errors import StudyError
from archsim.yamlfile import YamlFile, validate

BEAT_BITS, LINE_BITS = 64, 512
REFRESH_INTERVAL_MS = 64.0
"""Time in which every row is refreshed once, unless something is given up (JEDEC, up to 85 C)."""
TIMED = ("tRCD", "tRP", "tRAS")
"""Timings a row may have of its own: those of cells and sense amplifiers."""


@dataclass(frozen=True)
class Level:
    """One step of approximation. `ber`: bit error rate, a mean over all cells; `supply_mV` None: as it was.

    `refresh_energy` is the factor on the energy of refreshes, 1 if every row is refreshed as often as always. Timings
    None: as they were.
    """

    label: str
    ber: float
    supply_mV: int | None = None
    refresh_interval_ms: float | None = None
    refresh_energy: float = 1.0
    tRCD_ns: float | None = None
    tRP_ns: float | None = None
    tRAS_ns: float | None = None

    @property
    def timings_ns(self) -> dict[str, float]:
        """Timings this row states."""
        found = {name: getattr(self, f"{name}_ns") for name in TIMED}
        return {name: ns for name, ns in found.items() if ns is not None}


@dataclass(frozen=True)
class Profile:
    """Levels of a memory in order of growing approximation: level i >= 1 of a knob is `levels[i - 1]`, 0 is exact.

    `nominal_mV` is the supply the source counts from; None: it speaks of no supply.
    """

    name: str
    about: str
    source: str
    nominal_mV: int | None
    levels: tuple[Level, ...]


# Laws ----------------------------------------------------------------------------------------------------------------
def share_of_values(ber: float, n: float) -> float:
    """Return the share of n-bit values with an error: p_err = 1 - (1 - p)^n (thesis, 4.11)."""
    return -expm1(n * log1p(-ber)) if ber < 1 else 1.0


def share_of_beats(p_err: float, n: float) -> float:
    """Return the share of 64-bit beats with an error if each of their 64/n values has p_err (thesis, 4.17)."""
    return share_of_values(p_err, BEAT_BITS / n)


def ber_of_beats(share: float) -> float:
    """Return the bit error rate at which this share of 64-bit beats holds an error, bits being independent."""
    return share_of_values(share, 1 / BEAT_BITS)


def ber_of_lines(share: float) -> float:
    """Return the bit error rate at which this share of 64-byte lines holds an error, bits being independent."""
    return share_of_values(share, 1 / LINE_BITS)


# Measurements --------------------------------------------------------------------------------------------------------
THESIS = "dissertation, chapter 4"
VOLTRON = "K. Chang et al., SIGMETRICS 2017; CMU-SAFARI/DRAM-Voltage-Study @b2089c3c7c2a, aggregated"

THESIS_T46_BEATS_PERCENT: Mapping[int, float] = {1250: 10.0, 1200: 35.0, 1150: 40.0, 1100: 50.0}
"""Supply in mV -> beats with an error; none above 1.25 V, and the thesis runs its exact layers at 1.3 V (Table 4.6)."""
THESIS_SAFE_MV = 1300


@dataclass(frozen=True)
class Lines:
    """Lines with an error at a supply, mean over DIMMs; `faulty` of `tested` DIMMs had any."""

    supply_mV: int
    mean_percent: float
    faulty: int
    tested: int
    median_percent: float | None = None
    max_percent: float | None = None


VOLTRON_LINES: Mapping[str, tuple[Lines, ...]] = {
    "A": (
        Lines(1300, 0.0, 0, 16), Lines(1250, 0.0, 0, 6), Lines(1200, 0.0, 0, 10), Lines(1175, 0.0, 0, 3),
        Lines(1150, 0.0, 0, 10), Lines(1125, 0.36, 1, 10), Lines(1100, 29.2, 8, 9, 8.9, 89.6),
    ),
    "B": (
        Lines(1300, 0.0, 0, 14), Lines(1250, 0.0, 0, 3), Lines(1200, 0.0, 0, 11), Lines(1175, 0.0, 0, 3),
        Lines(1150, 0.0, 0, 11), Lines(1125, 4e-7, 1, 7), Lines(1100, 1.6e-4, 5, 11),
    ),
    "C": (
        Lines(1300, 0.0, 0, 18), Lines(1250, 6.03, 6, 9, 0.021, 24.9), Lines(1200, 25.6, 9, 9, None, 49.2),
        Lines(1175, 36.2, 8, 8), Lines(1150, 41.8, 7, 7), Lines(1125, 46.8, 6, 6), Lines(1100, 49.95, 7, 7),
    ),
}  # fmt: skip
"""Vendor -> DDR3L SO-DIMMs measured below 1.35 V at nominal timing."""
VOLTRON_B_BELOW_PERCENT: Mapping[int, float] = {1075: 0.019, 1050: 3.6, 1025: 19.6}
"""Supply in mV -> lines with an error, mean over vendor B's DIMMs; how many were tested is not known here."""
VOLTRON_NOMINAL_MV = 1350


@dataclass(frozen=True)
class Retention:
    """Wrong bits after an interval without refresh: mean over DIMMs, and the worst DIMM, per bit of a DIMM (2^34)."""

    interval_ms: int
    mean_ber: float
    worst_ber: float | None = None


RETENTION: Mapping[str, tuple[Retention, ...]] = {
    "20C": (
        Retention(256, 0.0), Retention(512, 3.6e-13), Retention(1024, 1.0e-10, 2e-9), Retention(1536, 8.4e-10),
        Retention(2048, 2.8e-9, 7e-8),
    ),
    "70C": (
        Retention(256, 0.0), Retention(512, 1.8e-11), Retention(1024, 4.5e-9, 2e-8), Retention(1536, 4.6e-8),
        Retention(2048, 1.9e-7, 1.2e-6),
    ),
    "70C_1150mV": (
        Retention(256, 0.0), Retention(512, 2.4e-11), Retention(1024, 5.6e-9), Retention(1536, 5.4e-8),
        Retention(2048, 2.2e-7, 1.5e-6),
    ),
}  # fmt: skip
"""Condition -> measured retention, DDR3L; no bit was wrong from 64 ms to 256 ms."""

FLIKKER_T41_NJ: Mapping[float, float] = {0.0: 132.84, 1e-9: 120.8, 1e-8: 110.2, 1e-7: 102.6, 1e-6: 99.6}
"""Error rate -> refresh energy of one operating cycle (Table 4.1)."""

UNVERIFIED = "no source: unverified placeholder"
PLACEHOLDER_NS: Mapping[int, tuple[float, float, float]] = {
    1350: (13.75, 13.75, 36.25), 1100: (15.0, 16.0, 40.0), 900: (21.0, 26.0, 52.0),
}  # fmt: skip
"""Supply in mV -> tRCD, tRP, tRAS: figures of the right size to try timings with, taken from no measurement."""


# Profiles ------------------------------------------------------------------------------------------------------------
def _volt(supply_mV: int) -> str:
    return f"{supply_mV / 1000:g} V"


def _thesis() -> Profile:
    levels = [Level(_volt(THESIS_SAFE_MV), 0.0, THESIS_SAFE_MV)]
    levels += [Level(_volt(mV), ber_of_beats(part / 100), mV) for mV, part in THESIS_T46_BEATS_PERCENT.items()]
    about = "the thesis's voltages, most sensitive vendor, shares of 64-bit beats"
    return Profile("thesis_t46", about, f"{THESIS}, Table 4.6", 1500, tuple(levels))


def _voltron(vendor: str) -> Profile:
    percent = {row.supply_mV: row.mean_percent for row in VOLTRON_LINES[vendor]}
    percent |= VOLTRON_B_BELOW_PERCENT if vendor == "B" else {}
    levels = tuple(Level(_volt(mV), ber_of_lines(part / 100), mV) for mV, part in percent.items())
    about = f"DDR3L of vendor {vendor} at nominal timing, mean over DIMMs, shares of 64-byte lines"
    return Profile(f"voltron_{vendor}", about, VOLTRON, VOLTRON_NOMINAL_MV, levels)


def _retention(condition: str, supply_mV: int | None = None) -> Profile:
    levels = tuple(
        Level(
            f"{row.interval_ms} ms", row.mean_ber, supply_mV, float(row.interval_ms),
            REFRESH_INTERVAL_MS / row.interval_ms,
        )
        for row in RETENTION[condition]
    )  # fmt: skip
    supply = _volt(supply_mV or VOLTRON_NOMINAL_MV)
    about = f"DDR3L refreshed less often, {condition[:2]} C, {supply}, mean over DIMMs; errors of retention only"
    return Profile(f"retention_{condition}", about, VOLTRON, VOLTRON_NOMINAL_MV, levels)


def _flikker() -> Profile:
    exact_nJ = FLIKKER_T41_NJ[0.0]
    levels = tuple(
        Level(f"error rate {rate:.0e}", rate, refresh_energy=nJ / exact_nJ)
        for rate, nJ in FLIKKER_T41_NJ.items()
        if rate
    )
    about = "Flikker's refresh rates as the thesis prices them: error rate and refresh energy, no interval given"
    return Profile("flikker_t41", about, f"{THESIS}, Table 4.1, after S. Liu et al., ASPLOS 2011", None, levels)


def _placeholder() -> Profile:
    levels = tuple(Level(f"{_volt(mV)} (unverified)", 0.0, mV, None, 1.0, *ns) for mV, ns in PLACEHOLDER_NS.items())
    about = "a lower supply with longer tRCD, tRP, tRAS, which are assumed to keep every bit right"
    return Profile("placeholder_timings", about, UNVERIFIED, VOLTRON_NOMINAL_MV, levels)


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        _thesis(),
        *(_voltron(vendor) for vendor in VOLTRON_LINES),
        _retention("20C"),
        _retention("70C"),
        _retention("70C_1150mV", 1150),
        _flikker(),
        _placeholder(),
    )
}
"""Name -> profile."""


# Profiles of a study -------------------------------------------------------------------------------------------------
Rate = Annotated[float, Field(ge=0, le=1, strict=True, allow_inf_nan=False)]
Above0 = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
Nanoseconds = Annotated[float, Field(gt=0, le=1000, strict=True)]


class LevelRow(BaseModel):
    """A level as a study gives it; refreshes cost 64 ms / interval unless `refresh_energy` says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ber: Rate
    supply_mV: Annotated[int, Field(gt=0, strict=True)] | None = None
    refresh_interval_ms: Above0 | None = None
    refresh_energy: Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)] | None = None
    label: str | None = None
    tRCD_ns: Nanoseconds | None = None
    tRP_ns: Nanoseconds | None = None
    tRAS_ns: Nanoseconds | None = None

    def level(self, number: int) -> Level:
        """Return the level; `number` stands in for a label that was not given."""
        factor = self.refresh_energy
        if factor is None:
            factor = REFRESH_INTERVAL_MS / self.refresh_interval_ms if self.refresh_interval_ms else 1.0
        label = f"level {number}" if self.label is None else self.label
        timings = self.tRCD_ns, self.tRP_ns, self.tRAS_ns
        return Level(label, self.ber, self.supply_mV, self.refresh_interval_ms, factor, *timings)


def profile_of(rows: Sequence[Mapping[str, Any]], field: str = "profile") -> Profile:
    """Return the profile a study gives as rows of `ber` and optional `supply_mV`, `tRCD_ns`, ...

    Raises: StudyError naming row and key (`profile.1.ber`) if there is no row, a row breaks a rule, or levels do not
    grow in approximation: errors get no rarer, the supply no higher.
    """
    if isinstance(rows, str | Mapping) or not isinstance(rows, Sequence) or not rows:
        raise StudyError(f"must be a list of at least one level, got {rows!r}", field=field)
    source = YamlFile("", rows)
    levels = tuple(validate(LevelRow, row, source, (field, i)).level(i + 1) for i, row in enumerate(rows))
    for i, (before, level) in enumerate(pairwise(levels), 1):
        if level.ber < before.ber:
            rule = f"must be at least {before.ber:g}, that of the level before, got {level.ber:g}"
            raise StudyError(rule, field=f"{field}.{i}.ber")
        if before.supply_mV is not None and level.supply_mV is not None and level.supply_mV > before.supply_mV:
            rule = f"must be at most {before.supply_mV}, that of the level before, got {level.supply_mV}"
            raise StudyError(rule, field=f"{field}.{i}.supply_mV")
    return Profile("given", "levels of the study", "given in the study", None, levels)
