"""The official idx files of MNIST, Keras' archive, and which of them is read."""

import gzip
import os
import struct

import numpy as np
import pytest

from sklearn_ckm.datasets import _mnist, load_mnist

COUNTS = {"train": (3, 2, 1, 2, 1, 2, 1, 1, 2, 1), "test": (1, 1, 2, 1, 1, 1, 1, 1, 1, 2)}
PREFIXES = {"train": "train", "test": "t10k"}


@pytest.fixture(autouse=True)
def small_counts(request, monkeypatch):
    if "slow" not in request.keywords:
        monkeypatch.setattr(_mnist, "_COUNTS", COUNTS)


def make_digits(part, seed=0):
    rng = np.random.default_rng([seed, len(part)])
    y = rng.permutation(np.repeat(np.arange(10), COUNTS[part])).astype(np.uint8)
    return rng.integers(256, size=(len(y), 28, 28), dtype=np.uint8), y


def idx_bytes(array):
    """By the format's own description, byte by byte."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_idx(folder, *, seed=0, dot=False, compress=False, parts=("train", "test")):
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        for kind, array in zip(("images", "labels"), make_digits(part, seed), strict=True):
            separator = "." if dot else "-"
            name = f"{PREFIXES[part]}-{kind}{separator}idx{array.ndim}-ubyte"
            content = idx_bytes(array)
            if compress:
                name, content = f"{name}.gz", gzip.compress(content)
            (folder / name).write_bytes(content)


def write_keras(folder, seed=0):
    arrays = {}
    for part in COUNTS:
        arrays[f"x_{part}"], arrays[f"y_{part}"] = make_digits(part, seed)
    np.savez(folder / "mnist.npz", **arrays)


def write_npz(folder, seed=0, parts=("train", "test")):
    for part in parts:
        X, y = make_digits(part, seed)
        np.savez(folder / f"mnist_{part}.npz", X=X, y=y)


def assert_reads(folder, seed=0, parts=("train", "test")):
    for part in parts:
        X_file, y_file = make_digits(part, seed)
        X, y = load_mnist(folder, subset=part)
        assert X.dtype == np.uint8 and y.dtype == np.int64
        assert X.flags["C_CONTIGUOUS"] and X.flags["WRITEABLE"]
        np.testing.assert_array_equal(X, X_file[:, np.newaxis])
        np.testing.assert_array_equal(y, y_file)


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("dot", [False, True], ids=["dash", "dot"])
@pytest.mark.parametrize("subfolder", [".", "MNIST/raw"])
def test_idx_files_in_every_spelling(tmp_path, subfolder, dot, compress):
    write_idx(tmp_path / subfolder, dot=dot, compress=compress)
    assert_reads(tmp_path)


def test_keras_archive(tmp_path):
    write_keras(tmp_path)
    assert_reads(tmp_path)


def test_spellings_may_be_mixed(tmp_path):
    write_idx(tmp_path, compress=True)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(idx_bytes(make_digits("train")[1]))
    assert_reads(tmp_path)


def test_reading_order(tmp_path):
    # The later in the order, the earlier written: each newcomer takes over.
    writers = [
        lambda seed: write_keras(tmp_path, seed),
        lambda seed: write_idx(tmp_path / "MNIST/raw", seed=seed),
        lambda seed: write_idx(tmp_path, seed=seed, dot=True, compress=True),
        lambda seed: write_idx(tmp_path, seed=seed, dot=True),
        lambda seed: write_idx(tmp_path, seed=seed, compress=True),
        lambda seed: write_idx(tmp_path, seed=seed),
        lambda seed: write_npz(tmp_path, seed),
    ]
    for seed, write in enumerate(writers):
        write(seed)
        assert_reads(tmp_path, seed)


def test_splits_may_have_different_layouts(tmp_path):
    write_npz(tmp_path, seed=1, parts=["train"])
    write_idx(tmp_path, seed=2, parts=["test"])
    assert_reads(tmp_path, 1, ["train"])
    assert_reads(tmp_path, 2, ["test"])


def test_images_without_labels_are_passed_over(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"train-labels-idx1-ubyte.*found none of these com"
    ):
        load_mnist(tmp_path)
    write_keras(tmp_path, seed=3)
    assert_reads(tmp_path, 3, ["train"])


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", r"Expected the magic number b'\\x00\\x00\\x08\\x03' .* got b''"),
        (
            idx_bytes(np.zeros(18, np.uint8)),
            r"train-images-idx3-ubyte, got b'\\x00\\x00\\x08\\x01'",
        ),
        (gzip.compress(b"00000000"), "use the published idx file, and name it .gz"),
        (bytes([0, 0, 8, 3]), r"Expected 16 bytes in .* for its sizes \(0, 0, 0\), got 4"),
        (idx_bytes(make_digits("train")[0])[:-1], r"Expected 12560 bytes .* got 12559; the file"),
        (idx_bytes(make_digits("train")[0]) + b"0", r"Expected 12560 bytes .* got 12561; the file"),
        (idx_bytes(make_digits("train")[0][1:]), r"Expected X as uint8 of shape \(16, 28, 28\)"),
    ],
    ids=["empty", "labels", "gzip", "header", "short", "long", "incomplete"],
)
def test_wrong_idx_file_raises(tmp_path, content, message):
    write_idx(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_mnist(tmp_path)


@pytest.mark.parametrize("cut", [lambda content: content[:-20], lambda content: b"not gzip"])
def test_damaged_compressed_file_raises(tmp_path, cut):
    write_idx(tmp_path, compress=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(ValueError, match=f"in {path.name}, got a damaged or foreign file"):
        load_mnist(tmp_path)


def test_other_digit_counts_raise(tmp_path):
    write_idx(tmp_path)
    y = make_digits("train")[1]
    y[np.flatnonzero(y == 0)[0]] = 1
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(y))
    message = r"rows of the digits 0 to 9 in train-images-idx3-ubyte and train-labels.* got \(2, 3"
    with pytest.raises(ValueError, match=message):
        load_mnist(tmp_path)


def test_keras_archive_without_an_array_raises(tmp_path):
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros(1))
    with pytest.raises(ValueError, match=r"in mnist.npz, got \['x_train'\]; .* \['y_train'\] as"):
        load_mnist(tmp_path)


@pytest.mark.slow
def test_published_rows_survive_the_idx_format(tmp_path):
    folder = os.environ.get("SKLEARN_CKM_DATA")
    if not folder:
        pytest.skip("set SKLEARN_CKM_DATA to a folder with the MNIST files to run this")
    X, y = load_mnist(folder, subset="test")
    for kind, array in (("images-idx3", X[:, 0]), ("labels-idx1", y.astype(np.uint8))):
        (tmp_path / f"t10k-{kind}-ubyte").write_bytes(idx_bytes(array))
    X_idx, y_idx = load_mnist(tmp_path, subset="test")
    np.testing.assert_array_equal(X_idx, X)
    np.testing.assert_array_equal(y_idx, y)
