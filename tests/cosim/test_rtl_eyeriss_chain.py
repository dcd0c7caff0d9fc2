"""E14: chains of Eyeriss PEs compute output rows as the machine does, at the rate of one PE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from archsim.accelerators.base import RtlModel, Signals
from archsim.accelerators.eyeriss.activity import execute_layer
from archsim.accelerators.eyeriss.pe_law import row_cycles
from archsim.accelerators.eyeriss.plan import EyerissPlan
from archsim.accelerators.eyeriss.rtl import EYERISS_PE
from archsim.accelerators.eyeriss.rtl_cases import Place, RowData, make_case, tile_row
from archsim.accelerators.eyeriss.rtl_model import (
    ALWAYS_READY,
    EyerissPe,
    Patterns,
    PeRow,
    Source,
    parameters_of,
)
from archsim.cosim.simulator import build, choose_simulator, run
from archsim.cosim.verilog import source_of
from archsim.workload.layers import Conv
from tests.cosim.eyeriss_rows import (
    MODES,
    SHIFT,
    cases,
    config,
    drawn,
    layer,
    plan_of,
)

pytestmark = pytest.mark.cosim

STREAMS = ("filter", "ifmap", "psum_in")


class Chain:
    """PEs one after another, the psums of each go into the next; ports of other streams hold a field for every PE."""

    def __init__(self, parameters: Mapping[str, int]) -> None:
        self.pes = [EyerissPe({**parameters_of(config("wide")), **parameters}) for _ in range(parameters["R"])]

    def step(self, inputs: Signals) -> dict[str, int]:
        start_ready = all(pe.phase == "idle" for pe in self.pes)
        given = [(inputs["psum_in_valid"], inputs["psum_in_data"])]
        given += [(pe.psum_out_valid, pe.psum_out_data) for pe in self.pes[:-1]]
        outputs: list[dict[str, int]] = []
        ready = inputs["psum_out_ready"]
        for i, pe in reversed(list(enumerate(self.pes))):
            own = {**inputs, "start_valid": inputs["start_valid"] and start_ready, "psum_out_ready": ready}
            own |= dict(zip(("psum_in_valid", "psum_in_data"), given[i]))
            for name in ("filter", "ifmap"):
                own[f"{name}_valid"] = inputs[f"{name}_valid"] >> i & 1
                own[f"{name}_data"] = inputs[f"{name}_data"] >> i * FIELD_BITS[f"{name}_data"]
            outputs.insert(0, pe.step(own))
            ready = outputs[0]["psum_in_ready"]
        fields = {"filter_ready": 1, "ifmap_ready": 1, "cnt_cycles": 32}
        return {
            "start_ready": int(start_ready),
            "psum_in_ready": ready,
            **{name: outputs[-1][name] for name in ("psum_out_valid", "psum_out_data")},
            **{name: sum(one[name] << i * bits for i, one in enumerate(outputs)) for name, bits in fields.items()},
        }


FIELD_BITS = {"filter_data": 16, "ifmap_data": 16, "psum_in_data": 48}


@dataclass(frozen=True)
class ChainCase:
    """One output row by all PEs of a chain; psums enter the first PE and leave the last one."""

    about: str
    rows: tuple[PeRow, ...]
    outcomes: tuple[Signals, ...]
    totals: Signals
    patterns: tuple[Patterns, ...]

    def play(self, model: RtlModel) -> Iterator[tuple[Signals, Signals]]:
        idle = dict.fromkeys((*self.rows[0].start(), "rst"), 0) | {"psum_out_ready": 1}
        idle |= {f"{name}_{port}": 0 for name in STREAMS for port in ("valid", "data")}
        yield {**idle, "rst": 1}, model.step({**idle, "rst": 1})
        sources, ready = list(self._sources()), self.patterns[-1].psum_out
        started = taken = cycle = 0
        while taken < len(self.outcomes):
            inputs = {**idle, "psum_out_ready": ready[cycle % len(ready)], **({} if started else self.rows[0].start())}
            for i, source in sources:
                for port, value in source.offer(cycle).items():
                    bits = FIELD_BITS.get(port, 1)
                    inputs[port] |= (value & ((1 << bits) - 1)) << i * bits
            outputs = model.step(inputs)
            yield inputs, outputs
            for i, source in sources:
                source.see({source.ready: outputs[source.ready] >> i & 1})
            started |= inputs["start_valid"] & outputs["start_ready"]
            taken += outputs["psum_out_valid"] & inputs["psum_out_ready"]
            cycle += 1
        yield idle, model.step(idle)

    def _sources(self) -> Iterator[tuple[int, Source]]:
        for i, (row, at) in enumerate(zip(self.rows, self.patterns)):
            yield i, Source("filter", row.filters, at.filter)
            yield i, Source("ifmap", row.ifmap, at.ifmap)
        yield 0, Source("psum_in", self.rows[0].psums, self.patterns[0].psum_in)


CHAIN = """
module pe_chain #(parameter integer R = 3, parameter integer ACC = 48) (
    input  wire                clk,
    input  wire                rst,
    input  wire                start_valid,
    output wire                start_ready,
    input  wire [4:0]          start_p,
    input  wire [3:0]          start_q,
    input  wire [3:0]          start_s,
    input  wire [3:0]          start_u,
    input  wire [15:0]         start_f,
    input  wire [4:0]          start_shift,
    input  wire [R-1:0]        filter_valid,
    output wire [R-1:0]        filter_ready,
    input  wire [R*16-1:0]     filter_data,
    input  wire [R-1:0]        ifmap_valid,
    output wire [R-1:0]        ifmap_ready,
    input  wire [R*16-1:0]     ifmap_data,
    input  wire                psum_in_valid,
    output wire                psum_in_ready,
    input  wire [ACC-1:0]      psum_in_data,
    output wire                psum_out_valid,
    input  wire                psum_out_ready,
    output wire [ACC-1:0]      psum_out_data,
    output wire [R*32-1:0]     cnt_cycles
);
    wire [R-1:0]         idle;
    wire [R:0]           valid, ready;
    wire [(R+1)*ACC-1:0] data;
    assign start_ready = idle == {R{1'b1}};
    assign valid[0] = psum_in_valid;
    assign data[0 +: ACC] = psum_in_data;
    assign psum_in_ready = ready[0];
    assign psum_out_valid = valid[R];
    assign psum_out_data = data[R*ACC +: ACC];
    assign ready[R] = psum_out_ready;
    genvar i;
    generate for (i = 0; i < R; i = i + 1) begin : pes
        eyeriss_pe #(.ACC(ACC)) pe (
            .clk(clk), .rst(rst), .start_valid(start_valid && start_ready), .start_ready(idle[i]),
            .start_p(start_p), .start_q(start_q), .start_s(start_s), .start_u(start_u), .start_f(start_f),
            .start_shift(start_shift),
            .filter_valid(filter_valid[i]), .filter_ready(filter_ready[i]), .filter_data(filter_data[i*16 +: 16]),
            .ifmap_valid(ifmap_valid[i]), .ifmap_ready(ifmap_ready[i]), .ifmap_data(ifmap_data[i*16 +: 16]),
            .psum_in_valid(valid[i]), .psum_in_ready(ready[i]), .psum_in_data(data[i*ACC +: ACC]),
            .psum_out_valid(valid[i+1]), .psum_out_ready(ready[i+1]), .psum_out_data(data[(i+1)*ACC +: ACC]),
            .cnt_cycles(cnt_cycles[i*32 +: 32])
        );
    end endgenerate
endmodule
"""
CHAIN_BLOCK = replace(EYERISS_PE, name="pe_chain", model=Chain)


class Chained(NamedTuple):
    """A layer whose output row a chain of R PEs for every set of q channels works out."""

    conv: Conv
    p: int
    q: int
    sets: int = 1

    @property
    def plan(self) -> EyerissPlan:
        return plan_of(self.conv, self.p, self.q, self.sets)


CHAINS = {
    "R 3": Chained(layer(3, 4, 10, 9, pad=(1, 1, 1, 1)), 5, 4),
    "R 3, one filter": Chained(layer(3, 1, 1, 8), 1, 1),
    "R 3, two sets": Chained(layer(3, 6, 4, 12, stride=(2, 2), pad=(0, 1, 1, 0)), 4, 3, 2),
    "R 3, S 1, far apart": Chained(layer(3, 4, 1, 21, S=1, stride=(1, 4)), 1, 4),
    "R 5": Chained(layer(5, 4, 12, 13, groups=2, pad=(2, 2, 2, 2)), 6, 2),
    "R 5, S 2, three sets": Chained(layer(5, 6, 2, 9, S=2), 2, 2, 3),
    "R 11": Chained(layer(11, 1, 16, 35, stride=(4, 4)), 16, 1),
    "R 11, S 1, one filter": Chained(layer(11, 12, 1, 20, S=1), 1, 12),
}


def chained(name: str, mode: str) -> tuple[list[RowData], list[int]]:
    """What every PE of a chain works on, and what the machine says the last one sends."""
    conv, plan, machine = CHAINS[name].conv, CHAINS[name].plan, config(mode)
    x, stored = drawn(conv)
    top, left, bottom, right = conv.pad
    maps = np.pad(x[0], ((0, 0), (top, bottom), (left, right)))
    row, filters = conv.P - 1, (conv.M - CHAINS[name].p, conv.M)
    places = [Place(row, 0, filters, k, r) for k in range(CHAINS[name].sets) for r in range(conv.R)]
    rows = [tile_row(machine, conv, plan, maps, stored.params, place) for place in places]
    y = execute_layer(conv, plan, x, stored, machine).y
    assert y is not None
    psums = y[0, filters[0] :, row] >> (SHIFT if mode == "chip16" else 0)
    return rows, psums.T.ravel().tolist()


def chain_case(name: str, mode: str, held: bool = False) -> ChainCase:
    rows, psums = chained(name, mode)
    singles = [make_case(config(mode), name, [row]) for row in rows]
    patterns = [case.patterns for case in cases(mode) if held == (case.patterns != ALWAYS_READY)][: len(rows)]
    outcomes = tuple({"psum_out_data": psum} for psum in psums)
    return ChainCase(name, tuple(one.rows[0] for one in singles), outcomes, {}, tuple(patterns))


def sent(case: ChainCase, chain: Chain) -> Iterator[int]:
    """What leaves the chain."""
    for inputs, outputs in case.play(chain):
        if outputs["psum_out_valid"] and inputs["psum_out_ready"]:
            yield outputs["psum_out_data"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CHAINS)
def test_chain_computes_an_output_row_at_the_rate_of_one_pe(name: str, mode: str) -> None:
    """Bit by bit what the machine computes, in the cycles of one PE and one more for every further PE."""
    case = chain_case(name, mode)
    chain = Chain({**parameters_of(config(mode)), "R": len(case.rows)})
    expected = [psum["psum_out_data"] for psum in case.outcomes]
    assert list(sent(case, chain)) == expected and len(set(expected)) > 5
    assert chain.pes[-1].counters["cnt_cycles"] == row_cycles(case.rows[0].shape) + len(case.rows) - 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CHAINS)
def test_chain_that_is_held_up_computes_the_same(name: str, mode: str) -> None:
    case = chain_case(name, mode, held=True)
    chain = Chain({**parameters_of(config(mode)), "R": len(case.rows)})
    assert list(sent(case, chain)) == [psum["psum_out_data"] for psum in case.outcomes]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CHAINS)
def test_psums_of_a_tile_are_those_of_the_pes_before_it(name: str, mode: str) -> None:
    rows, psums = chained(name, mode)
    for row, after in pairwise(rows):
        case = make_case(config(mode), "", [row])
        assert [psum["psum_out_data"] for psum in case.outcomes] == after.psums.T.ravel().tolist()
    assert [psum["psum_out_data"] for psum in make_case(config(mode), "", rows[-1:]).outcomes] == psums


def test_chain_of_three_in_verilog(tmp_path: Path) -> None:
    source = tmp_path / "pe_chain.v"
    source.write_text(source_of("eyeriss_pe").read_text() + CHAIN)
    given = [chain_case(name, "chip16", held) for name in CHAINS for held in (False, True)]
    given = [case for case in given if len(case.rows) == 3]
    assert len(given) >= 4
    verdict = run(build(CHAIN_BLOCK, {"R": 3, "ACC": 16}, choose_simulator(), source=source), given, tmp_path)
    assert verdict.difference is None and verdict.cases == len(given), str(verdict.difference)
