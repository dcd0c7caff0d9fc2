"""Window geometry shared by the convolution and pooling kernels: plain integers and tuples."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


class ConvShape(NamedTuple):
    """Loop bounds of one convolution; C and M count over all groups, `pad` is (top, left, bottom, right)."""

    N: int
    C: int
    H: int
    W: int
    M: int
    R: int
    S: int
    P: int
    Q: int
    stride: Pair
    pad: Pads
    dilation: Pair
    groups: int

    @property
    def K(self) -> int:
        """Products per window: (C/groups)*R*S."""
        return self.C // self.groups * self.R * self.S

    @property
    def kernel_arguments(self) -> tuple[tuple[int, ...], Pair, Pads, Pair]:
        """(N, C, H, W, M, R, S, P, Q), stride, pad, dilation, as the compiled loops take them."""
        return self[:9], self.stride, self.pad, self.dilation


def output_size(size: int, kernel: int, stride: int, pad: int, dilation: int = 1) -> int:
    """Return the number of window positions along one axis; `pad` is the sum of both sides."""
    return (size + pad - dilation * (kernel - 1) - 1) // stride + 1


def conv_shape(x: Array, w: Array, stride: Pair, pad: Pads, dilation: Pair, groups: int) -> ConvShape:
    """Return the loop bounds of x (N, C, H, W) convolved with w (M, C/groups, R, S).

    Raises: ValueError if channels and groups do not fit or no window does.
    """
    (N, C, H, W), (M, C_group, R, S) = x.shape, w.shape
    if C_group * groups != C or M % groups:
        raise ValueError(f"C must be groups * w.shape[1] and groups divide M; got C={C}, w={w.shape}, groups={groups}")
    P = output_size(H, R, stride[0], pad[0] + pad[2], dilation[0])
    Q = output_size(W, S, stride[1], pad[1] + pad[3], dilation[1])
    if P < 1 or Q < 1:
        raise ValueError(f"the kernel must fit into the padded map; got H, W = {H}, {W}, R, S = {R}, {S}, pad={pad}")
    return ConvShape(N, C, H, W, M, R, S, P, Q, stride, pad, dilation, groups)


def bias_or_zeros(bias: Array | None, M: int) -> Array:
    """Return the bias as int64 (M,), zeros if there is none."""
    return np.zeros(M, np.int64) if bias is None else np.ascontiguousarray(bias, np.int64)


def peak(values: Array) -> int:
    """Return max |values| of an integer array as a Python int (0 if empty)."""
    return max(int(values.max()), -int(values.min())) if values.size else 0
