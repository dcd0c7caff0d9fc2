"""Layers no machine runs: exact on fixed-point codes where the rules say so, decoded otherwise."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest

from archsim.errors import WorkloadError
from archsim.workload.formats import AffineInt8, Bfloat16, Fixed, Float32, Scale
from archsim.workload.graph import FloatParams, Network
from archsim.workload.layers import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Conv,
    Elementwise,
    Lrn,
    Pad,
    Pool,
    Reshape,
    Softmax,
    Wiring,
)
from archsim.workload.nodes import activation_bounds
from archsim.workload.params import Tensor
from archsim.workload.reference import host_compute

FIXED16 = Fixed(16)
IO = {"name": "node", "inputs": ("x",), "output": "y"}
SHAPE = (2, 5, 6, 7)


def codes(seed, shape=SHAPE, end=32767):
    values = np.random.default_rng(seed).integers(-end - 1, end + 1, shape)
    values.flat[:2] = (-end - 1, end)
    return values.astype(np.int16)


def run(layer, *tensors, f_y=10, params=None):
    """Run one node on fixed16 tensors (codes, fraction bits); returns the output tensor."""
    network = Network("net", (layer,), "x", "y", {}, {} if params is None else {"node": params})
    inputs = tuple(Tensor(array, FIXED16, Scale(fraction_bits=f)) for array, f in tensors)
    scales = dict(zip(layer.inputs, (one.scale for one in inputs))) | {"y": Scale(fraction_bits=f_y)}
    return host_compute(layer, inputs, network, scales)


def half_up(value: Fraction) -> int:
    return min(max(floor(value + Fraction(1, 2)), -32768), 32767)


@pytest.mark.parametrize("f_y", [2, 7, 11, 20])
@pytest.mark.parametrize("kind", ["none", "relu", "clip"])
def test_addition_aligns_to_the_finer_scale_and_rounds_once(f_y, kind):
    activation = Activation(kind, -0.5, 3.25) if kind == "clip" else Activation(kind)
    layer = Add(**{**IO, "inputs": ("x", "z"), "activation": activation})
    a, b = codes(1), codes(2)
    expected = []
    for one, other in zip(a.ravel().tolist(), b.ravel().tolist()):
        total = Fraction(one, 2**8) + Fraction(other, 2**11)
        if kind == "relu":
            total = max(total, Fraction(0))
        elif kind == "clip":
            total = min(max(total, Fraction(-1, 2)), Fraction(13, 4))
        expected.append(half_up(total * 2**f_y))
    y = run(layer, (a, 8), (b, 11), f_y=f_y)
    assert y.codes.ravel().tolist() == expected
    assert y.scale == Scale(fraction_bits=f_y)


@pytest.mark.parametrize("f_y", [6, 10, 13])
@pytest.mark.parametrize("include", [False, True])
def test_averages_are_exact(f_y, include):
    pool = {"R": 3, "S": 2, "stride": (2, 3), "pad": (1, 0, 1, 1), "count_include_pad": include}
    x = codes(3)
    y = run(Pool(**IO, kind="average", **pool), (x, 10), f_y=f_y)
    assert y.codes.shape == (2, 5, 3, 3)
    for n, c, p, q in np.ndindex(y.codes.shape):
        rows, columns = slice(max(2 * p - 1, 0), 2 * p + 2), slice(3 * q, 3 * q + 2)
        taps = x[n, c, rows, columns].astype(int)
        mean = Fraction(int(taps.sum()), 6 if include else taps.size)
        assert y.codes[n, c, p, q] == half_up(mean * Fraction(2) ** (f_y - 10))


MOVES = [
    (Pool(**IO, kind="max", R=2, S=3, stride=(2, 2), pad=(1, 1, 0, 1)), None),
    (Reshape(**IO, shape=(210,)), lambda x: x.reshape(2, 210)),
    (Pad(**IO, pad=(1, 0, 2, 3)), lambda x: np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 3)))),
    (Wiring(**IO, source=(4, -1, 0, -1), stride=(2, 3)), lambda x: np.stack(
        [x[:, 4], 0 * x[:, 4], x[:, 0], 0 * x[:, 0]], axis=1)[:, :, ::2, ::3]),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "expected"), MOVES, ids=["max", "reshape", "pad", "wiring"])
@pytest.mark.parametrize("number_format", [FIXED16, Float32(), Bfloat16(), AffineInt8()])
def test_moves_keep_every_value(layer, expected, number_format):
    values = np.random.default_rng(4).normal(0, 1, SHAPE)
    scale = number_format.scale_of(values.min(), values.max())
    x = Tensor(number_format.encode(values, scale), number_format, scale)
    y = host_compute(layer, (x,), Network("net", (layer,), "x", "y", {}), {"x": scale, "y": scale})
    assert y.codes.dtype == x.codes.dtype
    decoded = x.values()
    if expected is None:
        for n, c, p, q in np.ndindex(y.codes.shape):
            rows, columns = slice(max(2 * p - 1, 0), 2 * p + 1), slice(max(2 * q - 1, 0), 2 * q + 2)
            assert y.values()[n, c, p, q] == decoded[n, c, rows, columns].max()
    else:
        tolerance = scale.step / 2 if number_format == AffineInt8() else 0  # int8 may have no code for zero
        np.testing.assert_allclose(y.values(), expected(decoded), rtol=0, atol=tolerance)


def test_the_input_of_a_wiring_is_not_modified():
    x = codes(5)
    x.flags.writeable = False
    before = x.copy()
    run(Wiring(**IO, source=(-1, 1, 2)), (x, 10))
    np.testing.assert_array_equal(x, before)


def test_concatenation_moves_codes_of_tied_tensors():
    layer = Concat(**{**IO, "inputs": ("x", "z")})
    a, b = codes(6), codes(7, (2, 3, 6, 7))
    np.testing.assert_array_equal(run(layer, (a, 10), (b, 10)).codes, np.concatenate([a, b], axis=1))


def test_a_tensor_of_another_format_is_converted_first():
    layer = Add(**{**IO, "inputs": ("x", "z")})
    x = Tensor(codes(8), FIXED16, Scale(fraction_bits=10))
    z = Tensor(np.random.default_rng(9).normal(0, 3, SHAPE).astype(np.float32), Float32(), Scale())
    scales = {"x": x.scale, "z": Scale(fraction_bits=12), "y": Scale(fraction_bits=9)}
    network = Network("net", (layer,), "x", "y", {})
    mixed = host_compute(layer, (x, z), network, scales)
    same = host_compute(layer, (x, z.to(FIXED16, scales["z"])), network, scales)
    np.testing.assert_array_equal(mixed.codes, same.codes)


PARAMS = FloatParams(np.array([1, -0.5, 2, 0.25, -1], np.float32), np.array([0, 1, -1, 0.5, 2], np.float32))
FUNCTIONS = {
    "relu": (Elementwise(**IO, function="relu"), lambda v: np.maximum(v, 0)),
    "clip": (Elementwise(**IO, function="clip", low=-1, high=1.5), lambda v: np.clip(v, -1, 1.5)),
    "tanh": (Elementwise(**IO, function="tanh"), np.tanh),
    "sigmoid": (Elementwise(**IO, function="sigmoid"), lambda v: 1 / (1 + np.exp(-v))),
    "softmax": (Softmax(**IO), lambda v: np.exp(v) / np.exp(v).sum(axis=1, keepdims=True)),
    "lrn": (Lrn(**IO, size=3, alpha=0.3, beta=0.75, bias=1.0), lambda v: v / (1 + 0.1 * around(v)) ** 0.75),
    "batch_norm": (BatchNorm(**IO), lambda v: v * PARAMS.weights[:, None, None] + PARAMS.bias[:, None, None]),
}


def around(v):
    squares = np.pad(v**2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    return squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("number_format", [FIXED16, Fixed(8), AffineInt8(), Bfloat16(), Float32()])
def test_functions_are_evaluated_on_values_and_encoded_once(name, number_format):
    layer, function = FUNCTIONS[name]
    values = np.random.default_rng(10).normal(0, 1.5, SHAPE)
    scale = number_format.scale_of(values.min(), values.max())
    x = Tensor(number_format.encode(values, scale), number_format, scale)
    exact = function(np.asarray(x.values(), np.float64))
    y_scale = number_format.scale_of(exact.min(), exact.max())
    network = Network("net", (layer,), "x", "y", {}, {"node": PARAMS})
    y = host_compute(layer, (x,), network, {"x": scale, "y": y_scale})
    if number_format.integer:
        np.testing.assert_array_equal(y.codes, number_format.encode(exact, y_scale))
    else:
        assert y.codes.dtype == np.float32
        stored = number_format.encode(exact, y_scale)
        np.testing.assert_allclose(y.codes, stored, rtol=2**-7 if number_format == Bfloat16() else 1e-5, atol=1e-6)


def test_activation_bounds_are_accumulator_codes():
    assert activation_bounds(Activation(), 20) == (None, None)
    assert activation_bounds(Activation("relu"), 20) == (0, None)
    assert activation_bounds(Activation("clip", 0.0, 6.0), 20) == (0, 6 << 20)
    assert activation_bounds(Activation("clip", -0.3, 0.3), -1) == (0, 0)
    assert activation_bounds(Activation("clip", float("-inf"), 1.0), 70) == (None, None)


def test_a_layer_for_a_machine_is_refused():
    layer = Conv(**IO, C=5, M=1, H=6, W=7, R=1, S=1)
    x = Tensor(codes(1).astype(np.float32), Float32(), Scale())
    with pytest.raises(WorkloadError, match="'node' \\(Conv\\) needs a machine; without one run: Add, BatchNorm"):
        host_compute(layer, (x,), Network("net", (layer,), "x", "y", {}), {"y": Scale()})
