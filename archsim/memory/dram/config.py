"""What a DRAM is: organisation, timings in cycles of its bus clock, currents, and how its controller schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from archsim.errors import StudyError, did_you_mean
from archsim.memory.base import MemoryConfig
from archsim.memory.dram.errors import ErrorModel
from archsim.memory.dram.profiles import PROFILES, Profile, profile_of
from archsim.memory.dram.timings import check_rows

LINE_BYTES = 64

Count = Annotated[int, Field(gt=0, strict=True)]
Power = Annotated[int, Field(gt=0, strict=True, description="a power of two")]
Cycles = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
Current = Annotated[float, Field(ge=0, allow_inf_nan=False)]


MAPPING = "row-bank-group-column"
BURST_COLUMNS = 8
MAPPED = ("row", "bank", "group", "column")
"""Fields of an address within a rank."""

OPTIONAL = ("channel", "rank")
"""Fields that have a place of their own where a mapping does not name them."""


class DramConfig(MemoryConfig):
    """Channels of one rank or more, all alike.

    Timings are JEDEC's symbols in cycles, `_S` to another bank group, `_L` to the same.
    """

    devices: Count = Field(description="chips of a rank")
    device_width_bits: Literal[4, 8, 16]
    banks: Power = Field(description="of a rank")
    bank_groups: Power
    rows: Power
    columns: Power = Field(description="of a device; a burst takes eight")
    channels: Power = Field(default=1, description="independent controllers, each with a bus of 64 bits")
    ranks: Literal[1, 2, 4] = Field(default=1, description="of a channel; they share its buses")
    mapping: str = Field(
        default=MAPPING,
        description="fields of a line's address from the most to the least significant; channel, if not named, is the"
        " one above column, rank the one above bank",
    )
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
    tRTRS_cycles: Cycles = Field(default=2, description="between bursts of different ranks (not verified)")
    refresh: bool = True
    policy: Literal["fr_fcfs", "in_order"] = Field(
        default="fr_fcfs", description="first ready, first come first served; or each bank in order (traces only)"
    )
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

    @field_validator("mapping")
    @classmethod
    def _known_fields(cls, mapping: str) -> str:
        """Refuse a mapping that leaves a field out, names one twice, or names one there is not."""
        named = mapping.split("-")
        if sorted({*named, *OPTIONAL}) != sorted({*MAPPED, *OPTIONAL}) or len(set(named)) < len(named):
            raise ValueError(
                f"mapping must name {', '.join(MAPPED)}, and channel if you like or rank, once each and joined by '-',"
                f" from the most to the least significant (row-bank-group-column), got {mapping!r}"
            )
        return mapping

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse sizes that are no powers of two, and channels that are not 64 bits wide.

        Raises: StudyError for a profile; ValueError for the rest.
        """
        for name in ("banks", "bank_groups", "rows", "columns", "channels"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ValueError(f"{name} must be a power of two, got {value}")
        if self.bank_groups > self.banks:
            raise ValueError(f"bank_groups must be at most banks ({self.banks}), got {self.bank_groups}")
        if self.devices * self.device_width_bits != 64:
            raise ValueError(f"devices x device_width_bits must be 64, got {self.devices} x {self.device_width_bits}")
        if self.tREFI_cycles <= self.tRFC_cycles:
            raise ValueError(f"tREFI_cycles must be above tRFC_cycles ({self.tRFC_cycles}), got {self.tREFI_cycles}")
        if self.policy == "in_order" and (self.row_policy != "open" or self.hit_cap is not None):
            raise ValueError("policy in_order takes neither row_policy closed nor a hit_cap")
        if self.columns < BURST_COLUMNS:
            raise ValueError(f"columns must be at least {BURST_COLUMNS}, a burst, got {self.columns}")
        for less, more in (("IDD3N_mA", "IDD4R_mA"), ("IDD3N_mA", "IDD4W_mA"), ("IDD3N_mA", "IDD5_mA")):
            if getattr(self, more) < getattr(self, less):
                raise ValueError(
                    f"{more} must be at least {less} ({getattr(self, less):g}), got {getattr(self, more):g}"
                )
        idle = self.IDD3N_mA * self.tRAS_cycles + self.IDD2N_mA * (self.tRC_cycles - self.tRAS_cycles)
        if self.IDD0_mA * self.tRC_cycles < idle:
            least = idle / self.tRC_cycles if self.tRC_cycles else 0.0
            raise ValueError(f"IDD0_mA must be at least what a bank draws in standby ({least:g}), got {self.IDD0_mA:g}")
        if self.tRAS_cycles > self.tRC_cycles:
            raise ValueError(f"tRC_cycles must be at least tRAS_cycles ({self.tRAS_cycles}), got {self.tRC_cycles}")
        if self.error_model.weak_share < 1 and self.mapping != MAPPING:
            raise ValueError(f"weak_share below 1 needs the mapping {MAPPING}, got {self.mapping}")
        if self.policy == "in_order" and self.channels > 1:
            raise ValueError(f"policy in_order has one channel, got channels {self.channels}")
        if self.policy == "in_order" and self.ranks > 1:
            raise ValueError(f"policy in_order has one rank, got ranks {self.ranks}")
        profile = self.profile_in_force()
        for level in profile.levels if profile else ():
            self.error_model.flip_rates(level.ber)
        check_rows(self, profile.levels if profile else ())
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
        """Bytes of all channels."""
        return self.all_banks * self.rows * self.row_bytes

    @property
    def all_banks(self) -> int:
        """Banks of all ranks and channels."""
        return self.channels * self.ranks * self.banks

    @property
    def peak_bandwidth_GB_per_s(self) -> float:
        """What the data buses of all channels carry at most."""
        return self.channels * LINE_BYTES / (self.burst_cycles * self.tCK_ps / 1000)

    @property
    def address_bits(self) -> dict[str, tuple[int, int]]:
        """Field of a line's address (channel, row, rank, bank, group, column) -> its lowest bit, and how many it has.

        A rank is left out if it is the only one and not named.
        """
        named = self.mapping.split("-")
        if "channel" not in named:
            named.insert(named.index("column"), "channel")
        if "rank" not in named and self.ranks > 1:
            named.insert(named.index("bank"), "rank")
        sizes = {
            "channel": self.channels, "rank": self.ranks, "row": self.rows, "bank": self.banks // self.bank_groups,
            "group": self.bank_groups, "column": self.row_lines,
        }  # fmt: skip
        found, shift = {}, 0
        for name in reversed(named):
            found[name] = shift, sizes[name].bit_length() - 1
            shift += found[name][1]
        return found

    def profile_in_force(self) -> Profile | None:
        """Return the profile by name or of the given rows. Raises: StudyError with the nearest and the known names."""
        if self.profile is None or not isinstance(self.profile, str):
            return profile_of(self.profile) if self.profile else None
        if self.profile not in PROFILES:
            raise StudyError(f"unknown profile {self.profile!r}{did_you_mean(self.profile, PROFILES)}")
        return PROFILES[self.profile]
