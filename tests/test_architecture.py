"""The floor plan holds: read from the sources, and the checker itself is shown to find each kind of violation."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import floorplan
from tests.floorplan import RULES, Source

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("numba", "simpy", "onnx", "sklearn", "pandas")
Rule = Callable[[Source], Iterator[str]]


@pytest.fixture(scope="module")
def source() -> Source:
    return floorplan.read(ROOT / "archsim")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_archsim_keeps_the_rule(rule: Rule, source: Source) -> None:
    assert list(rule(source)) == []


def test_every_room_is_read(source: Source) -> None:
    """A checker that reads nothing finds nothing."""
    rooms = {module.room for module in source.modules.values()}
    assert {"errors", "kernels", "workload", "energy", "memory", "accelerators", "run"} <= rooms
    assert sum(len(module.imports) for module in source.modules.values()) > 100


VIOLATIONS: dict[str, tuple[Rule, dict[str, str], str]] = {
    "up": (
        floorplan.floors,
        {"workload/a.py": "from archsim.energy import b", "energy/__init__.py": ""},
        "workload may not import energy",
    ),
    "up-for-types": (
        floorplan.floors,
        {"sim/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from archsim.memory import base"},
        "sim may not import memory",
    ),
    "up-inside-function": (
        floorplan.floors,
        {"memory/a.py": "def f():\n    import archsim.accelerators.base"},
        "memory may not import accelerators",
    ),
    "siblings": (
        floorplan.floors,
        {"approx/a.py": "from archsim.energy import b", "energy/__init__.py": ""},
        "approx may not import energy",
    ),
    "inner-order": (
        floorplan.floors,
        {"config.py": "from archsim import run", "run.py": ""},
        "config may not import run",
    ),
    "public-names-from-below": (
        floorplan.floors,
        {"run.py": "from archsim import simulate", "__init__.py": ""},
        "run may not import __init__",
    ),
    "kernels-import-archsim": (
        floorplan.floors,
        {"kernels/a.py": "from archsim.errors import X", "errors.py": ""},
        "kernels may not import errors",
    ),
    "relative": (floorplan.floors, {"memory/a.py": "from . import base"}, "relative import"),
    "unknown-room": (floorplan.floors, {"helpers/a.py": ""}, "no floor"),
    "machine-imports-machine": (
        floorplan.packages,
        {"accelerators/a/__init__.py": "", "accelerators/b/x.py": "from archsim.accelerators.a import y"},
        "names the package accelerators.a",
    ),
    "report-names-machine": (
        floorplan.packages,
        {"accelerators/a/config.py": "", "report/x.py": "import archsim.accelerators.a.config"},
        "names the package accelerators.a",
    ),
    "pandas": (floorplan.homes, {"run.py": "import pandas as pd"}, "pandas may be imported in report only"),
    "pandas-at-top-of-result": (floorplan.homes, {"result.py": "import pandas"}, "pandas may be imported"),
    "simpy": (floorplan.homes, {"workload/a.py": "def f():\n    from simpy import Event"}, "simpy may be imported"),
    "cocotb": (floorplan.homes, {"report/a.py": "import cocotb.triggers"}, "cocotb may be imported in cosim only"),
    "cycle": (
        floorplan.cycles,
        {"energy/a.py": "from archsim.energy.b import x", "energy/b.py": "def f():\n    import archsim.energy.a"},
        "energy.a -> energy.b -> energy.a",
    ),
    "long-file": (floorplan.sizes, {"run.py": "x = 1\n" * 401}, "401 lines"),
    "long-function": (floorplan.sizes, {"run.py": "def f():\n" + "    x = 1\n" * 80}, "f has 81 lines"),
    "foreign-kernel": (
        floorplan.kernels_alone,
        {
            "kernels/a.py": "@njit\ndef inner(x):\n    pass",
            "kernels/b.py": "from archsim.kernels.a import inner\n@njit(cache=True)\ndef outer(x):\n    inner(x)",
        },
        "kernel outer calls inner of kernels.a",
    ),
    "foreign-kernel-beside-a-kernel-file": (
        floorplan.kernels_alone,
        {
            "memory/m/steps.py": "@njit\ndef inner(x):\n    pass",
            "memory/m/kernel.py": "from archsim.memory.m.steps import inner\n@njit\ndef outer(x):\n    inner(x)",
        },
        "kernel outer calls inner of memory.m.steps",
    ),
    "kernel-of-another-package": (
        floorplan.kernels_alone,
        {
            "memory/a/kernel.py": "@njit\ndef inner(x):\n    pass",
            "memory/b/kernel.py": "from archsim.memory.a.kernel import inner\n@njit\ndef outer(x):\n    inner(x)",
        },
        "kernel outer calls inner of memory.a.kernel",
    ),
}


def _tree(folder: Path, files: dict[str, str]) -> Source:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return floorplan.read(folder)


@pytest.mark.parametrize("case", VIOLATIONS)
def test_violation_is_found(case: str, tmp_path: Path) -> None:
    rule, files, message = VIOLATIONS[case]
    found = list(rule(_tree(tmp_path, files)))
    assert len(found) == 1 and message in found[0]


ALLOWED = {
    "result.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\n"
    "def to_frames():\n    import pandas",
    "run.py": "import simpy\nfrom archsim import config, result\nfrom archsim.accelerators import base",
    "config.py": "from archsim.result import x",
    "memory/base.py": "import archsim.memory as here\nfrom archsim.energy import account",
    "memory/__init__.py": "",
    "accelerators/a/kernel.py": "from archsim.kernels._jit import njit\nfrom archsim.accelerators.a.config import C",
    "accelerators/a/config.py": "",
    "memory/m/kernel.py": "from archsim.memory.m.kernel_parts import inner\n@njit\ndef outer(x):\n    inner(x)",
    "memory/m/kernel_parts.py": "@njit\ndef inner(x):\n    pass",
    "kernels/_jit.py": "import numba",
    "kernels/conv.py": "from archsim.kernels._jit import njit",
    "cli.py": "from archsim.run import simulate",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_allowed_imports_are_not_reported(rule: Rule, tmp_path: Path) -> None:
    assert list(rule(_tree(tmp_path, ALLOWED))) == []


def test_cocotb_is_imported_in_cosim_tests_only() -> None:
    for path in sorted((ROOT / "tests").rglob("*.py")):
        names = {i.target.split(".")[0] for i in floorplan.imports_of(ast.parse(path.read_text(encoding="utf-8")))}
        assert "cocotb" not in names or "cosim" in path.parts, path


LISTING = f"""
import sys
from archsim.cli import main
sys.argv = ["archsim", "list"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
loaded = sorted(set(sys.modules) & set({HEAVY!r}))
assert not loaded, f"archsim list loads {{loaded}}"
"""


def test_listing_loads_no_heavy_package() -> None:
    """Starting up stays quick: heavy packages are imported in the functions that need them."""
    done = subprocess.run([sys.executable, "-c", LISTING], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "eyeriss" in done.stdout and "chip-jssc17" in done.stdout  # the machines were found, not skipped
