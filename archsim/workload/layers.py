"""The typed layer list: shapes and loop bounds only, no tensors. Letters as Timeloop's: N C M H W R S P Q.

C and M count channels over all groups; H and W are unpadded; `pad` is (top, left, bottom, right).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


@dataclass(frozen=True)
class Activation:
    """What is applied to the accumulator before requantisation: none, relu, or clip to [low, high] (real values)."""

    kind: Literal["none", "relu", "clip"] = "none"
    low: float = 0.0
    high: float = float("inf")

    @property
    def non_negative(self) -> bool:
        """True if no output can be below zero."""
        return self.kind == "relu" or (self.kind == "clip" and self.low >= 0)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One node of the graph: `inputs` and `output` are tensor names, N the batch a Plan is made for."""

    name: str
    inputs: tuple[str, ...]
    output: str
    N: int = 1

    @property
    def macs_dense(self) -> int:
        """MACs with padding taps and zero weights included, for N images; 0 for layers without multiplications."""
        return 0

    @property
    def weight_count(self) -> int:
        """Trained weights without biases."""
        return 0


def output_size(size: int, kernel: int, stride: int, pad: int, dilation: int = 1) -> int:
    """Return the number of window positions along one axis; `pad` is the sum of both sides."""
    return (size + pad - dilation * (kernel - 1) - 1) // stride + 1


@dataclass(frozen=True, kw_only=True)
class Conv(Layer):
    """Convolution (N, C, H, W) -> (N, M, P, Q) with weights (M, C/groups, R, S) and an optional fused activation."""

    C: int
    M: int
    H: int
    W: int
    R: int
    S: int
    stride: Pair = (1, 1)
    pad: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    activation: Activation = Activation()

    @property
    def P(self) -> int:
        """Output rows."""
        return output_size(self.H, self.R, self.stride[0], self.pad[0] + self.pad[2], self.dilation[0])

    @property
    def Q(self) -> int:
        """Output columns."""
        return output_size(self.W, self.S, self.stride[1], self.pad[1] + self.pad[3], self.dilation[1])

    @property
    def macs_dense(self) -> int:
        """N*M*P*Q*(C/groups)*R*S."""
        return self.N * self.M * self.P * self.Q * (self.C // self.groups) * self.R * self.S

    @property
    def weight_count(self) -> int:
        """M*(C/groups)*R*S."""
        return self.M * (self.C // self.groups) * self.R * self.S


@dataclass(frozen=True, kw_only=True)
class Linear(Layer):
    """Fully connected layer (N, C) -> (N, M), weights (M, C); `map_shape` is the (C, H, W) it was flattened from."""

    C: int
    M: int
    map_shape: tuple[int, int, int] | None = None
    activation: Activation = Activation()

    @property
    def macs_dense(self) -> int:
        """N*M*C."""
        return self.N * self.M * self.C

    @property
    def weight_count(self) -> int:
        """M*C."""
        return self.M * self.C


Operand = tuple[str, float] | tuple[str, float, float]
"""('pixel', dy, dx), ('minus_pixel', dy, dx) with its sign turned, ('constant', value) or ('step', index)."""


@dataclass(frozen=True)
class OpStep:
    """One scalar operation."""

    op: Literal["add", "mul", "mac", "sqrt"]
    operands: tuple[Operand, ...]


@dataclass(frozen=True, kw_only=True)
class OpStream(Layer):
    """Scalar steps applied at every interior pixel of a (N, 1, H, W) map; the last step is the output (N, 1, P, Q)."""

    H: int
    W: int
    steps: tuple[OpStep, ...]
    border: int = 1

    @property
    def P(self) -> int:
        """Output rows: interior pixels."""
        return self.H - 2 * self.border

    @property
    def Q(self) -> int:
        """Output columns: interior pixels."""
        return self.W - 2 * self.border

    @property
    def macs_dense(self) -> int:
        """Scalar operations over all interior pixels."""
        return self.N * self.P * self.Q * len(self.steps)


@dataclass(frozen=True, kw_only=True)
class Pool(Layer):
    """Max or average pooling of (N, C, H, W); a global pool has R = H and S = W."""

    kind: Literal["max", "average"]
    R: int
    S: int
    stride: Pair
    pad: Pads = (0, 0, 0, 0)
    ceil_mode: bool = False
    count_include_pad: bool = False


@dataclass(frozen=True, kw_only=True)
class Add(Layer):
    """Element-wise sum of two tensors of one shape, with an optional fused activation."""

    activation: Activation = Activation()


@dataclass(frozen=True, kw_only=True)
class Concat(Layer):
    """Concatenation along the channel axis."""


@dataclass(frozen=True, kw_only=True)
class Lrn(Layer):
    """Local response normalisation across channels: x / (bias + alpha/size * sum x^2)^beta."""

    size: int
    alpha: float
    beta: float
    bias: float


@dataclass(frozen=True, kw_only=True)
class Elementwise(Layer):
    """An activation that could not be fused: relu, clip, tanh, sigmoid."""

    function: Literal["relu", "clip", "tanh", "sigmoid"]
    low: float = 0.0
    high: float = float("inf")


@dataclass(frozen=True, kw_only=True)
class Softmax(Layer):
    """Softmax over the class axis (axis 1)."""


@dataclass(frozen=True, kw_only=True)
class Reshape(Layer):
    """Flatten or reshape; `shape` is the result's shape without the batch axis."""

    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Pad(Layer):
    """Constant padding of a (N, C, H, W) map with zeros."""

    pad: Pads


@dataclass(frozen=True, kw_only=True)
class BatchNorm(Layer):
    """A batch normalisation that could not be folded: y = x*scale + shift per channel (in the network's params)."""


@dataclass(frozen=True, kw_only=True)
class Wiring(Layer):
    """Channel copy with subsampling: output channel m is input channel `source[m]`, or zero where it is -1.

    A 1x1 Conv without bias whose 0/1 weights have at most one 1 per output. No MACs, weights or energy.
    """

    source: tuple[int, ...] = field(default=())
    stride: Pair = (1, 1)
