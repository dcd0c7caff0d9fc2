"""What a Verilog block is made of: multipliers, adders, comparators, XOR gates, registers and memories.

Counted is what is written; tools may share or remove some of it. The rules:

- Loops are unrolled, functions count at every call, all branches of a condition count. Of a condition on parameters
  and loop variables only the branch taken counts; what is made of those and of numbers alone costs nothing.
- An operator is as wide as its wider operand, numbers not considered, but no wider than what its result is assigned
  to. A product is as wide as both factors together.
- A factor that is a concatenation of zeros, or of copies of one bit, and a narrower signal is as wide as that signal;
  a constant one has the bits of its value, and a power of two is wiring.
- Adders are +, - and the negative of a signal. Comparators are < <= > >= == != on more than one bit, but not x < 0 and
  x >= 0, which look at a sign. Labels of a case, logic, shifts and multiplexers are not counted.
- XOR bits are gates of two inputs: n for two vectors of n bits, n - 1 for a parity, none with a constant.
- Registers are what a non-blocking assignment writes; a blocking one makes wires. Arrays of regs are memories.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from archsim.cosim.verilog import Module, constant, evaluate, span
from archsim.errors import CosimError

ADDITIONS = ("Plus", "Minus", "Uminus")
XORS = ("Xor", "Xnor")
VECTORS = (*ADDITIONS, *XORS, "And", "Or", "Unot", "Uplus")
SIGN_TESTS = ("LessThan", "GreaterEq")
COMPARISONS = (*SIGN_TESTS, "LessEq", "GreaterThan", "Eq", "NotEq", "Eql", "NotEql")
PARITIES = ("Uxor", "Uxnor")
BITS = (*COMPARISONS, *PARITIES, "Land", "Lor", "Ulnot", "Uand", "Uor", "Unand", "Unor")
SHIFTS = ("Sll", "Srl", "Sla", "Sra")
ASSIGNMENTS = ("Assign", "BlockingSubstitution", "NonblockingSubstitution")
BODIES = ("Always", "Block", "GenerateStatement", "CaseStatement", "CasexStatement", "CasezStatement", "Case")
NO_HARDWARE = ("Function", "Initial", "SensList", "SingleStatement")
"""A function counts where it is called; a single statement is a call like $display."""
UNLIMITED = 1 << 62
INTEGER_BITS = 32


@dataclass(frozen=True)
class Inventory:
    """Operators by width, and storage.

    `multipliers`: bits of both factors, the wider one first -> how many; `adders`, `comparators`: bits -> how many;
    `memories`: name -> (words, bits of a word), arrays of the same name in a generate loop taken together.
    """

    block: str
    parameters: Mapping[str, int]
    multipliers: Mapping[tuple[int, int], int]
    adders: Mapping[int, int]
    comparators: Mapping[int, int]
    xor_bits: int
    register_bits: int
    memories: Mapping[str, tuple[int, int]]

    @property
    def multiplier_count(self) -> int:
        """Multipliers of all widths."""
        return sum(self.multipliers.values())

    @property
    def adder_bits(self) -> int:
        """Bits of all adders together."""
        return sum(bits * count for bits, count in self.adders.items())

    @property
    def comparator_bits(self) -> int:
        """Bits of all comparators together."""
        return sum(bits * count for bits, count in self.comparators.items())

    @property
    def memory_bits(self) -> int:
        """Bits of all memories together."""
        return sum(words * bits for words, bits in self.memories.values())


def inventory(module: Module, parameters: Mapping[str, int]) -> Inventory:
    """Count what a module is made of; parameters that are not given have their defaults.

    Raises: CosimError for an unknown parameter and for what there is no rule to count: instances, tasks, division.
    """
    values = module.parameters(parameters)
    walk = _Walk(module, values)
    storage = (sum(signal.bits for signal in walk.registers if not signal.is_array), walk.memories)
    return Inventory(module.name, values, walk.multipliers, walk.adders, walk.comparators, walk.xor_bits, *storage)


def inventory_rows(blocks: Iterable[tuple[Module, Mapping[str, int]]]) -> list[dict[str, str | int]]:
    """Return the totals of every module with its parameters, as plain data for a table."""
    totals = ("adder_bits", "comparator_bits", "xor_bits", "register_bits", "memory_bits")
    rows: list[dict[str, str | int]] = []
    for one in (inventory(module, parameters) for module, parameters in blocks):
        values = " ".join(f"{name}={value}" for name, value in one.parameters.items())
        kinds = [f"{count} x {a}x{b}" for (a, b), count in sorted(one.multipliers.items(), reverse=True)]
        texts = {"block": one.block, "parameters": values, "multipliers": ", ".join(kinds) or "0"}
        rows.append({**texts, **{name: getattr(one, name) for name in totals}})
    return rows


class _Operand(NamedTuple):
    """What a node is to the operator above it; the greatest of several is the widest that is no constant."""

    varies: bool
    bits: int
    is_zero: bool = False


NOTHING = _Operand(False, 0)


@dataclass(frozen=True, eq=False)
class _Signal:
    """One declaration; in an unrolled generate loop there are many of a name."""

    bits: int
    is_array: bool


class _Scope(NamedTuple):
    """What names mean in one place."""

    constants: ChainMap[str, int]
    signals: ChainMap[str, _Signal]

    def inner(self, **constants: int) -> _Scope:
        """Return a scope for declarations that end with it."""
        return _Scope(self.constants.new_child(constants), self.signals.new_child())


class _Walk:
    """Walks a module once and counts; its methods are the rules of the kinds of nodes."""

    def __init__(self, module: Module, values: Mapping[str, int]) -> None:
        self.block = module.name
        self.multipliers: Counter[tuple[int, int]] = Counter()
        self.adders: Counter[int] = Counter()
        self.comparators: Counter[int] = Counter()
        self.xor_bits = 0
        self.registers: set[_Signal] = set()
        self.memories: dict[str, tuple[int, int]] = {}
        self.functions = {item.name: item for item in module.tree.items if type(item).__name__ == "Function"}
        self.rules: Mapping[str, Callable[[Any, _Scope, int], _Operand]] = {
            **dict.fromkeys((*VECTORS, *BITS, *SHIFTS), self._operator), "ForStatement": self._loop,
            **dict.fromkeys(ASSIGNMENTS, self._assignment), **dict.fromkeys(BODIES, self._body),
            **dict.fromkeys(("Cond", "IfStatement"), self._choice), "FunctionCall": self._call,
            **dict.fromkeys(("Concat", "LConcat", "Repeat"), self._concatenation), "Decl": self._declarations,
            **dict.fromkeys(("Pointer", "Partselect"), self._part), "Times": self._product,
            **dict.fromkeys(NO_HARDWARE, lambda *_: NOTHING),
        }  # fmt: skip
        ports = {port.name: _Signal(port.bits, False) for port in module.ports(values)}
        self.top = _Scope(ChainMap(dict(values)), ChainMap(ports))
        for item in module.tree.items:
            self.count(item, self.top)

    def count(self, node: Any, scope: _Scope, limit: int = UNLIMITED) -> _Operand:
        """Count a node with all below it; `limit` bits of its result are used. Raises: CosimError without a rule."""
        kind, value = type(node).__name__, constant(node, scope.constants)
        if kind == "IntConst":
            size, based, _ = str(node.value).partition("'")
            return _Operand(False, int(size) if based and size else INTEGER_BITS, value == 0)
        if value is not None:
            declared = scope.signals.get(getattr(node, "name", ""))
            return _Operand(False, declared.bits if declared else INTEGER_BITS, value == 0)
        if kind == "Identifier":
            return _Operand(True, self._signal(node, scope).bits)
        if kind == "SystemCall" and node.syscall in ("signed", "unsigned"):
            return self.count(node.args[0], scope, limit)
        if kind not in self.rules:
            raise CosimError(f"{self.block}: no rule to count {kind} in line {node.lineno}")
        return self.rules[kind](node, scope, limit)

    def _signal(self, node: Any, scope: _Scope) -> _Signal:
        """Return the declaration of a name. Raises: CosimError if there is none."""
        if node.scope is not None or node.name not in scope.signals:
            raise CosimError(f"{self.block}: {node.name!r} in line {node.lineno} is not declared where it is used")
        return scope.signals[node.name]

    def _body(self, node: Any, scope: _Scope, limit: int) -> _Operand:
        inside = scope.inner()
        for one in node.children():
            self.count(one, inside)
        return NOTHING

    def _loop(self, node: Any, scope: _Scope, limit: int) -> _Operand:
        name = node.pre.left.var.name
        inside = scope.inner(**{name: evaluate(node.pre.right.var, scope.constants)})
        while evaluate(node.cond, inside.constants):
            self.count(node.statement, inside)
            inside = scope.inner(**{name: evaluate(node.post.right.var, inside.constants)})
        return NOTHING

    def _choice(self, node: Any, scope: _Scope, limit: int) -> _Operand:
        condition, *branches = node.children()
        self.count(condition, scope)
        if (value := constant(condition, scope.constants)) is not None:
            branches = branches[:1] if value else branches[1:]
        return _Operand(True, max((self.count(one, scope, limit) for one in branches), default=NOTHING).bits)

    def _declarations(self, node: Any, scope: _Scope, limit: int) -> _Operand:
        for one in node.list:
            kind = type(one).__name__
            if kind == "Localparam":
                scope.constants[one.name] = evaluate(one.value.var, scope.constants)
            if kind == "Assign":  # of a wire with its declaration
                self._assignment(one, scope, limit)
            elif kind != "Localparam" or one.width is not None:
                lengths = one.dimensions.lengths if getattr(one, "dimensions", None) else ()
                bits = span(one.width, scope.constants)
                scope.signals[one.name] = _Signal(bits, bool(lengths))
                if kind == "Reg" and lengths:
                    words = prod(span(length, scope.constants) for length in lengths)
                    self.memories[one.name] = (self.memories.get(one.name, (0, bits))[0] + words, bits)
        return NOTHING

    def _assignment(self, node: Any, scope: _Scope, limit: int) -> _Operand:
        self.count(node.right.var, scope, self.count(node.left.var, scope).bits)
        if type(node).__name__ == "NonblockingSubstitution":
            self.registers.update(self._signal(name, scope) for name in _assigned(node.left.var))
        return NOTHING

    def _operator(self, node: Any, scope: _Scope, limit: int) -> _Operand:
        kind = type(node).__name__
        limit = limit if kind in VECTORS else UNLIMITED
        operands = [self.count(one, scope, limit) for one in node.children()]
        varies, bits, _ = max(operands)
        bits = min(bits, limit)
        if kind in ADDITIONS and varies:
            self.adders[bits] += 1
        elif kind in XORS and all(one.varies for one in operands):
            self.xor_bits += bits
        elif kind in PARITIES and varies:
            self.xor_bits += bits - 1
        elif kind in COMPARISONS and varies and bits > 1 and not (kind in SIGN_TESTS and operands[1].is_zero):
            self.comparators[bits] += 1
        return _Operand(varies, operands[0].bits if kind in SHIFTS else bits if kind in VECTORS else 1)

    def _product(self, node: Any, scope: _Scope, limit: int) -> _Operand:
        factors = [self._factor(one, scope) for one in node.children()]
        values = [value for one in node.children() if (value := constant(one, scope.constants)) is not None]
        if not any(value & (value - 1) == 0 for value in values):
            self.multipliers[max(factors), min(factors)] += 1
        return _Operand(True, min(limit, sum(factors)))

    def _factor(self, node: Any, scope: _Scope) -> int:
        """Return the width of a factor without what only extends it."""
        if (value := constant(node, scope.constants)) is not None:
            return value.bit_length()
        node = node.args[0] if type(node).__name__ == "SystemCall" else node
        if type(node).__name__ != "Concat" or len(node.list) != 2:
            return self.count(node, scope).bits
        upper, lower = (self.count(one, scope) for one in node.list)
        times = getattr(node.list[0], "times", None)
        copies_bit = times is not None and upper.bits == evaluate(times, scope.constants)
        return lower.bits if copies_bit or upper.is_zero else upper.bits + lower.bits

    def _concatenation(self, node: Any, scope: _Scope, limit: int) -> _Operand:
        times = evaluate(node.times, scope.constants) if type(node).__name__ == "Repeat" else 1
        parts = [self.count(one, scope) for one in getattr(node, "list", None) or [node.value]]
        bits = times * sum(one.bits for one in parts)
        return _Operand(any(one.varies for one in parts), bits, all(one.is_zero for one in parts))

    def _part(self, node: Any, scope: _Scope, limit: int) -> _Operand:
        is_element = type(node).__name__ == "Pointer"
        whole, start = self.count(node.var, scope), self.count(node.ptr if is_element else node.msb, scope)
        varies = whole.varies or start.varies
        if is_element:
            declared = scope.signals.get(getattr(node.var, "name", ""))
            is_word = declared is not None and declared.is_array
            return _Operand(varies, whole.bits if is_word else 1)
        # pyverilog reads a[i +: n] as the bounds i and i + n, a[i -: n] as i and i - n, with one node for both i.
        is_indexed = getattr(node.lsb, "left", None) is node.msb
        bits = evaluate(node.lsb.right, scope.constants) if is_indexed else span(node, scope.constants)
        return _Operand(varies, bits)

    def _call(self, node: Any, scope: _Scope, limit: int) -> _Operand:
        """Count the body of a function, which sees the names of the module and its own."""
        function, inside = self.functions[node.name.name], self.top.inner()
        declared = [one for item in function.statement if type(item).__name__ == "Decl" for one in item.list]
        for one, argument in zip([one for one in declared if type(one).__name__ == "Input"], node.args):
            self.count(argument, scope)
            if (value := constant(argument, scope.constants)) is not None:
                inside.constants[one.name] = value
        result = _Operand(True, span(function.retwidth, inside.constants))
        inside.signals[function.name] = _Signal(result.bits, False)
        for statement in function.statement:
            self.count(statement, inside)
        return result


def _assigned(node: Any) -> list[Any]:
    """Return the names that an assignment to `node` changes."""
    if type(node).__name__ == "LConcat":
        return [name for part in node.list for name in _assigned(part)]
    return _assigned(node.var) if type(node).__name__ in ("Pointer", "Partselect") else [node]
