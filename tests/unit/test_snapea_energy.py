"""Prices, area and energy of SnaPEA: Tables 3.2 and 3.3 of the thesis, and three readings of what it leaves open."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from archsim.accelerators.base import accelerator_class
from archsim.accelerators.snapea import Snapea
from archsim.accelerators.snapea.pricing import size_share
from archsim.energy import account, available_tables
from tests.unit.snapea_cases import config, random_layer, random_speculation
from tests.unit.test_energy import SPECIAL
from tests.unit.test_snapea_order import TARGETS
from tests.unit.test_snapea_timing import timed

BIT_PRICES = TARGETS["energy_pJ_per_bit"]
READINGS = ("register_file", "by_size", "global_buffer")


@cache
def prices(reading: str = "by_size", **changes: Any) -> dict[str, float]:
    table = Snapea(config(io_ram_price=reading, **changes)).prices
    return {action: price.energy_pJ for action, price in table.prices.items()}


def test_prices_per_bit_are_those_of_the_thesis() -> None:
    told = prices()
    assert told["pe.mac"] == pytest.approx(16 * BIT_PRICES["pe_16bit_with_pau"])
    for action in ("weight_buffer.read", "index_buffer.write", "accumulator.read", "accumulator.write"):
        assert told[action] == pytest.approx(16 * BIT_PRICES["register_file"])
    for action in ("noc.ifmap_delivery", "noc.weight_delivery"):
        assert told[action] == pytest.approx(16 * BIT_PRICES["inter_pe"])
    assert told["pau.check"] == told["lane.idle"] == 0
    baseline = accelerator_class("eyeriss")
    eyeriss = baseline(baseline.Config(**baseline.presets["thesis-256pe"])).prices.prices
    assert eyeriss["pe.mac"].energy_pJ == pytest.approx(16 * BIT_PRICES["pe_16bit_eyeriss"])


@pytest.mark.parametrize(
    ("reading", "pJ_per_bit"), [("register_file", 0.20), ("by_size", 0.67), ("global_buffer", 1.20)]
)
def test_the_io_ram_has_three_prices(reading: str, pJ_per_bit: float) -> None:
    told = prices(reading)
    assert told["input_ram.read"] == pytest.approx(4 * 16 * pJ_per_bit, rel=0.001)
    for action in ("input_ram.read_word", "input_ram.write", "output_ram.write"):
        assert told[action] == pytest.approx(16 * pJ_per_bit, rel=0.001)
    assert prices(reading, lanes=8)["input_ram.read"] == pytest.approx(8 * 16 * pJ_per_bit, rel=0.001)


def test_the_size_decides_between_the_two() -> None:
    assert size_share(512) == 0 and size_share(1280 * 1024) == 1 and size_share(64) == 0 and size_share(1 << 30) == 1
    assert size_share(20480) == pytest.approx(0.4701, abs=1e-4)
    between = [prices(io_ram_bytes=n_bytes)["input_ram.write"] for n_bytes in (512, 4096, 20480, 1 << 20)]
    assert between == sorted(between) and len(set(between)) == 4


@pytest.mark.parametrize(("reading", "pJ"), [("register_file", 16.0), ("by_size", 23.5), ("global_buffer", 32.0)])
def test_energy_per_mac_at_full_lanes(reading: str, pJ: float) -> None:
    told, lanes = prices(reading), 4
    shared = told["weight_buffer.read"] + told["index_buffer.read"] + told["input_ram.read"]
    per_mac = told["pe.mac"] + told["accumulator.read"] + told["accumulator.write"] + shared / lanes
    assert per_mac == pytest.approx(pJ, abs=0.05)


@pytest.mark.parametrize("table", [name for name, _ in available_tables() if name not in SPECIAL])
@pytest.mark.parametrize("reading", READINGS)
def test_every_table_prices_every_action(reading: str, table: str) -> None:
    assert set(prices(reading, prices=table)) == Snapea.actions


def test_the_reading_in_force_is_named_in_the_table() -> None:
    price = Snapea(config()).prices.prices["input_ram.write"]
    assert price.assumed and "0.4701" in price.unit
    assert "x 4 lanes" in Snapea(config()).prices.prices["input_ram.read"].unit


def test_areas_are_those_of_the_thesis() -> None:
    area = TARGETS["area_mm2"]
    told = config().area_mm2
    assert told == pytest.approx(area["snapea_array_printed"], abs=area["tolerance_mm2"])
    assert told == pytest.approx(64 * sum(area["snapea_pe"].values()))
    assert config(pau_area_mm2=None).area_mm2 is None
    assert config(lanes=8).area_mm2 == pytest.approx(64 * (sum(area["snapea_pe"].values()) + 4 * (0.003 + 0.002)))


@pytest.mark.parametrize("seed", [0, 1, 2, 5, 7])
def test_energy_is_counts_times_prices_and_termination_saves(seed: int) -> None:
    case = random_speculation(random_layer(seed), seed)
    exact, dense, bold = (timed(case, mode=mode) for mode in ("exact", "dense", "predictive"))
    assert bold.counts["pe.mac"] <= dense.counts["pe.mac"] and exact.counts["pe.mac"] < dense.counts["pe.mac"]
    for one in (exact, dense, bold):
        by_hand = sum(count * prices()[action] for action, count in one.counts.items())
        assert one.timing.metrics["on_chip_energy_pJ"] == pytest.approx(by_hand, rel=1e-12)
        assert sum(account(one.counts, Snapea(config()).prices).values()) == pytest.approx(by_hand, rel=1e-12)
    assert exact.timing.metrics["on_chip_energy_pJ"] < dense.timing.metrics["on_chip_energy_pJ"]
