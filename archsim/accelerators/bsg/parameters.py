"""How many parameters a network has with and without generated slices, as the thesis counts them.

Source: V. Akhlaghi, UC San Diego 2020, Tables 5.1 to 5.3, 5.5 and 5.7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod
from typing import NamedTuple

from archsim.accelerators.bsg.generator import CODE_WORD_BITS, Shape, slice_count
from archsim.workload.layers import Conv, Layer, Linear


class ParameterCounts(NamedTuple):
    """Weights that slices stand for, the number of these slices, and every other parameter (biases, batch norms)."""

    replaced: int
    slices: int
    other: int

    @property
    def original(self) -> int:
        """Parameters without slices."""
        return self.replaced + self.other

    def trained(self, n_c: int, matrix_rows: int = 0) -> int:
        """Return the trainable parameters: code vectors, the rest, and a matrix of so many rows if it is trained too
        (the CSG of the thesis; that of a BSG is fixed).
        """
        return self.other + (self.slices + matrix_rows) * n_c

    def inference_words(self, n_c: int) -> int:
        """Return the 16-bit words a BSG network takes: code vectors and base vector as bits, the rest as words."""
        return self.other + (self.slices + 1) * n_c // CODE_WORD_BITS


def count_parameters(
    layers: Iterable[Layer], slice_shape: Shape, generated: Callable[[Conv], bool], *, affine: bool = True
) -> ParameterCounts:
    """Count over all layers; `generated` says which convolutions have slices.

    `affine`: a convolution has a scale and a shift of its own per filter, as from a batch normalisation behind it.
    """
    replaced = slices = other = 0
    for layer in layers:
        if isinstance(layer, Conv):
            other += 2 * layer.M if affine else 0
            shape = (layer.M, layer.C // layer.groups, layer.R, layer.S)
            if generated(layer):
                replaced += prod(shape)
                slices += slice_count(shape, slice_shape)
            else:
                other += prod(shape)
        elif isinstance(layer, Linear):
            other += layer.weight_count + layer.M
    return ParameterCounts(replaced, slices, other)
