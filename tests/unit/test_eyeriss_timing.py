"""E4-E6, E10: event model against closed form, hand-worked schedules, the measured chip, bounds, and merged steps."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
import simpy
from eyeriss_cases import (
    ALEXNET,
    CHIP,
    CONVS,
    INFINITE,
    alexnet_plan,
    alexnet_run,
    conv,
    link,
    machine,
    mapped,
    random_cases,
)  # fmt: skip

from archsim.accelerators.base import BatchActivity, Clockwork
from archsim.accelerators.clockwork import simulate_batch
from archsim.accelerators.eyeriss.closed_form import buses_of, closed_form, pass_cycles
from archsim.accelerators.eyeriss.plan import EyerissPlan
from archsim.accelerators.eyeriss.tiles import ifmap_tiles, ofmap_tiles
from archsim.accelerators.eyeriss.timing import time_layer
from archsim.counts import Counts
from archsim.sim import Timeline

NOTHING = BatchActivity(1, tiles=((0,), (0,)))


def tiles_of(layer, plan, rng=None):
    """Return tile bytes: two sizes per map drawn at random, so that some steps are equal and some are not."""
    rng = rng or np.random.default_rng(0)
    lengths = len(ifmap_tiles(layer, plan)), len(ofmap_tiles(layer, plan))
    return BatchActivity(1, tiles=tuple(tuple((8 * rng.choice(rng.integers(1, 90, 2), n)).tolist()) for n in lengths))


def nothing_else():
    """Return no second clock: the array works on one."""
    raise AssertionError("Eyeriss simulates a batch once")


def timed(eyeriss, memory, layer, plan, activity, merge=None, trace=None):
    """Run the event model with or without merging; returns cycles, counts, memory counts, traffic, timing."""
    env = simpy.Environment()
    port = memory.port(env, eyeriss.config.clock_MHz)
    work = Clockwork(env, port, Counts(), nothing_else, trace)
    process = env.process(time_layer(eyeriss.config, layer, plan, activity, work, merge))
    timing = env.run(until=process)
    return int(env.now), work.counts, port.counts(), port.bytes_moved, timing


# the pass -----------------------------------------------------------------------------------------------------------
TABLE = {
    "alexnet-conv1": (288, (968, 385, 9680, 7945, 3080)),
    "alexnet-conv2": (1536, (200, 310, 4320, 1922, 2916)),
    "alexnet-conv3": (384, (576, 180, 9984, 3600, 10816)),
    "alexnet-conv3-alt": (516, (432, 270, 7488, 5400, 5408)),
    "alexnet-conv4": (384, (432, 270, 7488, 5400, 5408)),
    "alexnet-conv5": (256, (432, 270, 7488, 5400, 5408)),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_first_pass_and_the_number_of_passes(name):
    layer = name.split("-")[1]
    eyeriss, plan = alexnet_plan(layer, name)
    one = pass_cycles(ALEXNET[layer], plan, buses_of(eyeriss.config), plan.strip_rows)
    passes, expected = TABLE[name]
    assert tuple(one) == expected
    assert alexnet_run(layer, name)[1].timing.metrics["total_passes"] == passes


def test_a_segmented_bus_rounds_up_and_a_shared_one_adds_both_ways():
    layer = conv("l", 9, 2, 5, 3)
    plan = EyerissPlan(1, 7, 5, 1, 5, 1, 2, 1)
    buses = buses_of(machine(shared_psum_bus=True, psum_bus_bits=48, filter_bus_bits=80).config)
    one = pass_cycles(layer, plan, buses, 7)
    assert one.filter == -(-5 * 2 * 9 // 5)
    assert one.psum == -(-5 * 7 * 7 // 3)
    assert (one.psum_bus(buses, False), one.psum_bus(buses, True)) == (one.psum, 2 * one.psum)


# E4 -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("change", [{}, {"fill": "parallel"}, {"shared_psum_bus": True, "psum_bus_bits": 16}])
@pytest.mark.parametrize("name", CONVS)
def test_alexnet_equals_the_closed_form_on_an_infinite_link(name, change):
    eyeriss, plan = alexnet_plan(name, None, **change)
    run = simulate_batch(eyeriss, INFINITE, ALEXNET[name], plan, NOTHING)
    assert run.cycles == eyeriss.closed_form_cycles(ALEXNET[name], plan, NOTHING)


@pytest.mark.parametrize("change", [{}, {"fill": "parallel", "setup_us": 0.33}, {"shared_psum_bus": True}])
def test_random_plans_equal_the_closed_form_on_an_infinite_link(change):
    for eyeriss, layer, plan in random_cases(50, seed=11, **change):
        for merge in (True, False):
            cycles = timed(eyeriss, INFINITE, layer, plan, tiles_of(layer, plan), merge)[0]
            assert cycles == closed_form(eyeriss.config, layer, plan), (layer.name, plan)


def test_searched_plans_equal_the_closed_form_on_an_infinite_link():
    for eyeriss, layer, _ in random_cases(8, seed=12):
        plan = mapped(eyeriss, layer)
        run = simulate_batch(eyeriss, INFINITE, layer, plan, tiles_of(layer, plan))
        assert run.cycles == eyeriss.closed_form_cycles(layer, plan, NOTHING)


# by hand ------------------------------------------------------------------------------------------------------------
TINY = conv("tiny", 5, 1, 2, 3)
TINY_PLAN = EyerissPlan(1, 3, 2, 1, 1, 1, 1, 1)
TINY_TILES = BatchActivity(1, tiles=((50,), (36,)))
"""Two passes of filter 3, first window 15, stream max(9, 25, 3); 18 bytes of filters, 50 of ifmap, 36 of ofmap."""


def test_a_fast_link_hides_the_filters():
    # 2 bytes per cycle: filters 0-9, ifmap -34, fill -52, stream -77 (next filters -61), fill -95, stream -120, dump.
    run = simulate_batch(machine(), link(0.4), TINY, TINY_PLAN, TINY_TILES)
    metrics = run.timing.metrics
    assert run.cycles == 138
    assert (metrics["dram_stall_cycles"], metrics["prefetch_stall_cycles"]) == (34 + 18, 0)
    assert metrics["processing_cycles"] == 86 == closed_form(machine().config, TINY, TINY_PLAN)
    assert run.memory_counts == {"link.read_bit": 8 * (18 + 50 + 18), "link.write_bit": 8 * 36}


def test_a_slow_link_makes_the_pass_wait():
    # 1/2 byte per cycle: filters 0-36, ifmap -136, fill -154, stream -179 (next filters -190), fill, stream, dump.
    run = simulate_batch(machine(), link(0.1), TINY, TINY_PLAN, TINY_TILES)
    metrics = run.timing.metrics
    assert run.cycles == 305
    assert (metrics["dram_stall_cycles"], metrics["prefetch_stall_cycles"]) == (136 + 72, 11)
    assert run.timing.bound == "dram"


def test_the_filters_are_in_time_at_exactly_25_cycles():
    # 18 bytes in 25 cycles are just hidden behind a stream of 25 cycles; one cycle slower is one cycle of waiting.
    for cycles, stall in ((25, 0), (26, 1)):
        memory = link(18 / cycles * 0.2)
        run = simulate_batch(machine(), memory, TINY, TINY_PLAN, BatchActivity(1, tiles=((0,), (0,))))
        assert (
            run.timing.metrics["prefetch_stall_cycles"] == stall + cycles
        )  # the very first block hides behind nothing


def test_channel_calls_spill_psums_through_dram():
    layer, plan = conv("l", 3, 4, 2, 3), EyerissPlan(1, 1, 2, 1, 2, 2, 1, 1, channel_calls=2)
    run = simulate_batch(
        machine(max_channels_per_call=2), link(0.4), layer, plan, BatchActivity(1, tiles=((36,), (8,)))
    )
    metrics = run.timing.metrics
    assert metrics["dram_psum_MB"] == pytest.approx(2 * 2 * 2 / 1e6)  # two psums out and in again, 16 bit, no coding
    assert metrics["dram_ofmap_MB"] == pytest.approx(8 / 1e6)
    # Filters and ifmap; 18 cycles behind the next filters, then spill, reload and ifmap; dump.
    assert metrics["dram_stall_cycles"] == (36 + 18) + (18 + 2 + 2 + 18) + 4


def test_setup_is_paid_once_per_call():
    for eyeriss, layer, plan in random_cases(8, seed=3):
        slow = machine(**{**eyeriss.config.model_dump(), "setup_us": 1.5})
        more = closed_form(slow.config, layer, plan) - closed_form(eyeriss.config, layer, plan)
        assert more == 300 * plan.filter_calls * plan.channel_calls


def test_maps_on_chip_make_no_traffic():
    layer = ALEXNET["conv5"]
    big = machine("thesis-256pe")
    run = {}
    for chip in ((), ("ifmap", "ofmap")):
        plan = mapped(big, layer, chip)
        activity = big.expect(layer, plan, (0.5, 0.5)).batches[0]
        run[chip] = simulate_batch(big, link(10.0), layer, plan, activity).timing.metrics
    assert run["ifmap", "ofmap"]["dram_ifmap_MB"] == run["ifmap", "ofmap"]["dram_ofmap_MB"] == 0
    assert min(run[()]["dram_ifmap_MB"], run[()]["dram_ofmap_MB"]) > 0
    assert run["ifmap", "ofmap"]["dram_stall_cycles"] == 0


# merged steps -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("gigabytes_per_s", "latency_ns"), [(0.48, 0.0), (0.03, 40.0), (3.7, 12.5), (inf, 0.0)])
def test_merged_and_expanded_runs_are_equal(gigabytes_per_s, latency_ns):
    rng = np.random.default_rng(21)
    memory = link(gigabytes_per_s, latency_ns)
    for eyeriss, layer, plan in random_cases(24, seed=22, setup_us=0.1):
        activity = tiles_of(layer, plan, rng)
        assert timed(eyeriss, memory, layer, plan, activity, True) == timed(
            eyeriss, memory, layer, plan, activity, False
        )


@pytest.mark.parametrize("name", CONVS)
def test_merged_and_expanded_alexnet_are_equal(name):
    eyeriss, plan = alexnet_plan(name)
    activity = eyeriss.expect(ALEXNET[name], plan, (0.3, 0.6)).batches[0]
    runs = [timed(eyeriss, link(0.2, 55.0), ALEXNET[name], plan, activity, merge) for merge in (True, False)]
    assert runs[0] == runs[1]


def test_a_trace_shows_every_pass_and_changes_nothing():
    trace = Timeline(200.0)
    eyeriss, plan = alexnet_plan("conv5")
    activity = eyeriss.expect(ALEXNET["conv5"], plan, (0.3, 0.6)).batches[0]
    traced = timed(eyeriss, link(), ALEXNET["conv5"], plan, activity, trace=trace)
    assert traced == timed(eyeriss, link(), ALEXNET["conv5"], plan, activity)
    slices = [event for event in trace.to_dict()["traceEvents"] if event["ph"] == "X"]
    assert sum(event["name"] == "stream" for event in slices) == 256
    assert max(event["ts"] + event["dur"] for event in slices) == pytest.approx(traced[0] / 200)


class CountedEnvironment(simpy.Environment):
    """Counts scheduled events."""

    scheduled = 0

    def schedule(self, *args, **kwargs):
        self.scheduled += 1
        super().schedule(*args, **kwargs)


def test_at_most_ten_events_per_executed_pass():
    eyeriss, plan = alexnet_plan("conv1")
    env = CountedEnvironment()
    work = Clockwork(env, link().port(env, 200.0), Counts(), nothing_else)
    process = time_layer(eyeriss.config, ALEXNET["conv1"], plan, tiles_of(ALEXNET["conv1"], plan), work, False)
    env.run(until=env.process(process))
    assert env.scheduled <= 10 * 288


# E5, E6: the measured chip ------------------------------------------------------------------------------------------
def errors(metric, column, plans=None):
    """Return relative errors of the five layers and of their sum."""
    model = {name: alexnet_run(name, (plans or {}).get(name))[1].timing.metrics[metric] for name in CONVS}
    chip = {name: CHIP[name][column] for name in CONVS}
    return [model[name] / chip[name] - 1 for name in CONVS], sum(model.values()) / CHIP["total"][column] - 1


@pytest.mark.parametrize("plans", [{}, {"conv3": "alexnet-conv3"}])
def test_processing_latency_of_the_chip(plans):
    layers, total = errors("processing_latency_ms", "processing_latency_ms", plans)
    assert max(map(abs, layers)) <= 0.10
    assert abs(total) <= 0.05


def test_total_latency_of_the_chip():
    layers, total = errors("total_latency_ms", "total_latency_ms")
    assert max(map(abs, layers)) <= 0.12
    assert abs(total) <= 0.05


def test_processing_latency_is_that_of_an_infinite_link():
    for name in CONVS:
        slow, fast = alexnet_run(name)[1].timing.metrics, alexnet_run(name, infinite=True)[1]
        assert slow["processing_cycles"] + slow["dram_stall_cycles"] == slow["total_cycles"]
        assert slow["processing_cycles"] == fast.cycles


def test_each_pass_is_bound_by_one_resource():
    bound = {name: alexnet_run(name)[1].timing for name in CONVS}
    bound["table iii"] = alexnet_run("conv3", "alexnet-conv3")[1].timing
    assert {timing.bound for name, timing in bound.items() if name != "table iii"} == {"compute"}
    metrics = bound["table iii"].metrics
    assert bound["table iii"].bound == "psum_bus"
    assert metrics["psum_bound_passes"] == metrics["total_passes"] == 384
    wide = conv("w", 64, 1, 1, 3, W=500)
    run = simulate_batch(machine(), INFINITE, wide, EyerissPlan(1, 10, 1, 1, 1, 1, 1, 1), NOTHING)
    assert run.timing.bound == "ifmap_bus"
    assert run.timing.metrics["ifmap_bound_passes"] == run.timing.metrics["total_passes"]


# E10: bounds --------------------------------------------------------------------------------------------------------
def test_no_run_undercuts_its_floors():
    for eyeriss, layer, plan in random_cases(50, seed=31):
        run = simulate_batch(eyeriss, INFINITE, layer, plan, NOTHING)
        metrics, words = run.timing.metrics, layer.N * layer.M * layer.P * layer.Q
        assert run.cycles * plan.active_pes(layer) >= layer.macs_dense
        assert run.cycles >= metrics["compute_floor_cycles"]
        assert run.cycles >= metrics["psum_floor_cycles"] >= words / 4
        assert run.cycles >= metrics["ifmap_floor_cycles"] == run.counts["global_buffer.ifmap_read"]
        utilisation = [value for name, value in metrics.items() if name.endswith("_utilisation")]
        assert len(utilisation) == 4
        assert max(utilisation) <= 1


@pytest.mark.parametrize("bus", ["filter_bus_bits", "ifmap_bus_bits", "psum_bus_bits"])
def test_a_wider_bus_never_costs_cycles(bus):
    gains = 0
    for eyeriss, layer, plan in random_cases(24, seed=32):
        fields = eyeriss.config.model_dump()
        memory, activity = link(0.3), tiles_of(layer, plan)
        cycles = [
            simulate_batch(machine(**{**fields, bus: width}), memory, layer, plan, activity).cycles
            for width in (8, 16, 24, 64, 200)
        ]
        assert cycles == sorted(cycles, reverse=True)
        gains += cycles[0] > cycles[-1]
    assert gains >= 6  # of 24: elsewhere another resource is always slower


def test_where_psums_dominate_half_the_bus_takes_twice_as_long():
    layer = conv("p", 14, 64, 24, 1)
    plan = EyerissPlan(1, 14, 24, 1, 24, 1, 1, 1)
    checked = 0
    for bits in (64, 48, 32, 16, 8):
        one = pass_cycles(layer, plan, buses_of(machine(psum_bus_bits=bits).config), 14)
        if one.psum < 5 * max(one.compute, one.ifmap):
            continue
        fill = one.fill(buses_of(machine().config)) * 64
        runs = [simulate_batch(machine(psum_bus_bits=b), INFINITE, layer, plan, NOTHING) for b in (bits, bits // 2)]
        streaming = [run.cycles - fill for run in runs]
        assert streaming[1] / streaming[0] == pytest.approx(2, rel=0.01)
        checked += 1
    assert checked >= 2


def test_gating_costs_no_cycles():
    eyeriss, plan = alexnet_plan("conv4")
    runs = []
    for zeros in (0.0, 0.9):
        activity = eyeriss.expect(ALEXNET["conv4"], plan, (zeros, 0.5)).batches[0]
        runs.append(simulate_batch(eyeriss, INFINITE, ALEXNET["conv4"], plan, replace(activity, tiles=((0,), (0,)))))
    assert runs[0].cycles == runs[1].cycles
    assert runs[0].counts["pe.mac"] > runs[1].counts["pe.mac"]
