"""The hallway: a study goes in, a result comes out. One session, or two that share images and seeds, and provenance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from archsim import __version__
from archsim.accelerators.clockwork import simulate_batch
from archsim.approx import Setting
from archsim.config import Study, check_layer_names, check_machine_settings
from archsim.memory.base import RequestLog
from archsim.result import Comparison, LayerResult, RunResult, Totals, quality_of, ratios
from archsim.seating import VECTOR_UNIT
from archsim.session import Session
from archsim.sim import Timeline
from archsim.threads import Progress, limited_threads
from archsim.units import cycles_to_us
from archsim.workload.bench import CALIBRATION_IMAGES, Workbench


def simulate(
    study: Study,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    timeline: Timeline | None = None,
    requests: RequestLog | None = None,
) -> RunResult:
    """Simulate a study and, if it names one, its second assignment on the same images and seeds.

    A `timeline` receives the slices of the first timed batch, `requests` what it asks of the memory.
    Raises: ArchsimError subclasses with one line that names file, field, rule and value.
    """
    with limited_threads(threads):
        bench = Workbench(study.workload, study.folder)
        with study.source.errors_at(("workload", "network")):
            bench.as_loaded  # noqa: B018 - loading here points errors at this field
        with study.source.errors_at(("workload", "data")):
            bench.check_data()
        with study.source.errors_at(("workload", "calibration")):
            bench.check_calibration()
        check_layer_names(study, bench.network)
        check_machine_settings(study)
        main = Session(bench, study, study.assign, progress)
        accuracy = main.quality(study.setting)
        totals, layers = main.cost(study.setting)
        if timeline is not None or requests is not None:
            _record(main, study.setting, timeline, requests)
        second = _second(bench, study, totals, progress)
        return RunResult(
            study=study.to_dict(),
            totals=totals,
            layers=layers,
            accuracy=accuracy,
            quality=quality_of(accuracy) or main.likeness(study.setting),
            compare_to=second,
            provenance=_provenance(main, [*layers, *(second.layers if second else ())]),
        )


def _record(session: Session, setting: Setting, timeline: Timeline | None, requests: RequestLog | None) -> None:
    """Simulate the first timed batch once more, layers one after another, and write down what happens when."""
    start_us = 0.0
    for seat, activity in session.first_batch(setting):
        clock_MHz = seat.machine.config.clock_MHz
        if timeline is not None:
            timeline.rebase(clock_MHz, start_us, seat.machine_name)
        if requests is not None:
            requests.origin_us = start_us
        timed = simulate_batch(
            seat.machine, seat.clocked_memory, seat.layer, seat.plan, activity, timeline, seat.addresses, requests
        )
        start_us += cycles_to_us(timed.cycles, clock_MHz)


def _second(bench: Workbench, study: Study, totals: Totals, progress: Progress | None) -> Comparison | None:
    """Simulate the second assignment of a study, if it names one."""
    if study.compare_assign is None:
        return None
    other = Session(bench, study, study.compare_assign, progress)
    accuracy = other.quality(study.setting)
    other_totals, layers = other.cost(study.setting)
    quality = quality_of(accuracy) or other.likeness(study.setting)
    return Comparison(other_totals, layers, quality, ratios(other_totals, totals))


def _provenance(session: Session, layers: Sequence[LayerResult]) -> dict[str, Any]:
    """Return where the figures of `layers` come from: versions, hashes, workload identity, prices, notes."""
    study, network, spec = session.study, session.network, session.study.workload
    used = {layer.accelerator for layer in layers}
    machines = {name: machine for name, machine in session.seating.machines.items() if name in used}
    return {
        "archsim": __version__,
        "config_hash": study.config_hash,
        "seed": study.seed,
        "workload": {
            "network": network.name,
            "hash": network.workload_hash,
            "macs_dense_per_image": network.macs_dense,
            "weights": network.weight_count,
            "input_shape": list(network.shapes[network.input]),
            "batch": spec.batch,
            "padding": "MACs count padding taps and zero weights",
            "data": session.bench.data.source if session.bench.data else None,
        },
        "machines": {
            name: {
                "about": study.machines[name].about(machine),
                "area_mm2": machine.config.area_mm2,
                "columns": [column._asdict() for column in machine.columns],
            }
            for name, machine in machines.items()
        },
        "memory": {
            "about": study.memory.about(session.seating.memory),
            "columns": [column._asdict() for column in session.seating.memory.columns],
        },
        "prices": {
            **{name: asdict(machine.prices) for name, machine in machines.items()},
            "memory": asdict(session.seating.memory.prices),
            VECTOR_UNIT: asdict(session.seating.vector_prices),
        },
        "notes": [*network.notes, *_notes(session, layers)],
    }


def _nodes(session: Session, layers: Sequence[LayerResult]) -> list[str]:
    """Return a warning if energies of the machines that took part are priced for different technologies."""
    used = {layer.accelerator for layer in layers}
    tables = {name: machine.prices for name, machine in session.seating.machines.items() if name in used}
    if len({table.technology_nm for table in tables.values()}) <= 1:
        return []
    nodes = {name: f"{one.technology_nm} nm" if one.technology_nm else "not stated" for name, one in tables.items()}
    told = ", ".join(f"{name} {node}" for name, node in nodes.items())
    return [f"energies are priced at different nodes ({told}): scale_prices_to_nm makes them one"]


def _without_images(session: Session, layers: Sequence[LayerResult]) -> list[str]:
    """Return what the figures of each machine follow from where no images were given."""
    machines = session.seating.machines
    used = [name for name in machines if any(layer.accelerator == name for layer in layers)]
    expecting = [name for name in used if machines[name].can_expect]
    others = [name for name in used if name not in expecting]
    notes = ["no images: accuracy is not evaluated"]
    if expecting:
        notes.append(f"{', '.join(expecting)}: counts follow from zero fractions (0 where none is stated)")
    if others:
        what = "weights and feature maps" if session.network.shape_only else "feature maps"
        notes.append(f"{', '.join(others)}: counts follow from random {what}: savings are not those of a trained net")
    return notes


def _notes(session: Session, layers: Sequence[LayerResult]) -> list[str]:
    """Return what a reader must know to take the figures for what they are."""
    spec, notes = session.study.workload, []
    if spec.data is not None and spec.calibration is None:
        notes.append(f"calibrated on evaluation images (the first {CALIBRATION_IMAGES} of data)")
    if spec.data is None:
        notes += _without_images(session, layers)
    if VECTOR_UNIT in session.seating.where.values() and session.study.vector_unit.elements_per_cycle is None:
        notes.append("pooling and other vector layers take no time (vector unit 'free'), prices assumed")
    notes += _nodes(session, layers)
    notes += [f"memory: {note}" for note in session.seating.memory.notes(session.study.setting)]
    for name, machine in session.seating.machines.items():
        mine = {layer.name: layer.metrics for layer in layers if layer.accelerator == name}
        notes += [f"{name}: {note}" for note in machine.notes(mine)] if mine else []
    return notes
