"""The bench itself, on a block of ten lines: it agrees with what is right and finds what is not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from archsim.cosim.job import Verdict
from archsim.cosim.simulator import build, choose_simulator, run, waves_of
from archsim.errors import CosimError
from tests.conftest import ROOT
from tests.doubles.mac_array import MacArray
from tests.doubles.mac_array.rtl import MAC_LANE, Window, parameters_of

pytestmark = pytest.mark.cosim

SOURCE = Path(__file__).parents[1] / "doubles" / "mac_array" / "mac_lane.v"
CONFIG = MacArray.Config(**MacArray.presets["small"])


def cases(count: int = 40) -> list[Window]:
    return list(islice(MAC_LANE.random_cases(CONFIG, 3), count))  # type: ignore[arg-type]


def simulated(folder: Path, given: list[Window], source: Path = SOURCE) -> Verdict:
    return run(build(MAC_LANE, parameters_of(CONFIG), choose_simulator(), source=source), given, folder)


def mutant(folder: Path, old: str, new: str) -> Path:
    text = SOURCE.read_text()
    assert text.count(old) == 1, old
    path = folder / "mac_lane.v"
    path.write_text(text.replace(old, new))
    return path


def test_block_and_model_agree(tmp_path: Path) -> None:
    given = cases()
    verdict = simulated(tmp_path, given)
    assert verdict.difference is None
    assert verdict.cases == len(given) and verdict.results == len(given)
    assert verdict.cycles == sum(len(list(one.play(MAC_LANE.model({"WACC": 48})))) for one in given)
    assert verdict.totals["out"] == sum(one.totals["out"] for one in given)


@pytest.mark.parametrize(
    ("old", "new", "signal"),
    [
        ("valid && last && !rst", "valid && last && first && !rst", "out_valid"),
        (" + x * w;\n    end", " + x * w + (x == -16'sd7);\n    end", "out"),
        ("first ? bias : out", "first ? bias + 1 : out", "out"),
        ("else if (valid) out", "else if (valid && !last) out", "out"),
    ],
)
def test_wrong_block_is_found(old: str, new: str, signal: str, tmp_path: Path) -> None:
    given = cases(400 if "7" in new else 40)
    difference = simulated(tmp_path, given, mutant(tmp_path, old, new)).difference
    assert difference is not None and difference.signal == signal and difference.against == "model"
    assert given[difference.case].about == difference.about
    assert difference.rtl != difference.model


def test_unknown_outputs_are_found(simulator: str, tmp_path: Path) -> None:
    if simulator == "verilator":
        pytest.skip("Verilator has no unknown values")
    source = mutant(tmp_path, "if (rst) out <= {WACC{1'b0}};\n        else if", "if")
    difference = simulated(tmp_path, cases(), source).difference
    assert difference is not None and difference.rtl is None and "unknown" in str(difference)
    assert difference.case == 0


def wrong_outcome(one: Window) -> Window:
    return replace(one, outcomes=({"out": one.outcomes[0]["out"] + 1},))


def missing_outcome(one: Window) -> Window:
    return replace(one, outcomes=())


def extra_outcome(one: Window) -> Window:
    return replace(one, outcomes=(*one.outcomes, {"out": 0}))


def wrong_total(one: Window) -> Window:
    return replace(one, totals={"out": one.totals["out"] + 1})


@pytest.mark.parametrize(
    ("change", "signal"),
    [(wrong_outcome, "out"), (missing_outcome, "out_valid"), (extra_outcome, "results on out_valid"),
     (wrong_total, "out")],
)  # fmt: skip
def test_kernel_that_says_something_else_is_found(change: object, signal: str, tmp_path: Path) -> None:
    given = cases()
    given[17] = change(given[17])  # type: ignore[operator]
    verdict = simulated(tmp_path, given)
    assert verdict.difference is not None
    assert (verdict.difference.case, verdict.difference.signal) == (17, signal)
    assert verdict.difference.against == "kernel" and verdict.cases == 17
    agreed = simulated(tmp_path, given[:17])  # the model played further ahead than the cases that count
    assert (agreed.cycles, agreed.results, agreed.totals) == (verdict.cycles, verdict.results, verdict.totals)


def test_difference_is_found_in_its_cycle(tmp_path: Path) -> None:
    """The block is wrong from its 1000th cycle on; the message names the case and cycle that stand there."""
    counter = "    reg [31:0] age = 0;\n    always @(posedge clk) begin\n        age <= age + 1;"
    text = SOURCE.read_text().replace("    always @(posedge clk) begin", counter)
    path = tmp_path / "mac_lane.v"
    path.write_text(text.replace("valid && last && !rst", "valid && last && !rst && age < 1000"))
    given = cases(200)
    difference = simulated(tmp_path, given, path).difference
    assert difference is not None and difference.signal == "out_valid"
    cycles = [len(list(one.play(MAC_LANE.model({"WACC": 48})))) for one in given]
    first_end = next(end for end in _ends(cycles) if end > 1001)
    assert sum(cycles[: difference.case]) + difference.cycle == first_end - 1


def _ends(cycles: list[int]) -> Iterator[int]:
    total = 0
    for one in cycles:
        total += one
        yield total


def test_waves_on_request(tmp_path: Path) -> None:
    built = build(MAC_LANE, parameters_of(CONFIG), choose_simulator(), source=SOURCE, waves_in=tmp_path)
    run(built, cases(3), tmp_path)
    waves = waves_of(built, tmp_path)
    assert waves is not None and waves.is_relative_to(tmp_path) and waves.stat().st_size > 100


def test_a_simulation_that_dies_returns_no_verdict_of_another(tmp_path: Path) -> None:
    given = cases(3)
    assert simulated(tmp_path, given).cases == 3
    broken = replace(given[0], outcomes=None)  # type: ignore[arg-type]
    with pytest.raises(CosimError, match="ended without a verdict"):
        simulated(tmp_path, [broken])


def test_benches_of_two_processes_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three builds at once in an empty cache: one stays, nothing is left beside it, each can be run."""
    monkeypatch.setenv("ARCHSIM_COSIM_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    script = "\n".join(
        (
            "from pathlib import Path", "import sys", "from tests.cosim.test_rtl_bench import cases, simulated",
            "folder = Path(sys.argv[1]); folder.mkdir(parents=True)", "print(simulated(folder, cases(3)).cases)",
        )
    )  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, work / str(i)], cwd=ROOT, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for i in range(3)
    ]  # fmt: skip
    said = [one.communicate()[0].split() for one in started]
    assert [words[-1:] for words in said] == [["3"]] * 3
    assert len(list((tmp_path / "cache").iterdir())) == 1
