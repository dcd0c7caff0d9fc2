"""The control of a group of banks for co-simulation: the registers of `rtl/promise_ctl` in Python, and its cases.

A case is some tiles, the array that answers the control, and when the environment offers a tile and takes a result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from archsim.accelerators.base import RtlModel, Signals
from archsim.accelerators.promise.config import BANK_COLUMNS, PromiseConfig
from archsim.errors import MappingError
from archsim.workload.layers import Layer

WORD_BITS = 40
"""A sum over all banks: 256 x 128 products of two codes up to 256 take 31 bits; noise and running sums take more."""
PASS, RELU, ACCUMULATE, MAXIMUM = range(4)
DRAIN_CYCLES = 2
Ports = dict[str, int]
Pattern = tuple[int, ...]
ALWAYS: Pattern = (1,)


def signed(value: int, bits: int) -> int:
    """Return the lowest `bits` of a value as two's complement."""
    half = 1 << (bits - 1)
    return ((value + half) & (2 * half - 1)) - half


def parameters_of(config: PromiseConfig, layer: Layer | None = None) -> dict[str, int]:
    """Return the parameters of the module. Raises: MappingError for a column too short to be controlled."""
    if config.column_cycles < 3:
        raise MappingError(f"the block promise_ctl needs columns of 3 cycles, got {config.column_cycles}")
    on_the_way = -(-config.column_cycles // config.interval_cycles) + 1
    stages = dict(zip(("C1", "C2", "C3", "C4"), config.stage_cycles))
    return {
        "BANKS": config.banks,
        "COLUMNS": BANK_COLUMNS,
        "W": WORD_BITS,
        **stages,
        "RED": config.reduction_cycles,
        "DEPTH": 1 << (on_the_way - 1).bit_length(),
    }


def answer_cycles(config: PromiseConfig) -> int:
    """Return how long after its start the array answers for a column: when the digital stage begins."""
    return min(config.stage_starts[3], config.column_cycles - 2)


class PromiseCtl:
    """The control, register for register; one `step` is one clock cycle."""

    def __init__(self, parameters: Mapping[str, int]) -> None:
        self.columns, self.word_bits, self.depth = parameters["COLUMNS"], parameters["W"], parameters["DEPTH"]
        self.spans = [parameters[name] for name in ("C1", "C2", "C3", "C4")]
        self.interval = max(self.spans)
        self.column_cycles = self.interval + parameters["RED"]
        limits = [min(self.column_cycles - span for span in self.spans[i:]) for i in range(4)]
        self.starts = [0]
        for span, limit in zip(self.spans, limits[1:]):
            self.starts.append(min(self.starts[-1] + span, limit))
        self.done = min(self.starts[3], self.column_cycles - 2)
        self.reset()

    def reset(self) -> None:
        """Empty everything but the places of results."""
        self.busy = self.first = False
        self.op = self.swing = self.addr = self.banks = self.left = self.due = self.gap = 0
        self.ages: list[int] = []
        self.running = 0
        self.results: deque[int] = deque()
        self.taken = self.visible = self.fault = 0
        self.counters = dict.fromkeys(("cnt_dot", "cnt_bank_cycles", "cnt_cycles", "cnt_stall"), 0)

    def step(self, inputs: Signals) -> Ports:
        """Return the ports within this cycle, then pass the clock edge."""
        pending = self.busy and self.left > 0 and self.gap == 0
        start = pending and self.taken < self.depth
        ages = [*self.ages, 0] if start else self.ages
        valid = self.visible > 0
        last = valid and self.due == 1
        handed = valid and bool(inputs["res_ready"])
        occupied = [any(first <= age < first + span for age in ages) for first, span in zip(self.starts, self.spans)]
        outputs = {
            "instr_ready": int(not self.busy or (handed and last)),
            "an_start": int(start),
            "an_swing": self.swing,
            "an_addr": self.addr,
            "an_banks": self.banks,
            "res_valid": int(valid),
            "res_data": self.results[0] if valid else 0,
            "res_last": int(last),
            "stage": sum(one << i for i, one in enumerate(occupied)),
            "fault": self.fault,
            **self.counters,
        }
        if inputs["rst"]:
            self.reset()
        else:
            self._edge(inputs, ages, pending, start, handed, last)
            if inputs["instr_valid"] and outputs["instr_ready"]:
                self._accept(inputs)
        return outputs

    def _edge(self, inputs: Signals, ages: list[int], pending: bool, start: bool, handed: bool, last: bool) -> None:
        """Pass a clock edge, a new tile apart."""
        self._count(pending, start)
        if self.done in ages:
            self._fill(signed(inputs["an_data"], self.word_bits))
        if bool(inputs["an_done"]) != (self.done in ages):
            self.fault = 1
        self.gap = self.interval - 1 if start else max(0, self.gap - 1)
        if start:
            self.left -= 1
            self.addr = (self.addr + 1) % self.columns
        if handed:
            self.results.popleft()
            self.due -= 1
            self.busy = self.busy and not last
        self.taken += start - handed
        self.visible += (self.column_cycles - 2 in ages) - handed
        self.ages = [age + 1 for age in ages if age + 1 < self.column_cycles]

    def _count(self, pending: bool, start: bool) -> None:
        """Count what happens in a cycle."""
        self.counters["cnt_dot"] += self.banks * start
        self.counters["cnt_bank_cycles"] += self.banks * self.busy
        self.counters["cnt_cycles"] += self.busy
        self.counters["cnt_stall"] += pending and not start

    def _fill(self, data: int) -> None:
        """Take what the array answers through the digital end of its column."""
        value = data
        if self.op == RELU:
            value = max(data, 0)
        elif self.op == ACCUMULATE and not self.first:
            value = signed(self.running + data, self.word_bits)
        elif self.op == MAXIMUM and not self.first:
            value = max(self.running, data)
        self.running, self.first = value, False
        self.results.append(value)

    def _accept(self, inputs: Signals) -> None:
        """Take the tile that is offered."""
        self.busy = self.first = True
        self.op, self.swing, self.banks = inputs["instr_op"], inputs["instr_swing"], inputs["instr_banks"]
        self.addr, self.left, self.due = inputs["instr_addr"], inputs["instr_len"], inputs["instr_len"]


class Tile(NamedTuple):
    """An instruction, and the sums the array forms for its columns."""

    op: int
    swing: int
    addr: int
    banks: int
    sums: tuple[int, ...]


@dataclass(frozen=True)
class CtlCase:
    """Some tiles. `offered`, `taken`: patterns of instr_valid and res_ready, repeated; `answers_after`: cycles from the
    start of a column to the array's answer.
    """

    about: str
    tiles: tuple[Tile, ...]
    answers_after: int
    outcomes: tuple[Signals, ...]
    totals: Signals
    offered: Pattern = ALWAYS
    taken: Pattern = ALWAYS

    def play(self, model: RtlModel) -> Iterator[tuple[Signals, Signals]]:
        """Reset, offer all tiles, answer for every column that is started, take all results."""
        idle = dict.fromkeys(
            (
                "rst", "instr_valid", "instr_op", "instr_swing", "instr_addr", "instr_len", "instr_banks", "an_done",
                "an_data", "res_ready",
            ), 0,
        )  # fmt: skip
        resets = {**idle, "rst": 1}
        yield resets, model.step(resets)
        answers: deque[tuple[int, int]] = deque()
        sums = iter([one for tile in self.tiles for one in tile.sums])
        issued = handed = cycle = 0
        while handed < len(self.outcomes):
            inputs = {**idle, "res_ready": self.taken[cycle % len(self.taken)]}
            offer = issued < len(self.tiles) and self.offered[cycle % len(self.offered)]
            if offer:
                inputs |= self._instruction(self.tiles[issued])
            if answers and answers[0][0] == cycle:
                inputs |= {"an_done": 1, "an_data": answers.popleft()[1]}
            outputs = model.step(inputs)
            yield inputs, outputs
            if outputs["an_start"]:
                answers.append((cycle + self.answers_after, next(sums)))
            issued += bool(offer and outputs["instr_ready"])
            handed += bool(outputs["res_valid"] and inputs["res_ready"])
            cycle += 1
        for _ in range(DRAIN_CYCLES):
            yield idle, model.step(idle)

    def _instruction(self, tile: Tile) -> Ports:
        """Return the ports that offer a tile."""
        return {
            "instr_valid": 1,
            "instr_op": tile.op,
            "instr_swing": tile.swing,
            "instr_addr": tile.addr,
            "instr_len": len(tile.sums),
            "instr_banks": tile.banks,
        }
