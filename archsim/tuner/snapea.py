"""Algorithm 1 of SnaPEA: levels for every filter of every layer that keep the loss of accuracy within a bound.

Kernel profiling rates every candidate of every filter by MACs and lost results; the local pass joins the t-th entries
of a layer's filters and measures the loss with this layer approximated alone; the global pass starts every layer at
its entry of fewest MACs and goes back where most loss is regained per MAC, until the bound holds. Source: V.
Akhlaghi, UC San Diego 2020, section 3.5.3, with the errata its text calls for: merit relative to the layer's entry in
force, entries that do not raise MACs skipped, the exact setting as the last entry of every list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from archsim.accelerators.base import Candidate
from archsim.approx import Setting
from archsim.threads import Progress
from archsim.tuner.method import Solution
from archsim.tuner.problem import LayerProfile, Problem, Trial
from archsim.tuner.settings import layer_setting
from archsim.yamlfile import Written

ROUNDING = 1e-9
"""Losses are shares of images times 100; a bound that is met exactly counts as met."""


class Options(Written):
    """Options of the method: the knob, entries T of the local pass, values that replace the knob's own grid."""

    knob: str | None = None
    entries: int = Field(default=16, gt=0)
    grid: dict[str, list[float]] = Field(default_factory=dict)


@dataclass(frozen=True)
class FilterEntry:
    """One candidate of one filter: MACs and lost results over all images; `row` None is the exact mode."""

    macs_done: int
    error: float
    row: Mapping[str, Any] | None


@dataclass(frozen=True)
class LayerEntry:
    """One setting of a layer approximated alone: a row for every filter, MACs, measured loss in points."""

    rows: Candidate
    macs_done: int
    loss_points: float


def solve(
    problem: Problem, bounds: Sequence[float], options: Options, progress: Progress
) -> tuple[list[Solution], dict[str, int]]:
    """Return one solution per bound, in ascending order, and how many network evaluations that took and saved.

    MACs never rise with the bound: where the greedy search of a wider bound ends higher, the narrower one's solution
    stays, for it keeps the wider bound too.
    """
    search = Algorithm1(problem, options, progress)
    solutions: list[Solution] = []
    for bound in sorted(bounds):
        found = search.global_pass(bound)
        if solutions and found.macs_done > solutions[-1].macs_done:
            found = replace(solutions[-1], max_loss_points=bound)
        solutions.append(found)
    return solutions, search.evaluations()


class Algorithm1:
    """The three passes over one problem; what they measure is shared by all bounds."""

    def __init__(self, problem: Problem, options: Options, progress: Progress) -> None:
        self.problem, self.options, self.progress = problem, options, progress
        self.knob, self.layers = problem.knob_layers(options.knob)
        progress("kernel profiling", 0, 1)
        self.profiles = problem.profile(self.layers, self.knob.grid_with(options.grid))
        self.exact = problem.evaluate({})
        self.lists = {name: filter_lists(profile) for name, profile in self.profiles.items()}
        self.points_per_error = {name: self._sensitivity(name) for name in self.lists}

    # kernel profiling ------------------------------------------------------------------------------------------------
    def _sensitivity(self, name: str) -> float:
        """Return the loss in points per lost result of a layer, measured where every filter is at its boldest.

        A filter's loss is then taken as its share, which stands in for an evaluation of the whole network for every
        filter and candidate.
        """
        boldest = [entries[0] for entries in self.lists[name]]
        error = sum(entry.error for entry in boldest)
        if not error:
            return 0.0
        trial = self.problem.evaluate(self._setting({name: tuple(entry.row for entry in boldest)}))
        return max(0.0, self._loss_points(trial)) / error

    # local pass ------------------------------------------------------------------------------------------------------
    def local_pass(self, bound: float) -> dict[str, list[LayerEntry]]:
        """Return for every layer the settings that keep the bound when it is approximated alone, exact last."""
        found = {}
        for done, name in enumerate(self.lists):
            self.progress(f"local pass, {bound:g} points", done, len(self.lists))
            entries = [self._alone(name, chosen) for chosen in self._joined(name, bound)]
            kept = [entry for entry in entries if entry.loss_points <= bound + ROUNDING]
            found[name] = [*kept, self._exact_entry(name)]
        return found

    def _joined(self, name: str, bound: float) -> list[list[FilterEntry]]:
        """Return the t-th entries of all filters for t below T, boldest first; shorter lists stay at their last."""
        limit, T = bound + ROUNDING, self.options.entries
        usable = [[one for one in entries if self._points(name, one) <= limit] for entries in self.lists[name]]
        joined = [[entries[min(t, len(entries) - 1)] for entries in usable] for t in range(T)]
        distinct = {tuple(map(id, chosen)): chosen for chosen in joined}
        return [chosen for chosen in distinct.values() if any(entry.row for entry in chosen)]

    def _points(self, name: str, entry: FilterEntry) -> float:
        """Return the estimated loss of one filter's entry alone, in whole images as a measurement would give it."""
        points_per_image = 100 / self.problem.images
        return points_per_image * round(entry.error * self.points_per_error[name] / points_per_image)

    def _alone(self, name: str, chosen: Sequence[FilterEntry]) -> LayerEntry:
        """Measure a layer's setting with all other layers exact; its MACs follow from the profile."""
        rows = tuple(entry.row for entry in chosen)
        loss_points = self._loss_points(self.problem.evaluate(self._setting({name: rows})))
        return LayerEntry(rows, sum(entry.macs_done for entry in chosen), loss_points)

    def _exact_entry(self, name: str) -> LayerEntry:
        exact = self.profiles[name].profiled[0]
        return LayerEntry((None,) * len(exact.macs_done), int(exact.macs_done.sum()), 0.0)

    # global pass -----------------------------------------------------------------------------------------------------
    def global_pass(self, bound: float) -> Solution:
        """Start every layer at its fewest MACs, and go back step by step until the bound holds for all together."""
        entries = self.local_pass(bound)
        current = {name: choices[0] for name, choices in entries.items()}
        left = {name: choices[1:] for name, choices in entries.items()}
        trial, steps = self._together(current), 0
        while self._loss_points(trial) > bound + ROUNDING:
            self.progress(f"global pass, {bound:g} points", steps, steps + sum(map(len, left.values())))
            name, entry = best_step(current, left)
            current[name] = entry
            left[name] = [one for one in left[name] if one is not entry]
            trial, steps = self._together(current), steps + 1
        rows = {name: entry.rows for name, entry in current.items()}
        return Solution(bound, self.knob.name, rows, self._loss_points(trial), trial.macs_by_layer, steps)

    def _together(self, current: Mapping[str, LayerEntry]) -> Trial:
        return self.problem.evaluate(self._setting({name: entry.rows for name, entry in current.items()}))

    # settings and figures --------------------------------------------------------------------------------------------
    def _setting(self, rows_by_layer: Mapping[str, Candidate]) -> Setting:
        return {name: layer_setting(self.knob.name, rows) for name, rows in rows_by_layer.items() if any(rows)}

    def _loss_points(self, trial: Trial) -> float:
        """Return how much worse than the exact network a setting classifies, in percentage points."""
        return 100 * (self.exact.top1 - trial.top1)

    def evaluations(self) -> dict[str, int]:
        """Return passes of all images through the network: made here, and made by kernel profiling as printed."""
        proposed = (row for one in self.profiles.values() for candidate in one.candidates for row in candidate)
        printed = sum(row is not None for row in proposed)
        losing = (sum(entries[0].error for entries in lists) for lists in self.lists.values())
        profiling = 1 + sum(error > 0 for error in losing)  # the profile, and every layer at its boldest
        return {
            "network_evaluations": self.problem.measured,
            "profiling_evaluations": profiling,
            "profiling_evaluations_as_printed": printed,
            "profiling_evaluations_saved": printed - profiling,
        }


def filter_lists(profile: LayerProfile) -> list[list[FilterEntry]]:
    """Return for every filter its candidates by ascending MACs, without those that lose more for no fewer MACs."""
    lists = []
    for m in range(len(profile.candidates[0])):
        entries = [
            FilterEntry(int(one.macs_done[m]), float(one.errors[m]), candidate[m])
            for candidate, one in zip(profile.candidates, profile.profiled)
        ]
        kept: list[FilterEntry] = []
        for entry in sorted(entries, key=lambda one: (one.macs_done, one.error)):
            if not kept or entry.error < kept[-1].error:
                kept.append(entry)
        lists.append(kept)
    return lists


def best_step(current: Mapping[str, LayerEntry], left: Mapping[str, Sequence[LayerEntry]]) -> tuple[str, LayerEntry]:
    """Return the (layer, entry) that regains most loss per further MAC, relative to the entries in force.

    Entries that do not raise the MACs are passed over, but for the exact one: with it the search comes to an end.
    """
    steps = [
        (merit(current[name], entry), name, entry)
        for name, entries in left.items()
        for entry in entries
        if entry.macs_done > current[name].macs_done or not any(entry.rows)
    ]
    _, name, entry = max(steps, key=lambda step: step[0])
    return name, entry


def merit(before: LayerEntry, after: LayerEntry) -> float:
    """Return -d_err / d_op: points regained per MAC."""
    return (before.loss_points - after.loss_points) / max(after.macs_done - before.macs_done, 1)
