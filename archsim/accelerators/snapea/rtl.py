"""The PE as a block for co-simulation, `rtl/snapea_pe`; its cases are made where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archsim.accelerators.base import RtlBlock, RtlCase
from archsim.accelerators.snapea.config import SnapeaConfig
from archsim.accelerators.snapea.rtl_model import SnapeaPe, parameters_of


def random_cases(config: SnapeaConfig, seed: int) -> Iterator[RtlCase]:
    """Yield random cases without end."""
    import archsim.accelerators.snapea.rtl_cases as made

    return made.random_cases(config, seed)


def cases_from(*given: Any) -> Iterator[RtlCase]:
    """Yield tiles of a real layer: config, layer, plan, x, stored, tiles, seed. Raises: MappingError."""
    import archsim.accelerators.snapea.rtl_cases as made

    return made.cases_from(*given)


SNAPEA_PE = RtlBlock("snapea_pe", ("out_valid", "out_ready"), parameters_of, SnapeaPe, random_cases, cases_from)
