"""Reading `.npz` data sets row by row: only the images asked for are decompressed into memory."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.errors import WorkloadError

Array = npt.NDArray[Any]


class Header(NamedTuple):
    """What the file says about one array: shape, element type, and whether columns come first."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


@contextmanager
def open_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an `.npz`; a damaged or foreign file becomes one WorkloadError line."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise WorkloadError(f"{path.name}: not a readable .npz file ({error})") from error


def headers(archive: zipfile.ZipFile) -> dict[str, Header]:
    """Return the header of every array in the file; nothing else is read."""
    found = {}
    for name in archive.namelist():
        if name.endswith(".npy"):
            with archive.open(name) as stream:
                found[name.removesuffix(".npy")] = _header(stream)
    return found


def read_rows(archive: zipfile.ZipFile, name: str, first: int, count: int) -> Array:
    """Return rows `first` .. `first + count - 1` of array `name`, read-only.

    Raises: WorkloadError if the array holds pickled objects or ends early.
    """
    with archive.open(f"{name}.npy") as stream:
        header = _header(stream)
        if header.dtype.hasobject:
            raise WorkloadError(f"{archive.filename}: array {name!r} holds pickled objects; store numbers or text")
        if header.fortran:
            whole = np.frombuffer(stream.read(), header.dtype).reshape(header.shape, order="F")
            return whole[first : first + count]
        row_bytes = header.dtype.itemsize * math.prod(header.shape[1:])
        stream.seek(first * row_bytes, 1)
        rows = stream.read(count * row_bytes)
        if len(rows) < count * row_bytes:
            raise WorkloadError(f"{archive.filename}: array {name!r} ends before row {first + count}")
        return np.frombuffer(rows, header.dtype).reshape(count, *header.shape[1:])


def _header(stream: IO[bytes]) -> Header:
    """Read the `.npy` header of an open member (format versions 1 and 2 and 3 differ in the length field only)."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return Header(*read(stream))
