"""What may be written in a shape-only network file (the format is described in `workload/shapes.py`)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from archsim.errors import WorkloadError
from archsim.workload.layers import Activation
from archsim.yamlfile import Written

OPERATIONS = (
    "conv", "depthwise", "linear", "pool", "global_average_pool", "lrn", "add", "concat", "flatten", "softmax",
    "subsample",
)  # fmt: skip


class Nothing(Written):
    """An operation without numbers: `{}`."""


class Window(Written):
    """A window that moves over the map."""

    kernel: int | list[int]
    stride: int | list[int] = 1
    pad: int | list[int] = 0


class ConvEntry(Window):
    """`conv`: a convolution."""

    M: int
    dilation: int = 1
    groups: int = 1


class LinearEntry(Written):
    """`linear`: a fully connected layer."""

    M: int


class PoolEntry(Window):
    """`pool`: max or average pooling."""

    kind: Literal["max", "average"]
    ceil: bool = False


class LrnEntry(Written):
    """`lrn`: normalisation across channels."""

    size: int
    alpha: float
    beta: float
    bias: float


class SubsampleEntry(Written):
    """`subsample`: a shortcut without weights."""

    M: int
    stride: int


class ZeroFraction(Written):
    """Shares of zeros in the data a layer reads and writes."""

    ifmap: float | None = Field(default=None, ge=0, le=1)
    ofmap: float | None = Field(default=None, ge=0, le=1)


class Entry(Written):
    """One layer as written: exactly one operation."""

    name: str = Field(min_length=1)
    inputs: str | list[str] | None = Field(default=None, alias="from")
    conv: ConvEntry | None = None
    depthwise: Window | None = None
    linear: LinearEntry | None = None
    pool: PoolEntry | None = None
    global_average_pool: Nothing | None = None
    lrn: LrnEntry | None = None
    add: Nothing | None = None
    concat: Nothing | None = None
    flatten: Nothing | None = None
    softmax: Nothing | None = None
    subsample: SubsampleEntry | None = None
    relu: bool = False
    clip: list[float] | None = None
    zero_fraction: ZeroFraction | None = None

    def operation(self) -> tuple[str, Any]:
        """Return the operation's key and what is written there."""
        given = [key for key in OPERATIONS if getattr(self, key) is not None]
        if len(given) != 1:
            raise WorkloadError(
                f"needs exactly one operation of {', '.join(OPERATIONS)}; got {', '.join(given) or 'none'}"
            )
        return given[0], getattr(self, given[0])

    def activation(self) -> Activation:
        """Return the fused activation."""
        if self.clip is None:
            return Activation("relu" if self.relu else "none")
        if self.relu or len(self.clip) != 2 or self.clip[0] > self.clip[1]:
            raise WorkloadError(f"clip must be [low, high] without relu beside it, got {self.clip}")
        return Activation("clip", self.clip[0], self.clip[1])


class Block(Written):
    """A group of layers with parameters."""

    parameters: list[str]
    layers: list[dict[str, Any]] = Field(min_length=1)


class File(Written):
    """The whole file."""

    name: str
    source: str
    input: list[int]
    blocks: dict[str, Block] = Field(default_factory=dict)
    layers: list[dict[str, Any]] = Field(min_length=1)
