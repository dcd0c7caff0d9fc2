"""A seat: what a layer on its machine adds to the machine itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from archsim.accelerators.base import Placement, Plan, Stored
from archsim.accelerators.seat import Seat
from archsim.approx import LayerSetting
from archsim.errors import AccumulatorOverflowError
from archsim.workload.layers import Linear


def test_an_overflow_names_the_image_of_the_study() -> None:
    def overflows(*_: Any) -> None:
        raise AccumulatorOverflowError("fc", "too large", 2)

    layer = Linear(name="fc", inputs=("x",), output="y", C=3, M=2)
    machine = cast(Any, SimpleNamespace(execute=overflows))
    memory = cast(Any, SimpleNamespace(kind="link"))
    seat = Seat(layer, "npu", machine, memory, Placement(), cast(Stored, None), Plan(1), LayerSetting(), 0, {})
    with pytest.raises(AccumulatorOverflowError, match=r"layer 'fc', image 42: too large"):
        seat.execute(np.zeros((4, 3), np.int16), 40)


def test_the_clock_asks_the_memory_of_a_layer_s_levels() -> None:
    """What it is told: the levels, and what is not in it at all."""
    asked: list[Any] = []
    slower, setting, chip = object(), LayerSetting({"link_weights": 2}), frozenset({"ifmap"})
    memory = cast(Any, SimpleNamespace(clocked=lambda *told: asked.append(told) or slower))
    layer = Linear(name="fc", inputs=("x",), output="y", C=3, M=2)
    machine, stored = cast(Any, None), cast(Stored, None)
    seat = Seat(layer, "npu", machine, memory, Placement(chip=chip), stored, Plan(1), setting, 0, {})
    assert seat.clocked_memory is cast(Any, slower) and asked == [(setting, chip)]
