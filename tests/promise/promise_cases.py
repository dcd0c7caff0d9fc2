"""What the tests of PROMISE share: machines, products as layers, the steps of the released model written down again."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np

from archsim.accelerators.base import BatchActivity
from archsim.accelerators.clockwork import Timed, simulate_batch
from archsim.accelerators.promise import Promise
from archsim.accelerators.promise.config import PRESETS, PromiseConfig
from archsim.accelerators.promise.schedule import Product, PromisePlan, chunks_of, dot_products
from archsim.accelerators.promise.swing import SWINGS, Swing
from archsim.energy import PriceTable
from archsim.memory.base import Memory, memory_class
from archsim.workload.layers import Linear
from tests.conftest import ROOT

GOLDEN: dict[str, Any] = json.loads((ROOT / "tests" / "reference" / "promise_golden.json").read_text())
BY_NAME = {swing.name: swing for swing in SWINGS}


def config(**changes: Any) -> PromiseConfig:
    return PromiseConfig(**{**PRESETS["hpvm"], **changes})


def machine(**changes: Any) -> Promise:
    return Promise(config(**changes))


@cache
def prices() -> PriceTable:
    return machine().prices


def golden_memory(**changes: Any) -> Memory:
    link = memory_class("link")
    return link(link.Config(**{**link.presets["promise-golden"], **changes}))


def plan_of(m: int, k: int, n: int, banks: int = 256, patch: int = 1) -> PromisePlan:
    product = Product(m, k, n)
    one = product.oriented
    chunks = chunks_of(product, banks)
    return PromisePlan(m, 1, one.m, one.k, one.n, product.swapped, banks, False, patch, chunks)


def linear(m: int, k: int, n: int) -> Linear:
    return Linear(name="product", inputs=("x",), output="y", N=m, C=k, M=n)


def simulated(plan: PromisePlan, swing: Swing = SWINGS[-1], memory: Memory | None = None, **changes: Any) -> Timed:
    """One batch of a product on simpy's clock."""
    activity = BatchActivity(plan.m * plan.k * plan.n, ((swing.action, dot_products(plan)),))
    layer = linear(plan.m, plan.k, plan.n)
    return simulate_batch(machine(**changes), memory or golden_memory(), layer, plan, activity)


def shapes(count: int, seed: int = 0, longest: int = 4096) -> list[tuple[int, int, int]]:
    """Random products with m <= 256, k <= `longest`, n <= 2048, half of each size small: both orientations, ragged."""
    rng = np.random.default_rng(seed)
    return [
        tuple(int(rng.integers(1, most + 1) ** rng.choice((1.0, 0.5))) for most in (256, longest, 2048))
        for _ in range(count)
    ]  # type: ignore[misc]


def released_model(m: int, k: int, n: int, energy_pJ: float, banks: int = 256) -> dict[str, float]:
    """Section 4 of the specification, step by step in floating point; ns and pJ."""
    if m > n:
        m, n = n, m
    bpc, ct = -(-k // 128), -(-n // 128)
    par = min(1 if banks < bpc * ct else banks // (bpc * ct), m)
    told = dict.fromkeys(("compute", "memory", "compute_pJ", "dram_pJ", "sram_pJ", "leakage_pJ"), 0.0)

    def move(n_bytes: int, active: int) -> None:
        time = 100 + n_bytes / 30
        told["memory"] += time
        told["dram_pJ"] += 160 * n_bytes
        told["leakage_pJ"] += 6 * active * time

    rest = n
    while rest > 0:
        act = min(banks // bpc, -(-rest // 128))
        ty = min(rest, 128 * act)
        move(k * ty, bpc * act * par)
        told["sram_pJ"] += 0.1875 * k * ty
        for row in range(0, m, par):
            rows = min(par, m - row)
            active = bpc * act * rows
            for _ in range(rows):
                move(k, active)
            time = 14 * min(ty, 128) + 10
            told["compute"] += time
            told["compute_pJ"] += energy_pJ * min(ty, 128) * active
            told["leakage_pJ"] += 6 * active * time
            move(ty * rows, active)
        rest -= 128 * act
    return told
