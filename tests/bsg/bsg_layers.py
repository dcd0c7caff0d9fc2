"""Layer lists, codes and networks for the tests of the slice accelerator."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from archsim.accelerators.bsg import Bsg
from archsim.accelerators.bsg.config import PRESETS, BsgConfig
from archsim.accelerators.bsg.generator import Shape, layer_weights, slice_count, xorshift_words
from archsim.workload.formats import Bfloat16, Scale
from archsim.workload.graph import FloatParams
from archsim.workload.layers import Activation, Conv
from archsim.workload.params import LayerParams

RELU = Activation("relu")


def machine(preset: str = "zynq7020", folder: Path | None = None, **changes: Any) -> Bsg:
    return Bsg(BsgConfig(**{**PRESETS[preset], **changes}), folder)


def conv(name: str, **bounds: Any) -> Conv:
    given = {"R": 3, "S": 3, "pad": (1, 1, 1, 1), "activation": RELU, **bounds}
    return Conv(name=name, inputs=(given.pop("reads", f"before_{name}"),), output=f"{name}_out", **given)


def shape_only(layer: Conv, *, first: bool = False) -> LayerParams:
    return LayerParams(Bfloat16(), Scale(), Scale(), Scale(), reads_network_input=first)


def random_layers(seed: int, count: int = 4) -> list[Conv]:
    """A run of layers with ragged slices, groups and strides."""
    rng = np.random.default_rng(seed)
    layers = []
    for index in range(count):
        groups = int(rng.choice([1, 1, 1, 2]))
        C, M = (groups * int(n) for n in rng.integers(3, 40, 2))
        R = int(rng.choice([1, 3, 5]))
        pad, stride = (R // 2,) * 4, (int(rng.choice([1, 1, 2])),) * 2
        size = int(rng.integers(5, 20))
        bounds = {"N": int(rng.choice([1, 2])), "C": C, "M": M, "H": size, "W": size + 1, "groups": groups}
        layers.append(conv(f"layer{index}", **bounds, R=R, S=R, pad=pad, stride=stride))
    return layers


def write_codes(path: Path, layers: list[Conv], n_c: int, slice_shape: Shape, changes: Mapping[str, Any] = {}) -> None:
    """Write random code vectors of some layers."""
    rng, words = np.random.default_rng(n_c), n_c // 16
    arrays: dict[str, Any] = {
        "base": xorshift_words(0x2545F491, words),
        "n_c": np.int64(n_c),
        "slice_shape": np.array(slice_shape),
        "generator": np.array("rotate"),
    }
    for layer in layers:
        count = slice_count((layer.M, layer.C // layer.groups, layer.R, layer.S), slice_shape)
        arrays[f"codes/{layer.name}"] = rng.integers(0, 1 << 16, (count, words)).astype(np.uint16)
    np.savez(path, **{**arrays, **changes})


def trained(layer: Conv, path: Path) -> tuple[LayerParams, np.ndarray]:
    """Return the parameters of a generated layer with a batch normalisation behind it, and its integer weights."""
    rng = np.random.default_rng(3)
    with np.load(path) as file:
        shape = (layer.M, layer.C // layer.groups, layer.R, layer.S)
        part = tuple(int(size) for size in file["slice_shape"])
        weights = layer_weights(file["base"], file[f"codes/{layer.name}"], shape, part, str(file["generator"]))  # type: ignore[arg-type]
    scale = rng.uniform(0.5, 1.5, layer.M).astype(np.float32) / np.float32(prod(shape[1:])) ** 0.5 / 16
    bias = rng.normal(size=layer.M).astype(np.float32)
    unfolded = weights.astype(np.float32)
    source = FloatParams(unfolded * scale[:, None, None, None], bias, unfolded, scale)
    folded, encoded = (Bfloat16().encode(one, Scale()) for one in (source.weights, bias))
    return LayerParams(Bfloat16(), Scale(), Scale(), Scale(), folded, encoded, source=source), weights
