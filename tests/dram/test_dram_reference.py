"""DRAM timing and energy beside two simulators and a power tool, on identical traces."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

from archsim.memory.dram.controller import Controller, Counters, served
from archsim.memory.dram.energy import ACTIONS, dram_prices, energies_pJ
from archsim.memory.dram.fields import LOGGED
from tests.dram.traces import REFERENCE, config, trace

RESULTS = [row for row in REFERENCE["results"] if row["n_requests"] <= 200_000]
"""What the acceptance lines run at full length, too."""
POWER = [row for row in REFERENCE["drampower"] if row["vdd_override"] is None]


def label(row: dict[str, Any]) -> str:
    refresh = "" if row.get("refresh", True) else "-unrefreshed"
    return f"{row['config']}-{row['trace']}-{row.get('arrival_gap_cycles', 0)}{refresh}"


def counters(row: dict[str, Any], n: int | None = None) -> Counters:
    """Run the trace of a row, or its first requests."""
    one = config(row["config"], refresh=row.get("refresh", True))
    return served(one, [trace(row["config"], row["trace"], n or row["n_requests"])], row.get("arrival_gap_cycles", 0))


def energy_uJ(name: str, done: Counters) -> float:
    price = energies_pJ(config(name))
    counted = {
        "act": done.activates, "read": done.reads, "write": done.writes, "refresh": done.refreshes,
        "active_cycle": done.active_cycles, "idle_cycle": done.idle_cycles,
    }  # fmt: skip
    return sum(n * price[action] for action, n in counted.items()) / 1e6


@pytest.mark.parametrize("row", RESULTS, ids=label)
def test_cycles_and_rows_equal_ramulator(row: dict[str, Any]) -> None:
    done, told = counters(row), row["ramulator2.1"]
    assert done.cycles == told["cycles"]
    assert (done.hits, done.misses, done.conflicts) == (told["row_hits"], told["row_misses"], told["row_conflicts"])
    assert (done.reads, done.writes, done.refreshes) == (told["reads"], told["writes"], told["refresh_commands"])
    assert done.mean_read_latency_cycles == pytest.approx(told["avg_read_latency_cycles"], rel=1e-5)
    if rule := row.get("rule_model"):
        assert (done.activates, done.precharges) == (rule["act"], rule["pre_single_and_all"])
        assert (done.active_cycles, done.idle_cycles) == (rule["cycles_with_open_bank"], rule["cycles_all_closed"])
        assert done.read_latency_cycles == rule["sum_read_latency_cycles"]


@pytest.mark.parametrize("row", REFERENCE["short_runs"], ids=label)
def test_every_command_stands_where_it_should(row: dict[str, Any]) -> None:
    controller, log = Controller(config(row["config"])), np.zeros((row["commands"] + 100, 4), np.int64)
    controller.offer(*trace(row["config"], row["trace"], row["n_requests"]), 0, row["arrival_gap_cycles"], log)
    commands = log[: controller.state.now[LOGGED]]
    assert len(commands) == row["commands"]
    assert zlib.crc32(commands.astype("<i8").tobytes()) == row["crc32"]


def with_one_more(name: str, parameter: str) -> dict[str, int]:
    """The fields of a timing parameter, one cycle longer; what has no `_S` and `_L` there has both here."""
    key = {"BL_half": "burst"}.get(parameter, parameter)
    fields = [f"{key}_cycles"] if hasattr(config(name), f"{key}_cycles") else [f"{key}_{x}_cycles" for x in "SL"]
    return {field: getattr(config(name), field) + 1 for field in fields}


@pytest.mark.parametrize(
    ("run", "parameter"), [(run, key) for run, rows in REFERENCE["sensitivity"].items() for key in rows]
)
def test_one_cycle_more_of_a_parameter_changes_what_it_changes_there(run: str, parameter: str) -> None:
    name, kind, n, gap = run.split("/")
    requests, cycles = [trace(name, kind, int(n))], int(gap.removeprefix("gap"))
    before, after = (
        served(config(name, **changes), requests, cycles) for changes in ({}, with_one_more(name, parameter))
    )
    more_cycles, more_latency = REFERENCE["sensitivity"][run][parameter]
    assert after.cycles - before.cycles == more_cycles
    assert after.mean_read_latency_cycles - before.mean_read_latency_cycles == pytest.approx(more_latency, abs=1e-4)


@pytest.mark.parametrize("row", [row for row in RESULTS if "dramsim3" in row], ids=label)
def test_dramsim3_with_its_own_queues_is_near(row: dict[str, Any]) -> None:
    done, told = counters(row), row["dramsim3"]
    saturated_stream = row["trace"] == "stream" and not row["arrival_gap_cycles"]
    bound = 0.06 if row["config"] == "C" and saturated_stream else 0.01 if row["config"] == "C" else 0.005
    assert done.cycles == pytest.approx(told["cycles"], rel=1e-4 if row["arrival_gap_cycles"] else bound)
    energy = told["energy_uJ"]["total_energy"]
    assert energy_uJ(row["config"], done) == pytest.approx(
        energy, rel=0.025 if row["config"] == "C" and saturated_stream else 0.003
    )


PACED = [row for row in RESULTS if "dramsim3" in row and row["arrival_gap_cycles"]]


@pytest.mark.parametrize("row", PACED, ids=label)
def test_mean_latency_of_paced_requests_is_near_dramsim3(row: dict[str, Any]) -> None:
    """Where nothing queues up; saturated latencies are those of the queues, which differ."""
    bound = 0.07 if (row["config"], row["trace"]) == ("C", "stream") else 0.03
    mean = counters(row).mean_read_latency_cycles
    assert mean == pytest.approx(row["dramsim3"]["avg_read_latency_cycles"], rel=bound)


@pytest.mark.parametrize("name", ["A", "C"])
def test_a_longer_gap_shortens_nothing(name: str) -> None:
    requests = [trace(name, "random", 2000)]
    paced = [served(config(name), requests, gap).cycles for gap in (60, 61, 75, 120)]
    saturated = [served(config(name), requests, gap).cycles for gap in (0, 1, 2, 4)]
    assert paced == sorted(paced)
    assert all(later >= 0.99 * saturated[0] for later in saturated)


@pytest.mark.parametrize("row", [row for row in RESULTS if "dramsim3" in row], ids=label)
def test_prices_on_dramsim3_s_own_counters(row: dict[str, Any]) -> None:
    told, price = row["dramsim3"], energies_pJ(config(row["config"]))
    parts = {
        "act_energy": told["act_cmds"] * price["act"],
        "read_energy": told["read_cmds"] * price["read"],
        "write_energy": told["write_cmds"] * price["write"],
        "ref_energy": told["refresh_cmds"] * price["refresh"],
        "act_stb_energy": told["active_cycles"] * price["active_cycle"],
        "pre_stb_energy": told["all_bank_idle_cycles"] * price["idle_cycle"],
    }
    for name, pJ in parts.items():
        assert pJ / 1e6 == pytest.approx(told["energy_uJ"][name], rel=1e-6, abs=1e-6)  # printed digits
    assert sum(parts.values()) / 1e6 == pytest.approx(told["energy_uJ"]["total_energy"], rel=1e-6)


@pytest.mark.parametrize("row", POWER, ids=label)
def test_drampower_charges_the_same(row: dict[str, Any]) -> None:
    done = counters(row)
    bound = 0.005 if row["config"] == "A" else 0.03
    assert energy_uJ(row["config"], done) == pytest.approx(row["drampower41_uJ_all_devices"]["total"], rel=bound)


def test_energy_over_the_supply() -> None:
    """Source: DRAMPower 4.1 on A/random, 20,000 requests: uJ per device at six supplies, exactly linear."""
    told = {1500: 142.67, 1350: 128.41, 1300: 123.65, 1250: 118.89, 1200: 114.14, 1100: 104.63}
    for supply_mV, uJ in told.items():
        linear, quadratic = (
            energies_pJ(config("A", supply_mV=supply_mV, vdd_law=law))["read"] / energies_pJ(config("A"))["read"]
            for law in ("linear", "quadratic")
        )
        assert linear == pytest.approx(uJ / told[1500], rel=1e-4)
        assert quadratic == pytest.approx(linear**2)


def test_every_action_has_a_price_with_its_source() -> None:
    table = dram_prices(config("A", supply_mV=1350, io_energy_pJ_per_bit=2.5))
    assert set(table.prices) == ACTIONS and table.voltage_mV == 1350
    assert table.prices["dram_ifmap.read_bit"].energy_pJ == 2.5
    assert table.prices["dram_weights.act"].energy_pJ == pytest.approx(18750 * 0.9)
    assert all("DRAMPower" in price.source for price in table.prices.values())


@pytest.mark.parametrize("name", ["A", "C"])
def test_a_refresh_that_is_charged_alone_costs_a_little_more(name: str) -> None:
    alone, beside = (energies_pJ(config(name, refresh_law=law))["refresh"] for law in ("total", "increment"))
    one = config(name)
    k = one.VDD_mV * one.tCK_ps * one.devices / 1e6
    assert alone - beside == pytest.approx(k * (one.IDD3N_mA - one.IDD2N_mA) * one.tRFC_cycles)
