"""Small ONNX graphs, at least one per operator, and the layers the import must make of them."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper
from onnx_nets import case

from archsim.workload.layers import (
    Add,
    BatchNorm,
    Concat,
    Conv,
    Elementwise,
    Linear,
    Lrn,
    Pad,
    Pool,
    Reshape,
    Softmax,
    Wiring,
)


@case((6, 9, 7), Conv)
def conv_groups_dilation_stride(b):
    b.conv(6, 4, (3, 2), groups=2, dilations=[2, 3], strides=[1, 2], pads=[2, 1, 0, 3])


@case((5, 8, 8), Conv)
def conv_depthwise_multiplier(b):
    b.conv(5, 10, (3, 3), groups=5, bias=False, pads=[1, 1, 1, 1])


@case((3, 10, 7), Conv)
def conv_same_upper(b):
    b.conv(3, 4, (4, 3), auto_pad="SAME_UPPER", strides=[3, 2])


@case((3, 10, 7), Conv)
def conv_same_lower(b):
    b.conv(3, 4, (2, 4), auto_pad="SAME_LOWER", strides=[1, 2])


@case((3, 10, 7), Conv)
def conv_valid(b):
    b.conv(3, 4, (4, 3), auto_pad="VALID", strides=[2, 2])


@case((2, 3, 3), Reshape, Linear)
def gemm_alpha_beta(b):
    b.node("Flatten", "image")
    b.node("Gemm", b.at, b.constant(b.random(18, 5)), b.constant(b.random(1, 5)), alpha=0.5, beta=-2.0)


@case((7,), Linear)
def gemm_transposed_scalar_bias(b):
    b.node("Gemm", "image", b.constant(b.random(4, 7)), b.constant(np.float32([0.3])), transB=1)


@case((7,), Linear)
def matmul_bias_relu(b):
    b.node("MatMul", "image", b.constant(b.random(7, 4)))
    b.node("Add", b.constant(b.random(4)), b.at)
    b.node("Relu", b.at)


@case((3, 6, 6), Conv)
def conv_batch_norm_relu(b):
    b.conv(3, 5, (3, 3), pads=[1, 1, 1, 1])
    b.batch_norm(5, epsilon=1e-3)
    b.node("Relu", b.at)


@case((3, 6, 6), Conv)
def conv_shift_batch_norm_twice(b):
    b.conv(3, 5, (3, 3), bias=False)
    b.node("Add", b.at, b.constant(b.random(5, 1, 1)))
    b.batch_norm(5)
    b.batch_norm(5)


@case((4, 5, 5), Reshape, Linear)
def linear_batch_norm(b):
    b.node("Flatten", "image")
    b.node("Gemm", b.at, b.constant(b.random(100, 6)))
    b.batch_norm(6)


@case((3, 6, 6), Conv, BatchNorm, Add)
def batch_norm_of_a_shared_conv_stays(b):
    first = b.conv(3, 5, (3, 3))
    b.batch_norm(5)
    b.node("Add", b.at, first)


@case((3, 6, 6), Conv, Elementwise, BatchNorm)
def batch_norm_after_tanh_stays(b):
    b.conv(3, 5, (3, 3))
    b.node("Tanh", b.at)
    b.batch_norm(5)


@case((3, 6, 6), Conv, Elementwise, Concat)
def relu_of_a_shared_conv_stays(b):
    first = b.conv(3, 5, (3, 3))
    b.node("Relu", b.at)
    b.node("Concat", b.at, first, axis=-3)


@case((3, 6, 6), Conv)
def constants_around_a_conv_are_folded(b):
    b.conv(3, 5, (3, 3))
    b.node("Mul", b.at, b.constant(b.random(5, 1, 1)))
    b.node("Sub", b.at, b.constant(b.random(1, 5, 1, 1)))
    b.node("Div", b.at, b.constant(np.float32([[[3]], [[-2]], [[0.5]], [[-0.25]], [[1]]])))
    b.node("Sub", b.constant(np.float32(0.5)), b.at)
    b.node("Mul", b.constant(np.float32([1.5])), b.at)
    b.node("Relu", b.at)


@case((3, 6, 6), Conv, Elementwise, BatchNorm, Conv)
def constants_after_relu_become_one_layer(b):
    b.conv(3, 4, (3, 3))
    b.node("Tanh", b.at)
    b.node("Div", b.at, b.constant(np.float32(-3)))
    b.node("Add", b.at, b.constant(b.random(4, 1, 1)))
    b.node("Mul", b.at, b.constant(b.random(4, 1, 1)))
    b.conv(4, 2, (2, 2))


@case((3, 6, 6), Conv, Conv, Add)
def residual_add_relu(b):
    left = b.conv(3, 4, (3, 3))
    right = b.conv(3, 4, (3, 3), at="image")
    b.node("Add", left, right)
    b.node("Relu", b.at)


@case((3, 6, 6), Conv)
def clip_inputs(b):
    b.conv(3, 4, (3, 3))
    b.node("Clip", b.at, b.constant(np.float32(-0.2)), b.constant(np.float32(0.4)))


@case((3, 6, 6), Conv, opset=6)
def clip_attributes(b):
    b.conv(3, 4, (3, 3))
    b.node("Clip", b.at, min=0.1, max=0.5)


@case((3, 6, 6), Conv)
def clip_without_upper_bound(b):
    b.conv(3, 4, (3, 3))
    b.node("Clip", b.at, b.constant(np.float32(0)))


@case((3, 6, 6), Conv, Elementwise, Elementwise)
def sigmoid_tanh(b):
    b.conv(3, 4, (3, 3))
    b.node("Sigmoid", b.at)
    b.node("Tanh", b.at)


@case((3, 9, 8), Pool)
def max_pool_padded(b):
    b.node("MaxPool", "image", kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 2, 1])


@case((3, 8, 8), Pool)
def max_pool_ceil(b):
    b.node("MaxPool", "image", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)


@case((2, 6, 7), Pool)
def max_pool_ceil_drops_a_window_in_the_padding(b):
    b.node("MaxPool", "image", kernel_shape=[2, 2], strides=[3, 3], pads=[0, 0, 1, 1], ceil_mode=1)
    b.output_shape = ["N", 2, "rows", "columns"]  # onnx's own shape inference counts the dropped window


@case((3, 7, 9), Pool)
def max_pool_same(b):
    b.node("MaxPool", "image", kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER")


@case((3, 7, 8), Pool)
def average_pool(b):
    b.node("AveragePool", "image", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 1, 0, 1])


@case((3, 7, 8), Pool)
def average_pool_counting_padding(b):
    b.node("AveragePool", "image", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 2], count_include_pad=1)


@case((3, 4, 5), Pool, Reshape, Linear)
def global_average_pool(b):
    b.node("GlobalAveragePool", "image")
    b.node("Flatten", b.at)
    b.node("Gemm", b.at, b.constant(b.random(3, 4)))


@case((3, 4, 5), Pool)
def reduce_mean_kept(b):
    b.node("ReduceMean", "image", axes=[-1, -2])


@case((3, 4, 5), Pool, Reshape, opset=18)
def reduce_mean_dropped(b):
    b.node("ReduceMean", "image", b.constant(np.int64([2, 3])), keepdims=0)


@case((3, 4, 5), Pool)
def global_max_pool(b):
    b.node("GlobalMaxPool", "image")


@case((3, 4, 5), Pool, Reshape, opset=18)
def reduce_max_dropped(b):
    b.node("ReduceMax", "image", b.constant(np.int64([-2, 3])), keepdims=0)


@case((7, 3, 3), Lrn)
def lrn(b):
    b.node("LRN", "image", size=5, alpha=0.3, beta=0.6, bias=1.5)


@case((3, 5, 5), Conv)
def pad_into_conv(b):
    b.node("Pad", "image", b.constant(np.int64([0, 0, 1, 0, 0, 0, 2, 1])))
    b.conv(3, 4, (3, 2), pads=[0, 1, 1, 0], strides=[2, 1])


@case((3, 5, 5), Elementwise, Pool)
def pad_of_a_non_negative_map_into_max_pool(b):
    b.node("Relu", "image")
    b.node("Pad", b.at, b.constant(np.int64([0, 0, 1, 1, 0, 0, 1, 0])), b.constant(np.float32(0)))
    b.node("MaxPool", b.at, kernel_shape=[3, 3], strides=[2, 2])


@case((3, 5, 5), Pad, Pool)
def pad_of_a_signed_map_before_max_pool_stays(b):
    b.node("Pad", "image", b.constant(np.int64([0, 0, 1, 1, 0, 0, 1, 0])))
    b.node("MaxPool", b.at, kernel_shape=[2, 2], strides=[2, 2])


@case((3, 5, 5), Pool, opset=10)
def pad_into_average_pool(b):
    b.node("Pad", "image", pads=[0, 0, 1, 1, 0, 0, 0, 1])
    b.node("AveragePool", b.at, kernel_shape=[2, 2], strides=[1, 2])


@case((3, 5, 5), Pad, Pool)
def pad_before_padded_average_pool_stays(b):
    b.node("Pad", "image", b.constant(np.int64([0, 0, 1, 1, 0, 0, 0, 1])))
    b.node("AveragePool", b.at, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


@case((3, 5, 5), Pad, Elementwise, opset=18)
def pad_of_named_axes_stays_before_tanh(b):
    pads, axes = b.constant(np.int64([2, 1, 0, 3])), b.constant(np.int64([-1, 2]))
    b.node("Pad", "image", pads, b.constant(np.float32(0)), axes)
    b.node("Tanh", b.at)


@case((4, 5, 6), Wiring)
def wiring(b):
    weights = np.zeros((6, 4, 1, 1), np.float32)
    weights[[1, 2, 4], [3, 0, 3]] = 1
    b.node("Conv", "image", b.constant(weights), strides=[2, 3])


@case((4, 5, 5), Wiring)
def wiring_in_groups(b):
    weights = np.float32([[0, 1], [0, 0], [1, 0], [0, 1]]).reshape(4, 2, 1, 1)
    b.node("Conv", "image", b.constant(weights), group=2)


@case((2, 4, 4), Conv)
def two_ones_are_not_wiring(b):
    b.node("Conv", "image", b.constant(np.float32([[1, 1], [0, 1]]).reshape(2, 2, 1, 1)))


@case((2, 4, 4), Conv)
def an_all_zero_conv_is_not_wiring(b):
    b.node("Conv", "image", b.constant(np.zeros((3, 2, 1, 1), np.float32)))


@case((2, 3, 4), Reshape, Reshape, Linear, Softmax)
def reshapes(b):
    b.node("Reshape", "image", b.constant(np.int64([0, 4, -1])))
    b.node("Reshape", b.at, b.constant(np.int64([-1, 24])))
    b.node("Gemm", b.at, b.constant(b.random(24, 5)))
    b.node("Softmax", b.at)


@case((4, 3, 2), Reshape, Linear)
def view_by_computed_sizes(b):
    shape = b.node("Shape", "image")
    batch = b.node("Slice", shape, *(b.constant(np.int64([v])) for v in (0, 1, 0)))
    channels, rows, columns = (b.node("Gather", shape, b.constant(np.int64([v]))) for v in (1, 2, -1))
    features = b.node("Mul", b.node("Mul", channels, rows), columns)
    half = b.node("Div", b.node("Cast", features, to=1), b.constant(np.float32([2])))
    twice = b.node("Add", b.node("Cast", half, to=7), b.node("Cast", half, to=7))
    b.node("Reshape", "image", b.node("Concat", batch, twice, axis=0))
    flat = b.at
    b.node("MatMul", flat, b.node("Transpose", b.constant(b.random(5, 24))))
    b.output_shape = ["N", 5]


@case((4, 3, 2), Reshape, batch=2)
def view_of_a_fixed_batch(b):
    shape = b.node("Shape", "image")
    batch = b.node("Squeeze", b.node("Slice", shape, *(b.constant(np.int64([v])) for v in (0, 1))))
    is_one = b.node("Equal", batch, b.constant(np.int64(1)))
    rows = b.node("Where", is_one, b.constant(np.int64([9])), b.node("Unsqueeze", batch, b.constant(np.int64([0]))))
    b.node("Reshape", "image", b.node("Concat", rows, b.constant(np.int64([-1])), axis=0))
    b.output_shape = [2, 24]


@case((4, 3, 2), Reshape, opset=15)
def view_by_the_end_of_a_shape(b):
    rest = b.node("Shape", "image", start=2)
    first = b.node("ConstantOfShape", b.constant(np.int64([2])), value=numpy_helper.from_array(np.int64([0])))
    sizes = b.node("ReduceProd", rest, keepdims=1)
    b.node("Reshape", "image", b.node("Concat", first, sizes, axis=0))
    b.output_shape = ["N", 4, 6]


@case((5, 4, 3), Conv)
def channel_last_input_normalised_per_channel(b):
    b.node("Sub", "image", b.constant(b.random(3)))
    b.node("Mul", b.at, b.constant(b.random(1, 1, 1, 3)))
    b.node("Identity", b.at)
    b.node("Transpose", b.at, perm=[0, 3, 1, 2])
    b.conv(3, 4, (3, 2))


@case((5, 4, 3), Conv, Conv, Add)
def channel_last_input_read_twice_and_measured(b):
    first = b.conv(3, 4, (3, 1), at=b.node("Transpose", "image", perm=[0, 3, 1, 2]))
    other = b.conv(3, 4, (3, 1), at=b.node("Transpose", "image", perm=[0, 3, 1, 2]))
    rows, columns = (b.node("Gather", b.node("Shape", "image"), b.constant(np.int64([v]))) for v in (1, 2))
    rows = b.node("Sub", rows, b.constant(np.int64([2])))
    b.node("Reshape", other, b.node("Concat", b.constant(np.int64([-1, 4])), rows, columns, axis=0))
    b.node("Add", first, b.at)
    b.output_shape = ["N", 4, 3, 4]


@case((3, 4, 4), Pool, Reshape, Reshape, Reshape)
def squeeze_unsqueeze_transpose(b):
    b.node("GlobalAveragePool", "image")
    b.node("Squeeze", b.at, b.constant(np.int64([2, -1])))
    b.node("Unsqueeze", b.at, b.constant(np.int64([2, 1])))
    b.node("Transpose", b.at, perm=[0, 1, 3, 2])


@case((3, 1, 1), Softmax, Reshape, opset=11)
def squeeze_attribute_and_old_softmax(b):
    b.node("Softmax", "image")
    b.node("Squeeze", b.at, axes=[3, 2])


@case((3, 6, 6), Conv)
def removed_nodes(b):
    b.node("Identity", "image")
    b.conv(3, 4, (3, 3))
    b.node("Dropout", b.at)
    b.node("Relu", b.at)
    b.node("Reshape", b.at, b.constant(np.int64([-1, 4, 4, 4])))


@case((3, 6, 6), Conv)
def constant_nodes(b):
    first = b.conv(3, 4, (3, 3), bias=False)
    b.node("Constant", out="shift", value=numpy_helper.from_array(b.random(1, 4, 1, 1)))
    b.node("Add", first, "shift")
    low = b.node("Constant", value_float=-0.25)
    b.node("Clip", "t3", low)


@case((3, 6, 6), Conv)
def a_branch_that_does_not_reach_the_output(b):
    kept = b.conv(3, 4, (3, 3))
    b.node("Erf", "image")
    b.at = kept


@case((3, 6, 6), Conv, Add, batch=2)
def fixed_batch_and_a_tensor_added_to_itself(b):
    b.conv(3, 4, (3, 3))
    b.node("Add", b.at, b.at)
    b.node("Reshape", b.at, b.constant(np.int64([2, 4, 4, 4])))
