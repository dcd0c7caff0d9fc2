"""Streams of scalar operations, step by step over all pixels: operands of every unit, filters asked, faults put in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from archsim.accelerators.bloom.filters import Bank
from archsim.accelerators.bloom.floats import Array, apply_unit, flushed, top_bits
from archsim.accelerators.bloom.profile import Events
from archsim.workload.layers import Operand, OpStream

Answer = Callable[[int, str, list[Array], Array], Array]
"""Called with the step's index, kind of unit, operands and exact outputs (n,); returns what the unit puts out."""


def evaluate(layer: OpStream, x: Array, answer: Answer | None = None) -> Array:
    """Return the last step over all interior pixels of x (images, 1, H, W), float32 (images, 1, P, Q)."""
    pixels = flushed(x)
    shape, done = (len(x), layer.P, layer.Q), list[Array]()
    for index, step in enumerate(layer.steps):
        operands = [_operand(layer, ref, pixels, done, shape) for ref in step.operands]
        exact = apply_unit(step.op, operands)
        done.append(exact if answer is None else answer(index, step.op, operands, exact))
    return done[-1].reshape(len(x), 1, layer.P, layer.Q)


def _operand(
    layer: OpStream,
    ref: Operand,
    pixels: Array,
    done: list[Array],
    shape: tuple[int, int, int],
) -> Array:
    """Return one operand of every pixel, float32 (n,)."""
    if ref[0] == "step":
        return done[int(ref[1])]
    if ref[0] == "constant":
        return np.full(int(np.prod(shape)), flushed(np.array(ref[1], np.float32)), np.float32)
    top, left = (layer.border + int(offset) for offset in ref[1:])
    shifted = np.ascontiguousarray(pixels[:, 0, top : top + layer.P, left : left + layer.Q]).reshape(-1)
    return -shifted if ref[0] == "minus_pixel" else shifted


def kinds_of(layer: OpStream) -> dict[str, int]:
    """Return how many steps each kind of unit does for a pixel."""
    found: dict[str, int] = {}
    for step in layer.steps:
        found[step.op] = found.get(step.op, 0) + 1
    return found


def events_of(layer: OpStream, x: Array) -> dict[str, Events]:
    """Return what every kind of unit is asked on x (images, 1, H, W), steps in order."""
    seen: dict[str, list[tuple[Array, Array]]] = {}

    def note(_: int, kind: str, operands: list[Array], exact: Array) -> Array:
        seen.setdefault(kind, []).append((np.stack(operands, axis=1), exact))
        return exact

    evaluate(layer, x, note)
    return {
        kind: Events(kind, *(np.concatenate(parts) for parts in zip(*steps, strict=True)))
        for kind, steps in seen.items()
    }


def run_filtered(layer: OpStream, x: Array, banks: Mapping[str, Bank]) -> tuple[Array, dict[str, Array]]:
    """Return the output and, for every kind of unit, (queries, hits, false hits) of every image, int64 (images, 3)."""
    stats = {kind: np.zeros((len(x), 3), np.int64) for kind in banks}

    def answer(_: int, kind: str, operands: list[Array], exact: Array) -> Array:
        bank = banks[kind]
        tops = np.stack([top_bits(one, bank.shape.apx) for one in operands], axis=1)
        found = bank.ask(tops)
        hit = found >= 0
        for column, events in enumerate((np.ones(len(hit), bool), hit, bank.false(tops, found))):
            stats[kind][:, column] += events.reshape(len(x), -1).sum(axis=1)
        return np.where(hit, bank.outputs[np.maximum(found, 0)], exact)

    return evaluate(layer, x, answer), stats
