"""The blocks of a DRAM channel for co-simulation; their cases are made where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from archsim.errors import MappingError
from archsim.memory.dram.config import DramConfig
from archsim.rtl import RtlBlock, RtlCase, RtlModel

TIMINGS = (
    "RCD", "RP", "RAS", "RC", "RTP", "WR", "WTR_S", "WTR_L", "CCD_S", "CCD_L", "RRD_S", "RRD_L", "FAW", "RFC"
)  # fmt: skip


def ctl_parameters_of(config: DramConfig, layer: Any = None) -> dict[str, int]:
    """Return the parameters of `dram_ctl`. Raises: MappingError for a Config the block does not have."""
    from archsim.memory.dram.in_order import QUEUE_DEPTH, TAG_BITS

    if config.banks == 1:
        raise MappingError("the block dram_ctl has 2 banks or more, the configuration 1")
    for name, value in {"ranks": 1, "row_policy": "open", "hit_cap": None}.items():
        if getattr(config, name) != value:
            raise MappingError(f"the block dram_ctl has {name} {value!r}, the configuration {getattr(config, name)!r}")
    return {
        "BANKS": config.banks,
        "GROUPS": config.bank_groups,
        "ROW_BITS": config.rows.bit_length() - 1,
        "COLUMN_BITS": config.row_lines.bit_length() - 1,
        "TAG_BITS": TAG_BITS,
        "DEPTH": QUEUE_DEPTH,
        "CL": config.CL_cycles,
        "CWL": config.CWL_cycles,
        "BURST": config.burst_cycles,
        **{f"T_{name}": getattr(config, f"t{name}_cycles") for name in TIMINGS},
        "T_REFI": config.tREFI_cycles if config.refresh else 0,
    }


def ctl_model(parameters: Mapping[str, int]) -> RtlModel:
    """Return the registers of `dram_ctl`."""
    from archsim.memory.dram.in_order import DramCtl

    return DramCtl(parameters)


def ctl_cases(config: DramConfig, seed: int) -> Iterator[RtlCase]:
    """Yield random cases without end."""
    import archsim.memory.dram.in_order_cases as made

    return made.ctl_cases(config, seed)


def injector_parameters_of(config: DramConfig, layer: Any = None) -> dict[str, int]:
    """Return the parameters of `bit_error_injector`: the width of the channel."""
    return {"DW": config.devices * config.device_width_bits}


def injector_model(parameters: Mapping[str, int]) -> RtlModel:
    """Return the registers of `bit_error_injector`."""
    from archsim.memory.dram.injector import BitErrorInjector

    return BitErrorInjector(parameters)


def injector_cases(config: DramConfig, seed: int) -> Iterator[RtlCase]:
    """Yield random cases without end."""
    import archsim.memory.dram.injector_cases as made

    return made.injector_cases(config, seed)


DRAM_CTL = RtlBlock("dram_ctl", ("cmd_valid", None), ctl_parameters_of, ctl_model, ctl_cases)
BIT_ERROR_INJECTOR = RtlBlock(
    "bit_error_injector", ("out_valid", "out_ready"), injector_parameters_of, injector_model, injector_cases
)
