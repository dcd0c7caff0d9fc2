"""The tables of docs/bloom.md, from runs: `python -m tests.accept.bloom_page` writes them into the page."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from archsim.accelerators.bloom.profile import frequent_products, key_counts, operands_of, products_of
from archsim.accelerators.bloom.stream import stream_of
from archsim.config import load_study
from archsim.run import simulate
from archsim.session import Session
from archsim.workload.bench import Workbench
from archsim.workload.calibrate import calibration_inputs
from archsim.workload.datasets import load_data
from archsim.workload.networks import load_network
from tests.accept.page import Page, Rows, Table
from tests.accept.tuned import ROOT
from tests.bloom.cases import THESIS

LAYERS = ("conv1", "conv2", "fc1", "fc2", "fc3")
ROWS = ((8, 10), (9, 5), (9, 10), (9, 20), (9, 30), (9, 40), (9, 50), (10, 10), (10, 50), (11, 10), (11, 50))
EXACT_PATTERNS = (5, 10, 20, 30, 50)
KERNELS = ("sobel", "roberts", "sharpen", "prewitt", "scharr")
LINEAR_POINTS = 0.758
Rates = Mapping[tuple[int, int, str], float]


@cache
def operands(file: str, images: int) -> tuple[Any, ...]:
    """The multiplications of every layer of LeNet-5 on some images."""
    network = load_network("lenet5_mnist.onnx")
    inputs = calibration_inputs(network, load_data(file=file, images=images).images, LAYERS)
    layers = {layer.name: layer for layer in network.layers}
    return tuple(operands_of(stream_of(layers[n]), inputs[n], network.params[n].weights) for n in LAYERS)


def total(layers: Sequence[Any]) -> int:
    return sum(one.stream.operations * len(one.x) for one in layers)


@cache
def hit_rates(profile_images: int, test_images: int = 300) -> Rates:
    """Share of multiplications of test images whose pattern is stored, in percent, by (apx, N, scope)."""
    profile, test = operands("mnist_train_60000.npz", profile_images), operands("mnist_test_0000_4999.npz", test_images)
    found = {}
    for apx in sorted({apx for apx, _ in ROWS}):
        most = max(N for one, N in ROWS if one == apx)
        scopes = {"layer": [([a], [b]) for a, b in zip(profile, test)], "global": [(list(profile), list(test))]}
        for scope, pairs in scopes.items():
            seen = [hits_of(a, b, apx, most, key_counts(a, apx)) for a, b in pairs]
            for N in (N for one, N in ROWS if one == apx):
                found[apx, N, scope] = 100 * sum(float(one[:N].sum()) for one in seen) / total(test)
    return found


def hits_of(profile: Sequence[Any], test: Sequence[Any], apx: int, N: int, counted: Any) -> Any:
    """How often each of the N most frequent patterns of the profile occurs in the test images."""
    chosen = frequent_products(profile, apx, N, "trunc", counted)
    keys = chosen.tops[:, 0].astype(np.uint64) << np.uint64(apx) | chosen.tops[:, 1].astype(np.uint64)
    return products_of(test, apx, keys)[1]


@cache
def exact_rates(images: int = 30) -> Rates:
    """The same for patterns of 32 bits."""
    profile, test = operands("mnist_train_60000.npz", images), operands("mnist_test_0000_4999.npz", images)
    found = {}
    scopes = {"layer": [([a], [b]) for a, b in zip(profile, test)], "global": [(list(profile), list(test))]}
    for scope, pairs in scopes.items():
        seen = [hits_of(a, b, 32, max(EXACT_PATTERNS), None) for a, b in pairs]
        for N in EXACT_PATTERNS:
            found[32, N, scope] = 100 * sum(float(one[:N].sum()) for one in seen) / total(test)
    return found


@cache
def lenet(apx: int, N: int, m: int = 64, k: int = 2, rep: str = "mean", images: int = 1000, **fields: Any) -> Any:
    """A run of configs/bloom-lenet.yaml with other filters."""
    npu = "platform.accelerators.npu"
    sets = [f"{npu}.match_levels=[{', '.join([f'[{apx}, {N}]'] * 5)}]", f"{npu}.m={m}", f"{npu}.k={k}",
            f"{npu}.representative={rep}", f"workload.data.images={images}"]  # fmt: skip
    sets += [f"{npu}.vector_energy_pJ=0.0012"] if m == 32 else []
    sets += [f"{npu}.{name}={value}" for name, value in fields.items()]
    return simulate(load_study("bloom-lenet.yaml", sets))


def shares(result: Any) -> dict[str, float]:
    """Hits, false hits and saved energy of the multipliers over all layers, in percent."""
    layers = [layer.metrics for layer in result.layers if layer.accelerator == "npu"]
    sums = {name: sum(one[name] for one in layers) for name in
            ("query_events", "hit_events", "false_hit_events", "unit_energy_pJ", "unit_exact_energy_pJ")}  # fmt: skip
    return {
        "hits": 100 * sums["hit_events"] / sums["query_events"],
        "false": 100 * sums["false_hit_events"] / sums["query_events"],
        "saved": 100 * (1 - sums["unit_energy_pJ"] / sums["unit_exact_energy_pJ"]),
    }


@cache
def kernel(name: str, level: int = 1, images: int = 6, **fields: Any) -> Any:
    """A run of an image kernel on photographs with the filters of its preset."""
    npu = "platform.accelerators.npu"
    sets = [f"workload.network={name}.yaml", f"{npu}.preset={name}-t23", f"knobs.kernel.bloom_match={level}",
            f"workload.data.images={images}"]  # fmt: skip
    return simulate(load_study("bloom-sobel-study.yaml", [*sets, *(f"{npu}.{k}={v}" for k, v in fields.items())]))


def photograph_seconds() -> float:
    """Wall seconds of one photograph through Sobel, level 1; profile and design of the filters come before."""
    study = load_study("bloom-sobel-study.yaml", ["workload.data.images=1"])
    session = Session(Workbench(study.workload, study.folder), study, study.assign)
    (layer,) = session.network.layers
    seat = session.seating.seat(layer, study.setting["kernel"])
    assert session.bench.data is not None
    x = session.bench.data.images[:, None].astype(np.float32)
    seat.execute(x, 0)
    started = time.perf_counter()
    seat.execute(x, 0)
    return time.perf_counter() - started


def unit_hits(result: Any) -> dict[str, float]:
    """Hit rate of every kind of unit, in percent."""
    (metrics,) = (layer.metrics for layer in result.layers)
    return {
        kind: 100 * metrics[f"{kind}_hit_events"] / metrics[f"{kind}_query_events"]
        for kind in ("add", "mul", "mac", "sqrt")
        if f"{kind}_query_events" in metrics
    }


# tables ---------------------------------------------------------------------------------------------------------------
def hits_rows() -> Rows:
    ours, more = hit_rates(600), hit_rates(3000)
    printed = {(row[0], row[1]): row[4] for row in THESIS["table_2.5"]} | {(10, 50): 57.1}
    return [
        [f"({apx}, {N})", str(printed.get((apx, N), "-")), *(f"{one[apx, N, scope]:.1f}" for one in (ours, more)
         for scope in ("layer", "global"))]
        for apx, N in ROWS
    ]  # fmt: skip


def exact_rows() -> Rows:
    found = exact_rates()
    return [[str(N), f"{found[32, N, 'layer']:.1f}", f"{found[32, N, 'global']:.1f}"] for N in EXACT_PATTERNS]


def lenet_rows() -> Rows:
    rows = []
    for apx, N, m, k, hits, accuracy, saved in THESIS["table_2.5"]:
        run = lenet(apx, N, m, k)
        ours = shares(run)
        rows.append([f"({apx}, {N})", f"({m}, {k})", f"{hits}", f"{ours['hits']:.1f}", f"{ours['false']:.1f}",
                     f"{saved}", f"{ours['saved']:.1f}", f"{accuracy}", f"{100 * run.accuracy.top1:.1f}"])  # fmt: skip
    return rows


def representatives_rows() -> Rows:
    return [
        [f"({apx}, {N})", *(f"{100 * lenet(apx, N, rep=rep).accuracy.top1:.1f}" for rep in REPRESENTATIVES)]
        for apx, N in ((8, 10), (9, 10), (9, 30))
    ]


REPRESENTATIVES = ("mean", "mid", "first", "mode", "trunc")


def kernels_rows() -> Rows:
    rows = []
    for name in KERNELS:
        run, cmos = kernel(name), kernel(name, vector_technology="cmos")
        ratio, dear = (1 - shares(one)["saved"] / 100 for one in (run, cmos))
        for i, (kind, hits) in enumerate(unit_hits(run).items()):
            first = [f"{run.quality.value:.1f}", f"{ratio:.3f}", f"{dear:.3f}"] if not i else ["", "", ""]
            printed = THESIS["table_2.3"][name].get(kind, [0, 0, "-"])[2]
            rows.append([name if not i else "", kind, str(printed), f"{hits:.1f}", *first])
    return rows


TABLES: dict[str, Table] = {
    "hits": (
        ("(bits, patterns)", "thesis", "layer, 600 images", "global, 600", "layer, 3000", "global, 3000"),
        hits_rows,
    ),
    "exact": (("patterns", "layer", "global"), exact_rows),
    "lenet": (
        ("(bits, patterns)", "(m, k)", "hits %, thesis", "hits %", "false %", "saved %, thesis", "saved %",
         "right %, thesis", "right %"),
        lenet_rows,
    ),
    "representatives": (("(bits, patterns)", *REPRESENTATIVES), representatives_rows),
    "kernels": (
        ("kernel", "unit", "hits %, thesis", "hits %", "PSNR dB", "energy of units, resistive", "CMOS"),
        kernels_rows,
    ),
}  # fmt: skip
BLOOM = Page(ROOT / "docs" / "bloom.md", TABLES)

if __name__ == "__main__":
    import sys

    BLOOM.write(sys.argv[1:])
