"""The networks the project trained: files that belong together, the classes torch saw, accuracy over n_c."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
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
from archsim.config import Study
from archsim.session import Session
from archsim.threads import map_blocks
from archsim.workload.bench import Workbench
from archsim.workload.datasets import load_data
from archsim.workload.graph import walk
from archsim.workload.layers import Conv
from archsim.workload.networks import load_network
from archsim.workload.params import Array
from archsim.workload.reference import float_compute, input_tensor
from tests.conftest import ROOT

TRAINED = ROOT / "workloads" / "trained"
NETWORKS = sorted(Path(path.stem).stem for path in TRAINED.glob("bsg_*.codes.npz"))
needs_data = pytest.mark.skipif(data_folder() is None, reason="no external data: set ARCHSIM_DATA")
every_network = pytest.mark.parametrize("name", NETWORKS)


@dataclass(frozen=True)
class Kind:
    """What is true of all networks of a kind: study, test images, slices and the weights they stand for."""

    study: str
    test_file: str
    layers: int
    slices: int
    replaced: int


KINDS = {
    "bsg_lenet": Kind("bsg-lenet", "mnist_test_0000_4999", 2, 32, 50_400),
    "bsg_resnet20": Kind("bsg-resnet20", "cifar10_test_dev5000", 18, 116, 267_264),
}
LEAST = {
    "bsg_lenet_rotate_512": 0.97,
    "bsg_lenet_rotate_32": 0.94,
    "bsg_lenet_feedback_32": 0.97,
    "bsg_resnet20_rotate_512": 0.75,
}
"""Every committed network and the accuracy it must have on its 5000 test images."""


def kind_of(name: str) -> Kind:
    """Return what is true of a network by its name, `<kind>_<generator>_<n_c>`."""
    return KINDS[name.rsplit("_", 2)[0]]


@cache
def log(name: str) -> dict[str, str]:
    """Return what was written down when a network was trained."""
    lines = (TRAINED / f"{name}.log").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines)


def accuracy_of(name: str) -> float:
    """Return the accuracy torch had on all test images."""
    return float(log(name)[f"accuracy on {kind_of(name).test_file} (5000 images)"])


def study_of(name: str, *changes: str) -> Study:
    """Return the study of a kind of networks, run with one of them."""
    npu = "platform.accelerators.npu"
    fields = [f"{npu}.{field}={log(name)[field]}" for field in ("n_c", "generator")]
    files = [f"workload.network={name}.onnx", f"{npu}.codes={name}.codes.npz"]
    return archsim.load_study(f"{kind_of(name).study}.yaml", [*files, *fields, *changes])


def sweep(kind: str = "bsg_lenet") -> dict[tuple[int, str], dict[int, float]]:
    """Return accuracies in percent, by n_c and generator, of every seed."""
    found: dict[tuple[int, str], dict[int, float]] = {}
    with (TRAINED / f"{kind}_sweep.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            of_seeds = found.setdefault((int(row["n_c"]), row["generator"]), {})
            of_seeds[int(row["seed"])] = 100 * int(row["right"]) / int(row["images"])
    return found


def gaps(n_c: int, better: str, worse: str) -> list[float]:
    """Return by how many points one generator of LeNet-5 is better, for every seed that both have."""
    one, other = sweep()[n_c, better], sweep()[n_c, worse]
    return [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]


def test_committed_networks() -> None:
    """Code vectors, network and log of each."""
    assert set(LEAST) == set(NETWORKS)
    for suffix in ("onnx", "log"):
        assert sorted(path.stem for path in TRAINED.glob(f"bsg_*.{suffix}")) == NETWORKS


@every_network
def test_log_is_of_this_network(name: str) -> None:
    content = (TRAINED / f"{name}.onnx").read_bytes()
    assert log(name)["sha256"] == hashlib.sha256(content).hexdigest()
    assert accuracy_of(name) >= LEAST[name]
    losses = [float(value) for key, value in log(name).items() if key.startswith("loss of epoch")]
    assert len(losses) == int(log(name)["epochs"]) and losses[-1] < losses[0] / 3


@every_network
def test_network_holds_the_generated_weights(name: str) -> None:
    network, codes, kind = load_network(f"{name}.onnx"), load_codes(find(f"{name}.codes.npz")), kind_of(name)
    assert len(codes.layers) == kind.layers and sum(map(len, codes.layers.values())) == kind.slices
    replaced = 0
    for layer in network.layers:
        if isinstance(layer, Conv) and layer.name in codes.layers:
            given = network.params[layer.name].unfolded
            made = codes.weights(layer.name, (layer.M, layer.C, layer.R, layer.S))
            assert given is not None
            np.testing.assert_array_equal(given, made)
            replaced += made.size
    assert replaced == kind.replaced
    bits = 8 * sum(words.nbytes for words in codes.layers.values())
    assert bits == kind.slices * int(log(name)["n_c"])


@needs_data
@every_network
def test_fp32_gives_the_classes_of_training(name: str) -> None:
    network = load_network(f"{name}.onnx")
    images = load_data(file=f"{kind_of(name).test_file}.npz", images=1000).images

    def logits_of(part: Array) -> Array:
        return walk(network, input_tensor(network, part), float_compute(network))

    logits = np.concatenate(map_blocks(logits_of, np.array_split(images, 20)))
    assert "".join(map(str, logits.argmax(axis=1).tolist())) == log(name)["classes of the first 1000 images"]


@needs_data
@every_network
def test_bfloat16_machine_is_as_good(name: str) -> None:
    """Both machines of the study, on fewer images; fp32 of the same images beside them."""
    found = archsim.simulate(study_of(name, "workload.data.images=200"))
    assert found.accuracy is not None and found.compare_to is not None and found.compare_to.quality is not None
    assert abs(found.accuracy.top1 - found.accuracy.top1_fp32) <= 0.01 and found.accuracy.top1 > LEAST[name] - 0.03
    told = {layer.name: layer.metrics["mapping"]["weights"] for layer in found.layers if layer.accelerator == "npu"}
    codes = load_codes(find(f"{name}.codes.npz"))
    assert {layer for layer, source in told.items() if source == "generated"} == set(codes.layers)
    assert set(told.values()) == {"generated", "loaded"}


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


def test_feedback_helps_a_residual_network_too() -> None:
    """Slices of 2304 weights: at 64 bits the register comes back 36 times."""
    found = {key: seeds[0] for key, seeds in sweep("bsg_resnet20").items()}
    assert set(found) == {*product((64, 512), ("rotate", "feedback")), (512, "fp32")}
    assert found[64, "feedback"] > found[64, "rotate"] + 5
    assert found[64, "feedback"] < found[512, "rotate"] < found[512, "feedback"] < found[512, "fp32"]
