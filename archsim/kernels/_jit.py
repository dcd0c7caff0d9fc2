"""The one typed wrapper of `numba.njit`, and the compile cache that notices every change of a kernel source.

Numba's own cache looks at the modification time of one file only and lives beside the sources; here it lives in the
user's cache folder, keyed by package version and a hash over all files that may hold kernels. Kernels spread over the
`kernel*.py` files of a package are kept, in whatever folder is in force, under a hash over these files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import platformdirs

_PACKAGE = Path(__file__).resolve().parent.parent
_SOURCES = ("kernels/*.py", "**/kernel*.py", "accelerators/**/*.py")

Inline = Literal["never", "always"]
F = TypeVar("F", bound=Callable[..., Any])


def kernel_hash(package: Path = _PACKAGE) -> str:
    """Return 12 hex digits over the names and contents of all files below `package` that may hold kernels."""
    return _hash(package, {path for pattern in _SOURCES for path in package.glob(pattern)})


@cache
def siblings_hash(source: Path) -> str:
    """Return 12 hex digits over the `kernel*.py` files beside `source`, '' if it is not one of several."""
    beside = set(source.parent.glob("kernel*.py"))
    return _hash(source.parent, beside) if source in beside and len(beside) > 1 else ""


def _hash(base: Path, paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.relative_to(base).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def cache_folder() -> Path:
    """Return the folder of compiled kernels: user cache / version / hash of the kernel sources."""
    try:
        version = metadata.version("archsim")
    except metadata.PackageNotFoundError:  # a checkout on the path, not installed
        version = "uninstalled"
    return Path(platformdirs.user_cache_dir("archsim")) / version / kernel_hash()


def can_hold_kernels(folder: Path) -> bool:
    """Return whether `folder` can be written, and make it if there is none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder()))
# Numba would look for another folder, beside the sources too, and refuse to compile where it finds none.
CACHED = can_hold_kernels(Path(os.environ["NUMBA_CACHE_DIR"]))


def compiled_before() -> bool:
    """Return whether the compile cache in force holds any kernel; the first run of a machine takes half a minute."""
    return any(Path(os.environ["NUMBA_CACHE_DIR"]).rglob("*.nbi"))


import numba  # noqa: E402  (reads NUMBA_CACHE_DIR when imported)


@overload
def njit(function: F, /) -> F: ...


@overload
def njit(*, inline: Inline = "never", counted: bool = True) -> Callable[[F], F]: ...


def njit(function: Any = None, /, *, inline: Inline = "never", counted: bool = True) -> Any:
    """Compile a kernel: no Python objects, no GIL while it runs (image blocks may run in threads), no `fastmath`.

    A kernel calls only kernels of its own file, or of the `kernel*.py` files beside it if it is in one, and writes
    into arrays its caller made. `inline="always"` is for short steps of an inner loop: every array handed to a call
    costs two atomic reference counts, about 12 ns. `counted=False` leaves them out, inlined ones too (the loop of many
    small steps of `memory/dram` ran 20 times as fast): for kernels that make neither arrays nor views; all that call
    each other say the same.
    """
    options: dict[str, Any] = {"cache": CACHED, "inline": inline, "nogil": True, "_nrt": counted}

    def wrap(kernel: Callable[..., Any]) -> Any:
        config: Any = numba.config
        folder = config.CACHE_DIR
        config.CACHE_DIR = os.path.join(folder, siblings_hash(Path(kernel.__code__.co_filename)))
        try:
            return numba.njit(**options)(kernel)
        finally:
            config.CACHE_DIR = folder

    return wrap if function is None else wrap(function)
