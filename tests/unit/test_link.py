"""The link memory: exact cycles, order, counts and prices."""

from __future__ import annotations

import json
import math
from collections.abc import Generator
from fractions import Fraction
from typing import Any

import pytest
import simpy
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from archsim.energy import account
from archsim.memory.base import MemoryPort, memory_class
from archsim.memory.link import Link, LinkConfig


def link(preset: str = "eyeriss-jssc17", **changes: Any) -> Link:
    return Link(LinkConfig(**{**Link.presets[preset], **changes}))


def finish_cycles(memory: Link, clock_MHz: float, requests: list[tuple[int, int]]) -> list[int]:
    """Issue (start cycle, bytes) from one process each; return the completion cycles and check they are ints."""
    env = simpy.Environment()
    port = memory.port(env, clock_MHz)
    done = [-1] * len(requests)

    def requester(index: int, start: int, n_bytes: int) -> Generator[simpy.Event, Any, None]:
        yield env.timeout(start)
        yield port.access("read", "ifmap", 0, n_bytes)
        assert isinstance(env.now, int)
        done[index] = env.now

    for index, (start, n_bytes) in enumerate(requests):
        env.process(requester(index, start, n_bytes))
    env.run()
    return done


class TestCycles:
    # 64 bit at 60 MHz is 2.4 bytes per cycle of a 200 MHz core
    @pytest.mark.parametrize(
        ("n_bytes", "cycles"),
        [(0, 0), (1, 1), (2, 1), (3, 2), (12, 5), (13, 6), (24, 10), (7744, 3227), (2**40, 458129844907)],
    )
    def test_200_MHz_core_on_the_60_MHz_link(self, n_bytes: int, cycles: int) -> None:
        assert cycles == math.ceil(n_bytes / Fraction(24, 10))
        assert finish_cycles(link(), 200, [(0, n_bytes)]) == [cycles]

    def test_two_requesters_take_turns_in_order(self) -> None:
        assert finish_cycles(link(), 200, [(0, 24), (0, 24), (15, 12), (40, 12)]) == [10, 20, 25, 45]

    def test_fractions_of_a_cycle_add_up_and_are_rounded_once(self) -> None:
        # each byte takes 0.41667 cycles: a new round-up per request would finish at 1, 2, 3, ... 12
        assert finish_cycles(link(), 200, [(0, 1)] * 12) == [math.ceil(n / 2.4) for n in range(1, 13)]

    def test_latency_is_pipelined(self) -> None:
        fast = link("promise-golden")
        assert finish_cycles(fast, 1000, [(0, 30), (0, 30), (0, 31)]) == [101, 102, 104]
        assert finish_cycles(fast, 1000, [(0, 30), (200, 30)]) == [101, 301]

    def test_no_bytes_complete_at_once_even_on_a_busy_link(self) -> None:
        assert finish_cycles(link(latency_ns=50), 200, [(0, 2400), (3, 0)]) == [1010, 3]

    def test_infinite_bandwidth(self) -> None:
        free = link(bandwidth_GB_per_s=math.inf)
        assert finish_cycles(free, 200, [(0, 10**9), (7, 10**9)]) == [0, 7]
        assert finish_cycles(link(bandwidth_GB_per_s=math.inf, latency_ns=11), 200, [(0, 1), (7, 1)]) == [3, 10]

    def test_a_clock_whose_period_is_no_whole_picosecond(self) -> None:
        # one byte is exactly one cycle of 300 MHz; rounding either period would drift
        assert finish_cycles(link(bandwidth_GB_per_s=0.3), 300, [(0, 3 * 10**9), (10, 1)]) == [3 * 10**9, 3 * 10**9 + 1]

    @given(
        st.lists(st.tuples(st.integers(0, 60), st.integers(0, 500)), min_size=1, max_size=8),
        st.sampled_from([60.0, 200.0, 333.3, 1000.0]),
        st.sampled_from([0.48, 1.0, 19.2, 30.0]),
        st.sampled_from([0.0, 12.5, 100.0]),
    )
    def test_equals_the_queue_in_rational_numbers(
        self, requests: list[tuple[int, int]], clock: float, bandwidth: float, latency: float
    ) -> None:
        cycle_ns, free, expected = 1000 / Fraction(str(clock)), Fraction(0), {}
        order = sorted(range(len(requests)), key=lambda index: requests[index][0])
        for index in order:
            start, n_bytes = requests[index]
            if n_bytes:
                free = max(free, start * cycle_ns) + n_bytes / Fraction(str(bandwidth))
            end = free + Fraction(str(latency)) if n_bytes else start * cycle_ns
            expected[index] = math.ceil(end / cycle_ns)
        memory = link(bandwidth_GB_per_s=bandwidth, latency_ns=latency)
        assert finish_cycles(memory, clock, requests) == [expected[index] for index in range(len(requests))]


def moved(port: MemoryPort) -> None:
    port.access("read", "weights", 0, 10)
    port.access("read", "ifmap", 64, 6, stride_bytes=32, rows=5)
    port.access("write", "ofmap", 0, 7)


class TestCounts:
    def test_bits_of_both_directions(self) -> None:
        port = link().port(simpy.Environment(), 200)
        moved(port)
        assert port.counts() == {"link.read_bit": 320, "link.write_bit": 56}
        assert port.bytes_moved == {("weights", "read"): 10, ("ifmap", "read"): 30, ("ofmap", "write"): 7}
        assert set(port.counts()) == Link.actions

    def test_rows_take_the_time_of_their_bytes(self) -> None:
        env = simpy.Environment()
        env.run(until=link().port(env, 200).access("read", "ifmap", 3, 6, stride_bytes=100, rows=4))
        assert env.now == 10

    def test_repeat_equals_doing_it_again(self) -> None:
        once, thrice = (link().port(simpy.Environment(), 200) for _ in range(2))
        once.access("read", "weights", 0, 100)
        thrice.access("read", "weights", 0, 100)
        before = once.snapshot()
        moved(once)
        once.repeat(before, 2)
        for _ in range(3):
            moved(thrice)
        assert once.stationary
        assert once.counts() == thrice.counts()


class TestConfig:
    @pytest.mark.parametrize(
        ("preset", "more", "pJ_per_byte", "bytes_per_us"),
        [
            ("eyeriss-jssc17", {}, 230.0, 480.0),
            ("promise-golden", {}, 160.0, 30000.0),
            ("flat-ddr4", {"bandwidth_GB_per_s": 12.8}, 120.0, 12800.0),
        ],
    )
    def test_presets(self, preset: str, more: dict[str, float], pJ_per_byte: float, bytes_per_us: float) -> None:
        memory = link(preset, **more)
        port = memory.port(simpy.Environment(), 200)
        port.access("write", "ofmap", 0, 1)
        assert sum(account(port.counts(), memory.prices).values()) == pytest.approx(pJ_per_byte, rel=1e-15)
        assert memory.bandwidth_bytes_per_us == pytest.approx(bytes_per_us)
        assert set(memory.prices.prices) == Link.actions
        assert all(price.source for price in memory.prices.prices.values())

    def test_found_by_its_kind(self) -> None:
        assert memory_class("link") is Link

    def test_the_thesis_states_no_bandwidth(self) -> None:
        with pytest.raises(ValidationError, match="bandwidth_GB_per_s"):
            link("flat-ddr4")

    @pytest.mark.parametrize("bandwidth", [0.48, math.inf])
    def test_survives_strict_json(self, bandwidth: float) -> None:
        config = link(bandwidth_GB_per_s=bandwidth).config
        text = json.dumps(config.model_dump(mode="json"), allow_nan=False)
        assert LinkConfig(**json.loads(text)) == config

    @pytest.mark.parametrize(
        "wrong",
        [
            {"bandwidth_GB_per_s": 0.0},
            {"bandwidth_GB_per_s": math.nan},
            {"latency_ns": -1.0},
            {"latency_ns": math.inf},
            {"energy_pJ_per_bit": -0.1},
            {"price_source": ""},
            {"bandwidth": 1.0},
        ],
    )
    def test_refuses(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            link(**wrong)
