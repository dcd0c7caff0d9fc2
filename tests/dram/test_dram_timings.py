"""Timings of a lower supply: from ns to cycles, from rows to layers, and a run with them beside fields set by hand."""

from __future__ import annotations

import json
from collections.abc import Generator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.approx import LayerSetting
from archsim.config import load_study
from archsim.errors import StudyError
from archsim.memory.base import RequestLog
from archsim.memory.dram import Dram
from archsim.memory.dram.config import DramConfig
from archsim.memory.dram.played import play
from archsim.memory.dram.presets import PRESETS
from archsim.memory.dram.profiles import PLACEHOLDER_NS, PROFILES, Level
from archsim.memory.dram.timings import cycles_of, lengthened, notes, row_cycles
from archsim.memory.dram.trace import Requests
from archsim.platform import load_memory
from archsim.result import LayerResult, RunResult
from archsim.run import simulate
from archsim.session import Session
from archsim.workload.bench import Workbench
from tests.bad_inputs import called
from tests.dram.traces import config, trace

PLACEHOLDER = "placeholder_timings"
SLOW = {"tRCD_cycles": 17, "tRP_cycles": 21, "tRAS_cycles": 42, "tRC_cycles": 63}
"""The placeholder's 0.90 V at 1.25 ns."""
ROWS = "[{ber: 0, tRCD_ns: 15, tRP_ns: 16, tRAS_ns: 40}, {ber: 0, tRCD_ns: 21, tRP_ns: 26, tRAS_ns: 52}]"
SMALL = ("workload.data.images=4", "workload.timed_images=2")
LAYERS = ("conv1", "conv2", "conv3", "fc")
NS = st.integers(1, 120_000).map(lambda ps: ps / 1000)


def slow(**ns: float) -> Level:
    return Level("slow", 0.0, **{f"{name}_ns": value for name, value in ns.items()})


def timings(memory: DramConfig) -> dict[str, int]:
    return {name: getattr(memory, name) for name in SLOW}


# ns and cycles -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ns", "tCK_ps", "cycles"),
    [
        (12.5, 1250, 10), (12.501, 1250, 11), (13.75, 1250, 11), (13.76, 1250, 12), (15, 1250, 12), (16, 1250, 13),
        (36.25, 1250, 29), (40, 1250, 32), (21, 1250, 17), (26, 1250, 21), (52, 1250, 42), (0.001, 1250, 1),
        (13.328, 833, 16), (13.329, 833, 17), (13.75, 833, 17), (36.25, 833, 44), (1000, 1, 1_000_000),
        (4.35, 50, 87), (0.57, 30, 19), (1.1, 1100, 1),
    ],
)  # fmt: skip
def test_cycles_are_rounded_up(ns: float, tCK_ps: int, cycles: int) -> None:
    """A whole number of cycles stays what it is, whatever binary fractions make of it; any more is one cycle more."""
    assert cycles_of(ns, tCK_ps) == cycles


@given(st.integers(1, 2000), st.integers(1, 5000))
def test_whole_cycles_are_not_rounded(cycles: int, tCK_ps: int) -> None:
    assert cycles_of(cycles * tCK_ps / 1000, tCK_ps) == cycles
    assert cycles_of((cycles * tCK_ps + 1) / 1000, tCK_ps) == cycles + 1


def test_a_nanosecond_less_is_0_or_1_cycle_at_1250_ps() -> None:
    steps = {ns: cycles_of(ns, 1250) - cycles_of(ns - 1, 1250) for ns in np.arange(2, 60, 0.25).tolist()}
    assert set(steps.values()) == {0, 1}


# rows and what is kept -----------------------------------------------------------------------------------------------
def test_no_profile_but_the_placeholder_has_timings() -> None:
    """And it is called unverified by itself, its source and its rows."""
    timed = {name for name, one in PROFILES.items() if any(row.timings_ns for row in one.levels)}
    assert timed == {PLACEHOLDER}
    profile = PROFILES[PLACEHOLDER]
    assert profile.nominal_mV == 1350 and "unverified" in profile.source
    assert all("unverified" in row.label for row in profile.levels)
    told = {row.supply_mV: tuple(row.timings_ns.values()) for row in profile.levels}
    assert told == PLACEHOLDER_NS == {1350: (13.75, 13.75, 36.25), 1100: (15, 16, 40), 900: (21, 26, 52)}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_placeholder_suits_every_preset(preset: str) -> None:
    memory = DramConfig(**PRESETS[preset], profile=PLACEHOLDER)
    kept = [timings(lengthened(memory, [row])) for row in PROFILES[PLACEHOLDER].levels]
    assert kept[0] != timings(memory)
    assert all(before[name] < after[name] for before, after in pairwise(kept) for name in SLOW)
    if memory.tCK_ps == 1250:
        assert [list(one.values()) for one in kept] == [[11, 11, 29, 40], [12, 13, 32, 45], [17, 21, 42, 63]]


def test_the_slowest_of_all_rows_is_kept() -> None:
    """Field by field; the cycle of a bank follows, unless the DRAM's own is longer."""
    memory = config("A")
    mixed = lengthened(memory, [slow(tRCD=20, tRAS=36.25), slow(tRP=20, tRCD=14), Level("plain", 0.1)])
    assert list(timings(mixed).values()) == [16, 16, 29, 45]
    assert list(timings(lengthened(memory, [slow(tRCD=5, tRP=5, tRAS=20)])).values()) == [10, 10, 28, 38]
    assert lengthened(config("A", tRC_cycles=60), [slow(tRP=20)]).tRC_cycles == 60
    others = memory.model_dump(exclude=set(SLOW))
    assert mixed.model_dump(exclude=set(SLOW)) == others
    assert lengthened(memory, [Level("plain", 0.1, 1100)]) is memory and lengthened(memory, []) is memory


@given(st.lists(st.builds(slow, tRCD=NS, tRP=NS, tRAS=NS), min_size=1, max_size=3))
def test_rows_never_shorten_a_timing(rows: list[Level]) -> None:
    for name in ("A", "C"):
        memory = config(name)
        kept, own = timings(lengthened(memory, rows)), timings(memory)
        assert all(kept[field] >= own[field] for field in SLOW)
        assert all(kept[f"{field}_cycles"] >= n for row in rows for field, n in row_cycles(memory, row).items())
        assert kept["tRC_cycles"] >= kept["tRAS_cycles"] + kept["tRP_cycles"]


def test_a_layer_ticks_at_the_rows_of_its_regions() -> None:
    memory = Dram(config("A", profile=PLACEHOLDER))
    exact, low = LayerSetting({"dram_weights": 0}), LayerSetting({"dram_weights": 2, "dram_ifmap": 3})
    assert memory.clocked(exact) is memory
    assert timings(memory.clocked(low).config) == SLOW
    assert memory.clocked(low) is memory.clocked(LayerSetting({"dram_ofmap": 3}))
    assert memory.clocked(low, {"ifmap"}).config.tRP_cycles == 13
    assert memory.clocked(low, {"ifmap", "weights"}) is memory
    for name in PROFILES.keys() - {PLACEHOLDER}:
        plain = Dram(config("A", profile=name))
        assert plain.clocked(low) is plain


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("tRAS_ns: 18.75", "got tRAS 18.75 ns = 15 cycles (18.75 ns)"),
        ("tRCD_ns: 27.6", "profile.1.tRCD_ns: tRAS must be at least tRCD + tRTP, 23 + 6 cycles (36.25 ns), got 28"),
        ("tRCD_ns: 40, tRAS_ns: 41", "profile.1.tRAS_ns: tRAS must be at least tRCD + tRTP, 32 + 6 cycles"),
        ("tRP_ns: 0", "profile.1.tRP_ns: must be greater than 0"),
        ("tRCD: 15", "unknown field 'tRCD'; did you mean 'tRCD_ns'"),
    ],
)
def test_what_bad_rows_are_told(row: str, message: str) -> None:
    changes = [f"profile=[{{ber: 0}}, {{ber: 0, {row}}}]"]
    with pytest.raises(StudyError, match=r"platform\.memory") as caught:
        load_memory("dram", "DDR3-1600-2Gb-x16", changes)
    assert message in str(caught.value) and "banks" not in str(caught.value)


def test_a_row_may_be_open_just_long_enough() -> None:
    for row in ("tRAS_ns: 20", "tRAS_ns: 18.76", "tRCD_ns: 27.5", "tRCD_ns: 40, tRAS_ns: 47.5"):
        load_memory("dram", "DDR3-1600-2Gb-x16", [f"profile=[{{ber: 0, {row}}}]"])


# what is slower ------------------------------------------------------------------------------------------------------
def closed_loop_ns(memory: DramConfig, lines: list[int]) -> int:
    """When the last of some reads ends, each asked for when the one before has come; picoseconds of a bus cycle."""
    env = simpy.Environment()
    port = Dram(memory).port(env, 1e6 / memory.tCK_ps)

    def reader() -> Generator[Any, Any, None]:
        for line in lines:
            yield port.access("read", "weights", 64 * line, 64)

    env.run(env.process(reader()))
    return int(env.now)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 127)), min_size=2, max_size=25),
    st.tuples(NS, NS, NS),
    st.tuples(NS, NS, NS),
)
def test_slower_timings_never_make_a_closed_loop_of_one_bank_faster(
    places: list[tuple[int, int]], first: tuple[float, ...], more: tuple[float, ...]
) -> None:
    """Reads of a few rows of one bank; a reader that changes rows waits strictly longer for a longer precharge."""
    memory = config("A", tCK_ps=1000, refresh=False)
    lines = [row * 128 * memory.banks + column for row, column in places]
    one = lengthened(memory, [slow(tRCD=first[0], tRP=first[1], tRAS=first[2])])
    two = lengthened(one, [slow(tRCD=first[0] + more[0], tRP=first[1] + more[1], tRAS=first[2] + more[2])])
    fast, medium, slowest = (closed_loop_ns(each, lines) for each in (memory, one, two))
    assert fast <= medium <= slowest
    changes = sum(a[0] != b[0] for a, b in pairwise(places))
    assert slowest >= medium + changes * (two.tRP_cycles - one.tRP_cycles) + two.tRCD_cycles - one.tRCD_cycles


@pytest.mark.parametrize("kind", ["stream", "random", "randrw"])
@pytest.mark.parametrize("changes", [{}, {"policy": "in_order"}, {"ranks": 2, "channels": 2}, {"row_policy": "closed"}])
def test_a_trace_at_a_row_is_one_on_a_dram_set_by_hand(kind: str, changes: dict[str, Any]) -> None:
    lines, writes = trace("A", kind, 2000)
    row, plain = PROFILES[PLACEHOLDER].levels[2], config("A", **changes)
    played = play(plain, [Requests(lines, writes, 8 * np.arange(2000))], row)
    told = play(config("A", **changes, **SLOW), [Requests(lines, writes, 8 * np.arange(2000))])
    exact = play(plain, [Requests(lines, writes, 8 * np.arange(2000))])
    assert played.counters == told.counters and (played.latencies == told.latencies).all()
    assert played.counters != exact.counters and played.counters.cycles >= exact.counters.cycles
    share = {name: pJ / exact.energy_pJ[name] for name, pJ in played.energy_pJ.items() if exact.energy_pJ[name]}
    assert share["read"] == pytest.approx(900 / 1500)
    assert share["act"] == pytest.approx(900 / 1500 * played.counters.activates / exact.counters.activates)


# studies -------------------------------------------------------------------------------------------------------------
def memory(**fields: Any) -> str:
    told = "".join(f", {name}: {value}" for name, value in fields.items())
    return f"platform.memory={{kind: dram, preset: DDR3L-1600-4Gb-x8{told}}}"


def levels(level: int, *regions: str) -> tuple[str, ...]:
    told = ", ".join(f"dram_{region}: {level}" for region in regions)
    return tuple(f"knobs.{layer}={{{told}}}" for layer in LAYERS)


@cache
def ran(study: str, *overrides: str) -> RunResult:
    exact = () if study == "quickstart.yaml" else ("platform.accelerators.npu.mode=exact",)
    return simulate(load_study(study, [*SMALL, *exact, *overrides]))


def on_machines(result: RunResult) -> list[LayerResult]:
    return [layer for layer in result.layers if layer.accelerator != "vector_unit"]


EVERY = ("weights", "ifmap", "ofmap")


@pytest.mark.parametrize("study", ["quickstart.yaml", "snapea-digits-study.yaml"])
def test_a_study_at_a_row_is_one_on_a_dram_set_by_hand(study: str) -> None:
    """Cycles, counts and figures are equal, energy but for activates: their price is that of the DRAM's own tRC."""
    exact, low = ran(study, memory()), ran(study, memory(profile=ROWS), *levels(2, *EVERY))
    by_hand = ran(study, memory(**SLOW))
    assert low.totals.latency_us > ran(study, memory(profile=ROWS), *levels(1, *EVERY)).totals.latency_us
    assert low.totals.latency_us > exact.totals.latency_us and low.accuracy == exact.accuracy
    for ours, hand, before in zip(on_machines(low), on_machines(by_hand), on_machines(exact), strict=True):
        assert ours.cycles == hand.cycles >= before.cycles and ours.counts == hand.counts
        assert ours.metrics == hand.metrics
        for action, pJ in ours.energy_pJ.items():
            if action.endswith(".act"):
                assert pJ / ours.counts[action] == pytest.approx(before.energy_pJ[action] / before.counts[action])
            else:
                assert pJ == hand.energy_pJ[action]
        standby = [one.counts["dram.active_cycle"] + one.counts["dram.idle_cycle"] for one in (ours, before)]
        assert (standby[0] > standby[1]) == (ours.cycles > before.cycles)


def test_a_level_changes_the_layer_it_is_set_for() -> None:
    exact = ran("quickstart.yaml", memory())
    mixed = ran("quickstart.yaml", memory(profile=ROWS), "knobs.conv2={dram_weights: 1, dram_ifmap: 2}")
    for ours, before in zip(on_machines(mixed), on_machines(exact), strict=True):
        if ours.name == "conv2":
            assert ours.metrics["dram_timings"] == "tRCD 17, tRP 21, tRAS 42, tRC 63 cycles of 1.25 ns"
            assert ours.cycles > before.cycles
        else:
            assert ours == before
    assert on_machines(exact)[0].metrics["dram_timings"] == "tRCD 10, tRP 10, tRAS 28, tRC 38 cycles of 1.25 ns"


def test_what_stays_on_chip_asks_for_nothing() -> None:
    """SnaPEA holds its maps on chip from layer to layer."""
    exact = on_machines(ran("snapea-digits-study.yaml", memory()))
    low = on_machines(ran("snapea-digits-study.yaml", memory(profile=ROWS), *levels(2, "ifmap")))
    inner = [(a, b) for a, b in zip(low, exact, strict=True) if not b.counts.get("dram_ifmap.read")]
    assert inner and all(ours.metrics == before.metrics and ours.cycles == before.cycles for ours, before in inner)
    assert any("tRP 21" in str(ours.metrics["dram_timings"]) for ours in low)


def test_a_session_times_every_setting_by_itself() -> None:
    study = load_study("quickstart.yaml", [*SMALL, memory(profile=PLACEHOLDER)])
    session = Session(Workbench(study.workload, study.folder), study, study.assign)
    found = []
    for level in (0, 3, 2, 0, 3):
        setting = {name: LayerSetting({f"dram_{region}": level for region in EVERY}) for name in LAYERS}
        found.append(session.cost(setting)[0].latency_us)
    assert found[0] == found[3] < found[2] < found[1] == found[4]


def test_a_trace_of_a_run_is_that_of_its_timings() -> None:
    ends = []
    for level in (0, 3):
        log = RequestLog()
        study = load_study("quickstart.yaml", [*SMALL, memory(profile=PLACEHOLDER), *levels(level, *EVERY)])
        simulate(study, requests=log)
        ends.append((len(log.runs), log.runs[-1][0]))
    assert ends[0][0] == ends[1][0] and ends[0][1] < ends[1][1]


def test_notes_tell_timings_their_rounding_and_that_nobody_verified_them() -> None:
    told = ran("quickstart.yaml", memory(profile=PLACEHOLDER), *levels(2, "weights")).provenance["notes"]
    assert [note for note in told if note.startswith("memory: ")] == [
        "memory: errors: placeholder_timings (no source: unverified placeholder), model uniform; the profile decides"
        " the saving",
        "memory: timings at 1.1 V (unverified): tRCD 15 ns = 12 cycles (15 ns), tRP 16 ns = 13 cycles (16.25 ns), tRAS"
        " 40 ns = 32 cycles (40 ns)",
        "memory: timings: rounded up to cycles, so that 1 ns less is 0 or 1 cycles less; a layer keeps the slowest of"
        " the rows it uses and of the DRAM's own (tRCD 10, tRP 10, tRAS 28, tRC 38 cycles of 1.25 ns)",
    ]
    assert not any(
        "timings" in note for note in ran("quickstart.yaml", memory(profile=PLACEHOLDER)).provenance["notes"]
    )
    assert "1 ns less is 1 or 2 cycles less" in notes(config("C"), PROFILES[PLACEHOLDER].levels)[-1]
    assert notes(config("A"), PROFILES["thesis_t46"].levels) == []


# the command line ----------------------------------------------------------------------------------------------------
def test_a_trace_at_a_level_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "some.trace"
    path.write_text("".join(f"LD {line * 64 * 1024 * 128}\n" for line in range(200)))
    base = ["dram", str(path), "--preset", "DDR3L-1600-4Gb-x8", "--set", f"profile={PLACEHOLDER}"]
    told = {}
    for level in (0, 1, 3):
        code, out, err = called([*base, "--level", str(level), "--json"], tmp_path)
        assert code == 0, err
        told[level] = json.loads(out)
    assert told[0]["cycles"] < told[1]["cycles"] < told[3]["cycles"]
    assert told[0]["row"] is None and told[3]["timings"] == "tRCD 17, tRP 21, tRAS 42, tRC 63 cycles of 1.25 ns"
    assert told[3]["row"].startswith("0.9 V (unverified): tRCD 21 ns = 17 cycles (21.25 ns), tRP 26 ns")
    assert told[3]["energy_pJ"]["read"] == pytest.approx(told[0]["energy_pJ"]["read"] * 900 / 1350)
    _, out, _ = called([*base, "--level", "3"], tmp_path)
    assert "row: 0.9 V (unverified)" in out and "timings: tRCD 17, tRP 21" in out
    for more, message in (
        (["--level", "4"], "level: must be from 0 (exact) to 3, the rows of the profile, got 4"),
        (["--level", "1", "--set", "supply_mV=1200"], "level 1 is 1350 mV, above the supply in force (1200 mV)"),
        (["--level", "1", "--set", "profile=null"], "level: must be from 0 (exact) to 0"),
    ):
        code, _, err = called([*base, *more], tmp_path)
        assert code == 2 and message in err and err.count("\n") == 1


def test_refreshes_of_a_level_cost_what_they_do_in_a_study() -> None:
    plain = config("A", profile="flikker_t41")
    lines, writes = trace("A", "random", 2000)
    energies = [
        play(plain, [Requests(lines, writes, 60 * np.arange(2000))], row).energy_pJ
        for row in (None, PROFILES["flikker_t41"].levels[-1])
    ]
    assert energies[1].pop("refresh") / energies[0].pop("refresh") == pytest.approx(99.6 / 132.84)
    assert energies[0] == energies[1]
