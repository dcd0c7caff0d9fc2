"""The only unit conversions of the project; every name says from what to what."""

from __future__ import annotations

import math

BITS_PER_BYTE = 8
MB = 10**6
PS_PER_NS = 1000


def cycles_to_us(cycles: int, clock_MHz: float) -> float:
    """Convert clock cycles to microseconds."""
    return cycles / clock_MHz


def cycles_to_ms(cycles: int, clock_MHz: float) -> float:
    """Convert clock cycles to milliseconds."""
    return cycles / clock_MHz / 1000.0


def us_to_cycles(latency_us: float, clock_MHz: float) -> int:
    """Convert microseconds to whole clock cycles, rounded up."""
    return math.ceil(latency_us * clock_MHz)


def power_mW_to_pJ_per_cycle(power_mW: float, clock_MHz: float) -> float:
    """Convert a power to the energy of one clock cycle: 1 mW at 1 MHz is 1000 pJ per cycle."""
    return power_mW * 1000.0 / clock_MHz


def power_mW_to_energy_pJ(power_mW: float, latency_us: float) -> float:
    """Convert a power drawn over a latency to energy: 1 mW over 1 us is 1000 pJ."""
    return power_mW * latency_us * 1000.0


def energy_pJ_to_power_mW(energy_pJ: float, latency_us: float) -> float:
    """Convert an energy spent over a latency to the mean power: 1 pJ per us is 1e-3 mW."""
    return energy_pJ / latency_us * 1e-3 if latency_us else 0.0


def bytes_to_MB(n_bytes: float) -> float:
    """Convert bytes to megabytes of 10^6 bytes."""
    return n_bytes / MB


def us_to_ps(latency_us: float) -> int:
    """Convert microseconds to whole picoseconds, rounded to the nearest."""
    return round(latency_us * 1e6)
