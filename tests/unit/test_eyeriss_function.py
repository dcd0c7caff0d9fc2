"""E13: the ofmap in both psum modes against slow twins, and what an overflow does."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from archsim.accelerators.base import Stored
from archsim.accelerators.eyeriss.activity import execute_layer
from archsim.accelerators.eyeriss.plan import EyerissPlan
from archsim.errors import AccumulatorOverflowError, WorkloadError
from archsim.workload.formats import Fixed, Scale
from archsim.workload.layers import Activation, Conv, Linear
from archsim.workload.params import LayerParams

FRACTION_BITS = 20
"""Of the accumulator in all tests: 10 bits of the ifmap, 10 of the weights."""
RELU, CLIP = Activation("relu"), Activation("clip", -0.5, 6.0)


def config(psum_mode, product_shift=0, overflow="error"):
    """Return all of the Config that `execute_layer` reads."""
    return SimpleNamespace(psum_mode=psum_mode, overflow=overflow, product_shift_of=lambda layer: product_shift)


def plan_of(batch=1, q=2, r=1, channel_calls=1):
    return EyerissPlan(batch, 2, 2, 1, 2, q, r, 1, channel_calls=channel_calls)


def params_of(weights, bias, y_fraction_bits=8):
    scales = [Scale(fraction_bits=FRACTION_BITS // 2)] * 2
    y_scale = None if y_fraction_bits is None else Scale(fraction_bits=y_fraction_bits)
    return LayerParams(Fixed(16), *scales, y_scale, weights.astype(np.int16), bias)


def draw_case(conv, seed, peak=700, bias_peak=1 << 21):
    """Draw sign-balanced codes with zeros among them."""
    draw = np.random.default_rng(seed)
    x = draw.integers(-peak, peak + 1, (2 * conv.N, conv.C, conv.H, conv.W)).astype(np.int16)
    x[draw.random(x.shape) < 0.3] = 0
    weights = draw.integers(-peak, peak + 1, (conv.M, conv.C // conv.groups, conv.R, conv.S))
    return x, weights, draw.integers(-bias_peak, bias_peak, conv.M)


def finish(value, activation, shift):
    """Clip and round half up as the house rules say, in Python integers; `shift` None: the accumulator itself."""
    if activation.kind == "relu":
        value = max(value, 0)
    if activation.kind == "clip":
        one = 1 << FRACTION_BITS
        value = min(max(value, int(activation.low * one)), int(activation.high * one))
    if shift is None:
        return value
    value = (value + (1 << (shift - 1))) >> shift if shift > 0 else value << -shift
    return min(max(value, -32768), 32767)


def slow_windows(conv, x):
    """Yield (n, m, p, q, window of the filter's group) for every output, in Python integers."""
    top, left, bottom, right = conv.pad
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right))).tolist()
    channels = conv.C // conv.groups
    for n, m, p, q in itertools.product(range(len(x)), range(conv.M), range(conv.P), range(conv.Q)):
        first = m // (conv.M // conv.groups) * channels
        yield (
            (n, m, p, q),
            lambda c, r, s, n=n, p=p, q=q, first=first: padded[n][first + c][p * conv.stride[0] + r * conv.dilation[0]][
                q * conv.stride[1] + s * conv.dilation[1]
            ],
        )


def slow_wide(conv, x, weights, bias, shift):
    """Sum all products exactly."""
    y = np.zeros((len(x), conv.M, conv.P, conv.Q), np.int64)
    taps = list(itertools.product(range(conv.C // conv.groups), range(conv.R), range(conv.S)))
    w = weights.tolist()
    for at, word in slow_windows(conv, x):
        total = int(bias[at[1]]) + sum(word(c, r, s) * w[at[1]][c][r][s] for c, r, s in taps)
        y[at] = finish(total, conv.activation, shift)
    return y


class Psum:
    """A 16-bit register that saturates and counts it."""

    events = 0

    def __init__(self, value=0):
        self.value = value

    def add(self, addend):
        exact = self.value + addend
        self.value = min(max(exact, -32768), 32767)
        Psum.events += self.value != exact


def slow_chip16(conv, plan, x, weights, bias, product_shift):
    """Follow the loop nest: call, channel block, set, filter row; inside a PE tap by tap with channels innermost."""
    Psum.events = 0
    psums = np.zeros((len(x), conv.M, conv.P, conv.Q), np.int64)
    C, q = conv.C // conv.groups, plan.interleaved_channels
    per_call, w = -(-C // plan.channel_calls), weights.tolist()
    for at, word in slow_windows(conv, x):
        psum = Psum(min(max(int(bias[at[1]]) >> product_shift, -32768), 32767))
        for call in range(0, C, per_call):
            end = min(call + per_call, C)
            for block in range(call, end, q * plan.channel_sets):
                for pe_set, r in itertools.product(range(plan.channel_sets), range(conv.R)):
                    local, first = Psum(), block + pe_set * q
                    for s in range(conv.S):
                        for c in range(first, min(first + q, end)):
                            local.add(word(c, r, s) * w[at[1]][c][r][s] >> product_shift)
                    psum.add(local.value)
        psums[at] = psum.value
    return psums, Psum.events


def layer(**fields):
    shape = {"C": 4, "M": 4, "H": 9, "W": 8, "R": 3, "S": 3, "N": 1}
    return Conv(name="conv", inputs=("x",), output="y", **shape | fields)


LAYERS = [
    layer(activation=RELU),
    layer(stride=(2, 2), pad=(1, 1, 1, 1), activation=CLIP),
    layer(stride=(3, 1), pad=(2, 0, 1, 3), groups=2),
    layer(stride=(4, 4), H=13, W=13, R=5, S=5, groups=4, activation=RELU),
    layer(stride=(1, 4), C=5, M=3, R=1, S=1, activation=RELU, N=2),
    layer(H=13, W=14, R=12, S=12, C=1, M=2),
    layer(H=12, W=6, R=11, S=2, C=3, stride=(2, 3), pad=(5, 0, 5, 0), activation=CLIP),
    layer(dilation=(2, 3), R=2, S=2, C=6, groups=2, pad=(1, 1, 1, 1), N=2),
]


@pytest.mark.parametrize("conv", LAYERS)
@pytest.mark.parametrize(("y_fraction_bits", "peak"), [(8, 3000), (22, 30), (None, 3000)])
def test_wide_equals_exact_sums(conv, y_fraction_bits, peak):
    x, weights, bias = draw_case(conv, 1, peak, bias_peak=peak * peak)
    shift = None if y_fraction_bits is None else FRACTION_BITS - y_fraction_bits
    done = execute_layer(
        conv, plan_of(conv.N), x, Stored(params_of(weights, bias, y_fraction_bits)), config("wide", product_shift=9)
    )
    expected = slow_wide(conv, x, weights, bias, shift)
    assert np.array_equal(done.y, expected)
    assert done.y.dtype == (np.int64 if shift is None else np.int16)
    assert done.overflow_events == 0
    assert len(np.unique(expected)) > 8


@pytest.mark.parametrize("conv", LAYERS)
@pytest.mark.parametrize(("product_shift", "y_fraction_bits"), [(0, 10), (4, 13), (9, 10), (9, None), (13, 8)])
def test_chip16_follows_the_order_of_the_array(conv, product_shift, y_fraction_bits):
    plan = plan_of(conv.N, q=2, r=1 + conv.C // conv.groups // 4, channel_calls=1 + (conv.C == 6))
    x, weights, bias = draw_case(conv, 2)
    psums, events = slow_chip16(conv, plan, x, weights, bias, product_shift)
    stored = Stored(params_of(weights, bias, y_fraction_bits))
    done = execute_layer(conv, plan, x, stored, config("chip16", product_shift))
    finished = np.vectorize(
        lambda psum: finish(
            int(psum) << product_shift,
            conv.activation,
            None if y_fraction_bits is None else FRACTION_BITS - y_fraction_bits,
        )
    )(psums)
    assert np.array_equal(done.y, finished)
    assert done.overflow_events == events
    assert events > 0 or product_shift > 4


def test_chip16_saturates_in_an_order_that_the_plan_decides():
    conv = layer(C=8, M=6)
    x, weights, bias = draw_case(conv, 3)
    stored = Stored(params_of(weights, bias))
    ys = [execute_layer(conv, plan_of(q=q), x, stored, config("chip16", 3)).y for q in (1, 4)]
    assert not np.array_equal(*ys)


def test_chip16_without_saturation_does_not_depend_on_the_plan_and_equals_wide():
    conv = layer(C=8, M=6, activation=RELU)
    x, weights, bias = draw_case(conv, 4, peak=15, bias_peak=1 << 12)
    stored = Stored(params_of(weights, bias, 18))
    wide = execute_layer(conv, plan_of(), x, stored, config("wide"))
    for plan in (plan_of(q=1), plan_of(q=4, r=2), plan_of(q=3, channel_calls=2)):
        done = execute_layer(conv, plan, x, stored, config("chip16", 0))
        assert np.array_equal(done.y, wide.y)
        assert done.overflow_events == 0
        assert done.batches[0].counts == wide.batches[0].counts


def test_every_product_is_floored():
    conv = layer(C=1, M=2, H=1, W=1, R=1, S=1)
    x = np.array([-3, 3], np.int16).reshape(2, 1, 1, 1)
    stored = Stored(params_of(np.array([5, -5]).reshape(2, 1, 1, 1), np.array([-1, 0]), None))
    done = execute_layer(conv, plan_of(q=1), x, stored, config("chip16", 3))
    assert (done.y.reshape(2, 2) >> 3).tolist() == [[-2 - 1, 1], [1 - 1, -2]]


@pytest.mark.parametrize("map_shape", [(6, 2, 3), None])
def test_a_linear_layer_runs_in_both_modes(map_shape):
    linear = Linear(name="fc", inputs=("x",), output="y", C=36, M=5, N=3, map_shape=map_shape, activation=RELU)
    rows, columns = map_shape[1:] if map_shape else (1, 1)
    conv = layer(C=36 // rows // columns, M=5, H=rows, W=columns, R=rows, S=columns, N=3, activation=RELU)
    x, weights, bias = draw_case(conv, 5)
    stored = Stored(params_of(weights.reshape(5, 36), bias, 10))
    plan = plan_of(3, q=2, channel_calls=2)
    flat = x.reshape(6, 36)
    wide = execute_layer(linear, plan, flat, stored, config("wide"))
    assert np.array_equal(wide.y, slow_wide(conv, x, weights, bias, 10)[:, :, 0, 0])
    chip = execute_layer(linear, plan, flat, stored, config("chip16", 6))
    psums, events = slow_chip16(conv, plan, x, weights, bias, 6)
    assert chip.y.tolist() == [[finish(int(v) << 6, RELU, 10) for v in row] for row in psums[:, :, 0, 0]]
    assert chip.overflow_events == events
    assert chip.batches[0].macs_done == linear.macs_dense


def test_the_48_bit_accumulator_overflows_as_the_config_says():
    conv = layer(C=2, M=1, H=1, W=1, R=1, S=1)
    x = np.zeros((3, 2, 1, 1), np.int16)
    x[2] = 32767
    top = (1 << 47) - 1
    stored = Stored(params_of(np.array([32767, -32768]).reshape(1, 2, 1, 1), np.array([top - 5]), None))
    with pytest.raises(AccumulatorOverflowError, match=r"'conv', image 2"):
        execute_layer(conv, plan_of(), x, stored, config("wide"))
    saturated = execute_layer(conv, plan_of(), x, stored, config("wide", overflow="saturate"))
    assert saturated.y.reshape(-1).tolist() == [top - 5, top - 5, top - 32767 * 32768]
    wrapped = execute_layer(conv, plan_of(), x, stored, config("wide", overflow="wrap"))
    assert wrapped.y.reshape(-1).tolist() == [top - 5, top - 5, top - 5 - 32767]
    assert saturated.overflow_events == 1 < wrapped.overflow_events == 2


@pytest.mark.parametrize("mode", ["wide", "chip16"])
def test_a_shape_only_layer_has_no_function(mode):
    conv = layer()
    params = LayerParams(Fixed(16), Scale(), Scale(), Scale())
    with pytest.raises(WorkloadError, match="shape-only"):
        execute_layer(conv, plan_of(), np.zeros((1, 4, 9, 8), np.int16), Stored(params), config(mode))


@pytest.mark.parametrize("mode", ["wide", "chip16"])
def test_inputs_are_not_modified(mode):
    conv = layer(pad=(1, 1, 1, 1), activation=RELU)
    x, weights, bias = draw_case(conv, 6)
    stored = Stored(params_of(weights, bias))
    before = x.copy(), stored.params.weights.copy(), bias.copy()
    execute_layer(conv, plan_of(), x, stored, config(mode, 5))
    for array, copy in zip((x, stored.params.weights, bias), before, strict=True):
        assert np.array_equal(array, copy)
