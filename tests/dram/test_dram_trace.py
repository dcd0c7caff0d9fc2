"""Traces as files: both line formats, what is wrong with one, what a run emits, and `archsim dram`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from archsim.errors import AssetError
from archsim.memory.base import RequestLog
from archsim.memory.dram import trace as traces
from archsim.memory.dram.controller import served
from archsim.memory.dram.played import play
from archsim.memory.dram.trace import Requests, read_trace, write_trace
from tests.bad_inputs import called
from tests.dram.traces import config, trace

A = config("A")


def written(folder: Path, text: str) -> Path:
    path = folder / "some.trace"
    path.write_text(text)
    return path


def whole(path: Path, gap: int = 0) -> Requests:
    pieces = list(read_trace(path, A, gap))
    return Requests(*(np.concatenate(parts) for parts in zip(*pieces, strict=True)))


def test_lines_of_both_simulators(tmp_path: Path) -> None:
    """Comments and empty lines are passed over; requests without a cycle come `gap` apart."""
    mixed = written(tmp_path, "# what it is\nLD 0x1c0\nST 448  # again\n\nR 64\nW 0x40\n")
    lines, writes, at = whole(mixed, gap=7)
    assert lines.tolist() == [7, 7, 1, 1] and writes.tolist() == [0, 1, 0, 1] and at.tolist() == [0, 7, 14, 21]
    timed = written(tmp_path, "0x1C0 READ 3\n640 WRITE 17\n")
    assert [part.tolist() for part in whole(timed, gap=7)] == [[7, 10], [0, 1], [3, 17]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("LD 64\nXX 64\n", r"some\.trace:2: must be 'LD address', .* got 'XX 64'"),
        ("LD 0x\n", r"some\.trace:1: must be .* got 'LD 0x'"),
        ("64 READ\n", r"some\.trace:1"),
        ("64 READ 1.5\n", r"some\.trace:1"),
        ("LD 0x40000000\n", r"addresses must be from 0 to below 0x40000000 \(1024 MiB\), got 0x40000000"),
        ("LD -64\n", r"addresses must be from 0"),
        ("LD 0xffffffffffffffffffffff\n", r"some\.trace:1"),
        ("64 READ -5\n", r"some\.trace:1"),
        ("64 READ 99999999999999999999\n", r"some\.trace:1"),
        ("# nothing\n\n", r"some\.trace: no request in it"),
        ("64 READ 9\n64 READ 8\n", r"cycles must not go back, got 8 after 9"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(AssetError, match=message):
        whole(written(tmp_path, text))


@pytest.mark.parametrize("kind", ["stream", "randrw"])
def test_a_file_is_the_trace_it_holds(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in pieces, and written by the log of a run."""
    lines, writes = trace("A", kind, 2000)
    text = "".join(f"{'ST' if w else 'LD'} {64 * line}\n" for line, w in zip(lines.tolist(), writes.tolist()))
    monkeypatch.setattr(traces, "PIECE", 700)
    played = play(A, read_trace(written(tmp_path, text), A, gap=2))
    told = served(A, [(lines, writes)], gap=2)
    assert played.counters.active_cycles == told.active_cycles
    assert replace(played.counters, closed_active_cycles=0, open_since=None) == replace(
        told, closed_active_cycles=0, open_since=None
    )
    assert int(played.latencies.sum()) == played.counters.reads
    assert int(played.latencies @ np.arange(len(played.latencies))) == played.counters.read_latency_cycles


def test_percentiles_and_energy_add_up(tmp_path: Path) -> None:
    lines, writes = trace("A", "random", 2000)
    told = play(A, [Requests(lines, writes, 60 * np.arange(2000))]).to_dict()
    latency = told["read_latency_cycles"]
    assert latency["least"] <= latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"] <= latency["most"]
    assert sum(told["read_latency_histogram"].values()) == told["reads"] == 2000
    assert sum(told["energy_pJ"].values()) == pytest.approx(told["energy_total_pJ"])
    assert told["power_mW"] == pytest.approx(told["energy_total_pJ"] / told["latency_us"] / 1000)
    assert told["active_cycles"] + told["idle_cycles"] == told["cycles"]


def test_a_log_is_written_for_either_simulator(tmp_path: Path) -> None:
    log = RequestLog(runs=[(0.0, 100, 100, False), (0.01, 64, 2, True), (2.0, 4096, 64, False)])
    write_trace(log, tmp_path / "a.ldst", A)
    assert (tmp_path / "a.ldst").read_text().split("\n")[:-1] == [
        "LD 0x40", "LD 0x80", "LD 0xc0", "ST 0x40", "LD 0x1000"
    ]  # fmt: skip
    write_trace(log, tmp_path / "a.trace", A)
    timed = whole(tmp_path / "a.trace")
    assert timed.at.tolist() == [0, 0, 0, 8, 1600] and timed.writes.tolist() == [0, 0, 0, 1, 0]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.ldst", "a.trace"]


def test_the_command_line(tmp_path: Path) -> None:
    path = written(tmp_path, "".join(f"LD {64 * i}\n" for i in range(600)))
    code, out, _ = called(["dram", str(path), "--preset", "DDR4-2400-8Gb-x8", "--json"], tmp_path)
    told = json.loads(out)
    assert code == 0 and told["reads"] == 600 and told["memory"]["preset"] == "DDR4-2400-8Gb-x8"
    code, out, _ = called(["dram", str(path)], tmp_path)
    assert code == 0 and "row hits" in out and "read latency, bus cycles" in out and "mean power" in out
    _, slow, _ = called(["dram", str(path), "--set", "policy=in_order", "--json"], tmp_path)
    assert json.loads(slow)["cycles"] >= told["cycles"] / 3 and json.loads(slow)["read_latency_histogram"]
    for arguments, message in (
        (["dram", "none.trace"], "none.trace"),
        (["dram", str(path), "--preset", "DDR3-1600"], "DDR3-1600-2Gb-x16"),
        (["dram", str(path), "--set", "row_policy=shut"], "row_policy"),
    ):
        code, _, err = called(arguments, tmp_path)
        assert code == 2 and message in err and err.count("\n") == 1


def test_a_run_emits_what_it_asks(tmp_path: Path) -> None:
    """Playing the emitted trace reads and writes as many lines as the first batch did."""
    memory = "platform.memory={kind: dram, preset: DDR3-1600-2Gb-x16}"
    sizes = ["--set", "workload.data.images=4", "--set", "workload.timed_images=1"]
    code, out, err = called(
        ["run", "quickstart.yaml", "--set", memory, *sizes, "--emit-trace", "q.trace", "--out", "q", "--json"], tmp_path
    )
    assert code == 0, err
    counts = [layer["counts"] for layer in json.loads(out)["layers"]]
    lines = sum(
        n for one in counts for action, n in one.items() if action.endswith((".read", ".write")) and "dram_" in action
    )
    queued = sum(layer["metrics"].get("dram_queue_requests", 0) for layer in json.loads(out)["layers"])
    emitted = len((tmp_path / "q.trace").read_text().splitlines())
    assert emitted == lines + queued > 100
    code, _, err = called(["run", "quickstart.yaml", "--emit-trace", "q.trace", "--out", "p"], tmp_path)
    assert code == 2 and "--emit-trace needs a memory that knows addresses" in err and not (tmp_path / "p").exists()
