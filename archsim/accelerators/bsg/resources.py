"""LUTs, flip-flops and block RAMs of a design, and the power that follows from them."""

from __future__ import annotations

from typing import NamedTuple

from archsim.accelerators.bsg.config import BsgConfig


class Resources(NamedTuple):
    """What a design takes of the FPGA."""

    luts: float
    ffs: float
    brams: float


CAPACITY = Resources(53_200, 106_400, 280)
"""xc7z020, BRAM counted in halves of 18 Kbit (Xilinx DS190; from memory, unverified)."""
PRINTED_BASELINE = Resources(48_994, 20_345, 39)
PRINTED_256 = Resources(43_435, 13_697, 35)
PRINTED_2048 = Resources(53_214, 19_131, 38)
"""Akhlaghi 2020, Table 5.6: Original, n_c = 256 and n_c = 2048, 128 MAC units."""
PRINTED_MACS = 128
MAC_LUTS, MAC_FFS = 204, 32
"""Of one MAC of 8 x 8 bit with a 24-bit accumulator and an operand register: our synthesis for xc7 (yosys), linear from
16 to 256 units. rtl/bsg_mac_array, whose rows share their operand register, takes 209 and 25 (synthesis.json).
"""
REST = Resources(14_300, 13_700, 35)
"""Everything but MACs and generator: what Table 4.7 leaves at 16 MACs with these slopes (LUT within 8 %, FF 3 %)."""
GENERATOR_LUTS, GENERATOR_LUTS_PER_BIT = 26, 4.5
GENERATOR_FFS, GENERATOR_FFS_PER_BIT = 88, 6.0
"""rtl/bsg_gen for xc7, within 1 % of synthesis.json from 64 to 2048 bits; feedback takes one or two LUT more."""

POWER_W = 1.441
POWER_W_PER_LUT, POWER_W_PER_FF, POWER_W_PER_BRAM = 0.0004e-3, 0.0124e-3, 0.898e-3
POWER_FIT = (
    "fitted: power = mJ / ms of 8 columns of Tables 5.6 and 5.8 over LUT, FF and BRAM, within 2.6 %; n_c = 2048, whose "
    "printed power is the lowest with the most logic, left out"
)
POWER_SOURCE = "V. Akhlaghi, UC San Diego 2020, Tables 5.6 and 5.8 (Xilinx Power Estimator)"


def resources_of(config: BsgConfig) -> Resources:
    """Return what the design of a configuration takes."""
    if config.resources == "yosys":
        return _synthesised(config)
    more = config.macs - PRINTED_MACS
    if config.design == "baseline":
        at = PRINTED_BASELINE
    else:
        share = (config.n_c - 256) / (2048 - 256)
        at = Resources(*(low + share * (high - low) for low, high in zip(PRINTED_256, PRINTED_2048)))
    return Resources(at.luts + more * MAC_LUTS, at.ffs + more * MAC_FFS, at.brams)


def _synthesised(config: BsgConfig) -> Resources:
    luts, ffs = REST.luts + config.macs * MAC_LUTS, REST.ffs + config.macs * MAC_FFS
    if config.design == "bsg":
        luts += GENERATOR_LUTS + config.n_c * GENERATOR_LUTS_PER_BIT
        ffs += GENERATOR_FFS + config.n_c * GENERATOR_FFS_PER_BIT
    return Resources(luts, ffs, REST.brams)


def power_mW(used: Resources) -> float:
    """Return the power of the FPGA, static and clock included."""
    watts = POWER_W + used.luts * POWER_W_PER_LUT + used.ffs * POWER_W_PER_FF + used.brams * POWER_W_PER_BRAM
    return 1000 * watts


def describe(used: Resources) -> str:
    """Return one line for reports."""
    shares = (f"{100 * mine / most:.0f} %" for mine, most in zip(used, CAPACITY))
    parts = (f"{mine:.0f} {name} ({share})" for mine, name, share in zip(used, ("LUT", "FF", "BRAM"), shares))
    return ", ".join(parts)
