"""A tuning run from file to result: a method solves the bounds, unseen images judge, studies and a curve come out."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from archsim import __version__, assets
from archsim.approx import Setting
from archsim.errors import StudyError
from archsim.threads import Progress, limited_threads
from archsim.tuner.method import Design, Solution, find_method
from archsim.tuner.problem import Problem
from archsim.tuner.settings import layer_setting
from archsim.tuner.spec import TuneRequest
from archsim.tuner.store import Store
from archsim.workload.bench import CALIBRATION_IMAGES, Workbench
from archsim.workload.spec import DataSpec
from archsim.yamlfile import validate

SCHEMA = 1
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class TuneResult:
    """What a tuning run found: `curve` is `curve.json`, `files` all of the result folder by name, as text or rows."""

    curve: Mapping[str, Any]
    files: Mapping[str, str | Rows]


def tune(
    request: TuneRequest, folder: Path, *, threads: int | None = None, progress: Progress | None = None
) -> TuneResult:
    """Solve every bound of a tune file; `folder` is where its files will lie, the store of trials stands beside it.

    Raises: ArchsimError subclasses with one line that names file, field, rule and value.
    """
    told = progress or (lambda text, done, total: None)
    spec, study = request.spec, request.study
    with request.source.errors_at(("tune", "method")):
        method = find_method(spec.method)
    options = validate(method.Options, spec.options, request.source, ("tune", "options"))
    calibration = study.workload.calibration or _first_images(spec.optimise)
    store = folder.parent / (spec.store or f"{request.name}.sqlite")
    if folder.resolve() in store.resolve().parents:
        raise request.source.error(("tune", "store"), f"must not lie in the result folder {folder}, which is replaced")
    with request.source.errors_at(("tune", "study")):
        Workbench(study.workload, study.folder).network  # noqa: B018  its errors are not those of the images
    with limited_threads(threads), Store(store) as trials:
        with request.source.errors_at(("tune", "optimise")):
            problem = Problem(study, spec.optimise, calibration, study.workload.batch, trials, progress)
        with request.source.errors_at(("tune", "test")):
            unseen = Problem(study, spec.test, calibration, spec.cost_images, trials, progress)
        if hasattr(method, "design"):
            return _designed(request, method, (problem, unseen), options, told, folder)
        if not spec.max_loss_points:
            raise request.source.error(("tune",), f"method {spec.method} needs max_loss_points, as [0, 1]")
        with request.source.errors_at(("tune", "study")):
            problem.check_modes()
        try:
            solutions, evaluations = method.solve(problem, spec.max_loss_points, options, told)
        except StudyError as error:
            raise request.source.error(("tune", "options"), error.rule) from error
        points = []
        for done, solution in enumerate(solutions):
            told("unseen images", done, len(solutions))
            points.append(_point(solution, problem, unseen))
        curve = _curve(request, problem, unseen, points, evaluations)
    return TuneResult(curve, _files(request, calibration, solutions, curve, folder))


def _designed(
    request: TuneRequest, method: Any, problems: tuple[Problem, Problem], options: Any, told: Progress, folder: Path
) -> TuneResult:
    """Let a method design machines: a table of figures, and a study of each."""
    try:
        designs, evaluations = method.design(*problems, options, told)
    except StudyError as error:
        raise request.source.error(("tune", "options"), error.rule) from error
    rows = [{**design.row, "study": f"design-{design.name}/study.yaml"} for design in designs]
    curve = {
        "schema": SCHEMA,
        "archsim": __version__,
        "tune": {"name": request.name, **request.spec.model_dump()},
        "designs": rows,
        "evaluations": {"pictures": evaluations, "images": problems[0].images},
    }
    files: dict[str, str | Rows] = {"curve.json": json.dumps(curve, indent=1) + "\n", "curve.csv": rows}
    for design in designs:
        name = f"design-{design.name}"
        files[f"{name}/study.yaml"] = _design_text(request, design, folder / name)
    return TuneResult(curve, files)


def _design_text(request: TuneRequest, design: Design, folder: Path) -> str:
    """Return the study with the machine as designed."""
    data = copy.deepcopy(request.study.source.data)
    data["name"] = f"{request.study.name}-{design.name}"
    for machine in data["platform"]["accelerators"].values():
        machine.update(design.fields)
    data["knobs"] = {layer: dict(levels) for layer, levels in design.knobs.items()}
    data.pop("levels", None)
    _point_files(data, request.study.folder, folder)
    head = f"# Designed by archsim tune ({request.spec.method}): {design.name}.\n"
    return head + yaml.safe_dump(data, sort_keys=False, width=120, default_flow_style=None)


def _point_files(data: dict[str, Any], beside: Path, folder: Path) -> None:
    """Name network, prices and images that lie beside the study from `folder`."""
    workload = data["workload"]
    _point_at(workload, "network", beside, folder)
    for machine in data["platform"]["accelerators"].values():
        _point_at(machine, "prices", beside, folder)
    for key in ("data", "calibration"):
        if isinstance(workload.get(key), dict):
            _point_at(workload[key], "file", beside, folder)


def _first_images(data: DataSpec) -> DataSpec:
    """Return what calibrates a study that does not say: the first images of those it is tuned on."""
    return data.model_copy(update={"images": min(CALIBRATION_IMAGES, data.images)})


def setting_of(solution: Solution) -> Setting:
    """Return the setting a solution stands for."""
    return {name: layer_setting(solution.knob, rows) for name, rows in solution.rows.items() if any(rows)}


def _point(solution: Solution, problem: Problem, unseen: Problem) -> dict[str, Any]:
    """Return one point of the curve: on the images it was found on, on unseen ones, in time and energy."""
    filters = [row for rows in solution.rows.values() for row in rows]
    return {
        "max_loss_points": solution.max_loss_points,
        **_figures(setting_of(solution), problem, unseen),
        "layers_approximated": sum(any(rows) for rows in solution.rows.values()),
        "layers": len(solution.rows),
        "filters_approximated": sum(row is not None for row in filters),
        "filters": len(filters),
        "steps": solution.steps,
        "study": f"{_folder_name(solution)}/study.yaml",
    }


def _figures(setting: Setting, problem: Problem, unseen: Problem) -> dict[str, Any]:
    """Return what a setting does to the images of the search and to unseen ones, and what it costs."""
    found, tested, totals = problem.evaluate(setting), unseen.evaluate(setting), unseen.cost(setting)
    return {
        "top1": found.top1,
        "loss_points": 100 * (problem.evaluate({}).top1 - found.top1),
        "test_top1": tested.top1,
        "test_loss_points": 100 * (unseen.evaluate({}).top1 - tested.top1),
        "macs_done": found.macs_done,
        "macs_done_share": found.macs_done / problem.macs_dense,
        "test_macs_done_share": tested.macs_done / unseen.macs_dense,
        "latency_us_per_image": totals.latency_us / totals.images_timed,
        "energy_pJ_per_image": totals.energy_pJ / totals.images_timed,
    }


def _curve(
    request: TuneRequest,
    problem: Problem,
    unseen: Problem,
    points: Sequence[Mapping[str, Any]],
    evaluations: Mapping[str, int],
) -> dict[str, Any]:
    """Return `curve.json`."""
    return {
        "schema": SCHEMA,
        "archsim": __version__,
        "tune": {"name": request.name, **request.spec.model_dump()},
        "exact": _figures({}, problem, unseen),
        "points": list(points),
        "evaluations": {**evaluations, "images": problem.images},
    }


# files ---------------------------------------------------------------------------------------------------------------
def _files(
    request: TuneRequest,
    calibration: DataSpec,
    solutions: Sequence[Solution],
    curve: Mapping[str, Any],
    folder: Path,
) -> dict[str, str | Rows]:
    """Return the curve, and for every bound a study with its tables of levels."""
    files: dict[str, str | Rows] = {"curve.json": json.dumps(curve, indent=1) + "\n", "curve.csv": curve["points"]}
    for solution in solutions:
        name = _folder_name(solution)
        tables = {layer: f"{layer}.csv" for layer, rows in solution.rows.items() if any(rows)}
        files[f"{name}/study.yaml"] = _study_text(request, calibration, solution, tables, folder / name)
        for layer, table in tables.items():
            files[f"{name}/{table}"] = layer_setting(solution.knob, solution.rows[layer]).tables[solution.knob]
    return files


def _folder_name(solution: Solution) -> str:
    return f"loss-{solution.max_loss_points:g}"


def _study_text(
    request: TuneRequest, calibration: DataSpec, solution: Solution, tables: Mapping[str, str], folder: Path
) -> str:
    """Return the study with the levels found: files it names are named so that they are found from `folder`."""
    data, study = copy.deepcopy(request.study.source.data), request.study
    data["name"] = f"{study.name}-{_folder_name(solution)}"
    knob = solution.knob
    levels = {name: [int(row is not None) for row in rows] for name, rows in solution.rows.items()}
    data["knobs"] = {name: {**data.get("knobs", {}).get(name, {}), knob: one} for name, one in levels.items()}
    data["levels"] = {**data.get("levels", {}), knob: dict(tables)}
    workload = data["workload"]
    if not workload.get("calibration"):
        workload["calibration"] = calibration.model_dump(exclude_none=True)
    for other, files in data["levels"].items():
        for layer in files if other != knob else ():
            _point_at(files, layer, study.folder, folder)
    _point_files(data, study.folder, folder)
    head = (
        f"# Found by archsim tune ({request.spec.method}): at most {solution.max_loss_points:g} points lost, "
        f"{solution.loss_points:.2f} on the images it was found on.\n"
    )
    return head + yaml.safe_dump(data, sort_keys=False, width=120, default_flow_style=None)


def _point_at(node: dict[str, Any], key: str, beside: Path, folder: Path) -> None:
    """Name a file that lies beside the tuned study from `folder`; others are found wherever a study lies."""
    name = node.get(key)
    if isinstance(name, str) and assets.is_file(beside / name) and beside.resolve() not in _everywhere():
        node[key] = os.path.relpath(beside / name, folder)


def _everywhere() -> list[Path]:
    """Return the folders that are searched for every study."""
    return [folder.resolve() for folder in assets.search_folders()]
