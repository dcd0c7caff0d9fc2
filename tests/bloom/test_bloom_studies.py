"""Studies and tuning with `bloom`, image kernels from file to picture, and mistakes a user can make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.config import load_study, study_from_text
from archsim.errors import StudyError, WorkloadError
from archsim.report.table import run_report
from archsim.report.tune_table import tune_report
from archsim.run import simulate
from archsim.tuner.error_rates import false_positives, sized
from archsim.tuner.spec import load_tune
from archsim.tuner.tuning import tune
from archsim.workload.image_kernel import load_image_kernel
from archsim.workload.layers import OpStream
from archsim.workload.networks import load_network
from archsim.workload.pictures import IDENTICAL_dB, as_picture, psnr_dB, scenes
from tests.bloom.cases import THESIS

OPERATIONS = {
    "sobel": (6, 2, 5, 1), "prewitt": (0, 3, 11, 1), "scharr": (0, 3, 11, 1), "roberts": (0, 3, 3, 1),
    "sharpen": (0, 1, 4, 0),
}  # fmt: skip
"""ADD, MUL, MAC, SQRT per pixel, bloom.md section 5."""
DIGITS = """\
schema: 1
name: digits-on-bloom
workload:
  network: digits_cnn.onnx
  data: {name: digits, images: 60}
  calibration: {name: digits, split: train, images: 64}
  timed_images: 2
platform:
  accelerators: {npu: {kind: bloom, preset: lenet-t25, fp_max_unit: 0.3}}
  memory: {kind: link, preset: flat-ddr4, bandwidth_GB_per_s: 19.2, latency_ns: 50}
"""
SCENES = """\
schema: 1
name: scenes-on-bloom
workload:
  network: NETWORK
  data: {name: scenes, images: 2}
  calibration: {name: scenes, split: train, images: 1}
  timed_images: 1
platform:
  accelerators: {npu: {kind: bloom, preset: sobel-t23}}
  memory: {kind: link, preset: flat-ddr4, bandwidth_GB_per_s: 19.2, latency_ns: 50}
"""


def knobs(text: str, level: int, *layers: str) -> str:
    return text + "knobs: {" + ", ".join(f"{name}: {{bloom_match: {level}}}" for name in layers) + "}\n"


def shown(result: Any) -> str:
    from rich.console import Console

    console = Console(width=100)
    with console.capture() as text:
        console.print(run_report(result.to_dict()))
    return str(text.get())


# Networks


def test_digits_network_keeps_its_accuracy_and_saves_energy() -> None:
    layers = ("conv1", "conv2", "conv3", "fc")
    names = [one.name for one in load_network("digits_cnn.onnx").layers if one.macs_dense]
    exact = simulate(study_from_text(DIGITS))
    found = simulate(study_from_text(knobs(DIGITS, 4, *names)))
    assert exact.accuracy is not None and found.accuracy is not None and len(names) == len(layers)
    assert exact.accuracy.top1 == exact.accuracy.top1_fp32 > 0.9 and found.accuracy.top1 > 0.8
    saved = [1 - one.metrics["unit_energy_pJ"] / one.metrics["unit_exact_energy_pJ"] for one in found.layers
             if one.accelerator == "npu"]  # fmt: skip
    assert max(saved) > 0.2
    assert exact.totals.macs_done > found.totals.macs_done
    text = shown(found)
    assert all(word in text for word in ("hits", "false", "unit pJ", "ideal buffer"))


def test_global_patterns_are_those_of_the_network() -> None:
    """No reload, fewer hits than patterns of the layer."""
    text = DIGITS.replace("fp_max_unit: 0.3", "fp_max_unit: 0.5")
    names = [one.name for one in load_network("digits_cnn.onnx").layers if one.macs_dense]
    own = simulate(study_from_text(knobs(text, 4, *names)))
    shared = simulate(study_from_text(knobs(text.replace("0.5}", "0.5, profile: global}"), 4, *names)))
    hits, reload = ([sum(one.metrics[name] for one in run.layers if one.accelerator == "npu")
                     for run in (own, shared)] for name in ("hit_events", "reload_cycles"))  # fmt: skip
    assert hits[0] > hits[1] > 0 and reload[0] > 0 == reload[1]


# Image kernels


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_of_the_kernels(name: str) -> None:
    (layer,) = load_network(name).layers
    assert isinstance(layer, OpStream)
    counts = tuple(sum(step.op == op for step in layer.steps) for op in ("add", "mul", "mac", "sqrt"))
    assert counts == OPERATIONS[name]


def test_kernels_see_edges() -> None:
    """A vertical step of height 10: 3x3 gradients answer with their weight of a column, the size halved for Sobel."""
    image = np.zeros((1, 1, 8, 8), np.float32)
    image[..., 4:] = 10
    from archsim.workload.reference import op_stream_reference

    height = {"sobel": 4 * 10 / 2, "prewitt": 30.0, "scharr": 160.0}
    for name, expected in height.items():
        layer = load_network(name).layers[0]
        from dataclasses import replace

        assert isinstance(layer, OpStream)
        y = op_stream_reference(replace(layer, H=8, W=8), image)
        assert y[0, 0, 2].tolist() == [0, 0, expected, expected, 0, 0]
        turned = op_stream_reference(replace(layer, H=8, W=8), np.ascontiguousarray(image.transpose(0, 1, 3, 2)))
        np.testing.assert_array_equal(turned[0, 0], y[0, 0].T)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_kernel_runs_with_priced_units(name: str) -> None:
    """A15: level 0 equals the exact picture, level 1 comes near; assumed prices are marked."""
    text = SCENES.replace("NETWORK", f"{name}.yaml").replace("sobel-t23", f"{name}-t23")
    exact = simulate(study_from_text(text))
    assert exact.quality is not None and exact.quality.value == IDENTICAL_dB and exact.accuracy is None
    found = simulate(study_from_text(knobs(text, 1, "kernel")))
    assert found.quality is not None and 12 < found.quality.value < IDENTICAL_dB
    prices = found.provenance["prices"]["npu"]["prices"]
    assert {name for name, one in prices.items() if one["assumed"] and name.endswith(".operation")} == {
        "add.operation", "mac.operation", "sqrt.operation"
    }  # fmt: skip
    assert "dB to the exact pictures" in shown(found)
    assert set(found.to_dict()["quality"]) >= {"metric", "value", "lowest_dB", "highest_dB", "images"}


def test_results_do_not_depend_on_threads() -> None:
    text = knobs(SCENES.replace("NETWORK", "sobel.yaml"), 1, "kernel")
    one, two = (simulate(study_from_text(text), threads=n).to_dict() for n in (1, 2))
    assert one == two


def test_psnr_is_that_of_the_definition() -> None:
    exact = np.zeros((2, 4, 4), np.uint8)
    other = exact.copy()
    other[1, 0, 0] = 16
    assert psnr_dB(other, exact).tolist() == [IDENTICAL_dB, pytest.approx(10 * np.log10(255**2 / 16))]
    assert as_picture(np.float32([[0.5, 1.5, -3, 300, np.nan]])).tolist() == [[0, 2, 0, 255, 0]]


def test_scenes_are_always_the_same_and_not_alike() -> None:
    first, second = scenes("test", 0, 2)
    np.testing.assert_array_equal(scenes("test", 1, 1)[0], second)
    assert (first != second).mean() > 0.5 and (scenes("train", 0, 1)[0] != first).mean() > 0.5
    assert len(np.unique(first)) > 50


GOOD = "name: k\nsource: s\ninput: [8, 8]\nsteps:\n  - {name: a, mul: [[0, 1], 0.5]}\n"


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("{name: b, mac: [[0, 2], 1, a]}", "each from -1 to 1, got [0, 2]"),
        ("{name: b, mac: [[0, 1], 1]}", "takes 3 operands, got 2"),
        ("{name: b, add: [aa, 1]}", "an earlier step, got 'aa'; did you mean 'a'"),
        ("{name: a, sqrt: [a]}", "'a' is the name of an earlier step"),
        ("{name: b, sqrt: [a], mul: [a, a]}", "exactly one of add, mul, mac, sqrt; got mul, sqrt"),
        ("{name: b, div: [a, a]}", "unknown field 'div'"),
    ],
)
def test_mistakes_in_a_kernel(step: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    path.write_text(f"{GOOD}  - {step}\n")
    with pytest.raises(WorkloadError) as caught:
        load_image_kernel(path)
    assert told in str(caught.value) and "k.yaml:6" in str(caught.value)


def test_kernels_take_grey_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "colour.npz", images=np.zeros((3, 8, 8, 3), np.uint8))
    text = SCENES.replace("NETWORK", "sobel.yaml").replace("data: {name: scenes,", "data: {file: colour.npz,")
    with pytest.raises(StudyError, match=r"grey images \(N, H, W\), got \(2, 8, 8, 3\)"):
        simulate(study_from_text(text, tmp_path))


# Tuning


def test_sizes_keep_the_rate() -> None:
    """Equation 2.1, and the fewest address bits of those that fit."""
    assert false_positives(1, 64, 2) == pytest.approx((1 - (1 - 1 / 64) ** 2) ** 2)
    for n in (4, 12, 30):
        for rate in (1e-2, 1e-3, 1e-4):
            m, k = sized(n, rate)
            assert false_positives(n, m, k) <= rate
            cheaper = [(a, b) for a in (64, 128, 256, 512, 1024, 2048) for b in range(1, 6)
                       if b * np.log2(a) < k * np.log2(m)]  # fmt: skip
            assert all(false_positives(n, a, b) > rate for a, b in cheaper)
    with pytest.raises(StudyError, match="2048 bits keeps 500 patterns below 1e-06"):
        sized(500, 1e-6)


def test_most_printed_sizes_keep_their_printed_rate() -> None:
    """Table 2.3 against Table 2.1, with all inputs of a unit in one vector: 14 of 15 within 23 %."""
    ratios = [
        false_positives(n, m, k) / THESIS["table_2.1"][kernel][kind]
        for kernel, units in THESIS["table_2.3"].items()
        for kind, (_, n, _, m, k) in units.items()
    ]
    assert len(ratios) == 15 and sum(ratio <= 1.23 for ratio in ratios) == 14


TASK = """\
tune:
  study: study.yaml
  method: error_rates
  optimise: {name: scenes, split: train, images: 1}
  test: {name: scenes, images: 1}
  cost_images: 1
  options: {min_psnr_dB: 24, patterns: [4, 12], faults: unit_faults, match: bloom_match, filters: filters}
"""


def test_rates_and_filters_of_a_kernel(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(SCENES.replace("NETWORK", "roberts.yaml"))
    (tmp_path / "task.yaml").write_text(TASK)
    found = tune(load_tune(tmp_path / "task.yaml"), tmp_path / "runs" / "task")
    extreme, random = found.curve["designs"]
    for one in (extreme, random):
        assert one["faults_mean_dB"] >= 24
        assert all(one[f"{kind}_rate"] in (0.1, 0.01, 1e-3, 1e-4, 1e-5) for kind in ("mul", "mac", "sqrt"))
        for kind in ("mul", "mac", "sqrt"):
            n, _, m, _, k = one[f"{kind}_filter"].split()
            assert false_positives(int(n), int(m), int(k)) <= one[f"{kind}_rate"]
        study = tmp_path / one["study"]
        study.parent.mkdir(exist_ok=True)
        study.write_text(str(found.files[one["study"]]))
        run = simulate(load_study(study))
        assert run.quality is not None and run.quality.metric == "psnr_dB"
    assert all(extreme[f"{kind}_rate"] <= random[f"{kind}_rate"] for kind in ("mul", "mac", "sqrt"))
    assert json.loads(str(found.files["curve.json"])) == json.loads(json.dumps(found.curve))
    assert tune_report(found.curve)
    again = tune(load_tune(tmp_path / "task.yaml"), tmp_path / "runs" / "task")
    assert again.curve == found.curve


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("patterns: [4, 12]", "patterns: [0]", "patterns must be at least 1, got 0"),
        ("min_psnr_dB: 24", "min_psnr_dB: 90, least_rate: 0.005", "least_rate 0.005"),
        ("min_psnr_dB: 24", "min_psnr: 24", "unknown field 'min_psnr'"),
        (", faults: unit_faults", "", "needs the field 'faults'"),
        ("method: error_rates", "method: error_rate", "did you mean 'error_rates'"),
    ],
)
def test_mistakes_in_a_task(old: str, new: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(SCENES.replace("NETWORK", "roberts.yaml"))
    (tmp_path / "task.yaml").write_text(TASK.replace(old, new))
    with pytest.raises(StudyError, match=told):
        tune(load_tune(tmp_path / "task.yaml"), tmp_path / "runs" / "task")


def test_error_rates_are_for_kernels(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(DIGITS)
    (tmp_path / "task.yaml").write_text(TASK.replace("scenes", "digits"))
    with pytest.raises(StudyError, match="image kernels, not of digits_cnn"):
        tune(load_tune(tmp_path / "task.yaml"), tmp_path / "runs" / "task")


def test_filters_for_some_units_only_are_told() -> None:
    """A preset of another kernel: Sobel adds, Roberts does not."""
    changes = ["platform.accelerators.npu.preset=roberts-t23"]
    result = simulate(load_study("bloom-scenes.yaml", changes))
    assert any("`filters` does not name (add)" in note for note in result.provenance["notes"])
    own = simulate(load_study("bloom-scenes.yaml"))
    assert not any("does not name" in note for note in own.provenance["notes"])
