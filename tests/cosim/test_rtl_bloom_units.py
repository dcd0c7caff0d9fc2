"""Verilog of the units that add, multiply-add and take roots, beside their models and the units of every simulation."""

from __future__ import annotations

from collections import Counter
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.accelerators.base import RtlBlock
from archsim.accelerators.bloom import Bloom
from archsim.accelerators.bloom.config import PRESETS, BloomConfig
from archsim.accelerators.bloom.floats import apply_unit
from archsim.accelerators.bloom.rtl import BLOOM_MAC, BLOOM_SQRT
from archsim.accelerators.bloom.rtl_cases import SPECIAL
from archsim.accelerators.bloom.rtl_model import MAC_PORTS, SQRT_PORTS, FuCase, Token, unit_bits
from archsim.accelerators.bloom.rtl_units import random_mac_cases, random_sqrt_cases
from archsim.config import load_study
from archsim.cosim.campaign import Bench, study_rows
from archsim.cosim.job import Verdict
from archsim.cosim.simulator import build, choose_simulator, run
from archsim.errors import MappingError
from tests.cosim.test_rtl_bloom_filter import mutant

pytestmark = pytest.mark.cosim
BLOCKS = {"bloom_mac": (BLOOM_MAC, random_mac_cases), "bloom_sqrt": (BLOOM_SQRT, random_sqrt_cases)}
CASES = 16
LENET = BloomConfig(**PRESETS["lenet-t25"])


def simulated(block: RtlBlock, cases: list[Any], folder: Path, source: Path | None = None, **size: int) -> Verdict:
    return run(build(block, size or block.parameters(LENET), choose_simulator(), source=source), cases, folder)


def special_case(kind: str, operands: list[tuple[int, ...]], ports: tuple[str, ...]) -> FuCase:
    """All of them missed, one after the other; what stands at the ports gives what must come out."""

    def exact(at: tuple[int, ...]) -> int:
        return unit_bits(kind, {"add": (at[0], at[2]) if kind == "add" else at, "mac": at[:3], "sqrt": at}[kind])

    outcomes = tuple({"out_hit": 0, "out_bf": 0, "out_result": exact(at)} for at in operands)
    return FuCase(kind, (0,), tuple(Token(at) for at in operands), outcomes, {"cnt_stage": 6 * len(operands)}, ports)


def missed(name: str, kind: str | None = None) -> list[tuple[tuple[int, ...], int]]:
    """Operands and results of the random cases that are computed, of one kind."""
    cases: list[FuCase] = list(islice(BLOCKS[name][1](LENET, 1), CASES))
    return [
        (one.operands, outcome["out_result"])
        for case in cases if kind is None or case.about.endswith(kind)
        for one, outcome in zip((one for one in case.operations if one is not None), case.outcomes)
        if one.bf is None
    ]  # fmt: skip


def kind_of(bits: int) -> str:
    size = bits & 0x7FFFFFFF
    if size >= 0x7F800000:
        return "infinity" if size == 0x7F800000 else "nan"
    return ("normal" if size else "zero") + ("-" if bits >> 31 else "+")


@pytest.mark.parametrize("name", BLOCKS)
def test_random_cases_agree(name: str, tmp_path: Path) -> None:
    """Every output in every cycle; sums and roots of the simulations' units; stage clocks and reads at the end."""
    block, made = BLOCKS[name]
    cases: list[Any] = list(islice(made(LENET, 1), CASES))
    verdict = simulated(block, cases, tmp_path)
    assert verdict.difference is None and verdict.results == 256 * CASES
    assert verdict.totals["cnt_read"] + verdict.totals["cnt_stage"] // 6 == 256 * CASES
    assert min(verdict.totals.values()) > 50 and any(None in case.operations for case in cases)


def test_other_numbers_of_registers_agree(tmp_path: Path) -> None:
    config = BloomConfig(**PRESETS["sobel-t23"])
    cases: list[Any] = list(islice(random_mac_cases(config, 3), 2))
    assert simulated(BLOOM_MAC, cases, tmp_path, NBF=12).difference is None
    assert [block.parameters(config) for block in (BLOOM_MAC, BLOOM_SQRT)] == [{"NBF": 12}, {"NBF": 16}]


@pytest.mark.parametrize("kind", ["add", "mac"])
def test_random_sums_hold_what_is_hard(kind: str) -> None:
    """All kinds of results, exact ties, what cancels to nothing or to less than a normal number, far exponents."""
    found = missed("bloom_mac", kind)
    assert set(Counter(kind_of(bits) for _, bits in found)) == {
        "zero+", "zero-", "normal+", "normal-", "infinity", "nan"
    }  # fmt: skip
    a, b, c, added = (np.array(column) for column in zip(*(operands for operands, _ in found)))
    a, b, c = (np.ascontiguousarray(one, np.uint32).view(np.float32) for one in (a, b, c))
    assert (added == (kind == "add")).all() and (b != 0).mean() > 0.5
    with np.errstate(all="ignore"):
        x = a if kind == "add" else apply_unit("mul", [a, b])
        exact = x.astype(np.float64) + c
        rounded = exact.astype(np.float32).astype(np.float64)
        other = np.nextafter(rounded.astype(np.float32), np.where(exact > rounded, np.inf, -np.inf).astype(np.float32))
        ordinary = np.isfinite(exact) & (abs(rounded) >= 2.0**-126) & (x != 0) & (c != 0)
        ties = ordinary & (exact != rounded) & (abs(exact - rounded) == abs(exact - other))
        nothing = np.isfinite(x) & (x != 0) & (exact == 0)
        less = np.isfinite(exact) & (exact != 0) & (abs(exact) < 2.0**-126) & (abs(x) >= 2.0**-126)
    assert ties.sum() > 20 and nothing.sum() > 20 and less.sum() > 3


def test_random_roots_hold_what_is_hard() -> None:
    """Exact squares, roots of both exponents, negative numbers, -0."""
    found = missed("bloom_sqrt")
    assert set(Counter(kind_of(bits) for _, bits in found)) == {"zero+", "zero-", "normal+", "infinity", "nan"}
    a, root = (np.array(one, np.uint32).view(np.float32) for one in zip(*((at[0], bits) for at, bits in found)))
    squares = root.astype(np.float64) ** 2 == a.astype(np.float64)
    assert (squares & np.isfinite(a) & (a > 1)).sum() > 50
    odd = a.view(np.uint32) >> np.uint32(23) & np.uint32(1)
    assert 0.3 < odd[(a > 0) & ~squares].mean() < 0.7


def test_special_numbers_agree(tmp_path: Path) -> None:
    """All pairs and triples of the format's edges; sums and differences about the least normal number."""
    rng = np.random.default_rng(4)
    least = [int(bits) for bits in rng.integers(0x00800000, 0x01800000, 60)]
    numbers = [*SPECIAL, 0x00800001, 0x80800000, 0xFF7FFFFF, 0x33800000, 0xB3800000, 0xBF800000, 0x4B800000]
    pairs = [*product(numbers, numbers), *product(least, [one ^ 0x80000000 for one in least])]
    cases = [
        special_case("add", [(a, 0x40490FDB, c, 1) for a, c in pairs], MAC_PORTS),
        special_case("mac", [(a, b, c, 0) for a, b, c in product(numbers, numbers, SPECIAL) if a <= b], MAC_PORTS),
    ]
    assert simulated(BLOOM_MAC, cases, tmp_path).difference is None
    roots = special_case("sqrt", [(a,) for a in [*numbers, *least, *(one ^ 0x80000000 for one in least)]], SQRT_PORTS)
    assert simulated(BLOOM_SQRT, [roots], tmp_path).difference is None


def test_a_mac_rounds_twice() -> None:
    """(1 + 2^-12)^2 - (1 + 2^-11): the product loses its last bit before the sum, a fused one would keep it."""
    a, c = 0x3F800800, 0xBF801000
    assert unit_bits("mac", (a, a, c)) == 0 and (1 + 2.0**-12) ** 2 - (1 + 2.0**-11) == 2.0**-24


@pytest.mark.parametrize("name", BLOCKS)
def test_a_result_takes_8_cycles(name: str) -> None:
    block, made = BLOCKS[name]
    seen = list(next(made(LENET, 5)).play(block.model({"NBF": 30})))
    first = next(cycle for cycle, (inputs, _) in enumerate(seen) if inputs["in_valid"])
    assert [seen[first + after][1]["out_valid"] for after in range(9)] == [0] * 8 + [1]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("bloom_mac", "norm[3] && (norm[2:0] != 3'd0 || norm[4])", "norm[3]"),
        ("bloom_mac", "shifted[24:0] != 25'd0", "1'b0"),
        ("bloom_mac", "apart > 8'd27 ? 5'd27 : apart[4:0]", "apart[4:0]"),
        ("bloom_mac", "apart > 8'd27 ? 5'd27", "apart > 8'd24 ? 5'd24"),
        ("bloom_mac", "cancelled ? 1'b0 : bigger[31]", "bigger[31]"),
        ("bloom_mac", "(x_inf && c_inf && differ)", "1'b0"),
        ("bloom_mac", "!lesser_zero", "1'b1"),
        ("bloom_mac", "c3[31], c_zero ? 31'd0 : c3[30:0]", "c3"),
        ("bloom_mac", "sum4 == 28'd0 || exp[9] || exp == 10'd0", "sum4 == 28'd0"),
        ("bloom_mac", "exp == 10'd255", "1'b0"),
        ("bloom_mac", "{exp[7:0], norm[26:4]} + {30'd0, up}", "{exp[7:0], norm[26:4] + {22'd0, up}}"),
        ("bloom_mac", "exp_p >= 10'd255", "1'b0"),
        ("bloom_mac", "half_p && (rest_p || mant_p[0])", "1'b0"),
        ("bloom_mac", "exp_p == 10'd0 && mant_p == 24'hFFFFFF", "1'b0"),
        ("bloom_mac", "add2 ? a2 : product", "product"),
        ("bloom_mac", "{valid[4:0] & ~hits[4:0], wait2 && !in_hit}", "{valid[4:0], wait2}"),
        ("bloom_sqrt", "{22'd0, root4[0]}", "23'd0"),
        ("bloom_sqrt", "upper_next >= {1'b0, upper, 2'b01}", "upper_next > {1'b0, upper, 2'b01}"),
        ("bloom_sqrt", "lower_next - {1'b0, lower, 2'b01}", "lower_next - {1'b0, lower, 2'b00}"),
        ("bloom_sqrt", "twice[0] ? {1'b1, a1[22:0], 26'd0}", "twice[1] ? {1'b1, a1[22:0], 26'd0}"),
        ("bloom_sqrt", "a_nan || (a1[31] && !a_zero)", "a_nan"),
        ("bloom_sqrt", "packed5 <= {sign4, 31'd0}", "packed5 <= 32'd0"),
        ("bloom_sqrt", "hits[4] ? outputs[filter[4*BF +: BF]] : packed5", "packed5"),
    ],
    ids=["ties", "no sticky bit", "far operand comes back", "shift cut short", "-0 when cancelled", "inf - inf",
         "adds a subnormal", "subnormal in", "subnormal out", "past infinity", "carry", "product past infinity",
         "product cut off", "least normal", "adds the product", "no gating", "root cut off", "upper digit",
         "lower digit", "odd exponent", "negative", "-0", "no register"],
)  # fmt: skip
def test_mutants_are_caught(name: str, old: str, new: str, tmp_path: Path) -> None:
    block, made = BLOCKS[name]
    cases: list[Any] = list(islice(made(LENET, 1), CASES))
    assert simulated(block, cases, tmp_path, source=mutant(name, tmp_path, old, new)).difference is not None


@pytest.mark.parametrize(("block", "steps"), [(BLOOM_MAC, {"add", "mac"}), (BLOOM_SQRT, {"sqrt"})], ids=list(BLOCKS))
def test_operations_of_sobel_agree(block: RtlBlock, steps: set[str], tmp_path: Path) -> None:
    """Made-up scenes through the filters of Table 2.3; additions and multiply-additions in turn."""
    bench = Bench(block, choose_simulator(), tmp_path)
    (row,) = study_rows(bench, load_study("bloom-scenes.yaml"), (), 8, 5, lambda *_: None)
    assert row.verdict.difference is None and row.verdict.results == 8 * 256
    assert row.verdict.totals["cnt_read"] > 0


def test_configurations_and_layers_without_a_block() -> None:
    parallel = BloomConfig(**{**PRESETS["lenet-t25"], "order": "parallel"})
    for block in (BLOOM_MAC, BLOOM_SQRT):
        with pytest.raises(MappingError, match="parallel"):
            block.parameters(parallel)
    study = load_study("bloom-scenes.yaml", ["knobs.kernel.bloom_match=0"])
    bench = Bench(BLOOM_MAC, choose_simulator(), Path())
    with pytest.raises(MappingError, match=r"'kernel' runs with its filters off"):
        list(study_rows(bench, study, ("kernel",), 1, 0, lambda *_: None))
    sharpen = ["workload.network=sharpen.yaml", "platform.accelerators.npu.preset=sharpen-t23"]
    bench = Bench(BLOOM_SQRT, choose_simulator(), Path())
    with pytest.raises(MappingError, match="'kernel' has no sqrt for the block bloom_sqrt"):
        list(study_rows(bench, load_study("bloom-scenes.yaml", sharpen), ("kernel",), 1, 0, lambda *_: None))
    assert Bloom.rtl[2:] == (BLOOM_MAC, BLOOM_SQRT)
