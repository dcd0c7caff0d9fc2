"""The control of PROMISE's banks in Verilog against its model, the law of a tile, the stage model and the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from archsim.accelerators.promise import rtl_cases
from archsim.accelerators.promise.config import BANK_COLUMNS, PRESETS, PromiseConfig
from archsim.accelerators.promise.rtl import PROMISE_CTL
from archsim.accelerators.promise.rtl_model import (
    ALWAYS,
    WORD_BITS,
    CtlCase,
    PromiseCtl,
    Tile,
    answer_cycles,
    parameters_of,
)
from archsim.accelerators.promise.stages import run_tile
from archsim.assets import data_folder
from archsim.config import load_study
from archsim.cosim.campaign import Bench, study_rows
from archsim.cosim.job import Verdict
from archsim.cosim.simulator import build, choose_simulator, run
from archsim.cosim.verilog import read_module, source_of
from archsim.errors import MappingError

pytestmark = pytest.mark.cosim

CASES = 64
OTHER_CASES = 16
SPLITS: dict[str, tuple[int, int, int, int] | None] = {
    "not given": None,
    "one after another": (14, 4, 4, 2),
    "all slow": (14, 14, 14, 14),
    "slow third": (3, 7, 14, 1),
    "no digital end": (14, 10, 0, 0),
}


def config_of(split: tuple[int, int, int, int] | None = None, **changes: Any) -> PromiseConfig:
    stages = None if split is None else dict(zip(("c1", "c2", "c3", "c4"), split))
    return PromiseConfig(**{**PRESETS["hpvm"], "stages": stages, **changes})


def simulated(cases: list[CtlCase], folder: Path, config: PromiseConfig, source: Path | None = None) -> Verdict:
    return run(build(PROMISE_CTL, parameters_of(config), choose_simulator(), source=source), cases, folder)


def random_cases(config: PromiseConfig, count: int = CASES) -> list[CtlCase]:
    return list(islice(rtl_cases.random_cases(config, 1), count))


def played(case: CtlCase, config: PromiseConfig) -> list[tuple[Any, Any]]:
    """Inputs and outputs of every cycle after the reset, by the register model."""
    return list(case.play(PromiseCtl(parameters_of(config))))[1:]


def plain(columns: int, banks: int = 1) -> Tile:
    return Tile(0, 7, 0, banks, tuple(range(columns)))


# Random cases


def test_random_cases_hold_what_is_hard() -> None:
    cases = random_cases(config_of())
    tiles = [tile for case in cases for tile in case.tiles]
    lengths = [len(tile.sums) for tile in tiles]
    assert lengths.count(BANK_COLUMNS) >= 4 and sum(one == 1 for one in lengths) > 10 and len(set(lengths)) > 30
    assert {tile.op for tile in tiles} == set(range(4)) and {tile.swing for tile in tiles} == set(range(1, 8))
    assert sum(any(one < 0 for one in tile.sums) for tile in tiles) > 0.4 * len(tiles)
    assert sum(tile.addr + len(tile.sums) > BANK_COLUMNS for tile in tiles) > 10  # the address wraps
    last = {kind: [played(case, config_of())[-1][1] for case in cases if case.about.startswith(kind)]
            for kind in ("in step", "held up", "late array")}  # fmt: skip
    assert all(outputs["fault"] == 0 and outputs["cnt_stall"] == 0 for outputs in last["in step"])
    assert sum(outputs["cnt_stall"] > 0 for outputs in last["held up"]) > 5
    assert all(outputs["fault"] == 1 for outputs in last["late array"])


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_rtl_model_and_law_agree_on_random_cases(split: tuple[int, int, int, int] | None, tmp_path: Path) -> None:
    """Every output in every cycle, stage occupancy included; results in order; dot products and cycles of the law."""
    config = config_of(split)
    cases = random_cases(config, OTHER_CASES if split else CASES)
    verdict = simulated(cases, tmp_path, config)
    assert verdict.difference is None
    assert verdict.cases == len(cases) and verdict.results == sum(len(case.outcomes) for case in cases) > 300
    assert verdict.totals["cnt_cycles"] == sum(case.totals.get("cnt_cycles", 0) for case in cases) > 4_000


@pytest.mark.parametrize("banks", [1, 64, 500])
def test_any_number_of_banks(banks: int, tmp_path: Path) -> None:
    config = config_of(banks=banks)
    assert simulated(random_cases(config, 20), tmp_path, config).difference is None


# T8: the law of a tile, cycle by cycle


@pytest.mark.parametrize("columns", [1, 2, 3, 57, 127, 128])
def test_a_tile_takes_fourteen_cycles_per_column_and_ten(columns: int, tmp_path: Path) -> None:
    config = config_of()
    case = rtl_cases.make_case(config, "one tile", [plain(columns, 256)])
    assert case.totals["cnt_cycles"] == 14 * columns + 10 and case.totals["cnt_dot"] == 256 * columns
    assert simulated([case], tmp_path, config).difference is None
    assert BANK_COLUMNS == 128 and (columns != BANK_COLUMNS or case.totals["cnt_cycles"] == 1802)


def test_columns_start_an_interval_apart_and_tiles_follow_without_a_gap() -> None:
    config = config_of()
    case = rtl_cases.make_case(config, "three tiles", [plain(5), plain(1), plain(9)])
    starts = [t for t, (_, outputs) in enumerate(played(case, config)) if outputs["an_start"]]
    first = starts[0]
    tiles = [[first + 14 * i for i in range(5)], [first + 80], [first + 80 + 24 + 14 * i for i in range(9)]]
    assert starts == [one for tile in tiles for one in tile]


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_stages_are_occupied_as_in_the_simulation(split: tuple[int, int, int, int] | None, tmp_path: Path) -> None:
    """The stage model on simpy's clock, the registers and the Verilog: the same stages busy in the same cycles."""
    config, columns = config_of(split), 21
    case = rtl_cases.make_case(config, "one tile", [plain(columns)])
    assert simulated([case], tmp_path, config).difference is None
    cycles = played(case, config)
    begin = next(t for t, (_, outputs) in enumerate(cycles) if outputs["an_start"])
    seen = [outputs["stage"] for _, outputs in cycles[begin:]]
    expected = [0] * len(seen)
    model = run_tile(config, columns)
    for stage, spans in enumerate(model.occupied):
        for start, length in spans:
            for t in range(start, start + length):
                expected[t] |= 1 << stage
    assert seen == expected and any(seen)
    assert model.cycles == case.totals["cnt_cycles"]


# Back-pressure


def test_results_that_wait_hold_up_the_start_of_columns_and_nothing_else(tmp_path: Path) -> None:
    config = config_of()
    patterns = (ALWAYS, (*([0] * 100), 1))
    case = rtl_cases.make_case(config, "slow reader", [plain(12), plain(3)], patterns)
    assert simulated([case], tmp_path, config).difference is None
    cycles = played(case, config)
    starts = [t for t, (_, outputs) in enumerate(cycles) if outputs["an_start"]]
    assert [later - before for before, later in pairwise(starts)][:3] == [14, 14, 14]
    assert max(later - before for before, later in pairwise(starts)) > 80
    on_the_way = handed = started = 0
    for inputs, outputs in cycles:
        started += outputs["an_start"]
        on_the_way = max(on_the_way, started - handed)
        handed += outputs["res_valid"] and inputs["res_ready"]
    assert on_the_way == parameters_of(config)["DEPTH"] == 4 and cycles[-1][1]["cnt_stall"] > 500


# Mutants


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("for (k = 1; k < INTERVAL; k = k + 1)", "for (k = 1; k < INTERVAL - 1; k = k + 1)"),
        ("localparam COL = INTERVAL + RED;", "localparam COL = INTERVAL + RED + 1;"),
        ("assign an_start    = pending && !taken[DW-1];", "assign an_start    = pending;"),
        ("wire                 shown     = flight[COL-2];", "wire                 shown     = filled;"),
        ("if (an_data[W-1]) value", "if (!an_data[W-1]) value"),
        ("if (!first && running > an_data) value", "if (running > an_data) value"),
        ("if (i >= O3 && i < O3 + C3)", "if (i >= O3 && i <= O3 + C3)"),
        ("if (filled != an_done) fault", "if (filled && !an_done) fault"),
        ("assign instr_ready = !busy || finishing;", "assign instr_ready = !busy;"),
        ("cnt_dot + {{(32-BW){1'b0}}, banks}", "cnt_dot + 32'd1"),
    ],
    ids=["interval", "reduction", "credit", "early result", "relu", "maximum", "stage", "early answer", "gap", "dots"],
)
def test_mutants_are_caught(old: str, new: str, tmp_path: Path) -> None:
    text, config = source_of("promise_ctl").read_text(), config_of()
    assert text.count(old) == 1, old
    source = tmp_path / "promise_ctl.v"
    source.write_text(text.replace(old, new))
    assert simulated(random_cases(config, 20), tmp_path, config, source).difference is not None


def test_another_interval_of_the_law_is_caught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(PromiseConfig, "tile_cycles", lambda config, columns: 14 * columns + 11)
    difference = simulated(random_cases(config_of(), 2), tmp_path, config_of()).difference
    assert difference is not None and difference.against == "kernel" and difference.signal == "cnt_cycles"


# Parameters


def test_promise_ctl_has_the_figures_of_its_machine() -> None:
    config, module = config_of(), read_module(source_of("promise_ctl"))
    assert module.parameters({}) == parameters_of(config)
    bits = {port.name: port.bits for port in module.ports({})}
    assert bits["instr_len"] == BANK_COLUMNS.bit_length() and bits["instr_addr"] == (BANK_COLUMNS - 1).bit_length()
    assert bits["an_banks"] == bits["instr_banks"] == config.banks.bit_length()
    assert bits["an_data"] == bits["res_data"] == WORD_BITS and bits["stage"] == 4
    assert answer_cycles(config) == PromiseCtl(parameters_of(config)).done == 14
    largest = config.banks * 128 * 256 * 256
    assert largest < 1 << (WORD_BITS - 1)


def test_a_column_that_is_too_short_is_refused() -> None:
    with pytest.raises(MappingError, match="3 cycles, got 2"):
        parameters_of(config_of(interval_cycles=1, reduction_cycles=1))


# Real layers


def rows(study: str, layers: Sequence[str], each: int, folder: Path, *changes: str) -> list[dict[str, Any]]:
    """Run tiles of real layers; all must agree."""
    bench = Bench(PROMISE_CTL, choose_simulator(), folder)
    found = study_rows(bench, load_study(study, changes), layers, each, 5, lambda *_: None)
    told = [row.to_dict() for row in found]
    assert [row["difference"] for row in told] == [None] * len(told)
    return told


def test_tiles_of_the_digits_network_agree(tmp_path: Path) -> None:
    told = rows("promise-digits.yaml", (), 5, tmp_path, "workload.data.images=8", "workload.timed_images=1")
    assert [row["what"] for row in told] == ["conv1", "conv2", "conv3", "fc"]
    assert all(row["totals"]["cnt_dot"] >= row["results"] for row in told)


@pytest.mark.skipif(data_folder() is None, reason="the external data folder is not there ($ARCHSIM_DATA)")
@pytest.mark.parametrize(
    ("network", "layers"), [("lenet", ("conv2", "fc1")), ("resnet20", ("stem_conv", "s2b1_2_conv", "s3b2_1_conv"))]
)
def test_tiles_of_real_networks_agree(network: str, layers: Sequence[str], tmp_path: Path) -> None:
    """Swapped layers and others, full tiles and ragged ones, one bank and several."""
    small = ("workload.data.images=2", "workload.calibration.images=8", "workload.timed_images=1")
    told = rows(f"promise-{network}.yaml", layers, 4, tmp_path, *small)
    assert [row["what"] for row in told] == list(layers)
    assert any(row["totals"]["cnt_dot"] > row["results"] for row in told)
