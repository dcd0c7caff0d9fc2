"""Data sets: the digits split, `.npz` files read by row, discovery, and fetching from a server of our own."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import pickle
import sys
import tarfile
import threading

import numpy as np
import pytest

from archsim import assets
from archsim.errors import ArchsimError, AssetError, MissingExtraError, WorkloadError
from archsim.workload import fetch as fetching
from archsim.workload.datasets import discover, fetch, load_data
from archsim.workload.fetch import Remote, convert_cifar10, fetched_file, read_idx
from archsim.workload.npz import open_npz, read_rows


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """No test sees or changes what the user has fetched."""
    monkeypatch.setattr(fetching, "user_data_folder", lambda: tmp_path / "user")
    return tmp_path


def write(folder, name="set.npz", compressed=True, **arrays):
    (np.savez_compressed if compressed else np.savez)(folder / name, **arrays)
    return {"file": name, "beside": folder}


def sample(count=10, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 5, 4, 3), np.uint8)
    return {"images": images, "labels": rng.integers(0, 7, count, np.uint8)}


# digits --------------------------------------------------------------------------------------------------------------
def test_the_digits_split_is_fixed_and_complete():
    from sklearn.datasets import load_digits

    digits, train, test = load_digits(), load_data("digits", split="train"), load_data("digits", split="test")
    assert (train.images.shape, test.images.shape) == ((1198, 8, 8), (599, 8, 8))
    assert test.images.dtype == np.uint8
    np.testing.assert_array_equal(test.images, digits.images[::3])
    np.testing.assert_array_equal(test.labels, digits.target[::3])
    assert not set(train.names) & set(test.names)
    assert len({*train.names, *test.names}) == len(digits.target)
    assert train.images.max() == 16


def test_a_window_of_the_digits():
    test = load_data("digits")
    part = load_data("digits", images=5, first=590)
    np.testing.assert_array_equal(part.images, test.images[590:595])
    np.testing.assert_array_equal(part.labels, test.labels[590:595])
    with pytest.raises(WorkloadError, match=r"digits \(test\): .*0 \.\. 598; asked for 10 images from index 590"):
        load_data("digits", images=10, first=590)


def test_without_scikit_learn_the_line_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"scikit-learn is not installed.*pip install 'archsim\[data\]'"):
        load_data("digits")


# .npz files ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(("images", "first"), [(3, 0), (4, 6), (None, 2)])
def test_a_window_of_a_file(tmp_path, compressed, images, first):
    arrays, names = sample(), np.array([f"img{i}.png" for i in range(10)])
    data = load_data(images=images, first=first, **write(tmp_path, compressed=compressed, names=names, **arrays))
    part = slice(first, None if images is None else first + images)
    np.testing.assert_array_equal(data.images, arrays["images"][part])
    assert data.labels.tolist() == arrays["labels"][part].tolist()
    assert data.labels.dtype == np.int64
    assert data.names == tuple(names[part])
    assert data.source == "set.npz"


def test_only_the_rows_asked_for_are_decompressed(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (2000, 32, 32), np.uint8)
    read = []
    plain = fetching.np.frombuffer
    monkeypatch.setattr(np, "frombuffer", lambda raw, *a, **k: read.append(len(raw)) or plain(raw, *a, **k))
    data = load_data(images=2, first=1000, **write(tmp_path, images=images))
    np.testing.assert_array_equal(data.images, images[1000:1002])
    assert max(read) == 2 * 32 * 32


def test_files_without_labels_or_names_and_in_column_order(tmp_path):
    images = np.asfortranarray(np.random.default_rng(0).normal(size=(6, 3, 4)))
    data = load_data(images=2, first=3, **write(tmp_path, images=images))
    np.testing.assert_array_equal(data.images, images[3:5])
    assert data.labels is None
    assert data.names == ("3", "4")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"images": 11}, r"set\.npz: images must lie within 0 \.\. 9; asked for 11 images from index 0"),
        ({}, {"images": 1, "first": 10}, "0 .. 9; asked for 1 images from index 10"),
        ({}, {"images": 1, "first": -1}, "from index -1"),
        ({}, {"images": 0}, "asked for 0 images"),
        ({"labels": None}, {"need_labels": True}, r"set\.npz: no array 'labels' \(accuracy needs them\).*images"),
        ({"images": None}, {}, r"set\.npz: no array 'images'; it holds: labels"),
        ({"labels": np.zeros(9, np.uint8)}, {}, r"labels \(9,\) must be one per image \(10, 5, 4, 3\)"),
        ({"labels": np.zeros((10, 7), np.uint8)}, {}, r"labels \(10, 7\) must be one per image"),
        ({"labels": np.zeros(10)}, {}, "labels must be integers; got float64"),
        ({"labels": np.full(10, -1)}, {}, "class indices from 0; got -1"),
        ({"images": np.zeros((10, 5))}, {}, r"images must be \(N, H, W\).*got float64 \(10, 5\)"),
        ({"images": np.zeros((10, 2, 2), "U3")}, {}, r"images must be .*got <U3"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, change, options, message):
    arrays = {name: array for name, array in {**sample(), **change}.items() if array is not None}
    with pytest.raises(WorkloadError, match=message):
        load_data(**options, **write(tmp_path, **arrays))


def test_foreign_truncated_and_missing_files(tmp_path):
    (tmp_path / "text.npz").write_text("not a zip file")
    with pytest.raises(WorkloadError, match=r"text\.npz: not a readable \.npz file"):
        load_data(file="text.npz", beside=tmp_path)
    write(tmp_path, **sample())
    whole = (tmp_path / "set.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WorkloadError, match=r"half\.npz: not a readable"):
        load_data(file="half.npz", beside=tmp_path)
    damaged = bytearray(whole)
    damaged[200:260] = bytes(60)
    (tmp_path / "bits.npz").write_bytes(damaged)
    with pytest.raises(WorkloadError, match=r"bits\.npz: not a readable"):
        load_data(file="bits.npz", beside=tmp_path)
    with pytest.raises(AssetError, match=r"file not found: sett\.npz; did you mean 'set\.npz'"):
        load_data(file="sett.npz", beside=tmp_path)


def test_pickled_objects_are_never_loaded(tmp_path):
    write(tmp_path, images=np.array([{}, {}], object))
    with (
        open_npz(tmp_path / "set.npz") as archive,
        pytest.raises(WorkloadError, match="'images' holds pickled objects"),
    ):
        read_rows(archive, "images", 0, 1)


def test_a_name_or_a_file_but_a_known_one():
    with pytest.raises(WorkloadError, match="either a name or a file; got name=None, file=None"):
        load_data()
    with pytest.raises(WorkloadError, match=r"unknown data set 'digit'; did you mean 'digits'\? \(allowed: cifar10, "):
        load_data("digit")
    with pytest.raises(
        WorkloadError, match="'mnist' is not on this machine; download it with: archsim data fetch mnist"
    ):
        load_data("mnist")


# what is there -------------------------------------------------------------------------------------------------------
def test_discovery_lists_sets_and_networks_and_skips_broken_files(tmp_path):
    write(tmp_path, **sample())
    write(tmp_path, "scales.npz", weights=np.zeros(3))
    (tmp_path / "broken.npz").write_text("no")
    (tmp_path / "broken.onnx").write_text("no")
    (tmp_path / "study.yaml").write_text("schema: 1")
    found = {one.name: one for one in discover(tmp_path)}
    assert found["set.npz"][1:] == ("data set", str(tmp_path), 10, (5, 4, 3))
    assert found["digits (test)"].images == 599
    assert found["digits_cnn.onnx"][1::2] == ("network", None)
    assert found["digits_cnn.onnx"].shape == (1, 8, 8)
    assert found["alexnet.yaml"].shape == (3, 227, 227)
    assert not {"scales.npz", "broken.npz", "broken.onnx", "study.yaml"} & found.keys()
    if assets.data_folder():
        assert found["mnist_test_0000_4999.npz"].images == 5000


# fetching ------------------------------------------------------------------------------------------------------------
def idx(values):
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    return gzip.compress(header + values.astype(np.uint8).tobytes())


def mnist_files(seed=0):
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(0, 256, shape) for shape in ((7, 28, 28), (7,), (3, 28, 28), (3,))]
    return arrays, [idx(array) for array in arrays]


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine; returns its folder and its address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "web"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{web.server_port}/"
        web.shutdown()
        thread.join()


def offer(server, monkeypatch, name, contents, md5=None):
    folder, address = server
    remotes = []
    for index, content in enumerate(contents):
        (folder / f"file{index}").write_bytes(content)
        remotes.append(Remote(f"{address}file{index}", md5 or hashlib.md5(content).hexdigest()))
    monkeypatch.setattr(fetching, "FETCHABLE", {name: tuple(remotes)})


def test_mnist_is_fetched_converted_and_then_found_by_name(server, monkeypatch):
    arrays, contents = mnist_files()
    offer(server, monkeypatch, "mnist", contents)
    folder = fetch("mnist")
    assert sorted(path.name for path in folder.iterdir()) == ["mnist_test.npz", "mnist_train.npz"]
    for split, images, labels in (("train", *arrays[:2]), ("test", *arrays[2:])):
        data = load_data("mnist", split=split, need_labels=True)
        np.testing.assert_array_equal(data.images, images)
        np.testing.assert_array_equal(data.labels, labels)
    assert {"mnist (test)", "mnist (train)"} <= {one.name for one in discover()}
    for path in server[0].iterdir():
        path.unlink()
    assert fetch("mnist") == folder  # nothing is downloaded twice


def test_a_wrong_sum_or_no_server_is_one_line_and_leaves_nothing(server, monkeypatch, tmp_path):
    offer(server, monkeypatch, "mnist", mnist_files()[1], md5="0" * 32)
    with pytest.raises(ArchsimError, match=r"file0 does not have the MD5 sum 0{32}") as wrong:
        fetch("mnist")
    monkeypatch.setattr(fetching, "FETCHABLE", {"mnist": (Remote("http://127.0.0.1:9/absent", "0" * 32),) * 4})
    with pytest.raises(
        ArchsimError,
        match=r"could not download http://127\.0\.0\.1:9/absent: ConnectionError; is this machine online\?",
    ) as off:
        fetch("mnist")
    assert "\n" not in str(wrong.value) + str(off.value)
    assert not fetched_file("mnist", "test").exists()
    with pytest.raises(WorkloadError, match=r"cannot fetch 'minst'; did you mean 'mnist'\?"):
        fetch("minst")


def test_an_idx_file_must_keep_what_its_header_says(tmp_path):
    values = np.arange(24).reshape(2, 3, 4)
    (tmp_path / "a.gz").write_bytes(idx(values))
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz"), values)
    (tmp_path / "b.gz").write_bytes(gzip.compress(gzip.decompress(idx(values))[:-1]))
    with pytest.raises(WorkloadError, match=r"b\.gz: header says \(2, 3, 4\), but 23 values follow"):
        read_idx(tmp_path / "b.gz")
    (tmp_path / "c.gz").write_bytes(gzip.compress(b"\0\0\x0d\x01"))
    with pytest.raises(WorkloadError, match=r"c\.gz: not an IDX file"):
        read_idx(tmp_path / "c.gz")


def cifar_tarball(path, batches):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {**batches, "batches.meta": b"?"}.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_cifar10_batches_become_channels_last_images(tmp_path):
    rng = np.random.default_rng(0)
    rows = {f"data_batch_{i}": rng.integers(0, 256, (4, 3072), np.uint8) for i in (2, 1)}
    rows["test_batch"] = rng.integers(0, 256, (2, 3072), np.uint8)
    batches = {
        name: pickle.dumps({b"data": data, b"labels": [int(row[0]) % 10 for row in data]}, protocol=2).replace(
            b"numpy._core",
            b"numpy.core",  # as the published files have it
        )
        for name, data in rows.items()
    }
    train, test = convert_cifar10([cifar_tarball(tmp_path / "c.tar.gz", batches)])
    assert train["images"].shape == (8, 32, 32, 3)
    np.testing.assert_array_equal(train["images"][0, 0, 1], rows["data_batch_1"][0].reshape(3, 32, 32)[:, 0, 1])
    np.testing.assert_array_equal(train["images"][4, 31, 2], rows["data_batch_2"][0].reshape(3, 32, 32)[:, 31, 2])
    assert test["labels"].tolist() == [int(row[0]) % 10 for row in rows["test_batch"]]


def test_a_batch_that_wants_to_run_code_is_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return print, ("run",)

    path = cifar_tarball(tmp_path / "c.tar.gz", {"test_batch": pickle.dumps(Attack())})
    with pytest.raises(WorkloadError, match=r"asks for builtins\.print"):
        convert_cifar10([path])
