"""The seams the test doubles hold: several machines, knobs with levels, placement, profile, RTL, streams."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tests.doubles  # noqa: F401  (registers them)
from archsim.accelerators.base import Accelerator, Placement, Stored
from archsim.approx import LayerSetting
from archsim.config import study_from_text
from archsim.energy import account
from archsim.errors import StudyError
from archsim.result import RunResult
from archsim.run import simulate
from archsim.session import Session
from archsim.workload.bench import Workbench
from archsim.workload.datasets import DataSet
from archsim.workload.layers import Conv, Layer, Linear
from tests.contract.driver import LAYERS, Case
from tests.doubles import MacArray
from tests.levels.mac_array import table
from tests.unit.small_nets import branching_network, images

STUDY = """\
schema: 1
name: seams
workload:
  network: digits_cnn.onnx
  data: {name: digits, split: test, images: 40}
  calibration: {name: digits, split: train, images: 32}
  batch: 2
  timed_images: 4
platform:
  accelerators:
    small: {kind: mac_array, preset: small}
    large: {kind: mac_array, preset: buffered, buffer_bytes: 0}
  memory: {kind: link, preset: flat-ddr4, bandwidth_GB_per_s: 12.8}
  assign: {default: small}
"""


@cache
def run(changes: tuple[tuple[str, str], ...] = (), extra: str = "") -> RunResult:
    text = STUDY + extra
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return simulate(study_from_text(text))


def layers(result: RunResult) -> dict[str, Any]:
    return {layer.name: layer for layer in result.layers}


def first_conv() -> str:
    """The network's second convolution: its input is another layer's output."""
    return [name for name, layer in layers(run()).items() if layer.macs_dense][1]


# several machines -----------------------------------------------------------------------------------------------------
def test_two_machines_share_a_platform() -> None:
    name = first_conv()
    both = run((("default: small", f"{name}: large, default: small"),))
    alone = run()
    where = {layer: one.accelerator for layer, one in layers(both).items()}
    assert where[name] == "large" and "small" in where.values() and "vector_unit" in where.values()
    totals = both.totals
    assert totals.cycles is None  # two clocks: only latencies add up
    assert {"small", "large", "vector_unit"} <= totals.by_accelerator.keys()
    assert totals.latency_us == pytest.approx(sum(one.latency_us for one in totals.by_accelerator.values()))
    assert totals.energy_pJ == pytest.approx(sum(one.energy_pJ for one in totals.by_accelerator.values()))
    assert totals.by_accelerator["large"].cycles == layers(both)[name].cycles < layers(alone)[name].cycles
    assert both.accuracy == alone.accuracy  # same format: where a layer runs does not change its result
    assert layers(both)[name].macs_done == layers(alone)[name].macs_done == layers(alone)[name].macs_dense


def test_machine_and_baseline_are_compared() -> None:
    result = run(extra="compare_to: {assign: {default: large}}\n")
    assert result.compare_to is not None
    other = run((("default: small", "default: large"),))
    assert result.compare_to.totals == other.totals
    assert result.compare_to.ratios["latency"] == pytest.approx(other.totals.latency_us / result.totals.latency_us)


def test_idle_machines_are_charged_while_the_vector_unit_runs() -> None:
    timed = ("  assign:", "  vector_unit: {elements_per_cycle: 4, clock_MHz: 100}\n  assign:")
    idle = run((("preset: small", "preset: small, idle_power_mW: 5"), timed))
    unit = idle.totals.by_accelerator["vector_unit"]
    assert unit.latency_us > 0
    charged = [one.energy_pJ.get("idle.others", 0.0) for one in idle.layers]
    assert sum(charged) == pytest.approx(5 * 1000 * unit.latency_us)
    assert unit.energy_pJ - run((timed,)).totals.by_accelerator["vector_unit"].energy_pJ == pytest.approx(sum(charged))


def test_idle_machine_is_charged_for_the_others_latency() -> None:
    name = first_conv()
    assign = ("default: small", f"{name}: large, default: small")
    idle = run((("buffer_bytes: 0", "buffer_bytes: 0, idle_power_mW: 5"), assign))
    plain = run((assign,))
    small_us = sum(one.latency_us for one in plain.layers if one.accelerator == "small")
    assert idle.totals.energy_pJ - plain.totals.energy_pJ == pytest.approx(5 * 1000 * small_us)
    assert idle.totals.latency_us == plain.totals.latency_us


def test_price_table_of_the_vector_unit_may_lie_beside_the_study(tmp_path: Path) -> None:
    classes = ", ".join(
        f"{name}: {{energy_pJ: 7}}" for name in ("add", "compare", "convert", "lookup", "move", "multiply")
    )
    head = "name: mine\nabout: x\ntechnology_nm: 45\nvoltage_mV: null\nsource: x\n"
    (tmp_path / "mine.yaml").write_text(f"{head}classes: {{{classes}}}\n")
    text = STUDY.replace("  assign:", "  vector_unit: {preset: free, prices: mine.yaml}\n  assign:")
    result = simulate(study_from_text(text, tmp_path))
    mine = [layer for layer in result.layers if layer.accelerator == "vector_unit" and layer.counts]
    assert mine
    for layer in mine:
        assert layer.energy_pJ == {action: 7.0 * n for action, n in layer.counts.items()}


# knobs with levels ----------------------------------------------------------------------------------------------------
def levels_of(threshold: int, filters: int) -> str:
    rows = [{"filter": m, "level": 1, "threshold": threshold} for m in range(filters)]
    return f"levels: {{drop: {{{first_conv()}: {json.dumps(rows)}}}}}\n"


def filters_of(name: str) -> int:
    from archsim.workload.networks import load_network

    (layer,) = (one for one in load_network("digits_cnn.onnx").layers if one.name == name)
    assert isinstance(layer, Conv | Linear)
    return layer.M


def test_knob_levels_come_from_the_study() -> None:
    name = first_conv()
    filters = filters_of(name)
    every = run(extra=f"knobs: {{{name}: {{drop: 1}}}}\n" + levels_of(4000, filters))
    some = run(extra=f"knobs: {{{name}: {{drop: {[m % 2 for m in range(filters)]}}}}}\n" + levels_of(4000, filters))
    exact = run(extra=f"knobs: {{{name}: {{drop: 0}}}}\n" + levels_of(4000, filters))
    done = [layers(one)[name].macs_done for one in (every, some, exact)]
    assert done[0] < done[1] < done[2] == layers(run())[name].macs_dense
    assert layers(every)[name].energy_total_pJ < layers(exact)[name].energy_total_pJ
    assert exact.accuracy == run().accuracy and exact.totals == run().totals
    others = [one for one in every.layers if one.name != name]
    assert others == [one for one in run().layers if one.name != name]  # no other layer's counts change


def test_strong_approximation_costs_accuracy() -> None:
    name = first_conv()
    dropped = run(extra=f"knobs: {{{name}: {{drop: 1}}}}\n" + levels_of(32000, filters_of(name)))
    exact = run().accuracy
    assert dropped.accuracy is not None and exact is not None
    assert dropped.accuracy.top1 < exact.top1 - 0.1
    assert dropped.accuracy.top1_fp32 == exact.top1_fp32
    assert dropped.quality is not None and dropped.quality.loss == pytest.approx(
        100 * (dropped.quality.reference - dropped.quality.value)
    )


def test_resolved_study_keeps_knobs_and_levels() -> None:
    name = first_conv()
    rows = [{"filter": 0, "level": 1, "threshold": 9}]
    extra = f"knobs: {{{name}: {{drop: 1}}}}\nlevels: {{drop: {{{name}: {json.dumps(rows)}}}}}\n"
    resolved = study_from_text(STUDY + extra).to_dict()
    assert resolved["knobs"] == {name: {"drop": 1}}
    assert resolved["levels"] == {"drop": {name: rows}}


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ("{drop: 2}", "must be a level from 0 .exact. to 1, got 2"),
        ("{drop: [0, 1]}", "must be a list of"),
        ("{dorp: 1}", "did you mean 'drop'"),
    ],
)
def test_wrong_levels_are_refused(knobs: str, message: str) -> None:
    name = first_conv()
    with pytest.raises(StudyError, match=message):
        run(extra=f"knobs: {{{name}: {knobs}}}\n" + levels_of(10, filters_of(name)))


# placement ------------------------------------------------------------------------------------------------------------
def test_feature_maps_kept_on_chip_are_not_moved() -> None:
    far = run((("default: small", "default: large"),))
    near = run((("default: small", "default: large"), ("buffer_bytes: 0", "buffer_bytes: 100000")))
    moved = [
        sum(one.counts.get(action, 0) for one in result.layers)
        for result in (far, near)
        for action in ("link.read_bit", "link.write_bit")
    ]
    assert moved[2] < moved[0] and moved[3] < moved[1]
    assert near.totals.latency_us < far.totals.latency_us
    assert near.accuracy == far.accuracy


def test_only_consecutive_layers_share_the_buffer() -> None:
    machine = Case("mac_array", "buffered", LAYERS[0]).machine
    one = Conv(name="one", inputs=("a",), output="b", C=2, M=4, H=4, W=4, R=1, S=1)
    two = replace(one, name="two", inputs=("b",), output="c", C=4)
    stranger = replace(two, name="stranger", inputs=("elsewhere",), output="d")
    placed = machine.place([one, two, stranger])
    assert placed == {
        "one": Placement(frozenset({"ofmap"})),
        "two": Placement(frozenset({"ifmap"})),
        "stranger": Placement(),
    }


def test_a_machine_sees_all_its_runs_of_layers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[list[str]]] = []

    def place_all(machine: MacArray, runs: list[list[Layer]]) -> dict[str, Placement]:
        seen.append([[layer.name for layer in run] for run in runs])
        return Accelerator.place_all(machine, runs)

    monkeypatch.setattr(MacArray, "place_all", place_all)
    text = STUDY.replace("default: small", f"{first_conv()}: large, default: small")
    simulate(study_from_text(text))
    names = [name for name, layer in layers(run()).items() if layer.macs_dense]
    middle = names.index(first_conv())
    assert 0 < middle < len(names) - 1
    assert seen == [[names[:middle], names[middle + 1 :]], [[first_conv()]]]


def test_operands_of_another_format_are_converted_on_the_vector_unit_too() -> None:
    text = STUDY.replace("preset: buffered,", "preset: buffered, format: fixed8,")
    study = study_from_text(text.replace("default: small", "b: large, c: large, default: small"))
    bench, pixels = Workbench(study.workload, study.folder), images(4)
    bench.__dict__["network"] = branching_network().with_batch(2)
    bench.__dict__["data"] = DataSet(pixels, np.zeros(4, np.int64), (), "made here")
    bench.__dict__["calibration_images"] = pixels
    _, told = Session(bench, study, study.assign).cost({}, 4)
    converted = {one.name: one.counts["vector_unit.convert"] for one in told if one.type == "Convert"}
    words = {"b": 2 * 9 * 8, "join": 4 * 4 * 4, "c": 7 * 4 * 4, "sum": 7 * 4 * 4}
    assert converted == {f"{name}.convert": 4 * count for name, count in words.items()}


def test_quality_of_fewer_images_is_theirs_although_more_were_seen() -> None:
    text = STUDY
    study = study_from_text(text)
    fresh, used = (Session(Workbench(study.workload, study.folder), study, study.assign) for _ in range(2))
    assert used.quality({}) is not None
    few = used.quality({}, 2)
    assert few is not None
    assert few.images == 2
    assert few == fresh.quality({}, 2)


# profile --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("layer", [LAYERS[0], LAYERS[2], LAYERS[3], LAYERS[5]], ids=lambda layer: layer.name)
def test_profile_equals_one_run_per_candidate(layer: Any) -> None:
    """Many thresholds in one pass give the MACs and the errors of running each of them."""
    case = Case("mac_array", "small", layer, non_negative=False)
    x, params = case.tensors
    raw = replace(layer, activation=type(layer.activation)())
    unfinished = replace(params, y_scale=None)
    thresholds = [0, *sorted({int(row["threshold"]) for row in table("drop", layer, params)})[::5]]
    assert len(thresholds) > 2
    exact = case.machine.execute(raw, case.plan, x, _dropped(case, unfinished, 0), LayerSetting(), case.draws)
    candidates = [tuple({"threshold": threshold} for _ in params.weights) for threshold in thresholds]
    profiled = case.machine.profile(raw, case.plan, x, case.stored(), candidates)
    for threshold, (macs_done, error) in zip(thresholds, profiled):
        stored = _dropped(case, unfinished, threshold)
        ran = case.machine.execute(raw, case.plan, x, stored, LayerSetting(), case.draws)
        assert sum(batch.macs_done for batch in ran.batches) == macs_done.sum()
        assert ran.y is not None and exact.y is not None
        difference = np.abs(ran.y - exact.y)
        np.testing.assert_array_equal(np.moveaxis(difference, 1, 0).reshape(len(error), -1).sum(axis=1), error)
    errors = [error.sum() for _, error in profiled]
    assert errors[0] == 0 < errors[-1]


def _dropped(case: Case, params: Any, threshold: int) -> Stored:
    rows = tuple({"filter": m, "level": 1, "threshold": threshold} for m in range(len(params.weights)))
    setting = LayerSetting({"drop": 1}, {"drop": rows})
    return case.machine.prepare(case.layer, params, setting)


# RTL ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("layer", [LAYERS[0], LAYERS[2], LAYERS[5]], ids=lambda layer: layer.name)
def test_rtl_model_computes_the_layers_own_windows(layer: Any) -> None:
    """The block's model, driven with windows of a real layer, hands out the kernel's accumulators."""
    case = Case("mac_array", "small", replace(layer, activation=type(layer.activation)()), non_negative=False)
    x, params = case.tensors
    stored = case.machine.prepare(case.layer, replace(params, y_scale=None), LayerSetting())
    y = case.machine.execute(case.layer, case.plan, x, stored, LayerSetting(), case.draws).y
    assert y is not None
    (block,) = case.machine.rtl
    seen = []
    for one in block.cases_from(case.machine.config, case.layer, case.plan, x, stored, 40, 3):
        outputs = [out for _, out in one.play(block.model(block.parameters(case.machine.config, case.layer)))]
        assert [out["out_valid"] for out in outputs] == [0] * (len(outputs) - 1) + [1]
        assert one.outcomes == ({"out": outputs[-1]["out"]},) and one.totals == {"out": outputs[-1]["out"]}
        seen.append(outputs[-1]["out"])
    assert set(seen) <= set(y.reshape(-1).tolist()) and len(set(seen)) > 10


def test_rtl_model_wraps_at_its_width_and_ignores_idle_cycles() -> None:
    machine = Case("mac_array", "small", LAYERS[0]).machine
    (block,) = machine.rtl
    parameters = block.parameters(machine.config)
    wide, narrow = block.model(parameters), block.model({**parameters, "WACC": 32})
    wrapped = expected = ends = 0
    for one in islice(block.random_cases(machine.config, 11), 8):
        for signals, outputs in one.play(wide):
            low = narrow.step(signals)["out"]
            if not signals["rst"]:
                assert outputs == {"out_valid": ends, "out": expected}
                assert -(2**31) <= low < 2**31 and (low - expected) % 2**32 == 0
                wrapped += low != expected
            if signals["valid"]:
                expected = (signals["bias"] if signals["first"] else expected) + signals["x"] * signals["w"]
            expected, ends = 0 if signals["rst"] else expected, int(signals["valid"] and signals["last"])
    assert wrapped
    first, again, other = (list(islice(block.random_cases(machine.config, seed), 8)) for seed in (5, 5, 6))
    assert first == again != other


# scalar streams -------------------------------------------------------------------------------------------------------
def test_stream_machine_runs_operation_streams() -> None:
    """An operation stream counts its scalar operations; skipped rows are repeated and cost nothing."""
    case = Case("stream_unit", "slow", LAYERS[-1])
    exact, skipping = case.execute(), case.execute(LayerSetting({"skip_rows": 1}))
    assert exact.y is not None and skipping.y is not None
    assert exact.batches[0].macs_done == case.layer.macs_dense
    np.testing.assert_array_equal(skipping.y[:, :, ::2], exact.y[:, :, ::2])
    np.testing.assert_array_equal(skipping.y[:, :, 1::2], exact.y[:, :, :-1:2])
    rows = exact.y.shape[2]
    assert skipping.batches[0].macs_done * rows == exact.batches[0].macs_done * -(-rows // 2)
    energies = [
        sum(account(case.time(one.batches[0]).counts, case.machine.prices).values()) for one in (exact, skipping)
    ]
    assert energies[1] < energies[0]
