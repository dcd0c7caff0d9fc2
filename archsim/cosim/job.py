"""What the process that starts a simulator and the one inside it tell each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from archsim.cosim.bench_source import Fields
from archsim.rtl import RtlBlock, RtlCase

JOB_VARIABLE = "ARCHSIM_COSIM_JOB"
"""Environment variable that names the pickled Job."""


@dataclass(frozen=True)
class Job:
    """Cases to run on a block, the parameters it was built with, and where the verdict goes."""

    block: RtlBlock
    parameters: Mapping[str, int]
    inputs: Fields
    outputs: Fields
    cases: Sequence[RtlCase]
    verdict: Path


@dataclass(frozen=True)
class Difference:
    """Where block and model part: in which case and cycle, on which port; None is an unknown value (x).

    `against`: 'model' for the registers in Python, 'kernel' for results and counters of the simulator's own kernels.
    """

    case: int
    about: str
    cycle: int
    signal: str
    rtl: int | None
    model: int
    against: str

    def __str__(self) -> str:
        rtl = "unknown (x)" if self.rtl is None else f"{self.rtl} (0x{self.rtl:x})"
        return (
            f"case {self.case} ({self.about}), cycle {self.cycle}: {self.signal}: RTL {rtl}, "
            f"{self.against} {self.model} (0x{self.model:x})"
        )


@dataclass
class Verdict:
    """What a simulation found: cases that agreed, cycles simulated, counters added up, the first difference."""

    cases: int = 0
    cycles: int = 0
    results: int = 0
    totals: dict[str, int] = field(default_factory=dict)
    difference: Difference | None = None

    def add(self, other: Verdict) -> None:
        """Add what another simulation found."""
        self.cases += other.cases
        self.cycles += other.cycles
        self.results += other.results
        for name, value in other.totals.items():
            self.totals[name] = self.totals.get(name, 0) + value
        self.difference = self.difference or other.difference

    def write(self, path: Path) -> None:
        """Write the verdict as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Verdict:
        """Read what `write` wrote."""
        data = json.loads(path.read_text(encoding="utf-8"))
        difference = data.pop("difference")
        return cls(**data, difference=Difference(**difference) if difference else None)
