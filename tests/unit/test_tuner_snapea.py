"""Algorithm 1 on problems small enough to follow by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from archsim.accelerators.base import Candidate, Profiled
from archsim.approx import Knob, Setting
from archsim.tuner.problem import LayerProfile, Trial
from archsim.tuner.snapea import Algorithm1, FilterEntry, LayerEntry, Options, best_step, filter_lists, merit, solve

KNOB = Knob("speculation", None, "filter", grid={"n": (1,)}, limits={"n": (1, 9)})


def row(th: int) -> dict[str, int]:
    return {"th": th, "n": 1}


def entry(macs: int, loss: float, *, exact: bool = False) -> LayerEntry:
    return LayerEntry((None,) if exact else (row(macs),), macs, loss)


@dataclass(frozen=True)
class FakeLayer:
    name: str


@dataclass
class TwoLayers:
    """One filter per layer: `errors` of a candidate are images it loses alone; together they add up, and `extra`.

    100 images, MACs of layer a 120, of b 200; candidates by their threshold.
    """

    extra: int = 0
    images: int = 100
    measured: int = 0
    asked: list[Setting] = field(default_factory=list)
    table: Mapping[str, Mapping[int | None, tuple[int, int]]] = field(
        default_factory=lambda: {
            "a": {None: (120, 0), 1: (90, 1), 2: (60, 3), 3: (20, 6)},
            "b": {None: (200, 0), 1: (150, 2), 2: (80, 3), 3: (70, 8)},
        }
    )

    def knob_layers(self, name: str | None) -> tuple[Knob, list[FakeLayer]]:
        return KNOB, [FakeLayer(name) for name in self.table]

    def profile(self, layers: list[FakeLayer], grid: Mapping[str, Any]) -> dict[str, LayerProfile]:
        return {layer.name: self._profile(self.table[layer.name]) for layer in layers}

    def _profile(self, table: Mapping[int | None, tuple[int, int]]) -> LayerProfile:
        candidates: list[Candidate] = [(None if th is None else row(th),) for th in table]
        profiled = [Profiled(np.array([macs]), np.array([10.0 * lost])) for macs, lost in table.values()]
        return LayerProfile(candidates, profiled)

    def evaluate(self, setting: Setting) -> Trial:
        self.measured += 1
        self.asked.append(setting)
        levels = {
            name: setting[name].tables["speculation"][0]["th"] if name in setting else None for name in self.table
        }
        both = self.extra if all(th is not None for th in levels.values()) else 0
        lost = sum(self.table[name][th][1] for name, th in levels.items()) + both
        return Trial((90 - lost) / 100, {name: self.table[name][th][0] for name, th in levels.items()})


def search(problem: TwoLayers, **options: Any) -> Algorithm1:
    return Algorithm1(problem, Options(**options), lambda text, done, total: None)  # type: ignore[arg-type]


def test_merit_is_points_regained_per_mac() -> None:
    assert merit(entry(20, 6), entry(60, 3)) == 3 / 40
    assert merit(entry(20, 6), entry(90, 1)) == 5 / 70
    assert merit(entry(20, 6), entry(20, 1, exact=True)) == 5


def test_the_step_of_largest_merit_relative_to_the_entries_in_force() -> None:
    current = {"a": entry(20, 6), "b": entry(80, 3)}
    left = {"a": [entry(60, 3), entry(90, 1)], "b": [entry(150, 2), entry(200, 0, exact=True)]}
    # a: 3/40 = .075, 5/70 = .071; b: 1/70 = .014, 3/120 = .025
    assert best_step(current, left) == ("a", left["a"][0])
    # in force is now a's second entry: what remains of a regains 2/30 = .067
    assert best_step({**current, "a": left["a"][0]}, {**left, "a": [left["a"][1]]}) == ("a", left["a"][1])


def test_entries_that_do_not_raise_macs_are_passed_over_but_not_the_exact_one() -> None:
    current = {"a": entry(60, 3)}
    worse, exact = entry(50, 0), entry(60, 0, exact=True)
    assert best_step(current, {"a": [worse, exact]}) == ("a", exact)


def test_lists_hold_no_entry_that_loses_more_for_no_fewer_macs() -> None:
    table = {None: (100, 0), 1: (50, 4), 2: (50, 3), 3: (70, 3), 4: (80, 1), 5: (100, 1)}
    (entries,) = filter_lists(TwoLayers()._profile(table))
    assert entries == [
        FilterEntry(50, 30.0, row(2)), FilterEntry(80, 10.0, row(4)), FilterEntry(100, 0.0, None)
    ]  # fmt: skip


def test_two_layers_by_hand() -> None:
    """Losses 6 + 3 at the start; a to (60, 3), then the bound of 6 holds; for 4, a goes on to (90, 1)."""
    found, effort = solve(TwoLayers(), [6, 4], Options(), lambda *_: None)  # type: ignore[arg-type]
    narrow, wide = found
    assert (narrow.max_loss_points, wide.max_loss_points) == (4, 6)
    assert (wide.rows["a"], wide.rows["b"]) == ((row(2),), (row(2),))
    assert (wide.steps, wide.macs_done) == (1, 60 + 80)
    assert wide.loss_points == pytest.approx(6)
    # 4 points: b starts at (80, 3) as 8 > 4, a at (60, 3)
    assert (narrow.rows["a"], narrow.rows["b"]) == ((row(1),), (row(2),))
    assert (narrow.steps, narrow.macs_done) == (1, 90 + 80)
    assert narrow.loss_points == pytest.approx(4)
    assert effort["profiling_evaluations"] == 3 and effort["profiling_evaluations_as_printed"] == 6


def test_the_start_keeps_the_bound_layer_by_layer() -> None:
    entries = search(TwoLayers()).local_pass(3)
    assert [(one.macs_done, round(one.loss_points, 9)) for one in entries["a"]] == [(60, 3), (90, 1), (120, 0)]
    assert [(one.macs_done, round(one.loss_points, 9)) for one in entries["b"]] == [(80, 3), (150, 2), (200, 0)]


def test_it_ends_with_the_exact_network_if_nothing_else_helps() -> None:
    problem = TwoLayers(extra=50)
    found = search(problem).global_pass(3)
    assert found.loss_points <= 3 + 1e-9 and not (any(found.rows["a"]) and any(found.rows["b"]))


def test_no_loss_allowed() -> None:
    found = search(TwoLayers()).global_pass(0)
    assert found.rows == {"a": (None,), "b": (None,)} and found.macs_done == 320 and found.loss_points == 0


def test_a_wider_bound_that_ends_higher_keeps_the_narrower_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Algorithm1.global_pass
    monkeypatch.setattr(Algorithm1, "global_pass", lambda self, bound: real(self, 0 if bound == 6 else bound))
    found, _ = solve(TwoLayers(), [4, 6], Options(), lambda *_: None)  # type: ignore[arg-type]
    assert [one.max_loss_points for one in found] == [4, 6]
    assert found[1].macs_done == found[0].macs_done == 170 and found[1].rows == found[0].rows


@pytest.mark.parametrize("entries", [1, 2, 3, 16])
def test_the_local_pass_takes_at_most_that_many_entries(entries: int) -> None:
    pace = search(TwoLayers(), entries=entries)._joined("a", 100)
    assert len(pace) == min(entries, 3) and pace[0][0].macs_done == 20


def test_filters_with_shorter_lists_stay_at_their_last_entry() -> None:
    one = search(TwoLayers(), entries=4)
    long = [FilterEntry(macs, 0.0, row(macs)) for macs in (1, 2, 3)] + [FilterEntry(9, 0.0, None)]
    one.lists["a"] = [long, [FilterEntry(5, 0.0, row(5)), FilterEntry(9, 0.0, None)]]
    chosen = [[entry.macs_done for entry in joined] for joined in one._joined("a", 0)]
    assert chosen == [[1, 5], [2, 9], [3, 9]]


def test_a_layer_that_loses_nothing_has_no_sensitivity() -> None:
    table = {"a": {None: (100, 0), 1: (50, 0)}, "b": {None: (100, 0), 1: (60, 2)}}
    one = search(TwoLayers(table=table))
    assert one.points_per_error == {"a": 0.0, "b": pytest.approx(0.1)}
    assert one.global_pass(0).rows == {"a": (row(1),), "b": (None,)}
