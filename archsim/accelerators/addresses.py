"""Where everything lies off chip: one address for every tensor of a network, fixed before anything runs.

Weights of all layers stand back to back from address 0 on, feature maps behind them, each in the first gap that is wide
enough while the map is alive. The same table serves timing, traces and the errors of an approximate memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import NamedTuple

from archsim.accelerators.base import Accelerator
from archsim.errors import StudyError
from archsim.memory.base import Addresses
from archsim.units import BITS_PER_BYTE
from archsim.workload.formats import NumberFormat
from archsim.workload.graph import Network
from archsim.workload.layers import Conv, Layer

ROW_BYTES = 8192
"""Tensors begin at multiples of this, the row of the shipped DRAM presets."""


class Use(NamedTuple):
    """A tensor's room and the steps of the network between which it is alive, both ends included."""

    name: str
    n_bytes: int
    first: int
    last: int


def addresses_of(
    network: Network, where: Mapping[str, tuple[Accelerator, NumberFormat]], capacity_bytes: int | None = None
) -> dict[str, Addresses]:
    """Return the addresses of every layer on a machine, N of the layers being the batch.

    `where`: machine and format of those layers; other tensors have words as wide as the widest. Spilled psums lie
    behind all maps. A map has room for the padding of its readers. Raises: StudyError if the memory is too small.
    """
    bits = {name: number_format.bits for name, (_, number_format) in where.items()}
    word_bits = max(bits.values())
    weights, end = {}, 0
    for layer in network.layers:
        if layer.name in where:
            machine, number_format = where[layer.name]
            weights[layer.name] = end
            end += _rounded(machine.weight_bytes(layer, number_format))
    maps = first_fit(map_uses(network, bits, word_bits), end)
    uses = {use.name: use for use in map_uses(network, {}, word_bits)}
    spills = max(maps[name] + _rounded(use.n_bytes) for name, use in uses.items())
    if capacity_bytes is not None and spills > capacity_bytes:
        raise StudyError(f"platform.memory holds {capacity_bytes} bytes, {network.name} needs {spills}")
    return {
        layer.name: {
            "weights": weights[layer.name],
            "ifmap": maps[layer.inputs[0]],
            "ofmap": maps[layer.output],
            "other": spills,
        }
        for layer in network.layers
        if layer.name in where
    }


def map_uses(network: Network, bits: Mapping[str, int], word_bits: int) -> list[Use]:
    """Return every feature map with its room and life, in the order in which they come to life."""
    made = {network.input: 0} | {layer.output: step for step, layer in enumerate(network.layers)}
    writers = {layer.output: layer.name for layer in network.layers}
    read = dict(made) | {network.output: len(network.layers)}
    words: dict[str, int] = {name: prod(network.shapes[name]) for name in made}
    for step, layer in enumerate(network.layers):
        for name in layer.inputs:
            read[name] = max(read[name], step)
            words[name] = max(words[name], _padded_words(layer))
    batch = network.layers[0].N
    return [
        Use(name, batch * words[name] * bits.get(writers.get(name, ""), word_bits) // BITS_PER_BYTE, step, read[name])
        for name, step in made.items()
    ]


def _padded_words(layer: Layer) -> int:
    """Return the words of a layer's ifmap with its padding, one image; 0 for layers without padding."""
    if not isinstance(layer, Conv):
        return 0
    top, left, bottom, right = layer.pad
    return layer.C * (layer.H + top + bottom) * (layer.W + left + right)


def first_fit(uses: Iterable[Use], start: int) -> dict[str, int]:
    """Return an address for every tensor: the first gap from `start` on that no living tensor touches."""
    placed: list[tuple[int, int, Use]] = []
    found = {}
    for use in uses:
        living = sorted((a, b) for a, b, other in placed if other.last >= use.first and other.first <= use.last)
        size, at = _rounded(use.n_bytes), start
        for begin, end in living:
            if at + size <= begin:
                break
            at = max(at, end)
        found[use.name] = at
        placed.append((at, at + size, use))
    return found


def _rounded(n_bytes: int) -> int:
    return -(-n_bytes // ROW_BYTES) * ROW_BYTES
