"""Data sets: by name (digits, scenes, mnist, cifar10) or any `.npz` with `images` and optional `labels` and `names`.

`digits` is scikit-learn's set of 1797 images of 8x8 pixels with values 0..16; it has no official split, so every image
whose index is a multiple of 3 is a test image (599) and the others are for training (1198). `scenes` are made up, grey
and without labels: what image kernels are tried on where there are no photographs.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from archsim import assets
from archsim.errors import MissingExtraError, WorkloadError, did_you_mean
from archsim.workload.fetch import FETCHABLE, fetch, fetched_file
from archsim.workload.npz import Header, headers, open_npz, read_rows
from archsim.workload.pictures import SCENE_HEIGHT, SCENE_WIDTH, scenes

__all__ = ["DataSet", "Found", "discover", "fetch", "load_data"]

Array = npt.NDArray[Any]
Split = Literal["train", "test"]
DIGITS_TEST_EVERY = 3
MOST_SCENES = 1000


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images (N, H, W), (N, H, W, C) or (N, C, H, W) with raw pixel values; labels int64 (N,) or None; file names."""

    images: Array
    labels: Array | None
    names: tuple[str, ...]
    source: str


def load_data(
    name: str | None = None,
    file: str | None = None,
    split: Split = "test",
    images: int | None = None,
    first: int = 0,
    beside: Path | None = None,
    need_labels: bool = False,
) -> DataSet:
    """Return `images` images (None: all the rest) from index `first` on, of a named set or of an `.npz` file.

    Raises: WorkloadError naming file, array and numbers; MissingExtraError without scikit-learn; AssetError.
    """
    if (name is None) == (file is None):
        raise WorkloadError(f"data needs either a name or a file; got name={name!r}, file={file!r}")
    if file is not None:
        return _load_npz(assets.find(file, beside), images, first, need_labels)
    if name == "digits":
        return _load_digits(split, images, first)
    if name == "scenes":
        return _make_scenes(split, images, first)
    if name not in FETCHABLE:
        raise WorkloadError(f"unknown data set {name!r}{did_you_mean(str(name), ('digits', 'scenes', *FETCHABLE))}")
    path = fetched_file(str(name), split)
    if not path.is_file():
        raise WorkloadError(f"data set {name!r} is not on this machine; download it with: archsim data fetch {name}")
    return _load_npz(path, images, first, need_labels)


def _load_digits(split: Split, images: int | None, first: int) -> DataSet:
    """Return images of scikit-learn's digits, uint8 (N, 8, 8)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "data") from error
    digits = load_digits()
    is_test = np.arange(len(digits.target)) % DIGITS_TEST_EVERY == 0
    chosen = np.flatnonzero(is_test if split == "test" else ~is_test)
    chosen = chosen[_window(f"digits ({split})", len(chosen), images, first)]
    pixels = digits.images[chosen].astype(np.uint8)
    names = tuple(f"digit_{index:04d}" for index in chosen)
    return DataSet(pixels, digits.target[chosen].astype(np.int64), names, f"digits ({split})")


def _make_scenes(split: Split, images: int | None, first: int) -> DataSet:
    """Return made-up grey scenes, uint8 (N, 120, 160); there is no end of them."""
    window = _window(f"scenes ({split})", MOST_SCENES, images, first)
    names = tuple(f"scene_{index:04d}" for index in range(window.start, window.stop))
    return DataSet(scenes(split, first, len(names)), None, names, f"scenes ({split})")


def _window(source: str, available: int, images: int | None, first: int) -> slice:
    """Return the slice of images asked for. Raises: WorkloadError if the data set does not hold it."""
    count = available - first if images is None else images
    if first < 0 or count < 1 or first + count > available:
        asked = f"{count} images from index {first}"
        raise WorkloadError(f"{source}: images must lie within 0 .. {available - 1}; asked for {asked}")
    return slice(first, first + count)


def _load_npz(path: Path, images: int | None, first: int, need_labels: bool) -> DataSet:
    """Return rows of an `.npz` file after checking its arrays."""
    with open_npz(path) as archive:
        known = headers(archive)
        _check_arrays(path.name, known, need_labels)
        window = _window(path.name, known["images"].shape[0], images, first)
        count = window.stop - window.start
        rows = {name: read_rows(archive, name, first, count) for name in ("images", "labels", "names") if name in known}
    if rows["images"].dtype.kind == "f" and not np.isfinite(rows["images"]).all():
        raise WorkloadError(f"{path.name}: images must be finite numbers; found nan or infinity")
    labels = rows["labels"].astype(np.int64) if "labels" in rows else None
    if labels is not None and labels.min() < 0:
        raise WorkloadError(f"{path.name}: labels must be class indices from 0; got {labels.min()}")
    names = tuple(str(one) for one in rows.get("names", range(first, first + count)))
    return DataSet(rows["images"], labels, names, path.name)


def _check_arrays(file: str, known: dict[str, Header], need_labels: bool) -> None:
    """Check presence, number types and lengths of the arrays. Raises: WorkloadError."""
    for name in ("images", "labels") if need_labels else ("images",):
        if name not in known:
            why = " (accuracy needs them)" if name == "labels" else ""
            raise WorkloadError(f"{file}: no array {name!r}{why}; it holds: {', '.join(sorted(known)) or 'nothing'}")
    images = known["images"]
    if len(images.shape) not in (3, 4) or images.dtype.kind not in "uif":
        allowed = "(N, H, W), (N, H, W, C) or (N, C, H, W) numbers"
        raise WorkloadError(f"{file}: images must be {allowed}; got {images.dtype} {images.shape}")
    for name in ("labels", "names"):
        if name in known and known[name].shape != images.shape[:1]:
            raise WorkloadError(f"{file}: {name} {known[name].shape} must be one per image {images.shape}")
    if "labels" in known and known["labels"].dtype.kind not in "ui":
        raise WorkloadError(f"{file}: labels must be integers; got {known['labels'].dtype}")


class Found(NamedTuple):
    """One line of `archsim data`: `kind` is 'data set' or 'network', `shape` that of one image as stored or taken."""

    name: str
    kind: str
    where: str
    images: int | None
    shape: tuple[int, ...]


def discover(beside: Path | None = None) -> list[Found]:
    """Return the data sets and networks a study could name here, and where they are; broken files are left out."""
    found = [*_found_digits(), *_found_scenes(), *_found_fetched()]
    for folder in dict.fromkeys(path.resolve() for path in assets.search_folders(beside) if path.is_dir()):
        found += [one for path in sorted(folder.glob("*.npz")) if (one := _found_npz(path, path.name))]
        networks = sorted(path for pattern in _network_patterns(folder) for path in folder.glob(pattern))
        found += [one for path in networks if (one := _found_network(path))]
    return found


def _network_patterns(folder: Path) -> tuple[str, ...]:
    """Only the shipped folder of shape lists holds nothing but networks; elsewhere a YAML file may be anything."""
    return ("*.onnx", "*.yaml", "*.csv") if folder.name == "networks" else ("*.onnx",)


def _found_digits() -> list[Found]:
    if importlib.util.find_spec("sklearn") is None:
        return []
    splits: tuple[Split, ...] = ("test", "train")
    return [
        Found(f"digits ({split})", "data set", "scikit-learn", len(load_data("digits", split=split).images), (8, 8))
        for split in splits
    ]


def _found_scenes() -> list[Found]:
    return [
        Found(f"scenes ({split})", "data set", "made up", MOST_SCENES, (SCENE_HEIGHT, SCENE_WIDTH))
        for split in ("test", "train")
    ]


def _found_fetched() -> list[Found]:
    files = {f"{name} ({split})": fetched_file(name, split) for name in FETCHABLE for split in ("test", "train")}
    return [one for name, path in files.items() if path.is_file() and (one := _found_npz(path, name))]


def _found_npz(path: Path, name: str) -> Found | None:
    try:
        with open_npz(path) as archive:
            known = headers(archive)
            _check_arrays(path.name, known, need_labels=False)
    except WorkloadError:
        return None
    count, *shape = known["images"].shape
    return Found(name, "data set", str(path.parent), count, tuple(shape))


def _found_network(path: Path) -> Found | None:
    from archsim.workload.networks import load_network

    try:
        network = load_network(str(path))
    except WorkloadError:
        return None
    return Found(path.name, "network", str(path.parent), None, network.shapes[network.input])
