"""The synthetic sweep: the committed integers, and what they say."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from tests.golden.snapea_sweep import CONV, GOLDEN, LANES, ORDERS, SHIFTS, sweep

DENSE = CONV.macs_dense


@cache
def rows() -> dict[tuple[int, str], dict[str, Any]]:
    return {(row["shift"], row["order"]): row for row in sweep()}


def nu(row: dict[str, Any]) -> float:
    return float(row["negative_windows"] / row["windows"])


def test_integers_are_those_that_were_committed() -> None:
    assert list(rows().values()) == json.loads(GOLDEN.read_text())


def test_the_sweep_covers_the_published_range_of_negative_results() -> None:
    """Source: V. Akhlaghi, UC San Diego 2020, section 3.3: 42 to 68 % of the results over the networks."""
    shares = [nu(rows()[shift, "index"]) for shift in SHIFTS]
    assert shares == sorted(shares) and shares[0] < 0.45 and shares[-1] > 0.68


@pytest.mark.parametrize("shift", SHIFTS)
def test_magnitude_order_saves_more(shift: int) -> None:
    index, magnitude = (rows()[shift, order] for order in ORDERS)
    assert nu(index) == nu(magnitude)
    assert DENSE - magnitude["macs"] > 1.5 * (DENSE - index["macs"]) > 0
    for lanes in LANES:
        assert magnitude["cycles"]["B0"][str(lanes)] < index["cycles"]["B0"][str(lanes)]


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("order", ORDERS)
def test_more_lanes_save_less_at_equal_macs(shift: int, order: str) -> None:
    for bubble in ("B0", "B3"):
        per_mac = [lanes * rows()[shift, order]["cycles"][bubble][str(lanes)] for lanes in LANES]
        assert per_mac == sorted(per_mac)
    assert rows()[shift, order]["cycles"]["B0"]["1"] == rows()[shift, order]["macs"]


@pytest.mark.parametrize("order", ORDERS)
def test_more_negative_results_save_more(order: str) -> None:
    macs = [rows()[shift, order]["macs"] for shift in SHIFTS]
    assert macs == sorted(macs, reverse=True) and macs[-1] < macs[0]
