"""What is wrong with an ONNX file is said in one line that names file, node, rule and value."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_nets import Builder

from archsim.errors import WorkloadError
from archsim.workload.onnx_import import import_onnx


def message(path):
    with pytest.raises(WorkloadError) as caught:
        import_onnx(path)
    text = str(caught.value)
    assert "\n" not in text and text.startswith(f"{path.name}: ")
    return text


def said(tmp_path, build, shape=(3, 6, 6), **options):
    b = Builder(shape, **options)
    build(b)
    return message(b.save(tmp_path))


def op(name, *constants, **attributes):
    """Return a build function of one node whose further inputs are constants."""
    return lambda b: b.node(name, b.at, *(b.constant(np.asarray(c)) for c in constants), **attributes)


def then(*builds):
    def build(b):
        for one in builds:
            one(b)

    return build


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda b: b.conv(4, 2, (3, 3)), ["node 'conv_1' (number 0, Conv)", "need C = 4, got 3"]),
        (lambda b: b.conv(3, 2, (3, 3), kernel_shape=[5, 5]), ["kernel_shape [5, 5]", "(3, 3)"]),
        (lambda b: b.conv(3, 2, (7, 3)), ["kernel 7 is larger than the padded map: H = 6, padded 6"]),
        (lambda b: b.conv(3, 2, (3, 3), dilations=[1, 4]), ["kernel 9 is larger", "W = 6"]),
        (lambda b: b.conv(3, 2, (3, 3), pads=[0, -1, 0, 0]), ["pad must be 0 or more, got (0, -1, 0, 0)"]),
        (lambda b: b.conv(3, 2, (3, 3), strides=[0, 1]), ["strides and dilations must be at least 1, got (0, 1)"]),
        (lambda b: b.conv(3, 2, (3, 3), strides=[1]), ["strides must hold 2 numbers (two spatial axes), got [1]"]),
        (lambda b: b.conv(3, 2, (3, 3), auto_pad="ODD"), ["SAME_UPPER, SAME_LOWER or VALID, got 'ODD'"]),
        (op("Conv", np.zeros((2, 3, 3), np.float32)), ["weights must be a non-empty tensor of 4 axes, got (2, 3, 3)"]),
        (op("Conv", np.zeros((0, 3, 3, 3), np.float32)), ["non-empty", "(0, 3, 3, 3)"]),
        (op("Conv", np.full((1, 3, 1, 1), np.nan, np.float32)), ["tensor 'c0' holds values that are not finite"]),
        (op("Conv", np.ones((2, 3, 2, 2), np.float32), np.ones(3, np.float32)), ["bias must be one number per"]),
        (lambda b: b.node("Conv", "image", "image"), ["weights 'image' must be a constant of the file"]),
        (then(op("Flatten"), op("Gemm", np.ones((9, 2), np.float32))), ["Gemm)", "expects C = 9 inputs, got 108"]),
        (op("MatMul", np.ones((6, 2), np.float32)), ["needs a flat input, got shape (3, 6, 6)"]),
        (op("Flatten", axis=2), ["axis must be 1 (all but the batch), got 2"]),
        (op("Reshape", np.int64([3, -1])), ["must keep the batch axis in front, got shape [3, -1]"]),
        (op("Reshape", np.int64([-1, -1])), ["can infer one axis only"]),
        (op("Reshape", np.int64([-1, 107])), ["cannot reshape (3, 6, 6) (108 values) to (107,) (107)"]),
        (op("Reshape", np.int64([0, 5, -1])), ["cannot reshape (3, 6, 6) (108 values) to (5, 21) (105)"]),
        (op("Transpose", perm=[0, 2, 1, 3]), ["must leave the data in order, got perm [0, 2, 1, 3]"]),
        (op("Transpose"), ["got perm [3, 2, 1, 0]"]),
        (op("Squeeze", np.int64([1])), ["can drop axes of size 1 behind the batch axis only"]),
        (op("Unsqueeze", np.int64([0])), ["behind the batch axis only, got axes [0]"]),
        (op("Softmax"), ["must run over the classes (axis 1) of a flat tensor, got axis -1 of (3, 6, 6)"]),
        (op("Concat", np.zeros((1, 3, 6, 6), np.float32), axis=1), ["'c0' must be computed from the network's input"]),
        (lambda b: b.node("Concat", "image", "image", axis=2), ["axis must be 1 (channels), got 2"]),
        (op("Add", np.zeros((1, 3, 6, 6), np.float32)), ["one number per channel (3), got shape (1, 3, 6, 6)"]),
        (op("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]), ["dilations must be 1 in a pooling, got (2, 2)"]),
        (op("MaxPool", kernel_shape=[2, 2], pads=[2, 0, 0, 0]), ["pad (2, 0, 0, 0) must be smaller than the kernel"]),
        (op("ReduceMean", axes=[1]), ["axes must be H and W (2 and 3), got [1]"]),
        (op("Clip", np.float32(1), np.float32(0)), ["min must not exceed max, got 1.0 and 0.0"]),
        (op("Pad", np.int64([0, 1, 0, 0, 0, 0, 0, 0])), ["only H and W can be padded"]),
        (op("Pad", np.int64([0] * 8), np.float32(1)), ["only padding with the constant 0 is supported", "value 1.0"]),
        (op("Pad", np.int64([0, 0, 1, 1, 0, 0, 1, 1]), mode="reflect"), ["mode 'reflect'"]),
        (op("Pad", np.int64([0, 0, -1, 0, 0, 0, 0, 0])), ["pad must be 0 or more, got (-1, 0, 0, 0)"]),
        (op("BatchNormalization", *[np.ones(4, np.float32)] * 4), ["scale must have shape (3,), got (4,)"]),
        (op("BatchNormalization", *[-np.ones(3, np.float32)] * 4), ["variance + epsilon must be above 0"]),
        (op("Identity"), ["the network has no layers"]),
    ],
)  # fmt: skip
def test_a_node_that_cannot_be_used_is_named(tmp_path, build, words):
    def with_any_output(b):
        build(b)
        b.output_shape = ["N", "any"]

    text = said(tmp_path, with_any_output)
    assert all(word in text for word in words), text


def test_one_dimensional_convolution_is_refused(tmp_path):
    assert "must have the shape (N, C, H, W) or (N, C)" in said(tmp_path, op("Relu"), (3, 8))


def test_adding_maps_of_different_shapes_is_refused(tmp_path):
    build = then(lambda b: b.conv(3, 1, (1, 1)), lambda b: b.node("Add", b.at, "image"))
    assert "adds tensors of one shape, got (1, 6, 6) and (3, 6, 6)" in said(tmp_path, build)


def test_concat_of_different_maps_is_refused(tmp_path):
    build = then(lambda b: b.conv(3, 1, (3, 3)), lambda b: b.node("Concat", b.at, "image", axis=1))
    b = Builder((3, 6, 6))
    build(b)
    b.output_shape = ["N", 4, 4, 4]
    assert "differ in channels only, got (1, 4, 4), (3, 6, 6)" in message(b.save(tmp_path))


def test_transposed_input_of_gemm_is_refused(tmp_path):
    def build(b):
        b.node("Gemm", "image", b.constant(b.random(7, 2)), transA=1)

    assert "transA must be 0, got 1" in said(tmp_path, build, (7,))


# operators -----------------------------------------------------------------------------------------------------------
def test_an_unsupported_operator_is_named_with_its_macs_and_the_nearest_name(tmp_path):
    def build(b):
        b.conv(3, 4, (3, 3), pads=[1, 1, 1, 1])  # 3888 MACs
        b.node("LeakyRelu", b.at, name="leak")
        b.conv(4, 9, (3, 3), pads=[1, 1, 1, 1])  # 11664 MACs

    text = said(tmp_path, build)
    assert "node 'leak' (number 1, LeakyRelu): operator 'LeakyRelu' is not supported" in text
    assert "75% of the known MACs depend on it" in text
    assert "did you mean 'Relu'?" in text and "AveragePool" in text


def test_operators_of_other_domains_and_of_no_domain_are_unsupported(tmp_path):
    def foreign(b):
        b.node("FusedConv", "image", domain="com.microsoft")
        b.output_shape = ["N", 3, 6, 6]

    def unknown(b):
        b.node("Convv", "image")
        b.output_shape = ["N", 3, 6, 6]

    assert "operator 'com.microsoft.FusedConv' is not supported" in said(tmp_path, foreign)
    assert "did you mean 'Conv'?" in said(tmp_path, unknown)


# files ---------------------------------------------------------------------------------------------------------------
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
