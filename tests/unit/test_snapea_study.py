"""SnaPEA in a study: three ratios, three readings, modes and levels, and what bad input is told."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from archsim.config import load_study, study_from_text
from archsim.errors import ArchsimError
from archsim.result import RunResult
from archsim.run import simulate
from tests.bad_inputs import called
from tests.unit.snapea_layers import eligible_layers
from tests.unit.test_table import printed

SMALL = ("workload.data.images=20", "workload.timed_images=4")
EXACT = "platform.accelerators.npu.mode=exact"
NPU = "platform.accelerators.npu"


@cache
def ran(*overrides: str) -> RunResult:
    return simulate(load_study("snapea-digits-study.yaml", (*SMALL, *(overrides or (EXACT,)))))


def layer(result: RunResult, name: str) -> Any:
    return next(one for one in result.layers if one.name == name)


def test_every_layer_that_may_stop_equals_the_dense_one() -> None:
    found = eligible_layers(load_study("snapea-digits-study.yaml", [EXACT, "workload.data.images=100"]), 100)
    assert set(found) == {"conv2", "conv3"}
    for values, differing, stopped in found.values():
        assert not differing and stopped > 0.3 * values


def test_exact_mode_classifies_as_the_dense_machine_does() -> None:
    exact, dense = ran(), ran(f"{NPU}.mode=dense")
    assert exact.accuracy == dense.accuracy and exact.compare_to is not None
    assert exact.quality == exact.compare_to.quality
    assert exact.totals.macs_done < dense.totals.macs_done == dense.totals.macs_dense
    assert exact.totals.cycles <= dense.totals.cycles and exact.totals.energy_pJ < dense.totals.energy_pJ


def test_three_ratios_are_told() -> None:
    """MACs done to dense, the same array with termination off, the other machine."""
    result = ran()
    conv2 = layer(result, "conv2")
    assert 0.3 < conv2.macs_done / conv2.macs_dense < 0.95
    told = conv2.metrics
    dense = layer(ran(f"{NPU}.mode=dense"), "conv2")
    assert told["termination_off_cycles"] == dense.cycles
    assert told["termination_off_on_chip_energy_pJ"] == pytest.approx(dense.metrics["on_chip_energy_pJ"], rel=1e-12)
    assert result.compare_to is not None
    ratios = result.compare_to.ratios
    assert ratios["cycles"] == result.compare_to.totals.cycles / result.totals.cycles
    shown = printed(result.to_dict())
    for words in ("nu", "pi", "bound", "done", "x off", "energy, io_ram_price global_buffer", "pJ/MAC", "18.62 mm2"):
        assert words in shown


def test_the_ceiling_holds_layer_by_layer() -> None:
    stopping = 0
    for one in ran().layers:
        if one.metrics.get("total_windows"):
            assert one.metrics["bound_macs"] <= one.macs_done <= one.metrics["streamed_macs"] == one.macs_dense
            stopping += one.macs_done < one.macs_dense
    assert stopping == 2


def test_energies_are_told_under_every_reading() -> None:
    result = ran()
    for reading in ("register_file", "by_size", "global_buffer"):
        other = ran(EXACT, f"{NPU}.io_ram_price={reading}")
        told = result.totals.energy_readings_pJ[f"io_ram_price {reading}"]
        assert told == pytest.approx(other.totals.energy_pJ, rel=1e-12)
    assert len(set(result.totals.energy_readings_pJ.values())) == 3


def test_energy_is_counts_times_prices() -> None:
    result = ran()
    prices = {name: table["prices"] for name, table in result.provenance["prices"].items()}
    for one in result.layers:
        if one.accelerator == "npu":
            of = {**prices["memory"], **prices["npu"]}
            by_hand = sum(count * of[action]["energy_pJ"] for action, count in one.counts.items())
            assert one.energy_total_pJ == pytest.approx(by_hand, rel=1e-12)


def test_what_the_compared_machine_is_stands_in_the_report() -> None:
    result = ran()
    assert set(result.provenance["machines"]) == {"npu", "baseline"} < set(result.provenance["prices"])
    assert "eyeriss thesis-256pe" in printed(result.to_dict())


def test_ideal_lanes_are_labelled() -> None:
    notes = ran(EXACT, f"{NPU}.bubble_cycles=0").provenance["notes"]
    assert any("npu: ideal lanes" in note for note in notes)
    assert not any("ideal" in note for note in ran().provenance["notes"])


def test_zero_weights_may_be_dropped_and_macs_stay_counted_densely() -> None:
    dropped = ran(EXACT, f"{NPU}.drop_zero_weights=true")
    assert dropped.totals.macs_dense == ran().totals.macs_dense
    assert dropped.totals.macs_done < ran().totals.macs_done  # a few weights of the network are zero
    assert dropped.accuracy == ran().accuracy


def speculation(th: int | str = 0, steps: str = "n: 8") -> tuple[str, str]:
    """Overrides that make every filter of conv2 speculate."""
    rows = ", ".join(f"{{filter: {m}, level: 1, th: {th}, {steps}}}" for m in range(32))
    return "knobs={conv2: {speculation: 1}}", f"levels={{speculation: {{conv2: [{rows}]}}}}"


@cache
def speculated(th: int) -> RunResult:
    return ran(*speculation(th))


def test_bolder_thresholds_stop_more_and_lose_more_in_the_layer_they_are_of() -> None:
    told = [layer(speculated(th), "conv2") for th in (-(1 << 40), -10_000_000, 0, 10_000_000, 1 << 40)]
    exact = layer(ran(), "conv2")
    macs = [one.macs_done for one in told]
    assert macs == sorted(macs, reverse=True) and macs[-1] == 8 * exact.metrics["total_windows"]
    lost = [one.metrics["false_negative_windows"] for one in told]
    assert lost == sorted(lost) and lost[0] == 0 < lost[-1] == exact.metrics["positive_windows"]
    right = [one.metrics["true_negative_windows"] for one in told]
    assert right == sorted(right) and right[-1] == exact.metrics["negative_windows"]
    for one in told:
        for smaller, larger in ((1, 3), (3, 10), (10, 30)):
            name = "false_negative_below_{}_percent_windows"
            assert one.metrics[name.format(smaller)] <= one.metrics[name.format(larger)]


def test_only_results_that_change_move_the_accuracy() -> None:
    assert speculated(-(1 << 40)).accuracy == ran().accuracy
    assert speculated(1 << 40).accuracy.top1 < ran().accuracy.top1  # type: ignore[union-attr]


BAD = {
    "levels without the mode": ((EXACT, *speculation()), ("mode 'exact' takes no levels", "conv2")),
    "level 0 without the mode": ((EXACT, "knobs={conv2: {speculation: 0}}"), ("mode 'exact' takes no levels",)),
    "mode without levels": ((), ("mode 'predictive' needs levels", "archsim tune")),
    "n of all weights and more": (speculation(0, "n: 4000"), ("conv2", "n", "4000")),
    "n of nothing": (speculation(0, "n: 0"), ("conv2", "0")),
    "a threshold no accumulator holds": (speculation(99999999999999999999), ("conv2", "th", "99999999999999999999")),
    "a threshold that is none": (speculation(".inf"), ("conv2", "th", "inf")),
    "a column that is none": (speculation(0, "m: 8"), ("conv2", "n")),
    "lanes that are not built": ((EXACT, f"{NPU}.lanes=3"), ("lanes", "1, 2, 4, 8 or 16", "3")),
    "negative bubble": ((EXACT, f"{NPU}.bubble_cycles=-1"), ("bubble_cycles", "-1")),
    "unknown order": ((EXACT, f"{NPU}.region_order=magnitud"), ("region_order", "magnitud")),
    "too small a RAM": ((EXACT, f"{NPU}.io_ram_bytes=16"), ("input words of one group", "limit")),
    "a number format too wide": ((EXACT, f"{NPU}.format=fixed32"), ("fixed32", "fixed16")),
    "knob of another machine": ((EXACT, "knobs={conv2: {spekulation: 1}}"), ("spekulation", "speculation")),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str) -> None:
    overrides, expected = BAD[case]
    with pytest.raises(ArchsimError) as error:
        simulate(load_study("snapea-digits-study.yaml", (*SMALL, *overrides)))
    message = str(error.value)
    assert "\n" not in message and all(text in message for text in expected), message


def test_resolved_study_runs_again_to_the_same_result(tmp_path: Any) -> None:
    options = [part for one in (*SMALL, EXACT) for part in ("--set", one)]
    code, printed, _ = called(["run", "snapea-digits-study.yaml", "--json", *options], tmp_path)
    assert code == 0
    first = json.loads(printed)
    text = (tmp_path / "runs" / "snapea-digits-study" / "study.resolved.yaml").read_text()
    assert simulate(study_from_text(text)).to_dict()["totals"] == first["totals"]
