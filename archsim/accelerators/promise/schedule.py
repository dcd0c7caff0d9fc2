"""The schedule of one product on the banks: integers only, no data, no clock.

C[m x n] = A[m x k] . W[k x n]: W lies in the banks, A is streamed row by row. A bank holds 128 x 128 bytes of W; `bpc`
banks side by side hold a tile of 128 columns. Source: promise_timing_model.cpp of the HPVM release
(vzyrianov/hpvm-autograd @521cc3b); what it does not say, sums longer than all banks, is marked where it stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from archsim.accelerators.base import Plan
from archsim.accelerators.promise.addresses import Windows
from archsim.accelerators.promise.config import BANK_COLUMNS, VECTOR_LENGTH


class Product(NamedTuple):
    """A matrix product: m rows of A, sums of k products, n columns of W."""

    m: int
    k: int
    n: int

    @property
    def swapped(self) -> bool:
        """The smaller of both operands is streamed: with m > n their roles change."""
        return self.m > self.n

    @property
    def oriented(self) -> Product:
        """Return the product as it runs: m rows are streamed, n columns lie in the banks."""
        return Product(self.n, self.k, self.m) if self.swapped else self


class Tile(NamedTuple):
    """One filling of the banks: column tiles at once, rows and columns of W."""

    act: int
    tx: int
    ty: int


class Chunk(NamedTuple):
    """Part of the sums, k products long: banks per column tile, column tiles, rows at once (replicas), fillings."""

    k: int
    bpc: int
    ct: int
    par: int
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class PromisePlan(Plan):
    """A layer: `groups` equal products, oriented; the banks it may use; sums in one or more chunks.

    `windows`: where a convolution finds its ifmap; without them the operands lie in memory as the product has them.
    """

    groups: int
    m: int
    k: int
    n: int
    swapped: bool
    banks: int
    resident: bool
    patch: int
    chunks: tuple[Chunk, ...]
    windows: Windows | None = None

    def describe(self) -> dict[str, int | str]:
        """Return the figures shown as `mapping` in the result."""
        first = self.chunks[0]
        held = "ifmap (loaded for every batch)" if self.swapped else "weights"
        return {
            "batch": self.batch,
            "groups": self.groups,
            "m": self.m,
            "k": self.k,
            "n": self.n,
            "in_banks": f"{held}{', resident' if self.resident else ''}",
            "banks": self.banks,
            "banks_per_column_tile": first.bpc,
            "column_tiles": first.ct,
            "rows_at_once": first.par,
            "fillings": sum(len(chunk.tiles) for chunk in self.chunks),
            "chunks_of_k": len(self.chunks),
        }


class Turn(NamedTuple):
    """A group of rows on one filling of the banks.

    `opens`: the filling is new; `load_bytes` from `load_offset` on, read in `load_passes` equal passes, are written to
    `tile_banks` banks (0: are there). `rows` rows of `row_bytes`, each in `row_passes` from its `row_offsets` on, are
    streamed and computed in `banks` banks, `columns` each.
    `added` partial sums are then added to those of the chunk before; `store_bytes` of results are written (0: stay).
    """

    opens: bool
    load_offset: int
    load_bytes: int
    load_passes: int
    tile_banks: int
    rows: int
    row_offsets: tuple[int, ...]
    row_bytes: int
    row_passes: int
    banks: int
    columns: int
    added: int
    store_offset: int
    store_bytes: int


def ceil_div(a: int, b: int) -> int:
    """Return a / b, rounded up."""
    return -(-a // b)


def banks_of(product: Product) -> int:
    """Return the banks that hold all of the operand that is not streamed."""
    one = product.oriented
    return ceil_div(one.k, VECTOR_LENGTH) * ceil_div(one.n, BANK_COLUMNS)


def chunks_of(product: Product, banks: int) -> tuple[Chunk, ...]:
    """Cut the sums so that a column tile fits the banks (assumed: the source never ends there), then fill them."""
    one, longest = product.oriented, banks * VECTOR_LENGTH
    lengths = [min(longest, one.k - first) for first in range(0, one.k, longest)]
    return tuple(_chunk(one._replace(k=length), banks) for length in lengths)


def _chunk(one: Product, banks: int) -> Chunk:
    """Fill the banks with as many column tiles as fit, or with replicas of all of them."""
    bpc, ct = ceil_div(one.k, VECTOR_LENGTH), ceil_div(one.n, BANK_COLUMNS)
    par = min(max(1, banks // (bpc * ct)), one.m)
    tiles, rest = [], one.n
    while rest > 0:
        act = min(banks // bpc, ceil_div(rest, BANK_COLUMNS))
        tiles.append(Tile(act, one.k, min(rest, BANK_COLUMNS * act)))
        rest -= BANK_COLUMNS * act
    return Chunk(one.k, bpc, ct, par, tuple(tiles))


def turns_of(plan: PromisePlan) -> Iterator[Turn]:
    """Yield the turns of one batch in order: groups, chunks of the sums, fillings, groups of rows."""
    loaded = 0
    for group in range(plan.groups):
        for number, chunk in enumerate(plan.chunks):
            column = 0
            for tile in chunk.tiles:
                yield from _tile_turns(plan, group, number, tile, column, loaded)
                loaded += tile.tx * tile.ty // plan.patch
                column += tile.ty


def _tile_turns(plan: PromisePlan, group: int, number: int, tile: Tile, column: int, loaded: int) -> Iterator[Turn]:
    """Yield the turns of one filling; a last group of fewer rows leaves its replicas idle."""
    chunk = plan.chunks[number]
    last, k_first = number == len(plan.chunks) - 1, sum(one.k for one in plan.chunks[:number])
    load_bytes = tile.tx * tile.ty // plan.patch
    load_offset, load_passes = _filling(plan, group, column, k_first, load_bytes, loaded)
    for row in range(0, plan.m, chunk.par):
        rows = min(chunk.par, plan.m - row)
        row_offsets, row_passes = _streamed(plan, group, range(row, row + rows), k_first, chunk.k)
        outputs = tile.ty * rows
        yield Turn(
            opens=row == 0,
            load_offset=load_offset,
            load_bytes=load_bytes if row == 0 and not plan.resident else 0,
            load_passes=load_passes,
            tile_banks=chunk.bpc * tile.act * chunk.par,
            rows=rows,
            row_offsets=row_offsets,
            row_bytes=chunk.k,
            row_passes=row_passes,
            banks=chunk.bpc * tile.act * rows,
            columns=min(tile.ty, BANK_COLUMNS),
            added=outputs if number else 0,
            store_offset=(group * plan.n + column) * plan.m + row * tile.ty,
            store_bytes=outputs if last else 0,
        )


def _filling(plan: PromisePlan, group: int, column: int, k_first: int, n_bytes: int, loaded: int) -> tuple[int, int]:
    """Return where a filling is read and in how many passes: windows of the ifmap, or what was stored in this order."""
    if plan.windows is None or not plan.swapped:
        return loaded, 1
    passes = plan.windows.passes(n_bytes)
    return plan.windows.offset(group, column, k_first, n_bytes // passes), passes


def _streamed(plan: PromisePlan, group: int, rows: range, k_first: int, n_bytes: int) -> tuple[tuple[int, ...], int]:
    """Return where each row is read and in how many passes: a window of the ifmap, or a row of the operand."""
    if plan.windows is None or plan.swapped:
        return tuple((group * plan.m + row) * plan.k + k_first for row in rows), 1
    passes = plan.windows.passes(n_bytes)
    return tuple(plan.windows.offset(group, row, k_first, n_bytes // passes) for row in rows), passes


def dot_products(plan: PromisePlan) -> int:
    """Return the dot products of 128 weights of one batch: columns x banks, idle columns of ragged tiles included."""
    return sum(turn.columns * turn.banks for turn in turns_of(plan))
