"""What a tuning method gives back, and how it is found by its name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from archsim.accelerators.base import Candidate
from archsim.errors import StudyError, did_you_mean
from archsim.threads import Progress
from archsim.tuner.problem import Problem
from archsim.yamlfile import Written


@dataclass(frozen=True)
class Solution:
    """The setting found for one bound: a row of levels for every filter. Figures are of the images it was found on.

    `knob` is the one that was tuned, `steps` how often the search went on from its first setting.
    """

    max_loss_points: float
    knob: str
    rows: Mapping[str, Candidate]
    loss_points: float
    macs_by_layer: Mapping[str, int]
    steps: int

    @property
    def macs_done(self) -> int:
        """MACs of all layers."""
        return sum(self.macs_by_layer.values())


@dataclass(frozen=True)
class Design:
    """A machine designed for one severity of errors, and what it does: a row of figures for the table.

    `fields` are of the machine's Config, `knobs` levels by layer; both stand in the study that is written.
    """

    name: str
    row: Mapping[str, Any]
    fields: Mapping[str, Any]
    knobs: Mapping[str, Mapping[str, int]]


class Method(Protocol):
    """A module of this package named after its algorithm.

    One that designs machines instead of choosing levels has `design(problem, unseen, options, progress)`, which returns
    a list of `Design` and the evaluations it took.
    """

    Options: type[Written]

    def solve(
        self, problem: Problem, bounds: Sequence[float], options: Any, progress: Progress
    ) -> tuple[list[Solution], dict[str, int]]:
        """Return one solution per bound, ascending, and the evaluations it took. Raises: StudyError about options."""


def find_method(name: str) -> Any:
    """Return the method's module. Raises: StudyError with the nearest and the allowed names."""
    import archsim.tuner as here

    known = {}
    for found in pkgutil.iter_modules(here.__path__):
        module = importlib.import_module(f"{here.__name__}.{found.name}")
        if hasattr(module, "Options") and (hasattr(module, "solve") or hasattr(module, "design")):
            known[found.name] = module
    if name not in known:
        raise StudyError(f"unknown method {name!r}{did_you_mean(name, known)}")
    return known[name]
