"""Verilog of the Bloom filters and of the multiplier behind them, beside their models and the compiled kernels."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.accelerators.base import RtlBlock
from archsim.accelerators.bloom import Bloom
from archsim.accelerators.bloom.config import PRESETS, BloomConfig
from archsim.accelerators.bloom.rtl import BLOOM_FILTER, BLOOM_FU
from archsim.accelerators.bloom.rtl_cases import SPECIAL, filter_case, fu_case, random_filter_cases, random_fu_cases
from archsim.accelerators.bloom.rtl_model import FuCase, Token, filter_parameters, multiplied
from archsim.assets import data_folder
from archsim.config import study_from_text
from archsim.cosim.campaign import Bench, study_rows
from archsim.cosim.job import Verdict
from archsim.cosim.simulator import build, choose_simulator, run
from archsim.cosim.verilog import source_of
from archsim.errors import MappingError
from tests.bloom.cases import random_bank

pytestmark = pytest.mark.cosim
CASES = {"bloom_filter": 5, "bloom_fu": 16}
"""256 queries each; the acceptance run takes 400 of each, more than 10^5 queries."""
BLOCKS = {"bloom_filter": (BLOOM_FILTER, random_filter_cases), "bloom_fu": (BLOOM_FU, random_fu_cases)}


def config(**changes: Any) -> BloomConfig:
    return BloomConfig(**{**PRESETS["lenet-t25"], **changes})


def simulated(block: RtlBlock, cases: list[Any], folder: Path, source: Path | None = None, **changes: Any) -> Verdict:
    return run(build(block, block.parameters(config(**changes)), choose_simulator(), source=source), cases, folder)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("wiring", ["per_bf", "shared"])
def test_random_cases_agree(name: str, wiring: str, tmp_path: Path) -> None:
    """Every output in every cycle; answers and products of the kernels; queries, hits, stage clocks at the end."""
    block, made = BLOCKS[name]
    cases: list[Any] = list(islice(made(config(hash=wiring), 1), CASES[name]))
    verdict = simulated(block, cases, tmp_path, hash=wiring)
    assert verdict.difference is None and verdict.results == 256 * CASES[name]
    assert all(verdict.totals[counter] > 50 for counter in cases[0].totals)


@pytest.mark.parametrize(("m", "k", "apx", "filters"), [(32, 3, 9, 10), (64, 2, 11, 5), (128, 1, 8, 2)])
def test_other_sizes_agree(m: int, k: int, apx: int, filters: int, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"m": m, "k": k, "match_levels": ((apx, filters),) * 5}
    cases: list[Any] = list(islice(random_filter_cases(config(**changes), 2), 2))
    assert simulated(BLOOM_FILTER, cases, tmp_path, **changes).difference is None


def test_random_cases_hold_what_is_hard() -> None:
    """Hits and misses, false hits, empty cycles, shared outputs, every pair of special numbers of the format."""
    filters = list(islice(random_filter_cases(config(), 1), CASES["bloom_filter"]))
    hits = sum(one["out_hit"] for case in filters for one in case.outcomes)
    asked = sum(len(case.outcomes) for case in filters)
    assert 0.2 * asked < hits < 0.8 * asked > 1000
    stored = [{key for _, key in case.patterns} for case in filters]
    false = sum(
        one["out_hit"] and key not in known
        for case, known in zip(filters, stored)
        for one, key in zip(case.outcomes, (key for key in case.queries if key is not None))
    )
    assert false > 10 and all(None in case.queries for case in filters)
    assert all(len({bf for bf, _ in case.patterns}) < len(case.patterns) for case in filters)
    units: list[FuCase] = list(islice(random_fu_cases(config(), 1), CASES["bloom_fu"]))
    kinds = Counter(_kind(one["out_result"]) for case in units for one in case.outcomes if not one["out_hit"])
    assert set(kinds) == {"zero", "least", "normal", "infinity", "nan"} and min(kinds.values()) >= 4


def _kind(bits: int) -> str:
    size = bits & 0x7FFFFFFF
    if size >= 0x7F800000:
        return "infinity" if size == 0x7F800000 else "nan"
    return "zero" if not size else "least" if size == 0x00800000 else "normal"


def test_products_of_special_numbers_agree(tmp_path: Path) -> None:
    """All pairs, and random neighbours of the least normal product."""
    rng, one = np.random.default_rng(3), []
    for _ in range(400):
        a = int(rng.integers(0x1F000000, 0x20800000)) | int(rng.integers(2)) << 31
        b = int(rng.integers(0x1F000000, 0x20800000))
        one.append((a, b))
    least = [(0x00FFFFFF, 0x3F000000), (0x00FFFFFE, 0x3F000000), (0x00800001, 0x3F7FFFFE), (0x00800000, 0x3F7FFFFF)]
    pairs = [(a, b) for a in SPECIAL for b in SPECIAL] + one + least
    outcomes = tuple({"out_hit": 0, "out_bf": 0, "out_result": multiplied(a, b)} for a, b in pairs)
    case = FuCase("special", (0,), tuple(Token(pair) for pair in pairs), outcomes, {"cnt_stage": 6 * len(pairs)})
    assert simulated(BLOOM_FU, [case], tmp_path).difference is None
    assert {"zero", "least", "normal"} <= {_kind(multiplied(a, b)) for a, b in least + one}


def test_an_answer_takes_2_cycles_and_a_result_8(tmp_path: Path) -> None:
    """Legal at cycle t, not at t - 1."""
    case = next(random_filter_cases(config(), 5))
    seen = list(case.play(BLOOM_FILTER.model(filter_parameters(config()))))
    first = next(cycle for cycle, (inputs, _) in enumerate(seen) if inputs["in_valid"])
    assert [seen[first + after][1]["out_valid"] for after in range(3)] == [0, 0, 1]
    unit = next(random_fu_cases(config(), 5))
    seen = list(unit.play(BLOOM_FU.model({"NBF": 30})))
    first = next(cycle for cycle, (inputs, _) in enumerate(seen) if inputs["in_valid"])
    assert [seen[first + after][1]["out_valid"] for after in range(9)] == [0] * 8 + [1]


def mutant(block: str, folder: Path, old: str, new: str) -> Path:
    text = source_of(block).read_text()
    assert text.count(old) == 1, old
    path = folder / f"{block}.v"
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("bloom_filter", "for (f = NBF - 1; f >= 0; f = f - 1)", "for (f = 0; f < NBF; f = f + 1)"),
        ("bloom_filter", "(line & decoded) == decoded", "(line & decoded) != {M{1'b0}}"),
        ("bloom_filter", "vectors <= vectors | set", "vectors <= set"),
        ("bloom_filter", "^(key & rows[r])", "|(key & rows[r])"),
        ("bloom_fu", "half3 && (rest3 || mant3[0])", "half3"),
        ("bloom_fu", "exp3 == 10'd0 && mant3 == 24'hFFFFFF", "1'b0"),
        ("bloom_fu", "(a_inf && b_zero)", "1'b0"),
        ("bloom_fu", "{valid[4:0] & ~hits[4:0], wait2 && !in_hit}", "{valid[4:0], wait2}"),
        ("bloom_fu", "a1[31] ^ b1[31]", "a1[31]"),
    ],
    ids=["highest wins", "any bit", "last pattern only", "or for xor", "ties", "least normal", "inf x 0", "no gating",
         "sign"],
)  # fmt: skip
def test_mutants_are_caught(name: str, old: str, new: str, tmp_path: Path) -> None:
    block, made = BLOCKS[name]
    cases: list[Any] = list(islice(made(config(), 1), CASES[name]))[: 16 if name == "bloom_fu" else 2]
    assert simulated(block, cases, tmp_path, source=mutant(name, tmp_path, old, new)).difference is not None


LENET = """\
schema: 1
name: tiles
workload:
  network: {network}
  data: {data}
  calibration: {calibration}
platform:
  accelerators: {{npu: {{kind: bloom, preset: lenet-t25, fp_max_unit: 0.3}}}}
  memory: {{kind: link, preset: flat-ddr4, bandwidth_GB_per_s: 19.2, latency_ns: 50}}
knobs: {{conv2: {{bloom_match: 5}}}}
"""
DIGITS = ("digits_cnn.onnx", "{name: digits, images: 8}", "{name: digits, split: train, images: 32}")
MNIST = (
    "lenet5_mnist.onnx", "{file: mnist_test_0000_4999.npz, images: 8}", "{file: mnist_train_60000.npz, images: 64}"
)  # fmt: skip


def tiles(given: tuple[str, str, str], block: RtlBlock, each: int, folder: Path) -> dict[str, Any]:
    """Run tiles of conv2."""
    names = dict(zip(("network", "data", "calibration"), given))
    bench = Bench(block, choose_simulator(), folder)
    (row,) = study_rows(bench, study_from_text(LENET.format(**names)), ("conv2",), each, 5, lambda *_: None)
    return row.to_dict()


@pytest.mark.parametrize("name", BLOCKS)
def test_operands_of_the_digits_network_agree(name: str, tmp_path: Path) -> None:
    row = tiles(DIGITS, BLOCKS[name][0], 4, tmp_path)
    assert row["difference"] is None and row["cases"] == 4


@pytest.mark.skipif(data_folder() is None, reason="the external data folder is not there ($ARCHSIM_DATA)")
@pytest.mark.parametrize("name", BLOCKS)
def test_operands_of_lenet_agree(name: str, tmp_path: Path) -> None:
    row = tiles(MNIST, BLOCKS[name][0], 6, tmp_path)
    assert row["difference"] is None and row["cases"] == 6


def test_configurations_without_a_block() -> None:
    for changes in ({"vector": "single", "hash": "shared"}, {"order": "parallel"}):
        with pytest.raises(MappingError, match=next(iter(changes.values()))):
            filter_parameters(config(**changes))


def test_cases_say_what_the_kernels_say() -> None:
    """A bank asked by the kernel, and the case made of it."""
    bank = random_bank(np.random.default_rng(8), apx=9, operands=2, m=64, k=2, patterns=12, shared=False)
    a, b = np.float32([1.5, -2.0]), np.float32([0.25, 3.0])
    case, unit = filter_case("x", config(), bank, a, b), fu_case("x", bank, a, b)
    assert case.totals["cnt_query"] == 2 and unit.totals["cnt_stage"] == 6 * (2 - case.totals["cnt_hit"])
    assert Bloom.rtl[:2] == (BLOOM_FILTER, BLOOM_FU)
