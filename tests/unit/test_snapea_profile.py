"""Profiling: one pass for all thresholds gives what a run of each of them gives, filter by filter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from archsim.accelerators.base import Candidate
from archsim.accelerators.snapea import Snapea, kernel
from tests.unit.snapea_cases import LayerCase, levels, random_layer

(KNOB,) = Snapea.knobs
GRID = {"n": (1, 4, 9), "th_quantile": (0.1, 0.5, 0.9)}
SEEDS = (0, 1, 2, 4, 7, 9, 13)


def candidates_of(case: LayerCase, **changes: Any) -> list[Candidate]:
    machine, stored = case.machine(mode="predictive", **changes), case.stored(**changes)
    return [(None,) * case.conv.M, *machine.candidates(case.conv, case.plan(), case.x, stored, GRID)]


def run_of(case: LayerCase, candidate: Candidate, **changes: Any) -> tuple[Any, Any]:
    """MACs and lost results of every filter, from a run of the machine at that level."""
    rows = {m: (row["th"], row["n"]) for m, row in enumerate(candidate) if row}
    raw = replace(case, setting=levels(rows, case.conv.M), params=case.dense)
    done = raw.outcome(mode="predictive", **changes)
    exact = replace(case, params=case.dense).outcome(**changes)
    lost = np.moveaxis(exact.y - done.y, 1, 0).reshape(case.conv.M, -1).sum(axis=1)
    return done.stats[:, :, kernel.MACS].sum(axis=0), lost


@pytest.mark.parametrize("changes", [{}, {"drop_zero_weights": True, "th_compare": "<=", "region_order": "index"}])
@pytest.mark.parametrize("seed", SEEDS)
def test_profile_equals_one_run_per_candidate(seed: int, changes: dict[str, Any]) -> None:
    case = random_layer(seed)
    candidates = candidates_of(case, **changes)
    machine, stored = case.machine(mode="predictive", **changes), case.stored(**changes)
    profiled = machine.profile(case.conv, case.plan(), case.x, stored, candidates)
    assert len(profiled) == len(candidates)
    for candidate, (macs_done, errors) in zip(candidates, profiled):
        macs, lost = run_of(case, candidate, **changes)
        np.testing.assert_array_equal(macs_done, macs)
        np.testing.assert_array_equal(errors, lost)


def test_candidates_speculate_and_lose_results() -> None:
    rows = [row for seed in SEEDS for one in candidates_of(random_layer(seed)) for row in one]
    assert sum(row is not None for row in rows) > 200 and None in rows
    lost = 0.0
    for seed in SEEDS:
        case = random_layer(seed)
        profiled = case.machine().profile(case.conv, case.plan(), case.x, case.stored(), candidates_of(case))
        assert not profiled[0].errors.any()
        lost += sum(one.errors.sum() for one in profiled)
    assert lost > 0


def test_thresholds_are_quantiles_of_windows_that_end_below_zero() -> None:
    """A quantile q stops at least the share q of the negative windows of the sample, here all of them."""
    for seed in SEEDS:
        case = random_layer(seed)
        for candidate, share in zip(candidates_of(case)[1:], [q for _ in GRID["n"] for q in GRID["th_quantile"]]):
            rows = {m: (row["th"], row["n"]) for m, row in enumerate(candidate) if row}
            stats = replace(case, setting=levels(rows, case.conv.M)).outcome(mode="predictive").stats.sum(axis=0)
            for m in rows:
                negative, stopped = stats[m, kernel.NEGATIVE], stats[m, kernel.TRUE_NEGATIVE]
                assert stopped >= share * (negative - 1)


def test_more_speculation_stops_more_and_loses_more() -> None:
    """At one n, on the same input: with a higher threshold never more MACs, never fewer windows lost."""
    for seed in SEEDS:
        case = random_layer(seed)
        stats = []
        for th in (-(10**9), -(10**7), -(10**5), 0, 10**5, 10**7, 10**9, 10**12):
            rows = {m: (th, 1 + m % 3) for m in range(case.conv.M) if case.conv.weight_count // case.conv.M >= 3}
            case_at = replace(case, setting=levels(rows, case.conv.M))
            stats.append(case_at.outcome(mode="predictive").stats.sum(axis=0))
        macs, lost = (np.array([one[:, column] for one in stats]) for column in (kernel.MACS, kernel.FALSE_NEGATIVE))
        assert (np.diff(macs, axis=0) <= 0).all() and (np.diff(lost, axis=0) >= 0).all()


def test_images_add_up() -> None:
    case = random_layer(7, batches=2)
    half = case.conv.N
    machine, plan, stored, candidates = case.machine(), case.plan(), case.stored(), candidates_of(case)
    whole = machine.profile(case.conv, plan, case.x, stored, candidates)
    parts = [machine.profile(case.conv, plan, part, stored, candidates) for part in (case.x[:half], case.x[half:])]
    for one, first, second in zip(whole, *parts):
        np.testing.assert_array_equal(one.macs_done, (first + second).macs_done)
        np.testing.assert_array_equal(one.errors, (first + second).errors)


def test_layers_that_never_stop_have_no_candidates() -> None:
    case = random_layer(0)
    signed = replace(case, params=replace(case.params, x_non_negative=False))
    assert candidates_of(signed) == [(None,) * case.conv.M]


def test_knob_says_what_a_tuner_combines() -> None:
    assert KNOB.grid["n"] == (4, 8, 16, 32, 64) and len(KNOB.grid["th_quantile"]) == 5
    assert isinstance(hash(KNOB), int)
