"""Drives one layer through a machine, step by step, with nothing but the contract; `python -m` prints digests."""

from __future__ import annotations

import hashlib
import importlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from types import ModuleType
from typing import Any

import numpy as np

from archsim.accelerators.base import (
    Accelerator,
    Activity,
    BatchActivity,
    Plan,
    Sample,
    Stored,
    known_accelerators,
)
from archsim.accelerators.clockwork import Timed, simulate_batch
from archsim.approx import Knob, LayerSetting
from archsim.errors import MappingError
from archsim.memory.base import memory_class
from archsim.workload.formats import Fixed, NumberFormat, Scale
from archsim.workload.graph import FloatParams
from archsim.workload.layers import Activation, Conv, Layer, Linear, OpStep, OpStream
from archsim.workload.params import Array, LayerParams
from archsim.workload.random import rng_for
from archsim.workload.reference import op_stream_reference, reference

SEED = 7
BATCHES = 2
RELU = Activation("relu")
EXACT = LayerSetting()


def _conv(name: str, **bounds: Any) -> Conv:
    return Conv(name=name, inputs=("x",), output="y", **bounds)


SOBEL = (
    OpStep("mul", (("pixel", -1, -1), ("constant", 0.25))),
    OpStep("mac", (("pixel", 0, 1), ("constant", -1.5), ("step", 0))),
    OpStep("mul", (("step", 1), ("step", 1))),
    OpStep("sqrt", (("step", 2),)),
    OpStep("add", (("step", 3), ("pixel", 0, 0))),
)

LAYERS: tuple[Layer, ...] = (
    _conv("plain", N=2, C=3, M=5, H=7, W=6, R=3, S=3, pad=(1, 1, 1, 1), activation=RELU),
    _conv("strided", C=2, M=3, H=11, W=9, R=5, S=3, stride=(2, 2), pad=(0, 1, 2, 0)),
    _conv("grouped", N=3, C=4, M=6, H=5, W=5, R=3, S=3, pad=(1, 1, 1, 1), groups=2, activation=RELU),
    _conv("depthwise", C=5, M=5, H=6, W=7, R=3, S=3, stride=(2, 2), pad=(1, 1, 1, 1), groups=5, activation=RELU),
    _conv("pointwise", N=2, C=17, M=19, H=3, W=5, R=1, S=1, activation=Activation("clip", 0.0, 2.0)),
    Linear(name="linear", inputs=("x",), output="y", N=2, C=37, M=11, activation=RELU),
    Linear(name="logits", inputs=("x",), output="y", C=12, M=10, map_shape=(3, 2, 2)),
    OpStream(name="stream", inputs=("x",), output="y", N=2, H=7, W=9, steps=SOBEL),
)
"""Small and ragged on purpose: no size divides a power of two, strides leave rows over, pads differ by side."""


def outputs_network(layer: Layer) -> bool:
    """True for the case whose output is the network's and stays an accumulator."""
    return layer.name == "logits"


def level_tables(kind: str) -> ModuleType | None:
    """Return `tests/levels/<kind>.py`, for machines whose levels are data."""
    if not any(knob.levels is None for knob in known_accelerators()[kind].knobs):
        return None
    return importlib.import_module(f"tests.levels.{kind}")


def build(kind: str, preset: str, **changes: Any) -> Accelerator:
    """Return the machine of a preset, some Config fields changed; levels may need a Config of their own."""
    machine, needed = known_accelerators()[kind], getattr(level_tables(kind), "CONFIG", {})
    return machine(machine.Config(**{**machine.presets[preset], **needed, **changes}))


def _weight_shape(layer: Layer) -> tuple[int, ...]:
    return (layer.M, layer.C // layer.groups, layer.R, layer.S) if isinstance(layer, Conv) else (layer.M, layer.C)  # type: ignore[attr-defined]


def _image_shape(layer: Layer) -> tuple[int, ...]:
    if isinstance(layer, Conv):
        return (layer.C, layer.H, layer.W)
    return (1, layer.H, layer.W) if isinstance(layer, OpStream) else (layer.C,)  # type: ignore[attr-defined]


def values(layer: Layer, non_negative: bool) -> tuple[Array, Array, Array]:
    """Return x (k*N images), weights, bias: sign-balanced, with zeros in both, float32."""
    rng = np.random.default_rng(zlib.crc32(layer.name.encode()))
    x = rng.normal(size=(BATCHES * layer.N, *_image_shape(layer)))
    x[rng.random(x.shape) < 0.4] = 0
    if isinstance(layer, OpStream):
        return x.astype(np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32)
    w = rng.normal(size=_weight_shape(layer))
    w[rng.random(w.shape) < 0.15] = 0
    bias = rng.normal(size=len(w))
    x = np.abs(x) if non_negative else x
    return x.astype(np.float32), w.astype(np.float32), bias.astype(np.float32)


def _scale(number_format: NumberFormat, array: Array) -> Scale:
    return number_format.scale_of(float(array.min(initial=0)), float(array.max(initial=0)))


def frozen(array: Array) -> Array:
    """Return the array, read-only."""
    array.flags.writeable = False
    return array


def parameters(layer: Layer, number_format: NumberFormat, non_negative: bool) -> tuple[Array, LayerParams]:
    """Return read-only codes of x and the layer's parameters, scaled by what this very data needs."""
    x, w, bias = values(layer, non_negative)
    x_scale, w_scale = _scale(number_format, x), _scale(number_format, w)
    codes = frozen(number_format.encode(x, x_scale))
    if isinstance(layer, OpStream):
        return codes, LayerParams(number_format, x_scale, w_scale, None)
    units = 2.0 ** (x_scale.fraction_bits + w_scale.fraction_bits)
    params = LayerParams(
        format=number_format,
        x_scale=x_scale,
        w_scale=w_scale,
        y_scale=None,
        weights=frozen(number_format.encode(w, w_scale)),
        bias=frozen(_bias(number_format, bias, units)),
        x_non_negative=non_negative,
        source=FloatParams(frozen(w), frozen(bias)),
    )
    if outputs_network(layer):
        return codes, params
    accumulators = reference(layer, codes, params).y
    y = accumulators / units if number_format.integer else accumulators
    return codes, replace(params, y_scale=_scale(number_format, y * 0.9))  # a little too small: some words saturate


def _bias(number_format: NumberFormat, bias: Array, units: float) -> Array:
    """Return the bias as parameters hold it: accumulator codes of fixed point, the values of its own int8 codes."""
    if isinstance(number_format, Fixed):
        return np.rint(bias * units).astype(np.int64)
    if not number_format.integer:
        return bias
    scale = _scale(number_format, bias)
    return number_format.decode(number_format.encode(bias, scale), scale)


@dataclass(frozen=True)
class Case:
    """One layer on one preset of one machine."""

    kind: str
    preset: str
    layer: Layer
    non_negative: bool = True

    def __str__(self) -> str:
        return f"{self.kind}-{self.preset}-{self.layer.name}-{'unsigned' if self.non_negative else 'signed'}"

    @cached_property
    def machine(self) -> Accelerator:
        return build(self.kind, self.preset)

    @cached_property
    def tensors(self) -> tuple[Array, LayerParams]:
        return parameters(self.layer, self.machine.formats[0], self.non_negative)

    def stored(self, setting: LayerSetting = EXACT) -> Stored:
        return self.machine.prepare(self.layer, self._calibrated, setting)

    @cached_property
    def _calibrated(self) -> LayerParams:
        """The parameters, calibrated on the images of the case where the machine asks for it."""
        x, params = self.tensors
        if not self.machine.answers("calibrate"):
            return params
        return replace(params, calibration=self.machine.calibrate([Sample(self.layer, params, x)]))

    @cached_property
    def plan(self) -> Plan:
        """The plan at level 0. Raises: MappingError if the machine cannot run the layer."""
        placement = self.machine.place_all([[self.layer]])[self.layer.name]
        return self.machine.map(self.layer, self.stored(), placement)

    def draws(self, use: str, image: int) -> np.random.Generator:
        return rng_for(SEED, self.kind, self.layer.name, use, image)

    def execute(self, setting: LayerSetting = EXACT, images: slice = slice(None)) -> Activity:
        x = frozen(self.tensors[0][images])
        draws = partial(self._shifted, images.start or 0)
        return self.machine.execute(self.layer, self.plan, x, self.stored(setting), setting, draws)

    def _shifted(self, first: int, use: str, image: int) -> np.random.Generator:
        return self.draws(use, first + image)

    def time(self, batch: BatchActivity, **link: float) -> Timed:
        config = {"bandwidth_GB_per_s": 0.48, "latency_ns": 30.0, "energy_pJ_per_bit": 1.0, "price_source": "test"}
        memory = memory_class("link")
        return simulate_batch(self.machine, memory(memory.Config(**{**config, **link})), self.layer, self.plan, batch)

    def reference(self) -> Array:
        x, params = self.tensors
        if isinstance(self.layer, OpStream):
            return op_stream_reference(replace(self.layer, N=len(x)), x)
        return reference(self.layer, x, params).y

    def settings(self, knob: Knob) -> list[LayerSetting]:
        """Return the levels of one knob from 0 upwards, and for filter knobs a mixed one."""
        tables = {}
        highest = (knob.levels or 1) - 1
        if knob.levels is None:
            rows = level_tables(self.kind).table(knob.name, self.layer, self.tensors[1])  # type: ignore[union-attr]
            tables = {knob.name: rows}
            highest = max(row["level"] for row in rows)
        return [LayerSetting({knob.name: level}, tables) for level in range(highest + 1)]

    def mixed(self, knob: Knob) -> LayerSetting:
        """Return the highest level for every other filter and 0 for the rest."""
        highest = self.settings(knob)[-1]
        level = highest.level(knob.name)
        assert isinstance(level, int)
        filters = self.layer.M  # type: ignore[attr-defined]
        return replace(highest, levels={knob.name: tuple(level if m % 2 else 0 for m in range(filters))})


def all_cases(kinds: Mapping[str, type[Accelerator]]) -> Iterator[Case]:
    """Yield every preset of every machine with every layer it accepts, unsigned and signed inputs."""
    for kind, machine in kinds.items():
        for preset in machine.presets:
            for layer in LAYERS:
                if isinstance(layer, machine.accepts):
                    yield from (Case(kind, preset, layer, sign) for sign in (True, False))


def digest(case: Case) -> str:
    """Return a hash over everything a run of the case produces, at level 0 and at the top of every knob."""
    told = hashlib.sha256()
    settings = [EXACT, *(case.settings(knob)[-1] for knob in case.machine.knobs)]
    for setting in settings:
        activity = case.execute(setting)
        assert activity.y is not None
        timed = [case.time(batch) for batch in activity.batches]
        told.update(np.ascontiguousarray(activity.y).tobytes())
        told.update(
            repr([(t.cycles, sorted(t.counts.items()), sorted(t.memory_counts.items())) for t in timed]).encode()
        )
        told.update(repr((case.plan, activity.batches, activity.saturated_words)).encode())
    return told.hexdigest()


def digests(kinds: Mapping[str, type[Accelerator]]) -> dict[str, str]:
    """Return the digest of every case that can be mapped."""
    found = {}
    for case in all_cases(kinds):
        try:
            found[str(case)] = digest(case)
        except MappingError:
            continue
    return found


if __name__ == "__main__":
    importlib.import_module("tests.doubles")
    print(json.dumps(digests(known_accelerators())))
