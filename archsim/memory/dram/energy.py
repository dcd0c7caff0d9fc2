"""What commands and standby cost: from the currents of a data sheet to one price per action.

k = supply x clock period x devices turns mA into pJ per cycle. Source: the formulas of DRAMsim3 (umd-memsys/DRAMsim3
@29817593b338), whose printed energies still have to be multiplied by the clock period.
"""

from __future__ import annotations

from archsim.energy import Price, PriceTable
from archsim.memory.dram.config import DramConfig

ACTIONS = frozenset(
    {
        "dram.act", "dram.pre", "dram.read", "dram.write", "dram.refresh", "dram.active_cycle", "dram.idle_cycle",
        "dram.read_bit", "dram.write_bit",
    }
)  # fmt: skip


def supply_factor(config: DramConfig) -> float:
    """Return energy at the supply in force over energy at that of the currents: V or V^2."""
    volts = (config.supply_mV or config.VDD_mV) / config.VDD_mV
    return volts if config.vdd_law == "linear" else volts**2


def energies_pJ(config: DramConfig) -> dict[str, float]:
    """Return the energy of every action on all devices; an activate pays for its precharge.

    A REF takes IDD5 above the active standby beside it, or (`refresh_law: total`) IDD5 above the idle standby that is
    counted for those cycles.
    """
    k = supply_factor(config) * config.VDD_mV / 1000 * config.tCK_ps / 1000 * config.devices
    base = config.IDD3N_mA if config.refresh_law == "increment" else config.IDD2N_mA
    pair = (
        config.IDD0_mA * config.tRC_cycles
        - config.IDD3N_mA * config.tRAS_cycles
        - config.IDD2N_mA * (config.tRC_cycles - config.tRAS_cycles)
    )
    return {
        "dram.act": k * pair,
        "dram.pre": 0.0,
        "dram.read": k * (config.IDD4R_mA - config.IDD3N_mA) * config.burst_cycles,
        "dram.write": k * (config.IDD4W_mA - config.IDD3N_mA) * config.burst_cycles,
        "dram.refresh": k * (config.IDD5_mA - base) * config.tRFC_cycles,
        "dram.active_cycle": k * config.IDD3N_mA,
        "dram.idle_cycle": k * config.IDD2N_mA,
        "dram.read_bit": config.io_energy_pJ_per_bit,
        "dram.write_bit": config.io_energy_pJ_per_bit,
    }


def dram_prices(config: DramConfig) -> PriceTable:
    """Return the price table of a channel."""
    supply = config.supply_mV or config.VDD_mV
    prices = {
        action: Price(action, pJ, "off_chip", "pJ per command of the rank", None, supply, config.current_source)
        for action, pJ in energies_pJ(config).items()
    }
    return PriceTable("dram", prices, None, supply, config.current_source)
