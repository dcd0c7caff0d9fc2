"""Networks by name; totals of the shipped shape lists against published figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archsim import assets
from archsim.errors import AssetError, WorkloadError
from archsim.workload.layers import Activation, Conv, Linear, Wiring
from archsim.workload.networks import load_network, shipped_networks

REFERENCE = json.loads((Path(__file__).parent.parent / "reference" / "network_totals.json").read_text())
NETWORKS = REFERENCE["networks"]


def parameters(network, convention):
    """Trained parameters: weights, and biases or batch normalisations of the convolutions."""
    convs = sum(layer.M for layer in network.layers if isinstance(layer, Conv))
    linears = sum(layer.M for layer in network.layers if isinstance(layer, Linear))
    per_filter = {"bias": 1, "batch_norm": 2}[convention]
    return network.weight_count + per_filter * convs + linears


@pytest.mark.parametrize("name", NETWORKS)
def test_totals_are_the_published_ones(name):
    published, network = NETWORKS[name], load_network(name)
    assert network.shape_only and network.name == name
    assert parameters(network, published["convention"]) == published["parameters"]
    assert network.macs_dense / 1e9 == pytest.approx(published["GMACs"], abs=published["rounding"] / 2)


def test_every_shipped_shape_list_has_published_totals():
    folder = assets.shipped_root() / "workloads" / "networks"
    assert {path.stem for path in folder.glob("*.yaml")} == set(NETWORKS)
    assert set(NETWORKS) <= set(shipped_networks())


# derivations by hand -------------------------------------------------------------------------------------------------
def test_alexnet_layers():
    network = load_network("alexnet").with_batch(4)
    layers = {layer.name: layer for layer in network.layers}
    macs = {name: layer.macs_dense for name, layer in layers.items() if layer.macs_dense}
    # M * P * Q * (C / groups) * R * S, four images
    assert macs == {
        "conv1": 4 * 96 * 55 * 55 * 3 * 11 * 11,
        "conv2": 4 * 256 * 27 * 27 * 48 * 5 * 5,
        "conv3": 4 * 384 * 13 * 13 * 256 * 3 * 3,
        "conv4": 4 * 384 * 13 * 13 * 192 * 3 * 3,
        "conv5": 4 * 256 * 13 * 13 * 192 * 3 * 3,
        "fc6": 4 * 256 * 6 * 6 * 4096,
        "fc7": 4 * 4096 * 4096,
        "fc8": 4 * 4096 * 1000,
    }
    chip = REFERENCE["eyeriss_alexnet"]["GMACs_batch_4"]
    assert {name: round(macs[name] / 1e9, 2) for name in chip} == chip
    assert sum(macs[name] for name in chip) / 1e9 == pytest.approx(2.66, abs=0.005)
    assert [layers[f"conv{i}"].H for i in range(1, 6)] == [227, 27, 13, 13, 13]
    assert layers["fc6"].map_shape == (256, 6, 6)
    assert network.zero_fractions["conv2"] == (0.387, 0.725) and "fc6" not in network.zero_fractions


def test_vgg16_weights_by_hand():
    stages = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512)]
    stages += [(512, 512)] * 5
    fully = 25088 * 4096 + 4096 * 4096 + 4096 * 1000
    assert load_network("vgg16").weight_count == 9 * sum(c * m for c, m in stages) + fully


def test_mobilenet_depthwise_layers_have_one_filter_per_channel():
    network = load_network("mobilenet_v2")
    depthwise = [layer for layer in network.layers if layer.name.endswith("depthwise")]
    assert len(depthwise) == 17 and all(layer.groups == layer.C == layer.M for layer in depthwise)
    assert {layer.activation for layer in depthwise} == {Activation("clip", 0.0, 6.0)}
    assert network.shapes["block17_project"] == (320, 7, 7)


def test_resnet_sums_are_non_negative_and_mobilenet_sums_are_not():
    resnet, mobilenet = load_network("resnet18"), load_network("mobilenet_v2")
    assert "conv2_1_add" in resnet.non_negative and "conv2_1_conv2" not in resnet.non_negative
    assert "block3_add" not in mobilenet.non_negative and "block3_expand" in mobilenet.non_negative


# equal to the trained files ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("shapes", "trained"), [("squeezenet1_0", "squeezenet1_0_dc.onnx"), ("resnet56_cifar", "resnet56_cifar10.onnx")]
)
def test_shape_list_equals_the_trained_network(shapes, trained):
    folder = assets.data_folder()
    if folder is None or not (folder / trained).is_file():
        pytest.skip(f"{trained} is not there: set ARCHSIM_DATA to the folder of external data")
    listed, imported = load_network(shapes), load_network(trained)
    assert (listed.macs_dense, listed.weight_count) == (imported.macs_dense, imported.weight_count)

    def geometry(network, kind):
        keys = {Conv: ("C", "M", "H", "W", "R", "S", "stride", "pad", "activation"), Wiring: ("source", "stride")}[kind]
        return [[getattr(layer, key) for key in keys] for layer in network.layers if isinstance(layer, kind)]

    assert geometry(listed, Conv) == geometry(imported, Conv)
    assert geometry(listed, Wiring) == geometry(imported, Wiring)


# finding -------------------------------------------------------------------------------------------------------------
def test_a_study_of_the_same_name_does_not_hide_a_shipped_network(tmp_path):
    (tmp_path / "alexnet.yaml").write_text("schema: 1\nname: a study\n")
    assert load_network("alexnet", tmp_path).name == "alexnet"


def test_a_file_beside_the_study_is_found(tmp_path):
    (tmp_path / "own.csv").write_text("Layer, M, N, K,\na, 4, 5, 6,\n")
    assert load_network("own.csv", tmp_path).macs_dense == 120
    assert load_network("own", tmp_path).macs_dense == 120


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("alexnett", AssetError, "network not found: 'alexnett'; did you mean 'alexnet'?"),
        ("alexnett.yaml", AssetError, "file not found: alexnett.yaml; did you mean 'alexnet.yaml'?"),
        ("net.pt", WorkloadError, "net.pt: a network file must end in .onnx, .csv, .yaml, .yml, got '.pt'"),
    ],
)
def test_what_is_not_found_is_said(tmp_path, name, error, words):
    (tmp_path / "net.pt").write_bytes(b"")
    with pytest.raises(error) as caught:
        load_network(name, tmp_path)
    assert words in str(caught.value)


def test_shape_only_networks_have_no_normalisation_to_fold():
    with pytest.raises(WorkloadError, match="fold_input_norm needs trained weights"):
        load_network("alexnet", fold_input_norm=True)
