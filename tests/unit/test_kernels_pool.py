"""Pooling against direct twins, and its ONNX semantics against onnxruntime."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archsim.kernels.pool import average_pool_fixed, average_pool_float, max_pool, pool_output_size


def taps_of(x, R, S, stride, pad, ceil_mode, window):
    """The taps of one window (n, c, p, q) inside the map, and the taps inside map and padding."""
    n, c, p, q = window
    H, W = x.shape[2:]
    hs = [p * stride[0] + r - pad[0] for r in range(R)]
    ws = [q * stride[1] + s - pad[1] for s in range(S)]
    inside = [int(x[n, c, h, w]) for h in hs if 0 <= h < H for w in ws if 0 <= w < W]
    padded = sum(h < H + pad[2] for h in hs) * sum(w < W + pad[3] for w in ws)
    return inside, padded


@st.composite
def pools(draw):
    R, S = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    stride = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    pad = tuple(draw(st.integers(0, kernel - 1)) for kernel in (R, S, R, S))
    H, W = draw(st.integers(R, 13)), draw(st.integers(S, 12))
    return (draw(st.integers(1, 2)), draw(st.integers(1, 3)), H, W), R, S, stride, pad, draw(st.booleans())


def codes(rng, shape):
    values = rng.integers(-(2**15), 2**15, shape).astype(np.int16)
    values.reshape(-1)[::3] = -(2**15)
    return values


@settings(max_examples=60)
@given(pools(), st.integers(0, 2**32))
def test_max_pool_equals_the_twin(case, seed):
    shape, *window = case
    x = codes(np.random.default_rng(seed), shape)
    x[0, 0] = -(2**15) + 1  # padding must not win even against the second smallest code
    y = max_pool(x, *window)
    assert y.dtype == x.dtype
    expected = [max(taps_of(x, *window, index)[0]) for index in np.ndindex(y.shape)]
    assert y.reshape(-1).tolist() == expected


@settings(max_examples=80)
@given(pools(), st.integers(0, 2**32), st.booleans(), st.integers(-5, 5), st.sampled_from([8, 16, 32]))
def test_fixed_average_equals_the_twin_in_fractions(case, seed, include_pad, delta, bits):
    shape, *window = case
    x = codes(np.random.default_rng(seed), shape)
    y, saturated = average_pool_fixed(x, *window, include_pad, delta, bits)
    words, clipped = [], 0
    for index in np.ndindex(y.shape):
        inside, padded = taps_of(x, *window, index)
        mean = Fraction(sum(inside), padded if include_pad else len(inside)) * Fraction(2) ** delta
        code = floor(mean + Fraction(1, 2))
        bounded = min(max(code, -(1 << (bits - 1))), (1 << (bits - 1)) - 1)
        words.append(bounded)
        clipped += bounded != code
    assert y.dtype == (np.int16 if bits <= 16 else np.int32)
    assert y.reshape(-1).tolist() == words
    assert saturated == clipped


@settings(max_examples=30)
@given(pools(), st.integers(0, 2**32), st.booleans())
def test_float_average_equals_the_twin(case, seed, include_pad):
    shape, *window = case
    x = np.random.default_rng(seed).integers(-999, 999, shape).astype(np.float32)
    y = average_pool_float(x, *window, include_pad)
    assert y.dtype == np.float32
    for index in np.ndindex(y.shape):
        inside, padded = taps_of(x, *window, index)
        assert y[index] == np.float32(sum(inside) / (padded if include_pad else len(inside)))


def test_ties_round_half_up_and_saturation_is_counted():
    x = np.array([1, 2, -1, -2, 32767, 32767, -32768, -32768], np.int16).reshape(1, 1, 1, 8)
    arguments = 1, 2, (1, 2), (0, 0, 0, 0), False, False
    y, saturated = average_pool_fixed(x, *arguments, 0, 16)
    assert y.reshape(-1).tolist() == [2, -1, 32767, -32768] and saturated == 0
    y, saturated = average_pool_fixed(x, *arguments, 1, 16)
    assert y.reshape(-1).tolist() == [3, -3, 32767, -32768] and saturated == 2


def test_a_window_that_would_start_in_the_end_padding_is_dropped():
    assert pool_output_size(3, 2, 2, 0, 1, True) == 2
    assert pool_output_size(4, 2, 3, 0, 1, True) == 2
    assert pool_output_size(4, 2, 4, 0, 1, True) == 1  # a second window would start at 4, in the padding
    assert pool_output_size(4, 2, 4, 0, 1, False) == 1
    assert pool_output_size(6, 3, 2, 0, 0, True) == 3  # and one that starts inside hangs over
    assert pool_output_size(6, 3, 2, 0, 0, False) == 2


def test_what_cannot_be_pooled_is_refused():
    x = np.full((1, 1, 4, 4), 30000, np.int16)
    with pytest.raises(ValueError, match="smaller than the kernel"):
        max_pool(x, 2, 2, (1, 1), (2, 0, 0, 0), False)
    with pytest.raises(ValueError, match="must fit"):
        max_pool(x, 5, 2, (1, 1), (0, 0, 0, 0), False)
    with pytest.raises(OverflowError, match="64 bits"):
        average_pool_fixed(x, 2, 2, (1, 1), (0, 0, 0, 0), False, False, 60, 16)


def run_onnx(operator, x, **attributes):
    """One pooling operator in onnxruntime."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], **attributes)],
        "pool",
        [helper.make_tensor_value_info("x", kind, x.shape)],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@settings(max_examples=40)
@given(pools(), st.integers(0, 2**32), st.booleans())
def test_onnxruntime_agrees(case, seed, include_pad):
    shape, R, S, stride, pad, ceil_mode = case
    assume(min(shape[2], shape[3]) > 1)
    x = np.random.default_rng(seed).integers(-99, 99, shape).astype(np.float32)
    attributes = {"kernel_shape": [R, S], "strides": list(stride), "pads": list(pad), "ceil_mode": int(ceil_mode)}
    np.testing.assert_array_equal(max_pool(x, R, S, stride, pad, ceil_mode), run_onnx("MaxPool", x, **attributes))
    y = average_pool_float(x, R, S, stride, pad, ceil_mode, include_pad)
    expected = run_onnx("AveragePool", x, count_include_pad=int(include_pad), **attributes)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
