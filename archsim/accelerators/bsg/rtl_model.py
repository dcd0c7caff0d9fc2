"""Registers of `rtl/bsg_gen`, one `step` per clock cycle, and what a case makes the block do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from archsim.accelerators.bsg.config import BsgConfig
from archsim.errors import MappingError
from archsim.rtl import RtlModel, Signals

WORD_MASK = 0xFFFF
IDLE: Signals = {
    **dict.fromkeys(("rst", "base_we", "base_d", "code_we", "code_d", "start", "start_len"), 0),
    "w_ready": 1,
}
ALWAYS = (1,)
Pattern = tuple[int, ...]


def parameters_of(config: BsgConfig, layer: Any = None) -> dict[str, int]:
    """Return the parameters of the block. Raises: MappingError for a Config it does not have."""
    from archsim.accelerators.bsg.generator import TAPS

    if config.design != "bsg":
        raise MappingError(f"the block bsg_gen generates 1 weight per cycle, design {config.design!r} generates 0")
    if config.n_c not in TAPS or config.n_c < 32:
        sizes = ", ".join(str(n_c) for n_c in TAPS if n_c >= 32)
        raise MappingError(f"the block bsg_gen has n_c of {sizes}, the configuration {config.n_c}")
    names = dict(zip(("TAP_A", "TAP_B", "TAP_C"), TAPS[config.n_c]))
    feedback = int(config.generator == "feedback")
    return {"N": config.n_c, "LOGN": config.n_c.bit_length() - 1, "FEEDBACK": feedback, **names}


class BsgGen:
    """The registers of the block; of the adder tree it keeps the one sum that each level is on its way to."""

    def __init__(self, parameters: Mapping[str, int]) -> None:
        self.n, self.levels = parameters["N"], parameters["LOGN"]
        taps = [parameters[name] for name in ("TAP_A", "TAP_B", "TAP_C")] if parameters["FEEDBACK"] else []
        self.entering = [self.n - 1, *(self.n - 1 - tap for tap in taps)]
        self.base = self.code = 0
        self._clear()

    def _clear(self) -> None:
        self.left = self.weight = self.words = self.weights = 0
        self.valid = [0] * (self.levels + 2)
        self.ones = [0] * (self.levels + 1)

    def step(self, inputs: Signals) -> dict[str, int]:
        """Return the outputs of this cycle, then pass the clock edge."""
        load_ready, w_valid = int(self.left == 0), self.valid[-1]
        outputs = {
            "load_ready": load_ready, "w_valid": w_valid, "w": self.weight,
            "cnt_words": self.words, "cnt_weights": self.weights,
        }  # fmt: skip
        move = not w_valid or inputs["w_ready"]
        issue = int(bool(move and self.left))
        if load_ready:
            self._load(inputs)
        if move:
            self._advance(issue)
        if inputs["rst"]:
            self._clear()
        elif inputs["start"] and load_ready:
            self.left = inputs["start_len"]
        return outputs

    def _load(self, inputs: Signals) -> None:
        """Shift a word into either vector."""
        if inputs["base_we"]:
            self.base = self.base >> 16 | inputs["base_d"] << self.n - 16
        if inputs["code_we"]:
            self.code = self.code >> 16 | inputs["code_d"] << self.n - 16
        self.words += inputs["base_we"] + inputs["code_we"]

    def _advance(self, issue: int) -> None:
        """Move the pipeline by one stage, and the base register by one place if a weight is issued."""
        if self.valid[-2]:
            self.weight = self.n - 2 * self.ones[-1]
            self.weights += 1
        self.valid = [issue, *self.valid[:-1]]
        self.ones = [(self.base ^ self.code).bit_count(), *self.ones[:-1]]
        if issue:
            bit = sum(self.base >> place for place in self.entering) & 1
            self.base = (self.base << 1 | bit) & (1 << self.n) - 1
            self.left -= 1


@dataclass(frozen=True)
class SliceJob:
    """Words of a code vector, and of the base vector unless it is where it began; weights to make of them."""

    base: tuple[int, ...] | None
    code: tuple[int, ...]
    weights: int


@dataclass(frozen=True)
class GeneratorCase:
    """Slices one after the other; `taken`, repeated, says when weights are taken."""

    about: str
    jobs: tuple[SliceJob, ...]
    outcomes: tuple[Signals, ...]
    totals: Signals
    taken: Pattern = ALWAYS

    def play(self, model: RtlModel) -> Iterator[tuple[Signals, Signals]]:
        """Reset; load each slice as soon as the block lets it; wait for the last weight."""
        resets = {**IDLE, "rst": 1}
        yield resets, model.step(resets)
        cycle = taken = 0
        pending = [inputs for job in self.jobs for inputs in _loads(job)]
        while taken < len(self.outcomes) or pending:
            ready = self.taken[cycle % len(self.taken)]
            given = {**(pending[0] if pending else IDLE), "w_ready": ready}
            outputs = model.step(given)
            yield given, outputs
            if pending and outputs["load_ready"]:
                pending.pop(0)
            taken += bool(outputs["w_valid"] and ready)
            cycle += 1
        for _ in range(2):
            yield IDLE, model.step(IDLE)


def _loads(job: SliceJob) -> Iterator[Signals]:
    """Yield the words of a slice as ports; the start comes with the last of them."""
    for index, word in enumerate(job.code):
        inputs = {**IDLE, "code_we": 1, "code_d": word & WORD_MASK}
        if job.base is not None:
            inputs |= {"base_we": 1, "base_d": job.base[index]}
        if index == len(job.code) - 1:
            inputs |= {"start": 1, "start_len": job.weights}
        yield inputs
