"""The PE of SnaPEA in Verilog against its model and the simulator's kernels: random cases, real layers, mutants."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from archsim.accelerators.snapea import rtl_cases
from archsim.accelerators.snapea.config import PRESETS, SnapeaConfig
from archsim.accelerators.snapea.order import Streams
from archsim.accelerators.snapea.rtl import SNAPEA_PE
from archsim.accelerators.snapea.rtl_model import ALWAYS, PeCase, SnapeaPe, parameters_of
from archsim.assets import data_folder
from archsim.config import study_from_text
from archsim.cosim.campaign import Bench, study_rows
from archsim.cosim.job import Verdict
from archsim.cosim.simulator import build, choose_simulator, run
from archsim.cosim.verilog import source_of
from tests.bad_inputs import called

pytestmark = pytest.mark.cosim

Law: TypeAlias = Callable[[Any, Any, int], Any]
ISCA18 = SnapeaConfig(**PRESETS["isca18"])
CASES = 512
LANES = (1, 2, 4, 8)
ZERO_HEAVY = 64
"""Cases that hold a mutant of the sign: sums of exactly 0 are what it needs."""


def config_of(lanes: int) -> SnapeaConfig:
    return ISCA18.model_copy(update={"lanes": lanes})


def random_cases(lanes: int, count: int = CASES) -> list[PeCase]:
    return list(islice(rtl_cases.random_cases(config_of(lanes), 1), count))


def simulated(cases: list[PeCase], folder: Path, lanes: int = 4, source: Path | None = None) -> Verdict:
    return run(build(SNAPEA_PE, parameters_of(config_of(lanes)), choose_simulator(), source=source), cases, folder)


# Random cases


@pytest.mark.parametrize("lanes", LANES)
def test_random_cases_hold_what_is_hard(lanes: int) -> None:
    cases = random_cases(lanes)
    lengths = [len(one.kernel.weights) for one in cases]
    windows = [lane for one in cases for group in one.groups for lane in group if lane]
    stops = sum(outcome["out_term"].bit_count() for one in cases for outcome in one.outcomes)
    assert stops > 0.3 * len(windows) > 400
    assert sum(K == 1 for K in lengths) > 2 and sum(K < 3 for K in lengths) > 5 and max(lengths) > 100
    for negative in (False, True):
        assert sum((one.kernel.bias < 0) == negative for one in cases) > 0.3 * len(cases)
        assert sum((one.kernel.th < 0) == negative for one in cases if one.kernel.n) > 0.15 * len(cases)
    assert sum(one.kernel.n > 0 for one in cases) > 0.4 * len(cases)
    assert sum("zero-heavy" in one.about for one in cases) > 100
    assert sum(one.kernel.n == K for one, K in zip(cases, lengths)) > 2
    assert sum(one.offered != ALWAYS and one.taken != ALWAYS for one in cases) > 50
    assert max(len(one.groups) for one in cases) > 4
    if lanes > 1:
        assert sum(not all(one.groups[-1]) for one in cases) > 0.2 * len(cases)


@pytest.mark.parametrize("lanes", LANES)
def test_rtl_model_and_kernels_agree_on_random_cases(lanes: int, tmp_path: Path) -> None:
    """Every output in every cycle; cycles, MACs, reads and checks at the end of each case; sums, steps and stops."""
    cases = random_cases(lanes)
    verdict = simulated(cases, tmp_path, lanes)
    assert verdict.difference is None
    assert verdict.cases == CASES >= 500 and verdict.results == sum(len(one.groups) for one in cases)
    for name in ("cnt_mac", "cnt_wi_read", "cnt_in_read", "cnt_pau_check", "cnt_cycles"):
        assert verdict.totals[name] == sum(one.totals.get(name, 0) for one in cases) > 1000


def test_worked_pe_of_the_specification(tmp_path: Path) -> None:
    """K 16, groups of op {3,5,2,5}, {16,1,1,1}, {4,4,4,4}: cycles 8 + 16 + 7, MACs 50, reads 31 and 29."""
    op = [3, 5, 2, 5, 16, 1, 1, 1, 4, 4, 4, 4]
    weights = np.full(16, -1, np.int16)
    words = np.zeros((16, len(op)), np.int32)
    for window, steps in enumerate(op):
        words[steps - 1, window] = 0 if steps == 16 else 9
    streams = Streams(weights, np.arange(16, dtype=np.uint16), np.array([0, 16]), *(np.zeros(1, np.int64),) * 3)
    case = rtl_cases.make_case(ISCA18, "worked PE", streams, 8, words, 9)
    assert case.totals == {
        "cnt_mac": 50, "cnt_wi_read": 31, "cnt_in_read": 29, "cnt_pau_check": 50, "cnt_cycles": 31
    }  # fmt: skip
    assert simulated([case], tmp_path).difference is None


@pytest.mark.parametrize("op", [1, 2, 5, 11])
def test_a_lane_is_stopped_in_its_cycle_and_not_before(op: int, tmp_path: Path) -> None:
    """The step that triggers is issued op - 1 cycles after the first, its sum visible in 3: not at clk - 1, at clk."""
    weights, words = np.full(16, -1, np.int16), np.zeros((16, 1), np.int32)
    words[op - 1] = 9
    streams = Streams(weights, np.arange(16, dtype=np.uint16), np.array([0, 16]), *(np.zeros(1, np.int64),) * 3)
    case = rtl_cases.make_case(ISCA18, "one window", streams, 8, words, 9)
    terminate, issued = [], None
    for cycle, (inputs, outputs) in enumerate(case.play(SnapeaPe(parameters_of(ISCA18)))):
        if inputs["start_valid"] and outputs["start_ready"]:
            issued = cycle
        terminate.append(outputs["terminate"] & 1)
    assert issued is not None
    at = issued + (op - 1) + 3
    assert terminate[at - 1 : at + 1] == [0, 1] and sum(terminate) == 1
    assert simulated([case], tmp_path).difference is None


# Mutants: what the specification says must be caught


def mutant(folder: Path, old: str, new: str) -> Path:
    """Return the source with one place changed."""
    text = source_of("snapea_pe").read_text()
    assert text.count(old) == 1, old
    path = folder / "snapea_pe.v"
    path.write_text(text.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "signal"),
    [
        ("(sign3 && acc[l*WACC + WACC-1])", "(sign3 && $signed(acc[l*WACC +: WACC]) <= 0)", "terminate"),
        ("(guess3 && $signed(acc[l*WACC +: WACC]) < th3)", "(guess3 && $signed(acc[l*WACC +: WACC]) <= th3)",
         "terminate"),
        ("wire                   early_end = valid3 && !last3", "wire early_end = 1'b0 && valid3", "start_ready"),
        ("valid2 <= valid1 && !(early_end && tag1 == tag3)", "valid2 <= valid1", "terminate"),
        ("(first2 ? bias2 : acc[i*WACC +: WACC])", "(first2 ? {WACC{1'b0}} : acc[i*WACC +: WACC])", "terminate"),
        ("{{(WACC-W){1'b0}}, word}", "{{(WACC-W){word[W-1]}}, word}", "terminate"),
        ("sign1 <= k >= neg_at", "sign1 <= k > neg_at", "terminate"),
    ],
    ids=["sign <=", "threshold <=", "no early end", "a dead step lives", "no bias", "signed words", "late sign"],
)  # fmt: skip
def test_mutants_of_the_block_are_caught(old: str, new: str, signal: str, tmp_path: Path) -> None:
    cases = random_cases(4, ZERO_HEAVY)
    difference = simulated(cases, tmp_path, source=mutant(tmp_path, old, new)).difference
    assert difference is not None and difference.against == "model"
    assert difference.signal == signal or difference.signal.startswith(("cnt_", "rd_", "out_")), difference


def shorter_bubble(law: Law) -> Law:
    return lambda K, m, bubble: law(K, m, bubble - 1)


def without_min(law: Law) -> Law:
    """m + B also where the kernel is over before."""
    return lambda K, m, bubble: law(np.full_like(np.asarray(K), 1 << 20), m, bubble)


@pytest.mark.parametrize("change", [shorter_bubble, without_min])
def test_mutants_of_the_law_are_caught(
    change: Callable[[Law], Law], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("pe_cycles", "group_steps"):
        monkeypatch.setattr(rtl_cases, name, change(getattr(rtl_cases, name)))
    difference = simulated(random_cases(4, ZERO_HEAVY), tmp_path).difference
    assert difference is not None and difference.against == "kernel"
    assert difference.signal in ("cnt_cycles", "cnt_wi_read")


@pytest.mark.parametrize("field", ["sign_compare", "th_compare"])
def test_mutants_of_the_kernel_are_caught(field: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rtl_cases, "parameters_of", lambda config, layer=None: parameters_of(ISCA18, layer))
    config = ISCA18.model_copy(update={field: "<="})
    cases = list(islice(rtl_cases.random_cases(config, 1), ZERO_HEAVY))
    difference = simulated(cases, tmp_path).difference
    assert difference is not None and difference.against == "kernel"
    assert difference.signal in ("out_op", "out_psum", "out_term", "cnt_mac", "cnt_wi_read")


def test_the_sign_mutant_needs_the_zero_heavy_cases(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On the other cases it hides: that is why they are a permanent part of the suite."""
    cases = [case for case in random_cases(4) if "zero-heavy" not in case.about]
    old, new = "(sign3 && acc[l*WACC + WACC-1])", "(sign3 && $signed(acc[l*WACC +: WACC]) <= 0)"
    plain = simulated(cases[:200], tmp_path, source=mutant(tmp_path, old, new))
    heavy = [case for case in random_cases(4) if "zero-heavy" in case.about]
    caught = simulated(heavy[:20], tmp_path, source=mutant(tmp_path, old, new))
    assert caught.difference is not None
    assert plain.difference is None or plain.cases > caught.cases


# Real layers


def study(network: str, data: str, calibration: str, mode: str = "exact", extra: str = "") -> str:
    return f"""\
schema: 1
name: tiles
workload: {{network: {network}, data: {{{data}}}, calibration: {{{calibration}}}}}
platform:
  accelerators: {{npu: {{kind: snapea, preset: isca18, mode: {mode}}}}}
  memory: {{kind: link, preset: flat-ddr4, bandwidth_GB_per_s: 19.2, latency_ns: 50}}
{extra}"""


def speculating(layers: Sequence[tuple[str, int]], th: int, n: int) -> str:
    """Every filter of the layers, given with their number of filters, speculates."""
    knobs = ", ".join(f"{name}: {{speculation: {[1] * filters}}}" for name, filters in layers)
    rows = {name: [{"filter": m, "level": 1, "th": th, "n": n} for m in range(filters)] for name, filters in layers}
    return f"knobs: {{{knobs}}}\nlevels: {{speculation: {json.dumps(rows)}}}\n"


DIGITS = ("digits_cnn.onnx", "name: digits, images: 16", "name: digits, split: train, images: 32")
LENET = ("lenet5_mnist.onnx", "file: mnist_test_0000_4999.npz, images: 8", "file: mnist_train_60000.npz, images: 32")
RESNET = (
    "resnet20_cifar10.onnx", "file: cifar10_test_dev5000.npz, images: 4", "file: cifar10_train_a5000.npz, images: 8"
)  # fmt: skip
SQUEEZENET = (
    "squeezenet1_0_dc.onnx",
    "file: imagenet_sample_dev400.npz, images: 1",
    "file: imagenet_sample_dev400.npz, images: 2, first: 100",
)


def tiles(text: str, layers: Sequence[str], each: int, folder: Path) -> list[dict[str, Any]]:
    """Run tiles of real layers; all must agree."""
    bench = Bench(SNAPEA_PE, choose_simulator(), folder)
    rows = study_rows(bench, study_from_text(text), layers, each, 5, lambda *_: None)
    found = [row.to_dict() for row in rows]
    assert [row["difference"] for row in found] == [None] * len(found)
    assert all(row["cases"] == each for row in found)
    return found


@pytest.mark.parametrize("mode", ["exact", "predictive"])
def test_tiles_of_the_digits_network_agree(mode: str, tmp_path: Path) -> None:
    extra = speculating([("conv2", 32), ("conv3", 32)], 4_000_000, 8) if mode == "predictive" else ""
    found = tiles(study(*DIGITS, mode=mode, extra=extra), (), 60, tmp_path)
    assert [row["what"] for row in found] == ["conv2", "conv3"]
    assert all(row["totals"]["cnt_mac"] < 0.95 * 4 * row["totals"]["cnt_wi_read"] for row in found)


@pytest.mark.skipif(data_folder() is None, reason="the external data folder is not there ($ARCHSIM_DATA)")
@pytest.mark.parametrize(
    ("text", "layers", "each"),
    [
        (study(*RESNET), (), 12),
        (study(*LENET), (), 40),
        (study(*SQUEEZENET), ("fire2_expand3x3", "fire9_squeeze1x1", "fire5_expand1x1"), 8),
    ],
    ids=["ResNet-20", "LeNet-5", "SqueezeNet"],
)
def test_tiles_of_real_networks_agree(text: str, layers: Sequence[str], each: int, tmp_path: Path) -> None:
    found = tiles(text, layers, each, tmp_path)
    assert sum(row["cases"] for row in found) >= (24 if layers else 100)


# The command


def test_a_difference_ends_with_exit_code_1_and_its_waves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own RTL, found in the current folder, lacks the bias."""
    old, new = "(first2 ? bias2 : acc[i*WACC +: WACC])", "(first2 ? {WACC{1'b0}} : acc[i*WACC +: WACC])"
    (tmp_path / "snapea_pe").mkdir()
    mutant(tmp_path / "snapea_pe", old, new)
    code, printed, complaint = called(["cosim", "snapea_pe", "--cases", "20"], tmp_path)
    assert (code, complaint) == (1, "")
    flat = " ".join(printed.split())
    assert re.search(r"difference case \d+ \(K .*\), cycle \d+: \w+: RTL \d+ \(0x\w+\), model \d+ \(0x\w+\)", flat)
    (waves,) = (path for path in (tmp_path / "runs").rglob("*") if path.suffix in (".fst", ".vcd"))
    assert waves.stat().st_size > 500 and f"waves {waves.relative_to(tmp_path)}" in flat


def test_waves_of_every_batch_and_buffers_of_any_size(tmp_path: Path) -> None:
    command = ["cosim", "snapea_pe", "--cases", "251", "--waves", "--set", "weight_buffer_bytes=20"]
    code, printed, complaint = called(command, tmp_path)
    assert (code, complaint) == (0, "") and "KMAX 16" in " ".join(printed.split())
    waves = {path.parent.parent.name for path in (tmp_path / "runs").rglob("*") if path.suffix in (".fst", ".vcd")}
    assert waves == {"random-0", "random-250"}


def test_agreement_ends_with_exit_code_0(tmp_path: Path) -> None:
    code, printed, complaint = called(["cosim", "snapea_pe", "--cases", "12", "--set", "lanes=8", "--json"], tmp_path)
    assert (code, complaint) == (0, "")
    (row,) = json.loads(printed)
    assert row["cases"] == 12 and row["difference"] is None and row["parameters"]["LANES"] == 8
    assert not (tmp_path / "runs").exists()


def test_tiles_from_the_command_line(tmp_path: Path) -> None:
    command = ["cosim", "snapea_pe", "--study", "snapea-digits-study.yaml", "--layer", "conv2", "--tiles", "5"]
    exact = ["--set", "platform.accelerators.npu.mode=exact", "--set", "workload.data.images=4"]
    code, printed, complaint = called([*command, *exact, "--set", "workload.timed_images=1"], tmp_path)
    assert (code, complaint) == (0, "") and "conv2" in printed and "yes" in printed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["snapea_pee"], ("unknown block 'snapea_pee'", "did you mean 'snapea_pe'")),
        (["snapea_pe", "--layer", "conv2", "--tiles", "3"], ("--layer conv2", "needs --study")),
        (["--study", "quickstart.yaml"], ("name the block to run",)),
        (["snapea_pe", "--simulator", "icaro"], ("unknown simulator 'icaro'", "did you mean 'icarus'")),
        (["snapea_pe", "--set", "lanes=3"], ("lanes", "3")),
        (["snapea_pe", "--set", "bubble_cycles=0"], ("bubble_cycles 3", "0")),
        (["snapea_pe", "--study", "snapea-vgg16.yaml"], ("needs data",)),
        (["snapea_pe", "--study", "snapea-digits-study.yaml"], ("mode 'predictive' needs levels",)),
        (["snapea_pe", "--study", "quickstart.yaml", "--set", "workload.data.images=2"], ("can be shown",)),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], expected: tuple[str, ...], tmp_path: Path) -> None:
    code, _, complaint = called(["cosim", *arguments], tmp_path)
    assert code == 2 and complaint.count("\n") == 1 and all(text in complaint for text in expected), complaint
