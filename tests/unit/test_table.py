"""The printed table."""

from __future__ import annotations

import copy
import io

from rich.console import Console

from archsim.config import load_study
from archsim.report.table import WIDTH, run_report
from archsim.run import simulate


def printed(result: dict) -> str:
    screen = io.StringIO()
    Console(width=WIDTH, file=screen).print(run_report(result))
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
