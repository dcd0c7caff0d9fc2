"""From calibration images to programmed filters: profile, choice of patterns, design and screening of the hashes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import log2
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from archsim.accelerators.base import Sample, Stored
from archsim.accelerators.bloom.config import BloomConfig, UnitFilters
from archsim.accelerators.bloom.events import events_of, kinds_of
from archsim.accelerators.bloom.filters import TABLE_BITS, Bank, Patterns, answer_table, designed
from archsim.accelerators.bloom.floats import OPERANDS, Array, top_bits
from archsim.accelerators.bloom.h3 import Shape
from archsim.accelerators.bloom.products import run_products
from archsim.accelerators.bloom.profile import (
    Events,
    Operands,
    distinct_rows,
    frequent_events,
    frequent_products,
    key_counts,
    operands_of,
)
from archsim.accelerators.bloom.stream import stream_of
from archsim.approx import LayerSetting
from archsim.errors import StudyError
from archsim.workload.layers import Layer, OpStream
from archsim.workload.params import LayerParams

SCREEN_IMAGES = 16
"""Profile images that wide keys are screened on; narrow ones are screened on all."""
T = TypeVar("T")


@dataclass(frozen=True)
class Faults:
    """Wrong outputs put in at random: rate, least and greatest output of the profile, by kind of unit.

    random: what is put out is another output of the same operation, not an extreme.
    """

    rates: Mapping[str, float]
    extremes: Mapping[str, tuple[float, float]]
    random: bool


@dataclass(frozen=True, eq=False)
class Filtered:
    """The filters of a layer's units, and the share of false hits among the profile's queries that miss."""

    banks: Mapping[str, Bank]
    screened: Mapping[str, float]


class Knowledge:
    """What the calibration images show of the operands; everything is worked out when first asked for."""

    def __init__(self, config: BloomConfig, samples: Sequence[Sample]) -> None:
        self.config, self.samples = config, {one.layer.name: one for one in samples}
        self._known: dict[tuple[object, ...], Any] = {}
        self._lock = Lock()

    def _once(self, key: tuple[object, ...], work: Callable[[], T]) -> T:
        if key not in self._known:
            self._known[key] = work()
        found: T = self._known[key]
        return found

    def filtered(self, layer: Layer, level: int) -> Filtered:
        """Return the programmed filters of a layer at a level of the knob. Raises: MappingError."""
        with self._lock:
            apx, N = self.config.match_levels[level - 1]
            if isinstance(layer, OpStream):
                found = {kind: self._event_bank(layer.name, kind, apx, N) for kind in kinds_of(layer)}
            else:
                found = {"mul": self._product_bank(self._scope(layer.name), apx, N)}
            return Filtered({k: bank for k, (bank, _) in found.items()}, {k: rate for k, (_, rate) in found.items()})

    def extremes(self, layer: Layer) -> dict[str, tuple[float, float]]:
        """Return the least and the greatest output of every kind of unit over the profile."""
        with self._lock:
            if isinstance(layer, OpStream):
                events = self._events(layer.name)
                return {kind: (float(one.outputs.min()), float(one.outputs.max())) for kind, one in events.items()}
            return {"mul": product_extremes(self._operands(layer.name))}

    def _scope(self, name: str) -> tuple[str, ...]:
        """Return the layers that share patterns with one."""
        if self.config.profile == "layer":
            return (name,)
        return tuple(one for one, sample in self.samples.items() if not isinstance(sample.layer, OpStream))

    def _operands(self, name: str) -> Operands:
        sample = self.samples[name]
        assert sample.params.weights is not None
        return operands_of(stream_of(sample.layer), sample.x, sample.params.weights)

    def _events(self, name: str) -> dict[str, Events]:
        sample = self.samples[name]
        assert isinstance(sample.layer, OpStream)
        layer, x = sample.layer, sample.x
        return self._once(("events", name), lambda: events_of(layer, x))

    def _product_bank(self, names: tuple[str, ...], apx: int, N: int) -> tuple[Bank, float]:
        return self._once(("products", names, apx, N), lambda: self._design_products(names, apx, N))

    def _design_products(self, names: tuple[str, ...], apx: int, N: int) -> tuple[Bank, float]:
        unit = self.config.filters_of("mul", N)
        layers = [self._operands(name) for name in names]
        narrow = 2 * apx <= TABLE_BITS
        counted = self._once(("counts", names, apx), lambda: key_counts(layers, apx)) if narrow else None
        chosen = frequent_products(layers, apx, unit.patterns, self.config.representative, counted)
        screen = partial(_screen_counts, *counted) if counted else partial(_screen_products, layers)
        bank, rate = self._design(unit, "mul", apx, chosen, screen, names[0])
        return (with_table(bank) if narrow else bank), rate

    def _event_bank(self, name: str, kind: str, apx: int, N: int) -> tuple[Bank, float]:
        def design() -> tuple[Bank, float]:
            unit, events = self.config.filters_of(kind, N), self._events(name)[kind]
            chosen = frequent_events(events, apx, unit.patterns, unit.outputs, self.config.representative)
            return self._design(unit, kind, apx, chosen, partial(_screen_events, events, apx), name)

        return self._once(("event bank", name, kind, apx, N), design)

    def _design(
        self, unit: UnitFilters, kind: str, apx: int, chosen: Patterns, screen: Callable[[Bank], float], name: str
    ) -> tuple[Bank, float]:
        """Draw the hashes of one unit."""
        config = self.config
        chosen = replace(chosen, per_filter=config.patterns_per_filter or 0)
        _, _, outputs = chosen.by_filter()
        shape = Shape(len(outputs) if config.hash == "per_bf" else 1, unit.k, int(log2(unit.m)), OPERANDS[kind], apx)
        single, what = config.vector == "single", f"layer {name!r}, filters of {kind}"
        return designed(shape, chosen, config.hash_seed, config.fp_max_unit, screen, single=single, what=what)


def with_table(bank: Bank) -> Bank:
    """Return the bank with the answers to all keys worked out."""
    return replace(bank, table=answer_table(bank))


def _screen_counts(keys: Array, counts: Array, bank: Bank) -> float:
    """Return the share of false hits among the queries that miss, from how often every key occurs.

    Zero times another weight than those stored, answered by a filter that puts out zero, is right and not counted.
    """
    from archsim.accelerators.bloom.kernel import FALSE_HIT

    tops, apx = bank.patterns.tops.astype(np.uint64), np.uint64(bank.shape.apx)
    stored = np.isin(keys, tops[:, 0] << apx | tops[:, 1])
    keys, counts = keys[~stored], counts[~stored]
    found = answer_table(bank)[keys]
    size = np.uint64((1 << (bank.shape.apx - 1)) - 1)
    zero = ((keys >> apx & size) == 0) | ((keys & size) == 0)
    false = np.flatnonzero(found >= FALSE_HIT)
    wrong = false[~(zero[false] & (bank.outputs[found[false] - FALSE_HIT] == 0))]
    queries = int(counts.sum())
    return int(counts[wrong].sum()) / queries if queries else 0.0


def _screen_products(layers: Sequence[Operands], bank: Bank) -> float:
    """Return the same from the first profile images of all layers, every key hashed."""
    false_hits = missing = 0
    for one in layers:
        x = one.x[:SCREEN_IMAGES]
        _, stats = run_products(one.stream, x, one.w, np.zeros(len(one.w), np.float32), bank)
        hits, false = stats.sum(axis=0).tolist()
        false_hits += false
        missing += one.stream.operations * len(x) - hits + false
    return false_hits / missing if missing else 0.0


def _screen_events(events: Events, apx: int, bank: Bank) -> float:
    """Return the same from all operations of the profile set."""
    keys, _, number = distinct_rows(top_bits(events.operands, apx))
    counts, found = np.bincount(number), bank.ask(keys)
    false = bank.false(keys, found)
    missing = int(counts[(found < 0) | false].sum())
    return int(counts[false].sum()) / missing if missing else 0.0


def product_extremes(one: Operands) -> tuple[float, float]:
    """Return the least and the greatest product: every input word meets every filter's weight of its taps."""
    stream, groups = one.stream, one.stream.groups
    lows, highs = [], []
    for g in range(groups):
        x = one.x[:, g * stream.group_words :][:, stream.x_at]
        w = one.w.reshape(groups, -1, one.w.shape[1])[g][:, stream.k_at]
        corners = [a * b for a in (x.min(axis=0), x.max(axis=0)) for b in (w.min(axis=0), w.max(axis=0))]
        lows.append(float(np.min(corners)))
        highs.append(float(np.max(corners)))
    return min(lows), max(highs)


def prepare_layer(config: BloomConfig, layer: Layer, params: LayerParams, setting: LayerSetting) -> Stored:
    """Return the layer with its filters, or with the faults of `unit_faults`.

    Raises: StudyError without images to profile, or with both knobs; MappingError if no hashes are sound.
    """
    level, fault = setting.level("bloom_match"), setting.level("unit_faults")
    if not level and not fault:
        return Stored(params)
    if level and fault:
        raise StudyError(f"layer {layer.name!r}: unit_faults stand for filters not yet designed; set one of both knobs")
    knowledge = params.calibration
    if knowledge is None:
        raise StudyError(f"layer {layer.name!r}: patterns are profiled on images; give workload.calibration or data")
    assert isinstance(knowledge, Knowledge) and isinstance(level, int)
    if level:
        return Stored(params, knowledge.filtered(layer, level))
    rows = {row["level"]: row for row in setting.tables["unit_faults"]}
    row = rows[fault]
    return Stored(params, Faults(_rates(layer, row), knowledge.extremes(layer), random=bool(row.get("random"))))


def _rates(layer: Layer, row: Mapping[str, Any]) -> dict[str, float]:
    """Return the rates by kind of unit. Raises: StudyError naming the column and its limits."""
    rates = {kind: value for kind, value in row.items() if kind not in ("level", "random")}
    for kind, rate in rates.items():
        if kind not in OPERANDS or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise StudyError(
                f"layer {layer.name!r}: unit_faults has columns level, random, {', '.join(OPERANDS)} from 0 to 1; "
                f"got {kind} {rate!r}"
            )
    return {kind: float(rates.get(kind, 0.0)) for kind in OPERANDS}
