"""The dense reference of one layer: every number format against slow arithmetic on Python integers or float64."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.errors import AccumulatorOverflowError, WorkloadError
from archsim.workload import reference as module
from archsim.workload.formats import AffineInt8, Bfloat16, Fixed, Float32, NumberFormat, Scale
from archsim.workload.layers import Activation, Add, Conv, Layer, Linear, OpStep, OpStream
from archsim.workload.nodes import activation_bounds
from archsim.workload.params import Accumulation, LayerParams
from archsim.workload.reference import op_stream_reference, output_scale, reference

RELU, CLIP = Activation("relu"), Activation("clip", -0.75, 1.5)


def conv_layer(**fields):
    bounds = {"C": 4, "M": 6, "H": 7, "W": 6, "R": 3, "S": 2, "stride": (2, 1), "pad": (1, 0, 2, 1), "groups": 2}
    return Conv(name="conv1", inputs=("x",), output="y", **{**bounds, **fields})


def windows(layer: Layer, x):
    """Yield (index of the output, filter, taps of x inside the map, their weight indices) of every output element."""
    if isinstance(layer, Linear):
        for n, m in np.ndindex(len(x), layer.M):
            yield (n, m), m, x[n], (slice(None),)
        return
    (top, left), per_filter, per_group = layer.pad[:2], layer.M // layer.groups, layer.C // layer.groups
    for n, m, p, q in np.ndindex(len(x), layer.M, layer.P, layer.Q):
        rows = [(r, p * layer.stride[0] - top + r * layer.dilation[0]) for r in range(layer.R)]
        columns = [(s, q * layer.stride[1] - left + s * layer.dilation[1]) for s in range(layer.S)]
        rows, columns = (
            [(k, i) for k, i in axis if 0 <= i < size] for axis, size in ((rows, layer.H), (columns, layer.W))
        )
        channels = slice(m // per_filter * per_group, (m // per_filter + 1) * per_group)
        inside = x[n, channels][:, [i for _, i in rows]][:, :, [i for _, i in columns]]
        yield (n, m, p, q), m, inside, (slice(None), *np.ix_([k for k, _ in rows], [k for k, _ in columns]))


def sums(layer, x, w, bias, dtype=object):
    """Return bias + sum of products of every output element in exact (object) or float64 arithmetic."""
    shape = (len(x), layer.M) if isinstance(layer, Linear) else (len(x), layer.M, layer.P, layer.Q)
    out = np.zeros(shape, dtype)
    x, w = x.astype(dtype), w.astype(dtype)
    for index, m, taps, where in windows(layer, x):
        out[index] = (taps * w[m][where]).sum() + (
            0 if bias is None else dtype(bias[m]) if dtype is float else int(bias[m])
        )
    return out


def finish(acc, activation, f_acc, f_y, bits):
    """Return code and whether it was saturated, in rational arithmetic."""
    value = Fraction(int(acc))
    if activation.kind != "none":
        low, high = activation_bounds(activation, f_acc)
        value = max(value, low) if low is not None else value
        value = min(value, high) if high is not None else value
    code = floor(value / Fraction(2) ** (f_acc - f_y) + Fraction(1, 2))
    bounded = min(max(code, -(2 ** (bits - 1))), 2 ** (bits - 1) - 1)
    return bounded, bounded != code


def fixed_case(layer, bits, seed, f_y, n_images=2):
    """Return codes that reach both ends of the range, and parameters with weights of both signs and a large bias."""
    rng = np.random.default_rng(seed)
    number_format = Fixed(bits)
    end = number_format.code_max
    x_shape = (n_images, layer.C) if isinstance(layer, Linear) else (n_images, layer.C, layer.H, layer.W)
    w_shape = (layer.M, layer.C) if isinstance(layer, Linear) else (layer.M, layer.C // layer.groups, layer.R, layer.S)
    x = rng.integers(-end - 1, end + 1, x_shape).astype(number_format.dtype)
    x[rng.random(x_shape) < 0.4] = 0
    w = rng.integers(-end - 1, end + 1, w_shape).astype(number_format.dtype)
    bias = rng.integers(-(end**2), end**2, layer.M)
    scales = Scale(bits - 3), Scale(bits - 2), None if f_y is None else Scale(f_y)
    return x, LayerParams(number_format, *scales, w, bias)


@pytest.mark.parametrize("activation", [Activation(), RELU, CLIP])
@pytest.mark.parametrize("f_y", [4, 13, 30])
@pytest.mark.parametrize(
    "layer",
    [
        conv_layer(),
        conv_layer(groups=1, dilation=(2, 3), pad=(2, 2, 2, 2)),
        conv_layer(groups=4, M=8, R=1, S=1, pad=(0, 0, 0, 0)),
        Linear(name="fc", inputs=("x",), output="y", C=9, M=5),
    ],
    ids=["ragged", "dilated", "depthwise", "linear"],
)
def test_fixed_point_is_exact_and_counts_saturated_words(layer, activation, f_y):
    layer = type(layer)(**{**layer.__dict__, "activation": activation})
    x, params = fixed_case(layer, 16, 5, f_y)
    result = reference(layer, x, params)
    expected = [finish(acc, activation, 27, f_y, 16) for acc in sums(layer, x, params.weights, params.bias).flat]
    assert result.y.dtype == np.int16
    assert result.y.ravel().tolist() == [code for code, _ in expected]
    assert result.saturated_words == sum(hit for _, hit in expected)
    assert (result.saturated_words > 0) == (f_y == 30 or (f_y == 13 and activation is not CLIP))
    assert result.overflow_events == 0


@given(seed=st.integers(0, 1 << 30), bits=st.sampled_from([2, 4, 8, 12]), f_y=st.integers(-3, 12), relu=st.booleans())
def test_fixed_point_of_any_width_is_exact(seed, bits, f_y, relu):
    layer = conv_layer(H=4, W=3, activation=RELU if relu else Activation())
    x, params = fixed_case(layer, bits, seed, f_y, n_images=1)
    acc = sums(layer, x, params.weights, params.bias).flat
    expected = [finish(one, layer.activation, 2 * bits - 5, f_y, bits) for one in acc]
    result = reference(layer, x, params)
    assert result.y.ravel().tolist() == [code for code, _ in expected]
    assert result.saturated_words == sum(hit for _, hit in expected)


def test_the_networks_output_keeps_its_accumulators():
    layer = Linear(name="fc", inputs=("x",), output="logits", C=9, M=5)
    x, params = fixed_case(layer, 16, 7, None)
    result = reference(layer, x, params)
    assert result.y.dtype == np.int64
    assert result.y.tolist() == sums(layer, x, params.weights, params.bias).tolist()
    assert output_scale(params) == Scale(fraction_bits=27)
    values = Fixed(16).decode(result.y, output_scale(params))
    real = sums(
        layer, Fixed(16).decode(x, params.x_scale), Fixed(16).decode(params.weights, params.w_scale), None, float
    )
    np.testing.assert_allclose(values, real + params.bias * 2.0**-27, rtol=1e-12)


# accumulators that can overflow --------------------------------------------------------------------------------------
def stepwise(layer, x, params, accumulation):
    """Add product after product in Python integers: accumulators and overflow events per image, in storage order."""
    limit = 1 << (accumulation.bits - 1)
    padded = np.pad(x, ((0, 0), (0, 0), (layer.pad[0], layer.pad[2]), (layer.pad[1], layer.pad[3])))
    acc, events = np.zeros((len(x), layer.M, layer.P, layer.Q), object), np.zeros(len(x), int)
    per_filter, per_group = layer.M // layer.groups, layer.C // layer.groups
    for n, m, p, q in np.ndindex(acc.shape):
        first = m // per_filter * per_group
        top, left = p * layer.stride[0], q * layer.stride[1]
        taps = padded[n, first : first + per_group, top : top + layer.R, left : left + layer.S].ravel().tolist()
        terms = [a * b >> accumulation.product_shift for a, b in zip(taps, params.weights[m].ravel().tolist())]
        total = 0
        for term in (int(params.bias[m]) >> accumulation.product_shift, *terms):
            total += term
            if not -limit <= total < limit:
                events[n] += 1
                if accumulation.overflow == "wrap":
                    total = (total + limit) % (2 * limit) - limit
                elif accumulation.overflow == "saturate":
                    total = min(max(total, -limit), limit - 1)
        acc[n, m, p, q] = total
    return acc, events


@pytest.mark.parametrize("overflow", ["wrap", "saturate"])
@pytest.mark.parametrize("product_shift", [0, 7])
def test_an_overflowing_accumulator_does_what_the_machine_does(overflow, product_shift):
    layer, f_acc = conv_layer(activation=RELU), 27 - product_shift
    x, params = fixed_case(layer, 16, 11, 12)
    accumulation = Accumulation(31 - product_shift, overflow, product_shift)
    acc, events = stepwise(layer, x, params, accumulation)
    result = reference(layer, x, params, accumulation)
    assert events.sum() > 10
    assert result.overflow_events == events.sum()
    assert result.y.ravel().tolist() == [finish(one, RELU, f_acc, 12, 16)[0] for one in acc.flat]
    raw = LayerParams(**{**params.__dict__, "y_scale": None})
    kept = reference(layer, x, raw, accumulation).y
    assert kept.ravel().tolist() == [max(one, 0) << product_shift for one in acc.flat]


def test_an_overflow_that_is_an_error_names_layer_image_and_both_numbers():
    layer = conv_layer()
    x, params = fixed_case(layer, 16, 11, 12)
    x[0] //= 64
    params = LayerParams(**{**params.__dict__, "bias": params.bias // 64})
    _, events = stepwise(layer, x, params, Accumulation(31, "error"))
    assert events[0] == 0 < events[1]
    with pytest.raises(AccumulatorOverflowError, match=r"'conv1', image 1: .*magnitude \d{10} .*31-bit.*1073741823"):
        reference(layer, x, params, Accumulation(31))
    with pytest.raises(AccumulatorOverflowError, match="'fc', image 0"):
        fc = Linear(name="fc", inputs=("x",), output="y", C=9, M=5)
        reference(fc, *fixed_case(fc, 16, 7, 12), Accumulation(24))


def test_nothing_is_checked_step_by_step_if_the_bound_fits(monkeypatch):
    layer = conv_layer()
    x, params = fixed_case(layer, 16, 11, 12)
    exact = reference(layer, x, params).y
    monkeypatch.setattr(module, "accumulate_stepwise", None)
    assert np.array_equal(reference(layer, x, params, Accumulation(48)).y, exact)
    with pytest.raises(TypeError):
        reference(layer, x, params, Accumulation(31))


def test_a_possible_overflow_that_does_not_happen_changes_nothing(monkeypatch):
    layer = conv_layer()
    x, params = fixed_case(layer, 16, 11, 12)
    exact = reference(layer, x, params)
    monkeypatch.setattr(module, "overflow_possible", lambda *_: True)
    checked = reference(layer, x, params, Accumulation(48))
    np.testing.assert_array_equal(checked.y, exact.y)
    assert checked.saturated_words == exact.saturated_words > 0


# other formats -------------------------------------------------------------------------------------------------------
def real_case(layer, seed=3):
    rng = np.random.default_rng(seed)
    x_shape = (2, layer.C) if isinstance(layer, Linear) else (2, layer.C, layer.H, layer.W)
    w_shape = (layer.M, layer.C) if isinstance(layer, Linear) else (layer.M, layer.C // layer.groups, layer.R, layer.S)
    x = rng.normal(0.6, 1, x_shape).astype(np.float32)
    x[rng.random(x_shape) < 0.3] = 0
    return x, rng.normal(0.1, 0.5, w_shape).astype(np.float32), rng.normal(0, 1, layer.M)


def encoded(number_format: NumberFormat, values):
    scale = number_format.scale_of(float(values.min()), float(values.max()))
    return number_format.encode(values, scale), scale


LAYERS = [conv_layer(), conv_layer(groups=1, activation=RELU), conv_layer(groups=4, M=4, activation=CLIP)]
LAYERS += [Linear(name="fc", inputs=("x",), output="y", C=11, M=5, activation=RELU)]


@pytest.mark.parametrize("layer", LAYERS, ids=["grouped", "relu", "depthwise", "linear"])
def test_int8_is_the_product_of_decoded_values_with_real_zero_padding(layer):
    int8 = AffineInt8()
    x, w, bias = real_case(layer)
    (x_codes, x_scale), (w_codes, w_scale) = encoded(int8, x), encoded(int8, w)
    assert x_scale.low < 0 != round(-x_scale.low / x_scale.step, 3) % 1
    real = sums(layer, int8.decode(x_codes, x_scale), int8.decode(w_codes, w_scale), bias, float)
    real = np.clip(real, *{"none": (None, 9e9), "relu": (0, None), "clip": (-0.75, 1.5)}[layer.activation.kind])
    raw = reference(layer, x_codes, LayerParams(int8, x_scale, w_scale, None, w_codes, bias))
    np.testing.assert_allclose(raw.y, real, rtol=1e-12, atol=1e-12)
    narrow = int8.scale_of(-0.5, float(np.percentile(real, 90)))
    stored = reference(layer, x_codes, LayerParams(int8, x_scale, w_scale, narrow, w_codes, bias))
    assert np.abs(stored.y.astype(int) - int8.encode(real, narrow)).max() <= 1  # a sum next to a tie may go either way
    outside = ((real < -0.5) | (real >= narrow.low + 257 * narrow.step)).sum()
    assert stored.saturated_words == outside > 0


@pytest.mark.parametrize("layer", LAYERS, ids=["grouped", "relu", "depthwise", "linear"])
def test_floating_formats_sum_in_float32_and_store_in_theirs(layer):
    x, w, bias = real_case(layer)
    bfloat = Bfloat16()
    x_codes, w_codes, b_codes = (bfloat.encode(one, Scale()) for one in (x, w, bias.astype(np.float32)))
    fp32 = reference(layer, x_codes, LayerParams(Float32(), Scale(), Scale(), Scale(), w_codes, b_codes)).y
    real = sums(layer, x_codes, w_codes, b_codes, float)
    real = np.clip(real, *{"none": (None, 9e9), "relu": (0, None), "clip": (-0.75, 1.5)}[layer.activation.kind])
    assert fp32.dtype == np.float32
    np.testing.assert_allclose(fp32, real, rtol=1e-5, atol=1e-5)
    params = LayerParams(bfloat, Scale(), Scale(), Scale(), w_codes, b_codes)
    stored = reference(layer, x_codes, params).y
    np.testing.assert_array_equal(stored, bfloat.encode(fp32, Scale()))
    assert (stored != fp32).any()
    last = reference(layer, x_codes, LayerParams(bfloat, Scale(), Scale(), None, w_codes, b_codes))
    np.testing.assert_array_equal(last.y, fp32)


def test_other_layers_and_missing_weights_are_refused():
    x, params = fixed_case(conv_layer(), 16, 1, 3)
    with pytest.raises(WorkloadError, match="'s': the reference runs Conv and Linear, got Add"):
        reference(Add(name="s", inputs=("x", "x"), output="y"), x, params)
    with pytest.raises(WorkloadError, match="'conv1' has no weights"):
        reference(conv_layer(), x, LayerParams(**{**params.__dict__, "weights": None}))


# scalar operation streams --------------------------------------------------------------------------------------------
STEPS = (
    OpStep("mac", (("pixel", -1, 1), ("constant", 1.7), ("pixel", 0, 0))),
    OpStep("add", (("step", 0), ("pixel", 1, -1))),
    OpStep("mul", (("step", 1), ("step", 1))),
    OpStep("sqrt", (("step", 2),)),
)


def test_an_operation_stream_is_rounded_after_every_operation():
    layer = OpStream(name="k", inputs=("x",), output="y", H=5, W=6, steps=STEPS)
    x = np.random.default_rng(2).uniform(0, 255, (2, 1, 5, 6)).astype(np.float32)
    y = op_stream_reference(layer, x)
    assert y.shape == (2, 1, 3, 4)
    assert y.dtype == np.float32
    fused = 0
    for n, p, q in np.ndindex(2, 3, 4):

        def pixel(dy, dx, n=n, p=p, q=q):
            return x[n, 0, p + 1 + dy, q + 1 + dx]

        product = np.float32(pixel(-1, 1) * np.float32(1.7))
        first = np.float32(product + pixel(0, 0))
        fused += first != np.float32(np.float64(pixel(-1, 1)) * np.float64(np.float32(1.7)) + np.float64(pixel(0, 0)))
        second = np.float32(first + pixel(1, -1))
        assert y[n, 0, p, q] == np.sqrt(np.float32(second * second))
    assert fused > 0  # the case tells two roundings from one


def test_a_stream_of_constants_fills_the_map():
    layer = OpStream(
        name="k", inputs=("x",), output="y", H=4, W=4, steps=(OpStep("add", (("constant", 1), ("constant", 2))),)
    )
    assert op_stream_reference(layer, np.zeros((2, 1, 4, 4), np.float32)).tolist() == [[[[3.0] * 2] * 2]] * 2
