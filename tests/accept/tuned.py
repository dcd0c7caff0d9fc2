"""Shipped tuning tasks at full size: found once for the sources of the package, kept, taken up again after a stop."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from archsim.config import Study
from archsim.report.folder import write_folder
from archsim.tuner.spec import load_tune
from archsim.tuner.tuning import tune
from tests.accept.report import source_key

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("approx", "energy", "kernels", "sim", "tuner", "workload")
MODULES = ("config", "counts", "platform", "result", "seating", "session", "threads", "units", "yamlfile")
SHARED = (*(f"archsim/{name}" for name in ROOMS), *(f"archsim/{name}.py" for name in MODULES), "workloads/networks")


def sources_of(study: Study, *files: Path) -> tuple[str, ...]:
    """Return what runs of a study can see of the project: shared rooms, machines, memory, network, `files`."""
    kinds = {spec.kind for spec in study.machines.values()}
    packages = [f"archsim/accelerators/{kind}" for kind in kinds] + [f"archsim/memory/{study.memory.kind}"]
    beside = [path for room in ("accelerators", "memory") for path in (ROOT / "archsim" / room).glob("*.py")]
    own = [*files, *beside, *(ROOT / "workloads").rglob(study.workload.network)]
    return (*SHARED, *sorted(packages), *sorted(str(path.relative_to(ROOT)) for path in own))


def tuned(name: str) -> Path:
    """Return the result folder of a shipped task; beside it stands how many seconds all its runs took."""
    task, configs = load_tune(f"{name}.yaml"), ROOT / "configs"
    sources = sources_of(task.study, configs / f"{name}.yaml", configs / task.spec.study)
    home = ROOT / ".cache" / "accept" / f"tune-{source_key(ROOT, sources)}"
    home.mkdir(parents=True, exist_ok=True)
    folder, clock, started = home / name, _clock(home / name), time.monotonic()
    before = float(clock.read_text()) if clock.exists() else 0.0

    def note(*_: object) -> None:
        clock.write_text(str(before + time.monotonic() - started))

    if not folder.exists():
        found = tune(task, folder, progress=note)
        note()
        write_folder(found.files, folder, [])
    return folder


def seconds(folder: Path) -> float:
    """Return the wall time of all runs of a task."""
    return float(_clock(folder).read_text())


def curve(folder: Path) -> dict[str, Any]:
    """Return what a task found."""
    return dict(json.loads((folder / "curve.json").read_text()))


def _clock(folder: Path) -> Path:
    return folder.with_suffix(".seconds")
