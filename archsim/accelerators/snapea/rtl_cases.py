"""What the PE of `rtl/snapea_pe` is made to do: random kernels and windows, and tiles of real layers.

What must come out is worked out by the compiled kernel and the timing law that every simulation uses.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from archsim.accelerators.snapea.activity import pau_checks
from archsim.accelerators.snapea.config import ACCUMULATOR_BITS, WORD_BITS, SnapeaConfig
from archsim.accelerators.snapea.function import Windows, all_kernels, termination, unsigned
from archsim.accelerators.snapea.kernel import STATS, Place, run_block
from archsim.accelerators.snapea.lanes import group_steps, input_reads, pe_cycles
from archsim.accelerators.snapea.order import SnapeaStored, Speculation, Streams, order_layer
from archsim.accelerators.snapea.plan import SnapeaPlan, as_conv, row_groups
from archsim.accelerators.snapea.rtl_model import ALWAYS, Group, Kernel, Pattern, PeCase, packed, parameters_of
from archsim.errors import MappingError
from archsim.workload.layers import Layer
from archsim.workload.params import Array
from archsim.workload.random import rng_for

TILE_GROUPS = 8
"""Groups of a tile of a real layer: consecutive ones of one output row and one kernel."""
MAX_RANDOM_WEIGHTS = 144
REGION_ORDERS = ("magnitude", "index")


def random_cases(config: SnapeaConfig, seed: int) -> Iterator[PeCase]:
    """Yield random cases without end: exact, predictive, many zeros, groups and results that have to wait."""
    rng = np.random.default_rng(seed)
    number = 0
    while True:
        yield _random_case(config, rng, number)
        number += 1


def _random_case(config: SnapeaConfig, rng: np.random.Generator, number: int) -> PeCase:
    """Return one random case; kernels are often short, so that ends meet the front end of the next group."""
    most = min(MAX_RANDOM_WEIGHTS, parameters_of(config)["KMAX"])
    K = 1 + int((most - 1) * rng.random() ** 2)
    windows = int(rng.integers(1, 6 * config.lanes))
    zero_heavy = number % 4 == 3
    weights, words, bias = _numbers(rng, K, windows, zero_heavy)
    speculation = {}
    if number % 2:
        n = int(rng.integers(1, K + 1))
        speculation = {0: Speculation(int(rng.choice(_partial_sums(weights, words, bias, n))), n)}
    streams = order_layer("random", weights[None, :], REGION_ORDERS[number // 2 % 2], False, speculation)
    about = f"K {K}, {windows} windows{', zero-heavy' if zero_heavy else ''}{', predictive' if speculation else ''}"
    patterns = (_pattern(rng), _pattern(rng)) if number % 8 == 5 else (ALWAYS, ALWAYS)
    op_bits = parameters_of(config)["KMAX"].bit_length()
    return make_case(config, about, streams, bias, words, op_bits, patterns)


def _numbers(rng: np.random.Generator, K: int, windows: int, zero_heavy: bool) -> tuple[Array, Array, int]:
    """Return weights int16 (K,), input words int32 (K, windows) and a bias; sums of the zero-heavy kind often are 0."""
    if zero_heavy:
        weights = rng.integers(-2, 3, K) * (rng.random(K) < 0.5)
        words = rng.integers(0, 3, (K, windows)) * (rng.random((K, windows)) < 0.5)
        return weights.astype(np.int16), words.astype(np.int32), int(rng.integers(-2, 3))
    size = 1 << int(rng.integers(3, 16))
    weights = rng.integers(-size, size, K)
    words = rng.integers(0, 1 << int(rng.integers(3, 17)), (K, windows)) * (rng.random((K, windows)) < 0.7)
    spread = 1 + int(abs(weights).mean() * words.mean() * np.sqrt(K))
    return weights.astype(np.int16), words.astype(np.int32), int(rng.integers(-2 * spread, 2 * spread + 1))


def _partial_sums(weights: Array, words: Array, bias: int, n: int) -> Array:
    """Return sums of n products of every window, int64 (windows,): thresholds that stop some windows and not others."""
    return bias + weights[:n].astype(np.int64) @ words[:n].astype(np.int64)


def _pattern(rng: np.random.Generator) -> Pattern:
    """Return a pattern of 0 and 1 with at least one 1."""
    return (*rng.integers(0, 2, 13).tolist(), 1)


def cases_from(
    config: SnapeaConfig, layer: Layer, plan: SnapeaPlan, x: Array, stored: SnapeaStored, tiles: int, seed: int
) -> Iterator[PeCase]:
    """Yield tiles of a real layer, drawn uniformly over images, kernels, output rows and groups.

    x: codes (images, C, H, W) or (images, C). Raises: MappingError for a layer whose windows never stop.
    """
    how = termination(config, layer, stored.params)
    if how.startswith("off"):
        raise MappingError(f"layer {layer.name!r} runs without termination ({how}): the PE's block has nothing to show")
    conv, streams, rng = as_conv(layer), stored.extra, rng_for(seed, "snapea", layer.name, "tiles", 0)
    assert streams is not None
    windows = Windows(conv, unsigned(x, stored.params))
    groups, op_bits = row_groups(conv, config.lanes), parameters_of(config, layer)["KMAX"].bit_length()
    for _ in range(tiles):
        image, m, row = (int(rng.integers(size)) for size in (len(x), conv.M, conv.P))
        first = int(rng.integers(groups)) * config.lanes
        words = _row_words(windows, m, image * conv.P + row)[:, first : first + TILE_GROUPS * config.lanes]
        bias = 0 if stored.params.bias is None else int(stored.params.bias[m])
        about = f"{layer.name}, image {image}, filter {m}, row {row}, column {first}"
        yield make_case(config, about, _one_kernel(streams, m), bias, words, op_bits)


def _row_words(windows: Windows, m: int, row: int) -> Array:
    """Return the input words of an output row (over all images) for kernel m, int32 (K, Q): one row per (c, r, s)."""
    columns = np.empty(windows.shape.K * windows.shape.Q, np.int32)
    windows.gather(m // (windows.shape.M // windows.shape.groups), row, row + 1, columns)
    return columns.reshape(windows.shape.K, windows.shape.Q)


def _one_kernel(streams: Streams, m: int) -> Streams:
    """Return the stream of kernel m alone."""
    weights, index = streams.kernel(m)
    part = slice(m, m + 1)
    at_m = (streams.negative_at[part], streams.n[part], streams.th[part])
    return Streams(weights, index, np.array([0, len(weights)]), *at_m)


def make_case(
    config: SnapeaConfig,
    about: str,
    streams: Streams,
    bias: int,
    words: Array,
    op_bits: int,
    patterns: tuple[Pattern, Pattern] = (ALWAYS, ALWAYS),
) -> PeCase:
    """Return the case of one kernel over windows side by side: words int32 (K, windows).

    `patterns`: when a group is offered and when a result is taken. What comes out is what the kernels say.
    """
    lanes, windows = config.lanes, words.shape[1]
    sums, op, stats = _run(config, streams, bias, words)
    stops = _stops(config, streams, bias, words, op)
    starts = range(0, windows, lanes)
    (n,), (th,), (negative_at,) = (values.tolist() for values in (streams.n, streams.th, streams.negative_at))
    return PeCase(
        about=about,
        kernel=Kernel(tuple(streams.weights.tolist()), tuple(streams.index.tolist()), negative_at, bias, n, th),
        groups=tuple(_group(words, at, lanes) for at in starts),
        word_bits=WORD_BITS,
        outcomes=tuple(
            {
                "out_psum": packed(sums[at : at + lanes].tolist(), ACCUMULATOR_BITS),
                "out_op": packed(op[at : at + lanes].tolist(), op_bits),
                "out_term": packed(stops[at : at + lanes].tolist(), 1),
            }
            for at in starts
        ),
        totals=_totals(config, streams, stats, op, timed=patterns == (ALWAYS, ALWAYS)),
        offered=patterns[0],
        taken=patterns[1],
    )


def _run(config: SnapeaConfig, streams: Streams, bias: int, words: Array) -> tuple[Array, Array, Array]:
    """Return sums after ReLU and steps of every window, int64 (windows,), and stats int64 (1, STATS)."""
    windows = words.shape[1]
    kernels = all_kernels(config, streams, np.array([bias]), overflows=False)
    sums, lost, op = np.empty((1, windows)), np.empty((0, windows)), np.empty((1, 1, windows), np.int32)
    stats = np.zeros((1, 1, len(STATS)), np.int64)
    place = Place(Q=windows, lanes=1, bubble=-1, batch_rows=1, first_row=0, first_filter=0)
    columns = np.ascontiguousarray(words, np.int32).reshape(-1)
    run_block(columns, place, kernels, config.sign_floor, sums, lost, op, stats)
    return sums[0].astype(np.int64), op[0, 0].astype(np.int64), stats[0]


def _stops(config: SnapeaConfig, streams: Streams, bias: int, words: Array, op: Array) -> Array:
    """Return which windows were stopped, int64 0 or 1: before the last step, or by the check of that step."""
    K, n = int(streams.lengths[0]), int(streams.n[0])
    dense = bias + streams.weights.astype(np.int64) @ words[streams.index].astype(np.int64)
    by_sign = (dense < config.sign_floor) & (streams.negative_at[0] < K)
    by_threshold = (dense < streams.th[0] + (config.th_compare == "<=")) & (n == K)
    return np.asarray((op < K) | by_sign | by_threshold).astype(np.int64)


def _totals(config: SnapeaConfig, streams: Streams, stats: Array, op: Array, *, timed: bool) -> dict[str, int]:
    """Return the counters at the end; a PE that waits for its environment takes as long as that takes."""
    K, bubble = streams.lengths[0], config.bubble_cycles
    slowest = np.array([op[at : at + config.lanes].max() for at in range(0, len(op), config.lanes)])
    cycles = {"cnt_cycles": pe_cycles(np.full(len(slowest), K), slowest, bubble)} if timed else {}
    return {
        "cnt_mac": int(op.sum()),
        "cnt_wi_read": int(group_steps(K, slowest, bubble).sum()),
        "cnt_in_read": int(input_reads(K, slowest, bubble).sum()),
        "cnt_pau_check": pau_checks(streams, stats, len(op)),
        **cycles,
    }


def _group(words: Array, first: int, lanes: int) -> Group:
    """Return the words of every lane of a group; behind the last window lanes have none."""
    given = [tuple(column) for column in words[:, first : first + lanes].T.tolist()]
    return (*given, *[()] * (lanes - len(given)))
