"""The vector unit: exact operation counts against brute force, cycles, prices."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from archsim.accelerators.vector_unit import (
    ACTIONS,
    VECTOR_UNIT_PRESETS,
    VectorUnitConfig,
    vector_counts,
    vector_cycles,
    vector_prices,
)
from archsim.energy import account
from archsim.errors import WorkloadError
from archsim.workload import layers as L
from archsim.workload.layers import output_size

NODE: dict[str, Any] = {"name": "node", "inputs": ("a",), "output": "y"}
MAP = (6, 4, 5)


def counts(layer: L.Layer, *shapes: tuple[int, ...], images: int = 1) -> dict[str, int]:
    """Counts without the component's name; the last shape is the output's."""
    found = vector_counts(layer, shapes[:-1], shapes[-1], images)
    assert set(found) <= ACTIONS
    return {action.removeprefix("vector_unit."): n for action, n in found.items()}


def brute_force_taps(layer: L.Pool, height: int, width: int, P: int, Q: int) -> list[int]:
    """Taps inside the map of every window."""
    return [
        sum(
            0 <= p * layer.stride[0] - layer.pad[0] + r < height and 0 <= q * layer.stride[1] - layer.pad[1] + s < width
            for r in range(layer.R)
            for s in range(layer.S)
        )
        for p in range(P)
        for q in range(Q)
    ]


@given(
    kind=st.sampled_from(["max", "average"]),
    C=st.integers(1, 3),
    size=st.tuples(st.integers(4, 11), st.integers(4, 11)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    data=st.data(),
)
def test_pool_equals_counting_every_window(
    kind: Any, C: int, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], data: Any
) -> None:
    pads = tuple(data.draw(st.integers(0, k - 1)) for k in (*kernel, *kernel))
    layer = L.Pool(**NODE, kind=kind, R=kernel[0], S=kernel[1], stride=stride, pad=pads)
    P = output_size(size[0], kernel[0], stride[0], pads[0] + pads[2])
    Q = output_size(size[1], kernel[1], stride[1], pads[1] + pads[3])
    taps = brute_force_taps(layer, *size, P, Q)
    reductions = C * sum(n - 1 for n in taps)
    expected = {"compare": reductions} if kind == "max" else {"add": reductions, "multiply": C * P * Q}
    assert counts(layer, (C, *size), (C, P, Q)) == {action: n for action, n in expected.items() if n}


def test_pool_window_that_hangs_over_the_edge() -> None:
    layer = L.Pool(**NODE, kind="max", R=3, S=3, stride=(2, 2), ceil_mode=True)
    assert counts(layer, (1, 6, 6), (1, 3, 3)) == {"compare": 8 * 4 + 5 * 4 + 3}


def test_global_average_pool() -> None:
    layer = L.Pool(**NODE, kind="average", R=13, S=13, stride=(1, 1))
    assert counts(layer, (1000, 13, 13), (1000, 1, 1)) == {"add": 168 * 1000, "multiply": 1000}


@pytest.mark.parametrize("size", [1, 2, 4, 5, 9])
def test_lrn_sums_only_channels_that_exist(size: int) -> None:
    layer = L.Lrn(**NODE, size=size, alpha=1e-4, beta=0.75, bias=1.0)
    below, above = (size - 1) // 2, size // 2
    squares = [sum(0 <= c + d < 6 for d in range(-below, above + 1)) for c in range(6)]
    adds = sum(n - 1 for n in squares) * 20 + 120  # sums of squares, and the bias
    assert counts(layer, MAP, MAP) == {"multiply": 360, "add": adds, "lookup": 120}


@pytest.mark.parametrize(
    ("layer", "shapes", "expected"),
    [
        (L.Add(name="n", inputs=("a", "b"), output="y"), (MAP, MAP, MAP), {"add": 120}),
        (
            L.Add(name="n", inputs=("a", "b", "c"), output="y", activation=L.Activation("relu")),
            (MAP, MAP, MAP, MAP),
            {"add": 240, "compare": 120},
        ),
        (L.Add(**NODE, activation=L.Activation("clip", 0, 6)), (MAP, MAP, MAP), {"add": 120, "compare": 240}),
        (L.Concat(name="n", inputs=("a", "b"), output="y"), (MAP, (2, 4, 5), (8, 4, 5)), {"move": 160}),
        (L.Pad(**NODE, pad=(1, 1, 1, 1)), (MAP, (6, 6, 7)), {"move": 252}),
        (L.Elementwise(**NODE, function="relu"), (MAP, MAP), {"compare": 120}),
        (L.Elementwise(**NODE, function="clip", high=6.0), (MAP, MAP), {"compare": 240}),
        (L.Elementwise(**NODE, function="tanh"), (MAP, MAP), {"lookup": 120}),
        (L.Elementwise(**NODE, function="sigmoid"), ((7,), (7,)), {"lookup": 7}),
        (L.BatchNorm(**NODE), (MAP, MAP), {"multiply": 120, "add": 120}),
        (L.Softmax(**NODE), ((10,), (10,)), {"compare": 9, "add": 19, "lookup": 11, "multiply": 10}),
        (L.Softmax(**NODE), (MAP, MAP), {"compare": 100, "add": 220, "lookup": 140, "multiply": 120}),
        (L.Reshape(**NODE, shape=(120,)), (MAP, (120,)), {}),
        (L.Wiring(**NODE, source=(0, -1, 2), stride=(2, 2)), (MAP, (3, 2, 3)), {}),
    ],
)
def test_counts_of_one_image(layer: L.Layer, shapes: tuple[tuple[int, ...], ...], expected: dict[str, int]) -> None:
    if isinstance(layer, L.Add):
        layer = L.Add(name="n", inputs=tuple("abc"[: len(shapes) - 1]), output="y", activation=layer.activation)
    assert counts(layer, *shapes) == expected
    assert counts(layer, *shapes, images=7) == {action: 7 * n for action, n in expected.items()}


def test_a_layer_with_multiplications_needs_a_machine() -> None:
    layer = L.Linear(**NODE, C=4, M=2)
    with pytest.raises(
        WorkloadError, match=r"layer 'node' \(Linear\) needs a machine; the vector unit runs Add, Batch"
    ):
        vector_counts(layer, [(4,)], (2,), 1)


class TestConfig:
    def test_free_takes_no_cycle_and_is_still_priced(self) -> None:
        unit = VectorUnitConfig(**VECTOR_UNIT_PRESETS["free"])
        found = vector_counts(L.Elementwise(**NODE, function="relu"), [MAP], MAP, 1)
        assert vector_cycles(found, unit) == 0
        assert account(found, vector_prices(unit)) == {"vector_unit.compare": 120 * 0.05}
        assert unit == VectorUnitConfig()

    def test_lanes_share_the_operations(self) -> None:
        unit = VectorUnitConfig(elements_per_cycle=16, clock_MHz=200)
        assert vector_cycles({"vector_unit.add": 16, "vector_unit.compare": 16}, unit) == 2
        assert vector_cycles({"vector_unit.add": 33}, unit) == 3
        assert vector_cycles({}, unit) == 0

    @pytest.mark.parametrize("wrong", [{"elements_per_cycle": 4}, {"clock_MHz": 200}])
    def test_lanes_and_clock_come_together(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValidationError, match="both elements_per_cycle and clock_MHz, or neither"):
            VectorUnitConfig(**wrong)

    def test_prices(self) -> None:
        unit = VectorUnitConfig()
        prices = vector_prices(unit).prices
        assert set(prices) == ACTIONS
        assert prices["vector_unit.add"].energy_pJ == 0.05
        assert {action for action, price in prices.items() if not price.assumed} == {"vector_unit.add"}
        assert prices["vector_unit.multiply"].energy_pJ == pytest.approx((0.2 * 3.1) ** 0.5, rel=1e-3)
        assert pickle.loads(pickle.dumps(unit)) == unit
