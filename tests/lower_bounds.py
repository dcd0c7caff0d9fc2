"""What no schedule of an Eyeriss layer can undercut, from its counts and the machine's published widths alone."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import archsim
from archsim.assets import shipped_root
from archsim.config import study_from_text
from archsim.result import LayerResult
from archsim.workload.networks import load_network

PES = 168
FILTER_WORDS_PER_CYCLE = PSUM_WORDS_PER_CYCLE = 4  # 64 bit, each way
IFMAP_WORDS_PER_CYCLE = 1  # 16 bit
LINK_BITS_PER_CYCLE = Fraction(64 * 60, 200)  # 64 bit at 60 MHz, in cycles of the 200 MHz core
BOUNDS = {"compute", "psum_bus", "ifmap_bus", "filter_bus", "dram"}
TRAINED = "digits_cnn.onnx"
STUDY = """\
schema: 1
name: bounds
workload: {network: NETWORK, batch: BATCH DATA}
platform:
  accelerators: {npu: {kind: eyeriss, preset: chip-jssc17}}
  memory: {kind: link, preset: eyeriss-jssc17}
"""
DIGITS = ", data: {name: digits, split: test, images: 16}, calibration: {name: digits, split: train, images: 32}"


def shipped_networks() -> list[str]:
    """Return the file names of all shape lists, and of the trained network."""
    folder = shipped_root() / "workloads" / "networks"
    return [*sorted(path.name for path in folder.glob("*.yaml")), TRAINED]


def layers_of(network: str, batch: int = 1) -> list[tuple[LayerResult, int]]:
    """Simulate a network on the chip; return its layers on the array, each with the words of its ofmaps."""
    text = STUDY.replace("NETWORK", network).replace("BATCH", str(batch))
    study = study_from_text(text.replace(" DATA", DIGITS if Path(network).suffix == ".onnx" else ""))
    result, net = archsim.simulate(study), load_network(network)
    words = {layer.name: _size(net.shapes[layer.output]) * result.totals.images_timed for layer in net.layers}
    return [(layer, words[layer.name]) for layer in result.layers if layer.accelerator == "npu"]


def _size(shape: tuple[int, ...]) -> int:
    product = 1
    for extent in shape:
        product *= extent
    return product


def floors(layer: LayerResult, ofmap_words: int) -> dict[str, Fraction]:
    """Return the least cycles of a layer by resource.

    Every psum leaves the array once more than it comes in: accumulators start at zero.
    """
    counts = layer.counts
    psums_out = Fraction(counts["noc.psum_word"] + ofmap_words, 2)
    link_bits = counts.get("link.read_bit", 0) + counts.get("link.write_bit", 0)
    return {
        "multipliers": Fraction(layer.macs_done, PES),
        "psums out": psums_out / PSUM_WORDS_PER_CYCLE,
        "psums in": (psums_out - ofmap_words) / PSUM_WORDS_PER_CYCLE,
        "ifmap bus": Fraction(counts["noc.ifmap_word"], IFMAP_WORDS_PER_CYCLE),
        "filter bus": Fraction(counts["noc.filter_word"], FILTER_WORDS_PER_CYCLE),
        "link": link_bits / LINK_BITS_PER_CYCLE,
    }


def complaints(layer: LayerResult, ofmap_words: int) -> list[str]:
    """Return what is impossible about a layer."""
    found = [
        f"{layer.name}: {layer.cycles} cycles, {name} needs {float(least):.1f}"
        for name, least in floors(layer, ofmap_words).items()
        if layer.cycles < least
    ]
    if layer.counts["noc.psum_word"] < ofmap_words:
        found.append(f"{layer.name}: fewer psums left the array than its {ofmap_words} ofmap words")
    if layer.bound not in BOUNDS:
        found.append(f"{layer.name}: unknown bound {layer.bound!r}")
    return found


def tightest(layers: list[tuple[LayerResult, int]]) -> dict[str, float]:
    """Return how near any layer comes to each floor: the least cycles / floor."""
    ratios: dict[str, float] = {}
    for layer, words in layers:
        for name, least in floors(layer, words).items():
            if least:
                ratios[name] = min(ratios.get(name, float("inf")), float(layer.cycles / least))
    return ratios
