"""Finding files a study names: next to the study, here, in the shipped assets, in `$ARCHSIM_DATA`."""

from __future__ import annotations

import os
from pathlib import Path

from archsim.errors import AssetError, did_you_mean

_ROOT = Path(__file__).resolve().parent
_SHIPPED = ("configs", "workloads/networks", "workloads/image", "workloads/trained", "workloads", "rtl")


def shipped_root() -> Path:
    """Return the folder that holds `configs/`, `workloads/` and `rtl/`: the wheel's assets or the checkout."""
    installed = _ROOT / "_assets"
    return installed if installed.is_dir() else _ROOT.parent


def data_folder() -> Path | None:
    """Return the folder of external data: `$ARCHSIM_DATA`, else `../shared/data` beside the checkout, else None."""
    named = os.environ.get("ARCHSIM_DATA")
    folder = Path(named) if named else shipped_root().parent / "shared" / "data"
    return folder if folder.is_dir() else None


def search_folders(beside: Path | None = None) -> list[Path]:
    """Return the folders `find` looks in, in order; `beside` is the folder of the file that names the asset."""
    root = shipped_root()
    folders = [beside] if beside else []
    folders += [Path.cwd(), *(root / name for name in _SHIPPED)]
    data = data_folder()
    return [*folders, data] if data else folders


def find(name: str, beside: Path | None = None) -> Path:
    """Return the first file called `name` in `search_folders(beside)`.

    Raises: AssetError naming the file, the folders searched and the nearest existing name.
    """
    path = Path(name).expanduser()
    if path.is_absolute():
        if is_file(path):
            return path
        raise AssetError(f"file not found: {name}")
    folders = search_folders(beside)
    for folder in folders:
        if is_file(folder / path):
            return folder / path
    known = {p.name for folder in folders for p in _listed(folder) if p.suffix == path.suffix and is_file(p)}
    hint = did_you_mean(name, known) if known else ""
    looked = ", ".join(_short(folder) for folder in folders)
    raise AssetError(f"file not found: {name}{hint}; looked in: {looked}")


def is_file(path: Path) -> bool:
    """Return True for a file; a name too long for one, or a folder that may not be entered, is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _listed(folder: Path) -> list[Path]:
    """Return what lies in a folder; nothing if it is none or may not be read."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _short(folder: Path) -> str:
    """Return the folder relative to the current one where that is shorter."""
    relative = os.path.relpath(folder)
    return relative if len(relative) < len(str(folder)) else str(folder)
