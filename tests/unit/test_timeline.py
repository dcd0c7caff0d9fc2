"""The timeline trace: times, names, cap, file."""

from __future__ import annotations

import json

from archsim.sim import Timeline


def filled(**changes: int) -> Timeline:
    timeline = Timeline(clock_MHz=200, **changes)
    timeline.add("npu", "array", "pass 0", 0, 100)
    timeline.add("npu", "weights", "load", 20, 30)
    timeline.rebase(clock_MHz=500, origin_us=0.75)
    timeline.add("baseline", "array", "pass 0", 50, 5)
    return timeline


def test_times_are_microseconds_of_the_slice_s_own_clock() -> None:
    slices = [event for event in filled().to_dict()["traceEvents"] if event["ph"] == "X"]
    assert [(s["name"], s["ts"], s["dur"]) for s in slices] == [
        ("pass 0", 0.0, 0.5),
        ("load", 0.1, 0.15),
        ("pass 0", 0.85, 0.01),
    ]


def test_units_are_processes_and_tracks_are_threads() -> None:
    events = filled().to_dict()["traceEvents"]
    units = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    tracks = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    where = [(units[e["pid"]], tracks[e["pid"], e["tid"]]) for e in events if e["ph"] == "X"]
    assert where == [("npu", "array"), ("npu", "weights"), ("baseline", "array")]
    assert len({tid for _, tid in tracks}) == 3


def test_cap_drops_and_says_so() -> None:
    timeline = filled(max_slices=2)
    assert (len(timeline), timeline.dropped) == (2, 1)
    assert timeline.to_dict()["otherData"] == {"slices": 2, "dropped_slices": 1, "max_slices": 2}
    assert filled(max_slices=3).dropped == 0


def test_it_is_plain_data() -> None:
    told = filled().to_dict()
    assert json.loads(json.dumps(told)) == told
