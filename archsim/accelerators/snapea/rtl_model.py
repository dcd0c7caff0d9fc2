"""The PE as a block for co-simulation: the registers of `rtl/snapea_pe` in Python, and the cases both are driven with.

A case is a kernel, some groups of windows, and when the environment offers a group and takes a result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from archsim.accelerators.base import RtlModel, Signals
from archsim.accelerators.snapea.config import ACCUMULATOR_BITS, WORD_BITS, SnapeaConfig
from archsim.accelerators.snapea.plan import as_conv
from archsim.errors import MappingError
from archsim.workload.layers import Layer

Ports = dict[str, int]
COUNTERS = ("cnt_mac", "cnt_wi_read", "cnt_in_read", "cnt_pau_check", "cnt_cycles")
DRAIN_CYCLES = 3


def signed(value: int, bits: int) -> int:
    """Return the lowest `bits` of a value as two's complement."""
    half = 1 << (bits - 1)
    return ((value + half) & (2 * half - 1)) - half


def packed(values: Sequence[int], bits: int) -> int:
    """Return words of `bits` side by side, the first one lowest."""
    mask = (1 << bits) - 1
    return sum((value & mask) << (i * bits) for i, value in enumerate(values))


def parameters_of(config: SnapeaConfig, layer: Layer | None = None) -> dict[str, int]:
    """Return the parameters of the module; its buffers hold whole kernels of `layer`, where the PE streams chunks.

    Raises: MappingError for a Config the block does not have.
    """
    limits = {"bubble_cycles": 3, "th_compare": "<", "sign_compare": "<", "input_banking": "conflict-free"}
    for name, value in limits.items():
        if getattr(config, name) != value:
            raise MappingError(f"the block snapea_pe has {name} {value!r}, the configuration {getattr(config, name)!r}")
    weights = config.buffered_weights if layer is None else layer.weight_count // as_conv(layer).M
    return {
        "LANES": config.lanes,
        "W": WORD_BITS,
        "WACC": ACCUMULATOR_BITS,
        "WI": WORD_BITS,
        "KMAX": max(2, config.buffered_weights, 1 << (weights - 1).bit_length()),
    }


class Shape(NamedTuple):
    """What a group is started with."""

    number: int
    born: int
    length: int
    negative_at: int
    predict: int
    n: int
    th: int
    bias: int
    mask: int


class Step(NamedTuple):
    """One position of a group's kernel on its way from the issue to the check."""

    group: Shape
    k: int
    weight: int

    @property
    def last(self) -> bool:
        """It is the group's last position."""
        return self.k + 1 == self.group.length

    @property
    def sign(self) -> bool:
        """The sign of the sum counts after it."""
        return self.k >= self.group.negative_at

    @property
    def guess(self) -> bool:
        """The sum is compared with the threshold after it."""
        return bool(self.group.predict) and self.k + 1 == self.group.n


class SnapeaPe:
    """The PE, register for register; one `step` is one clock cycle."""

    def __init__(self, parameters: Mapping[str, int]) -> None:
        self.lanes, self.word_bits, self.acc_bits = parameters["LANES"], parameters["W"], parameters["WACC"]
        self.op_bits = parameters["KMAX"].bit_length()
        self.buffer = [(0, 0)] * parameters["KMAX"]
        self.reset()

    def reset(self) -> None:
        """Empty the pipeline and the counters; the buffers keep what they hold."""
        self.issuing: Shape | None = None
        self.k = self.groups = self.now = self.index = 0
        self.read: Step | None = None
        self.multiply: Step | None = None
        self.check: Step | None = None
        self.acc, self.op = [0] * self.lanes, [0] * self.lanes
        self.running = self.stopped = 0
        self.counters = dict.fromkeys(COUNTERS, 0)

    def step(self, inputs: Signals) -> Ports:
        """Return the ports within this cycle, then pass the clock edge."""
        check, terminate = self.check, self._terminate()
        alive = self.running & ~terminate
        ends = check is not None and (check.last or not alive)
        stall = ends and not inputs["out_ready"]
        outputs = {
            "start_ready": int(self.issuing is None and not stall),
            "rd_valid": int(self.read is not None and not stall),
            "rd_index": self.index,
            "terminate": terminate,
            "out_valid": int(ends),
            "out_psum": packed([max(a, 0) if alive >> i & 1 else 0 for i, a in enumerate(self.acc)], self.acc_bits),
            "out_term": self.stopped | terminate,
            "out_op": packed(self.op, self.op_bits),
            "out_cycles": self.now - check.group.born + 1 if check and ends else 0,
            **self.counters,
        }
        if inputs["rst"]:
            self.reset()
        else:
            self._edge(inputs, terminate, alive, check if ends else None, stall)
        if inputs["cfg_we"]:
            self.buffer[inputs["cfg_addr"]] = (signed(inputs["cfg_weight"], self.word_bits), inputs["cfg_index"])
        return outputs

    def _terminate(self) -> int:
        """Return which lanes the PAUs stop: they look at the registers of the sums."""
        check = self.check
        if check is None or not (check.sign or check.guess):
            return 0
        stops = 0
        for i in range(self.lanes):
            below = (check.sign and self.acc[i] < 0) or (check.guess and self.acc[i] < check.group.th)
            stops |= (self.running >> i & below) << i
        return stops

    def _edge(self, inputs: Signals, terminate: int, alive: int, ended: Step | None, stall: bool) -> None:
        """Pass a clock edge; `ended`: the step whose check ends its group."""
        if not stall and self.issuing is None and inputs["start_valid"]:
            self._start(inputs)
        issue = self.issuing is not None and not stall
        if issue or self.read or self.multiply or self.check:
            self.counters["cnt_cycles"] += 1
        if not stall:
            self._tally(issue, terminate)
            self._mac(inputs["rd_data"], terminate, alive)
            self._advance(self._issue() if issue else None, ended)
        self.now += 1

    def _start(self, inputs: Signals) -> None:
        """Take the group that is offered."""
        self.groups += 1
        self.k = 0
        self.issuing = Shape(
            self.groups, self.now, inputs["start_len"], inputs["start_neg_at"], inputs["start_predict"],
            inputs["start_n"], inputs["start_th"], inputs["start_bias"], inputs["start_mask"],
        )  # fmt: skip

    def _tally(self, issue: bool, terminate: int) -> None:
        """Count what happens in a cycle, MACs excepted."""
        self.counters["cnt_wi_read"] += issue
        self.counters["cnt_in_read"] += self.read is not None
        if self.check is not None:
            self.counters["cnt_pau_check"] += self.running.bit_count() * (self.check.sign + self.check.guess)

    def _mac(self, words: int, terminate: int, alive: int) -> None:
        """Multiply and add in the lanes that still run; the first step of a group begins with the bias."""
        step = self.multiply
        first = step is not None and step.k == 0
        enabled = 0 if step is None else step.group.mask if first else alive
        for i in range(self.lanes):
            if step is not None and enabled >> i & 1:
                word = words >> (i * self.word_bits) & ((1 << self.word_bits) - 1)
                before = step.group.bias if first else self.acc[i]
                self.acc[i] = signed(before + step.weight * word, self.acc_bits)
                self.op[i] = 1 if first else self.op[i] + 1
            elif first:
                self.op[i] = 0
        self.counters["cnt_mac"] += enabled.bit_count()
        if first:
            self.running, self.stopped = enabled, 0
        else:
            self.running, self.stopped = alive, self.stopped | terminate

    def _issue(self) -> Step:
        """Read the buffers at the next position."""
        assert self.issuing is not None
        weight, self.index = self.buffer[self.k]
        step = Step(self.issuing, self.k, weight)
        self.k += 1
        if step.last:
            self.issuing = None
        return step

    def _advance(self, issued: Step | None, ended: Step | None) -> None:
        """Move every step on; what is in flight of a group that has ended early is thrown away."""
        gone = ended.group.number if ended and not ended.last else 0

        def kept(step: Step | None) -> Step | None:
            return None if step and step.group.number == gone else step

        self.check, self.multiply, self.read = kept(self.multiply), kept(self.read), kept(issued)
        if self.issuing and self.issuing.number == gone:
            self.issuing = None


@dataclass(frozen=True)
class Kernel:
    """Weights and indices in execution order; `n` is 0 without speculation."""

    weights: tuple[int, ...]
    index: tuple[int, ...]
    negative_at: int
    bias: int
    n: int = 0
    th: int = 0


Group = tuple[tuple[int, ...], ...]
"""The input words of every lane, as the indices count them; a lane without words is born stopped."""
Pattern = tuple[int, ...]
ALWAYS: Pattern = (1,)


@dataclass(frozen=True)
class PeCase:
    """A kernel over some groups of windows. `offered`, `taken`: patterns of start_valid and out_ready, repeated."""

    about: str
    kernel: Kernel
    groups: tuple[Group, ...]
    word_bits: int
    outcomes: tuple[Signals, ...]
    totals: Signals
    offered: Pattern = ALWAYS
    taken: Pattern = ALWAYS

    def play(self, model: RtlModel) -> Iterator[tuple[Signals, Signals]]:
        """Reset, fill the buffers, offer all groups, read the words of the group at work, take all results."""
        idle = self._idle()
        yield from self._prologue(model, idle)
        started = done = cycle = words = 0
        reading = -1
        while done < len(self.groups) or cycle < 1:
            offer = started < len(self.groups) and self.offered[cycle % len(self.offered)]
            inputs = {**idle, "rd_data": words, "out_ready": self.taken[cycle % len(self.taken)]}
            if offer:
                inputs |= self._start(self.groups[started])
            outputs = model.step(inputs)
            yield inputs, outputs
            if outputs["rd_valid"]:
                words = self._words(self.groups[reading], outputs["rd_index"])
            if offer and outputs["start_ready"]:
                started, reading = started + 1, started
            done += outputs["out_valid"] and inputs["out_ready"]
            cycle += 1
        for _ in range(DRAIN_CYCLES):
            yield idle, model.step(idle)

    def _idle(self) -> Ports:
        """Return inputs that ask for nothing."""
        names = (
            "rst", "cfg_we", "cfg_addr", "cfg_weight", "cfg_index", "start_valid", "start_len", "start_neg_at",
            "start_predict", "start_n", "start_th", "start_bias", "start_mask", "rd_data",
        )  # fmt: skip
        return {**dict.fromkeys(names, 0), "out_ready": 1}

    def _prologue(self, model: RtlModel, idle: Ports) -> Iterator[tuple[Signals, Signals]]:
        """Reset and write the buffers."""
        resets = {**idle, "rst": 1}
        yield resets, model.step(resets)
        for k, (weight, index) in enumerate(zip(self.kernel.weights, self.kernel.index)):
            writes = {**idle, "cfg_we": 1, "cfg_addr": k, "cfg_weight": weight, "cfg_index": index}
            yield writes, model.step(writes)

    def _start(self, group: Group) -> Ports:
        """Return the ports that offer a group."""
        kernel = self.kernel
        return {
            "start_valid": 1,
            "start_len": len(kernel.weights),
            "start_neg_at": kernel.negative_at,
            "start_predict": int(kernel.n > 0),
            "start_n": kernel.n,
            "start_th": kernel.th,
            "start_bias": kernel.bias,
            "start_mask": packed([int(bool(lane)) for lane in group], 1),
        }

    def _words(self, group: Group, index: int) -> int:
        """Return what the input RAM answers."""
        return packed([lane[index] if lane else 0 for lane in group], self.word_bits)
