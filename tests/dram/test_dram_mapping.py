"""Which bits of an address are channel, row, bank, group and column; several channels are several memories."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from pydantic import ValidationError

from archsim.memory.dram.channels import Channels
from archsim.memory.dram.config import DramConfig
from archsim.memory.dram.controller import Controller, rules_of, served
from archsim.memory.dram.fields import ACT, END, FIRST, GAP, LEFT, LINES, RUN_FIELDS, Array
from tests.dram.traces import config, trace

SIZES = {"channel": 4, "row": 65536, "bank": 4, "group": 4, "column": 128}
"""Of configuration C with four channels."""


def decoded(mapping: str, line: int) -> dict[str, int]:
    """Take the fields of an address apart, the least significant first."""
    found = {}
    for name in reversed(mapping.split("-")):
        line, found[name] = divmod(line, SIZES[name])
    return found


@pytest.mark.parametrize("order", list(itertools.permutations(("row", "bank", "group", "column"))), ids="-".join)
def test_a_line_opens_the_row_its_mapping_names(order: tuple[str, ...]) -> None:
    choose, mapping = random.Random(str(order)), "-".join(order)
    for line in (choose.randrange(1 << 27) for _ in range(8)):
        expected, log = decoded(mapping, line), np.zeros((2, 4), np.int64)
        Controller(config("C", mapping=mapping)).offer(np.array([line]), np.array([0]), log=log)
        assert log[0, 1:].tolist() == [ACT, 4 * expected["group"] + expected["bank"], expected["row"]]


@pytest.mark.parametrize("order", list(itertools.permutations(SIZES))[::7], ids="-".join)
def test_a_channel_has_the_lines_its_bits_give_it(order: tuple[str, ...]) -> None:
    choose, mapping = random.Random(str(order)), "-".join(order)
    several = config("C", mapping=mapping, channels=4)
    for line in (choose.randrange(1 << 29) for _ in range(8)):
        expected, log = decoded(mapping, line), np.zeros((2, 4), np.int64)
        parts = Channels(several).split(run_of(line, 1))
        assert [len(runs) for runs, _ in parts] == [int(k == expected["channel"]) for k in range(4)]
        Controller(several).serve(parts[expected["channel"]][0], log)
        assert log[0, 1:].tolist() == [ACT, 4 * expected["group"] + expected["bank"], expected["row"]]


def test_the_channel_is_just_above_the_column() -> None:
    assert config("C", channels=2).address_bits == {
        "column": (0, 7), "channel": (7, 1), "group": (8, 2), "bank": (10, 2), "row": (12, 16),
    }  # fmt: skip
    assert config("A", channels=4, mapping="channel-row-bank-group-column").address_bits["channel"] == (24, 2)
    assert rules_of(config("C", channels=2)) == rules_of(config("C"))


def test_what_comes_of_several_channels() -> None:
    one, four = config("A"), config("A", channels=4)
    assert four.capacity_bytes == 4 * one.capacity_bytes == 4 << 30
    assert one.peak_bandwidth_GB_per_s == pytest.approx(12.8) and four.peak_bandwidth_GB_per_s == pytest.approx(51.2)


@pytest.mark.parametrize("mapping", ["row-bank-column", "row-bank-group-column-lane", "row-row-group-column", ""])
def test_a_wrong_mapping_is_refused(mapping: str) -> None:
    with pytest.raises(ValidationError, match="mapping must name row, bank, group, column, and channel if you like"):
        config("A", mapping=mapping)


def test_channels_are_a_power_of_two_and_one_controller_is_one_channel() -> None:
    with pytest.raises(ValidationError, match="channels must be a power of two, got 3"):
        config("A", channels=3)
    with pytest.raises(ValueError, match="one controller is one channel, the memory has 2"):
        served(config("A", channels=2), [])


def run_of(first: int, lines: int, **columns: int) -> Array:
    run = np.zeros((1, RUN_FIELDS), np.int64)
    run[0, FIRST], run[0, LINES], run[0, LEFT] = first, lines, lines
    run[0, GAP] = columns.get("gap", 0)
    return run


def lines_of(several: DramConfig, parts: Array, channel: int) -> Array:
    """Return the lines of the whole memory that the runs of a channel are, and when each is offered."""
    shift, bits = several.address_bits["channel"]
    local = np.concatenate([first + np.arange(n) for first, n in parts[:, [FIRST, LINES]]])
    at = np.concatenate([run[3] + np.arange(run[LINES]) * run[GAP] for run in parts])
    return np.stack([local >> shift << (shift + bits) | channel << shift | local & ((1 << shift) - 1), at], axis=1)


@pytest.mark.parametrize("gap", [0, 5])
@pytest.mark.parametrize(
    "mapping", ["row-bank-group-column", "row-bank-group-column-channel", "channel-row-bank-group-column"]
)
def test_the_parts_of_a_run_are_its_lines(mapping: str, gap: int) -> None:
    several = config("C", channels=4, mapping=mapping)
    run = run_of(1000, 3000, gap=gap)
    split = Channels(several).split(run)
    assert gap or all(len(parts) <= 1 for parts, _ in split)
    found = np.concatenate([lines_of(several, parts, k) for k, (parts, _) in enumerate(split) if len(parts)])
    found = found[np.argsort(found[:, 0])]
    np.testing.assert_array_equal(found[:, 0], 1000 + np.arange(3000))
    np.testing.assert_array_equal(found[:, 1], gap * np.arange(3000))


def test_channels_with_traffic_of_their_own_are_so_many_memories() -> None:
    """Runs that stay in one channel each, mixed: each channel does what a memory of one channel does with its runs."""
    several, choose = config("C", channels=4, mapping="channel-row-bank-group-column"), random.Random(1)
    alone, mixed = [Controller(config("C")) for _ in range(4)], []
    for i in range(60):
        length = choose.choice([1, 30, 400])
        mixed.append(
            (choose.randrange(1 << 20), length, choose.random() < 0.3, 50 * i, choose.choice([0, 4]), 0, length, 0)
        )
    runs, owners = np.array(mixed, np.int64), np.arange(60) % 4
    ends = np.zeros(60, np.int64)
    for k in range(4):
        part = runs[owners == k]
        alone[k].serve(part)
        ends[owners == k] = part[:, END]
    together, memory = runs.copy(), Channels(several)
    together[:, FIRST] += owners * (several.capacity_bytes // 64 // 4)
    memory.serve(together)
    assert [one.counters for one in memory.controllers] == [one.counters for one in alone]
    np.testing.assert_array_equal(together[:, END], ends)
    assert not together[:, LEFT].any()
    every, merged = [one.counters for one in alone], memory.counters
    assert merged.cycles == max(one.cycles for one in every) and merged.reads == sum(one.reads for one in every)
    assert merged.active_cycles + merged.idle_cycles == 4 * merged.cycles
    assert merged.active_cycles == sum(one.active_cycles_until(merged.cycles) for one in every)


def test_a_stream_is_four_times_as_fast_on_four_channels() -> None:
    one, four = (Channels(config("A", channels=n)) for n in (1, 4))
    for memory in (one, four):
        run = run_of(0, 200_000)
        memory.serve(run)
        assert run[0, END] == memory.counters.cycles and memory.counters.reads == 200_000
    assert one.controllers[0].counters == served(config("A"), [(np.arange(200_000), np.zeros(200_000, np.int64))])
    assert 3.9 < one.counters.cycles / four.counters.cycles < 4.1


@pytest.mark.parametrize("gap", [0, 3])
def test_a_trace_is_its_channels_traces(gap: int) -> None:
    lines, writes = trace("C", "randrw", 20000)
    memory, alone = Channels(config("C", channels=2)), [Controller(config("C")) for _ in range(2)]
    memory.offer(lines, writes, 7, gap, chunk=999)
    for k in range(2):
        mine = lines // 128 % 2 == k
        local = lines[mine] // 256 * 128 + lines[mine] % 128
        alone[k].offer_at(local, writes[mine], 7 + gap * np.arange(20000)[mine])
    assert [one.counters for one in memory.controllers] == [one.counters for one in alone]
    assert memory.counters.reads + memory.counters.forwarded == 20000 - writes.sum()
