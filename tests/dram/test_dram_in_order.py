"""`policy: in_order`: compiled kernel, register model and the rules as they are written say the same."""

from __future__ import annotations

from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest

from archsim.memory.dram import kernel_in_order as kernel
from archsim.memory.dram.controller import rules_of
from archsim.memory.dram.fields import ACT, PRE, PREA, RD, REF, WR, Array
from archsim.memory.dram.in_order import CtlCase, DramCtl
from archsim.memory.dram.in_order_cases import ctl_cases
from archsim.memory.dram.in_order_controller import InOrderController
from archsim.memory.dram.rtl import ctl_parameters_of
from tests.dram.tick import Command, spacings
from tests.dram.traces import config, trace

SHORT_REFRESH = {"A": 700, "C": 1100}
REQUESTS = 20000


def cases(name: str, count: int, **changes: Any) -> list[CtlCase]:
    return list(islice(ctl_cases(config(name, **changes), 5), count))


def commands_of(case: CtlCase) -> list[Command]:
    """Return cycle, command, bank, row as in a log; PREA and REF belong to no bank."""
    rows = [(one["now"], one["cmd"], one["cmd_bank"], one["cmd_row"]) for one in case.outcomes]
    return [(at, command, -1 if command in (PREA, REF) else bank, row) for at, command, bank, row in rows]


def log_of(name: str, kind: str, gap: int = 0, **changes: Any) -> tuple[Array, Array, Array, InOrderController]:
    """Return lines, writes, commands and the controller that served a trace."""
    lines, writes = trace(name, kind, REQUESTS)
    controller, log = InOrderController(config(name, **changes)), np.zeros((5 * REQUESTS, 4), np.int64)
    controller.offer(lines, writes, 0, gap, log)
    return lines, writes, log[: controller.state[0][kernel.LOGGED]], controller


# Kernel and model


@pytest.mark.parametrize("name", ["A", "C"])
@pytest.mark.parametrize("changes", [{}, {"refresh": False}, "short", "odd"], ids=str)
def test_model_and_kernel_issue_the_same_commands(name: str, changes: Any) -> None:
    """Odd: spacings in an order that no standard has, so that none may be left out because another is longer."""
    odd = {
        "tRC_cycles": 20,
        "tRP_cycles": 31,
        "tRAS_cycles": 9,
        "tRTP_cycles": 40,
        "tCCD_S_cycles": 50,
        "tFAW_cycles": 3,
    }
    short = {"tREFI_cycles": SHORT_REFRESH[name]}
    changes = short if changes == "short" else odd | short if changes == "odd" else changes
    for case in cases(name, 36, **changes):
        seen, last = [], {}
        for inputs, outputs in case.play(DramCtl(ctl_parameters_of(config(name, **changes)))):
            if outputs["cmd_valid"] and not inputs["rst"]:
                seen.append({port: outputs[port] for port in case.outcomes[0]})
            last = outputs
        assert seen == list(case.outcomes), case.about
        assert {port: last[port] for port in case.totals} == case.totals, case.about


@pytest.mark.parametrize("name", ["A", "C"])
def test_every_spacing_is_kept_and_no_bursts_overlap(name: str) -> None:
    for case in cases(name, 60, tREFI_cycles=SHORT_REFRESH[name]):
        check_bus(name, commands_of(case))


def check_bus(name: str, log: list[Command]) -> None:
    """Hold a command bus against the table of spacings, bursts against each other, and rows against commands."""
    rules, free, rows = rules_of(config(name)), 0, dict[int, int]()
    for i, (at, command, bank, row) in enumerate(log):
        for earlier, gap in spacings(rules, log[:i], command, bank):
            assert earlier + gap <= at, log[i]
        if command in (RD, WR):
            begin = at + (rules.CL if command == RD else rules.CWL)
            assert begin >= free and rows[bank] == row, log[i]
            free = begin + rules.burst
        elif command == ACT:
            assert bank not in rows, log[i]
            rows[bank] = row
        elif command == PRE:
            del rows[bank]
        else:
            assert bool(rows) == (command == PREA), log[i]
            rows.clear()


# Rules


@pytest.mark.parametrize(("name", "kind"), [("A", "stream"), ("A", "randrw"), ("C", "random"), ("C", "randrw")])
def test_a_trace_is_served_in_the_order_of_every_bank(name: str, kind: str) -> None:
    lines, writes, log, controller = log_of(name, kind)
    done = controller.counters
    assert done.hits + done.misses + done.conflicts == done.reads + done.writes == REQUESTS
    assert abs(done.refreshes - done.cycles // controller.rules.tREFI) <= 1
    assert done.active_cycles + done.idle_cycles == done.cycles > REQUESTS * controller.rules.tCCD_S
    rules = controller.rules
    columns = log[log[:, 1] >= RD]
    columns = columns[columns[:, 1] != REF]
    block = lines >> rules.column_bits
    group, rest = block & ((1 << rules.group_bits) - 1), block >> rules.group_bits
    bank = group << rules.bank_bits | rest & ((1 << rules.bank_bits) - 1)
    for b in range(rules.banks):
        wanted = np.stack([RD + writes[bank == b], rest[bank == b] >> rules.bank_bits], axis=1)
        np.testing.assert_array_equal(columns[columns[:, 2] == b][:, [1, 3]], wanted)


@pytest.mark.parametrize(("name", "hit", "closed", "conflict"), [("A", 15, 25, 35), ("C", 21, 37, 53)])
def test_latency_of_an_idle_channel(name: str, hit: int, closed: int, conflict: int) -> None:
    """1 + CL + 4, and tRCD, and tRP, as with the first-ready controller."""
    row = config(name).row_lines * config(name).banks
    controller, seen = InOrderController(config(name)), []
    for k, line in enumerate([5, 6, 6 + row]):
        before = controller.counters.read_latency_cycles
        controller.offer(np.array([line]), np.array([0]), 500 * (k + 1))
        seen.append(controller.counters.read_latency_cycles - before)
    assert seen == [closed, hit, conflict]


def test_no_bank_waits_for_ever() -> None:
    """One read among writes to the open rows of all other banks: it has its turn, and the bus turns for it."""
    made = config("A", refresh=False)
    others = np.arange(700) % (made.banks - 1) + 1
    lines = np.concatenate([others[:350], [0], others[350:]]) * made.row_lines
    writes = np.ones(len(lines), np.int64)
    writes[350] = 0
    controller, log = InOrderController(made), np.zeros((4000, 4), np.int64)
    controller.offer(lines, writes, log=log)
    log = log[: controller.state[0][kernel.LOGGED]]
    after_act = log[np.flatnonzero((log[:, 1] == ACT) & (log[:, 2] == 0))[0] :]
    read = np.flatnonzero(after_act[:, 1] == RD)[0]
    assert np.sum(after_act[:read, 1] == WR) < 2 * made.banks < np.sum(after_act[:, 1] == WR)


def test_every_row_serves_a_request_before_a_refresh() -> None:
    """Refreshes so often that rows are opened while one is due."""
    for case in cases("A", 24, tREFI_cycles=150):
        served = dict[int, bool]()
        for _, command, bank, _ in commands_of(case):
            if command == ACT:
                served[bank] = False
            elif command in (RD, WR):
                served[bank] = True
            elif command == PREA:
                assert all(served.values()), case.about
                served.clear()


def test_pieces_of_a_trace_are_the_trace() -> None:
    *_, whole = log_of("C", "randrw", 3)
    many = InOrderController(config("C"))
    many.offer(*trace("C", "randrw", REQUESTS), 0, 3, chunk=777)
    assert many.counters == whole.counters


def test_a_channel_that_nobody_uses_is_refreshed() -> None:
    controller, nothing = InOrderController(config("A")), np.zeros(0, np.int64)
    controller.advance(nothing, nothing, nothing, until=10 * 6240, drain=2)
    assert controller.counters.refreshes == 9 and controller.counters.active_cycles_until(62400) == 0


# What the cases reach


@pytest.mark.parametrize("name", ["A", "C"])
def test_cases_hold_what_is_hard(name: str) -> None:
    made = cases(name, 48, tREFI_cycles=SHORT_REFRESH[name])
    rules, logs = rules_of(config(name)), [commands_of(one) for one in made]
    commands = [one for log in logs for one in log]
    for command in range(6):
        assert sum(one[1] == command for one in commands) > 10, command
    columns = [[one for one in log if one[1] in (RD, WR)] for log in logs]
    pairs = [(a[1], b[1]) for log in columns for a, b in pairwise(log)]
    assert min(pairs.count((RD, WR)), pairs.count((WR, RD))) > 50
    assert {bank >> rules.bank_bits for _, _, bank, _ in commands if bank >= 0} == set(range(1 << rules.group_bits))
    bursts = [[at for at, command, *_ in log if command == ACT] for log in logs]
    assert sum(e - a == rules.tFAW for log in bursts for a, e in zip(log, log[4:])) > 5
    assert sum(one.data_ready != (1,) for one in made) > 10
    assert sum(case.totals["cnt_hit"] for case in made) > 300 < sum(case.totals["cnt_conflict"] for case in made)
    held = sum(outputs["req_ready"] < inputs["req_valid"] for one in made[:6] for inputs, outputs in play(name, one))
    assert held > 50


def play(name: str, case: CtlCase) -> Any:
    return case.play(DramCtl(ctl_parameters_of(config(name, tREFI_cycles=SHORT_REFRESH[name]))))
