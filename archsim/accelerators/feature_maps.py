"""Feature maps between the layers of one machine: who writes and who reads each, so that both place it alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from archsim.accelerators.base import Placement
from archsim.workload.layers import Layer


class SharedMap(NamedTuple):
    """A feature map between layers: those that write it, or parts of it, and those that read it."""

    writers: tuple[Layer, ...]
    readers: tuple[Layer, ...]


def shared_maps(layers: Sequence[Layer]) -> list[SharedMap]:
    """Return the maps between consecutive layers of one machine.

    What passes through other operations (pooling, concatenation, addition) on its way is taken as one map: written by
    all layers whose output no layer has read so far, read by those that read the same tensor behind it.
    """
    made = {layer.output: layer for layer in layers}
    read = {layer.inputs[0] for layer in layers}
    found: dict[str, tuple[tuple[Layer, ...], list[Layer]]] = {}
    unread: list[Layer] = []
    for layer in layers:
        name = layer.inputs[0]
        if name not in found and name in made:
            found[name] = ((made[name],), [])
        elif name not in found:
            found[name] = (tuple(unread), [])
            unread = []
        found[name][1].append(layer)
        if layer.output not in read:
            unread.append(layer)
    return [SharedMap(writers, tuple(readers)) for writers, readers in found.values() if writers]


def keep_on_chip(layers: Sequence[Layer], stays: Callable[[SharedMap], bool]) -> dict[str, Placement]:
    """Return the placement of every layer; a map that `stays` is neither written to nor read from DRAM."""
    chip: dict[str, set[str]] = {layer.name: set() for layer in layers}
    for one in shared_maps(layers):
        if stays(one):
            for layer in one.writers:
                chip[layer.name].add("ofmap")
            for layer in one.readers:
                chip[layer.name].add("ifmap")
    return {name: Placement(frozenset(regions)) for name, regions in chip.items()}
