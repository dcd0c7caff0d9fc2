"""The PE as a block for co-simulation, `rtl/eyeriss_pe`; its cases are made where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archsim.accelerators.base import RtlBlock, RtlCase
from archsim.accelerators.eyeriss.config import EyerissConfig
from archsim.accelerators.eyeriss.rtl_model import EyerissPe, parameters_of


def random_cases(config: EyerissConfig, seed: int) -> Iterator[RtlCase]:
    """Yield random cases without end."""
    import archsim.accelerators.eyeriss.rtl_cases as made

    return made.random_cases(config, seed)


def cases_from(*given: Any) -> Iterator[RtlCase]:
    """Yield tiles of a real layer: config, layer, plan, x, stored, tiles, seed. Raises: MappingError."""
    import archsim.accelerators.eyeriss.rtl_cases as made

    return made.cases_from(*given)


EYERISS_PE = RtlBlock(
    "eyeriss_pe", ("psum_out_valid", "psum_out_ready"), parameters_of, EyerissPe, random_cases, cases_from
)
