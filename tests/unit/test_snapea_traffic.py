"""Words SnaPEA moves, counted pixel by pixel, and what stays on chip between layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from archsim.accelerators.base import Placement
from archsim.accelerators.snapea import Snapea
from archsim.accelerators.snapea.plan import SnapeaPlan
from archsim.accelerators.snapea.traffic import portion_input_words, turns_of
from archsim.workload.layers import Conv, Layer, Linear
from tests.unit.snapea_cases import LayerCase, config, random_layer, random_speculation
from tests.unit.test_snapea_timing import SMALL, portions_by_hand, timed

SEEDS = (0, 1, 2, 5, 7, 9, 12, 16)
CAPACITIES = ("unique", "replicated")
TINY = {**SMALL, "io_ram_bytes": 1200}
PREDICTIVE = {**TINY, "mode": "predictive"}


def pixels_by_hand(conv: Conv, portion: tuple[int, range, range]) -> set[tuple[int, int, int]]:
    """(image, row, column) of every pixel the windows of a portion cover; padding is none."""
    n, rows, columns = portion
    covered = {
        (n, p * conv.stride[0] - conv.pad[0] + r, q * conv.stride[1] - conv.pad[1] + s)
        for p in rows
        for q in columns
        for r in range(conv.R)
        for s in range(conv.S)
    }
    return {(n, h, w) for n, h, w in covered if 0 <= h < conv.H and 0 <= w < conv.W}


def turns_by_hand(case: LayerCase, plan: SnapeaPlan) -> Iterator[list[tuple[int, range, range]]]:
    portions = portions_by_hand(plan, case.conv)
    for first in range(0, len(portions), plan.pe_rows):
        yield portions[first : first + plan.pe_rows]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_turn_moves_what_its_windows_need(seed: int) -> None:
    case = random_layer(seed)
    conv, plan = case.conv, case.plan(**TINY)
    held: set[tuple[int, int, int]] = set()
    kept, anew = turns_of(conv, plan, True), turns_of(conv, plan, False)
    assert len(kept) == len(anew) == plan.turns
    for mine, once, again in zip(turns_by_hand(case, plan), kept, anew):
        needed = set().union(*(pixels_by_hand(conv, portion) for portion in mine))
        assert again.ifmap >= conv.C * len(needed)  # a rectangle also covers pixels that strides leave out
        assert once.ifmap <= again.ifmap
        assert once.ofmap == conv.M * sum(len(rows) * len(columns) for _, rows, columns in mine)
        assert once.kernels == 2 * conv.weight_count
        held |= needed
    words = conv.C * len(held)
    assert words <= sum(turn.ifmap for turn in kept) <= conv.N * conv.C * conv.H * conv.W
    if conv.stride == (1, 1):
        assert sum(turn.ifmap for turn in kept) == words
    assert sum(turn.ofmap for turn in kept) == conv.N * conv.M * conv.P * conv.Q


@pytest.mark.parametrize("seed", [seed for seed in range(40) if random_layer(seed).conv.stride == (1, 1)][:6])
def test_overlaps_of_a_turn_are_read_once_and_delivered_to_each(seed: int) -> None:
    case = random_layer(seed)
    conv, plan = case.conv, case.plan(**TINY)
    for mine, turn in zip(turns_by_hand(case, plan), turns_of(conv, plan, False)):
        assert turn.ifmap == conv.C * len(set().union(*(pixels_by_hand(conv, portion) for portion in mine)))
    delivered = sum(len(pixels_by_hand(conv, portion)) for portion in portions_by_hand(plan, conv))
    assert portion_input_words(conv, plan) == conv.C * delivered


@pytest.mark.parametrize("seed", SEEDS)
def test_the_link_carries_what_the_turns_say(seed: int) -> None:
    case = random_speculation(random_layer(seed), seed)
    fits = config(**TINY).map_words >= case.conv.N * case.conv.C * case.conv.H * case.conv.W
    turns, done = turns_of(case.conv, case.plan(**PREDICTIVE), fits), timed(case, **PREDICTIVE)
    assert done.memory_counts["link.read_bit"] == 16 * sum(turn.ifmap + turn.kernels for turn in turns)
    assert done.memory_counts["link.write_bit"] == 16 * sum(turn.ofmap for turn in turns)
    speculating = sum(row["level"] for row in case.setting.tables["speculation"])
    assert turns[0].kernels == 2 * case.conv.weight_count + 2 * speculating


def test_maps_that_stay_on_chip_move_nothing() -> None:
    case = random_layer(0)
    at_home = timed(case, place=Placement(frozenset({"ifmap", "ofmap"})))
    away = timed(case)
    assert at_home.memory_counts["link.write_bit"] == 0 < away.memory_counts["link.write_bit"]
    turns = case.plan().turns
    assert at_home.memory_counts["link.read_bit"] == 16 * 2 * case.conv.weight_count * turns
    assert at_home.counts["output_ram.write"] == away.counts["output_ram.write"]
    assert at_home.cycles == away.cycles


def conv(name: str, M: int, size: int, C: int = 8) -> Conv:
    return Conv(name=name, inputs=(f"to {name}",), output=name, C=C, M=M, H=size, W=size, R=1, S=1)


def on_chip(layers: list[Layer], **changes: object) -> dict[str, set[str]]:
    return {name: set(one.chip) for name, one in Snapea(config(**changes)).place(layers).items()}


@pytest.mark.parametrize(("capacity", "words"), [("unique", 327_680), ("replicated", 40_960)])
def test_maps_stay_while_both_sides_fit_half_of_the_rams(capacity: str, words: int) -> None:
    assert config(io_capacity=capacity).map_words == words
    channels = words // 64
    layers: list[Layer] = [conv("a", channels, 8), conv("b", channels + 1, 8, channels), conv("c", 4, 8, channels + 1)]
    assert on_chip(layers, io_capacity=capacity) == {"a": {"ofmap"}, "b": {"ifmap"}, "c": set()}


def test_capacities_of_the_thesis_disagree_about_alexnet() -> None:
    """A13: conv3's input (43,264 words) exceeds the replicated capacity, conv1's output (290,400) fits only unique."""
    conv1 = Conv(name="conv1", inputs=("x",), output="y", C=3, M=96, H=227, W=227, R=11, S=11, stride=(4, 4))
    assert conv1.M * conv1.P * conv1.Q == 290_400
    conv3 = Conv(name="conv3", inputs=("y",), output="z", C=256, M=384, H=13, W=13, R=3, S=3, pad=(1, 1, 1, 1))
    before = replace(conv3, name="conv2", inputs=("x",), output="y", C=96, M=256)
    for capacity, stays in (("unique", {"ofmap"}), ("replicated", set())):
        assert (
            on_chip([conv1, replace(before, inputs=("y",), output="z", H=27, W=27)], io_capacity=capacity)["conv1"]
            == stays
        )
        assert on_chip([before, conv3], io_capacity=capacity)["conv2"] == stays


def test_batches_need_more_room() -> None:
    layers: list[Layer] = [replace(conv("a", 5120, 8), N=n) for n in (1, 2)]
    assert on_chip([layers[0], conv("b", 1, 8, 5120)])["a"] == {"ofmap"}
    assert on_chip([layers[1], replace(conv("b", 1, 8, 5120), N=2)])["a"] == set()


def fire(expanded: int, squeezed: int = 16) -> list[Layer]:
    """A fire module and the next one's first layer: two layers read one map, their outputs are joined."""
    squeeze = replace(conv("squeeze", squeezed, 8), inputs=("x",))
    expands = [replace(conv(name, expanded, 8, squeezed), inputs=("squeeze",)) for name in ("expand1", "expand3")]
    return [squeeze, *expands, replace(conv("next", 4, 8, 2 * expanded), inputs=("joined",))]


def test_writers_and_readers_of_a_map_agree_where_it_lies() -> None:
    both = {"ifmap", "ofmap"}
    assert on_chip(fire(64)) == {"squeeze": {"ofmap"}, "expand1": both, "expand3": both, "next": {"ifmap"}}
    half = config().map_words // 64 // 2  # channels of a joined map that just fits
    assert on_chip(fire(half))["next"] == {"ifmap"}
    large = on_chip(fire(half + 1))
    assert large == {"squeeze": {"ofmap"}, "expand1": {"ifmap"}, "expand3": {"ifmap"}, "next": set()}
    wide = on_chip(fire(8, 2 * half + 1))
    assert wide == {"squeeze": set(), "expand1": {"ofmap"}, "expand3": {"ofmap"}, "next": {"ifmap"}}


def test_linear_layers_hand_their_vectors_on() -> None:
    layers: list[Layer] = [
        Linear(name="fc1", inputs=("x",), output="y", C=400, M=120),
        Linear(name="fc2", inputs=("y",), output="z", C=120, M=84),
    ]
    assert on_chip(layers) == {"fc1": {"ofmap"}, "fc2": {"ifmap"}}


@pytest.mark.parametrize("seed", SEEDS)
def test_thresholds_are_read_with_their_kernels_in_both_streams(seed: int) -> None:
    """Kernels that fit the buffers are streamed once per turn, whole: both streams read the same words."""
    case = random_speculation(random_layer(seed), seed)
    changes = {**PREDICTIVE, "weight_buffer_bytes": 512, "index_buffer_bytes": 512}
    assert case.conv.weight_count // case.conv.M <= config(**changes).buffered_weights
    ideal, in_step = (
        timed(case, **{**changes, "weight_stream": stream}).memory_counts["link.read_bit"]
        for stream in ("ideal", "column_sync")
    )
    assert ideal == in_step


def test_copies_in_a_row_are_written_by_every_pe() -> None:
    case = random_layer(1)
    unique, copies = (timed(case, io_capacity=capacity).counts["input_ram.write"] for capacity in CAPACITIES)
    columns = min(config().pe_columns, case.conv.M)
    assert columns > 1 and copies == columns * unique
