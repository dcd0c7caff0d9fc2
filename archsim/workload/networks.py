"""The one entry for networks: by name or file, whatever the format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from archsim import assets
from archsim.errors import AssetError, WorkloadError, did_you_mean
from archsim.workload.graph import Network
from archsim.workload.image_kernel import is_image_kernel, load_image_kernel
from archsim.workload.onnx_import import import_onnx
from archsim.workload.scalesim import load_topology
from archsim.workload.shapes import load_shapes

_SHAPE_ONLY: dict[str, Callable[[Path], Network]] = {
    ".csv": load_topology,
    ".yaml": load_shapes,
    ".yml": load_shapes,
}
SUFFIXES = (".onnx", *sorted(_SHAPE_ONLY))


def load_network(name: str, beside: Path | None = None, *, fold_input_norm: bool = False) -> Network:
    """Return the network called `name`: an ONNX file, a YAML with shapes or an image kernel, a SCALE-Sim CSV, or a
    shipped name.

    `beside` is the folder of the file that names the network. `fold_input_norm` folds the normalisation of the input
    into the first convolution, which then reads raw pixels.
    Raises: AssetError if nothing is found; WorkloadError with file, node or line, rule, value, allowed values.
    """
    path = _find(name, beside)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return import_onnx(path, fold_input=fold_input_norm)
    if suffix not in _SHAPE_ONLY:
        raise WorkloadError(f"{path.name}: a network file must end in {', '.join(SUFFIXES)}, got {suffix!r}")
    if fold_input_norm:
        raise WorkloadError(f"{path.name}: fold_input_norm needs trained weights, this network is shape-only")
    if suffix != ".csv" and is_image_kernel(path):
        return load_image_kernel(path)
    return _SHAPE_ONLY[suffix](path)


def _find(name: str, beside: Path | None) -> Path:
    """Return the file of `name`; a bare name is an ONNX file or a shipped shape list, never a study of that name."""
    if Path(name).suffix.lower() in SUFFIXES:
        return assets.find(name, beside)
    for candidate in (f"{name}.onnx", f"networks/{name}.yaml", f"image/{name}.yaml", f"{name}.csv", name):
        try:
            return assets.find(candidate, beside)
        except AssetError:
            continue
    raise AssetError(f"network not found: {name!r}{did_you_mean(name, shipped_networks())}; or name a file")


def shipped_networks() -> list[str]:
    """Return the bare names that work without a file of one's own: shipped networks and those in the data folder."""
    root = assets.shipped_root() / "workloads"
    folders = [root / "networks", root / "image", root / "trained", assets.data_folder()]
    found = {path.stem for folder in folders if folder for path in folder.glob("*") if path.suffix in SUFFIXES}
    return sorted(found)
