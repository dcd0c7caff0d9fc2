"""What the data do in the banks: exact sums of 8-bit codes, and the analog error on what goes in or comes out.

A value is code * step + low. Source: error.cu and PredTuner's PromiseSim of the HPVM release
(vzyrianov/hpvm-autograd @521cc3b): y = x * (1 + e), e normal with the swing's deviation, drawn for every element.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from archsim.accelerators.base import Activity, BatchActivity, Draws
from archsim.accelerators.promise.config import PromiseConfig
from archsim.accelerators.promise.schedule import PromisePlan, dot_products
from archsim.accelerators.promise.swing import Swing, told
from archsim.kernels.conv import conv_accumulate
from archsim.workload.layers import Conv, Layer, Linear
from archsim.workload.params import Array, LayerParams
from archsim.workload.reference import finish_affine

NOISE_STEPS = 1024
"""Noisy inputs are held to 1/1024 of their step: whole numbers, whose sums are exact in any order, block and thread."""
_NARROW = 2**31 - 1
cached_dot_products = lru_cache(maxsize=1024)(dot_products)


def execute_layer(
    config: PromiseConfig, layer: Layer, plan: PromisePlan, x: Array, params: LayerParams, swing: Swing, draws: Draws
) -> Activity:
    """Compute the ofmap of x, codes uint16 (k*N, C, H, W) or (k*N, C), at a swing; counts do not depend on the data."""
    assert isinstance(layer, Conv | Linear)
    done = finish_affine(layer, analog_sums(config, layer, plan, x, params, swing, draws), params)
    counts = ((swing.action, cached_dot_products(plan)),)
    batch = BatchActivity(layer.macs_dense, counts, metrics=(("swing", told(swing)),))
    return Activity(done.y, (batch,) * (len(x) // plan.batch), done.saturated_words)


def analog_sums(
    config: PromiseConfig,
    layer: Conv | Linear,
    plan: PromisePlan,
    x: Array,
    params: LayerParams,
    swing: Swing,
    draws: Draws,
) -> Array:
    """Return the real sums of products, float64 (k*N, M, P, Q), before bias and activation."""
    step, low = params.x_scale.step, params.x_scale.low
    if not swing.sigma:
        return real_sums(layer, plan, x, step, low, params)
    if config.noise_at == "input":
        return real_sums(layer, plan, noisy_steps(x, low / step, swing.sigma, draws), step / NOISE_STEPS, 0.0, params)
    sums = real_sums(layer, plan, x, step, low, params)
    for image, one in enumerate(sums):
        one *= 1 + swing.sigma * draws("noise", image).standard_normal(one.shape)
    return sums


def noisy_steps(x: Array, offset: float, sigma: float, draws: Draws) -> Array:
    """Return (x + offset) * (1 + e) in 1/1024 of a step, rounded: int32 or, where that is too narrow, int64.

    x: codes, images first; every element of every image has a draw of its own, the same at every swing.
    """
    noisy = np.empty(x.shape, np.float64)
    for image, codes in enumerate(x):
        noisy[image] = 1 + sigma * draws("noise", image).standard_normal(codes.shape)
        noisy[image] *= codes + offset
    noisy *= NOISE_STEPS
    np.rint(noisy, out=noisy)
    return noisy.astype(np.int32 if np.abs(noisy).max(initial=0) <= _NARROW else np.int64)


def real_sums(
    layer: Conv | Linear, plan: PromisePlan, x: Array, unit: float, offset: float, params: LayerParams
) -> Array:
    """Return the sums over the taps inside the map of (x * unit + offset) * weight, float64 (k*N, M, P, Q).

    Sums of integers are exact; they are combined in the order of the dense reference.
    """
    assert params.weights is not None
    maps, weights = _as_maps(x), _as_maps(params.weights).astype(np.int16)
    maps = maps.astype(np.int16) if maps.dtype == np.uint16 else maps
    groups = layer.groups if isinstance(layer, Conv) else 1
    ones = np.ones((groups, *weights.shape[1:]), np.int16)
    step, low = params.w_scale.step, params.w_scale.low

    def total(of: Array, by: float) -> Array:
        products = integer_sums(layer, plan, of, weights) * (by * step)
        products += np.repeat(integer_sums(layer, plan, of, ones) * (by * low), layer.M // groups, axis=1)
        return products

    if not offset:
        return total(maps, unit)
    inside = np.ones((1, *maps.shape[1:]), np.int16)
    sums = total(maps, unit)
    sums += integer_sums(layer, plan, inside, weights) * (offset * step)
    sums += np.repeat(integer_sums(layer, plan, inside, ones) * (offset * low), layer.M // groups, axis=1)
    return sums


def integer_sums(layer: Conv | Linear, plan: PromisePlan, x: Array, filters: Array) -> Array:
    """Return the exact sums of x (k*N, C, H, W) times filters (M, C/groups, R, S), int64, chunk of the sum by chunk."""
    geometry = _geometry(layer)
    if len(plan.chunks) == 1:
        return conv_accumulate(x, filters, None, *geometry)
    rows, total, first = filters.reshape(len(filters), -1), None, 0
    for chunk in plan.chunks:
        part = np.zeros_like(rows)
        part[:, first : first + chunk.k] = rows[:, first : first + chunk.k]
        sums = conv_accumulate(x, part.reshape(filters.shape), None, *geometry)
        total = sums if total is None else total + sums
        first += chunk.k
    assert total is not None
    return total


def _as_maps(array: Array) -> Array:
    """Return (N, C) as (N, C, 1, 1): a linear layer is a 1x1 convolution of a 1x1 map."""
    return array if array.ndim == 4 else array[:, :, None, None]


def _geometry(layer: Conv | Linear) -> tuple[tuple[int, int], tuple[int, int, int, int], tuple[int, int], int]:
    """Return stride, pad, dilation and groups."""
    if isinstance(layer, Linear):
        return (1, 1), (0, 0, 0, 0), (1, 1), 1
    return layer.stride, layer.pad, layer.dilation, layer.groups
