"""The generator as a block for co-simulation, `rtl/bsg_gen`; its cases are made where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archsim.accelerators.base import RtlBlock, RtlCase
from archsim.accelerators.bsg.rtl_model import BsgGen, parameters_of


def random_cases(config: Any, seed: int) -> Iterator[RtlCase]:
    """Yield random cases without end."""
    import archsim.accelerators.bsg.rtl_cases as made

    return made.random_cases(config, seed)


def cases_from(*given: Any) -> Iterator[RtlCase]:
    """Yield slices of a real layer: config, layer, plan, x, stored, tiles, seed. Raises: MappingError."""
    import archsim.accelerators.bsg.rtl_cases as made

    return made.cases_from(*given)


BSG_GEN = RtlBlock("bsg_gen", ("w_valid", "w_ready"), parameters_of, BsgGen, random_cases, cases_from)
