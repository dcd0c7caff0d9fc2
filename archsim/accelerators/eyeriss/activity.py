"""What the data of a layer does: the ofmap, gated MACs, and the bytes of every compressed tile.

`execute_layer` counts in real tensors, `expect_layer` computes expectations from zero fractions. Weights do not gate.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.accelerators.base import Activity, BatchActivity, Stored
from archsim.accelerators.eyeriss.config import EyerissConfig
from archsim.accelerators.eyeriss.function import compute_chip16, compute_wide
from archsim.accelerators.eyeriss.kernel import Array, count_rlc_pairs, count_ungated_taps
from archsim.accelerators.eyeriss.plan import EyerissPlan, as_conv, group_filters, padded_columns, padded_rows
from archsim.accelerators.eyeriss.rlc import (
    LEVEL_BITS,
    PAIRS_PER_WORD,
    WORD_BYTES,
    entropy_bits_per_code,
    pairs_per_code,
    pairs_to_words,
)
from archsim.accelerators.eyeriss.tiles import Tiles, ifmap_tiles, ofmap_tiles, tile_words
from archsim.counts import Action
from archsim.units import BITS_PER_BYTE
from archsim.workload.layers import Conv, Layer, Pads

CODE_BYTES = LEVEL_BITS // BITS_PER_BYTE
UNPADDED: Pads = (0, 0, 0, 0)
Metrics = dict[str, Array]


class Transfer(NamedTuple):
    """How one feature map of a layer crosses the link: its tiles, its padded width, on chip, compressed."""

    name: str
    tiles: Tiles
    pad: Pads
    columns: int
    on_chip: bool
    compressed: bool


def execute_layer(layer: Layer, plan: EyerissPlan, x: Array, stored: Stored, config: EyerissConfig) -> Activity:
    """Compute the ofmap of K*N images and what each of the K batches did: x int (K*N, C, H, W) or (K*N, C).

    Raises: AccumulatorOverflowError naming layer and image, if the Config says that an overflow is an error.
    """
    conv = as_conv(layer)
    maps = np.ascontiguousarray(x).reshape(-1, conv.C, conv.H, conv.W)
    if config.psum_mode == "wide":
        done = compute_wide(layer, x, stored.params, config.overflow)
    else:
        done = compute_chip16(conv, plan, maps, stored.params, config.product_shift_of(layer.name))
    ofmaps = done.y.reshape(-1, conv.M, conv.P, conv.Q)
    y = ofmaps if isinstance(layer, Conv) else ofmaps.reshape(-1, conv.M)
    return Activity(y, _batches(conv, plan, maps, ofmaps), done.saturated_words, done.overflow_events)


def _batches(conv: Conv, plan: EyerissPlan, ifmaps: Array, ofmaps: Array) -> tuple[BatchActivity, ...]:
    """Count gating and compression of all batches at once: ifmaps (K*N, C, H, W), ofmaps (K*N, M, P, Q)."""
    ungated_macs, metrics = _gating(conv, plan, ifmaps)
    ofmap_nonzeros = _per_batch(np.array([np.count_nonzero(image) for image in ofmaps]), plan)
    metrics["ofmap_zero_fraction"] = 1.0 - ofmap_nonzeros / ofmaps[: plan.batch].size
    ifmap_bytes, ifmap_metrics = _measure(_ifmap(conv, plan), ifmaps, plan)
    ofmap_bytes, ofmap_metrics = _measure(_ofmap(conv, plan), ofmaps, plan)
    metrics |= ifmap_metrics | ofmap_metrics
    return tuple(
        BatchActivity(
            macs_done=conv.macs_dense,
            counts=_counts(conv.macs_dense, int(ungated_macs[k])),
            tiles=(_compact(ifmap_bytes[k]), _compact(ofmap_bytes[k])),
            metrics=tuple((name, float(values[k])) for name, values in metrics.items()),
        )
        for k in range(len(ungated_macs))
    )


def expect_layer(layer: Layer, plan: EyerissPlan, zero_fractions: tuple[float, float]) -> Activity:
    """Return the expected activity of one batch from the zero fractions of ifmap and ofmap.

    The fraction of the ifmap counts padding words (`ifmap_zero_fraction` of an executed layer). For gating, the
    zeros beyond the padding are spread over the map; for RLC all are independent of position. The count of gated MACs
    is rounded once, a tile to the nearest whole 64-bit word.
    """
    conv = as_conv(layer)
    ifmap_zeros, ofmap_zeros = zero_fractions
    data = conv.H * conv.W / (padded_rows(conv) * padded_columns(conv))
    nonzeros = min(1.0, (1.0 - ifmap_zeros) / data)
    rows, columns = _windows(conv)
    ungated = plan.batch * conv.C * int(rows.sum()) * int(columns.sum()) * group_filters(conv) * nonzeros
    metrics = {
        "ifmap_zero_fraction_unpadded": 1.0 - nonzeros,
        "ifmap_zero_fraction": ifmap_zeros,
        "ofmap_zero_fraction": ofmap_zeros,
    }
    batch = BatchActivity(
        macs_done=conv.macs_dense,
        counts=_counts(conv.macs_dense, round(ungated)),
        tiles=(_expected_bytes(_ifmap(conv, plan), ifmap_zeros), _expected_bytes(_ofmap(conv, plan), ofmap_zeros)),
        metrics=tuple(metrics.items()),
    )
    return Activity(None, (batch,))


def _ifmap(conv: Conv, plan: EyerissPlan) -> Transfer:
    tiles = ifmap_tiles(conv, plan)
    return Transfer("ifmap", tiles, conv.pad, padded_columns(conv), plan.ifmap_on_chip, plan.compress_ifmap)


def _ofmap(conv: Conv, plan: EyerissPlan) -> Transfer:
    return Transfer("ofmap", ofmap_tiles(conv, plan), UNPADDED, conv.Q, plan.ofmap_on_chip, True)


def _counts(macs: int, ungated_macs: int) -> tuple[tuple[Action, int], ...]:
    """A gated MAC reads no filter word and does not switch the multiplier; its other accesses still happen."""
    return (
        ("pe.mac", ungated_macs),
        ("pe.mac_gated", macs - ungated_macs),
        ("spad.filter_read", ungated_macs),
        ("spad.ifmap_read", macs),
        ("spad.psum_read", macs),
        ("spad.psum_write", macs),
    )


def _gating(conv: Conv, plan: EyerissPlan, x: Array) -> tuple[Array, Metrics]:
    """Return the ungated MACs per batch, int64 (K,), and the zero fractions of the ifmap.

    No convolution is needed: a non-zero word is multiplied once per filter of its group and window that contains it.
    """
    taps, nonzeros = np.zeros((2, len(x)), np.int64)
    count_ungated_taps(x, *_windows(conv), taps, nonzeros)
    found = _per_batch(nonzeros, plan)
    padded_words = plan.batch * conv.C * padded_rows(conv) * padded_columns(conv)
    fractions = {
        "ifmap_zero_fraction_unpadded": 1.0 - found / x[: plan.batch].size,
        "ifmap_zero_fraction": 1.0 - found / padded_words,
    }
    return _per_batch(taps, plan) * group_filters(conv), fractions


def _windows(conv: Conv) -> tuple[Array, Array]:
    """Return how many window rows contain each ifmap row, int64 (H,), and window columns each column, int64 (W,)."""
    rows = windows_per_position(conv.H, conv.P, conv.R, conv.stride[0], conv.pad[0], conv.dilation[0])
    return rows, windows_per_position(conv.W, conv.Q, conv.S, conv.stride[1], conv.pad[1], conv.dilation[1])


def windows_per_position(size: int, outputs: int, kernel: int, stride: int, pad: int, dilation: int) -> Array:
    """Return for each unpadded position along one axis how many windows contain it, int64 (size,)."""
    touched = np.arange(outputs)[:, None] * stride + np.arange(kernel) * dilation - pad
    inside = touched[(touched >= 0) & (touched < size)]
    return np.bincount(inside, minlength=size)


def _per_batch(per_image: Array, plan: EyerissPlan) -> Array:
    """Sum the values of the images of each batch: (K*N,) -> (K,)."""
    sums: Array = per_image.reshape(-1, plan.batch).sum(axis=1)
    return sums


def _measure(transfer: Transfer, maps: Array, plan: EyerissPlan) -> tuple[Array, Metrics]:
    """Return the bytes of every tile of every batch, int64 (K, T), and what compression did."""
    batches = len(maps) // plan.batch
    if transfer.on_chip:
        return np.zeros((batches, 1), np.int64), {}
    words = tile_words(transfer.tiles, transfer.columns)
    if not transfer.compressed:
        return np.tile(words * CODE_BYTES, (batches, 1)), {}
    pairs, nonzeros = np.zeros((2, batches, len(words)), np.int64)
    count_rlc_pairs(maps, transfer.pad, transfer.tiles, pairs, nonzeros)
    bytes_moved = pairs_to_words(pairs) * WORD_BYTES
    return bytes_moved, _compression(transfer.name, bytes_moved.sum(axis=1), nonzeros.sum(axis=1), int(words.sum()))


def _compression(name: str, coded_bytes: Array, nonzeros: Array, words: int) -> Metrics:
    """Return bits per word of each batch, and the least if its zeros were independent and its levels uniform."""
    return {
        f"rlc_{name}_bits_per_word": coded_bytes * BITS_PER_BYTE / words,
        f"rlc_{name}_entropy_bits_per_word": entropy_bits_per_code(1.0 - nonzeros / words),
    }


def _expected_bytes(transfer: Transfer, zero_fraction: float) -> tuple[int, ...]:
    """Return the expected bytes of every tile, compressed ones rounded to the nearest whole 64-bit word."""
    if transfer.on_chip:
        return (0,)
    words = tile_words(transfer.tiles, transfer.columns)
    if not transfer.compressed:
        return _compact(words * CODE_BYTES)
    coded = np.rint(words * (pairs_per_code(zero_fraction) / PAIRS_PER_WORD)).astype(np.int64)
    return _compact(np.maximum(coded, 1) * WORD_BYTES)


def _compact(tile_bytes: Array) -> tuple[int, ...]:
    """Return one value where all tiles have the same size."""
    if (tile_bytes == tile_bytes[0]).all():
        return (int(tile_bytes[0]),)
    return tuple(tile_bytes.tolist())
