"""A seeded sweep over the share of negative results and the region order: integers only, the same on every machine.

3x3 kernels over 64 smooth, ReLU-like channels; weights are sums of uniform integers, shifted below zero step by step.
`python -m tests.golden.snapea_sweep` writes the golden file anew; then look at the diff.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from archsim.accelerators.snapea.kernel import MACS, NEGATIVE
from archsim.accelerators.snapea.lanes import pe_cycles
from archsim.workload.formats import Fixed, Scale
from archsim.workload.layers import Activation, Conv
from archsim.workload.params import Array, LayerParams
from tests.unit.snapea_cases import LayerCase

GOLDEN = Path(__file__).with_name("snapea-sweep.json")
SHIFTS = (4, 0, -3, -6, -12)
ORDERS = ("index", "magnitude")
LANES = (1, 2, 4, 8, 16)
BUBBLES = (0, 3)
CONV = Conv(
    name="sweep", inputs=("x",), output="y", activation=Activation("relu"), C=64, M=12, H=32, W=32, R=3, S=3,
    pad=(1, 1, 1, 1),
)  # fmt: skip


def bell(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Twelve uniform integers added up: nearly normal, exact everywhere."""
    return np.asarray(rng.integers(-100, 101, (12, *shape)).sum(axis=0))


def smooth_maps() -> Array:
    """Neighbours are alike: means over 3 x 3, below zero cut off."""
    rough = bell(np.random.default_rng(1), (CONV.C, CONV.H + 2, CONV.W + 2))
    smooth = sum(rough[:, i : i + CONV.H, j : j + CONV.W] for i in range(3) for j in range(3))
    return np.maximum(smooth, 0)[None].astype(np.int16)


def case(shift: int) -> LayerCase:
    weights = bell(np.random.default_rng(2), (CONV.M, CONV.C, 3, 3)) + shift
    params = LayerParams(
        Fixed(16), Scale(), Scale(), Scale(fraction_bits=-12), weights.astype(np.int16), None, x_non_negative=True
    )
    return LayerCase(CONV, smooth_maps(), params)


def row(shift: int, order: str) -> dict[str, Any]:
    """Figures of one point; cycles are those of one PE that runs all kernels over all windows."""
    one = case(shift)
    held = one.stored(region_order=order)
    assert held.extra is not None
    stats = one.outcome(held, region_order=order).stats.sum(axis=(0, 1))
    op = one.window_ops(held, region_order=order)[0].astype(np.int64)
    return {
        "shift": shift,
        "order": order,
        "windows": op.size,
        "negative_windows": int(stats[NEGATIVE]),
        "non_negative_weights": int(held.extra.negative_at.sum()),
        "macs": int(stats[MACS]),
        "cycles": {f"B{b}": {str(lanes): cycles(op, lanes, b) for lanes in LANES} for b in BUBBLES},
    }


def cycles(op: Array, lanes: int, bubble: int) -> int:
    """Cycles of one PE, kernel-major."""
    padded = np.pad(op, ((0, 0), (0, 0), (0, -op.shape[2] % lanes)))
    slowest = padded.reshape(op.shape[0], -1, lanes).max(axis=2).reshape(-1)
    return pe_cycles(np.full(len(slowest), CONV.weight_count // CONV.M), slowest, bubble)


def sweep() -> list[dict[str, Any]]:
    """Return all points."""
    return [row(shift, order) for shift in SHIFTS for order in ORDERS]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(sweep(), indent=1) + "\n")
