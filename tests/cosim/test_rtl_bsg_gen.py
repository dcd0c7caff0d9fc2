"""The generator in Verilog against its model and the kernel: sizes, two wraps, latency, waiting weights, mutants."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from archsim.accelerators.bsg.config import PRESETS, BsgConfig
from archsim.accelerators.bsg.generator import slice_weights, xorshift_words
from archsim.accelerators.bsg.rtl import BSG_GEN
from archsim.accelerators.bsg.rtl_cases import make_case, random_cases
from archsim.accelerators.bsg.rtl_model import BsgGen, GeneratorCase, parameters_of
from archsim.cosim.job import Verdict
from archsim.cosim.simulator import build, choose_simulator, run
from archsim.cosim.verilog import source_of
from archsim.errors import MappingError

pytestmark = pytest.mark.cosim

SIZES = (64, 128, 256, 512)
"""Acceptance goes up to 2048 (tests/accept/test_bsg.py)."""


def config(n_c: int = 256, generator: str = "rotate") -> BsgConfig:
    return BsgConfig(**{**PRESETS["zynq7020"], "n_c": n_c, "generator": generator})


def simulated(cases: list[GeneratorCase], one: BsgConfig, folder: Path, source: Path | None = None) -> Verdict:
    return run(build(BSG_GEN, parameters_of(one), choose_simulator(), source=source), cases, folder)


@pytest.mark.parametrize("generator", ["rotate", "feedback"])
@pytest.mark.parametrize("n_c", SIZES)
def test_weights_over_two_wraps(n_c: int, generator: str, tmp_path: Path) -> None:
    """Every output in every cycle, and every weight against the kernel."""
    one = config(n_c, generator)
    cases = list(islice(random_cases(one, 5), 6 if n_c < 512 else 2))
    assert all(len(case.outcomes) > 2 * n_c for case in cases)
    verdict = simulated(cases, one, tmp_path)
    assert verdict.difference is None
    assert verdict.results == sum(len(case.outcomes) for case in cases)
    weights = np.array([outcome["w"] for case in cases for outcome in case.outcomes])
    assert (weights > 0).mean() > 0.2 < (weights < 0).mean()


def test_first_weight_and_one_per_cycle(tmp_path: Path) -> None:
    """A slice of 2304 weights: the first n_c / 16 + LAT cycles after its first word, then one in every cycle."""
    one = config()
    base, code = xorshift_words(0x2545F491, 16), xorshift_words(0x9E3779B9, 16)
    case = make_case("a slice", base, [(code, 2304)], "rotate")
    valid = [seen["w_valid"] for _, seen in case.play(BsgGen(parameters_of(one)))][1:]  # without the reset
    latency = one.code_words + one.generator_latency_cycles
    assert latency == 16 + 10 and valid[:latency] == [0] * latency and valid[latency : latency + 2304] == [1] * 2304
    assert not any(valid[latency + 2304 :])
    assert one.generation_cycles == latency + 2304
    assert [outcome["w"] for outcome in case.outcomes[:8]] == [28, 28, -8, 4, 4, 0, -4, 12]
    verdict = simulated([case], one, tmp_path)
    assert verdict.difference is None and verdict.results == 2304


def test_extremes_and_a_register_that_came_home(tmp_path: Path) -> None:
    """All bits equal or all different (n_c and -n_c), slices of one weight, no second load after whole turns."""
    base = xorshift_words(3, 4)
    jobs = [(base, 128), (~base, 64), (xorshift_words(9, 4), 1), (base, 1)]
    case = make_case("extremes", base, jobs, "rotate")
    assert [job.base is None for job in case.jobs] == [False, True, True, False]
    weights = [outcome["w"] for outcome in case.outcomes]
    assert weights[0] == 64 and weights[128] == -64
    one = config(64)
    assert simulated([case, replace(case, taken=(1, 0, 0, 1))], one, tmp_path).difference is None


def test_vectors_of_the_kernel_are_those_of_the_block() -> None:
    """The register model alone, without a simulator: 2304 weights, both generators."""
    for generator in ("rotate", "feedback"):
        base, code = xorshift_words(11, 16), xorshift_words(12, 16)
        case = make_case("model", base, [(code, 2304)], generator)  # type: ignore[arg-type]
        model = BsgGen(parameters_of(config(256, generator)))
        seen = [outputs["w"] for given, outputs in case.play(model) if outputs["w_valid"] and given["w_ready"]]
        assert seen == slice_weights(base, code[None], 2304, generator)[0].tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize(("changes", "told"), [({"design": "baseline"}, "baseline"), ({"n_c": 48}, "has n_c of 32")])
def test_configurations_the_block_does_not_have(changes: dict[str, object], told: str) -> None:
    with pytest.raises(MappingError, match=told):
        parameters_of(BsgConfig(**{**PRESETS["zynq7020"], **changes}))


MUTANTS = {
    "sign": ("{2'b01, {LOGN{1'b0}}} - {sums", "{2'b11, {LOGN{1'b0}}} + {sums"),
    "other way round": ("base <= {base[N-2:0], enter}", "base <= {enter, base[N-1:1]}"),
    "turned while waiting": ("issue = move && left", "issue = left"),
    "upper half of a sum": ("sums[FROM + (2*i+1)*k +: k]", "sums[FROM + 2*i*k +: k]"),
    "one weight less": ("left <= start_len", "left <= start_len - 16'd1"),
    "loaded from the other end": ("code <= {code_d, code[N-1:16]}", "code <= {code[N-17:0], code_d}"),
    "tap": ("base[N-1-TAP_C]", "base[N-2-TAP_C]"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_of_the_block_are_caught(mutant: str, tmp_path: Path) -> None:
    old, new = MUTANTS[mutant]
    text = source_of("bsg_gen").read_text()
    assert text.count(old) == 1, old
    (tmp_path / "bsg_gen.v").write_text(text.replace(old, new))
    one = config(64, "feedback" if mutant == "tap" else "rotate")
    cases = list(islice(random_cases(one, 1), 3))
    assert simulated(cases, one, tmp_path, tmp_path / "bsg_gen.v").difference is not None
