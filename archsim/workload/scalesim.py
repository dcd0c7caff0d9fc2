"""SCALE-Sim topology CSV: independent layers, no graph. Two variants, told apart by the header line.

Convolutions: `Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,` with
an optional second stride and further named columns; sizes are padded sizes. Products: `Layer, M, N, K,`, an (M, K) by
(K, N) product. A layer whose name contains `DP` is depthwise: `Num Filter` filters for each channel. Text after # is
ignored. Source: SCALE-Sim v2, scalesim/topology_utils.py.

The layers of the Network are not connected: layer `x` reads a tensor `x.in`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from archsim.errors import WorkloadError
from archsim.workload.assemble import Shape, assemble
from archsim.workload.graph import Network
from archsim.workload.layers import Conv, Layer, Linear

CONV_COLUMNS = ("IFMAP Height", "IFMAP Width", "Filter Height", "Filter Width", "Channels", "Num Filter", "Strides")
GEMM_COLUMNS = ("M", "N", "K")
EXTRA_COLUMNS = ("stride width", "batch", "batch size", "sparsity")
DEPTHWISE_MARK = "DP"


@dataclass(frozen=True)
class _Row:
    """One line of the file: `values` of the columns every row has, `extra` of named further ones."""

    place: str
    name: str
    values: tuple[int, ...]
    extra: Mapping[str, str]

    def error(self, column: str, rule: str) -> WorkloadError:
        return WorkloadError(f"{self.place}: {self.name}: {column}: {rule}")


def load_topology(path: Path) -> Network:
    """Return the layers of a topology file as a shape-only Network; `notes` say where SCALE-Sim computes otherwise.

    Raises: WorkloadError with file, line, column and value.
    """
    rows = list(_rows(path))
    if not rows:
        raise WorkloadError(f"{path.name}: has no layers")
    layers = [_layer(row) for row in rows]
    inputs = {layer.inputs[0]: _input_shape(layer) for layer in layers}
    notes = tuple(note for row in rows for note in _notes(row))
    connection = "the layers of a topology file are independent: each reads a tensor of its own"
    return assemble(path.stem, layers, inputs, layers[-1].output, notes=(connection, *notes))


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return (line number, cells) of the lines that hold anything."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path.name}: not a readable text file: {error}") from error
    cells = [[cell.strip() for cell in line.split("#")[0].split(",")] for line in text.splitlines()]
    return [(number, row) for number, row in enumerate(cells, 1) if any(row)]


def _rows(path: Path) -> Iterator[_Row]:
    lines = _lines(path)
    if not lines:
        raise WorkloadError(f"{path.name}: is empty")
    number, header = lines[0]
    columns, extra = _columns(header, f"{path.name}:{number}")
    seen: dict[str, int] = {}
    for number, cells in lines[1:]:
        row = _row(cells, columns, extra, f"{path.name}:{number}")
        if row.name in seen:
            raise WorkloadError(f"{row.place}: layer name {row.name!r} given twice (first in line {seen[row.name]})")
        seen[row.name] = number
        yield row


def _columns(header: Sequence[str], place: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the columns every row must have and the names of further ones."""
    names = [re.sub(r"[\s_]+", " ", cell).lower() for cell in header]
    while names and not names[-1]:
        names.pop()
    for columns in (CONV_COLUMNS, GEMM_COLUMNS):
        wanted = [name.lower() for name in columns]
        if [_synonym(name) for name in names[1 : 1 + len(columns)]] == wanted:
            return columns, _known_extra(names[1 + len(columns) :], place)
    choices = " or ".join(f"Layer name, {', '.join(columns)}" for columns in (CONV_COLUMNS, GEMM_COLUMNS))
    raise WorkloadError(f"{place}: the first line must be the header {choices}; got {', '.join(header)}")


def _synonym(name: str) -> str:
    """Return the name a header column has in this module."""
    return {"num filters": "num filter", "stride": "strides", "stride height": "strides"}.get(name, name)


def _known_extra(names: list[str], place: str) -> list[str]:
    for name in names:
        if name not in EXTRA_COLUMNS:
            raise WorkloadError(
                f"{place}: unknown column {name!r} (allowed further columns: {', '.join(EXTRA_COLUMNS)})"
            )
    return names or ["stride width"]


def _row(cells: list[str], columns: tuple[str, ...], extra: list[str], place: str) -> _Row:
    name, values = cells[0], cells[1:]
    while values and not values[-1]:
        values.pop()
    if not name:
        raise WorkloadError(f"{place}: Layer name: must not be empty")
    if len(values) < len(columns):
        raise WorkloadError(f"{place}: {name}: {columns[len(values)]}: is missing, the line has {len(values)} values")
    if len(values) > len(columns) + len(extra):
        raise WorkloadError(f"{place}: {name}: has {len(values)} values, the header names {len(columns) + len(extra)}")
    sizes = tuple(_size(text, f"{place}: {name}: {column}") for column, text in zip(columns, values))
    return _Row(place, name, sizes, dict(zip(extra, values[len(columns) :])))


def _size(text: str, place: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise WorkloadError(f"{place}: must be a whole number of at least 1, got {text!r}")
    return int(text)


def _layer(row: _Row) -> Layer:
    if len(row.values) == len(GEMM_COLUMNS):
        return _product(row)
    H, W, R, S, C, filters, _ = row.values
    for axis, size, kernel in (("Height", H, R), ("Width", W, S)):
        if kernel > size:
            raise row.error(f"Filter {axis}", f"{kernel} is larger than IFMAP {axis} {size}")
    depthwise = DEPTHWISE_MARK in row.name
    return Conv(
        name=row.name, inputs=(f"{row.name}.in",), output=row.name, C=C, H=H, W=W, R=R, S=S, stride=_stride(row),
        M=filters * C if depthwise else filters, groups=C if depthwise else 1,
    )  # fmt: skip


def _stride(row: _Row) -> tuple[int, int]:
    height, width = row.values[6], row.extra.get("stride width")
    return (height, _size(width, f"{row.place}: {row.name}: Stride Width") if width else height)


def _product(row: _Row) -> Layer:
    """Return (M, K) values times (K, N) weights: a fully connected layer, or a 1x1 convolution over M positions."""
    M, N, K = row.values
    if M == 1:
        return Linear(name=row.name, inputs=(f"{row.name}.in",), output=row.name, C=K, M=N)
    return Conv(name=row.name, inputs=(f"{row.name}.in",), output=row.name, C=K, M=N, H=M, W=1, R=1, S=1)


def _input_shape(layer: Layer) -> Shape:
    if isinstance(layer, Conv):
        return (layer.C, layer.H, layer.W)
    assert isinstance(layer, Linear)
    return (layer.C,)


def _notes(row: _Row) -> Iterator[str]:
    """Yield what a user of SCALE-Sim would otherwise find to differ."""
    if row.extra.get("batch", row.extra.get("batch size", "1")) != "1":
        yield f"{row.name}: the batch column is not used, the study's workload.batch decides"
    if row.extra.get("sparsity"):
        yield f"{row.name}: the sparsity column is not used"
    if len(row.values) == len(GEMM_COLUMNS):
        return
    H, W, R, S = row.values[:4]
    sizes = [(H, R, _stride(row)[0]), (W, S, _stride(row)[1])]
    if any((size - kernel) % stride for size, kernel, stride in sizes):
        ceil = "x".join(str(-((kernel - size) // stride) + 1) for size, kernel, stride in sizes)
        floor = "x".join(str((size - kernel) // stride + 1) for size, kernel, stride in sizes)
        yield f"{row.name}: SCALE-Sim's ceil formula gives {ceil} outputs; only whole windows count here: {floor}"
