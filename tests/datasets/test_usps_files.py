"""LIBSVM's files of USPS, and which file is read."""

import bz2
import os
import re

import numpy as np
import pytest

from sklearn_ckm.datasets import _usps, load_usps

COUNTS = {"train": (3, 2, 1, 2, 1, 2, 1, 1, 2, 1), "test": (1, 1, 2, 1, 1, 1, 1, 1, 1, 2)}
NAMES = {"train": "usps", "test": "usps.t"}


@pytest.fixture(autouse=True)
def small_counts(request, monkeypatch):
    if "slow" not in request.keywords:
        monkeypatch.setattr(_usps, "_COUNTS", COUNTS)


def make_digits(part, seed=0):
    rng = np.random.default_rng([seed, len(part)])
    y = rng.permutation(np.repeat(np.arange(10), COUNTS[part])).astype(np.uint8)
    return rng.integers(256, size=(len(y), 16, 16), dtype=np.uint8), y


def libsvm_text(X, y):
    """As published: labels from 1, values from -1 to 1 with three decimals."""
    rows = np.round(X.reshape(len(X), 256) / 127.5 - 1, 3)
    return "".join(
        f"{label + 1} " + " ".join(f"{i}:{value:g}" for i, value in enumerate(row, 1)) + " \n"
        for label, row in zip(y.tolist(), rows.tolist(), strict=True)
    )


def write_libsvm(folder, *, seed=0, compress=False):
    for part, name in NAMES.items():
        content = libsvm_text(*make_digits(part, seed)).encode()
        if compress:
            name, content = f"{name}.bz2", bz2.compress(content)
        (folder / name).write_bytes(content)


def write_npz(folder, seed):
    (X_train, y_train), (X_test, y_test) = (make_digits(part, seed) for part in COUNTS)
    X, y = np.concatenate([X_train, X_test]), np.concatenate([y_train, y_test])
    np.savez(folder / "usps.npz", X=X, y=y, n_train=len(y_train))


def assert_reads(folder, seed=0):
    for part in COUNTS:
        X_file, y_file = make_digits(part, seed)
        X, y = load_usps(folder, subset=part)
        assert X.dtype == np.uint8 and y.dtype == np.int64 and X.flags["C_CONTIGUOUS"]
        np.testing.assert_array_equal(X, X_file[:, np.newaxis])
        np.testing.assert_array_equal(y, y_file)


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "bz2"])
def test_libsvm_files_are_converted(tmp_path, compress):
    write_libsvm(tmp_path, compress=compress)
    assert_reads(tmp_path)


def test_values_are_rounded_and_may_be_left_out_where_zero(tmp_path, monkeypatch):
    # The first row of the published file begins with these values, of the pixels 8 to 10.
    monkeypatch.setattr(_usps, "_COUNTS", {"train": (0,) * 6 + (1,) + (0,) * 3})
    (tmp_path / "usps").write_text("7 1:-1 8:-0.631 9:0.862 10:-0.167 11:0.9999 256:1\n")
    X, y = load_usps(tmp_path)
    assert y.tolist() == [6]
    assert X[0, 0, 0, [0, 7, 8, 9, 10]].tolist() == [0, 47, 237, 106, 255]
    assert X[0, 0, 15, 15] == 255
    assert X[0, 0, 1, 0] == 128  # 127.5 to the even integer


def test_reading_order(tmp_path):
    # The later in the order, the earlier written: each newcomer takes over.
    writers = [
        lambda seed: write_libsvm(tmp_path, seed=seed, compress=True),
        lambda seed: write_libsvm(tmp_path, seed=seed),
        lambda seed: write_npz(tmp_path, seed),
    ]
    for seed, write in enumerate(writers):
        write(seed)
        assert_reads(tmp_path, seed)


def test_only_the_file_of_the_subset_is_needed(tmp_path):
    write_libsvm(tmp_path)
    (tmp_path / "usps.t").unlink()
    assert len(load_usps(tmp_path)[0]) == sum(COUNTS["train"])
    with pytest.raises(FileNotFoundError, match=r"the test rows of USPS .* usps.t or usps.t.bz2"):
        load_usps(tmp_path, subset="all")


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda text: text.replace(":-0.", ":-2."),
            "from -1 to 1 in usps, got -2.9.* to [01].*; use",
        ),
        (lambda text: text.replace(" 7:", " 7:nan 8:"), "got a damaged or foreign file"),
        (lambda text: text.replace("256:", "257:"), "usps, got a damaged or foreign file"),
        (lambda text: text.replace("10 1:", "11 1:"), r"Expected y as digits .* with 1 other"),
        (lambda text: text.replace("10 1:", "9 1:"), r"rows of the digits 0 to 9 in usps, got"),
        (lambda text: text[: text.rindex("\n", 0, -1) + 1], r"of shape \(16, 16, 16\) in usps, g"),
        (lambda text: "digits", "Expected the published contents in usps, got a damaged or fore"),
    ],
    ids=["range", "order", "pixels", "label", "counts", "incomplete", "foreign"],
)
def test_wrong_libsvm_file_raises(tmp_path, change, message):
    write_libsvm(tmp_path)
    path = tmp_path / "usps"
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=message):
        load_usps(tmp_path)


def test_missing_values_raise(tmp_path):
    write_libsvm(tmp_path)
    path = tmp_path / "usps"
    path.write_text(re.sub(r" 9:\S+", " 9:nan", path.read_text(), count=1))
    with pytest.raises(ValueError, match="values from -1 to 1 in usps, got nan to nan; use the"):
        load_usps(tmp_path)


@pytest.mark.parametrize("cut", [lambda content: content[:-20], lambda content: b"not bz2"])
def test_damaged_compressed_file_raises(tmp_path, cut):
    write_libsvm(tmp_path, compress=True)
    path = tmp_path / "usps.bz2"
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(ValueError, match=r"in usps\.bz2, got a damaged or foreign file"):
        load_usps(tmp_path)


@pytest.mark.slow
def test_published_rows_survive_the_libsvm_format(tmp_path):
    folder = os.environ.get("SKLEARN_CKM_DATA")
    if not folder:
        pytest.skip("set SKLEARN_CKM_DATA to a folder with the USPS files to run this")
    X, y = load_usps(folder, subset="test")
    (tmp_path / "usps.t.bz2").write_bytes(bz2.compress(libsvm_text(X, y).encode()))
    X_libsvm, y_libsvm = load_usps(tmp_path, subset="test")
    np.testing.assert_array_equal(X_libsvm, X)
    np.testing.assert_array_equal(y_libsvm, y)
