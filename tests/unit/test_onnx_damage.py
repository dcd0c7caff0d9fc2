"""Damaged files, missing parts and files that are no network are refused in one line; no other error escapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_nets import Builder, message

from archsim.errors import WorkloadError
from archsim.workload.onnx_import import import_onnx

EXPORTS = Path(__file__).parents[1] / "data" / "exports"


@pytest.fixture
def good(tmp_path):
    b = Builder((3, 6, 6))
    b.conv(3, 4, (3, 3))
    b.node("Relu", b.at)
    return b.save(tmp_path)


@pytest.mark.parametrize("content", [b"", b"this is text, not a network\n", b"\x00" * 64, b"layers: []\n"])
def test_a_file_that_is_no_network(tmp_path, content):
    path = tmp_path / "odd.onnx"
    path.write_bytes(content)
    assert "ONNX" in message(path)


def test_every_truncation_is_one_line(good):
    data = good.read_bytes()
    for length in range(0, len(data), 3):
        good.write_bytes(data[:length])
        message(good)


def test_every_change_of_an_export_is_one_line_or_a_network(tmp_path):
    """Bytes of an export are changed one at a time: whatever comes out, no other error escapes."""
    original = (EXPORTS / "inception_lrn_torchscript.onnx").read_bytes()
    path, draw, refused = tmp_path / "net.onnx", np.random.default_rng(0), 0
    for position in draw.choice(len(original), 250, replace=False):
        data = bytearray(original)
        data[position] ^= 1 << draw.integers(8)
        path.write_bytes(data)
        try:
            import_onnx(path)
        except WorkloadError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 50


def test_a_folder_is_not_a_network(tmp_path):
    (tmp_path / "net.onnx").mkdir()
    assert "not a readable ONNX file" in message(tmp_path / "net.onnx")


def changed(good, change):
    model = onnx.load(str(good))
    change(model.graph)
    onnx.save(model, str(good))
    return message(good)


def test_missing_weights(good):
    assert "c0" in changed(good, lambda graph: graph.initializer.pop(0))


def test_weights_shorter_than_their_shape(good):
    def cut(graph):
        graph.initializer[0].raw_data = graph.initializer[0].raw_data[:-4]

    assert "'c0' cannot be read" in changed(good, cut)


def test_missing_external_data(good, tmp_path):
    model = onnx.load(str(good))
    onnx.save(model, str(good), save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    assert "weights.bin" in message(good)


def test_external_data_are_read(good):
    before = import_onnx(good).workload_hash
    model = onnx.load(str(good))
    onnx.save(model, str(good), save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert import_onnx(good).workload_hash == before


def test_nodes_out_of_order(good):
    def swap(graph):
        first = graph.node.pop(0)
        graph.node.append(first)

    assert "not a valid ONNX network" in changed(good, swap)


@pytest.mark.parametrize("shape", [["N", 3, 0, 6], ["N", 3, "H", 6], ["N", 3, 6], [0, 3, 6, 6]])
def test_input_shapes_that_say_too_little(good, shape):
    def set_shape(graph):
        graph.input[0].CopyFrom(helper.make_tensor_value_info("image", TensorProto.FLOAT, shape))

    assert "input 'image' must have the shape (N, C, H, W) or (N, C)" in changed(good, set_shape)


def test_declared_output_that_differs(good):
    def set_shape(graph):
        graph.output[0].CopyFrom(helper.make_tensor_value_info("t2", TensorProto.FLOAT, ["N", 4, 9, 9]))

    assert "output 't2' is declared as (4, 9, 9), its layers give (4, 4, 4)" in changed(good, set_shape)


def test_two_outputs_and_two_inputs(good):
    assert "exactly one output, got 2: t2, t1" in changed(
        good, lambda graph: graph.output.append(helper.make_tensor_value_info("t1", TensorProto.FLOAT, ["N", 4, 4, 4]))
    )

    def second_input(graph):
        graph.output.pop()
        graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N", 3, 6, 6]))

    assert "exactly one input, got 2: image, mask" in changed(good, second_input)


def test_initializers_listed_as_inputs_are_not_inputs(good):
    model = onnx.load(str(good))
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, values.shape))
    onnx.save(model, str(good))
    assert import_onnx(good).shapes[import_onnx(good).input] == (3, 6, 6)
