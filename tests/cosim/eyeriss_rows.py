"""Rows, layers and runs that the tests of the Eyeriss PE share."""

from __future__ import annotations

from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from archsim.accelerators.base import Signals, Stored, accelerator_class
from archsim.accelerators.eyeriss.config import EyerissConfig
from archsim.accelerators.eyeriss.plan import EyerissPlan
from archsim.accelerators.eyeriss.rtl import EYERISS_PE
from archsim.accelerators.eyeriss.rtl_cases import random_cases
from archsim.accelerators.eyeriss.rtl_model import (
    ALWAYS_READY,
    EyerissPe,
    PeCase,
    parameters_of,
)
from archsim.cosim.job import Verdict
from archsim.cosim.simulator import build, choose_simulator, run
from archsim.workload.formats import Fixed, Scale
from archsim.workload.layers import Conv
from archsim.workload.params import LayerParams

MODES = ("wide", "chip16")
SHIFT = 12
"""Truncation point of real layers and chains: some of their psums saturate, most do not."""


@cache
def config(mode: str, **changes: Any) -> EyerissConfig:
    machine = accelerator_class("eyeriss")
    fields = {**machine.presets["chip-jssc17"], "psum_mode": mode, "product_shift": SHIFT}
    made = machine.Config(**{**fields, **changes})
    assert isinstance(made, EyerissConfig)
    return made


@cache
def cases(mode: str, count: int = 152) -> tuple[PeCase, ...]:
    return tuple(islice(random_cases(config(mode), 1), count))


def simulated(folder: Path, given: tuple[PeCase, ...] | list[PeCase], mode: str, **options: Any) -> Verdict:
    folder.mkdir(exist_ok=True)
    machine = options.pop("config", config(mode))
    return run(build(EYERISS_PE, parameters_of(machine), choose_simulator(), **options), given, folder)


def agreed(folder: Path, given: tuple[PeCase, ...] | list[PeCase], mode: str, **options: Any) -> Verdict:
    verdict = simulated(folder, given, mode, **options)
    assert verdict.difference is None, str(verdict.difference)
    assert verdict.cases == len(given) and verdict.results == sum(len(one.outcomes) for one in given)
    return verdict


def held_up(mode: str) -> list[PeCase]:
    return [case for case in cases(mode) if case.patterns != ALWAYS_READY]


def played(case: PeCase, mode: str) -> list[tuple[Signals, Signals]]:
    return list(case.play(EyerissPe(parameters_of(config(mode)))))


def layer(R: int, C: int, M: int, width: int, **fields: Any) -> Conv:
    sizes = {"H": R + 3, "S": R, "N": 1} | fields
    return Conv(name="conv", inputs=("x",), output="y", C=C, M=M, W=width, R=R, **sizes)


def plan_of(conv: Conv, p: int, q: int, sets: int = 1) -> EyerissPlan:
    return EyerissPlan(conv.N, 1, conv.M, 1, p, q, sets, 1)


def drawn(conv: Conv, seed: int = 3, peak: int = 4000) -> tuple[np.ndarray[Any, Any], Stored]:
    """Codes of one image, half of them zero, and parameters of the network's last layer: y are accumulators."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-peak, peak + 1, (1, conv.C, conv.H, conv.W)).astype(np.int16)
    x[rng.random(x.shape) < 0.5] = 0
    weights = rng.integers(-peak, peak + 1, (conv.M, conv.C // conv.groups, conv.R, conv.S)).astype(np.int16)
    scale = Scale(fraction_bits=10)
    bias = rng.integers(-(1 << 24), 1 << 24, conv.M)
    return x, Stored(LayerParams(Fixed(16), scale, scale, None, weights, bias))
