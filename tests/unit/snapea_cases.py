"""Random layers for SnaPEA: balanced signs, many zeros, biases of both signs, ragged rows, strides, groups, K = 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from archsim.accelerators.base import Activity, Placement
from archsim.accelerators.snapea import Snapea
from archsim.accelerators.snapea.config import SnapeaConfig
from archsim.accelerators.snapea.function import Outcome, compute
from archsim.accelerators.snapea.order import SnapeaStored
from archsim.accelerators.snapea.plan import SnapeaPlan
from archsim.approx import LayerSetting
from archsim.workload.formats import Fixed, Scale
from archsim.workload.layers import Activation, Conv
from archsim.workload.params import LayerParams

RELU = Activation("relu")
EXACT = LayerSetting()


def config(**changes: Any) -> SnapeaConfig:
    """The published array, some fields changed."""
    return SnapeaConfig(**{**Snapea.presets["isca18"], **changes})


def levels(rows: dict[int, tuple[int, int]], filters: int) -> LayerSetting:
    """Level 1 = (th, n) for some filters, 0 for the others."""
    table = tuple({"filter": m, "level": 1, "th": th, "n": n} for m, (th, n) in rows.items())
    return LayerSetting({"speculation": tuple(int(m in rows) for m in range(filters))}, {"speculation": table})


@dataclass(frozen=True, eq=False)
class LayerCase:
    """A layer with codes of `batches` batches."""

    conv: Conv
    x: Any
    params: LayerParams
    setting: LayerSetting = EXACT

    def machine(self, **changes: Any) -> Snapea:
        return Snapea(config(**changes))

    def stored(self, **changes: Any) -> SnapeaStored:
        stored = self.machine(**changes).prepare(self.conv, self.params, self.setting)
        assert isinstance(stored, SnapeaStored)
        return stored

    def plan(self, placement: Placement | None = None, **changes: Any) -> SnapeaPlan:
        plan = self.machine(**changes).map(self.conv, self.stored(**changes), placement or Placement())
        assert isinstance(plan, SnapeaPlan)
        return plan

    def run(self, stored: SnapeaStored | None = None, **changes: Any) -> Activity:
        """Execute on the published array."""
        machine, held = self.machine(**changes), stored or self.stored(**changes)
        return machine.execute(self.conv, self.plan(**changes), self.x, held, self.setting, None)  # type: ignore[arg-type]

    def outcome(self, stored: SnapeaStored | None = None, **changes: Any) -> Outcome:
        """What every window did, before it becomes cycles."""
        return compute(config(**changes), self.conv, self.conv.N, self.x, stored or self.stored(**changes))

    def window_ops(self, stored: SnapeaStored | None = None, **changes: Any) -> Any:
        """Steps of every window, (N, M, P, Q): with one lane a group is a window."""
        op = self.outcome(stored, **{**changes, "lanes": 1}).group_op
        conv = self.conv
        return np.moveaxis(op.reshape(conv.M, len(self.x), conv.P, conv.Q), 1, 0)

    @cached_property
    def dense(self) -> LayerParams:
        """Parameters of the same layer without ReLU and requantisation."""
        return replace(self.params, y_scale=None)


def random_conv(rng: np.random.Generator) -> Conv:
    """Small and ragged: no size needs to fit the lanes, strides leave columns over."""
    kind = int(rng.integers(6))
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    R, S = (1, 1) if kind == 0 else (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
    channels = 1 if kind == 1 else int(rng.integers(1, 9))
    return Conv(
        name="random", inputs=("x",), output="y", activation=RELU, N=int(rng.integers(1, 3)),
        C=channels * groups, M=groups * int(rng.integers(1, 5)), groups=groups,
        H=int(rng.integers(R + 1, 10)), W=int(rng.integers(S + 1, 12)), R=R, S=S,
        stride=(int(rng.integers(1, 3)), int(rng.integers(1, 3))), pad=tuple(rng.integers(0, 2, 4).tolist()),
    )  # fmt: skip


def random_layer(seed: int, batches: int = 1) -> LayerCase:
    """One of the layers, with codes; a third of them zero-heavy with small numbers: sums often are exactly 0."""
    rng = np.random.default_rng(seed)
    conv = random_conv(rng)
    shape, K = (conv.M, conv.C // conv.groups, conv.R, conv.S), conv.weight_count // conv.M
    if seed % 3 == 2:
        weights = rng.integers(-2, 3, shape) * (rng.random(shape) < 0.5)
        x = rng.integers(0, 3, (batches * conv.N, conv.C, conv.H, conv.W))
        bias = rng.integers(-3, 4, conv.M)
    else:
        weights = rng.integers(-3000, 2700, shape)
        weights[rng.random(shape) < 0.15] = 0
        x = rng.integers(0, 9000, (batches * conv.N, conv.C, conv.H, conv.W))
        x[rng.random(x.shape) < 0.3] = 0
        bias = (rng.normal(-0.3, 1, conv.M) * 3000 * 4500 * np.sqrt(K)).astype(np.int64)
    params = LayerParams(
        Fixed(16), Scale(), Scale(), Scale(fraction_bits=0 if seed % 3 == 2 else -10),
        weights.astype(np.int16), bias.astype(np.int64), x_non_negative=True,
    )  # fmt: skip
    return LayerCase(conv, x.astype(np.int16), params)


def random_speculation(case: LayerCase, seed: int) -> LayerCase:
    """Give every other filter a threshold among its own partial sums."""
    rng = np.random.default_rng(seed)
    conv, K = case.conv, case.conv.weight_count // case.conv.M
    rows = {}
    for m in range(int(rng.integers(2)), conv.M, 2):
        n = int(rng.integers(1, K + 1))
        spread = np.abs(case.params.weights[m]).mean() * case.x.mean() * np.sqrt(n) + 1  # type: ignore[index]
        bias = 0 if case.params.bias is None else int(case.params.bias[m])
        rows[m] = (int(bias * n / K + rng.normal() * spread), n)
    return replace(case, setting=levels(rows, conv.M))
