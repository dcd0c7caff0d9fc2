"""The bit-error injector in Verilog against its model and the function on arrays: rates, positions, lanes, mutants."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from archsim.cosim.job import Verdict
from archsim.cosim.simulator import build, choose_simulator, run
from archsim.cosim.verilog import source_of
from archsim.memory.dram.injector import ALWAYS, hashes
from archsim.memory.dram.injector_cases import BERS, InjectorCase, Stream, injector_case, injector_cases
from archsim.memory.dram.rtl import BIT_ERROR_INJECTOR, injector_parameters_of
from tests.dram.traces import config

pytestmark = pytest.mark.cosim

CASES = 28
"""Every pair of rates twice, every fourth case with gaps and held results."""
WORDS = 40
PARAMETERS = injector_parameters_of(config("A"))


def random_cases(count: int = CASES) -> list[InjectorCase]:
    return list(islice(injector_cases(config("A"), 2, WORDS), count))


def simulated(cases: list[InjectorCase], folder: Path, source: Path | None = None) -> Verdict:
    return run(build(BIT_ERROR_INJECTOR, PARAMETERS, choose_simulator(), source=source), cases, folder)


def test_random_cases_hold_what_is_hard() -> None:
    cases = random_cases()
    streams = [stream for one in cases for stream in one.streams]
    assert len({stream.threshold for stream in streams}) == len(BERS)
    assert sum(one.taken != (1,) for one in cases) > 5
    mixed = sum(0 < sum(stream.approx) < len(stream.approx) for stream in streams)
    assert mixed > 15 and sum(all(stream.approx) for stream in streams) > 15
    assert sum(stream.first == 0 for stream in streams) > 5 and sum(stream.first > 1 << 40 for stream in streams) > 5
    assert sum(stream.first < 1 << 32 < stream.first + len(stream.words) for stream in streams) > 5
    for low, high in ((1, 1 << 28), (1 << 28, ALWAYS)):
        assert sum(low < stream.threshold < high for stream in streams) > 10


def test_rtl_model_and_function_agree(tmp_path: Path) -> None:
    """Every output in every cycle, every word, and the counters of words, approximate words and flips."""
    cases = random_cases()
    verdict = simulated(cases, tmp_path)
    assert verdict.difference is None
    assert verdict.results == verdict.totals["cnt_words"] == sum(len(s.words) for c in cases for s in c.streams) > 2000
    assert verdict.totals["cnt_flips"] > 20_000 and verdict.totals["cnt_approx"] < verdict.results


def test_no_errors_is_a_wire_and_the_exact_lane_always_is(tmp_path: Path) -> None:
    words = tuple(0x0123_4567_89AB_CDEF * k % (1 << 64) for k in range(1, 60))
    wire = injector_case("BER 0", [Stream(5, 0, 0, words, (1,) * len(words))])
    exact = injector_case("exact", [Stream(5, ALWAYS, 0, words, (0,) * len(words))])
    flipped = injector_case("BER 1", [Stream(5, ALWAYS, 0, words, (1,) * len(words))])
    assert [one["out_data"] for one in wire.outcomes] == [one["out_data"] for one in exact.outcomes] == list(words)
    assert [one["out_data"] for one in flipped.outcomes] == [word ^ (ALWAYS * ALWAYS - 1) for word in words]
    assert flipped.totals["cnt_flips"] == 64 * len(words)
    assert simulated([wire, exact, flipped], tmp_path).difference is None


MUTANTS = {
    "threshold <=": ("{1'b0, one} < limit", "{1'b0, one} <= limit"),
    "rotation": ("{b[26:0], b[31:27]}", "{b[25:0], b[31:26]}"),
    "short position": ("{position[63:32] ^ NONZERO, position[31:0], key}", "{NONZERO, position[31:0], key}"),
    "polynomial": ("32'h8d;", "32'hc5;"),
    "words of two bits": ("times_d[32*k + 64*j +: 32] ^ times_d[64*k + 32*j +: 32]", "times_d[32*k + 64*j +: 32]"),
    "exact lane": ("leave && approx[ROUNDS-1] ?", "leave ?"),
    "place of exact words": ("if (take) position", "if (take && in_approx) position"),
    "setting in flight": ("cfg_ready = valid == {ROUNDS{1'b0}}", "cfg_ready = !valid[0]"),
    "held result lost": ("stall = out_valid && !out_ready", "stall = 1'b0 && out_valid && !out_ready"),
}
HASH_EQUAL = "threshold <="
"""A hash equal to the threshold is what this mutant needs: a stream is made for it."""


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_of_the_block_are_caught(mutant: str, tmp_path: Path) -> None:
    old, new = MUTANTS[mutant]
    text = source_of("bit_error_injector").read_text()
    assert text.count(old) == 1, old
    (tmp_path / "bit_error_injector.v").write_text(text.replace(old, new))
    cases = random_cases(12)
    if mutant == HASH_EQUAL:
        cases = [injector_case("equal", [Stream(5, hashes(5, 0)[17], 0, (0,), (1,))])]
    difference = simulated(cases, tmp_path, tmp_path / "bit_error_injector.v").difference
    assert difference is not None and difference.against == "model"
