"""The event-skipping kernel does what a controller does that looks at every cycle, in one go or in slices."""

from __future__ import annotations

import random

import numpy as np
import pytest

from archsim.memory.dram.controller import Controller, rules_of, served
from archsim.memory.dram.fields import (
    CLOCK,
    CONFLICTS,
    END,
    FAR,
    FORWARDED,
    HITS,
    LAST,
    LATENCY,
    LEFT,
    LOGGED,
    MERGED,
    MISSES,
    N_REF,
    RUN_FIELDS,
    Array,
    Rules,
    State,
    fresh_state,
)
from archsim.memory.dram.kernel import advance
from tests.dram.tick import Ticking, spacings
from tests.dram.traces import config, trace

SEEDS = range(24)
Request = tuple[int, bool, int]


def rules(seed: int, **changes: str) -> Rules:
    """Either configuration, often refreshed, with and without policies that are not the default."""
    choose = random.Random(seed)
    policy = choose.choice([{}, {}, {"hit_cap": 1}, {"hit_cap": 4}, {"row_policy": "closed"}])
    return rules_of(config("AC"[seed % 2], tREFI_cycles=choose.choice([700, 1500, 6240]), **policy, **changes))


def requests(seed: int) -> list[Request]:
    """Line, write flag, first cycle: same lines again, rows in conflict, short runs, or anything."""
    choose = random.Random(seed)
    kind = ("same", "rows", "short", "any")[seed // 2 % 4]
    share, most_gap, line, cycle, made = choose.choice([0.0, 0.3, 0.7, 1.0]), choose.choice([0, 0, 3, 20]), 0, 0, []
    for _ in range(choose.choice([40, 90])):
        if kind == "same":
            line = choose.randrange(12)
        elif kind == "rows":
            line = choose.randrange(4) << 12 | choose.randrange(4) << 7 | choose.randrange(128)
        elif kind == "any":
            line = choose.randrange(1 << 20)
        else:
            line = choose.randrange(6) << 12 | choose.randrange(2) << 7 if choose.random() < 0.25 else line + 1
        cycle += choose.randrange(most_gap + 1)
        made.append((line, choose.random() < share, cycle))
    return made


def as_runs(given: list[Request]) -> Array:
    runs = np.zeros((len(given), RUN_FIELDS), np.int64)
    for i, (line, write, cycle) in enumerate(given):
        runs[i, :4], runs[i, LEFT] = (line, 1, write, cycle), 1
    return runs


def run(seed: int, slices: int = 0) -> tuple[State, Array, Array]:
    """Return state, runs and commands after a trace; `slices`: interrupted every so many cycles."""
    state, runs, log = fresh_state(rules(seed)), as_runs(requests(seed)), np.zeros((2000, 4), np.int64)
    until = slices or FAR
    while runs[:, LEFT].any():
        advance(rules(seed), *state, runs, until, 0, 1, log)
        until += slices
    return state, runs, log[: state.now[LOGGED]]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_command_is_that_of_a_controller_that_ticks(seed: int) -> None:
    told = Ticking(rules(seed)).run(requests(seed))
    state, _, log = run(seed)
    assert [tuple(row) for row in log.tolist()] == told.log[: len(log)]
    assert all(command in (1, 2, 5) for _, command, *_ in told.log[len(log) :])  # what tidies up behind the last data
    counted = [int(state.now[i]) for i in (HITS, MISSES, CONFLICTS, FORWARDED, MERGED, LATENCY, LAST)]
    assert counted == [told.hits, told.misses, told.conflicts, told.forwarded, told.merged, told.latency, told.last]


@pytest.mark.parametrize("mapping", ["row-column-bank-group", "bank-group-row-column", "group-column-row-bank"])
@pytest.mark.parametrize("seed", range(2, 8))
def test_every_mapping_is_that_of_a_controller_that_ticks(seed: int, mapping: str) -> None:
    given, log = rules(seed, mapping=mapping), np.zeros((2000, 4), np.int64)
    state, runs = fresh_state(given), as_runs(requests(seed))
    told = Ticking(given).run(requests(seed))
    advance(given, *state, runs, FAR, 0, 1, log)
    assert [tuple(row) for row in log[: state.now[LOGGED]].tolist()] == told.log[: state.now[LOGGED]]
    assert told.log != Ticking(rules(seed)).run(requests(seed)).log


def test_the_traces_reach_every_rule() -> None:
    told = [Ticking(rules(seed)).run(requests(seed)) for seed in SEEDS]
    for name in ("hits", "misses", "conflicts", "forwarded", "merged"):
        assert sum(getattr(one, name) for one in told) > 30, name
    commands = {command for one in told for _, command, *_ in one.log}
    assert commands == set(range(6))


@pytest.mark.parametrize("seed", SEEDS)
def test_slices_change_nothing(seed: int) -> None:
    whole, parts = run(seed), run(seed, slices=37)
    np.testing.assert_array_equal(parts[2], whole[2])
    np.testing.assert_array_equal(parts[1], whole[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_every_spacing_is_kept(seed: int) -> None:
    log = [tuple(row) for row in run(seed)[2].tolist()]
    for i, (at, command, bank, _) in enumerate(log):
        assert all(earlier + gap <= at for earlier, gap in spacings(rules(seed), log[:i], command, bank))


def test_a_run_of_lines_ends_with_its_last_one() -> None:
    """Two runs of eight reads: the kernel stops at the first that is finished, and tells when both ended."""
    state, runs = fresh_state(rules(1)), np.zeros((2, RUN_FIELDS), np.int64)
    runs[:, :2], runs[:, LEFT] = [(0, 8), (1 << 12, 8)], 8
    advance(rules(1), *state, runs, FAR, 1, 1, np.zeros((0, 4), np.int64))
    assert runs[0, LEFT] == 0 < runs[1, LEFT]
    advance(rules(1), *state, runs, FAR, 2, 1, np.zeros((0, 4), np.int64))
    assert runs[1, LEFT] == 0 and 0 < runs[0, END] < runs[1, END] == state.now[LAST]


def test_a_channel_that_nobody_uses_is_refreshed() -> None:
    timing, nothing = rules_of(config("A")), np.zeros((0, RUN_FIELDS), np.int64)
    state = fresh_state(timing)
    advance(timing, *state, nothing, 10 * timing.tREFI, 0, 2, np.zeros((0, 4), np.int64))
    assert state.now[N_REF] == 9 and state.now[CLOCK] == 10 * timing.tREFI


@pytest.mark.parametrize("kind", ["stream", "randrw"])
def test_pieces_of_a_trace_are_the_trace(kind: str) -> None:
    lines, writes = trace("C", kind, 20000)
    whole = served(config("C"), [(lines, writes)], 3)
    assert whole.hits + whole.misses + whole.conflicts == 20000 and whole.refreshes == whole.cycles // 9364
    many = Controller(config("C"))
    many.offer(lines, writes, 0, 3, chunk=777)
    assert many.counters == whole
