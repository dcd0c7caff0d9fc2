"""E14: the PE of the row-stationary array in Verilog against its model, NumPy and the kernels."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.accelerators.eyeriss.activity import execute_layer
from archsim.accelerators.eyeriss.closed_form import buses_of, pass_cycles
from archsim.accelerators.eyeriss.pe_law import OVERHEAD_CYCLES, Primitive, row_cycles
from archsim.accelerators.eyeriss.plan import as_conv
from archsim.accelerators.eyeriss.rtl import EYERISS_PE
from archsim.accelerators.eyeriss.rtl_cases import Place, RowData, cases_from, make_case, random_cases, tile_row
from archsim.accelerators.eyeriss.rtl_model import (
    PeCase,
    PeRow,
    parameters_of,
)
from archsim.accelerators.eyeriss.traffic import structure_counts
from archsim.accelerators.seat import Seat
from archsim.assets import data_folder
from archsim.config import study_from_text
from archsim.cosim.campaign import layer_inputs
from archsim.cosim.verilog import source_of
from archsim.errors import MappingError
from archsim.threads import limited_threads
from archsim.workload.layers import Linear
from archsim.workload.params import Array
from tests.cosim.eyeriss_rows import (
    MODES,
    SHIFT,
    agreed,
    cases,
    config,
    drawn,
    held_up,
    layer,
    plan_of,
    played,
    simulated,
)

pytestmark = pytest.mark.cosim

PADS = ("ifmap", "filter", "psum")
STALLS = ("cnt_filter_stall", "cnt_ifmap_stall", "cnt_psum_in_stall", "cnt_psum_out_stall")


# random cases --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
def test_random_cases_agree(mode: str, tmp_path: Path) -> None:
    agreed(tmp_path, cases(mode), mode)


@pytest.mark.parametrize("mode", MODES)
def test_random_cases_are_interesting(mode: str) -> None:
    rows = [row for case in cases(mode) for row in case.rows]
    sizes = [set(values) for values in zip(*(row.shape for row in rows))]
    p, q, S, U, F = sizes
    assert {1, 24} <= p and {1, 12} <= q and {1, 12} <= S and {1, 2, 3, 4} == U and {1, 20} <= F
    assert {(1, 1, 1)} <= {row.shape[:3] for row in rows}
    assert max(row.shape.window_words for row in rows) == 12 and max(row.shape.filter_words for row in rows) >= 216
    totals = sum((Counter(case.totals) for case in cases(mode)), Counter())
    assert 0.3 < totals["cnt_mac_gated"] / (totals["cnt_mac"] + totals["cnt_mac_gated"]) < 0.6
    psums = [psum["psum_out_data"] for case in cases(mode) for psum in case.outcomes]
    assert 0.3 < np.mean(np.array(psums) < 0) < 0.7
    half = 1 << (parameters_of(config(mode))["ACC"] - 1)
    exact = [psum for row in rows for psum in unlimited(row, mode)]
    beyond = sum(not -half <= psum < half for psum in exact)
    assert beyond > 20  # the limits matter: narrow psums stay there, wide ones wrap
    if mode == "chip16":
        nearest = np.clip(exact, -half, half - 1)
        assert np.sum(nearest != psums) > 20  # sums meet them on the way, not only at the end


def unlimited(row: PeRow, mode: str) -> list[int]:
    """The psums of a row if no sum had a limit, tap after tap."""
    p, q, S, U, F = row.shape
    weights, words = (np.array(flat, np.int64) for flat in (row.filters, row.ifmap))
    windows = [words[column * U * q :][: q * S] for column in range(F)]
    products = np.array(windows)[:, :, None] * weights.reshape(q * S, p)
    sums = (products >> (row.shift if mode == "chip16" else 0)).sum(axis=1)
    return (sums.ravel() + np.array(row.psums)).tolist()


@pytest.mark.parametrize("mode", MODES)
def test_every_stream_is_held_up(mode: str) -> None:
    held, stalls = held_up(mode), Counter[str]()
    assert len(held) >= len(cases(mode)) // 4
    for case in held:
        *_, (_, outputs) = played(case, mode)
        stalls.update({name: outputs[name] > 0 for name in STALLS})
        assert outputs["cnt_cycles"] >= sum(row_cycles(row.shape) for row in case.rows)
    assert min(stalls[name] for name in STALLS) > len(held) // 3


@pytest.mark.parametrize("mode", MODES)
def test_psums_stay_while_they_are_not_taken(mode: str) -> None:
    waits = 0
    for case in held_up(mode):
        waiting = None
        for inputs, outputs in played(case, mode):
            assert waiting is None or (outputs["psum_out_valid"] and outputs["psum_out_data"] == waiting)
            waiting = None
            if outputs["psum_out_valid"] and not inputs["psum_out_ready"]:
                waiting, waits = outputs["psum_out_data"], waits + 1
    assert waits > 500


@pytest.mark.parametrize(
    "spads",
    [
        {"spad_filter_words": 30, "spad_ifmap_words": 5, "spad_psum_words": 3},
        {"spad_filter_words": 512, "spad_ifmap_words": 32, "spad_psum_words": 16},
    ],
)
def test_other_spads_agree(spads: dict[str, int], tmp_path: Path) -> None:
    machine = config("chip16", **spads)
    agreed(tmp_path, list(islice(random_cases(machine, 2), 16)), "chip16", config=machine)


# cycles --------------------------------------------------------------------------------------------------------------
GRID = [Primitive(*sizes) for sizes in product((1, 2, 5), (1, 2), (1, 2, 4), (1, 2, 4), (1, 2, 5))]


def filled(shape: Primitive, seed: int = 0) -> RowData:
    rng = np.random.default_rng(seed)
    p, q, S, _, F = shape
    sizes = ((p, q, S), (q, shape.ifmap_words // q))
    weights, ifmap = (rng.integers(-900, 900, size).astype(np.int16) for size in sizes)
    return RowData(shape, SHIFT, weights, ifmap, rng.integers(-9000, 9000, (p, F)))


def test_cycles_follow_the_law(tmp_path: Path) -> None:
    """What the law says is among the totals of every case that nothing holds up."""
    given = [make_case(config("wide"), str(shape), [filled(shape)]) for shape in GRID]
    assert all(case.totals["cnt_cycles"] == row_cycles(shape) for case, shape in zip(given, GRID))
    agreed(tmp_path, given, "wide")


def test_model_follows_the_law_on_a_wider_grid() -> None:
    for shape in map(Primitive._make, product((1, 2, 3, 7), (1, 3), (1, 2, 3, 4), range(1, 7), (1, 2, 3, 8))):
        *_, (_, outputs) = played(make_case(config("wide"), "", [filled(shape)]), "wide")
        assert outputs["cnt_cycles"] == row_cycles(shape), shape
        assert outputs["cnt_ifmap_stall"] == row_cycles(shape) - paced_by_macs(shape), shape


def paced_by_macs(shape: Primitive) -> int:
    """The law where every column takes its MACs."""
    p, q, S, _, F = shape
    return p * q * S + q * S + F * p * q * S + OVERHEAD_CYCLES


def test_steady_rate_is_one_mac_per_cycle() -> None:
    """Only where a column has less MACs than the ifmap has words up to the next window do the words set the pace."""
    for shape in GRID:
        further = [row_cycles(shape._replace(F=columns)) for columns in (98, 99)]
        if shape.p * shape.S >= shape.U:
            assert row_cycles(shape) == paced_by_macs(shape)
            assert further[1] - further[0] == shape.filter_words
        else:
            assert further[1] - further[0] == shape.U * shape.q > shape.filter_words


def test_steady_rate_is_that_of_a_pass() -> None:
    """The compute bound of a pass is the MACs of each PE, one per cycle."""
    conv = layer(3, 2, 4, width=9)
    machine, plan = config("wide"), plan_of(conv, 4, 2)
    shape = Primitive(4, 2, 3, 1, conv.Q)
    assert pass_cycles(conv, plan, buses_of(machine), 1).compute == shape.macs


# layers --------------------------------------------------------------------------------------------------------------
def study(network: str, data: str, calibration: str) -> str:
    return f"""\
schema: 1
name: pe-tiles
workload:
  network: {network}
  data: {{{data}}}
  calibration: {{{calibration}}}
platform:
  accelerators: {{npu: {{kind: eyeriss, preset: chip-jssc17, psum_mode: wide, product_shift: {SHIFT}}}}}
  memory: {{kind: link, preset: eyeriss-jssc17}}
"""


DIGITS = study("digits_cnn.onnx", "name: digits, split: test, images: 16", "name: digits, split: train, images: 32")
RESNET = study(
    "resnet20_cifar10.onnx",
    "file: cifar10_test_dev5000.npz, images: 4",
    "file: cifar10_train_a5000.npz, images: 4",
)
SQUEEZENET = study(
    "squeezenet1_0_dc.onnx",
    "file: imagenet_sample_dev400.npz, images: 2",
    "file: imagenet_sample_dev400.npz, images: 2, first: 100",
)


@cache
def inputs_of(study: str, layers: tuple[str, ...] = ()) -> list[tuple[Seat, Array]]:
    with limited_threads(None):
        return layer_inputs(EYERISS_PE, study_from_text(study), layers)


def tiles(inputs: list[tuple[Seat, Array]], mode: str, each: int) -> list[PeCase]:
    return [
        case for seat, x in inputs for case in cases_from(config(mode), seat.layer, seat.plan, x, seat.stored, each, 7)
    ]


@pytest.mark.parametrize("mode", MODES)
def test_tiles_of_the_digits_network_agree(mode: str, tmp_path: Path) -> None:
    given = tiles(inputs_of(DIGITS.replace("psum_mode: wide", f"psum_mode: {mode}")), mode, 12)
    assert len(given) >= 40 and len({case.about for case in given}) == len(given)
    totals = agreed(tmp_path, given, mode).totals
    assert 0.05 < totals["cnt_mac_gated"] / totals["cnt_ifmap_read"] < 0.9
    psums = {word for case in given for row in case.rows for word in row.psums}
    assert len(psums) > 1000  # what comes from the PEs before is real


@pytest.mark.parametrize("mode", MODES)
def test_tiles_of_larger_networks_agree(mode: str, tmp_path: Path) -> None:
    """Real ResNet-20 and SqueezeNet layers on real images: 7 x 7, strides of 2, 1 x 1, a Linear."""
    if data_folder() is None:
        pytest.skip("the external data folder is not there ($ARCHSIM_DATA)")
    resnet = inputs_of(RESNET, ("stem_conv", "s1b1_1_conv", "s2b0_1_conv", "s3b2_2_conv", "fc"))
    squeezenet = inputs_of(SQUEEZENET, ("conv1", "fire9_squeeze1x1", "fire4_expand3x3", "conv10"))
    given = tiles(resnet + squeezenet, mode, 1)
    assert max(case.rows[0].shape.F for case in given) == 64  # of the 109 columns of conv1
    agreed(tmp_path, given, mode)


def test_tile_of_a_linear_layer_is_one_column() -> None:
    """A Linear runs as a convolution over the map it was flattened from, or 1 x 1."""
    (seat, x), *_ = [one for one in inputs_of(DIGITS) if isinstance(one[0].layer, Linear)]
    conv = as_conv(seat.layer)
    for case in cases_from(config("wide"), seat.layer, seat.plan, x, seat.stored, 5, 0):
        assert case.rows[0].shape.F == 1 and case.rows[0].shape.S == conv.S


@pytest.mark.parametrize(
    ("fields", "changes", "message"),
    [
        ({"dilation": (1, 2)}, {}, r"layer 'conv' has dilation \(1, 2\)"),
        ({"stride": (1, 16)}, {}, "layer 'conv' has horizontal stride 16: .* up to 15"),
        ({}, {"overflow": "saturate"}, "wraps where psum_mode is 'wide', .* overflow 'saturate'"),
    ],
)
def test_what_the_block_cannot_do_is_refused(fields: Any, changes: Any, message: str) -> None:
    conv = layer(3, 2, 4, 40, **fields)
    machine = config("wide", **changes)
    with pytest.raises(MappingError, match=message):
        parameters_of(machine)
        list(cases_from(machine, conv, plan_of(conv, 2, 2), *drawn(conv), 1, 0))


@pytest.mark.parametrize("mode", MODES)
def test_counters_are_the_counts_of_the_machine(mode: str) -> None:
    """One strip of one row, one block of filters, one set: the PEs of its column do all that is counted."""
    conv = layer(3, 4, 6, 15, H=3)
    plan, (x, stored) = plan_of(conv, 6, 4), drawn(conv)
    counts = dict(execute_layer(conv, plan, x, stored, config(mode)).batches[0].counts)
    counts |= {name: n for name, n in structure_counts(conv, plan).items() if name.endswith("_write")}
    totals: Counter[str] = Counter()
    for r in range(conv.R):
        row = tile_row(config(mode), conv, plan, x[0], stored.params, Place(0, 0, (0, 6), 0, r))
        totals.update(make_case(config(mode), "", [row]).totals)
    of_action = {f"pe.{name}": f"cnt_{name}" for name in ("mac", "mac_gated")}
    of_action |= {f"spad.{pad}_{way}": f"cnt_{pad}_{way}" for pad, way in product(PADS, ("read", "write"))}
    assert {action: counts[action] for action in of_action} == {a: totals[name] for a, name in of_action.items()}


# wrong blocks --------------------------------------------------------------------------------------------------------
MUTANTS = {
    "window moves by one column less": ("wire              again     = s > u_last", "wire again = s >= u_last"),
    "gated products are added": ("(gated2 ? {SUM{1'b0}} :", "(1'b0 ? {SUM{1'b0}} :"),
    "saturation one below the highest": ("{(ACC-1){!sum[SUM-1]}}", "{{(ACC-2){!sum[SUM-1]}}, 1'b0}"),
    "incoming psum added twice": ("+ wide(psum_in_data))", "+ wide(psum_in_data) + wide(psum_in_data))"),
    "filter read although gated": ("= issue && !zero[slot]", "= issue"),
    "finished psums overwritten": ("first2 && finished[f2[PA-1:0]] &&", "1'b0 &&"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_wrong_block_is_found(name: str, tmp_path: Path) -> None:
    old, new = MUTANTS[name]
    text = source_of("eyeriss_pe").read_text()
    assert text.count(old) == 1
    (tmp_path / "eyeriss_pe.v").write_text(text.replace(old, new))
    difference = simulated(tmp_path, cases("chip16")[:32], "chip16", source=tmp_path / "eyeriss_pe.v").difference
    assert difference is not None and difference.against == "model"
