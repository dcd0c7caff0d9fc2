"""The file of a trained network's code vectors: `base`, `n_c`, `slice_shape`, `generator` and `codes/<layer>`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from archsim.accelerators.bsg.config import BsgConfig
from archsim.accelerators.bsg.generator import Generator, Shape, layer_weights
from archsim.errors import MappingError, WorkloadError
from archsim.workload.params import Array

PREFIX = "codes/"


@dataclass(frozen=True, eq=False)
class Codes:
    """Base vector uint16 (n_c / 16,), code vectors uint16 (slices, n_c / 16) by layer, and what they were made for."""

    base: Array
    layers: Mapping[str, Array]
    slice_shape: Shape
    n_c: int
    generator: Generator
    file: str

    def weights(self, layer: str, shape: Shape) -> Array:
        """Return a layer's integer weights int16 (M, C/groups, R, S)."""
        return layer_weights(self.base, self.layers[layer], shape, self.slice_shape, self.generator)

    def check(self, config: BsgConfig) -> None:
        """Compare with the configuration. Raises: MappingError naming the field and both values."""
        for field in ("n_c", "slice_shape", "generator"):
            mine, wanted = getattr(self, field), getattr(config, field)
            if mine != wanted:
                raise MappingError(f"{self.file}: {field} is {mine}, the configuration's is {wanted}")


def load_codes(path: Path) -> Codes:
    """Read a file of code vectors. Raises: WorkloadError naming file, array and rule."""
    try:
        with np.load(path, allow_pickle=False) as opened:
            arrays = {name: opened[name] for name in opened.files}
    except (OSError, ValueError, EOFError) as error:
        raise WorkloadError(f"{path.name}: not a readable .npz of code vectors ({error})") from None
    missing = [name for name in ("base", "n_c", "slice_shape") if name not in arrays]
    if missing:
        raise WorkloadError(f"{path.name}: has no array {missing[0]!r} (arrays: {', '.join(sorted(arrays))})")
    n_c, shape = int(arrays["n_c"]), tuple(int(size) for size in arrays["slice_shape"])
    generator = str(arrays.get("generator", "rotate"))
    if len(shape) != 4 or min(shape) < 1:
        raise WorkloadError(f"{path.name}: slice_shape must be 4 sizes from 1 on, got {shape}")
    if generator not in ("rotate", "feedback"):
        raise WorkloadError(f"{path.name}: generator must be rotate or feedback, got {generator!r}")
    layers = {name[len(PREFIX) :]: words for name, words in arrays.items() if name.startswith(PREFIX)}
    for name, words in {"base": arrays["base"][None], **layers}.items():
        _check_words(path.name, name, words, n_c)
    made_for: Any = generator
    return Codes(arrays["base"], layers, (shape[0], shape[1], shape[2], shape[3]), n_c, made_for, path.name)


def _check_words(file: str, name: str, words: Array, n_c: int) -> None:
    if words.dtype != np.uint16 or words.ndim != 2 or 16 * words.shape[1] != n_c:
        rule = f"must hold uint16 words of {n_c} bits a vector"
        raise WorkloadError(f"{file}: {name} {rule}, got {words.dtype} {words.shape}")
