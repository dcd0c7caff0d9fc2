"""What `archsim cosim` does: random cases, or tiles of real layers, through the RTL; waves of what does not agree."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from archsim.accelerators.base import Accelerator, AcceleratorConfig, known_accelerators
from archsim.accelerators.seat import Seat
from archsim.config import Study, check_layer_names, check_machine_settings, load_study
from archsim.cosim.job import Verdict
from archsim.cosim.simulator import build, choose_simulator, run, waves_of
from archsim.cosim.verilog import read_module, source_of
from archsim.errors import CosimError, MappingError, StudyError, did_you_mean
from archsim.memory.base import Memory, MemoryConfig, known_memories
from archsim.rtl import RtlBlock, RtlCase
from archsim.session import Session
from archsim.threads import Progress, limited_threads
from archsim.workload.bench import Workbench
from archsim.workload.params import Array
from archsim.yamlfile import YamlFile, parse_yaml, validate

BATCH_CASES = 250
"""Random cases per start of the simulator: often enough to show progress, seldom enough not to be felt."""
TILE_IMAGES = 16
"""Images of a study that tiles are drawn from."""

Owner = type[Accelerator] | type[Memory]
"""A machine or memory that lists blocks in `rtl`."""


@dataclass(frozen=True)
class Request:
    """What to run: random cases of a block, or tiles of layers of a study; `sets` are `field=value` texts."""

    block: str
    study: str | None
    layers: tuple[str, ...]
    tiles: int
    cases: int
    seed: int
    sets: tuple[str, ...]
    simulator: str | None
    folder: Path
    waves: bool


@dataclass(frozen=True)
class Row:
    """One line of the report: what was run, on which parameters, and what was found."""

    what: str
    parameters: Mapping[str, int]
    verdict: Verdict
    waves: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; `difference` is one line, or None."""
        found = self.verdict.difference
        return {
            "what": self.what,
            "parameters": dict(self.parameters),
            "cases": self.verdict.cases,
            "cycles": self.verdict.cycles,
            "results": self.verdict.results,
            "totals": self.verdict.totals,
            "difference": None if found is None else asdict(found) | {"text": str(found)},
            "waves": None if self.waves is None else str(self.waves),
        }


@dataclass(frozen=True)
class Bench:
    """A block on a simulator; files that are worth keeping go to `folder`."""

    block: RtlBlock
    simulator: str
    folder: Path
    waves: bool = False

    def check(self, what: str, parameters: Mapping[str, int], cases: Sequence[RtlCase]) -> Row:
        """Run cases; if one does not agree, run it again for its waves."""
        with tempfile.TemporaryDirectory() as scratch:
            place = self._kept(what) if self.waves else Path(scratch)
            built = build(self.block, parameters, self.simulator, waves_in=place if self.waves else None)
            verdict = run(built, cases, place)
            waves = waves_of(built, place) if self.waves else None
        if verdict.difference is not None and waves is None:
            waves = self._waves(what, parameters, cases, verdict.difference.case)
        return Row(what, parameters, verdict, waves)

    def _waves(self, what: str, parameters: Mapping[str, int], cases: Sequence[RtlCase], number: int) -> Path | None:
        """Return the waves of the case that does not agree: alone, or after the others if it needs them."""
        place = self._kept(what)
        built = build(self.block, parameters, self.simulator, waves_in=place)
        if run(built, cases[number : number + 1], place).difference is None:
            run(built, cases[: number + 1], place)
        return waves_of(built, place)

    def _kept(self, what: str) -> Path:
        place = self.folder / what.replace("/", "_")
        place.mkdir(parents=True, exist_ok=True)
        return place


def campaign(request: Request, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Run what was asked for; returns plain data, one row per layer or one for random cases.

    Raises: ArchsimError subclasses with one line.
    """
    owner, block = find_block(request.block)
    if request.study is not None and block.cases_from is None:
        raise CosimError(f"--study {request.study}: {block.name} belongs to no layer, it runs random cases only")
    if request.layers and request.study is None:
        raise CosimError(f"--layer {request.layers[0]} needs --study: random cases belong to no layer")
    bench = Bench(block, choose_simulator(request.simulator), request.folder, request.waves)
    told = progress or (lambda text, done, total: None)
    if request.study is None:
        rows = random_rows(bench, configuration(owner, request.sets), request.cases, request.seed, told)
    else:
        study = load_study(request.study, request.sets)
        rows = study_rows(bench, study, request.layers, request.tiles, request.seed, told)
    return [row.to_dict() for row in rows]


def configuration(owner: Owner, sets: Sequence[str]) -> AcceleratorConfig | MemoryConfig:
    """Return the owner's first preset with fields set as `field=value`, values in YAML. Raises: StudyError."""
    fields = dict(next(iter(owner.presets.values())))
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals:
            raise StudyError(f"--set needs field=value, got {text!r}")
        fields[name] = parse_yaml(value, f"--set {name}").data
    return validate(owner.Config, fields, YamlFile(f"--set of {owner.kind}", fields))


def block_rows() -> list[dict[str, Any]]:
    """Return every block with its machine, or memory, and the parameters of the owner's first preset."""
    return [
        {"block": name, "machine": owner.kind, "parameters": block.parameters(configuration(owner, ()))}
        for name, (owner, block) in known_blocks().items()
    ]


def inventory_rows(name: str | None = None) -> list[dict[str, Any]]:
    """Return operators and registers of one block or of all, with the parameters of their owners' first presets."""
    from archsim.cosim.inventory import inventory_rows as rows_of

    blocks = [find_block(name)] if name else list(known_blocks().values())
    modules = [
        (read_module(source_of(block.name)), block.parameters(configuration(owner, ()))) for owner, block in blocks
    ]
    return rows_of(modules)


def known_blocks() -> dict[str, tuple[Owner, RtlBlock]]:
    """Return every block with the machine or memory it belongs to."""
    owners: list[Owner] = [*known_accelerators().values(), *known_memories().values()]
    return {block.name: (owner, block) for owner in owners for block in owner.rtl}


def find_block(name: str) -> tuple[Owner, RtlBlock]:
    """Return a block and its owner. Raises: CosimError with the nearest and the allowed names."""
    blocks = known_blocks()
    if name not in blocks:
        raise CosimError(f"unknown block {name!r}{did_you_mean(name, blocks)}")
    return blocks[name]


def random_rows(bench: Bench, config: Any, cases: int, seed: int, progress: Progress) -> Iterator[Row]:
    """Run random cases; yields one row, after all of them or the first that does not agree."""
    parameters, source = bench.block.parameters(config), bench.block.random_cases(config, seed)
    whole, waves = Verdict(), None
    for done in range(0, cases, BATCH_CASES):
        progress("random cases", done, cases)
        row = bench.check(f"random-{done}", parameters, list(islice(source, min(BATCH_CASES, cases - done))))
        found, waves = row.verdict.difference, row.waves
        whole.add(replace(row.verdict, difference=found and replace(found, case=found.case + done)))
        if found:
            break
    yield Row(f"random, seed {seed}", parameters, whole, waves)


def study_rows(
    bench: Bench, study: Study, layers: Sequence[str], tiles: int, seed: int, progress: Progress
) -> Iterator[Row]:
    """Run `tiles` random tiles of every layer named (default: all that the block can show), one row each.

    Raises: StudyError for a study without images; CosimError if no layer runs on the block's machine; MappingError
    for a layer it cannot show.
    """
    with limited_threads(None):
        inputs = layer_inputs(bench.block, study, layers, progress)
    for done, (seat, x) in enumerate(inputs):
        progress("layers", done, len(inputs))
        cases = tiles_of(bench.block, seat, x, tiles, seed)
        row = bench.check(seat.layer.name, bench.block.parameters(seat.machine.config, seat.layer), cases)
        yield row
        if row.verdict.difference is not None:
            return


def tiles_of(block: RtlBlock, seat: Seat, x: Array, tiles: int, seed: int) -> list[RtlCase]:
    """Return random tiles of a layer with its own codes. Raises: MappingError."""
    assert block.cases_from is not None, "campaign() refuses studies for other blocks"
    return list(block.cases_from(seat.machine.config, seat.layer, seat.plan, x, seat.stored, tiles, seed))


def layer_inputs(
    block: RtlBlock, study: Study, layers: Sequence[str], progress: Progress | None = None
) -> list[tuple[Seat, Array]]:
    """Return layers of a study on their machine with the codes that enter them: those named, or all that can be."""
    bench = Workbench(study.workload, study.folder)
    if bench.data is None:
        raise study.error(("workload",), "needs data: tiles are cut from what real images make of the layers")
    check_layer_names(study, bench.network)
    check_machine_settings(study)
    session = Session(bench, study, study.assign, progress)
    known = [layer.name for layer in bench.network.layers if block in _rtl(session, layer.name)]
    for name in layers:
        if name not in known:
            raise CosimError(f"no layer {name!r} on a machine with the block {block.name}{did_you_mean(name, known)}")
    wanted = list(layers) or known

    def look(seat: Seat, x: Array) -> tuple[Seat, Array] | None:
        return (seat, x) if seat.layer.name in wanted else None

    seen = session.watch(study.setting, min(TILE_IMAGES, len(bench.data.images)), look)
    found = [(seen[name][0][0], np.concatenate([x for _, x in seen[name]])) for name in wanted]
    shown = [one for one in found if layers or _can_be_shown(block, *one)]
    if not shown:
        raise CosimError(f"no layer of {study.name} can be shown on the block {block.name}")
    return shown


def _rtl(session: Session, layer: str) -> tuple[RtlBlock, ...]:
    """Return the blocks of the machine a layer runs on; the vector unit has none."""
    machine = session.seating.machines.get(session.seating.where[layer])
    return machine.rtl if machine else ()


def _can_be_shown(block: RtlBlock, seat: Seat, x: Array) -> bool:
    try:
        tiles_of(block, seat, x[: seat.plan.batch], 1, 0)
    except MappingError:
        return False
    return True
