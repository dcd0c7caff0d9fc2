"""ONNX import: every operator against onnxruntime, the folding rules one by one, shapes, signs and hashes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx_cases
import pytest
from onnx_nets import CASES, Builder, onnxruntime_output

from archsim import assets
from archsim.errors import WorkloadError
from archsim.workload.graph import walk
from archsim.workload.layers import (
    Activation,
    BatchNorm,
    Conv,
)
from archsim.workload.onnx_import import OPERATORS, import_onnx
from archsim.workload.reference import float_compute, input_tensor


@pytest.mark.parametrize(("shape", "kinds", "options", "build"), CASES)
def test_import_equals_onnxruntime(shape, kinds, options, build, tmp_path):
    b = Builder(shape, **options)
    build(b)
    path = b.save(tmp_path)
    network = import_onnx(path)
    assert tuple(type(layer) for layer in network.layers) == kinds
    images = np.random.default_rng(1).normal(0, 1, (2, *shape)).astype(np.float32)
    seen = {}

    def compute(layer, inputs):
        seen[layer.output] = float_compute(network)(layer, inputs)
        return seen[layer.output]

    got = walk(network, input_tensor(network, images), compute)
    want = onnxruntime_output(path, images)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    for name, values in seen.items():
        assert values.shape[1:] == network.shapes[name]
        assert name not in network.non_negative or values.min() >= 0


def test_every_operator_is_covered_by_a_graph():
    used = set()
    for parameters in CASES:
        shape, _, options, build = parameters.values
        b = Builder(shape, **options)
        build(b)
        used |= {node.op_type for node in b.nodes}
    assert set(OPERATORS) <= used


def build_import(tmp_path, build, shape=(3, 6, 6), fold_input=False, **options):
    b = Builder(shape, **options)
    build(b)
    return import_onnx(b.save(tmp_path), fold_input=fold_input)


# folding -------------------------------------------------------------------------------------------------------------
def test_folding_keeps_the_unfolded_weights_and_the_scale(tmp_path):
    network = build_import(tmp_path, onnx_cases.conv_batch_norm_relu)
    params = network.params[network.layers[0].name]
    np.testing.assert_allclose(params.unfolded * params.channel_scale[:, None, None, None], params.weights, rtol=1e-6)
    assert params.channel_scale.min() < 0 < params.channel_scale.max()  # a negative scale is the interesting one
    assert params.weights.dtype == params.bias.dtype == np.float32


def test_a_mere_shift_leaves_the_weights_alone(tmp_path):
    params = build_import(tmp_path, onnx_cases.matmul_bias_relu, (7,)).params["matmul_1"]
    assert params.unfolded is None and params.channel_scale is None


def normalised(pad):
    def build(b):
        b.batch_norm(3, epsilon=0.0)
        b.conv(3, 4, (3, 3), pads=[pad] * 4)
        b.node("Relu", b.at)

    return build


@pytest.mark.parametrize("fold_input", [False, True])
def test_input_norm_is_host_work_or_folded_exactly(tmp_path, fold_input):
    network = build_import(tmp_path, normalised(0), fold_input=fold_input)
    assert [type(layer) for layer in network.layers] == [Conv]
    assert (network.input_norm is None) == fold_input
    assert (network.input in network.non_negative) == fold_input  # raw pixels against normalised ones
    pixels = np.random.default_rng(2).integers(0, 256, (2, 3, 6, 6)).astype(np.float32)
    got = walk(network, input_tensor(network, pixels), float_compute(network))
    np.testing.assert_allclose(got, onnxruntime_output(tmp_path / "net.onnx", pixels), rtol=1e-4, atol=1e-3)


def test_fold_input_norm_with_groups(tmp_path):
    def build(b):
        b.batch_norm(4)
        b.conv(4, 6, (3, 3), groups=2)
        b.batch_norm(6)

    network = build_import(tmp_path, build, (4, 6, 6), fold_input=True)
    pixels = np.random.default_rng(2).integers(0, 256, (2, 4, 6, 6)).astype(np.float32)
    got = walk(network, pixels, float_compute(network))
    np.testing.assert_allclose(got, onnxruntime_output(tmp_path / "net.onnx", pixels), rtol=1e-4, atol=1e-3)
    params = network.params["conv_2"]
    np.testing.assert_allclose(params.unfolded * params.channel_scale[:, None, None, None], params.weights, rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (normalised(1), r"'conv_2' has padding \(1, 1, 1, 1\), which is zero after normalisation"),
        (onnx_cases.conv_valid, "does not normalise its input"),
        (lambda b: (b.batch_norm(3), b.node("MaxPool", b.at, kernel_shape=[2, 2])), r"got 'maxpool_2' \(Pool\)"),
    ],
)
def test_fold_input_norm_says_why_not(tmp_path, build, reason):
    with pytest.raises(WorkloadError, match=reason):
        build_import(tmp_path, build, fold_input=True)


def test_input_normalisation_with_a_second_reader_stays_a_layer(tmp_path):
    def build(b):
        b.batch_norm(3)
        b.node("Add", b.at, "image")

    network = build_import(tmp_path, build)
    assert network.input_norm is None and isinstance(network.layers[0], BatchNorm)


# what layers carry ---------------------------------------------------------------------------------------------------
def test_activations_are_fused_with_their_bounds(tmp_path):
    assert build_import(tmp_path, onnx_cases.clip_attributes, opset=6).layers[0].activation == Activation(
        "clip", pytest.approx(0.1), pytest.approx(0.5)
    )
    assert build_import(tmp_path, onnx_cases.clip_without_upper_bound).layers[0].activation == Activation("relu")


def test_linear_knows_the_map_it_was_flattened_from(tmp_path):
    assert build_import(tmp_path, onnx_cases.gemm_alpha_beta, (2, 3, 3)).layers[-1].map_shape == (2, 3, 3)
    assert build_import(tmp_path, onnx_cases.matmul_bias_relu, (7,)).layers[-1].map_shape is None


def test_wiring_has_sources_and_no_macs(tmp_path):
    layer = build_import(tmp_path, onnx_cases.wiring, (4, 5, 6)).layers[0]
    assert layer.source == (-1, 3, 0, -1, 3, -1) and layer.macs_dense == layer.weight_count == 0
    assert build_import(tmp_path, onnx_cases.wiring_in_groups, (4, 5, 5)).layers[0].source == (1, -1, 2, 3)


def test_names_are_the_files_where_unique(tmp_path):
    def build(b):
        b.conv(3, 4, (1, 1), name="same")
        b.conv(4, 4, (1, 1), name="same")
        b.conv(4, 4, (1, 1), name="")
        b.conv(4, 4, (1, 1), name="own")
        b.conv(4, 4, (1, 1), name="conv0")

    names = [layer.name for layer in build_import(tmp_path, build).layers]
    assert names == ["conv0_", "conv1", "conv2", "own", "conv0"]


def test_non_negative_follows_the_graph(tmp_path):
    def build(b):
        first = b.conv(3, 4, (1, 1), name="a")
        b.node("Relu", first, out="relu_out")
        b.node("MaxPool", "relu_out", out="pool_out", kernel_shape=[2, 2])
        b.node("Sigmoid", "pool_out", out="sigmoid_out")
        b.node("Concat", "pool_out", "sigmoid_out", out="concat_out", axis=1)
        b.node("Add", "pool_out", "sigmoid_out", out="add_out")
        b.conv(4, 4, (1, 1), at="add_out", out="signed")
        b.node("Concat", "add_out", "signed", out="mixed", axis=1)
        b.node("Concat", "mixed", "concat_out", out="end", axis=1)

    network = build_import(tmp_path, build)
    assert network.non_negative == {"relu_out", "pool_out", "sigmoid_out", "concat_out", "add_out"}


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_of_other_widths_become_float32(tmp_path, dtype):
    def build(b):
        b.node("Conv", "image", b.constant(b.random(4, 3, 1, 1, dtype=dtype)))
        b.output_shape = ["N", 4, 6, 6]

    weights = build_import(tmp_path, build).params["conv_1"].weights
    expected = Builder((3, 6, 6)).random(4, 3, 1, 1, dtype=dtype).astype(np.float32)
    assert weights.dtype == np.float32 and np.array_equal(weights, expected)


def test_hash_sees_weights_and_structure_not_the_file_name(tmp_path):
    def saved(seed, name, stride=1):
        b = Builder((3, 6, 6), seed=seed)
        b.conv(3, 4, (3, 3), strides=[stride, stride])
        return import_onnx(b.save(tmp_path, name)).workload_hash

    assert saved(0, "a.onnx") == saved(0, "b.onnx")
    assert len({saved(0, "a.onnx"), saved(1, "a.onnx"), saved(0, "a.onnx", stride=3)}) == 3


def test_hash_is_the_same_in_another_process(tmp_path):
    b = Builder((3, 6, 6))
    onnx_cases.conv_batch_norm_relu(b)
    path = b.save(tmp_path)
    code = "import sys, pathlib; from archsim.workload.onnx_import import import_onnx\n"
    code += "print(import_onnx(pathlib.Path(sys.argv[1])).workload_hash)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=assets.shipped_root(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == import_onnx(path).workload_hash


# trained networks ----------------------------------------------------------------------------------------------------
def data_file(name):
    folder = assets.data_folder()
    if folder is None or not (folder / name).is_file():
        pytest.skip(f"{name} is not there: set ARCHSIM_DATA to the folder of external data")
    return folder / name


@pytest.mark.parametrize(
    ("network_file", "image_file", "macs"),
    [
        # 6 maps of 28x28, 5x5x1; 16 of 10x10, 5x5x6; 400x120 + 120x84 + 84x10
        ("lenet5_mnist.onnx", "mnist_test_0000_4999.npz", 117_600 + 240_000 + 48_000 + 10_080 + 840),
        # stem 3->16; 6, 1+5, 1+5 convolutions 3x3 of 16, 32, 64 maps (the two that halve the map read half the maps)
        (
            "resnet20_cifar10.onnx",
            "cifar10_test_dev5000.npz",
            9 * (1024 * 16 * (3 + 6 * 16) + 256 * 32 * (16 + 5 * 32) + 64 * 64 * (32 + 5 * 64)) + 640,
        ),
    ],
)
def test_trained_networks_equal_onnxruntime(network_file, image_file, macs):
    path = data_file(network_file)
    images = np.load(data_file(image_file))["images"][:6]
    network = import_onnx(path)
    assert network.macs_dense == macs
    raw = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    want = onnxruntime_output(path, raw.astype(np.float32))
    got = walk(network, input_tensor(network, images), float_compute(network))
    relative = np.abs(got - want).max(axis=1) / np.abs(want).max(axis=1)
    assert relative.max() < 1e-5
