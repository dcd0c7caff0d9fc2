"""Runs of lines do what their lines do one by one, command for command, though most of their steps are not searched."""

from __future__ import annotations

import random

import numpy as np
import pytest

from archsim.memory.dram.controller import rules_of
from archsim.memory.dram.fields import (
    CLOCK,
    END,
    FAR,
    FINISHED,
    GLIDED,
    GLIDES,
    LAST,
    LATENCY,
    LEFT,
    LINE,
    LINES,
    LOGGED,
    N_REF,
    RUN,
    RUN_FIELDS,
    SCALARS,
    STEP,
    Array,
    Rules,
    State,
    fresh_state,
)
from archsim.memory.dram.kernel import advance
from tests.dram.traces import config

SEEDS = range(60)
NO_LOG = np.zeros((0, 4), np.int64)


def rules(seed: int) -> Rules:
    """Either configuration, seldom or often refreshed, short rows, few banks, other spacings, all policies."""
    choose = random.Random(seed)
    changes = choose.choice([{}, {}, {}, {"hit_cap": 4}, {"row_policy": "closed"}])
    changes |= choose.choice([{}, {}, {"columns": 256}, {"bank_groups": 1}, {"banks": 2, "bank_groups": 1}])
    changes |= choose.choice(
        [{}, {}, {"tCCD_L_cycles": 7}, {"tCCD_L_cycles": 11}, {"tCCD_S_cycles": 5}, {"CL_cycles": 3}]
    )
    changes |= choose.choice([{}, {}, {"mapping": "bank-group-row-column"}, {"mapping": "row-column-bank-group"}])
    return rules_of(config("AC"[seed % 2], tREFI_cycles=choose.choice([900, 2000, 6240]), **changes))


def runs_of(seed: int) -> Array:
    """Long runs and short ones, reads and writes, some on rows that are open, on the same lines, late or paced."""
    choose = random.Random(seed)
    share, at, line, made = choose.choice([0.0, 0.3, 0.5, 1.0]), 0, 0, []
    for _ in range(choose.choice([4, 12])):
        length = choose.choice([1, 5, 40, 128, 300, 700])
        line = choose.choice([line, max(line - 20, 0), choose.randrange(1 << 14), choose.randrange(64) << 7])
        at += choose.choice([0, 0, 0, 500, 3000])
        gap = choose.choice([0, 0, 0, 0, 3, 9])
        made.append((line, length, choose.random() < share, at, gap, choose.randrange(4), length, 0))
        line += length
    return np.array(made, np.int64)


def one_by_one(runs: Array) -> Array:
    """Return the same requests as runs of one line each."""
    singles = np.repeat(runs, runs[:, LINES], axis=0)
    steps = np.concatenate([np.arange(n) for n in runs[:, LINES]])
    singles[:, 0] += steps
    singles[:, 3] += steps * singles[:, 4]
    singles[:, LINES] = singles[:, LEFT] = 1
    return singles


def served(given: Rules, runs: Array, log: Array = NO_LOG, slices: random.Random | None = None) -> State:
    """Serve runs to the end; `slices`: interrupted at random cycles, and whenever some more runs have finished."""
    state, until = fresh_state(given), FAR
    while runs[:, LEFT].any():
        wanted = 0
        if slices:
            until = state.now[CLOCK] + slices.choice([1, 7, 60, 500, FAR])
            wanted = state.now[FINISHED] + slices.choice([1, 2, 5]) if slices.random() < 0.5 else 0
        advance(given, *state, runs, until, wanted, 1, log)
    return state


def of_runs(now: Array) -> list[int]:
    """All that is counted but how it was computed, and how many runs the same requests make."""
    how = (RUN, STEP, GLIDES, GLIDED, FINISHED, LOGGED)
    return [int(value) for i, value in enumerate(now[:SCALARS]) if i not in how]


def assert_short_logs(given: Rules, runs: Array, expected: Array) -> None:
    """A log that is full stops the kernel, which goes on where it was."""
    state, part, pieces = fresh_state(given), np.zeros((77, 4), np.int64), []
    while runs[:, LEFT].any():
        state.now[LOGGED] = 0
        advance(given, *state, runs, FAR, 0, 1, part)
        pieces.append(part[: state.now[LOGGED]].copy())
    found = np.concatenate(pieces)
    np.testing.assert_array_equal(found, expected[: len(found)])
    assert len(expected) - len(found) < 77


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_is_its_lines(seed: int) -> None:
    given, runs, log = rules(seed), runs_of(seed), np.zeros((40000, 4), np.int64)
    singles, expected = one_by_one(runs), np.zeros_like(log)
    told = served(given, singles, expected)
    logged, quiet, again = served(given, runs, log), *(runs_of(seed) for _ in range(2))
    assert 0 < told.now[LOGGED] < len(log)
    np.testing.assert_array_equal(log, expected)
    leapt = served(given, quiet)
    assert of_runs(told.now) == of_runs(logged.now) == of_runs(leapt.now)
    ends = np.maximum.reduceat(singles[:, END], np.cumsum(runs[:, LINES]) - runs[:, LINES])
    np.testing.assert_array_equal(runs[:, END], ends)
    np.testing.assert_array_equal(quiet[:, END], ends)
    assert_short_logs(given, runs_of(seed), expected[: told.now[LOGGED]])
    sliced = served(given, again, slices=random.Random(seed))
    assert of_runs(sliced.now)[1:] == of_runs(told.now)[1:]
    np.testing.assert_array_equal(again, quiet)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_is_its_lines_in_every_cycle(seed: int) -> None:
    """Interrupted at the same random cycles, both have done the same, and the same lines wait."""
    given, runs, choose = rules(seed), runs_of(seed), random.Random(seed)
    singles, state, told = one_by_one(runs), fresh_state(given), fresh_state(given)
    while singles[:, LEFT].any():
        until = told.now[CLOCK] + choose.choice([1, 7, 60, 500])
        for one, requests in ((state, runs), (told, singles)):
            advance(given, *one, requests, until, 0, 1, NO_LOG)
        assert of_runs(state.now) == of_runs(told.now)
        np.testing.assert_array_equal(np.sort(state.slots[LINE]), np.sort(told.slots[LINE]))
    assert not runs[:, LEFT].any()


def test_the_runs_are_compressed_in_every_way() -> None:
    glided, lines, refreshes = 0, 0, 0
    for seed in SEEDS:
        runs = runs_of(seed)
        state = served(rules(seed), runs)
        assert served(rules(seed), one_by_one(runs)).now[GLIDED] == 0
        glided, lines, refreshes = (
            glided + state.now[GLIDED],
            lines + runs[:, LINES].sum(),
            refreshes + state.now[N_REF],
        )
    assert glided > lines / 4 and refreshes > 100


@pytest.mark.parametrize("write", [0, 1])
@pytest.mark.parametrize("name", ["A", "C"])
def test_of_a_long_run_hardly_a_line_is_searched_for(name: str, write: int) -> None:
    given, runs = rules_of(config(name)), np.zeros((1, RUN_FIELDS), np.int64)
    runs[0, [LINES, 2, LEFT]] = 100_000, write, 100_000
    singles = one_by_one(runs)
    state, told = served(given, runs), served(given, singles)
    assert of_runs(state.now) == of_runs(told.now) and runs[0, END] == state.now[LAST] == singles[:, END].max()
    assert state.now[GLIDED] > 97_000 and state.now[GLIDES] < 3 * 100_000 / 128


@pytest.mark.parametrize("seed", SEEDS)
def test_the_kernel_stops_at_the_line_that_ends_a_run(seed: int) -> None:
    """Waiting for one run after another stops at the very cycles at which they finish line by line."""
    given, runs = rules(seed), runs_of(seed)
    stops, clocks = fresh_state(given), []
    for k in range(len(runs)):
        advance(given, *stops, runs, FAR, k + 1, 1, NO_LOG)
        clocks.append((int(stops.now[CLOCK]), int(stops.now[LATENCY]), sorted(stops.slots[LINE].ravel().tolist())))
    singles = one_by_one(runs_of(seed))
    owner = np.repeat(np.arange(len(runs)), runs[:, LINES])
    step, found = fresh_state(given), []
    while len(found) < len(runs):
        advance(given, *step, singles, FAR, step.now[FINISHED] + 1, 1, NO_LOG)
        done = sum(not singles[owner == k, LEFT].any() for k in range(len(runs)))
        now = (int(step.now[CLOCK]), int(step.now[LATENCY]), sorted(step.slots[LINE].ravel().tolist()))
        found += [now] * (done - len(found))
    assert clocks == found
