"""Speed of SnaPEA: kernels in dense-equivalent GMAC per CPU second of one thread, whole studies in wall seconds.

The kernels really find where every window stops; cycles follow in closed form, checked against RTL, without stepping.
A component-stepping simulator does other work: the public SnaPEA branch of STONNE reaches 0.0006 to 0.003 GMAC per CPU
second (specification, section 17). Sign-balanced weights, half of the inputs zero; gathering of windows and
requantisation included. Exit code 1 if a 3x3 layer stays below the target or a study takes longer than its bar.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from threadpoolctl import threadpool_limits

from archsim.accelerators.snapea import Snapea
from archsim.accelerators.snapea.config import PRESETS, SnapeaConfig
from archsim.accelerators.snapea.function import compute
from archsim.accelerators.snapea.kernel import MACS
from archsim.accelerators.snapea.order import SnapeaStored
from archsim.approx import LayerSetting
from archsim.assets import data_folder
from archsim.workload.formats import Fixed, Scale
from archsim.workload.layers import Activation, Conv
from archsim.workload.params import LayerParams
from benchmarks.bench_studies import Bench, Spent, run_study

TARGET_GMAC_PER_CPU_S = 4.0
RUNS = 5


class Shape(NamedTuple):
    """One convolution that keeps the size of its map: batch, channels, filters, map, kernel."""

    N: int
    C: int
    M: int
    H: int
    R: int = 3


SHAPES = (
    Shape(1, 64, 64, 112),
    Shape(1, 128, 128, 56),
    Shape(1, 256, 256, 28),
    Shape(1, 512, 512, 14),
    Shape(8, 512, 512, 14),
    Shape(50, 16, 16, 32),
    Shape(50, 32, 32, 16),
    Shape(50, 64, 64, 8),
    Shape(1, 256, 64, 56, 1),
    Shape(1, 96, 256, 27, 5),
)


class StudyBar(NamedTuple):
    """A study and the wall seconds it may take on two cores."""

    bench: Bench
    bar_wall_s: float


STUDIES = (
    StudyBar(Bench("VGG-16, 15.5 GMAC, synthetic", "snapea-vgg16.yaml", 0, ("compare_to=null",)), 12.0),
    StudyBar(
        Bench(
            "SqueezeNet 1.0, 100 images",
            "snapea-squeezenet-exact.yaml",
            0,
            ("compare_to=null", "workload.timed_images=100"),
            images=True,
        ),
        120.0,
    ),
)


def layer(shape: Shape) -> tuple[Conv, Any, LayerParams]:
    """Return a layer with ReLU, codes of its inputs, and sign-balanced parameters."""
    rng = np.random.default_rng(0)
    pad = shape.R // 2
    conv = Conv(
        name="bench", inputs=("x",), output="y", activation=Activation("relu"), N=shape.N, C=shape.C, M=shape.M,
        H=shape.H, W=shape.H, R=shape.R, S=shape.R, pad=(pad, pad, pad, pad),
    )  # fmt: skip
    x = (rng.standard_normal((shape.N, shape.C, shape.H, shape.H)) * 8000).clip(0, 32767).astype(np.int16)
    weights = (rng.standard_normal((shape.M, shape.C, shape.R, shape.R)) * 3000).clip(-32768, 32767).astype(np.int16)
    bias = np.zeros(shape.M, np.int64)
    params = LayerParams(Fixed(16), Scale(), Scale(), Scale(fraction_bits=-12), weights, bias, x_non_negative=True)
    return conv, x, params


def speculating(filters: int, K: int) -> LayerSetting:
    """Return levels that let every filter speculate after an eighth of its weights."""
    rows = tuple({"filter": m, "level": 1, "th": 0, "n": max(1, K // 8)} for m in range(filters))
    return LayerSetting({"speculation": (1,) * filters}, {"speculation": rows})


def cpu_seconds(run: Callable[[], object]) -> float:
    """Return the least CPU time of RUNS calls, after one that compiles."""
    run()
    times = []
    for _ in range(RUNS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def speed(shape: Shape, mode: str) -> tuple[float, float]:
    """Return dense-equivalent GMAC per CPU second on one thread, and the share of MACs done."""
    conv, x, params = layer(shape)
    config = SnapeaConfig(**{**PRESETS["isca18"], "mode": mode})
    setting = speculating(conv.M, conv.weight_count // conv.M) if mode == "predictive" else LayerSetting()
    stored = Snapea(config).prepare(conv, params, setting)
    assert isinstance(stored, SnapeaStored)
    numba.set_num_threads(1)
    with threadpool_limits(1):
        share = compute(config, conv, shape.N, x, stored).stats[..., MACS].sum() / conv.macs_dense
        return conv.macs_dense / cpu_seconds(lambda: compute(config, conv, shape.N, x, stored)) / 1e9, float(share)


def measure(shape: Shape) -> bool:
    """Print one line for a layer; return whether the target is met, if it applies."""
    (exact, done), (bold, done_bold) = (speed(shape, mode) for mode in ("exact", "predictive"))
    met = shape.R != 3 or exact >= TARGET_GMAC_PER_CPU_S
    mark = " " if shape.R != 3 else "+" if met else "<"
    name = f"{shape.N}x{shape.C}x{shape.H} -> {shape.M}, {shape.R}x{shape.R}"
    print(f"{name:<24} {exact:7.2f} {mark} {100 * done:6.1f} % {bold:10.2f} {100 * done_bold:6.1f} %", flush=True)
    return met


def spend_study(one: StudyBar) -> Spent:
    """Run a study as a user does, after a run that compiles; return the better of two."""
    with tempfile.TemporaryDirectory() as folder:
        run_study(one.bench, Path(folder))
        return min((run_study(one.bench, Path(folder)) for _ in range(2)), key=lambda run: run.wall_s)


def measure_study(one: StudyBar) -> bool:
    """Print the line of a study; return whether its bar is met."""
    name = one.bench.name
    if one.bench.images and data_folder() is None:
        print(f"{name:<30} skipped: no external data, set ARCHSIM_DATA")
        return True
    spent = spend_study(one)
    met = spent.wall_s <= one.bar_wall_s
    mark = "+" if met else "<"
    print(
        f"{name:<30} {spent.wall_s:7.2f} {one.bar_wall_s:6.1f}{mark} {spent.cpu_s:7.2f} {spent.peak_MB:8.0f}",
        flush=True,
    )
    return met


def main() -> int:
    """Measure kernels on one thread, then studies; return 1 if a target is missed."""
    print(f"dense-equivalent GMAC per CPU second, one thread, best of {RUNS}; share of MACs done")
    print(f"{'layer':<24} {'exact':>7}   {'done':>8} {'predictive':>10} {'done':>8}")
    met = [measure(shape) for shape in SHAPES]
    print(f"target {TARGET_GMAC_PER_CPU_S} on 3x3 layers, exact (+ met, < missed)")
    print(f"{'study':<30} {'wall s':>7} {'bar':>6}  {'CPU s':>7} {'peak MB':>8}")
    met += [measure_study(one) for one in STUDIES]
    print("all targets met" if all(met) else f"{met.count(False)} targets missed")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
