"""What a Verilog module says of itself: parameters, ports and their widths, read with pyverilog."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from archsim import assets
from archsim.errors import CosimError, MissingExtraError

Direction = Literal["input", "output"]


@dataclass(frozen=True)
class Port:
    """One port with its width in bits."""

    name: str
    direction: Direction
    bits: int
    signed: bool


@dataclass(frozen=True, eq=False)
class Module:
    """A parsed module; `tree` is pyverilog's ModuleDef."""

    name: str
    path: Path
    tree: Any

    def parameters(self, given: Mapping[str, int]) -> dict[str, int]:
        """Return all parameters, those `given` instead of the defaults. Raises: CosimError for an unknown one."""
        values: dict[str, int] = {}
        for one in _parameters(self.tree):
            values[one.name] = given[one.name] if one.name in given else evaluate(one.value.var, values)
        unknown = sorted(set(given) - set(values))
        if unknown:
            raise CosimError(f"{self.name} has no parameter {unknown[0]!r} (it has: {', '.join(values)})")
        return values

    def ports(self, parameters: Mapping[str, int]) -> list[Port]:
        """Return the ports in order, widths worked out for these parameters."""
        values = self.parameters(parameters)
        found = []
        for item in self.tree.portlist.ports:
            one = item.first
            direction: Direction = "input" if type(one).__name__ == "Input" else "output"
            found.append(Port(one.name, direction, span(one.width, values), bool(one.signed)))
        return found


def _parameters(tree: Any) -> list[Any]:
    """Return pyverilog's nodes of the parameter list."""
    return [one for item in tree.paramlist.params for one in item.list]


_OPERATORS: Mapping[str, Callable[[int, int], int]] = {
    "Plus": lambda a, b: a + b,
    "Minus": lambda a, b: a - b,
    "Times": lambda a, b: a * b,
    "Divide": lambda a, b: a // b,
    "Sll": lambda a, b: a << b,
    "Power": lambda a, b: a**b,
    "LessThan": lambda a, b: a < b,
    "LessEq": lambda a, b: a <= b,
    "GreaterThan": lambda a, b: a > b,
    "GreaterEq": lambda a, b: a >= b,
    "Eq": lambda a, b: a == b,
    "NotEq": lambda a, b: a != b,
}


def evaluate(node: Any, values: Mapping[str, int]) -> int:
    """Return the value of a constant expression. Raises: CosimError naming what it does not understand."""
    kind = type(node).__name__
    if kind == "IntConst":
        digits = str(node.value).replace("_", "")
        if "'" not in digits:
            return int(digits)
        _, _, based = digits.partition("'")
        based = based.lstrip("sS")
        return int(based[1:], {"d": 10, "h": 16, "b": 2, "o": 8}[based[0].lower()])
    if kind == "Identifier" and node.name in values:
        return values[node.name]
    if kind == "SystemCall" and node.syscall == "clog2":
        return math.ceil(math.log2(evaluate(node.args[0], values))) if evaluate(node.args[0], values) > 1 else 0
    if kind == "Uminus":
        return -evaluate(node.right, values)
    if kind == "Land":  # here and in Lor, a left side that decides needs no constant on the right
        return int(bool(evaluate(node.left, values) and evaluate(node.right, values)))
    if kind == "Lor":
        return int(bool(evaluate(node.left, values) or evaluate(node.right, values)))
    if kind == "Ulnot":
        return int(not evaluate(node.right, values))
    if kind == "Cond":
        return evaluate(node.true_value if evaluate(node.cond, values) else node.false_value, values)
    if kind in _OPERATORS:
        return int(_OPERATORS[kind](evaluate(node.left, values), evaluate(node.right, values)))
    raise CosimError(f"cannot evaluate {kind} in line {node.lineno} as a constant")


def constant(node: Any, values: Mapping[str, int]) -> int | None:
    """Return the value of a constant expression; None if it is none, or holds x or z."""
    try:
        return evaluate(node, values)
    except (CosimError, ValueError):
        return None


def span(node: Any, values: Mapping[str, int]) -> int:
    """Return the bits or words of a range; None, where there is no range, is 1."""
    return 1 if node is None else abs(evaluate(node.msb, values) - evaluate(node.lsb, values)) + 1


@lru_cache(1)
def _parser() -> Any:
    """Return pyverilog's parser: making its tables takes a second."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore", ResourceWarning)  # pyverilog leaves files to the garbage collector
        try:
            from pyverilog.vparser.parser import VerilogParser
        except ImportError as error:
            raise MissingExtraError("pyverilog", "rtl") from error
        return VerilogParser(outputdir=folder, debug=False)


def source_of(block: str) -> Path:
    """Return the Verilog source of a block: `rtl/<block>/<block>.v`. Raises: AssetError."""
    return assets.find(f"{block}/{block}.v")


@lru_cache
def read_module(path: Path) -> Module:
    """Parse the one module of a file. Compiler directives are refused: without Icarus there is no preprocessor.

    Raises: MissingExtraError without pyverilog; CosimError for what it cannot read, or no module of the file's name.
    """
    parser = _parser()
    from pyverilog.vparser.parser import ParseError

    parser.lexer.reset_lineno()
    parser.lexer.directives.clear()
    try:
        tree = parser.parse(path.read_text(encoding="utf-8"))
    except ParseError as error:
        raise CosimError(f"{path.name}: not Verilog as pyverilog reads it: {error}") from error
    if parser.get_directives():
        raise CosimError(f"{path.name}: compiler directives are not read, nobody runs a preprocessor here")
    for definition in tree.description.definitions:
        if getattr(definition, "name", None) == path.stem:
            return Module(path.stem, path, definition)
    raise CosimError(f"{path.name} holds no module {path.stem!r}")
