"""E12: gated MACs, tiles and their bytes; counts from tensors against brute force and against expectations."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from archsim.accelerators.base import Stored
from archsim.accelerators.eyeriss.activity import execute_layer, expect_layer, windows_per_position
from archsim.accelerators.eyeriss.closed_form import resident_blocks
from archsim.accelerators.eyeriss.mapping import shipped_plans
from archsim.accelerators.eyeriss.plan import EyerissPlan, padded_columns, padded_rows
from archsim.accelerators.eyeriss.rlc import encode
from archsim.accelerators.eyeriss.tiles import ifmap_tiles, ofmap_tiles, tile_words
from archsim.workload.formats import Fixed, Scale
from archsim.workload.layers import Activation, Conv, Linear
from archsim.workload.params import LayerParams

WIDE = SimpleNamespace(psum_mode="wide", overflow="error")
"""All of the Config that `execute_layer` reads; the machine's own presets are tested with the mapping."""


def plan_for(conv, batch=1, **fields):
    """Return a plan with small blocks, so that there are many and the last ones are ragged."""
    blocks = {
        "strip_rows": min(2, conv.P),
        "resident_filters": 2,
        "pass_ifmaps": batch,
        "interleaved_filters": 2,
        "interleaved_channels": 2,
        "channel_sets": 1,
        "filter_sets": 1,
    }
    return EyerissPlan(batch, **blocks | fields)


CODES = Scale(fraction_bits=6)


def stored_for(layer, seed, y_scale=CODES):
    draw = np.random.default_rng(seed)
    channels = (layer.C // layer.groups, layer.R, layer.S) if isinstance(layer, Conv) else (layer.C,)
    weights = draw.integers(-300, 300, (layer.M, *channels)).astype(np.int16)
    bias = draw.integers(-5000, 5000, layer.M)
    return Stored(LayerParams(Fixed(16), Scale(fraction_bits=8), Scale(fraction_bits=8), y_scale, weights, bias))


def sparse(shape, zero_fraction, seed):
    draw = np.random.default_rng(seed)
    codes = draw.integers(1, 400, shape) * draw.choice([-1, 1], shape)
    return np.where(draw.random(shape) < zero_fraction, 0, codes).astype(np.int16)


def random_conv(seed):
    """Draw a small layer: groups, depthwise, strides 1-4, dilation, asymmetric padding, filters up to 5 x 4."""
    draw = np.random.default_rng(seed)
    groups, R, S = (int(v) for v in draw.integers((1, 1, 1), (4, 6, 5)))
    dilation = (int(draw.integers(1, 3)), int(draw.integers(1, 3)))
    pad = tuple(int(v) for v in draw.integers(0, 4, 4))
    spans = ((R - 1) * dilation[0] + 1, (S - 1) * dilation[1] + 1)
    H, W = (int(max(1, span - sum(pad[i::2])) + draw.integers(0, 7)) for i, span in enumerate(spans))
    return Conv(
        name="conv", inputs=("x",), output="y", groups=groups, N=int(draw.integers(1, 3)), H=H, W=W, R=R, S=S,
        C=groups * int(draw.integers(1, 5)), M=groups * int(draw.integers(1, 4)), dilation=dilation, pad=pad,
        stride=(int(draw.integers(1, 5)), int(draw.integers(1, 5))), activation=Activation("relu"),
    )  # fmt: skip


def windows_of(conv, x):
    """Yield (group, the window's ifmap words) of every window, padding included."""
    top, left, bottom, right = conv.pad
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    channels = conv.C // conv.groups
    for n, g, p, q in itertools.product(range(len(x)), range(conv.groups), range(conv.P), range(conv.Q)):
        rows = p * conv.stride[0] + np.arange(conv.R) * conv.dilation[0]
        columns = q * conv.stride[1] + np.arange(conv.S) * conv.dilation[1]
        yield g, padded[n, g * channels : (g + 1) * channels][:, rows][:, :, columns]


def slow_tiles(conv, plan, x, y):
    """Cut ifmap blocks and ofmap dumps out of one batch in the order of the loop nest, uncompressed."""
    top, left, bottom, right = conv.pad
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    C, M, e, n = conv.C // conv.groups, conv.M // conv.groups, plan.strip_rows, plan.pass_ifmaps
    block, m = plan.interleaved_channels * plan.channel_sets, plan.resident_filters
    per_call, filters_per_call = -(-C // plan.channel_calls), -(-M // plan.filter_calls)
    ifmap, ofmap = [], []
    nest = itertools.product(range(0, C, per_call), range(conv.groups), range(0, plan.batch, n), range(0, conv.P, e))
    for call, g, i, p in nest:
        strip = min(e, conv.P - p)
        first = p * conv.stride[0]
        end = first + (strip - 1) * conv.stride[0] + (conv.R - 1) * conv.dilation[0] + 1
        for c in range(call, min(call + per_call, C), block):
            last = min(c + block, call + per_call, C)
            ifmap.append(padded[i : i + n, g * C + c : g * C + last, first:end])
    for call, g in itertools.product(range(0, M, filters_per_call), range(conv.groups)):
        end = min(call + filters_per_call, M)
        for f, i, p in itertools.product(range(call, end, m), range(0, plan.batch, n), range(0, conv.P, e)):
            ofmap.append(y[i : i + n, g * M + f : g * M + min(f + m, end), p : p + e])
    return ifmap, ofmap


def expand(tiles, n):
    return tiles * n if len(tiles) == 1 else tiles


@pytest.mark.parametrize("seed", range(100))
def test_gated_macs_and_tiles_equal_brute_force(seed):
    conv, draw = random_conv(seed), np.random.default_rng(seed)
    x = sparse((2 * conv.N, conv.C, conv.H, conv.W), draw.choice([0.0, 0.3, 0.8, 1.0], p=[0.1, 0.4, 0.4, 0.1]), seed)
    C, M = conv.C // conv.groups, conv.M // conv.groups
    plan = plan_for(
        conv, conv.N, pass_ifmaps=int(draw.choice([1, conv.N])), strip_rows=int(draw.integers(1, conv.P + 1)),
        channel_calls=1 + (C % 2 == 0), filter_calls=1 + (M % 2 == 0), compress_ifmap=bool(seed % 4),
    )  # fmt: skip
    activity = execute_layer(conv, plan, x, stored_for(conv, seed), WIDE)
    assert activity.y.shape == (2 * conv.N, conv.M, conv.P, conv.Q)
    for batch, first in zip(activity.batches, (0, conv.N), strict=True):
        images, y = x[first : first + conv.N], activity.y[first : first + conv.N]
        gated = M * sum(int((window == 0).sum()) for _, window in windows_of(conv, images))
        assert dict(batch.counts) == {
            "pe.mac": conv.macs_dense - gated,
            "pe.mac_gated": gated,
            "spad.filter_read": conv.macs_dense - gated,
            "spad.ifmap_read": conv.macs_dense,
            "spad.psum_read": conv.macs_dense,
            "spad.psum_write": conv.macs_dense,
        }
        assert batch.macs_done == conv.macs_dense
        ifmap, ofmap = slow_tiles(conv, plan, images, y)
        sizes = [8 * encode(tile).size if plan.compress_ifmap else 2 * tile.size for tile in ifmap]
        assert list(expand(batch.tiles[0], len(ifmap))) == sizes
        assert list(expand(batch.tiles[1], len(ofmap))) == [8 * encode(tile).size for tile in ofmap]
        metrics = dict(batch.metrics)
        assert metrics["ifmap_zero_fraction_unpadded"] == pytest.approx((images == 0).mean(), abs=1e-12)
        assert metrics["ofmap_zero_fraction"] == pytest.approx((y == 0).mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("layer", "windows"),
    [
        ((5, 3, 3, 1, 0, 1), [1, 2, 3, 2, 1]),
        ((5, 5, 3, 1, 1, 1), [2, 3, 3, 3, 2]),
        ((5, 2, 2, 3, 0, 1), [1, 1, 0, 1, 1]),
        ((4, 2, 2, 1, 0, 2), [1, 1, 1, 1]),
    ],
)
def test_windows_per_position_by_hand(layer, windows):
    assert windows_per_position(*layer).tolist() == windows


@pytest.mark.parametrize("map_shape", [None, (6, 3, 2), (6, 1, 1)])
def test_a_linear_layer_is_a_convolution_of_one_window(map_shape):
    channels = 36 if map_shape is None else int(np.prod(map_shape))
    layer = Linear(name="fc", inputs=("x",), output="y", C=channels, M=5, N=2, map_shape=map_shape)
    conv = Conv(name="fc", inputs=("x",), output="y", C=channels, M=5, H=1, W=1, R=1, S=1)
    x = sparse((4, channels), 0.5, 1)
    plan = plan_for(conv, 2, strip_rows=1, filter_calls=2)
    activity = execute_layer(layer, plan, x, stored_for(layer, 1, y_scale=None), WIDE)
    weights, bias = stored_for(layer, 1).params.weights.astype(np.int64), stored_for(layer, 1).params.bias
    assert np.array_equal(activity.y, x @ weights.T + bias)
    for first, batch in zip((0, 2), activity.batches, strict=True):
        zeros = int((x[first : first + 2] == 0).sum())
        assert dict(batch.counts)["pe.mac_gated"] == 5 * zeros > 0


def test_maps_on_chip_move_no_bytes():
    conv = random_conv(7)
    x = sparse((conv.N, conv.C, conv.H, conv.W), 0.5, 7)
    plan = plan_for(conv, conv.N, ifmap_on_chip=True, ofmap_on_chip=True)
    assert execute_layer(conv, plan, x, stored_for(conv, 7), WIDE).batches[0].tiles == ((0,), (0,))
    assert expect_layer(conv, plan, (0.5, 0.5)).batches[0].tiles == ((0,), (0,))


def test_batches_do_not_see_each_other():
    conv = random_conv(11)
    x = sparse((3 * conv.N, conv.C, conv.H, conv.W), 0.6, 11)
    plan, stored = plan_for(conv, conv.N), stored_for(conv, 11)
    together = execute_layer(conv, plan, x, stored, WIDE)
    for k, batch in enumerate(together.batches):
        alone = execute_layer(conv, plan, x[k * conv.N : (k + 1) * conv.N], stored, WIDE)
        assert alone.batches == (batch,)
        assert np.array_equal(alone.y, together.y[k * conv.N : (k + 1) * conv.N])


@pytest.mark.parametrize("zero_fraction", [0.0, 0.2, 0.7, 0.97])
@pytest.mark.parametrize("pad", [0, 2])
def test_expectation_agrees_with_tensors_of_independent_zeros(zero_fraction, pad):
    conv = Conv(
        name="conv", inputs=("x",), output="y", C=24, M=4, H=40, W=40, R=3, S=3, pad=(pad,) * 4, stride=(2, 2), N=2
    )
    x = sparse((2, 24, 40, 40), zero_fraction, 2)
    plan = plan_for(conv, 2, strip_rows=8, interleaved_channels=4, channel_sets=2)
    executed = execute_layer(conv, plan, x, stored_for(conv, 2), WIDE).batches[0]
    metrics = dict(executed.metrics)
    padding = 1 - conv.H * conv.W / (padded_rows(conv) * padded_columns(conv))
    padded_zeros = metrics["ifmap_zero_fraction"]
    assert padded_zeros == pytest.approx(padding + (1 - padding) * metrics["ifmap_zero_fraction_unpadded"])
    zeros = (padded_zeros, metrics["ofmap_zero_fraction"])
    expected = expect_layer(conv, plan, zeros).batches[0]
    tolerance = 0.01 if not pad else 0.06  # padding comes in runs, not independently
    assert sum(expand(expected.tiles[0], 9)) == pytest.approx(sum(expand(executed.tiles[0], 9)), rel=tolerance)
    assert sum(expand(expected.tiles[1], 6)) == pytest.approx(sum(expand(executed.tiles[1], 6)), rel=0.01)
    gated, estimate = (dict(one.counts)["pe.mac_gated"] for one in (executed, expected))
    assert estimate == pytest.approx(gated, abs=0.01 * conv.macs_dense)
    assert executed.macs_done == expected.macs_done == conv.macs_dense


def test_dense_maps_expand_and_the_activity_says_so():
    conv = Conv(name="conv", inputs=("x",), output="y", C=4, M=2, H=16, W=16, R=1, S=1)
    x = sparse((1, 4, 16, 16), 0.0, 1)
    batch = execute_layer(conv, plan_for(conv), x, stored_for(conv, 1), WIDE).batches[0]
    metrics = dict(batch.metrics)
    assert metrics["rlc_ifmap_bits_per_word"] > 21 > metrics["rlc_ifmap_entropy_bits_per_word"] == 16
    assert sum(expand(batch.tiles[0], 16)) > 2 * x.size


@pytest.mark.parametrize(
    ("name", "shape", "zeros", "compressed_MB", "raw_MB"),
    [
        ("conv1", (3, 96, 227, 11, 4, 0, 1), (0.0001, 0.62), 4.91, 6.06),
        ("conv2", (96, 256, 27, 5, 1, 2, 2), (0.387, 0.725), 4.21, 5.43),
        ("conv3", (256, 384, 13, 3, 1, 1, 1), (0.725, 0.793), 2.93, 5.05),
        ("conv3-alt", (256, 384, 13, 3, 1, 1, 1), (0.725, 0.793), 2.93, 5.05),
        ("conv4", (384, 384, 13, 3, 1, 1, 2), (0.793, 0.776), 2.06, 3.92),
        ("conv5", (384, 256, 13, 3, 1, 1, 2), (0.776, 0.776), 1.40, 2.61),
    ],
)
def test_expected_dram_traffic_of_alexnet(name, shape, zeros, compressed_MB, raw_MB):
    """Zero fractions of JSSC 2017, Table V, where published; the totals are arithmetic on them and on Table III."""
    C, M, size, kernel, stride, pad, groups = shape
    conv = Conv(
        name=name, inputs=("x",), output="y", N=4, C=C, M=M, H=size, W=size, R=kernel, S=kernel, groups=groups,
        stride=(stride, stride), pad=(pad,) * 4,
    )  # fmt: skip
    fields = shipped_plans()[f"alexnet-{name}"].model_dump()
    plan = EyerissPlan(batch=4, compress_ifmap=name != "conv1", **fields)
    tiles = (ifmap_tiles(conv, plan), ofmap_tiles(conv, plan))
    words = sum(tile_words(tiles[0], padded_columns(conv))), sum(tile_words(tiles[1], conv.Q))
    reads = resident_blocks(conv, plan)
    filter_words = conv.weight_count * 4 // plan.pass_ifmaps * -(-conv.P // plan.strip_rows)
    assert 2e-6 * (words[0] * reads + filter_words + words[1]) == pytest.approx(raw_MB, abs=0.01)
    moved = expect_layer(conv, plan, zeros).batches[0].tiles
    ifmap_bytes, ofmap_bytes = (sum(expand(sizes, len(table))) for sizes, table in zip(moved, tiles, strict=True))
    total_MB = 1e-6 * (ifmap_bytes * reads + 2 * filter_words + ofmap_bytes)
    assert total_MB == pytest.approx(compressed_MB, abs=0.01)
