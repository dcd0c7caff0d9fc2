"""Downloading MNIST and CIFAR-10 once, checked against published MD5 sums, into the user's data folder as `.npz`."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.errors import ArchsimError, MissingExtraError, WorkloadError, did_you_mean

Array = npt.NDArray[Any]


class Remote(NamedTuple):
    """One file to download: its address and MD5 sum."""

    url: str
    md5: str


_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FETCHABLE: Mapping[str, tuple[Remote, ...]] = {
    "mnist": (
        Remote(_MNIST + "train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        Remote(_MNIST + "train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        Remote(_MNIST + "t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        Remote(_MNIST + "t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
    "cifar10": (Remote("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),),
}
"""Source of the sums: torchvision.datasets.MNIST.resources and CIFAR10.tgz_md5."""


def user_data_folder() -> Path:
    """Return the folder fetched data sets are kept in."""
    import platformdirs

    return Path(platformdirs.user_data_dir("archsim"))


def fetched_file(name: str, split: str) -> Path:
    """Return where a fetched data set is kept, whether it is there or not."""
    return user_data_folder() / f"{name}_{split}.npz"


def fetch(name: str) -> Path:
    """Download a data set, convert it, and return the folder it is kept in; a second call downloads nothing.

    Raises: WorkloadError for an unknown name; MissingExtraError without pooch; ArchsimError if the download fails.
    """
    if name not in FETCHABLE:
        raise WorkloadError(f"cannot fetch {name!r}{did_you_mean(name, FETCHABLE)}")
    targets = [fetched_file(name, split) for split in ("train", "test")]
    if not all(path.is_file() for path in targets):
        with tempfile.TemporaryDirectory() as folder:
            files = [_download(remote, Path(folder)) for remote in FETCHABLE[name]]
            convert = convert_mnist if name == "mnist" else convert_cifar10
            for path, arrays in zip(targets, convert(files), strict=True):
                _write_whole(path, arrays)
    return user_data_folder()


def _download(remote: Remote, folder: Path) -> Path:
    """Download one file into `folder` and check its sum."""
    try:
        import pooch
    except ImportError as error:
        raise MissingExtraError("pooch", "data") from error
    pooch.get_logger().setLevel("ERROR")  # its INFO lines would mix with the progress lines of the command line
    try:
        return Path(pooch.retrieve(remote.url, known_hash=f"md5:{remote.md5}", path=folder))
    except OSError as error:  # requests' errors are OSErrors; their texts are half a page
        reason = type(error).__name__
        raise ArchsimError(f"could not download {remote.url}: {reason}; is this machine online?") from error
    except ValueError as error:
        raise ArchsimError(f"{remote.url} does not have the MD5 sum {remote.md5}; try again later") from error


def _write_whole(path: Path, arrays: dict[str, Any]) -> None:
    """Write an `.npz` so that a killed run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    with partial.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    partial.replace(path)


def convert_mnist(files: list[Path]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Turn the four IDX files into (train, test): images uint8 (N, 28, 28), labels uint8 (N,)."""
    images, labels, test_images, test_labels = (read_idx(path) for path in files)
    return {"images": images, "labels": labels}, {"images": test_images, "labels": test_labels}


def read_idx(path: Path) -> Array:
    """Read a gzipped IDX file of bytes: two zeros, type 8, number of axes, big-endian sizes, then the values.

    Source: the format's description at http://yann.lecun.com/exdb/mnist/.
    Raises: WorkloadError if header and length do not agree.
    """
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\0\0\x08":
        raise WorkloadError(f"{path.name}: not an IDX file of unsigned bytes (starts with {raw[:4]!r})")
    axes = raw[3]
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", count=axes, offset=4))
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * axes)
    if values.size != np.prod(shape):
        raise WorkloadError(f"{path.name}: header says {shape}, but {values.size} values follow")
    return values.reshape(shape)


def convert_cifar10(files: list[Path]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Turn the Python tarball into (train, test): images uint8 (N, 32, 32, 3), labels uint8 (N,)."""
    with tarfile.open(files[0]) as tar:
        batches = {Path(m.name).name: _batch(tar, m) for m in tar.getmembers() if "_batch" in m.name}
    train = [batches[name] for name in sorted(batches) if name.startswith("data_batch")]
    merged = {key: np.concatenate([one[key] for one in train]) for key in ("images", "labels")}
    return merged, batches["test_batch"]


def _batch(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Array]:
    """Read one pickled batch: rows of 3072 bytes, red then green then blue plane."""
    stream = tar.extractfile(member)
    assert stream is not None
    content = _PlainUnpickler(io.BytesIO(stream.read()), encoding="bytes").load()
    images = np.asarray(content[b"data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return {"images": np.ascontiguousarray(images), "labels": np.asarray(content[b"labels"], np.uint8)}


_PLAIN = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _PlainUnpickler(pickle.Unpickler):
    """Loads arrays and plain Python data only: a pickle can otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        current = module.replace("numpy.core", "numpy._core")  # the batches were written by a NumPy of 2009
        if (current, name) in _PLAIN:
            return super().find_class(current, name)
        raise WorkloadError(f"the batch file asks for {module}.{name}, which a CIFAR-10 batch does not need")
