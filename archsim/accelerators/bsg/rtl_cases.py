"""What `rtl/bsg_gen` is made to do: random vectors over two wraps and more, and slices of real layers.

The weights that must come out are those of the compiled kernel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from archsim.accelerators.base import Plan, Stored
from archsim.accelerators.bsg.config import BsgConfig
from archsim.accelerators.bsg.function import Generated
from archsim.accelerators.bsg.generator import Generator, slice_weights
from archsim.accelerators.bsg.rtl_model import ALWAYS, GeneratorCase, Pattern, SliceJob
from archsim.errors import MappingError
from archsim.workload.layers import Layer
from archsim.workload.params import Array
from archsim.workload.random import rng_for


def random_cases(config: BsgConfig, seed: int) -> Iterator[GeneratorCase]:
    """Yield random cases without end: two slices, one of them over two wraps; every third has weights that wait."""
    rng = np.random.default_rng(seed)
    number = 0
    while True:
        n_c = config.n_c
        lengths = [int(rng.integers(1, n_c)), 2 * n_c + int(rng.integers(0, 40))]
        words = rng.integers(0, 1 << 16, (3, config.code_words)).astype(np.uint16)
        jobs = [(words[1 + index], length) for index, length in enumerate(lengths)]
        taken = (*rng.integers(0, 2, 11).tolist(), 1) if number % 3 == 2 else ALWAYS
        yield make_case(f"n_c {n_c}, {lengths} weights", words[0], jobs, config.generator, taken)
        number += 1


def make_case(
    about: str, base: Array, jobs: list[tuple[Array, int]], generator: Generator, taken: Pattern = ALWAYS
) -> GeneratorCase:
    """Return the case of slices (code vector, weights).

    The base vector is loaded beside a code vector, unless the slice before has turned it round to where it began.
    """
    n_c, home, made, slices = 16 * len(base), False, [], []
    for code, weights in jobs:
        slices.append(SliceJob(None if home else tuple(base.tolist()), tuple(code.tolist()), weights))
        made.append(slice_weights(base, code[None], weights, generator)[0])
        home = generator == "rotate" and weights % n_c == 0
    outcomes = tuple({"w": weight} for weight in np.concatenate(made).tolist())
    words = sum(len(one.code) + len(one.base or ()) for one in slices)
    return GeneratorCase(about, tuple(slices), outcomes, {"cnt_words": words, "cnt_weights": len(outcomes)}, taken)


def cases_from(
    config: BsgConfig, layer: Layer, plan: Plan, x: Array, stored: Stored, tiles: int, seed: int
) -> Iterator[GeneratorCase]:
    """Yield so many slices of a real layer, drawn by the seed. Raises: MappingError if its weights are loaded."""
    own = stored.extra
    if not isinstance(own, Generated):
        raise MappingError(f"layer {layer.name!r}: 0 of its slices are generated, its weights are loaded")
    rng = rng_for(seed, "bsg", layer.name, "tiles", 0)
    for index in rng.integers(0, len(own.words), tiles).tolist():
        about = f"layer {layer.name}, slice {index}"
        yield make_case(about, own.codes.base, [(own.words[index], config.slice_weights)], config.generator)
