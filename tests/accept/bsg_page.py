"""The tables of docs/bsg.md, from runs and from the committed logs: `python -m tests.accept.bsg_page` writes them."""

from __future__ import annotations

import json
from functools import cache
from statistics import mean
from typing import Any

import archsim
from archsim.accelerators.bsg.config import PRESETS, BsgConfig
from archsim.accelerators.bsg.parameters import ParameterCounts, count_parameters
from archsim.accelerators.bsg.resources import power_mW, resources_of
from archsim.approx import LayerSetting
from archsim.result import LayerResult, RunResult
from archsim.session import Session
from archsim.workload.bench import Workbench
from archsim.workload.networks import load_network
from tests.accept.page import Page, Rows, Table
from tests.accept.tuned import ROOT
from tests.bsg.test_bsg_trained import NETWORKS, accuracy_of, log, study_of, sweep

NPU = "platform.accelerators.npu"
RESNET56 = {  # n_c: ms, mJ, saving of DRAM; the thesis's Table 5.6
    256: (24.25, 40.25, 35.38),
    512: (24.54, 41.22, 32.48),
    1024: (27.09, 46.05, 27.9),
    2048: (29.2, 47.30, 21.77),
}
ORIGINAL = (28.8, 50.11)
PARAMETERS = {256: (99, 11, 77.2), 512: (193, 17, 50.3), 1024: (382, 29, 29.7), 2048: (759, 52, 16.3)}
MOBILENET = {64: (1.73, 1.56, 44.24), 128: (1.92, 1.57, 43.87), 256: (2.30, 1.59, 43.13)}
BERS = (3e-3, 3e-2, 1e-1)
TRAINED_COLUMNS = ("weights", "cycles", "us", "uJ", "DRAM words", "top-1 %", "fp32 %")


@cache
def run(config: str, **fields: Any) -> RunResult:
    """Run a shipped study with some fields of its machine changed."""
    changes = [f"{NPU}.{key}={value}" for key, value in fields.items()]
    return archsim.simulate(archsim.load_study(f"{config}.yaml", changes))


def words(layers: tuple[LayerResult, ...]) -> int:
    """Return the 16-bit words that pass between DRAM and the chip."""
    return sum(layer.metrics.get(f"dram_words_{way}", 0) for layer in layers for way in ("read", "written"))


def off(ours: float, printed: float) -> str:
    """Return the difference in percent."""
    return f"{100 * (ours / printed - 1):+.1f} %"


def convs(layers: tuple[LayerResult, ...]) -> tuple[int, float]:
    """Return cycles and latency in ms of the convolutions."""
    mine = [layer for layer in layers if layer.name != "fc"]
    return sum(layer.cycles for layer in mine), sum(layer.latency_us for layer in mine) / 1000


def latency() -> Rows:
    """Table 5.6, latency: the clock from its column Original."""
    base = run("bsg-resnet56").compare_to
    assert base is not None
    cycles, ms = convs(base.layers)
    rows = [["slices loaded (Original)", f"{cycles:,}", f"{ms:.2f}", "-", f"{ORIGINAL[0]}", "0 (calibrated)"]]
    for n_c, (printed, _, _) in RESNET56.items():
        (cycles, ms), (_, slow) = (convs(run("bsg-resnet56", n_c=n_c, overlap=way).layers) for way in (True, False))
        rows.append([f"n_c {n_c}", f"{cycles:,}", f"{ms:.2f}", f"{slow:.2f}", f"{printed}", off(ms, printed)])
    return rows


def energy() -> Rows:
    """Table 5.6, resources, power and energy."""
    rows = []
    for n_c, (_, printed, _) in RESNET56.items():
        used = resources_of(BsgConfig(**{**PRESETS["zynq7020"], "n_c": n_c}))
        found = run("bsg-resnet56", n_c=n_c)
        ours = sum(layer.energy_pJ.get("fpga.active_cycle", 0.0) for layer in found.layers) / 1e9
        rows.append(
            [
                str(n_c),
                f"{used.luts:.0f}",
                f"{used.ffs:.0f}",
                f"{used.brams:.0f}",
                f"{power_mW(used) / 1000:.3f}",
                f"{ours:.2f}",
                f"{printed}",
                off(ours, printed),
            ]
        )
    return rows


def dram() -> Rows:
    """Table 5.6, DRAM."""
    rows = []
    for n_c, (_, _, printed) in RESNET56.items():
        found = run("bsg-resnet56", n_c=n_c)
        assert found.compare_to is not None
        mine, base = words(found.layers), words(found.compare_to.layers)
        rows.append([str(n_c), f"{base:,}", f"{mine:,}", f"{base / mine:.2f}", f"{printed}", off(base / mine, printed)])
    return rows


@cache
def counts(network: str) -> ParameterCounts:
    """Return the parameters of a shipped network whose layers are generated as its study says."""
    preset = {"resnet56_cifar": "zynq7020", "mobilenet_v2_cifar": "zynq7020-mobilenet"}[network]
    config = BsgConfig(**PRESETS[preset])
    layers = load_network(network).layers
    return count_parameters(layers, config.slice_shape, lambda one: one is not layers[0] and config.names(one.name))


def commands() -> Rows:
    """Energy of DRAM with a price per command: what moves data, and what is paid for time."""
    study = archsim.load_study("bsg-resnet56.yaml", ["platform.memory={kind: dram, preset: DDR3-1600-2Gb-x16}"])
    found = archsim.simulate(study)
    assert found.compare_to is not None
    rows = []
    for name, layers in (("loaded", found.compare_to.layers), ("generated", found.layers)):
        spent = [(action, pJ) for layer in layers for action, pJ in layer.energy_pJ.items()]
        moving = sum(pJ for action, pJ in spent if action.startswith("dram_")) / 1e6
        standing = sum(pJ for action, pJ in spent if action.startswith("dram.")) / 1e6
        rows.append((name, moving, standing, moving + standing))
    shown = [[name, *(f"{one:,.0f}" for one in figures)] for name, *figures in rows]
    (_, *loaded), (_, *generated) = rows
    return [*shown, ["saving", *(f"{one / other:.2f}" for one, other in zip(loaded, generated))]]


def parameters() -> Rows:
    """Tables 5.5 and 5.7."""
    rows = []
    resnet, mobilenet = counts("resnet56_cifar"), counts("mobilenet_v2_cifar")
    for n_c, (train, inference, ratio) in PARAMETERS.items():
        size = resnet.inference_words(n_c)
        rows.append(
            [
                "ResNet-56",
                str(n_c),
                f"{resnet.trained(n_c):,}",
                f"{train} K",
                f"{size:,}",
                f"{inference} K",
                f"{resnet.original / size:.2f}",
                f"{ratio}",
            ]
        )
    for n_c, (train_M, inference_M, _) in MOBILENET.items():
        size = mobilenet.inference_words(n_c)
        rows.append(
            [
                "MobileNetV2",
                f"{n_c} (printed {n_c // 2})",
                f"{mobilenet.trained(n_c):,}",
                f"{train_M:.2f} M",
                f"{size:,}",
                f"{inference_M:.2f} M",
                f"{mobilenet.original / size:.3f}",
                "-",
            ]
        )
    return rows


def mobilenet() -> Rows:
    """Table 5.8: DRAM, printed as a percentage."""
    rows = []
    for n_c, (_, _, percent) in MOBILENET.items():
        found = run("bsg-mobilenetv2", n_c=n_c)
        assert found.compare_to is not None
        ratio, printed = words(found.compare_to.layers) / words(found.layers), 1 + percent / 100
        ms, base_ms = convs(found.layers)[1], convs(found.compare_to.layers)[1]
        rows.append(
            [
                str(n_c),
                f"{ratio:.4f}",
                f"{printed:.4f}",
                off(ratio, printed),
                f"{100 * (1 - 1 / ratio):.1f} %",
                f"{ms:.2f}",
                f"{base_ms:.2f}",
            ]
        )
    return rows


def accuracy(kind: str = "bsg_lenet", generators: tuple[str, ...] = ("rotate", "feedback", "full")) -> Rows:
    """Accuracy over n_c of a committed sweep: mean; number of seeds, least and most."""
    found = sweep(kind)

    def told(*key: Any) -> str:
        shares = list(found.get(key, {}).values())
        if len(shares) < 2:
            return f"{shares[0]:.2f} (1)" if shares else "-"
        return f"{mean(shares):.2f} ({len(shares)}: {min(shares):.2f} to {max(shares):.2f})"

    sizes = sorted({n_c for n_c, generator in found if generator != "fp32"})
    rows = [[str(n_c), *(told(n_c, generator) for generator in generators)] for n_c in sizes]
    return [*rows, ["plain weights", told(512, "fp32"), *["-"] * (len(generators) - 1)]]


def generators() -> Rows:
    """What the generator takes and how long it needs, with both ways of feeding the register."""
    path = ROOT / "archsim" / "accelerators" / "bsg" / "synthesis.json"
    found = {(row["n_c"], row["feedback"]): row for row in json.loads(path.read_text())["rows"]}
    rows = []
    for n_c in sorted({n_c for n_c, _ in found}):
        config = BsgConfig(**{**PRESETS["zynq7020"], "n_c": n_c})
        plain, fed = found[n_c, 0], found[n_c, 1]
        first = config.code_words + config.generator_latency_cycles
        rows.append(
            [
                str(n_c),
                str(plain["luts"]),
                str(fed["luts"]),
                str(plain["ffs"]),
                str(fed["ffs"]),
                str(first),
                str(config.generation_cycles),
                str(min(n_c, 2304)),
                "2304",
            ]
        )
    return rows


def trained(name: str) -> Rows:
    """A trained network on 1000 images, generated and with every slice loaded."""
    found = archsim.simulate(study_of(name))
    assert found.compare_to is not None and found.accuracy is not None and found.compare_to.quality is not None
    rows = []
    for name, totals, layers, top1 in (
        ("generated", found.totals, found.layers, found.accuracy.top1),
        ("loaded", found.compare_to.totals, found.compare_to.layers, found.compare_to.quality.value),
    ):
        rows.append(
            [
                name,
                f"{totals.cycles:,}",
                f"{totals.latency_us:.1f}",
                f"{totals.energy_pJ / 1e6:.0f}",
                f"{words(layers):,}",
                f"{100 * top1:.1f}",
                f"{100 * found.accuracy.top1_fp32:.1f}",
            ]
        )
    return rows


def lenet_generators() -> Rows:
    """The committed LeNet-5s, trained for twelve epochs."""
    names = [name for name in NETWORKS if name.startswith("bsg_lenet_")]
    rows = []
    for name in sorted(names, key=accuracy_of):
        assert log(name)["epochs"] == "12"
        n_c = int(log(name)["n_c"])
        rows.append([log(name)["generator"], str(n_c), f"{100 * accuracy_of(name):.2f} %", f"{32 * n_c:,}"])
    return rows


def errors() -> Rows:
    """Accuracy of the LeNet-5 when bits of its stored code vectors are wrong, 1000 images."""
    profile = ", ".join(f"{{ber: {ber:.1e}}}" for ber in BERS)
    memory = f"{{kind: dram, preset: DDR3-1600-2Gb-x16, profile: [{profile}]}}"
    study = archsim.load_study("bsg-lenet.yaml", [f"platform.memory={memory}"])
    tried = Session(Workbench(study.workload, study.folder), study, study.assign)
    rows = []
    for level, ber in enumerate((0.0, *BERS)):
        setting = {name: LayerSetting({"dram_weights": level}) for name in ("conv2", "conv3")}
        found = tried.quality(setting)
        assert found is not None
        rows.append([f"{ber:g}", f"{100 * found.top1:.1f}"])
    return rows


TABLES: dict[str, Table] = {
    "latency": (("design", "cycles", "ms", "ms, not overlapped", "thesis, ms", "difference"), latency),
    "energy": (("n_c", "LUT", "FF", "BRAM", "power, W", "mJ", "thesis, mJ", "difference"), energy),
    "dram": (("n_c", "words, loaded", "words, generated", "saving", "thesis", "difference"), dram),
    "commands": (("weights", "ACT, RD, WR, uJ", "standby and refresh, uJ", "together, uJ"), commands),
    "parameters": (
        ("network", "n_c", "trained", "thesis", "words at inference", "thesis", "ratio", "thesis"),
        parameters,
    ),
    "mobilenet": (
        ("n_c", "DRAM ratio", "thesis", "difference", "saved", "ms", "ms, loaded"),
        mobilenet,
    ),
    "accuracy": (("n_c", "rotate", "feedback", "random matrix"), accuracy),
    "generators": (
        (
            "n_c",
            "LUT",
            "LUT, feedback",
            "FF",
            "FF, feedback",
            "first weight, cycle",
            "slice, cycles",
            "registers in 2304 weights",
            "with feedback",
        ),
        generators,
    ),
    "errors": (("bit error rate of the code vectors", "top-1 %"), errors),
    "lenet": (TRAINED_COLUMNS, lambda: trained("bsg_lenet_rotate_512")),
    "resnet20": (TRAINED_COLUMNS, lambda: trained("bsg_resnet20_rotate_512")),
    "resnet20_accuracy": (("n_c", "rotate", "feedback"), lambda: accuracy("bsg_resnet20", ("rotate", "feedback"))),
    "lenet_generators": (("generator", "n_c", "accuracy, 5000 images", "bits for 50,400 weights"), lenet_generators),
}
BSG = Page(ROOT / "docs" / "bsg.md", TABLES)

if __name__ == "__main__":
    BSG.write()
