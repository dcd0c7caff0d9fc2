"""What the data do: the ofmap of a layer, and how its operations were answered, image by image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from archsim.accelerators.base import Draws, Stored
from archsim.accelerators.bloom.events import evaluate, kinds_of, run_filtered
from archsim.accelerators.bloom.faults import run_faulty_events, run_faulty_products
from archsim.accelerators.bloom.floats import Array, flushed
from archsim.accelerators.bloom.prepare import Faults, Filtered
from archsim.accelerators.bloom.products import run_products
from archsim.accelerators.bloom.stream import stream_of
from archsim.workload.layers import Conv, Layer, Linear, OpStream
from archsim.workload.nodes import activate


@dataclass(frozen=True, eq=False)
class Outcome:
    """y as the layer's output; by kind of unit (queries, hits, false hits) of every image, int64 (images, 3)."""

    y: Array
    stats: Mapping[str, Array]


def compute(layer: Layer, x: Array, stored: Stored, draws: Draws) -> Outcome:
    """Run x, float32 (images, ...), through the units of a layer."""
    if isinstance(layer, OpStream):
        return _compute_events(layer, x, stored, draws)
    assert isinstance(layer, Conv | Linear)
    stream, weights = stream_of(layer), stored.params.weights
    assert weights is not None
    w = flushed(weights).reshape(layer.M, -1)
    bias = np.zeros(layer.M, np.float32) if stored.params.bias is None else flushed(stored.params.bias)
    flat = flushed(x).reshape(len(x), -1)
    stats = np.zeros((len(x), 3), np.int64)
    stats[:, 0] = stream.operations
    if isinstance(stored.extra, Faults):
        y = run_faulty_products(stream, flat, w, bias, stored.extra, draws)
    else:
        bank = stored.extra.banks["mul"] if isinstance(stored.extra, Filtered) else None
        y, stats[:, 1:] = run_products(stream, flat, w, bias, bank)
    shape = (len(x), layer.M, layer.P, layer.Q) if isinstance(layer, Conv) else (len(x), layer.M)
    return Outcome(flushed(activate(y, layer.activation)).reshape(shape), {"mul": stats})


def _compute_events(layer: OpStream, x: Array, stored: Stored, draws: Draws) -> Outcome:
    """Run the steps of a stream over all pixels."""
    if isinstance(stored.extra, Filtered):
        return Outcome(*run_filtered(layer, x, stored.extra.banks))
    stats = {kind: np.zeros((len(x), 3), np.int64) for kind in kinds_of(layer)}
    for kind, steps in kinds_of(layer).items():
        stats[kind][:, 0] = steps * layer.P * layer.Q
    if isinstance(stored.extra, Faults):
        return Outcome(run_faulty_events(layer, x, stored.extra, draws), stats)
    return Outcome(evaluate(layer, x), stats)
