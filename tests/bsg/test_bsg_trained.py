"""The networks the project trained: files that belong together, the classes torch saw, accuracy over n_c."""

from __future__ import annotations

import csv
import hashlib
from functools import cache
from itertools import product
from pathlib import Path
from statistics import mean

import numpy as np
import pytest

import archsim
from archsim.accelerators.bsg.codes import load_codes
from archsim.approx import LayerSetting
from archsim.assets import data_folder, find
from archsim.session import Session
from archsim.workload.bench import Workbench
from archsim.workload.datasets import load_data
from archsim.workload.graph import walk
from archsim.workload.layers import Conv
from archsim.workload.networks import load_network
from archsim.workload.reference import float_compute, input_tensor
from tests.conftest import ROOT

NAME = "bsg_lenet_rotate_512"
TRAINED = ROOT / "workloads" / "trained"
SWEEP = TRAINED / "bsg_lenet_sweep.csv"
needs_data = pytest.mark.skipif(data_folder() is None, reason="no external data: set ARCHSIM_DATA")


@cache
def log(name: str = NAME) -> dict[str, str]:
    lines = (TRAINED / f"{name}.log").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines)


def sweep() -> dict[tuple[int, str], dict[int, float]]:
    """Return accuracies in percent, by n_c and generator, of every seed."""
    found: dict[tuple[int, str], dict[int, float]] = {}
    with SWEEP.open(newline="") as file:
        for row in csv.DictReader(file):
            of_seeds = found.setdefault((int(row["n_c"]), row["generator"]), {})
            of_seeds[int(row["seed"])] = 100 * int(row["right"]) / int(row["images"])
    return found


def gaps(n_c: int, better: str, worse: str) -> list[float]:
    """Return by how many points one generator is better, for every seed that both have."""
    one, other = sweep()[n_c, better], sweep()[n_c, worse]
    return [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]


def test_log_is_of_this_network() -> None:
    content = (TRAINED / f"{NAME}.onnx").read_bytes()
    assert log()["sha256"] == hashlib.sha256(content).hexdigest()
    assert float(log()["accuracy on mnist_test_0000_4999 (5000 images)"]) >= 0.97
    losses = [float(value) for key, value in log().items() if key.startswith("loss of epoch")]
    assert len(losses) == int(log()["epochs"]) and losses[-1] < losses[0] / 10


def test_network_holds_the_generated_weights() -> None:
    network, codes = load_network(f"{NAME}.onnx"), load_codes(find(f"{NAME}.codes.npz"))
    assert set(codes.layers) == {"conv2", "conv3"} and sum(map(len, codes.layers.values())) == 32
    replaced = 0
    for layer in network.layers:
        if isinstance(layer, Conv) and layer.name in codes.layers:
            given = network.params[layer.name].unfolded
            made = codes.weights(layer.name, (layer.M, layer.C, layer.R, layer.S))
            assert given is not None
            np.testing.assert_array_equal(given, made)
            replaced += made.size
    assert replaced == 50_400
    bits = 8 * sum(words.nbytes for words in codes.layers.values())
    assert 49 <= 16 * replaced / bits < 50


@needs_data
def test_fp32_gives_the_classes_of_training() -> None:
    network = load_network(f"{NAME}.onnx")
    images = load_data(file="mnist_test_0000_4999.npz", images=1000).images
    logits = walk(network, input_tensor(network, images), float_compute(network))
    assert "".join(map(str, logits.argmax(axis=1).tolist())) == log()["classes of the first 1000 images"]


@needs_data
def test_bfloat16_machine_is_as_good() -> None:
    """Both machines of the study, on fewer images; fp32 of the same images beside them."""
    study = archsim.load_study("bsg-lenet.yaml", ["workload.data.images=200"])
    found = archsim.simulate(study)
    assert found.accuracy is not None and found.compare_to is not None and found.compare_to.quality is not None
    assert abs(found.accuracy.top1 - found.accuracy.top1_fp32) <= 0.01 and found.accuracy.top1 > 0.95
    told = {layer.name: layer.metrics["mapping"]["weights"] for layer in found.layers if layer.accelerator == "npu"}
    assert told == {"conv1": "loaded", "conv2": "generated", "conv3": "generated", "fc1": "loaded", "fc2": "loaded"}


@needs_data
def test_errors_of_a_memory_reach_the_weights_through_the_codes() -> None:
    """A DRAM that flips bits of the code vectors costs accuracy; at level 0 it costs none."""
    memory = "{kind: dram, preset: DDR3-1600-2Gb-x16, profile: [{ber: 3.0e-3}, {ber: 1.0e-1}]}"
    study = archsim.load_study("bsg-lenet.yaml", [f"platform.memory={memory}", "workload.data.images=100"])
    run = Session(Workbench(study.workload, study.folder), study, study.assign)
    top1 = []
    for level in (0, 1, 2):
        setting = {name: LayerSetting({"dram_weights": level}) for name in ("conv2", "conv3")}
        accuracy = run.quality(setting)
        assert accuracy is not None
        top1.append(accuracy.top1)
    assert top1[0] > 0.95 and top1[1] > top1[0] - 0.05 and top1[2] < top1[1] - 0.02


def test_accuracy_over_n_c() -> None:
    """A repeated slice costs nothing at 512 bits and a lot at 16; feedback gets it back."""
    found = sweep()
    sizes = (16, 32, 64, 128, 256, 512)
    assert set(found) == {*product(sizes, ("rotate", "feedback", "full")), (512, "fp32")}
    assert all(len(seeds) == 3 for (_, generator), seeds in found.items() if generator != "fp32")
    assert min(found[512, "rotate"].values()) >= 96
    for better in ("full", "feedback"):
        assert len(gaps(16, better, "rotate")) > 1 and min(gaps(16, better, "rotate")) > 5
    assert max(abs(gap) for gap in gaps(512, "feedback", "rotate")) < 1
    averages = [mean(found[n_c, "rotate"].values()) for n_c in sizes]
    assert averages[0] < averages[1] < averages[2] < averages[3] < averages[-1]
    assert mean(found[512, "fp32"].values()) > averages[-1]


def test_codes_beside_every_network() -> None:
    networks = sorted(path.stem for path in TRAINED.glob("bsg_lenet_*.onnx"))
    assert NAME in networks
    assert networks == sorted(Path(path.stem).stem for path in TRAINED.glob("bsg_lenet_*.codes.npz"))
