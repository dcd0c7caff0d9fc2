"""The MAC array in Verilog against its model, NumPy's integers and the cycles of `timing.py`; mutants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.accelerators.base import Stored
from archsim.accelerators.bsg.activity import batch_activity
from archsim.accelerators.bsg.config import PRESETS, BsgConfig
from archsim.accelerators.bsg.mac_cases import ArrayCase, Piece, integers, make_case, position_ranges, random_cases
from archsim.accelerators.bsg.mac_model import BsgMacArray, parameters_of
from archsim.accelerators.bsg.mac_rtl import BSG_MAC_ARRAY, cases_from
from archsim.accelerators.bsg.plan import BsgPlacement, plan_layer
from archsim.accelerators.bsg.timing import layer_cycles, visit_cycles
from archsim.assets import data_folder
from archsim.config import load_study
from archsim.cosim.campaign import layer_inputs, tiles_of
from archsim.cosim.job import Verdict
from archsim.cosim.simulator import build, choose_simulator, run
from archsim.cosim.verilog import source_of
from archsim.errors import MappingError
from archsim.rtl import Signals
from archsim.workload.layers import Conv
from tests.bsg.bsg_layers import conv, shape_only

pytestmark = pytest.mark.cosim

SMALL = {"array_rows": 4, "array_columns": 3, "slice_shape": (6, 3, 2, 2), "partition_words": 144}


def config(**changes: Any) -> BsgConfig:
    return BsgConfig(**{**PRESETS["zynq7020"], **changes})


def simulated(
    cases: list[ArrayCase], one: BsgConfig, folder: Path, source: Path | None = None, layer: Conv | None = None
) -> Verdict:
    return run(build(BSG_MAC_ARRAY, parameters_of(one, layer), choose_simulator(), source=source), cases, folder)


def piece_of(one: BsgConfig, layer: Conv, partitions: int = 1, *, generated: bool = True) -> Piece:
    """Random integers in a layer."""
    placed = BsgPlacement(partitions=partitions)
    plan = plan_layer(one, layer, placed, generated=generated, able=True, affine_words=0)
    rng = np.random.default_rng(9)
    weights = rng.integers(-one.n_c, one.n_c + 1, (plan.slices, *one.slice_shape))
    maps = rng.integers(-128, 128, (layer.C, layer.H + 2, layer.W + 2)).astype(np.int8)
    return Piece(one, layer, plan, weights, maps, position_ranges(plan))


def trace(case: ArrayCase, one: BsgConfig) -> Iterator[tuple[Signals, Signals]]:
    """Inputs and outputs of the model, without the reset."""
    return islice(case.play(BsgMacArray(parameters_of(one))), 1, None)


CASES = 12
SIZES: dict[str, dict[str, Any]] = {
    "16x8": {},
    "small": SMALL,
    "single": {"array_rows": 1, "array_columns": 1, "slice_shape": (2, 2, 2, 1), "partition_words": 24},
    "wide": {"array_rows": 3, "array_columns": 9, "slice_shape": (7, 5, 1, 3), "partition_words": 300, "n_c": 48},
    "in turn": {**SMALL, "overlap": False},
    "loaded": {**SMALL, "design": "baseline"},
}


@pytest.mark.parametrize("size", SIZES)
def test_random_layers(size: str, tmp_path: Path) -> None:
    """Every output in every cycle, all sums in the end; cycles by the law wherever nothing comes late."""
    one = config(**SIZES[size])
    cases = list(islice(random_cases(one, 5), CASES))
    verdict = simulated(cases, one, tmp_path)
    assert verdict.difference is None
    assert verdict.results == sum(len(case.outcomes) for case in cases)
    assert verdict.totals["cnt_cycles"] == sum(case.totals.get("cnt_cycles", 0) for case in cases) > 0
    assert sum("cnt_cycles" in case.totals for case in cases) == CASES * 3 // 4


def test_random_layers_show_what_they_should() -> None:
    """Both signs, zeros, ragged blocks, sums that go on, weights outside the layer, and either side the slower one."""
    one = config(**SMALL)
    cases = list(islice(random_cases(one, 5), 60))
    slices = [part for case in cases for visit in case.visits for part in visit.slices]
    weights = np.concatenate([part.weights for part in slices])
    assert (weights > 0).mean() > 0.3 < (weights < 0).mean() and (weights == 0).mean() > 0.05
    words = np.concatenate([part.x.ravel() for part in slices])
    assert (words > 0).mean() > 0.2 < (words < 0).mean() and (words == 0).mean() > 0.1
    assert {(bool(p.ports["slice_fresh"]), bool(p.ports["slice_last"])) for p in slices} >= {
        (True, True),
        (False, False),
    }
    filters, positions = (
        [p.ports["slice_filters"] for p in slices],
        [v.ports["start_positions"] for c in cases for v in c.visits],
    )
    assert any(count % 4 and count > 4 for count in filters) and any(count % 3 and count > 3 for count in positions)
    totals = [case.totals for case in cases]
    assert any(one["cnt_weight_write"] < one["cnt_weights"] for one in totals)
    assert all(case.totals["cnt_mac"] < 12 * case.totals["cnt_compute"] for case in cases if len(case.visits) > 2)
    idle = [sum(not seen["x_valid"] for _, seen in trace(case, one)) for case in cases[:20]]
    full = [sum(not seen["w_ready"] and seen["x_valid"] for _, seen in trace(case, one)) for case in cases[:20]]
    assert max(idle) > 50 and max(full) > 50


STAGE_1 = conv("stage1", N=1, C=16, M=48, H=16, W=8)
"""Three slices of 16 x 16 x 3 x 3 for the 128 positions of a partition in the first stage of ResNet-56."""


@pytest.mark.parametrize(
    ("columns", "cycles"),
    [(8, 2330 + 2 * 2330 + 2304), (10, 2330 + 2 * 2880 + 2880)],
    ids=["generator", "array"],
)
def test_the_slower_of_generator_and_array_counts(columns: int, cycles: int, tmp_path: Path) -> None:
    """gen + (slices - 1) * max(gen, compute) + compute, with 2330 cycles to generate a slice."""
    one = config(partition_words=4096)
    piece = piece_of(one, replace(STAGE_1, W=columns))
    assert visit_cycles(one, piece.plan, 16 * columns) == cycles
    verdict = simulated([make_case("three slices", piece)], one, tmp_path)
    assert verdict.difference is None and verdict.totals["cnt_cycles"] == cycles
    assert verdict.totals["cnt_compute"] == 3 * 2 * columns * 144


@pytest.mark.parametrize("changes", [{"overlap": False}, {"design": "baseline"}], ids=["generated", "loaded"])
def test_one_after_the_other(changes: dict[str, Any], tmp_path: Path) -> None:
    one, layer = config(**changes), replace(STAGE_1, M=32, C=8)
    piece = piece_of(one, layer, generated=not changes.get("design"))
    fill = 26 + 2304 if piece.plan.code_words else 16 * 72
    verdict = simulated([make_case("two slices", piece)], one, tmp_path)
    assert verdict.difference is None
    assert verdict.totals["cnt_cycles"] == 2 * (fill + 16 * 72) == layer_cycles(one, piece.plan)
    assert (
        verdict.totals["cnt_weight_write"] == 2 * 16 * 72 < verdict.totals["cnt_weights"] + bool(changes.get("design"))
    )


def test_partitions_follow_without_a_gap(tmp_path: Path) -> None:
    """What passes between the first start and the last read is the cycles of all visits, and the first start."""
    one = config(**SMALL)
    piece = piece_of(one, conv("layer", N=1, C=5, M=14, H=7, W=5), 4)
    case = make_case("four partitions", piece)
    assert len(case.visits) == 4 and len({visit.ports["start_positions"] for visit in case.visits}) == 2
    reads = [cycle for cycle, (_, seen) in enumerate(trace(case, one)) if seen["x_valid"]]
    assert reads[-1] == case.totals["cnt_cycles"] == layer_cycles(one, piece.plan)
    assert simulated([case], one, tmp_path).difference is None


def test_weights_come_every_cycle_and_are_held_while_both_buffers_are_full(tmp_path: Path) -> None:
    """From a source that never waits: each is taken at once while a buffer is free, none while both are full."""
    one, layer = config(**SMALL), conv("layer", N=1, C=6, M=6, H=6, W=6)
    piece = piece_of(one, layer)
    law, early = make_case("generator", piece), make_case("early", piece, lead=0)
    taken = held = cycles = 0
    for given, seen in trace(early, one):
        if given["w_valid"]:
            assert seen["w_ready"] == (taken // one.slice_weights - seen["x_slice"] < 2)
            held += not seen["w_ready"]
            taken += seen["w_ready"]
        cycles = seen["cnt_cycles"]
    assert held > 50 and taken == piece.plan.slices * one.slice_weights
    assert cycles < law.totals["cnt_cycles"]  # the law starts the generator when a buffer is free
    assert simulated([law, early], one, tmp_path, layer=layer).difference is None


@pytest.mark.parametrize("sizes", [{"M": 32, "C": 32}, {"M": 21, "C": 19, "H": 9, "W": 7, "pad": (1, 1, 1, 1)}])
def test_counters_are_the_counts_of_the_machine(sizes: dict[str, Any]) -> None:
    """Also where slices stick out of the layer and positions do not fill the columns."""
    one, layer = config(), replace(STAGE_1, **sizes)
    piece = piece_of(one, layer, 2)
    counts = dict(batch_activity(one, layer, piece.plan).counts)
    totals = make_case("any", piece).totals
    assert totals["cnt_mac"] == counts["mac_array.mac"] == layer.macs_dense
    assert totals["cnt_weights"] == counts["generator.weight"]
    assert totals["cnt_weight_write"] == counts["slice_buffer.write"]
    assert totals["cnt_weight_read"] == counts["slice_buffer.read"]
    assert (totals["cnt_weights"] > totals["cnt_weight_write"]) == ("H" in sizes)


@pytest.mark.skipif(data_folder() is None, reason="no external data: set ARCHSIM_DATA")
@pytest.mark.parametrize(("name", "slices"), [("conv2", 2), ("conv3", 4)])
def test_a_trained_network(name: str, slices: int, tmp_path: Path) -> None:
    """Slices of the trained LeNet-5 with activations of real images; sums as an integer convolution gives them."""
    ((seat, x),) = layer_inputs(BSG_MAC_ARRAY, load_study("bsg-lenet.yaml"), [name])
    (case,) = tiles_of(BSG_MAC_ARRAY, seat, x, 1, 4)
    parameters = parameters_of(seat.machine.config, seat.layer)
    assert parameters["WW"] == 11 and [len(visit.slices) for visit in case.visits] == [slices]  # type: ignore[attr-defined]
    visit = case.visits[0]  # type: ignore[attr-defined]
    words = np.concatenate([part.x[:, : visit.ports["start_positions"]].ravel() for part in visit.slices])
    assert 10 < words.max() <= 127 and (words == 0).mean() > 0.1
    verdict = run(build(BSG_MAC_ARRAY, parameters, choose_simulator()), [case], tmp_path)
    assert verdict.difference is None and verdict.results == len(case.outcomes)
    gen, taps = 512 // 16 + 11 + 1600, [150] * 2 if name == "conv2" else [200] * 4
    compute = [count * -(-visit.ports["start_positions"] // 8) for count in taps]
    law = gen + sum(max(gen, one) for one in compute[:-1]) + compute[-1]
    assert verdict.totals["cnt_cycles"] == law


def test_activations_become_integers() -> None:
    assert integers(np.array([-2.0, 0.0, 0.5, 1.0], np.float32)).tolist() == [-127, 0, 32, 64]
    assert integers(np.zeros(3, np.float32)).tolist() == [0, 0, 0]


def test_what_the_block_does_not_have() -> None:
    with pytest.raises(MappingError, match="slices and rows up to 255, this one has 256"):
        parameters_of(config(array_rows=256))
    one, layer = config(n_c=8192), conv("layer", N=1, C=4096, M=1, H=2, W=2)
    plan = plan_layer(one, layer, BsgPlacement(), generated=True, able=True, affine_words=0)
    weights = np.full((plan.slices, *one.slice_shape), 8192)
    maps = np.zeros((4096, 4, 4), np.int8)
    with pytest.raises(MappingError, match=r"'layer' has sums up to .* has 32 bit"):
        make_case("large", Piece(one, layer, plan, weights, maps, position_ranges(plan)))
    with pytest.raises(MappingError, match="'layer' has loaded weights"):
        next(cases_from(one, layer, plan, maps, Stored(shape_only(layer)), 1, 0))


def test_layers_with_more_sums_get_a_larger_memory() -> None:
    layer = conv("layer", N=1, C=6, M=6, H=40, W=40)
    assert parameters_of(config())["ROUNDS"] == 16 and parameters_of(config(), layer)["ROUNDS"] == 200


MUTANTS = {
    "sums always start at 0": ("fresh1 ? {(M*N*ACC){1'b0}} : kept[round1]", "{(M*N*ACC){1'b0}}"),
    "sums never start at 0": ("fresh1 ? {(M*N*ACC){1'b0}} : kept[round1]", "kept[round1]"),
    "weight without a sign": ("$signed(weights1[", "$unsigned(weights1["),
    "word of another column": ("$signed(x[j*WX +: WX])", "$signed(x[(N-1-j)*WX +: WX])"),
    "rows without work": ("row_on1[i] && column_on1[j]", "column_on1[j]"),
    "columns without work": ("row_on1[i] && column_on1[j]", "row_on1[i]"),
    "a round too many along positions": ("columns_left <= N[15:0]", "columns_left < N[15:0]"),
    "a round too many along filters": ("{8'd0, rows_left} <= M[15:0]", "{8'd0, rows_left} < M[15:0]"),
    "first rows again": ("read_block <= read_block + taps_now", "read_block <= read_block"),
    "a tap too few": ("x_tap + 1'b1 == taps_now", "x_tap + 2'd2 == taps_now"),
    "weights outside the layer": ("in_filter && c < slice_channels", "in_filter"),
    "one buffer": ("fill <= !fill;", "fill <= fill;"),
    "written over": ("!full[fill] && (overlap", "(overlap"),
    "never two full": ("(overlap || full == 2'd0)", "(full == 2'd0)"),
    "always two": ("(overlap || full == 2'd0)", "1'b1"),
    "a cycle between rounds": ("full[read] && !hold;", "full[read] && !hold && !(mac1 && last1);"),
    "sums not held": ("hold        = out_valid && !out_ready", "hold        = out_valid && 1'b0"),
    "a cycle between visits": ("!busy || (computed && slices_left == 16'd1)", "!busy"),
    "reads counted by steps": ("{{(32-BW){1'b0}}, rows_now}", "32'd1"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_of_the_block_are_caught(mutant: str, tmp_path: Path) -> None:
    old, new = MUTANTS[mutant]
    text = source_of("bsg_mac_array").read_text()
    assert text.count(old) == 1, old
    (tmp_path / "bsg_mac_array.v").write_text(text.replace(old, new))
    one = config(**SMALL)
    cases = list(islice(random_cases(one, 1), 16))
    assert simulated(cases, one, tmp_path, tmp_path / "bsg_mac_array.v").difference is not None
