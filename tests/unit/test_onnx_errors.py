"""What is wrong with an ONNX file is said in one line that names file, node, rule and value."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_nets import Builder, message


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
        (op("Transpose", perm=[0, 1, 2, 2]), ["perm must hold every axis of (N, 3, 6, 6) once, got [0, 1, 2, 2]"]),
        (lambda b: b.node("Relu", b.node("Constant", value_int="text")), ["tensor 't1' holds no dense number"]),
        (op("MaxPool", kernel_shape=[1, 1], auto_pad=b"\xff"), ["auto_pad must be NOTSET, SAME_UPPER"]),
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
        (lambda b: b.node("Reshape", "image", "image"), ["shape 'image' must be a constant of the file, it is comp"]),
        (lambda b: b.node("Mul", "image", "image"), ["(number 0, Mul)", "one constant per channel, got two computed"]),
        (op("Mul", np.ones((3, 6, 1), np.float32)), ["the constant of Mul must be one number per channel (3), got"]),
        (op("Div", np.float32([[[1]], [[0]], [[2]]])), ["must divide a computed tensor by constants that are not 0"]),
        (lambda b: b.node("Div", b.constant(np.float32(1)), "image"), ["must divide a computed tensor by constants"]),
        (op("ReduceMax", axes=[2]), ["axes must be H and W (2 and 3), got [2]"]),
        (op("Gather", np.int64([0]), axis=1), ["'Gather' is supported for shapes and constants only, not for data"]),
        (op("Slice", np.int64([0]), np.int64([2])), ["'Slice' is supported for shapes and constants only"]),
        (op("ConvInteger", np.int8([[[[1]]]])), ["belongs to a quantised network; export it in floating point"]),
    ],
)  # fmt: skip
def test_a_node_that_cannot_be_used_is_named(tmp_path, build, words):
    def with_any_output(b):
        build(b)
        b.output_shape = ["N", "any"]

    text = said(tmp_path, with_any_output)
    assert all(word in text for word in words), text


# shape arithmetic ----------------------------------------------------------------------------------------------------
def reshaped(*parts):
    """Return a build function that reshapes to the given numbers; a text is Shape's entry times or by a number."""

    def build(b):
        shape = b.node("Shape", "image")
        sizes = []
        for part in parts:
            if isinstance(part, int):
                sizes.append(b.constant(np.int64([part])))
                continue
            axis, sign, factor = part.split()
            size = b.node("Gather", shape, b.constant(np.int64([int(axis)])))
            sizes.append(b.node({"*": "Mul", "/": "Div"}[sign], size, b.constant(np.int64([int(factor)]))))
        b.node("Reshape", "image", b.node("Concat", *sizes, axis=0), name="flat")
        b.output_shape = ["N", "any"]

    return build


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (("0 * 2", -1), "must hold numbers and N, got [(202, 206), (-1, -1)] for N = (101, 103)"),
        (("0 / 2", "1 * 72"), "must hold numbers and N, got [(50, 51), (216, 216)] for N = (101, 103)"),
        ((-1, "0 * 1"), "must keep the batch axis in front, got shape [-1, N]"),
        (("0 * 1",), "must keep the batch axis in front, got shape [N]"),
        (("1 * 1", -1), "must keep the batch axis in front, got shape [3, -1]"),
        (("0 * 1", "1 * 2", 36), "cannot reshape (3, 6, 6) (108 values) to (6, 36) (216)"),
        (("0 * 1", "1 / 0"), "cannot be evaluated at import: divide by zero"),
        (("0 * 1", "7 * 1"), "cannot be evaluated at import: index 7 is out of bounds"),
    ],
)
def test_computed_shapes_that_cannot_be_used(tmp_path, parts, words):
    assert words in said(tmp_path, reshaped(*parts))


def test_a_size_of_zero_that_copies_nothing(tmp_path):
    def build(b):
        b.node("Reshape", "image", b.constant(np.int64([0, 0, -1])), allowzero=1)
        b.output_shape = ["N", "any"]

    assert "a size of 0 would leave nothing, got shape [0, 0, -1] with allowzero" in said(tmp_path, build, opset=14)


def test_data_that_depends_on_the_batch_size(tmp_path):
    def build(b):
        b.node("Mul", "image", b.node("Cast", b.node("Shape", "image", end=1), to=1))

    text = said(tmp_path, build, opset=15)
    assert "operand 't2' must be a constant of the file, it depends on the batch size" in text


# layouts and patterns ------------------------------------------------------------------------------------------------
def to_channels_first(b):
    b.node("Transpose", b.at, perm=[0, 3, 1, 2])


def add_input_to_itself(b):
    b.node("Add", "image", "image")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (then(op("Relu"), to_channels_first), "only the network's input may come channel-last"),
        (then(to_channels_first, op("Relu"), op("Transpose", perm=[0, 2, 3, 1])), "got perm [0, 2, 3, 1] of (N, 6, 3"),
        (op("Transpose", perm=[0, 2, 3, 1]), "its first Transpose must have perm [0, 3, 1, 2]"),
        (then(add_input_to_itself, to_channels_first), "only constants can be added before its Transpose"),
        (
            then(op("Mul", np.float32([1, 2, 3])), to_channels_first),
            "one number per channel (6), got shape (1, 3, 1, 1)",
        ),
    ],
)
def test_layouts_that_are_refused(tmp_path, build, words):
    def with_any_output(b):
        build(b)
        b.output_shape = ["N", "any"]

    assert words in said(tmp_path, with_any_output)


def response_normalisation(size=3, before=1, after=1, groups=1, stride=1):
    """Return a build function of x / (1 + 0.5 * mean of x^2)^0.75 as PyTorch writes it."""

    def build(b):
        C = 6 // groups
        square = b.node("Mul", "image", "image")
        b.node("Reshape", square, b.constant(np.int64([-1, groups, C, 4, 4])))
        b.node("Pad", b.at, b.constant(np.int64([0, 0, before, 0, 0, 0, 0, after, 0, 0])))
        b.node("AveragePool", b.at, kernel_shape=[size, 1, 1], strides=[stride, 1, 1])
        b.node("Reshape", b.at, b.constant(np.int64([-1, 6, 4, 4])))
        b.node("Mul", b.at, b.constant(np.float32(0.5)))
        b.node("Add", b.at, b.constant(np.float32(1)))
        b.node("Pow", b.at, b.constant(np.float32(0.75)))
        b.node("Div", "image", b.at, name="norm")

    return build


@pytest.mark.parametrize(
    ("options", "got"),
    [
        ({"size": 4, "before": 2}, "got [[4, 1, 1], [0, 0, 2, 0, 0, 0, 0, 1, 0, 0], [1, 6, 4, 4]]"),
        ({"before": 2, "after": 0}, "got [[3, 1, 1], [0, 0, 2, 0, 0, 0, 0, 0, 0, 0], [1, 6, 4, 4]]"),
        ({"groups": 2}, "got [[3, 1, 1], [0, 0, 1, 0, 0, 0, 0, 1, 0, 0], [2, 3, 4, 4]]"),
        ({"stride": 2}, "must average an odd number of channels around each"),
    ],
)
def test_response_normalisations_that_onnx_has_no_name_for(tmp_path, options, got):
    def build(b):
        response_normalisation(**options)(b)
        b.output_shape = ["N", 6, 4, 4]

    text = said(tmp_path, build, (6, 4, 4))
    assert "node 'norm' (number 8, LRN by pooling)" in text and got in text


def test_a_similar_formula_is_no_response_normalisation(tmp_path):
    def build(b):
        response_normalisation()(b)
        b.nodes[0].input[1] = b.node("Relu", "image")
        b.nodes.insert(0, b.nodes.pop())
        b.at = b.nodes[-1].output[0]
        b.output_shape = ["N", 6, 4, 4]

    assert "operator 'Pow' is supported for shapes and constants only, not for data" in said(tmp_path, build, (6, 4, 4))


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
