"""The functional units: fp32, round to nearest even, subnormals flushed to signed zero, one quiet NaN.

A MAC is unfused: round(round(a*b) + c). ADD(a, b) and ADD(b, a) are different patterns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
OPERANDS = {"add": 2, "mul": 2, "mac": 3, "sqrt": 1}
"""The kinds of functional unit and their operands."""
SIGN = np.uint32(0x8000_0000)
SMALLEST_NORMAL = np.uint32(0x0080_0000)
INFINITY = np.uint32(0x7F80_0000)
QUIET_NAN = np.uint32(0x7FC0_0000)
FLOAT_BITS = 32


def flushed(values: Array) -> Array:
    """Return float32 values as a unit reads and writes them: subnormals become signed zero, NaNs the quiet one."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    size = bits & ~SIGN
    bits = np.where(size < SMALLEST_NORMAL, bits & SIGN, bits)
    return np.where(size > INFINITY, QUIET_NAN, bits).view(np.float32)


def top_bits(values: Array, bits: int) -> Array:
    """Return the `bits` most significant bits of float32 values, uint32 of the same shape."""
    return np.asarray(np.ascontiguousarray(values, np.float32).view(np.uint32) >> np.uint32(FLOAT_BITS - bits))


def apply_unit(kind: str, operands: list[Array]) -> Array:
    """Return what a functional unit computes from flushed float32 operands."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if kind == "sqrt":
            return flushed(np.sqrt(operands[0]))
        if kind == "add":
            return flushed(operands[0] + operands[1])
        product = flushed(operands[0] * operands[1])
        return product if kind == "mul" else flushed(product + operands[2])


def representative(tops: Array, bits: int, *, middle: bool) -> Array:
    """Return the operand a truncated one stands for: low bits zero, or the first dropped bit one (`middle`).

    An exponent of zero keeps its zero; so do infinities, which would become NaN.
    """
    dropped = FLOAT_BITS - bits
    whole = tops.astype(np.uint32) << np.uint32(dropped)
    if middle and dropped:
        size = whole & ~SIGN
        ordinary = (size >= SMALLEST_NORMAL) & (size < INFINITY)
        whole = np.where(ordinary, whole | np.uint32(1 << (dropped - 1)), whole)
    return flushed(whole.view(np.float32))
