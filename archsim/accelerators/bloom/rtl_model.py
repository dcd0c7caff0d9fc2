"""The registers of the blocks of `bloom` in Python, and the cases they are driven with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from archsim.accelerators.base import RtlModel, Signals
from archsim.accelerators.bloom.config import FU_STAGES, QUERY_CYCLES, BloomConfig
from archsim.accelerators.bloom.floats import apply_unit, flushed
from archsim.errors import MappingError
from archsim.workload.layers import Layer, OpStream

Ports = dict[str, int]
OPERANDS = 2
MAC_KINDS = ("add", "mac")
MAC_PORTS = ("in_a", "in_b", "in_c", "in_add")
SQRT_KINDS = ("sqrt",)
SQRT_PORTS = ("in_a",)


def filter_parameters(config: BloomConfig, layer: Layer | None = None) -> dict[str, int]:
    """Return the parameters of `bloom_filter` for multiplications at the highest level of `bloom_match`.

    Raises: MappingError for a Config or a layer the block does not have.
    """
    if config.vector != "per_output":
        raise MappingError(f"the block bloom_filter has 1 vector for each output, the configuration {config.vector!r}")
    if config.order != "serial":
        raise MappingError(f"the block bloom_fu waits 2 cycles for the filters (order 'serial'), got {config.order!r}")
    if isinstance(layer, OpStream):
        raise MappingError(f"layer {layer.name!r}: the block bloom_fu multiplies 2 operands, a stream has other steps")
    apx, patterns = config.match_levels[-1]
    unit = config.filters_of("mul", patterns)
    return {"APX": apx, "OPS": OPERANDS, "NBF": max(2, unit.patterns), "M": unit.m, "K": unit.k}


def fu_parameters(config: BloomConfig, layer: Layer | None = None) -> dict[str, int]:
    """Return the parameters of `bloom_fu`. Raises: MappingError as `filter_parameters`."""
    return {"NBF": filter_parameters(config, layer)["NBF"]}


def unit_parameters(config: BloomConfig, kinds: Sequence[str]) -> dict[str, int]:
    """Return the parameters of a block that is some kinds of unit: registers for the outputs of any of them.

    Raises: MappingError for a Config the block does not have.
    """
    if config.order != "serial":
        raise MappingError(f"the blocks of units wait 2 cycles for the filters (order 'serial'), got {config.order!r}")
    _, patterns = config.match_levels[-1]
    return {"NBF": max(2, *(config.filters_of(kind, patterns).patterns for kind in kinds))}


def mac_parameters(config: BloomConfig, layer: Layer | None = None) -> dict[str, int]:
    """Return the parameters of `bloom_mac`. Raises: MappingError."""
    return unit_parameters(config, MAC_KINDS)


def sqrt_parameters(config: BloomConfig, layer: Layer | None = None) -> dict[str, int]:
    """Return the parameters of `bloom_sqrt`. Raises: MappingError."""
    return unit_parameters(config, SQRT_KINDS)


class BloomFilter:
    """The filters, register for register; one `step` is one clock cycle."""

    def __init__(self, parameters: Mapping[str, int]) -> None:
        self.filters, self.k = parameters["NBF"], parameters["K"]
        self.log2_m = (parameters["M"] - 1).bit_length()
        self.rows = [0] * (self.filters * self.k * self.log2_m)
        self.vectors = [0] * self.filters
        self.address = [[0] * self.k for _ in range(self.filters)]
        self.stored_bf = 0
        self.reset()

    def reset(self) -> None:
        """Empty the pipeline and the counters; coefficients and vectors stay."""
        self.asked = self.stored = 0
        self.out: Ports = {"out_valid": 0, "out_hit": 0, "out_bf": 0}
        self.counters = {"cnt_query": 0, "cnt_hit": 0}

    def step(self, inputs: Signals) -> Ports:
        """Return the ports within this cycle, then pass the clock edge."""
        outputs = {**self.out, **self.counters}
        found = self._match()
        if inputs["prog_clear"]:
            self.vectors = [0] * self.filters
        elif self.stored:
            for at in self.address[self.stored_bf]:
                self.vectors[self.stored_bf] |= 1 << at
        if inputs["rst"]:
            self.reset()
        else:
            hit = int(self.asked and found is not None)
            self.out = {"out_valid": self.asked, "out_hit": hit, "out_bf": found or 0 if hit else 0}
            self.counters["cnt_query"] += self.asked
            self.counters["cnt_hit"] += hit
            self.asked, self.stored = inputs["in_valid"], inputs["prog_we"]
        if inputs["in_valid"] or inputs["prog_we"]:
            self._hash(inputs["prog_key"] if inputs["prog_we"] else inputs["in_key"])
        self.stored_bf = inputs["prog_bf"]
        if inputs["cfg_we"]:
            self.rows[inputs["cfg_addr"]] = inputs["cfg_row"]
        return outputs

    def _match(self) -> int | None:
        """Return the lowest filter whose bits are all set."""
        if not self.asked:
            return None
        for f, (vector, addresses) in enumerate(zip(self.vectors, self.address, strict=True)):
            if all(vector >> at & 1 for at in addresses):
                return f
        return None

    def _hash(self, key: int) -> None:
        """Put the addresses of a key into their registers: parities of key and row."""
        bits = [(key & row).bit_count() & 1 for row in self.rows]
        for f in range(self.filters):
            for j in range(self.k):
                first = (f * self.k + j) * self.log2_m
                self.address[f][j] = sum(bits[first + b] << b for b in range(self.log2_m))


def unit_bits(kind: str, operands: Sequence[int]) -> int:
    """Return the bits of a unit's output from those of its operands."""
    values = [flushed(np.array([one], np.uint32).view(np.float32)) for one in operands]
    return int(apply_unit(kind, values).view(np.uint32)[0])


def multiplied(a: int, b: int) -> int:
    """Return the bits of a product as the unit makes it."""
    return unit_bits("mul", (a, b))


@dataclass(frozen=True)
class Token:
    """An operation on its way, operands as they stand at the ports; `bf` None is a miss."""

    operands: tuple[int, ...]
    bf: int | None = None


class BloomFu:
    """The multiplier behind the filters: tokens in line, products worked out at the end."""

    operand_ports: ClassVar[tuple[str, ...]] = ("in_a", "in_b")

    def computed(self, operands: tuple[int, ...]) -> int:
        """Return the bits of the result."""
        return unit_bits("mul", operands)

    def __init__(self, parameters: Mapping[str, int]) -> None:
        self.outputs = [0] * parameters["NBF"]
        self.reset()

    def reset(self) -> None:
        """Empty the pipeline and the counters; the output registers stay."""
        self.waiting: list[Token | None] = [None] * QUERY_CYCLES
        self.stages: list[Token | None] = [None] * FU_STAGES
        self.result = 0
        self.counters = {"cnt_stage": 0, "cnt_read": 0}

    def step(self, inputs: Signals) -> Ports:
        """Return the ports within this cycle, then pass the clock edge."""
        last = self.stages[-1]
        outputs = {
            "out_valid": int(last is not None),
            "out_hit": int(last is not None and last.bf is not None),
            "out_bf": last.bf or 0 if last else 0,
            "out_result": self.result,
            **self.counters,
        }
        if inputs["rst"]:
            self.reset()
        else:
            self._edge(inputs)
        if inputs["cfg_we"]:
            self.outputs[inputs["cfg_addr"]] = inputs["cfg_data"]
        return outputs

    def _edge(self, inputs: Signals) -> None:
        """Move every token on; a hit clocks no data."""
        entering = self.waiting[-1]
        if entering is not None and inputs["in_hit"]:
            entering = Token(entering.operands, inputs["in_bf"])
        moving = [entering, *self.stages[:-1]]
        self.counters["cnt_stage"] += sum(one is not None and one.bf is None for one in moving)
        leaving = moving[-1]
        if leaving is not None:
            self.counters["cnt_read"] += leaving.bf is not None
            self.result = self.computed(leaving.operands) if leaving.bf is None else self.outputs[leaving.bf]
        self.stages = moving
        issued = Token(tuple(inputs[port] for port in self.operand_ports)) if inputs["in_valid"] else None
        self.waiting = [issued, *self.waiting[:-1]]


class BloomMac(BloomFu):
    """The unit that multiplies and adds, or only adds."""

    operand_ports = MAC_PORTS

    def computed(self, operands: tuple[int, ...]) -> int:
        """Return the bits of the result."""
        a, b, c, add = operands
        return unit_bits("add", (a, c)) if add else unit_bits("mac", (a, b, c))


class BloomSqrt(BloomFu):
    """The unit that takes roots."""

    operand_ports = SQRT_PORTS

    def computed(self, operands: tuple[int, ...]) -> int:
        """Return the bits of the result."""
        return unit_bits("sqrt", operands)


Query = int | None
"""A key; None: nothing is asked in this cycle."""


@dataclass(frozen=True)
class FilterCase:
    """Coefficients, patterns (filter, key) and queries of `bloom_filter`."""

    about: str
    rows: tuple[int, ...]
    patterns: tuple[tuple[int, int], ...]
    queries: tuple[Query, ...]
    outcomes: tuple[Signals, ...]
    totals: Signals

    def play(self, model: RtlModel) -> Iterator[tuple[Signals, Signals]]:
        """Reset, write the coefficients, store a pattern per cycle, ask, wait for the last answers."""
        names = ("rst", "cfg_we", "cfg_addr", "cfg_row", "prog_clear", "prog_we", "prog_bf", "prog_key", "in_valid",
                 "in_key")  # fmt: skip
        idle = dict.fromkeys(names, 0)
        driven = [
            {"rst": 1, "prog_clear": 1},
            *({"cfg_we": 1, "cfg_addr": at, "cfg_row": row} for at, row in enumerate(self.rows)),
            *({"prog_we": 1, "prog_bf": bf, "prog_key": key} for bf, key in self.patterns),
            *({} if key is None else {"in_valid": 1, "in_key": key} for key in self.queries),
            *({} for _ in range(QUERY_CYCLES + 1)),
        ]
        yield from _played(model, idle, driven)


@dataclass(frozen=True)
class FuCase:
    """Output registers and operations of a unit, each with the filter that answers it; None: an empty cycle."""

    about: str
    outputs: tuple[int, ...]
    operations: tuple[Token | None, ...]
    outcomes: tuple[Signals, ...]
    totals: Signals
    ports: tuple[str, ...] = BloomFu.operand_ports

    def play(self, model: RtlModel) -> Iterator[tuple[Signals, Signals]]:
        """Reset, write the registers, issue; every answer of the filters follows two cycles behind."""
        names = ("rst", "cfg_we", "cfg_addr", "cfg_data", "in_valid", *self.ports, "in_hit", "in_bf")
        idle = dict.fromkeys(names, 0)
        issued: list[Ports] = [{} for _ in range(len(self.operations) + QUERY_CYCLES + FU_STAGES + 1)]
        for at, one in enumerate(self.operations):
            if one is not None:
                issued[at] |= {"in_valid": 1, **dict(zip(self.ports, one.operands, strict=True))}
                issued[at + QUERY_CYCLES] |= {} if one.bf is None else {"in_hit": 1, "in_bf": one.bf}
        written = [{"cfg_we": 1, "cfg_addr": at, "cfg_data": bits} for at, bits in enumerate(self.outputs)]
        yield from _played(model, idle, [{"rst": 1}, *written, *issued])


def _played(model: RtlModel, idle: Ports, driven: Sequence[Mapping[str, int]]) -> Iterator[tuple[Signals, Signals]]:
    """Yield inputs and the model's outputs."""
    for changes in driven:
        inputs = {**idle, **changes}
        yield inputs, model.step(inputs)
