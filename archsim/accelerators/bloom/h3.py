"""H3 hashing: h_j(key) is the XOR of the coefficients of the key's set bits, log2(m) bits each.

A key is the top bits of the operands side by side, operand 0 most significant. Hashes are linear, so a key's is the XOR
of what its operands give, byte by byte; all k addresses travel packed in one word. Source: V. Akhlaghi, UC San Diego
2020, section 2.3.1 and Figure 2.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
WORD = 0xFFFF_FFFF
BYTE_VALUES = 256
OPERAND_BYTES = 4


def xorshift32(seed: int) -> Iterator[int]:
    """Yield the states behind `seed`. Source: G. Marsaglia, Xorshift RNGs, J. Stat. Software 8(14), 2003."""
    state = seed & WORD
    while True:
        state ^= state << 13 & WORD
        state ^= state >> 17
        state ^= state << 5 & WORD
        yield state


@dataclass(frozen=True)
class Shape:
    """`banks` sets (one per filter, or one for all) of k hashes to log2_m bits; keys of `operands` x `apx` bits."""

    banks: int
    k: int
    log2_m: int
    operands: int
    apx: int

    @property
    def key_bits(self) -> int:
        """Bits of a key."""
        return self.operands * self.apx

    @property
    def address_bits(self) -> int:
        """Bits of all addresses of a bank together."""
        return self.k * self.log2_m


def coefficients(shape: Shape, seed: int) -> Array:
    """Return C int64 (banks, k, key_bits), key bit 0 first: the top bits of xorshift32's states, zeros skipped."""
    states = xorshift32(seed)
    found = np.empty(shape.banks * shape.k * shape.key_bits, np.int64)
    for i in range(len(found)):
        value = 0
        while not value:
            value = next(states) >> (32 - shape.log2_m)
        found[i] = value
    return found.reshape(shape.banks, shape.k, shape.key_bits)


def packed_columns(shape: Shape, C: Array) -> Array:
    """Return uint64 (banks, key_bits): what a set key bit adds to all addresses, hash 0 lowest."""
    shifts = (np.arange(shape.k) * shape.log2_m).astype(np.uint64)
    return np.asarray(np.bitwise_or.reduce(C.astype(np.uint64) << shifts[None, :, None], axis=1))


def rank(columns: Array) -> int:
    """Return the rank over GF(2) of vectors given as integers (n,)."""
    basis: list[int] = []
    for column in columns.tolist():
        for one in basis:
            column = min(column, column ^ one)
        if column:
            basis.append(column)
    return len(basis)


def full_rank(shape: Shape, C: Array) -> bool:
    """Tell whether the addresses of every bank take all values: rank k*log2(m), or that of a narrower key."""
    wanted = min(shape.address_bits, shape.key_bits)
    return all(rank(columns) == wanted for columns in packed_columns(shape, C))


def byte_tables(shape: Shape, C: Array) -> Array:
    """Return what a byte of an operand's top bits adds to all addresses: uint64 (operands, bytes, 256, banks)."""
    columns = packed_columns(shape, C)
    tables = np.zeros((shape.operands, OPERAND_BYTES, BYTE_VALUES, shape.banks), np.uint64)
    values = np.arange(BYTE_VALUES)
    for operand in range(shape.operands):
        first = (shape.operands - 1 - operand) * shape.apx
        for bit in range(shape.apx):
            byte, within = divmod(bit, 8)
            tables[operand, byte, values >> within & 1 == 1] ^= columns[:, first + bit]
    return tables


def operand_hashes(tables: Array, operand: int, tops: Array) -> Array:
    """Return what top bits (...,) of one operand add to all addresses, uint64 (..., banks)."""
    found = tables[operand, 0, tops & 0xFF]
    for byte in range(1, OPERAND_BYTES):
        found = found ^ tables[operand, byte, tops >> (8 * byte) & 0xFF]
    return np.asarray(found)


def key_hashes(tables: Array, tops: Array) -> Array:
    """Return the packed addresses of keys given as top bits (n, operands), uint64 (n, banks)."""
    found = operand_hashes(tables, 0, tops[:, 0])
    for operand in range(1, tops.shape[1]):
        found = found ^ operand_hashes(tables, operand, tops[:, operand])
    return found


def addresses(shape: Shape, hashes: Array) -> Array:
    """Return the addresses in packed hashes (n, banks), int64 (n, banks, k)."""
    shifts = (np.arange(shape.k) * shape.log2_m).astype(np.uint64)
    mask = np.uint64((1 << shape.log2_m) - 1)
    return np.asarray((hashes[..., None] >> shifts & mask).astype(np.int64))
