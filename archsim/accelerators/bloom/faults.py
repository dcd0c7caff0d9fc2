"""Faults put into units before any filter is designed: what error rate can an application bear?

An operation chosen at random puts out a wrong value: the farther of the least and the greatest output of its kind of
unit in the profile ("its maximum value"), or with `random` another output of the same operation. Source: V.
Akhlaghi, UC San Diego 2020, section 2.4.1.
"""

from __future__ import annotations

import numpy as np

from archsim.accelerators.base import Draws
from archsim.accelerators.bloom.events import evaluate
from archsim.accelerators.bloom.floats import Array, apply_unit
from archsim.accelerators.bloom.prepare import Faults
from archsim.accelerators.bloom.stream import Stream
from archsim.workload.layers import OpStream


def struck(rng: np.random.Generator, operations: int, rate: float) -> Array:
    """Return which operations are wrong, int64 in ascending order: each by itself with probability `rate`."""
    if not rate:
        return np.zeros(0, np.int64)
    if rate >= 1:
        return np.arange(operations)
    drawn = int(operations * rate + 10 * np.sqrt(operations * rate) + 20)
    places = _places(rng, operations, rate, drawn) - 1
    while places[-1] < operations:
        places = np.concatenate([places, places[-1] + _places(rng, operations, rate, len(places))])
    return places[places < operations]


def _places(rng: np.random.Generator, operations: int, rate: float, n: int) -> Array:
    """Return the sums of n gaps; one that leads past the end is cut short, as the least rates draw 2^63."""
    return np.cumsum(np.minimum(rng.geometric(rate, n), operations + 1))


def farther(exact: Array, low_high: tuple[float, float]) -> Array:
    """Return for each value the extreme farther from it."""
    low, high = (np.float32(one) for one in low_high)
    return np.where(exact - low > high - exact, low, high).astype(np.float32)


def run_faulty_events(layer: OpStream, x: Array, faults: Faults, draws: Draws) -> Array:
    """Return the output of a stream whose units err, float32 (images, 1, P, Q)."""
    pixels = layer.P * layer.Q
    streams = [draws("faults", image) for image in range(len(x))]

    def answer(_: int, kind: str, operands: list[Array], exact: Array) -> Array:
        wrong = exact.reshape(len(x), pixels).copy()
        for image, rng in enumerate(streams):
            at = struck(rng, pixels, faults.rates[kind])
            if faults.random:
                wrong[image, at] = exact.reshape(len(x), pixels)[image, rng.integers(pixels, size=len(at))]
            else:
                wrong[image, at] = farther(wrong[image, at], faults.extremes[kind])
        return wrong.reshape(-1)

    return evaluate(layer, x, answer)


def run_faulty_products(stream: Stream, x: Array, w: Array, bias: Array, faults: Faults, draws: Draws) -> Array:
    """Return the sums of multiplications that err, float32 (images, M, windows)."""
    from archsim.accelerators.bloom.kernel import run_faulty

    y = np.empty((len(x), len(w), len(stream.start) - 1), np.float32)
    for image in range(len(x)):
        rng = draws("faults", image)
        at = struck(rng, stream.operations, faults.rates["mul"])
        chosen = rng.integers(stream.operations, size=len(at)) if faults.random else at
        products = products_at(stream, x[image], w, chosen)
        values = products if faults.random else farther(products, faults.extremes["mul"])
        run_faulty(x[image], w, bias, *stream.arguments, at, values, y[image])
    return y


def products_at(stream: Stream, x: Array, w: Array, operations: Array) -> Array:
    """Return the exact products of operations numbered in order of issue (filter, window, tap), float32 (n,)."""
    m, e = np.divmod(operations, int(stream.start[-1]))
    shift = m // (len(w) // stream.groups) * stream.group_words
    return apply_unit("mul", [x[shift + stream.x_at[e]], w[m, stream.k_at[e]]])
