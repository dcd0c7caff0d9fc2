"""DRAM in a study: where energy goes, what levels do to accuracy and prices, and what bad input is told."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from archsim.approx import LayerSetting
from archsim.config import load_study, study_from_text
from archsim.counts import Counts
from archsim.errors import StudyError
from archsim.memory.dram import Dram
from archsim.memory.dram.profiles import PROFILES
from archsim.platform import load_memory
from archsim.result import RunResult
from archsim.run import simulate
from archsim.session import Session
from archsim.tuner.problem import Problem
from archsim.tuner.settings import layer_setting
from archsim.tuner.store import Store
from tests.accept.dram_page import DRAM as DRAM_PAGE
from tests.bad_inputs import called
from tests.dram.traces import config

DRAM = "platform.memory={kind: dram, preset: DDR3-1600-2Gb-x16, supply_mV: 1300, profile: thesis_t46}"
ROOT = Path(__file__).resolve().parents[2]
SMALL = ("workload.data.images=40", "workload.timed_images=2", DRAM)
LAYERS = ("conv1", "conv2", "conv3", "fc")


@cache
def ran(study: str, *overrides: str) -> RunResult:
    return simulate(load_study(study, [*SMALL, *overrides]))


def on_machines(result: RunResult) -> list[Any]:
    return [layer for layer in result.layers if layer.accelerator != "vector_unit"]


def levels(**by_region: int) -> tuple[str, ...]:
    told = ", ".join(f"dram_{region}: {level}" for region, level in by_region.items())
    return tuple(f"knobs.{layer}={{{told}}}" for layer in LAYERS)


@pytest.mark.parametrize("study", ["quickstart.yaml", "snapea-digits-study.yaml"])
def test_energy_by_tensor_and_figures_of_the_memory(study: str) -> None:
    exact = () if study == "quickstart.yaml" else ("platform.accelerators.npu.mode=exact",)
    result = ran(study, *exact)
    assert result.accuracy is not None and result.accuracy.top1 > 0.9
    for layer in on_machines(result):
        told, bits = layer.metrics, {region: layer.counts.get(f"dram_{region}.read_bit", 0) for region in ("weights",)}
        assert bits["weights"] >= 16 * 2, layer.name
        assert {"dram_weights.read", "dram.active_cycle", "dram.idle_cycle"} <= set(layer.energy_pJ)
        found = [told[f"dram_row_{what}_requests"] for what in ("hit", "miss", "conflict")]
        assert sum(found) == told["dram_row_requests"] > 0
        assert told["dram_row_requests"] + told["dram_queue_requests"] >= told["dram_read_requests"]
        assert 0 < told["dram_data_cycles"] < told["dram_bus_cycles"]
        assert told["dram_moved_bytes"] == 16 * told["dram_data_cycles"]
        assert 0 <= told["memory_stall_cycles"] < layer.cycles
        channel = layer.counts["dram.active_cycle"] + layer.counts["dram.idle_cycle"]
        assert channel * 1250 == pytest.approx(layer.latency_us * 1e6, rel=0.01)


def test_what_is_read_is_what_there_is() -> None:
    """Lines hold at least the bytes a link would move, and less than a line more per access."""
    dram, link = ran("quickstart.yaml"), simulate(load_study("quickstart.yaml", SMALL[:2]))
    for ours, plain in zip(on_machines(dram), on_machines(link), strict=True):
        bits = sum(n for action, n in ours.counts.items() if action.endswith("_bit"))
        least = plain.counts["link.read_bit"] + plain.counts["link.write_bit"]
        queued = ours.metrics["dram_queue_requests"] * 512
        assert least <= bits + queued <= 3 * least
        assert ours.macs_done == plain.macs_done


def test_timing_does_not_depend_on_levels() -> None:
    clean, low = ran("quickstart.yaml"), ran("quickstart.yaml", *levels(weights=3))
    assert [layer.cycles for layer in clean.layers] != [] and clean.totals.macs_dense == low.totals.macs_dense
    for ours, theirs in zip(on_machines(clean), on_machines(low), strict=True):
        assert ours.counts["dram_weights.read"] == theirs.counts["dram_weights.read"]


@pytest.mark.parametrize("region", ["weights", "ifmap", "ofmap"])
def test_errors_reach_the_accuracy(region: str) -> None:
    """More than one bit in a hundred flips at the lowest supply; at the first level, 1.3 V, none does."""
    clean, safe, low = (ran("quickstart.yaml", *levels(**{region: level})) for level in (0, 1, 5))
    assert clean.accuracy == safe.accuracy
    assert clean.accuracy is not None and low.accuracy is not None
    assert low.accuracy.top1 < clean.accuracy.top1 - 0.1
    assert any("thesis_t46" in note for note in low.provenance["notes"])
    assert not any("thesis_t46" in note for note in clean.provenance["notes"])


def test_the_same_flips_in_other_blocks_and_threads() -> None:
    """Memory for the whole network or for two images at once, one thread or two."""
    study = load_study("quickstart.yaml", [*SMALL, *levels(weights=2, ifmap=2, ofmap=2)])
    tight = load_study("quickstart.yaml", [*SMALL, *levels(weights=2, ifmap=2, ofmap=2), "workload.max_memory_MB=1"])
    one, two = simulate(study, threads=1).to_dict(), simulate(tight, threads=2).to_dict()
    assert one["layers"] == two["layers"] and one["accuracy"] == two["accuracy"]
    other = simulate(load_study("quickstart.yaml", [*SMALL, *levels(weights=2, ifmap=2, ofmap=2), "seed=1"]))
    assert other.to_dict()["layers"] != one["layers"]


def energy(level: dict[str, int], counts: dict[str, int]) -> dict[str, float]:
    memory = Dram(config("A", supply_mV=1300, profile="thesis_t46"))
    given = Counts(counts)
    prices = memory.prices_at(LayerSetting({f"dram_{k}": v for k, v in level.items()}), given).prices
    return {action: prices[action].energy_pJ / memory.prices.prices[action].energy_pJ for action in counts}


def test_commands_are_priced_at_the_supply_of_their_region() -> None:
    """Standby and refresh at the highest supply among the regions in use; psums that are spilled are never low."""
    counts = {
        "dram_weights.read": 1,
        "dram_ifmap.act": 1,
        "dram_ifmap.read": 1,
        "dram.refresh": 1,
        "dram.idle_cycle": 1,
    }
    mixed = energy({"weights": 5, "ifmap": 2}, counts)
    assert mixed["dram_weights.read"] == pytest.approx(1100 / 1300)
    assert mixed["dram_ifmap.act"] == mixed["dram.refresh"] == mixed["dram.idle_cycle"] == pytest.approx(1250 / 1300)
    spilled = energy({"weights": 5, "ifmap": 2}, {**counts, "dram_other.write": 1})
    assert spilled["dram.refresh"] == spilled["dram_other.write"] == 1
    assert energy({"weights": 0}, counts) == dict.fromkeys(counts, 1.0)


def test_rarer_refreshes_cost_less() -> None:
    memory = Dram(config("A", profile="flikker_t41"))
    counts = Counts({"dram_weights.read": 1, "dram_ifmap.read": 1})
    for level, nJ in enumerate((132.84, 120.8, 110.2, 102.6, 99.6)):
        both = LayerSetting({"dram_weights": level, "dram_ifmap": level})
        refresh = memory.prices_at(both, counts).prices["dram.refresh"].energy_pJ
        assert refresh / memory.prices.prices["dram.refresh"].energy_pJ == pytest.approx(nJ / 132.84)
        one = memory.prices_at(LayerSetting({"dram_weights": level}), counts).prices["dram.refresh"].energy_pJ
        assert one == memory.prices.prices["dram.refresh"].energy_pJ  # ifmaps need the nominal interval


def test_a_profile_of_the_study() -> None:
    spec = load_memory("dram", "DDR3-1600-2Gb-x16", ["profile=[{ber: 1.0e-4}, {ber: 1.0e-3, supply_mV: 1200}]"])
    assert [knob.levels for knob in spec.build().knobs_in_force()] == [3, 3, 3]
    assert [knob.levels for knob in Dram(config("A")).knobs_in_force()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["profile=thesis_t47"], "thesis_t46"),
        (["profile=[{ber: 2}]"], "profile.0.ber"),
        (["profile=thesis_t46", "error_model={kind: uniform, weak_share: 0.001}"], "must be at most 0.001"),
        (["error_model={kind: bitlines}"], "bitline"),
        (["policy=random"], "in_order"),
        (["banks=6"], "banks must be a power of two, got 6"),
        (["columns=4"], "columns must be at least 8"),
        (["IDD4R_mA=1"], "IDD4R_mA must be at least IDD3N_mA"),
        (["IDD0_mA=10"], "IDD0_mA must be at least"),
        (["tRAS_cycles=60"], "tRC_cycles must be at least tRAS_cycles (60)"),
        (["policy=in_order", "row_policy=closed"], "policy in_order takes neither"),
        (["mapping=row-column-bank-group", "error_model={weak_share: 0.5}"], "needs the mapping"),
        (["supply_mV=0"], "supply_mV"),
    ],
)
def test_what_bad_input_is_told(changes: list[str], message: str) -> None:
    with pytest.raises(StudyError, match=r"platform\.memory") as caught:
        load_memory("dram", "DDR3-1600-2Gb-x16", changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(("level", "highest"), [(6, 5), (-1, 5)])
def test_a_level_the_profile_has_not(level: int, highest: int) -> None:
    with pytest.raises(StudyError, match=rf"knobs\.conv2\.dram_weights: must be a level from 0 .* to {highest}"):
        simulate(load_study("quickstart.yaml", [*SMALL, f"knobs.conv2={{dram_weights: {level}}}"]))


def test_levels_without_a_profile() -> None:
    plain = DRAM.replace(", profile: thesis_t46", "")
    with pytest.raises(StudyError, match=r"must be a level from 0 \(exact\) to 0, got 1"):
        simulate(load_study("quickstart.yaml", [plain, "knobs.conv2={dram_weights: 1}"]))


def test_a_level_above_the_supply_in_force_is_refused() -> None:
    low = DRAM.replace("supply_mV: 1300", "supply_mV: 1200")
    with pytest.raises(StudyError, match=r"platform\.memory: level 2 of dram_weights of conv2 is 1250 mV, above"):
        simulate(load_study("quickstart.yaml", [low, "knobs.conv2={dram_weights: 2}"]))


def test_a_layer_of_the_vector_unit_takes_no_level() -> None:
    with pytest.raises(StudyError, match=r"knobs\.pool2: Pool runs on the vector unit"):
        simulate(load_study("quickstart.yaml", [*SMALL, "knobs.pool2={dram_ofmap: 1}"]))


def test_a_network_that_does_not_fit_is_refused() -> None:
    with pytest.raises(StudyError, match=r"platform\.memory holds 8192 bytes, digits_cnn needs"):
        tiny = "{kind: dram, preset: DDR3-1600-2Gb-x16, banks: 1, rows: 1}"
        simulate(load_study("quickstart.yaml", [*SMALL[:2], f"platform.memory={tiny}"]))


def test_a_tuner_keeps_the_levels_of_the_memory(tmp_path: Path) -> None:
    """What it measures is what the study it writes does."""
    memory = "platform.memory={kind: dram, preset: DDR3-1600-2Gb-x16, profile: [{ber: 0.03}]}"
    levels = [f"knobs.{name}.dram_weights=1" for name in ("conv2", "fc")]
    study = load_study("snapea-digits-study.yaml", [memory, *levels])
    assert study.workload.data is not None
    data = study.workload.data.model_copy(update={"images": 40})
    problem = Problem(study, data, data, 1, Store(tmp_path / "trials.sqlite"))
    level = {"conv2": layer_setting("speculation", ({"th": 0.0, "n": 1},) * 16)}
    assert problem.evaluate(level).top1 < 0.9
    session = Session(problem.bench, problem.study, study.assign)
    both = {name: LayerSetting({**level[name].levels, "dram_weights": 1}, level[name].tables) if name in level
            else LayerSetting({"dram_weights": 1}) for name in ("conv2", "fc")}  # fmt: skip
    told = session.quality(both)
    assert told is not None and problem.evaluate(level).top1 == told.top1


def test_in_order_plays_traces_only() -> None:
    with pytest.raises(StudyError, match="in_order"):
        simulate(load_study("quickstart.yaml", [*SMALL, "platform.memory.policy=in_order"]))


def test_the_example_of_the_page(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "dram.md").read_text(), flags=re.DOTALL)
    result = simulate(study_from_text(text, tmp_path))
    assert result.accuracy is not None and 0.8 < result.accuracy.top1 <= 1
    assert any("thesis_t46" in note for note in result.provenance["notes"])


@pytest.mark.parametrize("name", DRAM_PAGE.tables)
def test_the_page_shows_every_table(name: str) -> None:
    head, *rows = DRAM_PAGE.shown(name).splitlines()
    assert head == "| " + " | ".join(DRAM_PAGE.tables[name][0]) + " |"
    assert len(rows) > 2 and all(row.count("|") == head.count("|") for row in rows)


def test_every_profile_has_levels_in_order() -> None:
    for name, profile in PROFILES.items():
        assert profile.name == name and profile.levels
        assert [level.ber for level in profile.levels] == sorted(level.ber for level in profile.levels)


def test_the_list_knows_it(tmp_path: Path) -> None:
    _, out, _ = called(["list", "--json"], tmp_path)
    (known,) = [memory for memory in json.loads(out)["memories"] if memory["kind"] == "dram"]
    assert "DDR4-2400-8Gb-x8" in known["presets"] and "dram_weights" in known["knobs"]
