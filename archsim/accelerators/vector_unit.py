"""The platform's vector unit: runs the layers no machine accepts. Not a machine: no plan, no data, counts only.

One action is one operation on one element; operand traffic is neither timed nor priced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from archsim.counts import Action, Counts
from archsim.energy import PriceTable, load_prices
from archsim.errors import WorkloadError
from archsim.workload.layers import (
    Activation,
    Add,
    BatchNorm,
    Concat,
    Elementwise,
    Layer,
    Lrn,
    Pad,
    Pool,
    Reshape,
    Softmax,
    Wiring,
)

ADD = "vector_unit.add"
COMPARE = "vector_unit.compare"
CONVERT = "vector_unit.convert"
LOOKUP = "vector_unit.lookup"
MOVE = "vector_unit.move"
MULTIPLY = "vector_unit.multiply"
ACTIONS: frozenset[Action] = frozenset({ADD, COMPARE, CONVERT, LOOKUP, MOVE, MULTIPLY})
VECTOR_UNIT_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "free": {"elements_per_cycle": None, "clock_MHz": 0.0, "prices": "vector-unit"},
}

Shape = tuple[int, ...]
Shapes = Sequence[Shape]


class VectorUnitConfig(BaseModel):
    """A unit of `elements_per_cycle` lanes, one operation on one element each; None: free, 0 cycles and no clock."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    elements_per_cycle: int | None = Field(default=None, gt=0)
    clock_MHz: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    prices: str = Field(default="vector-unit", description="price table: a shipped name or a YAML file")

    @model_validator(mode="after")
    def _lanes_have_a_clock(self) -> VectorUnitConfig:
        """Refuse lanes without a clock and a clock without lanes."""
        if (self.elements_per_cycle is None) != (self.clock_MHz == 0):
            raise ValueError("given both elements_per_cycle and clock_MHz, or neither (preset free)")
        return self


def vector_prices(config: VectorUnitConfig, folder: Path | None = None) -> PriceTable:
    """Return the prices of `ACTIONS`; `folder` is the study's. Raises: as `load_prices`."""
    return load_prices(Path(__file__).with_suffix(".yaml"), config.prices, ACTIONS, config.clock_MHz, folder)


def vector_cycles(counts: Mapping[Action, int], config: VectorUnitConfig) -> int:
    """Return the cycles of the counted operations, `elements_per_cycle` of them at a time; 0 for a free unit."""
    lanes = config.elements_per_cycle
    return 0 if lanes is None else -(-sum(counts.values()) // lanes)


def vector_counts(layer: Layer, input_shapes: Shapes, output_shape: Shape, n_images: int) -> Counts:
    """Return the operations of `layer` for `n_images` images; shapes are without the batch axis.

    Reshape and Wiring count nothing. Raises: WorkloadError for a layer the vector unit cannot run.
    """
    rule = _RULES.get(type(layer))
    if rule is None:
        names = ", ".join(sorted(kind.__name__ for kind in _RULES))
        raise WorkloadError(
            f"layer {layer.name!r} ({type(layer).__name__}) needs a machine; the vector unit runs {names}"
        )
    counts = Counts()
    for action, n in rule(layer, input_shapes, output_shape).items():
        counts.add(action, n * n_images)
    return counts


def _windows(size: int, kernel: int, stride: int, pad: int, positions: int) -> int:
    """Return the taps inside the map, summed over all window positions of one axis."""
    starts = [index * stride - pad for index in range(positions)]
    return sum(max(0, min(start + kernel, size) - max(start, 0)) for start in starts)


def _pool(layer: Pool, inputs: Shapes, output: Shape) -> Counts:
    """A window with k taps inside the map: k-1 comparisons, or k-1 additions and a multiplication by 1/divisor."""
    channels, rows, columns = output
    _, height, width = inputs[0]
    taps_high = _windows(height, layer.R, layer.stride[0], layer.pad[0], rows)
    taps_wide = _windows(width, layer.S, layer.stride[1], layer.pad[1], columns)
    reductions = channels * (taps_high * taps_wide - rows * columns)
    if layer.kind == "max":
        return Counts({COMPARE: reductions})
    return Counts({ADD: reductions, MULTIPLY: prod(output)})


def _activation(activation: Activation, elements: int) -> Counts:
    """ReLU compares once per element, clip twice."""
    return Counts({COMPARE: {"none": 0, "relu": 1, "clip": 2}[activation.kind] * elements})


def _add(layer: Add, inputs: Shapes, output: Shape) -> Counts:
    """One addition per further input, and the fused activation."""
    counts = _activation(layer.activation, prod(output))
    counts.add(ADD, (len(inputs) - 1) * prod(output))
    return counts


def _elementwise(layer: Elementwise, inputs: Shapes, output: Shape) -> Counts:
    """Comparisons for relu and clip, a table for tanh and sigmoid."""
    if layer.function == "relu" or layer.function == "clip":
        return _activation(Activation(layer.function), prod(output))
    return Counts({LOOKUP: prod(output)})


def _lrn(layer: Lrn, inputs: Shapes, output: Shape) -> Counts:
    """Square, sum over the channels inside the map, scale and bias, power from a table, product with the element."""
    channels, elements = output[0], prod(output)
    below = (layer.size - 1) // 2
    neighbours = _windows(channels, layer.size, 1, below, channels) * (elements // channels)
    return Counts({MULTIPLY: 3 * elements, ADD: neighbours, LOOKUP: elements})


def _softmax(layer: Softmax, inputs: Shapes, output: Shape) -> Counts:
    """Per position with K classes: maximum, K differences, K exponentials, their sum, its reciprocal, K products."""
    elements = prod(output)
    positions = elements // output[0]
    return Counts(
        {
            COMPARE: elements - positions,
            ADD: 2 * elements - positions,
            LOOKUP: elements + positions,
            MULTIPLY: elements,
        }
    )


def _batch_norm(layer: BatchNorm, inputs: Shapes, output: Shape) -> Counts:
    """One multiplication and one addition per element."""
    return Counts({MULTIPLY: prod(output), ADD: prod(output)})


def _move(layer: Layer, inputs: Shapes, output: Shape) -> Counts:
    """One move per output element."""
    return Counts({MOVE: prod(output)})


def _nothing(layer: Layer, inputs: Shapes, output: Shape) -> Counts:
    """A change of names only."""
    return Counts()


_RULES: Mapping[type[Layer], Callable[[Any, Shapes, Shape], Counts]] = {
    Add: _add,
    BatchNorm: _batch_norm,
    Concat: _move,
    Elementwise: _elementwise,
    Lrn: _lrn,
    Pad: _move,
    Pool: _pool,
    Reshape: _nothing,
    Softmax: _softmax,
    Wiring: _nothing,
}
