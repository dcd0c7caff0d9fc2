"""Time and energy of PROMISE: golden cases, closed form, simulation, orientation, banks, stages, overlap."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.accelerators.base import BatchActivity
from archsim.accelerators.clockwork import simulate_batch
from archsim.accelerators.promise.addresses import windows_of
from archsim.accelerators.promise.closed_form import GOLDEN_LINK, compute_cycles, cost, phases
from archsim.accelerators.promise.config import PromiseConfig
from archsim.accelerators.promise.schedule import turns_of
from archsim.accelerators.promise.stages import run_tile
from archsim.accelerators.promise.swing import LEVELS, SWINGS
from archsim.energy import account
from archsim.memory.link import LinkPort
from archsim.units import BITS_PER_BYTE
from archsim.workload.layers import Conv
from tests.promise.promise_cases import (
    BY_NAME,
    GOLDEN,
    config,
    golden_memory,
    machine,
    plan_of,
    prices,
    released_model,
    shapes,
    simulated,
)

SHAPES = shapes(200)
KINDS = st.tuples(*(st.integers(0, 14) for _ in range(4)))


def test_random_shapes_hold_what_is_hard() -> None:
    plans = [plan_of(*shape) for shape in SHAPES]
    assert sum(plan.swapped for plan in plans) > 20 and sum(not plan.swapped for plan in plans) > 20
    assert sum(len(plan.chunks[0].tiles) > 1 for plan in plans) > 10
    assert sum(plan.n % 128 != 0 for plan in plans) > 100 and sum(plan.n < 128 for plan in plans) > 20
    replicated = [plan for plan in plans if plan.chunks[0].par > 1]
    assert len(replicated) > 20 and any(plan.m % plan.chunks[0].par for plan in replicated)


# T1, T13 --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["id"])
def test_golden_cases(case: dict[str, Any]) -> None:
    found = cost(config(), prices(), plan_of(case["m"], case["k"], case["n"]), BY_NAME[case["swing"]])
    figures = {
        "time_us": found.latency_ns / 1e3,
        "compute_us": found.compute_ns / 1e3,
        "memory_us": found.memory_ns / 1e3,
        "energy_uJ": found.energy_pJ / 1e6,
        "compute_uJ": found.compute_pJ / 1e6,
        "dram_uJ": found.dram_pJ / 1e6,
        "sram_uJ": found.sram_pJ / 1e6,
        "leakage_uJ": found.leakage_pJ / 1e6,
    }
    assert figures == pytest.approx({name: case[name] for name in figures}, rel=GOLDEN["tolerance_relative"])
    assert found.compute_pJ < 0.01 * found.energy_pJ


def test_preset_and_prices_are_those_of_the_golden_file() -> None:
    constants, one = GOLDEN["constants"], config()
    assert (one.banks, one.interval_cycles, one.reduction_cycles) == (
        constants["banks"], constants["interval_ns"], constants["reduction_ns"],
    )  # fmt: skip
    assert one.clock_MHz == constants["clock_MHz"] and one.cycle_ns == 1
    for entry in GOLDEN["swings"]:
        swing = BY_NAME[entry["swing"]]
        assert prices().prices[swing.action].energy_pJ == entry["energy_pJ_per_128_dot"]
        assert swing.sigma == entry["relative_sigma"]
    assert prices().prices["leakage.bank_ns"].energy_pJ == constants["bank_leakage_pJ_per_ns"]
    assert prices().prices["sram.write_byte"].energy_pJ == constants["sram_write_pJ_per_byte"]
    link = golden_memory().config
    assert float(GOLDEN_LINK.latency_ns) == link.latency_ns == constants["dram_latency_ns"]
    assert float(GOLDEN_LINK.bandwidth_GB_per_s) == link.bandwidth_GB_per_s == constants["dram_bandwidth_GB_per_s"]
    assert BITS_PER_BYTE * link.energy_pJ_per_bit == constants["dram_pJ_per_byte"]
    assert all(price.source and not price.assumed for price in prices().prices.values())


# T2 -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", range(0, len(SHAPES), 20))
def test_simulation_closed_form_and_released_model_agree(number: int) -> None:
    """Simulation equals the closed form in whole cycles, which is less than a cycle per phase above that in ns."""
    for i, shape in enumerate(SHAPES[number : number + 20], number):
        plan, swing = plan_of(*shape), SWINGS[i % len(SWINGS)]
        exact, whole = (cost(config(), prices(), plan, swing, whole_cycles=one) for one in (False, True))
        timed = simulated(plan, swing)
        assert timed.cycles == whole.latency_ns
        assert 0 <= whole.latency_ns - exact.latency_ns < whole.phases == exact.phases
        energy = account(timed.counts, prices())
        assert energy[swing.action] == pytest.approx(whole.compute_pJ, rel=1e-12)
        assert energy["leakage.bank_ns"] == pytest.approx(whole.leakage_pJ, rel=1e-12)
        assert energy["sram.write_byte"] == pytest.approx(whole.sram_pJ, rel=1e-12)
        moved = account(timed.memory_counts, golden_memory().prices)
        assert sum(moved.values()) == pytest.approx(whole.dram_pJ, rel=1e-12)
        told = released_model(*shape, prices().prices[swing.action].energy_pJ)
        assert (exact.compute_ns, exact.memory_ns) == pytest.approx((told["compute"], told["memory"]), rel=1e-9)
        parts = (exact.compute_pJ, exact.dram_pJ, exact.sram_pJ, exact.leakage_pJ)
        assert parts == pytest.approx(
            tuple(told[f"{one}_pJ"] for one in ("compute", "dram", "sram", "leakage")), rel=1e-9
        )


# T3, T4 ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", SHAPES[:20])
def test_swing_changes_energy_and_not_time(shape: tuple[int, int, int]) -> None:
    plan = plan_of(*shape)
    runs = [simulated(plan, swing) for swing in SWINGS]
    assert len({(run.cycles, run.counts["leakage.bank_ns"], tuple(run.memory_counts.items())) for run in runs}) == 1
    costs = [cost(config(), prices(), plan, swing) for swing in SWINGS]
    assert all(low.energy_pJ < high.energy_pJ for low, high in pairwise(costs))
    for one in costs:
        parts = one.compute_pJ + one.sram_pJ + one.dram_pJ + one.leakage_pJ
        assert one.energy_pJ == pytest.approx(parts, rel=1e-12)
    ratio = costs[-1].compute_pJ / costs[0].compute_pJ
    assert ratio == pytest.approx(GOLDEN["swing_ratios"]["energy_P7_over_P1"], rel=1e-3)


def test_levels_fall_in_energy_and_rise_in_error() -> None:
    costs = [prices().prices[swing.action].energy_pJ for swing in LEVELS]
    assert costs[0] == costs[1] and all(before > after for before, after in pairwise(costs[1:]))
    sigmas = [swing.sigma for swing in LEVELS]
    assert sigmas[0] == 0 and all(before < after for before, after in pairwise(sigmas))
    assert [swing.name for swing in LEVELS[1:]] == ["P7", "P6", "P5", "P4", "P3", "P2", "P1"]


# T5, T6 ---------------------------------------------------------------------------------------------------------------
def test_operands_change_roles_at_no_cost() -> None:
    for m, k, n in SHAPES:
        if m != n:
            assert plan_of(m, k, n).swapped is (m > n)
            assert cost(config(), prices(), plan_of(m, k, n), SWINGS[0]) == cost(
                config(), prices(), plan_of(n, k, m), SWINGS[0]
            )


def test_more_banks_never_take_longer() -> None:
    worse = [(shape, times) for shape in shapes(300, seed=6) if (times := _times(shape)) != sorted(times, reverse=True)]
    assert not worse


def _times(shape: tuple[int, int, int]) -> list[float]:
    return [
        cost(config(), prices(), plan_of(*shape, banks=banks), SWINGS[0]).latency_ns for banks in (64, 128, 256, 512)
    ]


# T10: sums longer than the banks --------------------------------------------------------------------------------------
@pytest.mark.parametrize(("k", "chunks"), [(32768, 1), (32769, 2), (65536, 2), (65537, 3)])
def test_long_sums_are_split_and_added(k: int, chunks: int) -> None:
    plan = plan_of(1, k, 300)
    assert [chunk.k for chunk in plan.chunks] == [32768] * (k // 32768) + ([k % 32768] if k % 32768 else [])
    assert len(plan.chunks) == chunks and plan.describe()["chunks_of_k"] == chunks
    timed, whole = simulated(plan), cost(config(), prices(), plan, SWINGS[-1], whole_cycles=True)
    assert timed.cycles == whole.latency_ns
    assert timed.counts["sram.write_byte"] == k * 300 + (chunks - 1) * 300
    added = sum(-(-turn.added // 128) for turn in turns_of(plan))
    assert added == (chunks - 1) * sum(-(-tile.ty // 128) for tile in plan.chunks[0].tiles)
    assert sum(turn.store_bytes for turn in turns_of(plan)) == 300
    assert compute_cycles(config(), plan) == added + sum(14 * turn.columns + 10 for turn in turns_of(plan))


# T11: stages ----------------------------------------------------------------------------------------------------------
@given(KINDS, st.integers(0, 3), st.integers(1, 128))
def test_any_split_into_stages_obeys_the_law(split: tuple[int, int, int, int], slowest: int, columns: int) -> None:
    cycles = [14 if i == slowest else one for i, one in enumerate(split)]
    one = config(stages=dict(zip(("c1", "c2", "c3", "c4"), cycles)))
    run = run_tile(one, columns)
    assert run.cycles == 14 * columns + 10 == one.tile_cycles(columns)
    for start, length, spans in zip(one.stage_starts, cycles, run.occupied):
        assert spans == tuple((14 * column + start, length) for column in range(columns) if length)
    assert one.stage_starts[0] == 0 and list(one.stage_starts) == sorted(one.stage_starts)


@pytest.mark.parametrize("split", [(14, 14, 14, 14), (6, 14, 3, 1), (14, 10, 0, 0), (1, 2, 14, 14), (14, 4, 4, 2)])
@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["id"])
def test_golden_cases_for_any_split(case: dict[str, Any], split: tuple[int, int, int, int]) -> None:
    plan, stages = plan_of(case["m"], case["k"], case["n"]), dict(zip(("c1", "c2", "c3", "c4"), split))
    one = config(stages=stages)
    assert cost(one, prices(), plan, SWINGS[0]) == cost(config(), prices(), plan, SWINGS[0])
    plain, staged = simulated(plan), simulated(plan, stages=stages)
    assert (staged.cycles, staged.counts) == (plain.cycles, plain.counts)
    columns = sum(turn.columns for turn in turns_of(plan))
    assert [staged.timing.metrics[f"stage_c{i}_busy_cycles"] for i in range(1, 5)] == [one * columns for one in split]


def test_sequential_stages_that_fit_the_drain_do_not_overlap() -> None:
    one = config(stages={"c1": 14, "c2": 4, "c3": 4, "c4": 2})
    assert one.stage_starts == (0, 14, 18, 22)


# T12: overlap ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", range(0, len(SHAPES), 50))
def test_overlap_lies_between_its_bounds(number: int) -> None:
    gained = 0
    for shape in SHAPES[number : number + 50]:
        plan = plan_of(*shape)
        serial, overlapped = simulated(plan), simulated(plan, overlap=True)
        whole = cost(config(), prices(), plan, SWINGS[-1], whole_cycles=True)
        assert max(whole.memory_ns, whole.compute_ns) <= overlapped.cycles <= serial.cycles
        assert overlapped.memory_counts == serial.memory_counts
        gained += overlapped.cycles < serial.cycles
    assert gained > 10


def test_overlap_hides_what_it_can() -> None:
    """Four groups of rows: the loads of three and the stores of three are hidden behind computation, or the reverse."""
    plan = plan_of(4, 128 * 200, 128)
    (chunk,) = plan.chunks
    assert chunk.par == 1 and len(chunk.tiles) == 1
    row, compute, store = -(-(100 * 30 + 25600) // 30), 1802, -(-(100 * 30 + 128) // 30)
    fill = -(-(100 * 30 + 25600 * 128) // 30)
    assert simulated(plan).cycles == fill + 4 * (row + compute + store)
    assert row + store < compute
    assert simulated(plan, overlap=True).cycles == fill + row + 4 * compute + store


# addresses ------------------------------------------------------------------------------------------------------------
def conv(**changes: Any) -> Conv:
    shape = {"C": 16, "M": 24, "H": 8, "W": 8, "R": 3, "S": 3, "pad": (1, 1, 1, 1)}
    return Conv(name="conv", inputs=("x",), output="y", **{**shape, **changes})


CONVOLUTIONS = {
    "digits conv2, ifmap in the banks": (conv(), 256),
    "weights in the banks": (conv(C=64, M=200), 256),
    "groups, batch, stride, dilation": (conv(N=3, C=32, H=15, W=17, groups=2, stride=(2, 3), dilation=(2, 1)), 256),
    "weights in the banks, groups, batch": (conv(N=2, C=128, M=512, H=5, W=5, groups=2), 64),
    "split sums, weights in the banks": (conv(C=512, M=96, H=5, W=5), 16),
    "split sums, ifmap in the banks": (conv(C=512, M=16), 16),
    "map smaller than the filter": (conv(C=3, M=16, H=2, W=2, R=5, S=5, pad=(2, 2, 2, 2)), 256),
}


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize(("layer", "banks"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_every_access_of_a_convolution_lies_inside_its_tensor(
    layer: Conv, banks: int, overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int, int]] = []
    access = LinkPort.access

    def watched(port: LinkPort, direction: Any, region: Any, offset: int, n_bytes: int, **runs: int) -> Any:
        asked.extend([(region, offset, n_bytes)] * runs.get("rows", 1))
        return access(port, direction, region, offset, n_bytes, **runs)

    monkeypatch.setattr(LinkPort, "access", watched)
    one = machine(banks=banks, overlap=overlap)
    plan: Any = one.map(layer, None, one.place_all([[layer]])[layer.name])  # type: ignore[arg-type]
    activity = BatchActivity(1, (("bank.dot128@P7", 1),))
    timed = simulate_batch(one, golden_memory(), layer, plan, activity)
    sizes = {
        "ifmap": layer.N * layer.C * layer.H * layer.W,
        "weights": layer.weight_count,
        "ofmap": layer.N * layer.M * layer.P * layer.Q,
    }
    assert {region for region, _, _ in asked} == set(sizes)
    outside = [(region, first, n) for region, first, n in asked if not 0 <= first <= first + n <= sizes[region]]
    assert not outside
    assert sum(n for region, _, n in asked if region == "ofmap") == sizes["ofmap"]
    if not overlap:
        assert timed.cycles == cost(one.config, prices(), plan, SWINGS[-1], whole_cycles=True).latency_ns


def test_a_window_begins_at_its_first_pixel() -> None:
    """Against numpy: the address found by cutting windows out of a padded map of addresses."""
    for layer in (conv(), conv(N=2, C=32, H=15, W=17, groups=2, stride=(2, 3), dilation=(2, 1), pad=(2, 1, 0, 3))):
        windows, (top, left, bottom, right) = windows_of(layer), layer.pad
        addresses = np.arange(layer.N * layer.C * layer.H * layer.W).reshape(layer.N, layer.C, layer.H, layer.W)
        padded = np.pad(addresses, ((0, 0), (0, 0), (top, bottom), (left, right)), mode="edge")
        per_group, taps = layer.C // layer.groups, layer.R * layer.S
        for image, group, p, q in np.ndindex(layer.N, layer.groups, layer.P, layer.Q):
            rows = p * layer.stride[0] + layer.dilation[0] * np.arange(layer.R)
            columns = q * layer.stride[1] + layer.dilation[1] * np.arange(layer.S)
            channels = slice(group * per_group, (group + 1) * per_group)
            cut = padded[image, channels][:, rows][:, :, columns].ravel()
            window = (image * layer.P + p) * layer.Q + q
            for tap in (0, 1, taps, per_group * taps - 1):
                assert windows.first_byte(group, window, tap) == cut[tap]


# residency, patch, clock ----------------------------------------------------------------------------------------------
def test_patch_divides_the_filling_only() -> None:
    plain, patched = plan_of(16, 27, 1024), plan_of(16, 27, 1024, patch=9)
    loads = [sum(turn.load_bytes for turn in turns_of(plan)) for plan in (plain, patched)]
    assert loads == [27 * 1024, 27 * 1024 // 9]
    moved = [sum(step.moved_bytes for step in phases(config(), plan)) for plan in (plain, patched)]
    assert moved[0] - moved[1] == loads[0] - loads[1]


def test_half_the_clock_doubles_the_computation_and_the_leakage_of_it() -> None:
    plan = plan_of(3, 200, 150)
    memory = golden_memory(bandwidth_GB_per_s=float("inf"), latency_ns=0.0)
    full, half = (simulated(plan, memory=memory, clock_MHz=clock) for clock in (1000.0, 500.0))
    assert full.cycles == half.cycles
    assert half.counts["leakage.bank_ns"] == 2 * full.counts["leakage.bank_ns"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clock_MHz": 300.0}, "whole number of ns"),
        ({"clock_MHz": 2000.0}, "whole number of ns"),
        ({"stages": {"c1": 13, "c2": 1, "c3": 1, "c4": 1}}, "interval_cycles = 14"),
        ({"stages": {"c1": 15, "c2": 1, "c3": 1, "c4": 1}}, "interval_cycles = 14"),
        ({"banks": 0}, "greater than 0"),
        ({"noise_at": "weights"}, "'input' or 'output'"),
    ],
)
def test_impossible_configurations_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)
    assert isinstance(config(), PromiseConfig)
