"""What a DRAM is: organisation, timings in cycles of its bus clock, currents, and how its controller schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from archsim.errors import StudyError, did_you_mean
from archsim.memory.base import MemoryConfig
from archsim.memory.dram.errors import ErrorModel
from archsim.memory.dram.profiles import PROFILES, Profile, profile_of

DRAMPOWER = "tukl-msd/DRAMPower tag v4.1 @1ddc48a3872d"
DRAMSIM3 = "umd-memsys/DRAMsim3 @29817593b338"
RAMULATOR = "CMU-SAFARI/ramulator2 @c5b1c3a478b6"
LINE_BYTES = 64

Count = Annotated[int, Field(gt=0, strict=True)]
Power = Annotated[int, Field(gt=0, strict=True, description="a power of two")]
Cycles = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
Current = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class DramConfig(MemoryConfig):
    """One channel of one rank. Timings are JEDEC's symbols in cycles, `_S` to another bank group, `_L` to the same."""

    devices: Count = Field(description="chips of the rank")
    device_width_bits: Literal[4, 8, 16]
    banks: Power
    bank_groups: Power
    rows: Power
    columns: Power = Field(description="of a device; a burst takes eight")
    tCK_ps: Count
    CL_cycles: Cycles
    CWL_cycles: Cycles
    burst_cycles: Annotated[int, Field(gt=0, strict=True, description="bus cycles of a burst of eight")] = 4
    tRCD_cycles: Cycles
    tRP_cycles: Cycles
    tRAS_cycles: Cycles
    tRC_cycles: Cycles
    tRTP_cycles: Cycles
    tWR_cycles: Cycles
    tWTR_S_cycles: Cycles
    tWTR_L_cycles: Cycles
    tCCD_S_cycles: Cycles
    tCCD_L_cycles: Cycles
    tRRD_S_cycles: Cycles
    tRRD_L_cycles: Cycles
    tFAW_cycles: Cycles
    tRFC_cycles: Count
    tREFI_cycles: Count
    refresh: bool = True
    row_policy: Literal["open", "closed"] = Field(
        default="open", description="closed: a row that nobody waits for is closed as soon as that is allowed"
    )
    hit_cap: Count | None = Field(
        default=None, description="requests an open row may serve while one for another row of the bank waits"
    )
    VDD_mV: Count = Field(description="supply of the currents")
    supply_mV: Count | None = Field(default=None, description="supply in force; VDD_mV by default")
    vdd_law: Literal["linear", "quadratic"] = Field(
        default="linear", description="energy over supply: currents as stated, or scaled with the supply"
    )
    refresh_law: Literal["increment", "total"] = Field(
        default="increment", description="REF on top of standby (DRAMsim3), or IDD5 and nothing else"
    )
    IDD0_mA: Current
    IDD2N_mA: Current
    IDD3N_mA: Current
    IDD4R_mA: Current
    IDD4W_mA: Current
    IDD5_mA: Current
    io_energy_pJ_per_bit: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    profile: str | tuple[Mapping[str, Any], ...] | None = Field(
        default=None, description="what the levels of dram_weights, dram_ifmap, dram_ofmap are: a name, or rows"
    )
    error_model: ErrorModel = Field(default=ErrorModel(), description="which bits flip")
    timing_source: str = "given in the study"
    current_source: str = "given in the study"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse sizes that are no powers of two, and channels that are not 64 bits wide."""
        for name in ("banks", "bank_groups", "rows", "columns"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ValueError(f"{name} must be a power of two, got {value}")
        if self.bank_groups > self.banks:
            raise ValueError(f"bank_groups must be at most banks ({self.banks}), got {self.bank_groups}")
        if self.devices * self.device_width_bits != 64:
            raise ValueError(f"devices x device_width_bits must be 64, got {self.devices} x {self.device_width_bits}")
        if self.tREFI_cycles <= self.tRFC_cycles:
            raise ValueError(f"tREFI_cycles must be above tRFC_cycles ({self.tRFC_cycles}), got {self.tREFI_cycles}")
        try:
            self.profile_in_force()
        except StudyError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def supply_in_force_mV(self) -> int:
        """The supply of everything that is not approximate."""
        return self.supply_mV or self.VDD_mV

    @property
    def row_lines(self) -> int:
        """Lines of a row over all devices."""
        return self.columns * self.devices * self.device_width_bits // 8 // LINE_BYTES

    @property
    def row_bytes(self) -> int:
        """Bytes of a row over all devices."""
        return self.row_lines * LINE_BYTES

    @property
    def capacity_bytes(self) -> int:
        """Bytes of the channel."""
        return self.banks * self.rows * self.row_bytes

    def profile_in_force(self) -> Profile | None:
        """Return the profile by name or of the given rows. Raises: StudyError with the nearest and the known names."""
        if self.profile is None or not isinstance(self.profile, str):
            return profile_of(self.profile) if self.profile else None
        if self.profile not in PROFILES:
            raise StudyError(f"unknown profile {self.profile!r}{did_you_mean(self.profile, PROFILES)}")
        return PROFILES[self.profile]


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "DDR3-1600-2Gb-x16": {
        "devices": 4, "device_width_bits": 16, "banks": 8, "bank_groups": 1, "rows": 16384, "columns": 1024,
        "tCK_ps": 1250, "CL_cycles": 10, "CWL_cycles": 8, "tRCD_cycles": 10, "tRP_cycles": 10, "tRAS_cycles": 28,
        "tRC_cycles": 38, "tRTP_cycles": 6, "tWR_cycles": 12, "tWTR_S_cycles": 6, "tWTR_L_cycles": 6,
        "tCCD_S_cycles": 4, "tCCD_L_cycles": 4, "tRRD_S_cycles": 6, "tRRD_L_cycles": 6, "tFAW_cycles": 32,
        "tRFC_cycles": 128, "tREFI_cycles": 6240, "VDD_mV": 1500, "IDD0_mA": 110, "IDD2N_mA": 42, "IDD3N_mA": 45,
        "IDD4R_mA": 270, "IDD4W_mA": 280, "IDD5_mA": 215,
        "timing_source": f"DDR3-1600 J (10-10-10), 2 KB pages, 2 Gb: {RAMULATOR}",
        "current_source": f"2 Gb x16 DDR3-1600 D: {DRAMPOWER}",
    },
    "DDR4-2400-8Gb-x8": {
        "devices": 8, "device_width_bits": 8, "banks": 16, "bank_groups": 4, "rows": 65536, "columns": 1024,
        "tCK_ps": 833, "CL_cycles": 16, "CWL_cycles": 12, "tRCD_cycles": 16, "tRP_cycles": 16, "tRAS_cycles": 39,
        "tRC_cycles": 55, "tRTP_cycles": 9, "tWR_cycles": 18, "tWTR_S_cycles": 3, "tWTR_L_cycles": 9,
        "tCCD_S_cycles": 4, "tCCD_L_cycles": 6, "tRRD_S_cycles": 4, "tRRD_L_cycles": 6, "tFAW_cycles": 26,
        "tRFC_cycles": 433, "tREFI_cycles": 9364, "VDD_mV": 1200, "IDD0_mA": 48, "IDD2N_mA": 34, "IDD3N_mA": 43,
        "IDD4R_mA": 135, "IDD4W_mA": 123, "IDD5_mA": 250,
        "timing_source": f"DDR4-2400 R (16-16-16), 1 KB pages, 8 Gb: {RAMULATOR}",
        "current_source": f"8 Gb x8 DDR4-2400, IPP left out: {DRAMSIM3}",
    },
}  # fmt: skip
"""Preset name -> fields of `DramConfig`."""
