"""What a method may ask: quality and MACs of a setting, profiles of a knob, cost. Answers are remembered in a store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from archsim import __version__
from archsim.accelerators.base import Accelerator, Candidate, Profiled
from archsim.accelerators.seat import Seat
from archsim.approx import Knob, LayerSetting, Setting
from archsim.config import Study, check_layer_names
from archsim.errors import StudyError
from archsim.result import Totals
from archsim.session import Session
from archsim.threads import Progress
from archsim.tuner.settings import beside, memory_levels
from archsim.tuner.store import Store, TrialKey
from archsim.workload.bench import Workbench
from archsim.workload.layers import Layer
from archsim.workload.params import Array
from archsim.workload.spec import DataSpec
from archsim.yamlfile import validate

KEPT_BYTES = 2**30
"""Room for ofmaps of earlier settings: a search changes one layer at a time, and what lies before it stays."""
SAMPLE_IMAGES = 32
"""Images whose partial sums candidates are taken from: the first ones, whatever memory and threads there are."""


@dataclass(frozen=True)
class Trial:
    """What a setting does to the images: share of right labels, MACs done by layer."""

    top1: float
    macs_by_layer: Mapping[str, int]

    @property
    def macs_done(self) -> int:
        """MACs of all layers."""
        return sum(self.macs_by_layer.values())


@dataclass(frozen=True)
class Likeness:
    """Peak signal-to-noise ratio to the exact pictures: mean, worst and best."""

    mean_dB: float
    lowest_dB: float
    highest_dB: float

    def to_dict(self, what: str) -> dict[str, float]:
        """Return the three as figures of `what`."""
        return {f"{what}_{name}": value for name, value in asdict(self).items()}


@dataclass(frozen=True, eq=False)
class LayerProfile:
    """Candidates of one layer, the exact one first, and what each does to every filter."""

    candidates: Sequence[Candidate]
    profiled: Sequence[Profiled]


class Problem:
    """A study's machines and network on some images; every answer is measured once and kept in the store.

    `measured` counts the passes of all images through the network that were really made.
    """

    def __init__(
        self,
        study: Study,
        data: DataSpec,
        calibration: DataSpec,
        timed_images: int,
        store: Store,
        progress: Progress | None = None,
    ) -> None:
        changes = {"data": data, "calibration": calibration, "timed_images": timed_images}
        self.study = study.replace(workload=study.workload.model_copy(update=changes))
        self.bench = Workbench(self.study.workload, study.folder)
        if data.images % study.workload.batch:
            raise StudyError(f"images must be a multiple of batch {study.workload.batch}, got {data.images}")
        self.bench.check_data()
        assert self.bench.data is not None
        check_layer_names(self.study, self.bench.network)
        self.session = Session(self.bench, self.study, study.assign, progress, KEPT_BYTES)
        self._memory_levels = memory_levels(study.setting, self.session.seating.memory)
        self.store, self.measured = store, 0
        self._images = _digest(self.bench.data.images, self.bench.data.labels)
        self._config = _config_hash(self.session, _digest(self.bench.calibration_images))

    @property
    def images(self) -> int:
        """How many images there are."""
        return self.study.workload.images

    @property
    def macs_dense(self) -> int:
        """Dense MACs of all images."""
        return self.images * self.bench.network.macs_dense

    def evaluate(self, setting: Setting) -> Trial:
        """Return quality and MACs of a setting over all images, beside the levels of the study's memory."""
        setting = beside(self._memory_levels, setting)
        key = self._key("quality", _hash(_plain(setting)))
        found = self.store.get(key)
        if found is None:
            accuracy = self.session.quality(setting)
            assert accuracy is not None
            found = {"top1": accuracy.top1, "macs_by_layer": self.session.macs_done(setting)}
            self.store.put(key, found)
            self.measured += 1
        return Trial(**found)

    def likeness(self, setting: Setting) -> Likeness:
        """Return how close pictures come to the exact ones. Raises: StudyError if the network makes none."""
        setting = beside(self._memory_levels, setting)
        key = self._key("likeness", _hash(_plain(setting)))
        found = self.store.get(key)
        if found is None:
            quality = self.session.likeness(setting)
            if quality is None:
                raise StudyError(f"{self.bench.network.name} makes no pictures: the method needs an image kernel")
            found = {"mean_dB": quality.value, "lowest_dB": quality.lowest_dB, "highest_dB": quality.highest_dB}
            self.store.put(key, found)
            self.measured += 1
        return Likeness(**found)

    def unit_energy(self, setting: Setting) -> float:
        """Return the energy on the machines of the timed images, memory left out."""
        setting = beside(self._memory_levels, setting)
        key = self._key(f"unit energy {self.study.workload.images_timed}", _hash(_plain(setting)))
        found = self.store.get(key)
        if found is None:
            _, layers = self.session.cost(setting)
            memory = self.session.seating.memory.prices.prices
            found = sum(pJ for one in layers for action, pJ in one.energy_pJ.items() if action not in memory)
            self.store.put(key, found)
        return float(found)

    def with_fields(self, fields: Mapping[str, Any]) -> Problem:
        """Return the problem with Config fields of its only machine changed. Raises: StudyError."""
        if len(self.study.machines) != 1:
            raise StudyError(f"a platform of one machine is needed, got {', '.join(self.study.machines)}")
        ((name, spec),) = self.study.machines.items()
        config = validate(type(spec.config), {**spec.config.model_dump(), **fields}, self.study.source)
        study = self.study.replace(machines={name: replace(spec, config=config)})
        workload = study.workload
        assert workload.data is not None and workload.calibration is not None
        return Problem(study, workload.data, workload.calibration, workload.images_timed, self.store)

    def cost(self, setting: Setting) -> Totals:
        """Return time and energy of the timed images."""
        return self.session.cost(beside(self._memory_levels, setting))[0]

    def machine_of(self, layer: Layer) -> Accelerator | None:
        """Return the machine a layer runs on; None for the vector unit."""
        return self.session.seating.machines.get(self.session.seating.where[layer.name])

    def knob_layers(self, name: str | None) -> tuple[Knob, list[Layer]]:
        """Return a knob that can be profiled and the layers on machines that have it.

        `name` None: the only such knob. Raises: StudyError naming the knobs there are.
        """
        layers = self.bench.network.layers
        found = {knob.name: knob for layer in layers for knob in _profiled_knobs(self.machine_of(layer))}
        if name is None and len(found) == 1:
            (name,) = found
        if name not in found:
            raise StudyError(
                f"no machine of the study can profile a knob {name!r} (there are: {', '.join(found) or 'none'})"
            )
        knob = found[name]
        return knob, [layer for layer in layers if knob in _profiled_knobs(self.machine_of(layer))]

    def check_modes(self) -> None:
        """Refuse machines that can profile a knob, but whose mode takes no levels of it. Raises: StudyError."""
        for layer in self.bench.network.layers:
            machine = self.machine_of(layer)
            for knob in _profiled_knobs(machine):
                assert machine is not None
                machine.check_setting(machine.config, {layer.name: LayerSetting({knob.name: 1})})

    def profile(self, layers: Sequence[Layer], grid: Mapping[str, Sequence[float]]) -> dict[str, LayerProfile]:
        """Return what candidates of `grid` do to every filter of the layers: one walk over all images, level 0."""
        names = {layer.name for layer in layers}
        keys = {name: self._key(f"profile {name}", _hash(grid)) for name in names}
        stored = {name: self.store.get(key) for name, key in keys.items()}
        if any(value is None for value in stored.values()):
            for name, profile in self._profile(names, grid).items():
                self.store.put(keys[name], _profile_data(profile))
            stored = {name: self.store.get(key) for name, key in keys.items()}
        return {layer.name: _profile_of(stored[layer.name]) for layer in layers}

    def _profile(self, names: set[str], grid: Mapping[str, Sequence[float]]) -> dict[str, LayerProfile]:
        """Take candidates from the first images and profile them on all."""

        def keep(seat: Seat, x: Array) -> tuple[Seat, Array] | None:
            return (seat, x) if seat.layer.name in names else None

        batch = self.study.workload.batch
        first = min(-(-SAMPLE_IMAGES // batch) * batch, self.images)
        samples = self.session.watch(self._memory_levels, first, keep)
        candidates = {name: _proposed(kept, grid) for name, kept in samples.items() if name in names}

        def measure(seat: Seat, x: Array) -> Sequence[Profiled] | None:
            if seat.layer.name not in names:
                return None
            return seat.machine.profile(seat.layer, seat.plan, x, seat.stored, candidates[seat.layer.name])

        self.measured += 1
        seen = self.session.watch(self._memory_levels, self.images, measure)
        return {name: LayerProfile(candidates[name], _summed(seen[name])) for name in names}

    def _key(self, kind: str, setting: str) -> TrialKey:
        return TrialKey(self.bench.network.workload_hash, self._config, setting, self._images, self.study.seed, kind)


def _profiled_knobs(machine: Accelerator | None) -> tuple[Knob, ...]:
    """Return the knobs of a machine that answers `profile`."""
    if machine is None or type(machine).profile is Accelerator.profile:
        return ()
    return tuple(knob for knob in machine.knobs if knob.grid)


def _proposed(kept: Sequence[tuple[Seat, Array]], grid: Mapping[str, Sequence[float]]) -> list[Candidate]:
    """Return the exact candidate of a layer, and those its machine proposes for what the sample sends into it."""
    seat, x = kept[0][0], np.concatenate([codes for _, codes in kept])
    exact = (None,) * int(seat.layer.M)  # type: ignore[attr-defined]
    return [exact, *seat.machine.candidates(seat.layer, seat.plan, x, seat.stored, grid)]


def _summed(blocks: Sequence[Sequence[Profiled]]) -> list[Profiled]:
    """Add up what every candidate did in the blocks of images."""
    first, *others = blocks
    whole = list(first)
    for block in others:
        whole = [one + other for one, other in zip(whole, block, strict=True)]
    return whole


def _profile_data(profile: LayerProfile) -> dict[str, Any]:
    """Return a profile as plain data."""
    return {
        "candidates": [list(candidate) for candidate in profile.candidates],
        "macs_done": [one.macs_done.tolist() for one in profile.profiled],
        "errors": [one.errors.tolist() for one in profile.profiled],
    }


def _profile_of(data: Mapping[str, Any]) -> LayerProfile:
    """Return the profile that `_profile_data` wrote."""
    pairs = zip(data["macs_done"], data["errors"], strict=True)
    profiled = [Profiled(np.array(macs, np.int64), np.array(errors, np.float64)) for macs, errors in pairs]
    return LayerProfile([tuple(candidate) for candidate in data["candidates"]], profiled)


def _plain(setting: Setting) -> dict[str, Any]:
    """Return a setting as plain data; a layer at level 0 counts as absent."""
    return {
        name: {"levels": dict(one.levels), "tables": {knob: list(map(dict, rows)) for knob, rows in one.tables.items()}}
        for name, one in setting.items()
        if not one.exact
    }


def _digest(*arrays: Array | None) -> str:
    """Return 16 hex digits over the contents of arrays."""
    digest = hashlib.sha256()
    for one in arrays:
        if one is not None:
            digest.update(f"{one.dtype} {one.shape}".encode() + np.ascontiguousarray(one).tobytes())
    return digest.hexdigest()[:16]


def _config_hash(session: Session, calibration: str) -> str:
    """Hash what of a study decides a trial besides the images, the setting and the seed; of price files the prices."""
    told, machines = session.study.to_dict(), session.seating.machines
    prices = {name: asdict(machine.prices) for name, machine in machines.items()}
    for key in ("name", "compare_to", "knobs", "levels", "seed"):
        told.pop(key)
    for key in ("data", "calibration", "timed_images", "max_memory_MB"):
        told["workload"].pop(key)
    return _hash({"archsim": __version__, "study": told, "prices": prices, "calibration": calibration})


def _hash(data: Any) -> str:
    """Return 16 hex digits over plain data."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
