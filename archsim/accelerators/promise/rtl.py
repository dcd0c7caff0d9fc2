"""The control of the banks as a block for co-simulation, `rtl/promise_ctl`; cases are made where they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from archsim.accelerators.base import RtlBlock, RtlCase
from archsim.accelerators.promise.config import PromiseConfig
from archsim.accelerators.promise.rtl_model import PromiseCtl, parameters_of


def random_cases(config: PromiseConfig, seed: int) -> Iterator[RtlCase]:
    """Yield random cases without end."""
    import archsim.accelerators.promise.rtl_cases as made

    return made.random_cases(config, seed)


def cases_from(*given: Any) -> Iterator[RtlCase]:
    """Yield tiles of a real layer: config, layer, plan, x, stored, tiles, seed. Raises: MappingError."""
    import archsim.accelerators.promise.rtl_cases as made

    return made.cases_from(*given)


PROMISE_CTL = RtlBlock("promise_ctl", ("res_valid", "res_ready"), parameters_of, PromiseCtl, random_cases, cases_from)
