"""The port on simpy's clock: whoever asks, and when, the channel does what it does for the same requests in a trace."""

from __future__ import annotations

import random
from collections.abc import Generator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
import simpy

from archsim.memory.base import Direction, Region
from archsim.memory.dram import Dram
from archsim.memory.dram.channels import Channels
from archsim.memory.dram.config import LINE_BYTES, DramConfig
from archsim.memory.dram.energy import ACTIONS, REGIONS
from archsim.memory.dram.fields import AT, END, FIRST, LEFT, LINES, RUN_FIELDS, WRITE, Array
from archsim.memory.dram.port import DramPort
from tests.dram.traces import config

SEEDS = range(24)
CLOCKS_MHZ = (200.0, 333.3, 1600.0)
BASES: dict[Region, int] = {"weights": 0, "ifmap": 3 << 20, "ofmap": 5 << 20, "other": 9 << 20}


class Asked(NamedTuple):
    """An access: when it was asked for (machine cycle), what, where, how many rows of how many bytes how far apart."""

    at: int
    direction: Direction
    region: Region
    offset: int
    n_bytes: int
    stride: int
    rows: int


class Played:
    """Processes ask for tiles, some one after the other, some many at once, with pauses; ragged ends and strides."""

    def __init__(self, seed: int, processes: int = 3) -> None:
        self.settings = config(
            "AC"[seed % 2], tREFI_cycles=(1500, 6240)[seed % 4 // 2], channels=(1, 1, 2, 4)[seed // 2 % 4]
        )
        self.clock_MHz = CLOCKS_MHZ[seed % 3]
        self.env = simpy.Environment()
        self.port: DramPort = Dram(self.settings).port(self.env, self.clock_MHz, BASES)
        self.asked: list[Asked] = []
        self.ends: dict[int, int] = {}
        for i in range(processes):
            self.env.process(self.process(random.Random(f"{seed} {i}")))
        self.env.run()

    def process(self, choose: random.Random) -> Generator[Any, Any, None]:
        for _ in range(choose.randrange(3, 9)):
            direction: Direction = choose.choice(["read", "read", "write"])
            n_bytes, stride, rows = choose.choice([2, 100, 3000]), choose.choice([4096, 9000]), choose.choice([1, 1, 5])
            one = Asked(
                int(self.env.now), direction, choose.choice(REGIONS), 100 * choose.randrange(99), n_bytes, stride, rows
            )
            event = self.port.access(*one[1:5], stride_bytes=stride, rows=rows)
            self.note_end(len(self.asked), event)
            self.asked.append(one)
            yield event if choose.random() < 0.6 else self.env.timeout(choose.choice([0, 1, 40, 900]))
            yield self.env.timeout(choose.choice([0, 0, 7, 300]))

    def note_end(self, number: int, event: simpy.Event) -> None:
        event.callbacks.append(lambda _: self.ends.__setitem__(number, int(self.env.now)))


def in_bus_cycles(cycles: int, clock_MHz: float, settings: DramConfig) -> int:
    return -int(-cycles * Fraction(1_000_000) / Fraction(repr(clock_MHz)) // settings.tCK_ps)


def as_trace(played: Played) -> tuple[Array, list[int]]:
    """Return every line that was asked for as a run of its own, and to which access it belongs."""
    found, owner = [], []
    for number, one in enumerate(played.asked):
        at = in_bus_cycles(one.at, played.clock_MHz, played.settings)
        for row in range(one.rows):
            first = BASES[one.region] + one.offset + row * one.stride
            for line in range(first // LINE_BYTES, (first + one.n_bytes - 1) // LINE_BYTES + 1):
                run = np.zeros(RUN_FIELDS, np.int64)
                run[[FIRST, LINES, WRITE, AT, LEFT]] = line, 1, one.direction == "write", at, 1
                found.append(run)
                owner.append(number)
    return np.array(found), owner


@pytest.mark.parametrize("seed", SEEDS)
def test_accesses_of_several_processes_are_one_trace(seed: int) -> None:
    """Cycles, what requests found, latencies and the end of every access; run compression and slices change nothing."""
    played = Played(seed)
    runs, owner = as_trace(played)
    channels = Channels(played.settings)
    channels.serve(runs)
    told, ours = channels.counters, played.port.metrics()
    assert ours["dram_row_hit_requests"] == told.hits and ours["dram_row_miss_requests"] == told.misses
    assert ours["dram_row_conflict_requests"] == told.conflicts and ours["dram_read_requests"] == told.reads
    assert ours["dram_read_latency_ns"] == told.read_latency_cycles * played.settings.tCK_ps / 1000
    for number, one in enumerate(played.asked):
        end = max(int(runs[i, END]) for i in range(len(runs)) if owner[i] == number)
        cycles = end * Fraction(played.settings.tCK_ps) * Fraction(repr(played.clock_MHz)) / 1_000_000
        assert played.ends[number] == max(-int(-cycles // 1), one.at)


def test_a_read_that_is_answered_by_a_waiting_write() -> None:
    """Its end is known in the cycle of its acceptance; who waited for it asks again before anything else happens."""
    env = simpy.Environment()
    port = Dram(config("A")).port(env, 800.0)
    ends: dict[str, int] = {}

    def first() -> Generator[Any, Any, None]:
        yield env.timeout(1)
        read, write = port.access("read", "weights", 0, 64), port.access("write", "ofmap", 64 * 64, 64)
        read.callbacks.append(lambda _: ends.__setitem__("read", int(env.now)))
        yield write
        ends["write"] = int(env.now)

    def second() -> Generator[Any, Any, None]:
        yield env.timeout(12)
        yield port.access("read", "ofmap", 64 * 64, 64)
        ends["answered"] = int(env.now)
        yield port.access("read", "weights", 16384 * 64, 64)
        ends["last"] = int(env.now)

    env.process(first())
    env.process(second())
    env.run()
    runs = np.zeros((4, RUN_FIELDS), np.int64)
    for i, (line, write, at) in enumerate([(0, 0, 1), (64, 1, 1), (64, 0, 12), (16384, 0, 13)]):
        runs[i, [FIRST, LINES, WRITE, AT, LEFT]] = line, 1, write, at, 1
    Channels(config("A")).serve(runs)
    assert port.metrics()["dram_queue_requests"] == 1 and ends["answered"] == 13
    assert [ends[name] for name in ("read", "write", "answered", "last")] == runs[:, END].tolist()


def test_the_processes_do_what_they_are_there_for() -> None:
    """They overlap, write and read, hit, miss and conflict, and last longer than a refresh interval."""
    every = [Played(seed) for seed in SEEDS]
    assert {one.direction for played in every for one in played.asked} == {"read", "write"}
    assert sum(played.port.metrics()["dram_row_conflict_requests"] for played in every) > 20
    assert sum(played.port.counts()["dram.refresh"] for played in every) > 15
    overlapping = [p for p in every if any(p.ends[i] > p.asked[i + 1].at for i in range(len(p.asked) - 1))]
    assert len(overlapping) > 8


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_are_those_of_the_memory(seed: int) -> None:
    """Every count is declared and priced; lines hold at least the bytes; cycles add up to the time."""
    port = Played(seed).port
    counts, ours = port.counts(), port.metrics()
    assert counts.keys() <= ACTIONS == Dram(config("A")).prices.prices.keys()
    assert counts["dram.active_cycle"] + counts["dram.idle_cycle"] == ours["dram_bus_cycles"]
    for region in REGIONS:
        for direction in ("read", "write"):
            bits = counts[f"dram_{region}.{direction}_bit"]
            assert bits == 512 * counts[f"dram_{region}.{direction}"]
            assert ours["dram_queue_requests"] or bits >= 8 * port.bytes_moved.get((region, direction), 0)


@pytest.mark.parametrize(("name", "opens", "hits"), [("A", 25, 15), ("C", 37, 21)])
def test_idle_latencies(name: str, opens: int, hits: int) -> None:
    """A closed bank costs 1 + tRCD + CL + burst, an open row 1 + CL + burst. Source: the closed forms of the rules."""
    settings = config(name, tCK_ps=1000)
    env = simpy.Environment()
    port = Dram(settings).port(env, 1000.0)
    for cycles in (opens, hits):
        start = env.now
        env.run(port.access("read", "weights", 0, 64))
        assert env.now - start == cycles


def test_nothing_to_move_takes_no_time_and_counts_nothing() -> None:
    env = simpy.Environment()
    port = Dram(config("A")).port(env, 200.0)
    env.run(port.access("read", "ifmap", 0, 0))
    assert env.now == 0 and not port.counts()


def test_a_channel_that_waits_is_refreshed() -> None:
    env = simpy.Environment()
    port = Dram(config("A")).port(env, 800.0)
    env.run(env.timeout(62_500))
    assert port.counts() == {"dram.refresh": 10, "dram.idle_cycle": 62_500}
