"""The PE as a block for co-simulation: what `rtl/eyeriss_pe` does in Python, and the cases both are driven with.

A case is one or more output rows, and when the environment offers a word or takes a psum.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from archsim.accelerators.base import RtlModel, Signals
from archsim.accelerators.eyeriss.config import WORD_BITS, EyerissConfig
from archsim.accelerators.eyeriss.pe_law import Primitive
from archsim.errors import MappingError
from archsim.workload.layers import Layer

Ports = dict[str, int]
Phase = Literal["idle", "load", "fill", "run", "drain"]
ACCUMULATOR_BITS = {"wide": 48, "chip16": 16}
STREAMS = ("filter", "ifmap", "psum_in")
COUNTERS = (
    "cnt_mac", "cnt_mac_gated", "cnt_ifmap_read", "cnt_ifmap_write", "cnt_filter_read", "cnt_filter_write",
    "cnt_psum_read", "cnt_psum_write", "cnt_filter_stall", "cnt_ifmap_stall", "cnt_psum_in_stall",
    "cnt_psum_out_stall", "cnt_cycles",
)  # fmt: skip
DRAIN_CYCLES = 3


def signed(value: int, bits: int) -> int:
    """Return the lowest `bits` of a value as two's complement."""
    half = 1 << (bits - 1)
    return ((value + half) & (2 * half - 1)) - half


def parameters_of(config: EyerissConfig, layer: Layer | None = None) -> dict[str, int]:
    """Return the parameters of the module. Raises: MappingError for a Config the block does not have."""
    if config.psum_mode == "wide" and config.overflow == "saturate":
        raise MappingError(
            "the block eyeriss_pe wraps where psum_mode is 'wide', the configuration has overflow 'saturate'"
        )
    return {
        "W": WORD_BITS,
        "ACC": ACCUMULATOR_BITS[config.psum_mode],
        "IF_SPAD": config.spad_ifmap_words,
        "W_SPAD": config.spad_filter_words,
        "PS_SPAD": config.spad_psum_words,
    }


class Step(NamedTuple):
    """One MAC on its way from the spads to psum `f`; `first` and `last` tap of its column."""

    f: int
    first: bool
    last: bool
    word: int
    weight: int


class Wires(NamedTuple):
    """What happens in a cycle: a psum exchanged, the pipeline held up, spads read, words taken or passed over."""

    room: bool
    exchange: bool
    hold: bool
    issue: bool
    loading: bool
    taking: bool
    skip: bool


class EyerissPe:
    """The PE; one `step` is one clock cycle. Where the block counts taps and slots this counts words of the row."""

    def __init__(self, parameters: Mapping[str, int]) -> None:
        self.word_bits, self.acc_bits = parameters["W"], parameters["ACC"]
        self.ifmap_slots, self.psums = parameters["IF_SPAD"], [0] * parameters["PS_SPAD"]
        self.narrow = self.acc_bits < 2 * self.word_bits
        self.reset()

    def reset(self) -> None:
        """Forget the row at work and the counters."""
        self.phase: Phase = "idle"
        self._begin(Primitive(1, 1, 1, 1, 1), 0)
        self.multiply: Step | None = None
        self.accumulate: Step | None = None
        self.finished = [False] * len(self.psums)
        self.turn = self.psum_out_valid = self.psum_out_data = 0
        self.counters = dict.fromkeys(COUNTERS, 0)

    def _begin(self, row: Primitive, shift: int) -> None:
        """Take up a row."""
        self.row, self.shift = row, shift
        self.filters: list[int] = []
        self.window: deque[int] = deque()  # from the oldest word on that this column or the next one needs
        self.kept = 0  # words of it that have met all filters of this column
        self.arrived = self.issued = self.sent = 0

    def step(self, inputs: Signals) -> Ports:
        """Return the ports within this cycle, then pass the clock edge."""
        wires = self._wires(inputs)
        outputs = self._outputs(wires)
        if inputs["rst"]:
            self.reset()
        else:
            self._count(inputs, wires)
            self._edge(inputs, wires)
        return outputs

    def _wires(self, inputs: Signals) -> Wires:
        """Return what happens in this cycle."""
        row, step, running = self.row, self.accumulate, self.phase == "run"
        room = bool(not self.psum_out_valid or inputs["psum_out_ready"])
        exchange = bool(self.finished[self.turn] and room and inputs["psum_in_valid"])
        overwrites = step is not None and step.first and self.finished[step.f]
        hold = overwrites and not (exchange and step is not None and step.f == self.turn)
        column = self.arrived // row.q - row.S
        skip = running and column % row.U < row.U - row.S
        return Wires(
            room=room,
            exchange=exchange,
            hold=hold,
            issue=running and self.kept < len(self.window) and not hold,
            loading=bool(self.phase == "load" and inputs["filter_valid"]),
            taking=bool(inputs["ifmap_valid"] and self._takes_ifmap(skip)),
            skip=skip,
        )

    def _takes_ifmap(self, skip: bool) -> bool:
        """Return True if an ifmap word has somewhere to go."""
        missing = self.phase in ("fill", "run") and self.arrived < self.row.ifmap_words
        return missing and (skip or len(self.window) < self.ifmap_slots)

    def _outputs(self, wires: Wires) -> Ports:
        """Return all ports within a cycle."""
        step = None if wires.hold else self.multiply
        return {
            "start_ready": int(self.phase == "idle"),
            "filter_ready": int(self.phase == "load"),
            "ifmap_ready": int(self._takes_ifmap(wires.skip)),
            "psum_in_ready": int(self.finished[self.turn] and wires.room),
            "psum_out_valid": self.psum_out_valid,
            "psum_out_data": self.psum_out_data,
            "filter_read": int(wires.issue and self.window[self.kept] != 0),
            "mac": int(step is not None and step.word != 0),
            "gated": int(step is not None and step.word == 0),
            **self.counters,
        }

    def _count(self, inputs: Signals, wires: Wires) -> None:
        """Count what happens in a cycle."""
        counters, multiply = self.counters, None if wires.hold else self.multiply
        accumulate = None if wires.hold else self.accumulate
        waits = self.phase == "run" and self.kept == len(self.window) and not wires.hold
        finished = self.finished[self.turn] and wires.room
        counters["cnt_mac"] += multiply is not None and multiply.word != 0
        counters["cnt_mac_gated"] += multiply is not None and multiply.word == 0
        counters["cnt_ifmap_read"] += wires.issue
        counters["cnt_ifmap_write"] += wires.taking and not wires.skip
        counters["cnt_filter_read"] += wires.issue and self.window[self.kept] != 0
        counters["cnt_filter_write"] += wires.loading
        counters["cnt_psum_read"] += (accumulate is not None and not accumulate.first) + wires.exchange
        counters["cnt_psum_write"] += accumulate is not None
        counters["cnt_filter_stall"] += self.phase == "load" and not wires.loading
        counters["cnt_ifmap_stall"] += waits or (self.phase == "fill" and not inputs["ifmap_valid"])
        counters["cnt_psum_in_stall"] += finished and not inputs["psum_in_valid"]
        counters["cnt_psum_out_stall"] += not wires.room
        counters["cnt_cycles"] += bool(self.phase != "idle" or inputs["start_valid"])

    def _edge(self, inputs: Signals, wires: Wires) -> None:
        """Pass a clock edge."""
        if self.phase == "idle" and inputs["start_valid"]:
            shape = (inputs[f"start_{name}"] for name in ("p", "q", "s", "u", "f"))
            self._begin(Primitive(*shape), inputs["start_shift"])
            self.phase = "load"
            return
        self.sent += self.psum_out_valid and wires.room
        if wires.exchange:
            self._exchange(inputs["psum_in_data"])
        if wires.room:
            self.psum_out_valid = int(wires.exchange)
        if not wires.hold:
            self._add(self.accumulate)
            self.accumulate, self.multiply = self.multiply, self._read() if wires.issue else None
        if wires.loading:
            self.filters.append(signed(inputs["filter_data"], self.word_bits))
        if wires.taking:
            self.arrived += 1
            if not wires.skip:
                self.window.append(signed(inputs["ifmap_data"], self.word_bits))
        self._advance()

    def _exchange(self, psum_in: int) -> None:
        """Add the incoming psum to the finished one and send it."""
        self.psum_out_data = self._clamped(self.psums[self.turn] + signed(psum_in, self.acc_bits))
        self.finished[self.turn] = False
        self.turn = (self.turn + 1) % self.row.p

    def _add(self, step: Step | None) -> None:
        """Add the product of a step to its psum; the first one of a column begins at zero."""
        if step is None:
            return
        product = step.word * step.weight
        so_far = 0 if step.first else self.psums[step.f]
        self.psums[step.f] = self._clamped(so_far + (product >> self.shift if self.narrow else product))
        self.finished[step.f] |= step.last

    def _clamped(self, value: int) -> int:
        """Return the nearest psum in a narrow PE, else the lowest bits."""
        if not self.narrow:
            return signed(value, self.acc_bits)
        half = 1 << (self.acc_bits - 1)
        return min(max(value, -half), half - 1)

    def _read(self) -> Step:
        """Read the spads for the next MAC; the last filter of a word moves the window on."""
        row = self.row
        at = self.issued % row.filter_words
        k, f = divmod(at, row.p)
        step = Step(f, k == 0, k == row.window_words - 1, self.window[self.kept], self.filters[at])
        self.issued += 1
        if f == row.p - 1:
            if k // row.q < row.U:
                self.window.popleft()
            else:
                self.kept += 1
            if step.last:
                self.kept = 0
        return step

    def _advance(self) -> None:
        """Go on to the next phase where the words of this one have come."""
        row = self.row
        if self.phase == "load" and len(self.filters) == row.filter_words:
            self.phase = "fill"
        elif self.phase == "fill" and self.arrived == row.window_words:
            self.phase = "run"
        elif self.phase == "run" and self.issued == row.macs:
            self.phase = "drain"
        elif self.phase == "drain" and self.sent == row.psums:
            self.phase = "idle"


Words = tuple[int, ...]
Pattern = tuple[int, ...]
ALWAYS: Pattern = (1,)


@dataclass(frozen=True)
class PeRow:
    """One output row: filters by tap, channel, filter; ifmap by column, channel; incoming psums by column, filter."""

    shape: Primitive
    filters: Words
    ifmap: Words
    psums: Words
    shift: int = 0

    def start(self) -> Ports:
        """Return the ports that offer the row."""
        names = ("start_p", "start_q", "start_s", "start_u", "start_f")
        return {"start_valid": 1, **dict(zip(names, self.shape)), "start_shift": self.shift}


class Patterns(NamedTuple):
    """When a word is offered and when psum_out is taken, cycle by cycle, repeated."""

    filter: Pattern = ALWAYS
    ifmap: Pattern = ALWAYS
    psum_in: Pattern = ALWAYS
    psum_out: Pattern = ALWAYS


ALWAYS_READY = Patterns()


class Source:
    """The sending end of a stream: a word that is offered stays until it is taken."""

    def __init__(self, name: str, words: Sequence[int], pattern: Pattern) -> None:
        self.valid, self.data, self.ready = f"{name}_valid", f"{name}_data", f"{name}_ready"
        self.words, self.pattern = words, pattern
        self.sent = 0
        self.offering = False

    def offer(self, cycle: int) -> Ports:
        """Return the stream's ports in a cycle; while nothing is offered there is something else on the wires."""
        if self.sent == len(self.words):
            return {self.valid: 0, self.data: 0}
        self.offering = self.offering or bool(self.pattern[cycle % len(self.pattern)])
        word = self.words[self.sent]
        return {self.valid: int(self.offering), self.data: word if self.offering else ~word}

    def see(self, outputs: Signals) -> None:
        """Go on to the next word if this one was taken."""
        if self.offering and outputs[self.ready]:
            self.sent += 1
            self.offering = False


@dataclass(frozen=True)
class PeCase:
    """Rows one after another, and when words are offered and psums taken."""

    about: str
    rows: tuple[PeRow, ...]
    outcomes: tuple[Signals, ...]
    totals: Signals
    patterns: Patterns = ALWAYS_READY

    def play(self, model: RtlModel) -> Iterator[tuple[Signals, Signals]]:
        """Reset, offer all rows and all their words, take all psums."""
        idle = self._idle()
        yield {**idle, "rst": 1}, model.step({**idle, "rst": 1})
        sources = [Source(*stream) for stream in self._streams()]
        ready, due = self.patterns.psum_out, sum(row.shape.psums for row in self.rows)
        started = taken = cycle = 0
        while taken < due:
            inputs = {**idle, "psum_out_ready": ready[cycle % len(ready)]}
            inputs |= self.rows[started].start() if started < len(self.rows) else {}
            for source in sources:
                inputs |= source.offer(cycle)
            outputs = model.step(inputs)
            yield inputs, outputs
            for source in sources:
                source.see(outputs)
            started += inputs["start_valid"] & outputs["start_ready"]
            taken += outputs["psum_out_valid"] & inputs["psum_out_ready"]
            cycle += 1
        for _ in range(DRAIN_CYCLES):
            yield idle, model.step(idle)

    def _idle(self) -> Ports:
        """Return inputs that ask for nothing."""
        starts = dict.fromkeys((*self.rows[0].start(), "rst"), 0)
        words = {f"{name}_{port}": 0 for name in STREAMS for port in ("valid", "data")}
        return {**starts, **words, "psum_out_ready": 1}

    def _streams(self) -> Iterator[tuple[str, Words, Pattern]]:
        """Yield name, words of all rows and pattern of every stream in."""
        rows, patterns = self.rows, self.patterns
        yield "filter", tuple(word for row in rows for word in row.filters), patterns.filter
        yield "ifmap", tuple(word for row in rows for word in row.ifmap), patterns.ifmap
        yield "psum_in", tuple(word for row in rows for word in row.psums), patterns.psum_in
