"""One assignment of layers to machines, on which settings are tried one after another.

Function first, time second: `Session.quality` sends images through the network and keeps what the data did,
`Session.cost` times and prices it. Order: place, prepare, map, perturb, execute | time, account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from archsim.accelerators.base import Activity, BatchActivity
from archsim.accelerators.clockwork import Timed, simulate_batch
from archsim.accelerators.seat import Seat
from archsim.accelerators.trail import Trail
from archsim.accelerators.vector_unit import vector_counts, vector_cycles
from archsim.approx import LayerSetting, Setting
from archsim.config import Study
from archsim.counts import Counts
from archsim.energy import account
from archsim.result import (
    Accuracy,
    BatchPart,
    LayerResult,
    PictureQuality,
    Totals,
    picture_quality,
    sum_parts,
    sum_totals,
    with_idle,
)
from archsim.seating import RECENT_SETTINGS, VECTOR_UNIT, Seating
from archsim.threads import Progress, Recent, map_blocks
from archsim.units import cycles_to_us
from archsim.workload.bench import Workbench, label_ranks
from archsim.workload.graph import Network, walk
from archsim.workload.layers import Layer
from archsim.workload.params import Array, Tensor
from archsim.workload.pictures import as_picture, psnr_dB
from archsim.workload.reference import host_compute, input_tensor, output_scale
from archsim.workload.synthetic import synthetic_codes

EXACT = LayerSetting()
Look = Callable[[Seat, Array], Any]
"""Called with a layer on its machine and the codes that are about to enter it."""
Past = tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Visit:
    """A block of images on its way through the network, the images [first, last); `pasts`: see `pasts_of`."""

    setting: Setting
    pasts: Mapping[str, Past]
    first: int
    last: int
    timed_batches: int
    advance: Callable[[], None]
    look: Look | None
    trail: Trail


@dataclass(frozen=True, eq=False)
class Step:
    """What one layer made of a block of images: its ofmap, what it did on a machine, words converted on the way in."""

    y: Tensor
    activity: Activity | None
    converted_words: int

    @property
    def n_bytes(self) -> int:
        """Size of the ofmap."""
        return int(self.y.codes.nbytes)


def pasts_of(network: Network, setting: Setting) -> dict[str, Past]:
    """Return the settings of every layer and of all layers whose results reach it: what its ofmap depends on."""
    before: dict[str, frozenset[str]] = {network.input: frozenset()}
    pasts = {}
    told = {name: (name, repr(one)) for name, one in sorted(setting.items())}
    for layer in network.layers:
        names = frozenset({layer.name}).union(*(before[name] for name in layer.inputs))
        before[layer.output] = names
        pasts[layer.name] = tuple(one for name, one in told.items() if name in names)
    return pasts


class Session:
    """Layers on their machines; settings are tried on them one after another."""

    def __init__(
        self,
        bench: Workbench,
        study: Study,
        assign: Mapping[str, str],
        progress: Progress | None = None,
        keeps_bytes: int = 0,
    ) -> None:
        """`keeps_bytes`: room for ofmaps, so that settings that begin alike are not computed from the start again."""
        self.bench, self.study, self.network = bench, study, bench.network
        self.seating = Seating(bench, study, assign)
        self.progress = progress or (lambda text, done, total: None)
        self._timed: dict[tuple[object, ...], Timed] = {}
        self._trails: Recent[tuple[str, int], Trail] = Recent(RECENT_SETTINGS)
        self._steps: Recent[tuple[object, ...], Step] = Recent(keeps_bytes, lambda step: step.n_bytes)

    # steps 0-3: what the data does ---------------------------------------------------------------------------------
    def quality(self, setting: Setting, images: int | None = None) -> Accuracy | None:
        """Send the first `images` images (default: all) through the machines; returns None if the study has none."""
        if self.bench.data is None or self.network.makes_pictures:
            return None
        images = images or len(self.bench.data.images)
        ranks = self._trail(setting, images).ranks
        assert ranks is not None
        ranks = ranks[:images]  # the trail may be that of more images
        fp32 = self.bench.fp32_ranks[: len(ranks)]
        top1, top5, top1_fp32, top5_fp32 = (
            int((r < k).sum()) / len(ranks) for r, k in ((ranks, 1), (ranks, 5), (fp32, 1), (fp32, 5))
        )
        return Accuracy(len(ranks), top1, top5, top1_fp32, top5_fp32)

    def likeness(self, setting: Setting, images: int | None = None) -> PictureQuality | None:
        """Send the first `images` images through an image kernel; None if the network makes no pictures."""
        if self.bench.data is None or not self.network.makes_pictures:
            return None
        images = images or len(self.bench.data.images)
        psnr = self._trail(setting, images).psnr_dB
        assert psnr is not None
        return picture_quality(psnr[:images].tolist())

    def macs_done(self, setting: Setting) -> dict[str, int]:
        """Return the MACs of every layer on a machine, summed over all images."""
        assert self.bench.data is not None
        return dict(self._trail(setting, len(self.bench.data.images)).macs_done)

    def _trail(self, setting: Setting, images: int) -> Trail:
        """Return the trail of this setting over at least `images` images, walking the network if there is none yet."""
        key = repr(sorted(setting.items()))
        for (known, walked), trail in self._trails.items():
            if known == key and walked >= images:
                return trail
        trail = self._expect(setting) if self.bench.data is None else self._walk_images(setting, images)
        return self._trails.keep((key, images), trail)

    def watch(self, setting: Setting, images: int, look: Look) -> dict[str, list[Any]]:
        """Send the first `images` images through the machines; return what `look` made of every layer's input.

        `look(seat, x)` sees codes of a block of whole batches, (k*N, C, H, W) or (k*N, C), before they are executed.
        Results come by layer, blocks in order; blocks run in parallel.
        """
        return self._walk_images(setting, images, look).seen

    def _walk_images(self, setting: Setting, images: int, look: Look | None = None) -> Trail:
        """Send images through the network, blocks in parallel, layer by layer."""
        for layer in self.seating.machine_layers:
            self.seating.seat(layer, setting.get(layer.name, EXACT))
        if self.network.makes_pictures:
            self.bench.fp32_pictures  # noqa: B018 - once, not in every block
        step = self.bench.block_images
        blocks = [(first, min(first + step, images)) for first in range(0, images, step)]
        steps, total = count(), len(blocks) * len(self.network.layers)

        def advance() -> None:
            self.progress("images", next(steps), total)

        work = partial(self._walk_block, setting, pasts_of(self.network, setting), advance, look)
        return Trail.joined([work(blocks[0])] if len(blocks) == 1 else map_blocks(work, blocks))

    def _walk_block(
        self,
        setting: Setting,
        pasts: Mapping[str, Past],
        advance: Callable[[], None],
        look: Look | None,
        block: tuple[int, int],
    ) -> Trail:
        """Send one block of images through the network."""
        (first, last), data, spec = block, self.bench.data, self.study.workload
        assert data is not None
        pixels = data.images[first:last]
        ragged = -len(pixels) % spec.batch
        pixels = np.concatenate([pixels, pixels[-1:].repeat(ragged, axis=0)]) if ragged else pixels
        timed_batches = max(0, min(last, spec.images_timed) - first) // spec.batch
        visit = Visit(setting, pasts, first, last, timed_batches, advance, look, Trail())
        y = walk(self.network, self._input(pixels), partial(self._compute, visit)).values()[: last - first]
        if self.network.makes_pictures:
            visit.trail.psnr_dB = psnr_dB(as_picture(y), self.bench.fp32_pictures[first:last])
        else:
            assert data.labels is not None
            visit.trail.ranks = label_ranks(y, data.labels[first:last])
        return visit.trail

    def _input(self, pixels: Array) -> Tensor:
        """Return the network's input in the format of its first machine (host pre-processing, not simulated)."""
        values = input_tensor(self.network, pixels)
        reader = next(layer for layer in self.network.layers if self.seating.where[layer.name] != VECTOR_UNIT)
        number_format = self.seating.format_of(reader)
        scale = self.seating.scales(number_format)[self.network.input]
        return Tensor(number_format.encode(values, scale), number_format, scale)

    def _compute(self, visit: Visit, layer: Layer, inputs: tuple[Tensor, ...]) -> Tensor:
        """Compute one node for one block of images, or take what an earlier setting with the same past made of it."""
        visit.advance()
        key = (layer.name, visit.first, visit.last, visit.pasts[layer.name])
        step = self._steps.recall(key) if visit.look is None else None
        if step is None:
            step = self._steps.keep(key, self._step(visit, layer, inputs))
        trail = visit.trail
        if step.converted_words:
            trail.converted_words[layer.name] = step.converted_words
        if step.activity is None:
            trail.saturated_words[layer.name] += step.y.saturated_words
        else:
            trail.note(layer, step.activity, visit.timed_batches)
        return step.y

    def _step(self, visit: Visit, layer: Layer, inputs: tuple[Tensor, ...]) -> Step:
        """Compute one node for one block of images, on its machine or on the vector unit."""
        if self.seating.where[layer.name] == VECTOR_UNIT:
            y = host_compute(layer, inputs, self.network, self.seating.scales(inputs[0].format))
            return Step(y, None, sum(x.codes[0].size for x in inputs if x.format != inputs[0].format))
        seat = self.seating.seat(layer, visit.setting.get(layer.name, EXACT))
        number_format = seat.stored.params.format
        x = inputs[0].to(number_format, self.seating.scales(number_format)[layer.inputs[0]])
        if visit.look is not None:
            visit.trail.seen.setdefault(layer.name, []).append(visit.look(seat, x.codes))
        activity = seat.execute(x.codes, visit.first)
        assert activity.y is not None
        y = Tensor(activity.y, number_format, output_scale(seat.stored.params))
        return Step(y, activity, 0 if x is inputs[0] else x.codes[0].size)

    def _expect(self, setting: Setting) -> Trail:
        """Return the trail of one batch without images: from zero fractions, or from synthetic tensors.

        Layers run in parallel, those with most weights first: they take longest.
        """
        layers, steps = self.seating.machine_layers, count(1)

        def expected(layer: Layer) -> tuple[str, Activity]:
            activity = self._expected(layer, setting)
            self.progress("layers", next(steps), len(layers))
            return layer.name, activity

        by_weights = sorted(layers, key=lambda layer: layer.weight_count, reverse=True)
        activities, trail = dict(map_blocks(expected, by_weights)), Trail()
        for layer in layers:
            trail.note(layer, activities[layer.name], len(activities[layer.name].batches))
        return trail

    def _expected(self, layer: Layer, setting: Setting) -> Activity:
        """Return what one batch is expected to do in a layer."""
        seat = self.seating.seat(layer, setting.get(layer.name, EXACT))
        fractions = self.bench.zero_fractions(layer)
        if seat.machine.can_expect:
            return seat.machine.expect(layer, seat.plan, fractions)
        x = synthetic_codes(layer, seat.stored.params, fractions[0], self.study.seed)
        return seat.execute(x, 0)

    # steps 4 and 5: time and price ---------------------------------------------------------------------------------
    def cost(self, setting: Setting, images: int | None = None) -> tuple[Totals, tuple[LayerResult, ...]]:
        """Time and price the first `images` images (default: the study's timed images)."""
        spec = self.study.workload
        images = images or spec.images_timed
        trail = self._trail(setting, images)
        layers = tuple(self._results(setting, trail, images))
        return sum_totals(layers, self._clocks(), images, images // spec.batch), layers

    def _clocks(self) -> dict[str, tuple[str, float]]:
        """Return (kind, clock) of every machine of the platform."""
        clocks = {name: (spec.kind, spec.config.clock_MHz) for name, spec in self.study.machines.items()}
        return {**clocks, VECTOR_UNIT: (VECTOR_UNIT, self.study.vector_unit.clock_MHz)}

    def _layer_result(self, layer: Layer, setting: Setting, trail: Trail, images: int) -> LayerResult:
        """Add up one layer over the timed batches; equal batches are simulated once."""
        batches = images // self.study.workload.batch
        if self.seating.where[layer.name] == VECTOR_UNIT:
            shapes = self.network.shapes
            counts = vector_counts(layer, [shapes[n] for n in layer.inputs], shapes[layer.output], images)
            metrics = {"saturated_words": trail.saturated_words[layer.name]}
            return self._vector_result(layer.name, type(layer).__name__, counts, metrics)
        seat = self.seating.seat(layer, setting.get(layer.name, EXACT))
        name = self.seating.where[layer.name]
        activities = Counter(trail.activities[layer.name][:batches])
        parts = [BatchPart(self._time(seat, one), one.macs_done, dict(one.metrics), n) for one, n in activities.items()]
        told = {
            "mapping": seat.plan.describe(),
            "saturated_words": trail.saturated_words[layer.name],
            "overflow_events": trail.overflow_events[layer.name],
        }
        machine, memory = seat.machine, self.seating.memory.prices_at(seat.setting, parts[0].timed.memory_counts)
        readings = {reading: (table, memory) for reading, table in machine.price_readings.items()}
        prices, idle_mW = (machine.prices, memory), self._idle_mW(name)
        return sum_parts(layer, name, machine.config.clock_MHz, parts, prices, readings, told, idle_mW)

    def _idle_mW(self, busy: str) -> float:
        """Return the power of the machines that idle while `busy` runs."""
        return sum(spec.config.idle_power_mW for name, spec in self.study.machines.items() if name != busy)

    def _vector_result(self, name: str, kind: str, counts: Counts, metrics: Mapping[str, Any]) -> LayerResult:
        """Return what the vector unit spends on one layer or on the format conversions in front of one."""
        unit = self.study.vector_unit
        cycles = vector_cycles(counts, unit)
        latency_us = cycles_to_us(cycles, unit.clock_MHz) if cycles else 0.0
        energy = with_idle(account(counts, self.seating.vector_prices), self._idle_mW(VECTOR_UNIT), latency_us)
        return LayerResult(
            name, kind, VECTOR_UNIT, cycles, latency_us, 0, 0, "vector_unit", dict(counts), energy, metrics
        )

    def _results(self, setting: Setting, trail: Trail, images: int) -> Iterator[LayerResult]:
        """Yield one result per layer, and one per layer whose input was converted on its way in."""
        for done, layer in enumerate(self.network.layers):
            self.progress("timing", done, len(self.network.layers))
            if trail.converted_words[layer.name]:
                words = trail.converted_words[layer.name] * images
                yield self._vector_result(
                    f"{layer.name}.convert", "Convert", Counts({"vector_unit.convert": words}), {}
                )
            yield self._layer_result(layer, setting, trail, images)

    def first_batch(self, setting: Setting) -> Iterator[tuple[Seat, BatchActivity]]:
        """Yield every layer on a machine with what the data of the first timed batch do in it."""
        trail = self._trail(setting, self.study.workload.images_timed)
        for layer in self.seating.machine_layers:
            yield self.seating.seat(layer, setting.get(layer.name, EXACT)), trail.activities[layer.name][0]

    def _time(self, seat: Seat, activity: BatchActivity) -> Timed:
        """Simulate one batch, or return the equal one simulated before."""
        nameless, memory = replace(seat.layer, name="", inputs=(), output=""), seat.clocked_memory
        lies = tuple(seat.addresses.items()) if memory.addressed else ()
        key = (nameless, seat.machine.kind, id(seat.machine), seat.placement, seat.plan, activity, lies, memory)
        if key not in self._timed:
            self._timed[key] = simulate_batch(
                seat.machine, memory, seat.layer, seat.plan, activity, addresses=seat.addresses
            )
        return self._timed[key]
