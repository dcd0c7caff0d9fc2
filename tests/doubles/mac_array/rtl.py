"""One lane of `mac_array` as a block for co-simulation: multiply, accumulate, hand out at the last product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from archsim.accelerators.base import RtlBlock

Signals = Mapping[str, int]
IDLE: Signals = {"valid": 0, "first": 0, "last": 0, "x": 0, "w": 0, "bias": 0}


class MacLane:
    """Registers of the lane; one `step` is one clock cycle, outputs are those after the edge."""

    def __init__(self, parameters: Mapping[str, int]) -> None:
        self.width = parameters["WACC"]
        self.acc = 0

    def step(self, inputs: Signals) -> dict[str, int]:
        if inputs["valid"]:
            start = inputs["bias"] if inputs["first"] else self.acc
            self.acc = self._wrapped(start + inputs["x"] * inputs["w"])
        return {"out_valid": int(inputs["valid"] and inputs["last"]), "out": self.acc}

    def _wrapped(self, value: int) -> int:
        half = 1 << (self.width - 1)
        return (value + half) % (2 * half) - half


def window_steps(x: Sequence[int], w: Sequence[int], bias: int) -> list[Signals]:
    """Return the stimuli of one window."""
    last = len(x) - 1
    return [
        {"valid": 1, "first": int(k == 0), "last": int(k == last), "x": int(a), "w": int(b), "bias": int(bias)}
        for k, (a, b) in enumerate(zip(x, w))
    ]


def random_cases(seed: int) -> Iterator[list[Signals]]:
    """Yield windows of random length and codes, with idle cycles between and inside."""
    rng = np.random.default_rng(seed)
    for _ in range(8):
        x, w = rng.integers(-(2**15), 2**15, (2, int(rng.integers(1, 40))))
        steps = window_steps(x.tolist(), w.tolist(), int(rng.integers(-(2**31), 2**31)))
        yield [signals for step in steps for signals in ([IDLE, step] if rng.random() < 0.3 else [step])]


def cases_from(layer: Any, plan: Any, x: Any, stored: Any, tiles: int, seed: int) -> Iterator[list[Signals]]:
    """Yield `tiles` windows of a real layer, drawn by the seed."""
    from tests.doubles.mac_array.function import window_matrix

    weights, bias = stored.params.weights, stored.params.bias
    windows = window_matrix(layer, x, len(weights))
    rng = np.random.default_rng(seed)
    for _ in range(tiles):
        m, at = int(rng.integers(len(weights))), int(rng.integers(len(windows[0])))
        done = stored.extra[m]
        flat = weights[m].reshape(-1)
        yield window_steps(windows[m][at][done].tolist(), flat[done].tolist(), int(bias[m]))


MAC_LANE = RtlBlock("mac_lane", "mac_lane", {"W": 16, "WACC": 48}, MacLane, random_cases, cases_from)
