"""Shipped DRAMs: organisation and timings of a standard's speed bin, currents of a data sheet, each with its source.

Channels are 64 bits wide. Currents are per device as far as their source says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DRAMPOWER = "tukl-msd/DRAMPower tag v4.1 @1ddc48a3872d"
DRAMSIM3 = "umd-memsys/DRAMsim3 @29817593b338"
RAMULATOR = "CMU-SAFARI/ramulator2 @c5b1c3a478b6"
CURRENTS = ("VDD_mV", "IDD0_mA", "IDD2N_mA", "IDD3N_mA", "IDD4R_mA", "IDD4W_mA", "IDD5_mA")
DDR3_1600 = {
    "banks": 8, "bank_groups": 1, "columns": 1024, "tCK_ps": 1250, "CL_cycles": 10, "CWL_cycles": 8,
    "tRCD_cycles": 10, "tRP_cycles": 10, "tRAS_cycles": 28, "tRC_cycles": 38, "tRTP_cycles": 6, "tWR_cycles": 12,
    "tWTR_S_cycles": 6, "tWTR_L_cycles": 6, "tCCD_S_cycles": 4, "tCCD_L_cycles": 4, "tREFI_cycles": 6240,
}  # fmt: skip
"""Speed bin J, 10-10-10, refreshed every 7.8 us."""
DDR4_2400 = {
    "banks": 16, "bank_groups": 4, "columns": 1024, "tCK_ps": 833, "CL_cycles": 16, "CWL_cycles": 12,
    "tRCD_cycles": 16, "tRP_cycles": 16, "tRAS_cycles": 39, "tRC_cycles": 55, "tRTP_cycles": 9, "tWR_cycles": 18,
    "tWTR_S_cycles": 3, "tWTR_L_cycles": 9, "tCCD_S_cycles": 4, "tCCD_L_cycles": 6, "tREFI_cycles": 9364,
}  # fmt: skip
"""Speed bin R, 16-16-16, refreshed every 7.8 us."""
PAGE_1KB = {"tRRD_S_cycles": 5, "tRRD_L_cycles": 5, "tFAW_cycles": 24}
PAGE_2KB = {"tRRD_S_cycles": 6, "tRRD_L_cycles": 6, "tFAW_cycles": 32}
"""DDR3-1600: spacings of activates, by the size of a device's row."""
PAGE_DDR4 = {"tRRD_S_cycles": 4, "tRRD_L_cycles": 6, "tFAW_cycles": 26}
TRFC_NS = {"DDR3": {1: 110, 2: 160, 4: 260, 8: 350}, "DDR4": {2: 160, 4: 260, 8: 360, 16: 550}}
"""Standard -> density in Gbit -> ns of a refresh."""


def _ddr3(width: int, Gbit: int, currents: tuple[float, ...], source: str) -> dict[str, Any]:
    """Return a rank of DDR3-1600 devices."""
    page = PAGE_2KB if width == 16 else PAGE_1KB
    kilobytes = 2 if width == 16 else 1
    text = f"DDR3-1600 J (10-10-10), {kilobytes} KB pages, {Gbit} Gb: {RAMULATOR}"
    return _rank(DDR3_1600 | page, width, Gbit, TRFC_NS["DDR3"][Gbit], text, currents, source)


def _ddr4(Gbit: int, currents: tuple[float, ...], source: str) -> dict[str, Any]:
    """Return a rank of DDR4-2400 devices, x8."""
    text = f"DDR4-2400 R (16-16-16), 1 KB pages, {Gbit} Gb: {RAMULATOR}"
    return _rank(DDR4_2400 | PAGE_DDR4, 8, Gbit, TRFC_NS["DDR4"][Gbit], text, currents, source)


def _rank(
    timings: Mapping[str, int], width: int, Gbit: int, tRFC_ns: int, told: str, currents: tuple[float, ...], source: str
) -> dict[str, Any]:
    """Join organisation, timings and currents; a refresh takes whole cycles, rounded up."""
    row_bits = timings["banks"] * timings["columns"] * width
    return {
        **timings,
        "devices": 64 // width,
        "device_width_bits": width,
        "rows": (Gbit << 30) // row_bits,
        "tRFC_cycles": -(-tRFC_ns * 1000 // timings["tCK_ps"]),
        **dict(zip(CURRENTS, currents, strict=True)),
        "timing_source": told,
        "current_source": source,
    }


UDIMM_mA = (522, 405, 405, 1197, 1152, 1422)
"""IDD0, 2N, 3N, 4R, 4W, 5 of a rank of nine chips, one of them for error correction; shared out among eight."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "DDR3-1600-2Gb-x16": _ddr3(16, 2, (1500, 110, 42, 45, 270, 280, 215), f"2 Gb x16 DDR3-1600 D: {DRAMPOWER}"),
    "DDR3-1600-1Gb-x8": _ddr3(8, 1, (1500, 70, 45, 45, 140, 145, 170), f"1 Gb x8 DDR3-1600 G: {DRAMPOWER}"),
    "DDR3-1600-4Gb-x8": _ddr3(8, 4, (1500, 55, 32, 38, 157, 125, 235), "gem5, DDR3_1600_8x8"),
    "DDR3L-1600-4Gb-x8": _ddr3(8, 4, (1350, 55, 32, 38, 157, 125, 235), f"4 Gb x8 DDR3L-1600: {DRAMSIM3}"),
    "DDR3L-1600-4Gb-x16": _ddr3(16, 4, (1350, 66, 32, 47, 235, 171, 235), f"4 Gb x16 DDR3L-1600: {DRAMSIM3}"),
    "DDR3-1600-2GB-UDIMM": _ddr3(
        8, 1, (1500, *(mA / 8 for mA in UDIMM_mA)), f"2 GB DDR3-1600 UDIMM, one rank of nine chips: {DRAMPOWER}"
    ),
    "DDR4-2400-8Gb-x8": _ddr4(8, (1200, 48, 34, 43, 135, 123, 250), f"8 Gb x8 DDR4-2400, IPP left out: {DRAMSIM3}"),
    "DDR4-2400-4Gb-x8": _ddr4(
        4, (1200, 60.75, 38.25, 44, 184.5, 168.75, 118), f"4 Gb x8 DDR4-2400 A, VPP left out: {DRAMPOWER}"
    ),
}
"""Preset name -> fields of `DramConfig`."""
