"""Tensors and layer parameters in a machine's number format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from archsim.workload.formats import NumberFormat, Scale
from archsim.workload.graph import FloatParams

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Tensor:
    """Codes of one tensor, batch axis first, with the format and scale that give them meaning.

    `saturated_words` tells how many of them were saturated when the tensor was stored.
    """

    codes: Array
    format: NumberFormat
    scale: Scale
    saturated_words: int = 0

    def values(self) -> Array:
        """Return the real values."""
        return self.format.decode(self.codes, self.scale)

    def to(self, number_format: NumberFormat, scale: Scale) -> Tensor:
        """Return the tensor in another format; a no-op if both are equal (house rule 8: encode(decode(x)))."""
        if number_format == self.format and scale == self.scale:
            return self
        return Tensor(number_format.encode(self.values(), scale), number_format, scale)


@dataclass(frozen=True, eq=False)
class LayerParams:
    """One layer's parameters in the machine's format; `weights` is None for a shape-only network.

    weights: codes, Conv (M, C/groups, R, S), Linear (M, C). bias: accumulator codes int64 (M,) with
    f_x+f_w fraction bits for fixed point, float32 values for floating formats.
    `y_scale` None: the layer produces the network's output and is not requantised. `reads_network_input`: x is the
    network's input (an image), not another layer's ofmap. `x_mean`: mean activation of every input channel over the
    calibration images, float64 (C,), where a machine asked for it. `calibration`: what the machine's own `calibrate`
    made of the calibration images.
    """

    format: NumberFormat
    x_scale: Scale
    w_scale: Scale
    y_scale: Scale | None
    weights: Array | None = None
    bias: Array | None = None
    x_non_negative: bool = False
    reads_network_input: bool = False
    x_mean: Array | None = None
    calibration: Any = None
    source: FloatParams | None = None


@dataclass(frozen=True)
class Accumulation:
    """The modelled accumulator: width, what an overflow does, and a right shift of each product before it is added."""

    bits: int = 48
    overflow: str = "error"
    product_shift: int = 0


def requantise_shift(params: LayerParams) -> int | None:
    """Return s = f_x + f_w - f_y of a fixed-point layer, or None if its output is not requantised."""
    if params.y_scale is None:
        return None
    return params.x_scale.fraction_bits + params.w_scale.fraction_bits - params.y_scale.fraction_bits
