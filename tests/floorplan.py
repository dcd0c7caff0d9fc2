"""The floor plan as a checker: which module may import what, read from the sources without importing them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "units", "counts", "assets", "yamlfile", "threads", "kernels"),
    ("workload",),
    ("approx", "energy", "sim", "rtl"),
    ("memory",),
    ("accelerators",),
    ("result", "platform", "config", "seating", "session", "run"),
    ("tuner", "report", "cosim"),
    ("cli", "__init__", "__main__"),
)
"""Rooms from the ground up; a room is a module or package directly below archsim/."""

ORDERED = (
    ("errors", "units", "counts", "assets", "yamlfile", "threads"),
    ("result", "platform", "config", "seating", "session", "run"),
    ("__init__", "cli", "__main__"),
)
"""Rooms of one floor that may import those left of them."""

HOMES: Mapping[str, tuple[str, ...]] = {
    "pandas": ("report",),
    "simpy": ("sim", "memory", "accelerators", "run"),
    "cocotb": ("cosim",),
}
"""Third-party packages that only some rooms may import."""

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80


@dataclass(frozen=True)
class Import:
    """One import statement: the dotted target, where it stands, and whether it only serves the type checker."""

    target: str
    line: int
    function: str
    typing_only: bool


@dataclass(frozen=True)
class Module:
    """One source file; `name` is its path below archsim/ in dots (`accelerators.eyeriss.__init__`)."""

    name: str
    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def room(self) -> str:
        return self.name.split(".")[0]

    @property
    def package(self) -> str:
        """The machine or memory package the module belongs to, or '' for the modules beside them."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 2 else ""

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        return tuple(imports_of(self.tree))


@dataclass(frozen=True)
class Source:
    """All modules below one archsim/ folder."""

    modules: Mapping[str, Module]

    def resolve(self, target: str) -> str | None:
        """Return the module name an absolute target `archsim...` means, or None for third-party ones."""
        if target.split(".")[0] != "archsim" or target == "archsim.__version__":  # a plain constant, loads nothing
            return None
        parts = target.split(".")[1:]
        for end in range(len(parts), 0, -1):
            name = ".".join(parts[:end])
            for candidate in (name, f"{name}.__init__"):
                if candidate in self.modules:
                    return candidate
        return parts[0] if parts and not self._is_public(parts[0]) else "__init__"

    def _is_public(self, name: str) -> bool:
        """True if `name` is no module but something archsim/__init__ offers."""
        return not any(name in floor for floor in FLOORS)


def read(root: Path) -> Source:
    """Return the modules of the package folder `root`."""
    paths = sorted(path for path in root.rglob("*.py") if "_assets" not in path.parts)
    names = (".".join(path.relative_to(root).with_suffix("").parts) for path in paths)
    return Source({name: Module(name, path) for name, path in zip(names, paths)})


def imports_of(node: ast.AST, function: str = "", typing_only: bool = False) -> Iterator[Import]:
    """Yield every import below `node`; relative ones count as the marker target '.'."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, function, typing_only) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = "." if child.level else str(child.module)
            yield from (Import(f"{base}.{alias.name}", child.lineno, function, typing_only) for alias in child.names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from imports_of(child, function, True)
        else:
            inside = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
            yield from imports_of(child, inside, typing_only)


def _floor(room: str) -> int | None:
    return next((level for level, rooms in enumerate(FLOORS) if room in rooms), None)


def _may_import(room: str, other: str) -> bool:
    """True if imports from `room` to `other` go down, stay inside, or go left on an ordered floor."""
    here, there = _floor(room), _floor(other)
    if here is None or there is None or here < there:
        return False
    if here > there or room == other:
        return True
    return any(room in order and other in order and order.index(other) < order.index(room) for order in ORDERED)


def floors(source: Source) -> Iterator[str]:
    """Imports go strictly down; rooms are known; kernels import kernels only; no relative imports."""
    for module in source.modules.values():
        if _floor(module.room) is None:
            yield f"{module.name}: no floor is given for it"
            continue
        for one in module.imports:
            if one.target.startswith(".."):
                yield f"{module.name}:{one.line}: relative import"
            other = source.resolve(one.target)
            if other is None:
                continue
            room = other.split(".")[0]
            if not _may_import(module.room, room) or (module.room == "kernels" and room != "kernels"):
                yield f"{module.name}:{one.line}: {module.room} may not import {room}"


def packages(source: Source) -> Iterator[str]:
    """A machine or memory package is imported by nobody but itself; it is found, never named."""
    for module in source.modules.values():
        for one in module.imports:
            other = source.resolve(one.target)
            if other is None or other.split(".")[0] not in ("accelerators", "memory"):
                continue
            package = source.modules[other].package if other in source.modules else ""
            own = module.room == other.split(".")[0] and module.package == package
            if package and not own:
                yield f"{module.name}:{one.line}: names the package {other.rsplit('.', 1)[0]}"


def homes(source: Source) -> Iterator[str]:
    """pandas, simpy and cocotb stay in their rooms; result.to_frames may import pandas when called."""
    for module in source.modules.values():
        for one in module.imports:
            package = one.target.split(".")[0]
            allowed = HOMES.get(package)
            frames = (module.name, package) == ("result", "pandas") and (one.typing_only or one.function == "to_frames")
            if allowed is not None and module.room not in allowed and not frames:
                yield f"{module.name}:{one.line}: {package} may be imported in {', '.join(allowed)} only"


def cycles(source: Source) -> Iterator[str]:
    """No module reaches itself through imports that run (those for the type checker do not)."""
    graph = {
        name: sorted({o for i in m.imports if not i.typing_only and (o := source.resolve(i.target)) and o != name})
        for name, m in source.modules.items()
    }
    done: set[str] = set()
    for start in graph:
        yield from _cycles_from(start, graph, [], done)


def _cycles_from(name: str, graph: Mapping[str, list[str]], trail: list[str], done: set[str]) -> Iterator[str]:
    """Depth-first search that reports each cycle where it closes."""
    if name in trail:
        yield "import cycle: " + " -> ".join([*trail[trail.index(name) :], name])
    elif name not in done:
        for other in graph.get(name, []):
            yield from _cycles_from(other, graph, [*trail, name], done)
        done.add(name)


def sizes(source: Source) -> Iterator[str]:
    """Files and functions stay readable."""
    for module in source.modules.values():
        if (lines := len(module.text.splitlines())) > MAX_FILE_LINES:
            yield f"{module.name}: {lines} lines (at most {MAX_FILE_LINES})"
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES:
                yield f"{module.name}:{node.lineno}: {node.name} has {length} lines (at most {MAX_FUNCTION_LINES})"


def _compiled(module: Module) -> dict[str, ast.FunctionDef]:
    """Return the functions of a module that carry an njit decorator."""
    functions = (node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef))
    return {f.name: f for f in functions if any("njit" in ast.unparse(d) for d in f.decorator_list)}


def _cached_together(*names: str) -> bool:
    """Tell whether modules are `kernel*.py` files of one package."""
    packages, files = zip(*(name.rpartition(".")[::2] for name in names))
    return len(set(packages)) == 1 and all(file.startswith("kernel") for file in files)


def kernels_alone(source: Source) -> Iterator[str]:
    """A compiled kernel calls compiled kernels of its own file: the compile cache of another does not see its changes.

    The `kernel*.py` files of a package have one cache that sees all of them; their kernels may call each other.
    """
    compiled = {name: _compiled(module) for name, module in source.modules.items()}
    for name, module in source.modules.items():
        foreign = {
            one.target.rsplit(".", 1)[1]: other
            for one in module.imports
            if (other := source.resolve(one.target)) and one.target.rsplit(".", 1)[-1] in compiled.get(other, {})
            if not _cached_together(name, other)
        }
        for function in compiled[name].values():
            for node in ast.walk(function):
                if isinstance(node, ast.Name) and node.id in foreign:
                    yield f"{name}:{node.lineno}: kernel {function.name} calls {node.id} of {foreign[node.id]}"


RULES: tuple[Callable[[Source], Iterator[str]], ...] = (
    floors, packages, homes, cycles, sizes, kernels_alone,
)  # fmt: skip
