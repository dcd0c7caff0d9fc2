"""The printed table."""

from __future__ import annotations

import copy
import io
from pathlib import Path

from rich.console import Console

from archsim.config import load_study, study_from_text
from archsim.report.table import WIDTH, run_report
from archsim.run import simulate
from archsim.sim import Timeline


def printed(result: dict, width: int = WIDTH) -> str:
    screen = io.StringIO()
    Console(width=width, file=screen).print(run_report(result))
    return screen.getvalue()


def test_what_left_the_range_is_shown_by_layer() -> None:
    result = simulate(load_study("eyeriss-alexnet.yaml")).to_dict()
    assert "conv1" in printed(result)
    assert "saturated" not in printed(result)
    assert "overflows" not in printed(result)
    told = copy.deepcopy(result)
    told["layers"][0]["metrics"]["saturated_words"] = 17
    told["layers"][2]["metrics"]["overflow_events"] = 23
    names = [layer["name"] for layer in told["layers"]]
    assert f"saturated  {names[0]} 17\n" in printed(told)
    assert f"overflows  {names[2]} 23\n" in printed(told)


TWO_CLOCKS = """
schema: 1
name: two-clocks
workload: {network: tiny.yaml}
platform:
  accelerators:
    npu: {kind: eyeriss, preset: chip-jssc17}
    fast: {kind: eyeriss, preset: chip-jssc17, clock_MHz: 400}
    early: {kind: snapea, preset: isca18, mode: exact}
  memory: {kind: link, preset: eyeriss-jssc17}
  assign: {default: npu, conv2: fast, conv3: early}
"""
TINY = """
name: tiny
source: made up
input: [3, 9, 9]
layers:
  - {name: conv1, conv: {M: 4, kernel: 3, pad: 1}, relu: true}
  - {name: conv2, conv: {M: 4, kernel: 3, pad: 1}, relu: true}
  - {name: conv3, conv: {M: 4, kernel: 3, pad: 1}, relu: true}
  - {name: flatten, flatten: {}}
  - {name: fc, linear: {M: 10}}
"""


def two_clocks(folder: Path, timeline: Timeline | None = None) -> dict:
    (folder / "tiny.yaml").write_text(TINY)
    return simulate(study_from_text(TWO_CLOCKS, folder), timeline=timeline).to_dict()


def test_cycles_of_different_clocks_have_no_sum(tmp_path: Path) -> None:
    result = two_clocks(tmp_path)
    assert result["totals"]["cycles"] is None
    rows = [line for line in printed(result).splitlines() if line.startswith(("conv layers", "total "))]
    assert len([row for row in rows if " mixed " in row]) == 2


def test_without_images_the_notes_say_what_each_machine_counts_from(tmp_path: Path) -> None:
    notes = two_clocks(tmp_path)["provenance"]["notes"]
    (expecting,) = (note for note in notes if "zero fractions" in note)
    (drawn,) = (note for note in notes if "random weights and feature maps" in note)
    assert expecting.startswith("npu, fast: ")
    assert drawn.startswith("early: ")


def test_two_machines_of_a_kind_are_two_processes_of_the_trace(tmp_path: Path) -> None:
    timeline = Timeline(clock_MHz=1.0)
    two_clocks(tmp_path, timeline)
    events = timeline.to_dict()["traceEvents"]
    assert [one["args"]["name"] for one in events if one["name"] == "process_name"] == ["npu", "fast", "early"]


def test_energies_of_different_nodes_are_pointed_out(tmp_path: Path) -> None:
    result = two_clocks(tmp_path)
    (note,) = (note for note in result["provenance"]["notes"] if "nodes" in note)
    assert "npu 65 nm, fast 65 nm, early 45 nm" in note
    one_node = TWO_CLOCKS.replace("conv3: early", "conv3: npu")
    notes = simulate(study_from_text(one_node, tmp_path)).provenance["notes"]
    assert not [note for note in notes if "nodes" in note]


def test_a_node_that_nobody_states_is_said_so(tmp_path: Path) -> None:
    text = TWO_CLOCKS.replace("{kind: snapea, preset: isca18, mode: exact}", "{kind: promise, preset: hpvm}")
    (tmp_path / "tiny.yaml").write_text(TINY)
    machines = simulate(study_from_text(text, tmp_path)).provenance["machines"]
    assert machines["early"]["about"].endswith("(node not stated)")


def test_on_a_narrow_terminal_ratios_stay_whole(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    text = TWO_CLOCKS + "compare_to: {assign: {default: npu}}\n"
    result = simulate(study_from_text(text, tmp_path)).to_dict()
    lines = printed(result, width=80).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("compared to the second"))
    shown = "\n".join(lines[first : first + 14])
    assert "…" not in shown
    assert all(f"{ratio:.3f}x" in shown for ratio in result["compare_to"]["ratios"].values() if ratio)
