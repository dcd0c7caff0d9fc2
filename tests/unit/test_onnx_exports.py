"""ONNX files as PyTorch's two exporters and tf2onnx write them; tests/data/exports holds them with their scripts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_nets import onnxruntime_output

from archsim.errors import WorkloadError
from archsim.workload.graph import walk
from archsim.workload.onnx_import import import_onnx
from archsim.workload.reference import float_compute, input_tensor

EXPORTS = Path(__file__).parents[1] / "data" / "exports"
MOBILE = ["Conv"] * 4 + ["Add", "Pool", "Reshape", "Linear"]
RESIDUAL = ["Conv"] * 3 + ["Add", "Conv", "Conv", "Add", "Pool", "Reshape", "Linear"]
INCEPTION = ["Conv", "Lrn"] + ["Conv"] * 3 + ["Pool", "Conv", "Concat", "Elementwise", "Pool", "Reshape", "Linear"]
INCEPTION += ["Softmax"]
NORMALISED = ["Conv", "Conv", "Pool", "Reshape", "Linear"]
KERAS_POOLED = ["Conv"] * 3 + ["Add", "Pool", "Concat", "Pool", "Reshape", "Linear", "Softmax"]
LOADED = {
    "inception_lrn_dynamo": INCEPTION,
    "inception_lrn_dynamo_fixed": INCEPTION,
    "inception_lrn_raw": INCEPTION,
    "inception_lrn_torchscript": INCEPTION,
    "keras_normalised": NORMALISED,
    "keras_pooled": KERAS_POOLED,
    "keras_pooled_nchw": KERAS_POOLED,
    "mobile_mean_dynamo": MOBILE,
    "mobile_mean_dynamo_raw": MOBILE,
    "mobile_mean_torchscript": MOBILE,
    "normalised_input_dynamo": NORMALISED,
    "normalised_input_torchscript": NORMALISED,
    "residual_view_dynamo": RESIDUAL,
    "residual_view_fixed": RESIDUAL,
    "residual_view_torchscript": RESIDUAL,
}
TRAINING = {"mobile_mean_training": MOBILE, "residual_view_training": RESIDUAL}
REFUSED = {
    "keras_flattened": "must leave the data in order, got perm [0, 2, 3, 1] of (N, 4, 3, 3); only the network's input",
    "quantised_operators": "'QuantizeLinear' belongs to a quantised network; export it in floating point",
    "quantised_qdq": "'DequantizeLinear' belongs to a quantised network; export it in floating point",
}


def load(name):
    return import_onnx(EXPORTS / f"{name}.onnx")


def random_images(name, count):
    """Return images in the file's own layout, of both signs."""
    axes = onnx.load(EXPORTS / f"{name}.onnx").graph.input[0].type.tensor_type.shape.dim
    return np.random.default_rng(5).normal(0, 2, (count, *(axis.dim_value for axis in axes[1:]))).astype(np.float32)


def outputs(network, images):
    return walk(network, input_tensor(network, images), float_compute(network))


def relative_error(got, want):
    assert got.shape == want.shape
    return (np.abs(got - want).max(axis=1) / np.abs(want).max(axis=1)).max()


@pytest.mark.parametrize("name", LOADED)
def test_exports_equal_onnxruntime(name):
    network, images = load(name), random_images(name, 4)
    assert [type(layer).__name__ for layer in network.layers] == LOADED[name]
    blocks = np.split(images, 4) if name.endswith("_fixed") else [images]
    want = np.concatenate([onnxruntime_output(EXPORTS / f"{name}.onnx", block) for block in blocks])
    assert relative_error(outputs(network, images), want) < 1e-4
    assert network.notes == ()


def switched_to_inference(name, folder):
    """Save the training export `name` with its batch normalisations and dropouts switched to inference."""
    model = onnx.load(EXPORTS / f"{name}.onnx")
    switched = []
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            switched += [attribute for attribute in node.attribute if attribute.name == "training_mode"]
            del node.output[1:]
        elif node.op_type == "Dropout":
            del node.input[2:]
    for attribute in switched:
        assert attribute.i == 1
        attribute.i = 0
    onnx.save(model, folder / "inference.onnx")
    return folder / "inference.onnx"


@pytest.mark.parametrize("name", TRAINING)
def test_a_training_export_is_run_as_inference_and_says_so(name, tmp_path):
    network, images = load(name), random_images(name, 3)
    want = onnxruntime_output(switched_to_inference(name, tmp_path), images)
    assert relative_error(outputs(network, images), want) < 1e-4
    assert [type(layer).__name__ for layer in network.layers] == TRAINING[name]
    assert len(network.notes) == 1 and "running statistics" in network.notes[0]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(name):
    with pytest.raises(WorkloadError) as caught:
        load(name)
    assert REFUSED[name] in str(caught.value) and "\n" not in str(caught.value)


def test_every_file_is_tested_and_small():
    files = {path.stem: path.stat().st_size for path in EXPORTS.glob("*.onnx")}
    assert files.keys() == LOADED.keys() | TRAINING.keys() | REFUSED.keys()
    assert max(files.values()) < 20_000
