"""The tables of docs/snapea.md, from runs: `python -m tests.accept.snapea_page` writes them into the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import archsim
from archsim.accelerators.snapea.config import PRESETS, SnapeaConfig
from archsim.result import LayerResult, RunResult
from tests.accept.page import Page, Rows, Table
from tests.accept.tuned import ROOT, curve, tuned

NPU = "platform.accelerators.npu"
DROP, FOLD = f"{NPU}.drop_zero_weights=true", "workload.fold_input_norm=true"
LENET = ("snapea-lenet-study", f"{NPU}.mode=exact")
RESNET = ("snapea-resnet20-exact",)
SQUEEZENET = ("snapea-squeezenet-exact",)
PRUNED = (*SQUEEZENET, DROP, FOLD)
IMAGES = 100
ORDERS = ("index", "magnitude", "activation")
LANES = (1, 2, 4, 8, 16)
EQUAL_MACS = {1: (16, 16), 2: (16, 8), 4: (8, 8), 8: (8, 4), 16: (4, 4)}
PRICES = ("register_file", "by_size", "global_buffer")
TUNED = {"LeNet-5": "snapea-lenet", "ResNet-20": "snapea-resnet20", "SqueezeNet": "snapea-squeezenet"}


# runs ----------------------------------------------------------------------------------------------------------------
@cache
def run(name: str, *changes: str, images: int = IMAGES) -> RunResult:
    """Run a study on some real images, all of them timed."""
    sizes = [f"workload.data.images={images}", f"workload.timed_images={images}"]
    return archsim.simulate(archsim.load_study(name if name.endswith(".yaml") else f"{name}.yaml", [*changes, *sizes]))


def layers(result: RunResult, *, stopping: bool = False) -> list[LayerResult]:
    """Return what the array ran: all layers, or those whose windows may stop."""
    found = [layer for layer in result.layers if layer.accelerator == "npu" and layer.macs_dense]
    return [layer for layer in found if "total_windows" in layer.metrics] if stopping else found


def total(some: Sequence[LayerResult], name: str) -> float:
    """Add up a metric, or a field, over layers."""
    return sum(float(getattr(one, name) if hasattr(one, name) else one.metrics.get(name, 0)) for one in some)


def share(result: RunResult, upper: str, lower: str) -> float:
    """Divide two sums over the layers whose windows may stop."""
    some = layers(result, stopping=True)
    return total(some, upper) / total(some, lower)


def done(result: RunResult) -> float:
    """MACs done of all dense ones, zero weights and layers that run dense included."""
    return result.totals.macs_done / result.totals.macs_dense


def off(result: RunResult) -> float:
    """Speedup over the same array with termination off."""
    return total(layers(result), "termination_off_cycles") / total(layers(result), "cycles")


def off_energy(result: RunResult) -> float:
    """The same for the energy on the chip."""
    some = layers(result)
    return total(some, "termination_off_on_chip_energy_pJ") / total(some, "on_chip_energy_pJ")


def ratio(result: RunResult, name: str = "latency") -> float:
    """Eyeriss over SnaPEA."""
    assert result.compare_to is not None
    value = result.compare_to.ratios[name]
    assert value is not None
    return value


def dense_ratio(result: RunResult) -> float:
    """Eyeriss over the same array with termination off: what the array gains without looking at a sum."""
    return ratio(result) / off(result)


def eyeriss_busy(result: RunResult) -> float:
    """MACs per PE and cycle of the baseline."""
    assert result.compare_to is not None and result.compare_to.totals.cycles is not None
    return result.compare_to.totals.macs_dense / (256 * result.compare_to.totals.cycles)


def snapea_busy(result: RunResult) -> float:
    """Dense MACs per lane and cycle with termination off."""
    return result.totals.macs_dense / (256 * total(layers(result), "termination_off_cycles"))


def energies(result: RunResult) -> str:
    """The energy ratios under the three prices of the I/O RAM."""
    return " / ".join(f"{ratio(result, f'energy, io_ram_price {price}'):.2f}" for price in PRICES)


# tables --------------------------------------------------------------------------------------------------------------
def exact_rows() -> Rows:
    """Exact mode, a row per network and variant."""
    variants = {
        "LeNet-5": LENET,
        "ResNet-20": RESNET,
        "SqueezeNet": SQUEEZENET,
        "… zeros dropped": (*SQUEEZENET, DROP),
        "… input folded": (*SQUEEZENET, FOLD),
        "… both": PRUNED,
    }
    return [exact_row(name, run(*variant)) for name, variant in variants.items()]


def exact_row(name: str, result: RunResult) -> list[str]:
    stopping = f"{len(layers(result, stopping=True))}/{len(layers(result))}"
    shares = (
        share(result, "negative_windows", "total_windows"),
        share(result, "non_negative_macs", "streamed_macs"),
        share(result, "bound_macs", "streamed_macs"),
        share(result, "macs_done", "streamed_macs"),
        done(result),
    )
    ratios = (off(result), off_energy(result), dense_ratio(result), ratio(result))
    return [name, stopping, *(f"{100 * one:.1f}" for one in shares), *(f"{one:.3f}" for one in ratios[:2]),
            *(f"{one:.2f}" for one in ratios[2:]), energies(result)]  # fmt: skip


def use_rows() -> Rows:
    """How busy both arrays are, without termination."""
    networks = {"LeNet-5": LENET, "ResNet-20": RESNET, "SqueezeNet": SQUEEZENET}
    return [
        [name, f"{100 * eyeriss_busy(run(*one)):.0f}", f"{100 * snapea_busy(run(*one)):.0f}"]
        for name, one in networks.items()
    ]


def order_rows() -> Rows:
    """The orders of weights inside the parts of a kernel."""
    networks = {"LeNet-5": LENET, "ResNet-20": RESNET, "SqueezeNet": SQUEEZENET, "SqueezeNet, both": PRUNED}
    return [
        [name, *(_order_cell(run(*one, f"{NPU}.region_order={order}")) for order in ORDERS)]
        for name, one in networks.items()
    ]


def _order_cell(result: RunResult) -> str:
    return f"{100 * share(result, 'macs_done', 'streamed_macs'):.1f} / {off(result):.3f} / {off_energy(result):.3f}"


def lane_rows() -> Rows:
    """Lanes, on 64 PEs and on 256 MACs; speedups over the same array with termination off, and over Eyeriss."""
    rows = []
    for lanes in LANES:
        pes, columns = EQUAL_MACS[lanes]
        equal = (f"{NPU}.pe_rows={pes}", f"{NPU}.pe_columns={columns}")
        row = [str(lanes)]
        for network in (RESNET, PRUNED):
            for change in ((), equal):
                result = run(*network, f"{NPU}.lanes={lanes}", *change, images=10)
                row.append(f"{off(result):.3f} / {ratio(result):.2f}")
        rows.append(row)
    return rows


def loss_rows() -> Rows:
    """What becomes of the MACs that are saved: bit by bit what the array makes of them."""
    bold = tuned(TUNED["ResNet-20"]) / "loss-3" / "study.yaml"
    studies = {"ResNet-20": RESNET, "ResNet-20, bound 3": (str(bold),), "SqueezeNet, both": PRUNED}
    return [[name, *(f"{one:.3f}" for one in _losses(study))] for name, study in studies.items()]


def _losses(study: tuple[str, ...]) -> list[float]:
    """Speedup of the MACs alone, with one lane, with four lanes that lose no cycle, and as it is."""
    real = run(*study)
    streamed = total(layers(real), "macs_dense") - dropped(real)
    steps = [off(run(*study, f"{NPU}.bubble_cycles=0", f"{NPU}.lanes={lanes}")) for lanes in (1, 4)]
    return [streamed / real.totals.macs_done, *steps, off(real)]


def dropped(result: RunResult) -> float:
    """MACs of zero weights that are not in the stream."""
    some = layers(result, stopping=True)
    return total(some, "macs_dense") - total(some, "streamed_macs")


def predictive_rows() -> Rows:
    """Algorithm 1: a row per network and bound."""
    rows = []
    for name, task in TUNED.items():
        folder = tuned(task)
        for point in curve(folder)["points"]:
            result = run(str(folder / point["study"]))
            negative, positive = share_of_threshold(result, "negative"), share_of_threshold(result, "positive")
            rows.append(
                [
                    name,
                    f"{point['max_loss_points']:g}",
                    f"{point['loss_points']:.2f}",
                    f"{point['test_loss_points']:.2f}",
                    f"{point['layers_approximated']}/{len(layers(result))}",
                    f"{100 * done(result):.1f}",
                    f"{off(result):.3f}",
                    f"{ratio(result):.2f}",
                    energies(result),
                    *(f"{100 * one:.1f}" for one in (negative, positive, small_share(result))),
                ]
            )
    return rows


def speculating(result: RunResult) -> list[LayerResult]:
    """Return the layers with thresholds."""
    return [layer for layer in layers(result) if "threshold_stopped_windows" in layer.metrics]


def share_of_threshold(result: RunResult, sign: str) -> float:
    """Share of the negative, or positive, results of layers with thresholds that a threshold stopped."""
    some, kind = speculating(result), {"negative": "true_negative", "positive": "false_negative"}[sign]
    return total(some, f"{kind}_windows") / total(some, f"{sign}_windows") if some else 0.0


def small_share(result: RunResult) -> float:
    """Share of the positive results lost that are below a tenth of the layer's largest."""
    some = speculating(result)
    lost = total(some, "false_negative_windows")
    return total(some, "false_negative_below_10_percent_windows") / lost if lost else 0.0


# the paper -----------------------------------------------------------------------------------------------------------
def paper_rows() -> Rows:
    """Printed figures beside ours."""
    networks = {"LeNet-5": LENET, "ResNet-20": RESNET, "SqueezeNet": SQUEEZENET, "both": PRUNED}
    exact = {name: run(*one) for name, one in networks.items()}
    points = {name: [run(str(tuned(task) / f"loss-{bound}" / "study.yaml")) for bound in (1, 2, 3)]
              for name, task in TUNED.items()}  # fmt: skip
    bold = {name: runs[-1] for name, runs in points.items()}

    def each(results: dict[str, RunResult], figure: Callable[[RunResult], str]) -> str:
        return ", ".join(f"{name} {figure(one)}" for name, one in results.items())

    nu = each(exact, lambda one: f"{100 * share(one, 'negative_windows', 'total_windows'):.0f}")
    gains = each(exact, lambda one: f"{ratio(one):.2f} = {dense_ratio(one):.2f} x {off(one):.3f}")
    saved = each(exact, lambda one: f"{off_energy(one):.3f}; {energies(one)}")
    wide = each(bold, lambda one: f"{ratio(one):.2f} = {dense_ratio(one):.2f} x {off(one):.3f}")
    wide_saved = each(bold, lambda one: f"{off_energy(one):.3f}; {energies(one)}")
    curves = "; ".join(
        f"{name} " + ", ".join(f"{ratio(one):.2f}" for one in (exact[name], *runs)) for name, runs in points.items()
    )
    stopped = each(bold, lambda one: f"{len(speculating(one))}/{len(layers(one))}")
    rates = each(
        bold,
        lambda one: (
            f"{100 * share_of_threshold(one, 'negative'):.0f} / {100 * share_of_threshold(one, 'positive'):.0f}"
        ),
    )
    small = each(bold, lambda one: f"{100 * small_share(one):.0f}")
    linear = total([layer for layer in exact["LeNet-5"].layers if layer.type == "Linear"], "macs_dense")
    fc = f"LeNet-5 {100 * linear / exact['LeNet-5'].totals.macs_dense:.0f} %, SqueezeNet none"
    return [
        ["T4", "negative results, %", "42 to 68", nu],
        ["T5, T6", "exact, speedup over Eyeriss", "mean 1.28, SqueezeNet 1.30", gains],
        ["T5, T6", "exact, energy", "mean 1.16, SqueezeNet 1.14", saved],
        ["T7", "predictive, bound 3, speedup", "mean 1.90, SqueezeNet 1.80", wide],
        ["T7", "predictive, bound 3, energy", "SqueezeNet 1.42", wide_saved],
        ["T8", "speedup at 0 (exact), 1, 2, 3 points", "1.28, 1.38, 1.63, 1.90", curves],
        ["T10", "layers with thresholds, bound 3", "SqueezeNet 17/26", stopped],
        ["T11", "TN / FN, %", "mean 56 / 20, SqueezeNet 49 / 17", rates],
        ["T12", "lost results that are small, %", "> 86, undefined", small],
        ["T14", "area of the array, mm2", "18.62", f"{area():.2f}"],
        ["T16", "share of FC layers in the MACs", "1 %", fc],
    ]


def area() -> float:
    """Area of the preset's PEs."""
    found = SnapeaConfig(**PRESETS["isca18"]).area_mm2
    assert found is not None
    return found


TABLES: dict[str, Table] = {
    "exact": (
        ("network", "layers that may stop", "nu %", "pi %", "bound %", "done %", "done, all layers %", "x off",
         "x off, energy", "dense array / Eyeriss", "x Eyeriss", "energy, Eyeriss / SnaPEA"),
        exact_rows,
    ),
    "use": (("network", "Eyeriss, busy PEs %", "SnaPEA, busy lanes %"), use_rows),
    "orders": (("network", *ORDERS), order_rows),
    "losses": (("network", "MACs", "1 lane, B = 0", "4 lanes, B = 0", "4 lanes, B = 3"), loss_rows),
    "lanes": (
        ("lanes", "ResNet-20, 64 PEs", "ResNet-20, 256 MACs", "SqueezeNet, both, 64 PEs", "SqueezeNet, both, 256 MACs"),
        lane_rows,
    ),
    "predictive": (
        ("network", "bound", "lost", "lost, unseen", "layers", "done, all layers %", "x off", "x Eyeriss",
         "energy, Eyeriss / SnaPEA", "TN %", "FN %", "small %"),
        predictive_rows,
    ),
    "paper": (("target", "figure", "thesis", "archsim"), paper_rows),
}  # fmt: skip


SNAPEA = Page(ROOT / "docs" / "snapea.md", TABLES)

if __name__ == "__main__":
    import sys

    SNAPEA.write(sys.argv[1:])
