"""Cycles of lanes, PEs and the array: published cases, laws, and a count by hand over portions, kernels and groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.accelerators.base import Placement
from archsim.accelerators.clockwork import Timed, simulate_batch
from archsim.accelerators.snapea.actions import dense_activity
from archsim.accelerators.snapea.lanes import group_drain, group_steps, input_reads, lane_reads, pe_cycles
from archsim.accelerators.snapea.plan import SnapeaPlan, as_conv, choose_portions, cut_portions, portion_words
from archsim.accelerators.snapea.schedule import busy_batches, compute_cycles
from archsim.errors import MappingError
from archsim.memory.base import Memory, memory_class
from archsim.sim import Timeline
from archsim.workload.layers import Conv, Linear
from tests.unit import snapea_twins as twin
from tests.unit.snapea_cases import RELU, LayerCase, config, random_layer, random_speculation
from tests.unit.test_snapea_order import TARGETS

SMALL = {"pe_rows": 3, "pe_columns": 2, "weight_buffer_bytes": 32, "index_buffer_bytes": 32, "chunk_weights": 5}
"""A small array: portions, kernels and chunks do not come out even on layers of a few windows."""


def link(bandwidth_GB_per_s: float = float("inf")) -> Memory:
    kind = memory_class("link")
    fields = {"latency_ns": 0.0, "energy_pJ_per_bit": 1.0, "price_source": "test"}
    return kind(kind.Config(bandwidth_GB_per_s=bandwidth_GB_per_s, **fields))


def timed(
    case: LayerCase, bandwidth_GB_per_s: float = float("inf"), place: Placement | None = None, **changes: Any
) -> Timed:
    """Simulate the first batch of a case."""
    machine, plan = case.machine(**changes), case.plan(place, **changes)
    batch = machine.execute(case.conv, plan, case.x, case.stored(**changes), case.setting, None).batches[0]  # type: ignore[arg-type]
    return simulate_batch(machine, link(bandwidth_GB_per_s), case.conv, plan, batch)


# lanes ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", TARGETS["worked_pe_cases"], ids=str)
def test_worked_pe(case: dict[str, Any]) -> None:
    K, bubble, slowest = case["K"], case["B"], np.array([max(ops) for ops in case["group_ops"]])
    cycles = group_steps(K, slowest, bubble)
    cycles[-1] += group_drain(K, slowest[-1], bubble)
    assert cycles.tolist() == case["group_cycles"]
    assert pe_cycles(np.full(len(slowest), K), slowest, bubble) == case["cycles"]
    assert group_steps(K, slowest, bubble).sum() == case["weight_buffer_read"] == case["index_buffer_read"]
    assert input_reads(K, slowest, bubble).sum() == case["input_ram_read"]
    assert case["L"] * case["cycles"] - sum(map(sum, case["group_ops"])) == case["lane_idle"]
    told = twin.run_pe(K, case["group_ops"], bubble)
    assert told["cycles"] == case["cycles"] and told["idle"] == case["lane_idle"]


@given(st.integers(1, 40), st.integers(0, 6), st.integers(1, 8), st.data())
def test_groups_equal_the_written_rules(K: int, bubble: int, lanes: int, data: st.DataObject) -> None:
    ops = data.draw(st.lists(st.lists(st.integers(1, K), min_size=lanes, max_size=lanes), min_size=1, max_size=9))
    slowest = np.array([max(group) for group in ops])
    told = twin.run_pe(K, ops, bubble)
    assert pe_cycles(np.full(len(ops), K), slowest, bubble) == told["cycles"]
    assert group_steps(K, slowest, bubble).sum() == told["weight_reads"]
    assert input_reads(K, slowest, bubble).sum() == told["input_reads"]
    gated = lane_reads(K, slowest[:, None], np.array(ops), bubble)
    assert (gated >= np.array(ops)).all() and gated.sum() <= lanes * told["input_reads"]
    assert (gated.max(axis=1) == input_reads(K, slowest, bubble)).all()  # the slowest lane reads all the group reads


@given(st.integers(1, 30), st.integers(0, 6), st.integers(1, 4), st.integers(1, 21), st.data())
def test_lane_laws(K: int, bubble: int, rows: int, Q: int, data: st.DataObject) -> None:
    """More lanes never take longer, twice the lanes never less than half as long: ragged rows, last drain included."""
    op = np.array(data.draw(st.lists(st.integers(1, K), min_size=rows * Q, max_size=rows * Q))).reshape(rows, Q)
    cycles = {}
    for lanes in (1, 2, 4, 8, 16):
        padded = np.pad(op, ((0, 0), (0, -Q % lanes))).reshape(rows, -1, lanes).max(axis=2).reshape(-1)
        cycles[lanes] = pe_cycles(np.full(len(padded), K), padded, bubble)
    for lanes in (1, 2, 4, 8):
        assert cycles[2 * lanes] <= cycles[lanes] <= 2 * cycles[2 * lanes]


@pytest.mark.parametrize("order", ["magnitude", "index"])
@pytest.mark.parametrize("sign_compare", ["<", "<="])
def test_exact_mode_never_beats_the_ceiling(order: str, sign_compare: str) -> None:
    tight = 0
    for seed in range(60):
        case = random_layer(seed)
        told = dict(case.run(region_order=order, sign_compare=sign_compare).batches[0].metrics)
        done = case.run(region_order=order, sign_compare=sign_compare).batches[0].macs_done
        assert told["bound_macs"] <= done <= told["streamed_macs"]
        tight += told["bound_macs"] == done < told["streamed_macs"]
        nu, pi = told["negative_windows"] / told["total_windows"], told["non_negative_macs"] / told["streamed_macs"]
        assert 0 <= nu <= 1 and 0 <= pi <= 1
    assert tight > 0


# the array, by hand ---------------------------------------------------------------------------------------------------
def portions_by_hand(plan: SnapeaPlan, conv: Conv) -> list[tuple[int, range, range]]:
    """Image, output rows and output columns of every portion, in the order they are dealt out."""
    return [
        (n, range(p, min(p + plan.portion_rows, conv.P)), range(q, min(q + plan.portion_columns, conv.Q)))
        for n in range(conv.N)
        for p in range(0, conv.P, plan.portion_rows)
        for q in range(0, conv.Q, plan.portion_columns)
    ]


def groups_by_hand(op: Any, m: int, portion: tuple[int, range, range], lanes: int) -> Iterator[list[int]]:
    """Steps of the lanes of every group, raster order; lanes without a window did nothing."""
    n, rows, columns = portion
    for p in rows:
        for q in range(columns.start, columns.stop, lanes):
            ops = [int(op[n, m, p, i]) for i in range(q, min(q + lanes, columns.stop))]
            yield ops + [0] * (lanes - len(ops))


def pe_by_hand(case: LayerCase, plan: SnapeaPlan, op: Any, portion: Any, column: int, cfg: Any) -> dict[str, int]:
    """Events of one PE for one portion: its kernels one after another, the last group drains."""
    total = {"cycles": 0, "weight_reads": 0, "input_reads": 0, "macs": 0, "idle": 0, "delivered": 0}
    kernels = range(column, case.conv.M, cfg.pe_columns)
    for m in kernels:
        K, groups = plan.kernel_weights[m], list(groups_by_hand(op, m, portion, plan.lanes))
        told = twin.run_pe(K, groups, cfg.bubble_cycles)
        if m != kernels[-1]:  # followed by the next kernel's first group: no drain
            drain = max(groups[-1]) + cfg.bubble_cycles - min(K, max(groups[-1]) + cfg.bubble_cycles)
            told["cycles"] -= drain
            told["idle"] -= drain * plan.lanes
        if cfg.buffered_weights >= K:
            told["delivered"] = K
        else:
            steps = [min(K, max(ops) + cfg.bubble_cycles) for ops in groups]
            told["delivered"] = sum(min(K, (-(-s // cfg.chunk_weights) + 1) * cfg.chunk_weights) for s in steps)
        for name, value in told.items():
            total[name] += value
    return total


def array_by_hand(case: LayerCase, cfg: Any, plan: SnapeaPlan) -> tuple[int, dict[str, int]]:
    """Cycles of the array and events of all PEs."""
    op = case.window_ops(**{**SMALL, "bubble_cycles": cfg.bubble_cycles, "mode": cfg.mode})[: case.conv.N]
    row_cycles, events = (
        [0] * cfg.pe_rows,
        dict.fromkeys(("weight_reads", "input_reads", "macs", "idle", "delivered"), 0),
    )
    for i, portion in enumerate(portions_by_hand(plan, case.conv)):
        pes = [pe_by_hand(case, plan, op, portion, v, cfg) for v in range(min(cfg.pe_columns, case.conv.M))]
        row_cycles[i % cfg.pe_rows] += max(pe["cycles"] for pe in pes)
        for name in events:
            events[name] += sum(pe[name] for pe in pes)
    return max(row_cycles), events


@pytest.mark.parametrize("bubble", [0, 3, 5])
@pytest.mark.parametrize("seed", [0, 1, 2, 5, 7, 9, 12, 16])
def test_array_equals_a_count_by_hand(seed: int, bubble: int) -> None:
    case = random_speculation(random_layer(seed), seed) if seed % 2 else random_layer(seed)
    changes = {**SMALL, "bubble_cycles": bubble, "mode": "predictive" if seed % 2 else "exact", "io_ram_bytes": 1200}
    cfg, plan = config(**changes), case.plan(**changes)
    cycles, events = array_by_hand(case, cfg, plan)
    done = timed(case, **changes)
    assert done.cycles == cycles
    counts = done.counts
    assert counts["weight_buffer.read"] == counts["index_buffer.read"] == events["weight_reads"]
    assert counts["input_ram.read"] == events["input_reads"]
    assert counts["pe.mac"] == counts["accumulator.read"] == counts["accumulator.write"] == events["macs"]
    assert counts["lane.idle"] == events["idle"]
    assert counts["weight_buffer.write"] == counts["index_buffer.write"] == events["delivered"]
    assert counts["noc.weight_delivery"] == 2 * events["delivered"]
    conv = case.conv
    assert counts["output_ram.write"] == conv.N * conv.M * conv.P * conv.Q


def test_small_arrays_cut_unevenly() -> None:
    """The cases above have several turns, a last one that is not full, and kernels of more than one chunk."""
    plans = [random_layer(seed).plan(**SMALL, io_ram_bytes=1200) for seed in (0, 1, 2, 5, 7, 9, 12, 16)]
    assert any(plan.turns > 1 and plan.portions % 3 for plan in plans)
    assert any(max(plan.kernel_weights) > 16 for plan in plans) and any(
        max(plan.kernel_weights) <= 16 for plan in plans
    )


def lock_step_by_hand(case: LayerCase, cfg: Any, plan: SnapeaPlan) -> int:
    """Cycles of `column_sync`: the rows of a column wait for each other after every group, all columns after a turn."""
    op = case.window_ops(**SMALL)[: case.conv.N]
    portions = portions_by_hand(plan, case.conv)
    cycles = 0
    for first in range(0, len(portions), cfg.pe_rows):
        turn, longest = portions[first : first + cfg.pe_rows], 0
        for v in range(min(cfg.pe_columns, case.conv.M)):
            column, kernels = 0, range(v, case.conv.M, cfg.pe_columns)
            for m in kernels:
                K, rows = plan.kernel_weights[m], [list(groups_by_hand(op, m, one, plan.lanes)) for one in turn]
                slowest = [max(max(row[g]) for row in rows if g < len(row)) for g in range(max(map(len, rows)))]
                column += sum(min(K, s + cfg.bubble_cycles) for s in slowest)
                if m == kernels[-1]:
                    column += slowest[-1] + cfg.bubble_cycles - min(K, slowest[-1] + cfg.bubble_cycles)
            longest = max(longest, column)
        cycles += longest
    return cycles


@pytest.mark.parametrize("seed", [0, 2, 5, 7, 12, 16])
def test_columns_in_step_equal_a_count_by_hand(seed: int) -> None:
    case = random_layer(seed)
    changes = {**SMALL, "weight_stream": "column_sync", "io_ram_bytes": 1200}
    cfg, plan = config(**changes), case.plan(**changes)
    done = timed(case, **changes)
    assert done.cycles == lock_step_by_hand(case, cfg, plan)
    assert done.cycles >= timed(case, **{**changes, "weight_stream": "ideal"}).cycles
    slow = timed(case, 0.05, **changes)
    assert slow.cycles > done.cycles and slow.timing.bound == "dram"
    assert slow.memory_counts == done.memory_counts  # what is asked for does not depend on when it comes
    in_series = timed(case, 0.05, **changes, double_buffered=False)
    assert in_series.cycles >= slow.cycles


# memory ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bandwidth_GB_per_s", [0.05, 0.5, 2.0, 16.0])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_a_layer_takes_the_longer_of_computing_and_moving(seed: int, bandwidth_GB_per_s: float) -> None:
    case, cfg = random_layer(seed), config()
    done, free = timed(case, bandwidth_GB_per_s), timed(case)
    moved_bits = sum(done.memory_counts.values())
    link_cycles = -(-moved_bits * cfg.clock_MHz // (8 * 1000 * bandwidth_GB_per_s))
    assert done.cycles == max(free.cycles, link_cycles)
    assert done.timing.bound == ("compute" if free.cycles >= link_cycles else "dram")
    assert done.timing.metrics["stall_cycles"] == done.cycles - free.cycles
    series = timed(case, bandwidth_GB_per_s, double_buffered=False)
    assert link_cycles + free.cycles <= series.cycles <= link_cycles + free.cycles + 1  # reads and writes round up


def test_termination_off_is_the_same_array_in_mode_dense() -> None:
    for seed in (0, 1, 4, 7):
        for stream in ("ideal", "column_sync"):
            case = random_layer(seed)
            done, dense = (timed(case, 0.4, mode=mode, weight_stream=stream) for mode in ("exact", "dense"))
            told = done.timing.metrics
            assert told["termination_off_cycles"] == dense.cycles == dense.timing.metrics["termination_off_cycles"]
            assert told["termination_off_on_chip_energy_pJ"] == dense.timing.metrics["on_chip_energy_pJ"]
            assert done.counts["pe.mac"] < dense.counts["pe.mac"] == case.conv.macs_dense
            assert done.cycles <= dense.cycles


def test_dense_cycles_follow_from_the_sizes() -> None:
    """55 x 55 windows, 64 kernels of 144 weights on 8 x 8 PEs of 4 lanes: 7 rows of 14 groups, 8 kernels each."""
    conv = Conv(name="c", inputs=("x",), output="y", C=16, M=64, H=55, W=55, R=3, S=3, pad=(1, 1, 1, 1))
    cfg = config()
    rows, columns = choose_portions(cfg, conv)
    assert (rows, columns) == (7, 55)
    plan = SnapeaPlan(1, 8, 4, rows, columns, 8, 1, (144,) * 64, (0,) * 64, False, False)
    assert compute_cycles(cfg, plan, dense_activity(cfg, conv, plan).tiles) == 7 * 14 * 8 * 144 + 3


def test_lanes_that_stop_reading_save_words() -> None:
    case = random_layer(1)
    plain, gated = (timed(case, lane_gate_input=gate) for gate in (False, True))
    assert gated.cycles == plain.cycles and gated.counts["input_ram.read"] == 0
    assert plain.counts["pe.mac"] < gated.counts["input_ram.read_word"] < 4 * plain.counts["input_ram.read"]
    op, conv, K = case.window_ops(), case.conv, case.conv.weight_count // case.conv.M
    words = 0
    for m in range(conv.M):
        for n in range(conv.N):
            for group in groups_by_hand(op, m, (n, range(conv.P), range(conv.Q)), 4):
                reads = int(input_reads(K, max(group), 3))
                words += sum(min(one + 2, reads) for one in group if one)
    assert gated.counts["input_ram.read_word"] == words


def test_banks_that_collide_take_several_cycles() -> None:
    """Words of adjacent windows stand `stride` apart: with 4 banks and stride 2 two of them share a bank."""
    case = next(one for one in map(random_layer, range(40)) if one.conv.stride[1] == 2)
    plain, naive = (timed(case, input_banking=banking) for banking in ("conflict-free", "interleaved"))
    assert naive.cycles == 2 * plain.cycles
    assert [config(lanes=lanes, input_banking="interleaved").step_cycles(4) for lanes in (1, 2, 4, 8)] == [1, 2, 4, 4]


def test_trace_shows_every_portion() -> None:
    case = random_layer(0)
    for stream, track in (("ideal", "row 0"), ("column_sync", "column 0")):
        machine, plan = case.machine(weight_stream=stream), case.plan(weight_stream=stream)
        batch = case.run(weight_stream=stream).batches[0]
        timeline = Timeline(clock_MHz=500.0)
        simulate_batch(machine, link(), case.conv, plan, batch, timeline)
        names = {event["args"]["name"] for event in timeline.to_dict()["traceEvents"] if event["ph"] == "M"}
        assert "snapea" in names and track in names
        assert len(timeline) == (plan.portions if stream == "ideal" else plan.turns * case.conv.M)


# portions -------------------------------------------------------------------------------------------------------------
LARGE = Conv(
    name="big", inputs=("x",), output="y", C=64, M=64, H=224, W=224, R=3, S=3, pad=(1, 1, 1, 1), activation=RELU
)


def test_rows_that_do_not_fit_are_cut() -> None:
    cfg = config()
    assert portion_words(LARGE, 1, LARGE.Q) > cfg.row_words
    rows, columns = choose_portions(cfg, LARGE)
    assert columns % cfg.lanes == 0 and columns < LARGE.Q
    assert portion_words(LARGE, rows, columns) <= cfg.row_words


@pytest.mark.parametrize("size", [1, 7, 8, 13, 14, 27, 28, 55, 56, 111])
def test_portions_balance_the_rows_of_the_array(size: int) -> None:
    conv = replace(LARGE, H=size, W=size, C=8)
    cfg = config()
    rows, columns = choose_portions(cfg, conv)
    portions = cut_portions(conv, cfg.lanes, rows, columns)
    loads = np.bincount(np.arange(len(portions.groups)) % 8, portions.groups, 8)
    assert loads.sum() == size * -(-size // 4)
    best = -(-size // 8) * -(-size // 4)
    assert loads.max() == best


def test_input_that_does_not_fit_is_refused_with_both_numbers() -> None:
    conv = replace(LARGE, C=512)
    with pytest.raises(MappingError, match=r"'big'.*io_capacity replicated.*got 9216, limit 5120"):
        choose_portions(config(io_capacity="replicated"), conv)
    assert choose_portions(config(), conv)


def test_linear_layers_have_one_window_per_image() -> None:
    conv = as_conv(Linear(name="fc", inputs=("x",), output="y", N=5, C=400, M=120))
    assert (conv.P, conv.Q, conv.weight_count) == (1, 1, 48000)
    assert len(cut_portions(conv, 4, *choose_portions(config(), conv)).groups) == 5


def test_several_batches_at_once_equal_one_by_one() -> None:
    case = random_layer(7, batches=3)
    for stream in ("ideal", "column_sync"):
        cfg, plan = config(weight_stream=stream), case.plan(weight_stream=stream)
        op = case.outcome().group_op
        whole = busy_batches(cfg, case.conv, plan, op)
        assert whole == [busy_batches(cfg, case.conv, plan, op[:, [b]])[0] for b in range(3)]
        assert len(set(whole)) == 3
