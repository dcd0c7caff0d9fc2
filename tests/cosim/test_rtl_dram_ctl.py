"""The in-order DRAM controller in Verilog against its model and the compiled kernel: all traffic, presets, mutants.

The test bench compares every output in every cycle; so the command bus that the spacings are held against is the RTL's.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from archsim.cosim.job import Verdict
from archsim.cosim.simulator import build, choose_simulator, run
from archsim.cosim.verilog import source_of
from archsim.errors import MappingError
from archsim.memory.dram.config import DramConfig
from archsim.memory.dram.fields import REF
from archsim.memory.dram.in_order import CtlCase
from archsim.memory.dram.in_order_cases import TRAFFIC, ctl_case, ctl_cases
from archsim.memory.dram.rtl import DRAM_CTL, ctl_parameters_of
from tests.dram.test_dram_in_order import SHORT_REFRESH, check_bus, commands_of
from tests.dram.traces import config

pytestmark = pytest.mark.cosim

CASES = 36
"""Six of every kind of traffic, some 24 requests each."""
MUTANT_CASES = 15
"""The last three with data that wait."""


def often_refreshed(name: str) -> DramConfig:
    return config(name, tREFI_cycles=SHORT_REFRESH[name])


def random_cases(name: str, count: int = CASES, seed: int = 11) -> list[CtlCase]:
    return list(islice(ctl_cases(often_refreshed(name), seed), count))


def simulated(made: DramConfig, cases: list[CtlCase], folder: Path, source: Path | None = None) -> Verdict:
    return run(build(DRAM_CTL, ctl_parameters_of(made), choose_simulator(), source=source), cases, folder)


@pytest.mark.parametrize("name", ["A", "C"])
def test_rtl_model_and_kernel_agree(name: str, tmp_path: Path) -> None:
    """Commands and their cycles, what is taken, what is done, all counters; spacings on the bus of the RTL."""
    cases = random_cases(name)
    verdict = simulated(often_refreshed(name), cases, tmp_path)
    assert verdict.difference is None
    assert verdict.cases == CASES and verdict.results == sum(len(one.outcomes) for one in cases)
    assert verdict.totals["cnt_rd"] + verdict.totals["cnt_wr"] == sum(len(one.requests) for one in cases) > 700
    assert all(value > 5 for value in verdict.totals.values())
    assert {one.about.partition(",")[0] for one in cases} == set(TRAFFIC)
    for one in cases:
        check_bus(name, commands_of(one))


def idle(made: DramConfig, until: int) -> CtlCase:
    """Nobody asks for anything before a late request."""
    return ctl_case(made, "idle", np.array([0]), np.array([0]), np.array([until]))


def test_refreshes_come_in_time_or_not_at_all(tmp_path: Path) -> None:
    """REF in cycle tREFI and twice as late if nobody asks for anything; none without refresh."""
    made = often_refreshed("A")
    assert [one["now"] for one in idle(made, 1600).outcomes if one["cmd"] == REF] == [700, 1400]
    assert simulated(made, [idle(made, 1600)], tmp_path).difference is None
    never = made.model_copy(update={"refresh": False})
    assert idle(never, 1000).totals["cnt_ref"] == 0
    assert simulated(never, [idle(never, 1000)], tmp_path).difference is None


@pytest.mark.parametrize(
    ("field", "value"), [("row_policy", "closed"), ("hit_cap", 4), ("banks", 1)], ids=["closed", "cap", "one bank"]
)
def test_what_the_block_does_not_do_is_refused(field: str, value: object) -> None:
    with pytest.raises(MappingError, match="the block dram_ctl has"):
        ctl_parameters_of(config("A", **{field: value}))


class Mutant(NamedTuple):
    """A place in the source and what stands there instead; a preset, changed where its own figures hide the place."""

    name: str
    old: str
    new: str
    preset: str = "A"
    changes: Mapping[str, int] = {}


MUTANTS = (
    Mutant("tFAW", "T_FAW > 0 ? T_FAW - 1", "T_FAW > 0 ? T_FAW - 2"),
    Mutant("tWTR_L", "WRITE_READ_L = CWL + BURST + T_WTR_L", "WRITE_READ_L = CWL + BURST + T_WTR_S", "C"),
    Mutant("tWTR_S", "WRITE_READ_S = CWL + BURST + T_WTR_S", "WRITE_READ_S = CWL + BURST + T_WTR_S - 1", "C"),
    Mutant("tRC", "if (activate_wait <= RP_LOAD[ACT_W-1:0]) activate", "activate", "A", {"tRC_cycles": 60}),
    Mutant("tRTP", "if (precharge_wait <= close_load) precharge", "precharge"),
    Mutant("tCCD_L", "T_CCD_L > BURST ? T_CCD_L", "T_CCD_L > BURST ? BURST", "C"),
    Mutant("read to write", "READ_WRITE = CL + BURST + 2 > CWL ?", "READ_WRITE = CL + BURST + 2 > CWL ? -1 +"),
    Mutant("tREFI", "T_REFI > 0 ? T_REFI - 1", "T_REFI > 0 ? T_REFI - 2"),
    Mutant("row without use", "&& !(|is_activating) && &may", "&& &may", "A", {"tRAS_cycles": 11, "tREFI_cycles": 150}),
    Mutant(
        "refresh lost", "pending <= pending + 16'd1", "pending <= 16'd1", "A", {"tRFC_cycles": 20, "tREFI_cycles": 21}
    ),
    Mutant("data_ready", "|wants_data && data_ready", "|wants_data"),
    Mutant("turn", "column_turn <= column_bank + 1'b1", "column_turn <= column_bank", "C"),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutants_of_the_block_are_caught(mutant: Mutant, tmp_path: Path) -> None:
    text = source_of("dram_ctl").read_text()
    assert text.count(mutant.old) == 1, mutant.old
    (tmp_path / "dram_ctl.v").write_text(text.replace(mutant.old, mutant.new))
    made = often_refreshed(mutant.preset).model_copy(update=mutant.changes)
    cases = [*islice(ctl_cases(made, 11), MUTANT_CASES), idle(made, 720)]
    difference = simulated(made, cases, tmp_path, tmp_path / "dram_ctl.v").difference
    assert difference is not None and difference.against == "model"
