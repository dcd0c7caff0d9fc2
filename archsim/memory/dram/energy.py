"""What commands and standby cost: from the currents of a data sheet to one price per action.

k = supply x clock period x devices turns mA into pJ per cycle. Source: the formulas of DRAMsim3 (umd-memsys/DRAMsim3
@29817593b338), whose printed energies still have to be multiplied by the clock period.
"""

from __future__ import annotations

from collections.abc import Mapping

from archsim.energy import Price, PriceTable
from archsim.memory.base import Region
from archsim.memory.dram.config import DramConfig

REGIONS: tuple[Region, ...] = ("weights", "ifmap", "ofmap", "other")
COMMANDS = ("act", "pre", "read", "write", "read_bit", "write_bit")
"""What is done for a region; counted as `dram_<region>.<command>`."""
SHARED = ("pre_all", "refresh", "active_cycle", "idle_cycle")
"""What the channel does for nobody in particular; counted as `dram.<command>`."""
ACTIONS = frozenset(f"dram_{region}.{one}" for region in REGIONS for one in COMMANDS) | {
    f"dram.{one}" for one in SHARED
}


def supply_factor(config: DramConfig, supply_mV: int) -> float:
    """Return energy at a supply over energy at that of the currents: V or V^2."""
    volts = supply_mV / config.VDD_mV
    return volts if config.vdd_law == "linear" else volts**2


def energies_pJ(config: DramConfig, supply_mV: int | None = None) -> dict[str, float]:
    """Return the energy of every command on all devices at a supply (default: the one in force).

    An activate pays for its precharge. A REF takes IDD5 above the active standby beside it, or (`refresh_law: total`)
    IDD5 above the idle standby that is counted for those cycles. I/O does not scale with the supply.
    """
    factor = supply_factor(config, supply_mV or config.supply_in_force_mV)
    k = factor * config.VDD_mV / 1000 * config.tCK_ps / 1000 * config.devices
    base = config.IDD3N_mA if config.refresh_law == "increment" else config.IDD2N_mA
    pair = (
        config.IDD0_mA * config.tRC_cycles
        - config.IDD3N_mA * config.tRAS_cycles
        - config.IDD2N_mA * (config.tRC_cycles - config.tRAS_cycles)
    )
    return {
        "act": k * pair,
        "pre": 0.0,
        "pre_all": 0.0,
        "read": k * (config.IDD4R_mA - config.IDD3N_mA) * config.burst_cycles,
        "write": k * (config.IDD4W_mA - config.IDD3N_mA) * config.burst_cycles,
        "refresh": k * (config.IDD5_mA - base) * config.tRFC_cycles,
        "active_cycle": k * config.IDD3N_mA,
        "idle_cycle": k * config.IDD2N_mA,
        "read_bit": config.io_energy_pJ_per_bit,
        "write_bit": config.io_energy_pJ_per_bit,
    }


def dram_prices(
    config: DramConfig,
    supplies_mV: Mapping[Region, int] | None = None,
    standby_mV: int | None = None,
    refresh_energy: float = 1.0,
) -> PriceTable:
    """Return the price table of a channel; regions without a supply of their own, and standby, take the one in force.

    `refresh_energy`: that of a refresh command over what it is at nominal intervals.
    """
    own, force = supplies_mV or {}, config.supply_in_force_mV
    prices: dict[str, Price] = {}
    for region in REGIONS:
        at = own.get(region, force)
        energies = energies_pJ(config, at)
        prices |= {f"dram_{region}.{one}": _price(config, f"dram_{region}", one, energies[one], at) for one in COMMANDS}
    shared = energies_pJ(config, standby_mV)
    shared["refresh"] *= refresh_energy
    prices |= {f"dram.{one}": _price(config, "dram", one, shared[one], standby_mV or force) for one in SHARED}
    return PriceTable("dram", prices, None, force, config.current_source)


def _price(config: DramConfig, component: str, command: str, energy_pJ: float, supply_mV: int) -> Price:
    unit = "pJ for all devices of the rank"
    return Price(f"{component}.{command}", energy_pJ, command, unit, None, supply_mV, config.current_source)
