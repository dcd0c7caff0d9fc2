"""One lane of `mac_array` as a block for co-simulation: multiply, accumulate, hand out at the last product."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.accelerators.base import RtlBlock, RtlModel, Signals
from archsim.workload.layers import Layer

IDLE: Signals = {"rst": 0, "valid": 0, "first": 0, "last": 0, "x": 0, "w": 0, "bias": 0}


class MacLane:
    """Registers of the lane; one `step` is one clock cycle, outputs are those before the edge."""

    def __init__(self, parameters: Mapping[str, int]) -> None:
        self.width = parameters["WACC"]
        self.acc = self.valid = 0

    def step(self, inputs: Signals) -> dict[str, int]:
        outputs = {"out_valid": self.valid, "out": self.acc}
        self.valid = int(inputs["valid"] and inputs["last"] and not inputs["rst"])
        if inputs["rst"]:
            self.acc = 0
        elif inputs["valid"]:
            start = inputs["bias"] if inputs["first"] else self.acc
            self.acc = self._wrapped(start + inputs["x"] * inputs["w"])
        return outputs

    def _wrapped(self, value: int) -> int:
        half = 1 << (self.width - 1)
        return (value + half) % (2 * half) - half


@dataclass(frozen=True)
class Window:
    """One window: its products, cycle by cycle, and what must come out."""

    about: str
    steps: tuple[Signals, ...]
    outcomes: tuple[Signals, ...]
    totals: Signals

    def play(self, model: RtlModel) -> Iterator[tuple[Signals, Signals]]:
        for inputs in ({**IDLE, "rst": 1}, *self.steps, IDLE):
            yield inputs, model.step(inputs)


def window(about: str, x: Sequence[int], w: Sequence[int], bias: int, gaps: Sequence[bool] = ()) -> Window:
    """Return one window, with an idle cycle before a step where `gaps` says so."""
    last, steps = len(x) - 1, list[Signals]()
    for k, (a, b) in enumerate(zip(x, w)):
        steps += [IDLE] if k < len(gaps) and gaps[k] else []
        inside = {"valid": 1, "first": int(k == 0), "last": int(k == last), "x": int(a), "w": int(b), "bias": int(bias)}
        steps.append({**IDLE, **inside})
    out = int(bias) + sum(int(a) * int(b) for a, b in zip(x, w))
    return Window(about, tuple(steps), ({"out": out},), {"out": out})


def random_cases(config: Any, seed: int) -> Iterator[Window]:
    """Yield windows of random length and codes without end, with idle cycles between and inside."""
    rng = np.random.default_rng(seed)
    while True:
        x, w = rng.integers(-(2**15), 2**15, (2, int(rng.integers(1, 40))))
        bias = int(rng.integers(-(2**31), 2**31))
        yield window(f"{len(x)} products", x.tolist(), w.tolist(), bias, (rng.random(len(x)) < 0.3).tolist())


def cases_from(config: Any, layer: Any, plan: Any, x: Any, stored: Any, tiles: int, seed: int) -> Iterator[Window]:
    """Yield `tiles` windows of a real layer, drawn by the seed."""
    from tests.doubles.mac_array.function import window_matrix

    weights, bias = stored.params.weights, stored.params.bias
    windows = window_matrix(layer, x, len(weights))
    rng = np.random.default_rng(seed)
    for _ in range(tiles):
        m, at = int(rng.integers(len(weights))), int(rng.integers(len(windows[0])))
        done = stored.extra[m]
        flat = weights[m].reshape(-1)
        yield window(f"filter {m}, window {at}", windows[m][at][done].tolist(), flat[done].tolist(), int(bias[m]))


def parameters_of(config: Any, layer: Layer | None = None) -> dict[str, int]:
    return {"W": 16, "WACC": 48}


MAC_LANE = RtlBlock("mac_lane", ("out_valid", None), parameters_of, MacLane, random_cases, cases_from)
