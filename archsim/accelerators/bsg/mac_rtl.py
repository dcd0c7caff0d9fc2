"""The MAC array with its slice buffers as a block, `rtl/bsg_mac_array`; model and cases are made when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from archsim.accelerators.base import RtlBlock, RtlCase, RtlModel


def parameters(config: Any, layer: Any = None) -> dict[str, int]:
    """Return the parameters of the block. Raises: MappingError for a Config it does not have."""
    from archsim.accelerators.bsg.mac_model import parameters_of

    return parameters_of(config, layer)


def model(given: Mapping[str, int]) -> RtlModel:
    """Return the registers of the block."""
    from archsim.accelerators.bsg.mac_model import BsgMacArray

    return BsgMacArray(given)


def random_cases(config: Any, seed: int) -> Iterator[RtlCase]:
    """Yield random cases without end."""
    from archsim.accelerators.bsg import mac_cases

    return mac_cases.random_cases(config, seed)


def cases_from(*given: Any) -> Iterator[RtlCase]:
    """Yield pieces of a real layer: config, layer, plan, x, stored, tiles, seed. Raises: MappingError."""
    from archsim.accelerators.bsg import mac_cases

    return mac_cases.cases_from(*given)


BSG_MAC_ARRAY = RtlBlock("bsg_mac_array", ("out_valid", "out_ready"), parameters, model, random_cases, cases_from)
