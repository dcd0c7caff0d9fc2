"""What runs inside the simulator: a driver, a monitor, a checker, and the test that wires them.

Cases and model come from the process that started the simulator, parameters from the block itself. The model plays a
case and so makes the trace of inputs and expected outputs; the bench replays it and stops where the block's outputs
differ.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import cocotb
from cocotb.triggers import Timer

from archsim.cosim.bench_source import DEPTH, TRACE_FILE, Fields
from archsim.cosim.job import JOB_VARIABLE, Difference, Job, Verdict
from archsim.rtl import RtlBlock, RtlCase, Signals


class Cycle(NamedTuple):
    """One cycle of a case: inputs, the model's outputs, and what the simulator's kernels say against the model."""

    case: int
    number: int
    inputs: Signals
    expected: Signals
    objection: Difference | None


class Driver:
    """Hands the bench cycles to replay."""

    def __init__(self, bench: Any, inputs: Fields, outputs: Fields) -> None:
        self.bench, self.inputs, self.outputs = bench, inputs, outputs
        self.go = 0

    async def replay(self, cycles: list[Cycle]) -> None:
        """Write the trace, let the bench run it, and wait for its end. Under reset nothing is compared."""
        words = (self._word(cycle.inputs, cycle.expected) for cycle in cycles)
        Path(TRACE_FILE).write_text("".join(f"{word:x}\n" for word in words), encoding="ascii")
        self.bench.count.value = len(cycles)
        self.go ^= 1
        self.bench.go.value = self.go
        await self.bench.done.value_change

    def _word(self, inputs: Signals, expected: Signals) -> int:
        pair = self.inputs.pack(inputs) << self.outputs.bits | self.outputs.pack(expected)
        return pair if inputs["rst"] else pair | 1 << (self.inputs.bits + self.outputs.bits)


class Monitor:
    """Reads what the bench saw."""

    def __init__(self, bench: Any, outputs: Fields) -> None:
        self.bench, self.outputs = bench, outputs

    def stopped_at(self) -> int | None:
        """Return the cycle of the last replay in which outputs differed."""
        return int(self.bench.at.value) if int(self.bench.differs.value) else None

    def port(self, name: str) -> int | None:
        """Return an output port where the replay stopped; None if it is unknown."""
        return self.outputs.read(name, str(self.bench.outputs.value))


class Checker:
    """Turns what driver and monitor report into a verdict."""

    def __init__(self, job: Job) -> None:
        self.job, self.difference = job, cast("Difference | None", None)
        self.played: list[Verdict] = []

    def cycles(self, parameters: Mapping[str, int]) -> Iterator[Cycle]:
        """Yield the cycles of all cases, played by the model; results and counters are compared with the kernels'."""
        for number, case in enumerate(self.job.cases):
            rules = Expectations(number, case, self.job.block, self.job.outputs)
            last: Cycle | None = None
            for inputs, expected in case.play(self.job.block.model(parameters)):
                if last is not None:
                    yield last
                last = rules.cycle(inputs, expected)
            assert last is not None, "a case has cycles"
            yield last._replace(objection=last.objection or rules.final(last.expected))
            self.played.append(Verdict(1, rules.at, rules.results, dict(case.totals)))

    def differs(self, cycle: Cycle, monitor: Monitor) -> None:
        """Note on which port the block and the model part in `cycle`."""
        case = self.job.cases[cycle.case]
        for name, value in cycle.expected.items():
            wanted, got = self.job.outputs.unsigned(name, value), monitor.port(name)
            if got != wanted:
                self.difference = Difference(cycle.case, case.about, cycle.number, name, got, wanted, "model")
                return

    def verdict(self) -> Verdict:
        """Return the figures of the cases that agreed, and the difference that ended the run; the model plays ahead."""
        whole = Verdict()
        for one in self.played[: self.difference.case if self.difference else None]:
            whole.add(one)
        whole.difference = self.difference
        return whole


class Expectations:
    """What the simulator's own kernels expect of a case: results in order, counters at the end."""

    def __init__(self, number: int, case: RtlCase, block: RtlBlock, outputs: Fields) -> None:
        self.number, self.case, self.outputs = number, case, outputs
        self.valid, self.ready = block.result
        self.at = self.results = 0

    def cycle(self, inputs: Signals, expected: Signals) -> Cycle:
        """Return the next cycle with what there is to object to the model."""
        objection = None
        taken = self.ready is None or inputs[self.ready]
        if not inputs["rst"] and expected[self.valid] and taken:
            wanted = self.case.outcomes[self.results] if self.results < len(self.case.outcomes) else {self.valid: 0}
            objection = self._compare(wanted, expected)
            self.results += 1
        self.at += 1
        return Cycle(self.number, self.at - 1, inputs, expected, objection)

    def final(self, expected: Signals) -> Difference | None:
        """Return what there is to object after the last cycle."""
        if self.results < len(self.case.outcomes):
            name, due = f"results on {self.valid}", len(self.case.outcomes)
            return Difference(self.number, self.case.about, self.at - 1, name, self.results, due, "kernel")
        return self._compare(self.case.totals, expected)

    def _compare(self, wanted: Signals, expected: Signals) -> Difference | None:
        for name, value in wanted.items():
            want, got = self.outputs.unsigned(name, value), self.outputs.unsigned(name, expected[name])
            if got != want:
                return Difference(self.number, self.case.about, self.at, name, got, want, "kernel")
        return None


async def settle(cycles: list[Cycle], driver: Driver, monitor: Monitor, checker: Checker) -> bool:
    """Replay cycles; returns False if the block differs from the model, or the model from the kernels."""
    await driver.replay(cycles)
    stopped = monitor.stopped_at()
    if stopped is not None:
        checker.differs(cycles[stopped], monitor)
    elif cycles[-1].objection is not None:
        checker.difference = cycles[-1].objection
    return checker.difference is None


@cocotb.test()
async def agree(bench: Any) -> None:
    """Run all cases of the job up to the first difference; the verdict is a file, this test ends well either way."""
    await Timer(1, unit="ns")  # what the bench sets at time 0 is set
    job: Job = pickle.loads(Path(os.environ[JOB_VARIABLE]).read_bytes())
    parameters = {name: int(getattr(bench.dut, name).value) for name in job.parameters}
    driver, monitor, checker = Driver(bench, job.inputs, job.outputs), Monitor(bench, job.outputs), Checker(job)
    cycles: list[Cycle] = []
    agreed = True
    for cycle in checker.cycles(parameters):
        cycles.append(cycle)
        if len(cycles) == DEPTH or cycle.objection is not None:
            agreed = await settle(cycles, driver, monitor, checker)
            cycles = []
            if not agreed:
                break
    if agreed and cycles:
        agreed = await settle(cycles, driver, monitor, checker)
    checker.verdict().write(job.verdict)
