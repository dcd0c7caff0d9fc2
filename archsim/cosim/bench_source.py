"""The Verilog bench around a block: it replays a trace of inputs and compares all outputs before every clock edge.

cocotb costs 100 us for every cycle it looks at a signal; the bench replays thousands of cycles between two looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archsim.cosim.verilog import Port

TOP = "bench"
TRACE_FILE = "trace.hex"
DEPTH = 4096
"""Cycles replayed at once."""


@dataclass(frozen=True)
class Fields:
    """Where ports lie in a vector: name -> (lowest bit, bits)."""

    places: Mapping[str, tuple[int, int]]
    bits: int

    @classmethod
    def of(cls, ports: Sequence[Port]) -> Fields:
        """Lay ports side by side, the first one lowest."""
        places, at = {}, 0
        for port in ports:
            places[port.name] = (at, port.bits)
            at += port.bits
        return cls(places, at)

    def pack(self, values: Mapping[str, int]) -> int:
        """Return the vector; a port without a value is 0, a negative number becomes two's complement."""
        vector = 0
        for name, value in values.items():
            at, bits = self.places[name]
            vector |= (value & ((1 << bits) - 1)) << at
        return vector

    def unsigned(self, name: str, value: int) -> int:
        """Return a value as the bits of a port."""
        return value & ((1 << self.places[name][1]) - 1)

    def read(self, name: str, bits: str) -> int | None:
        """Return a port's value out of a vector of 0, 1, x and z, highest bit first; None if any is x or z."""
        at, count = self.places[name]
        try:
            return int(bits[len(bits) - at - count : len(bits) - at], 2)
        except ValueError:
            return None


def driven(ports: Sequence[Port]) -> list[Port]:
    """Return the ports the bench drives; the clock is its own."""
    return [port for port in ports if port.direction == "input" and port.name != "clk"]


def observed(ports: Sequence[Port]) -> list[Port]:
    """Return the ports the bench looks at."""
    return [port for port in ports if port.direction == "output"]


def bench_text(block: str, parameters: Mapping[str, int], ports: Sequence[Port]) -> str:
    """Return the bench of a block with these parameters.

    A word of the trace is {compare, inputs, outputs}. When `go` changes the bench replays `count` words, stops before
    the clock edge of the first cycle whose outputs differ, and changes `done`.
    """
    inputs, outputs = Fields.of(driven(ports)), Fields.of(observed(ports))
    wires = {
        **{name: f"inputs[{at} +: {bits}]" for name, (at, bits) in inputs.places.items()},
        **{name: f"outputs[{at} +: {bits}]" for name, (at, bits) in outputs.places.items()},
        "clk": "clk",
    }
    values = ", ".join(f".{name}({value})" for name, value in parameters.items())
    links = ",\n".join(f"        .{port.name}({wires[port.name]})" for port in ports)
    return f"""\
`timescale 1ns / 1ns
module {TOP};
    reg clk = 1'b0;
    reg [{inputs.bits - 1}:0] inputs = {inputs.bits}'d0;
    wire [{outputs.bits - 1}:0] outputs;
    reg [{outputs.bits - 1}:0] wanted = {outputs.bits}'d0;
    reg [{inputs.bits + outputs.bits}:0] trace [0:{DEPTH - 1}];
    reg [31:0] count = 32'd0, at = 32'd0;
    reg go = 1'b0, done = 1'b0, differs = 1'b0, compare = 1'b0;

    {block} #({values}) dut (
{links}
    );

    initial forever begin
        @(go);
        $readmemh("{TRACE_FILE}", trace, 0, count - 1);
        at = 32'd0;
        differs = 1'b0;
        while (at < count && !differs) begin
            {{compare, inputs, wanted}} = trace[at];
            #1 differs = compare && outputs !== wanted;
            if (!differs) begin
                #1 clk = 1'b1;
                #2 clk = 1'b0;
                at = at + 32'd1;
            end
        end
        #1 done = !done;
    end
endmodule
"""
