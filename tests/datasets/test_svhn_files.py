import os

import numpy as np
import pytest
from scipy.io import savemat

from sklearn_ckm.datasets import _svhn, load_svhn

COUNTS = {"train": (3, 2, 1, 2, 1, 2, 1, 1, 2, 1), "test": (1, 1, 2, 1, 1, 1, 1, 1, 1, 2)}


@pytest.fixture(autouse=True)
def small_counts(request, monkeypatch):
    if "slow" not in request.keywords:
        monkeypatch.setattr(_svhn, "_COUNTS", COUNTS)


def make_arrays(part):
    """As in the file: images last, zero as 10."""
    rng = np.random.default_rng(len(part))
    y = rng.permutation(np.repeat([10, *range(1, 10)], COUNTS[part])).astype(np.uint8)
    X = rng.integers(256, size=(32, 32, 3, len(y)), dtype=np.uint8)
    return {"X": X, "y": y[:, np.newaxis]}


def write_svhn(folder, part="train", **changed):
    path = folder / f"{part}_32x32.mat"
    arrays = {**make_arrays(part), **changed}
    savemat(
        path,
        {name: array for name, array in arrays.items() if array is not None},
        do_compression=True,
    )
    return path


@pytest.mark.parametrize("part", ["train", "test"])
def test_images_come_first_with_channels_and_label_10_is_0(tmp_path, part):
    write_svhn(tmp_path, part)
    arrays = make_arrays(part)
    X, y = load_svhn(tmp_path, subset=part)
    assert X.dtype == np.uint8 and y.dtype == np.int64
    assert X.flags["C_CONTIGUOUS"] and X.shape == (len(y), 3, 32, 32)
    for row, label in enumerate(arrays["y"][:, 0]):
        assert y[row] == (0 if label == 10 else label)
        for channel in range(3):
            np.testing.assert_array_equal(X[row, channel], arrays["X"][:, :, channel, row])


def test_all_is_train_followed_by_test_and_classes_keep_their_order(tmp_path):
    for part in COUNTS:
        write_svhn(tmp_path, part)
    X, y = load_svhn(str(tmp_path), subset="all", classes=[8, 0])
    loaded = [load_svhn(tmp_path, subset=part) for part in ("train", "test")]
    X_all, y_all = (np.concatenate(arrays) for arrays in zip(*loaded, strict=True))
    is_kept = (y_all == 0) | (y_all == 8)
    assert X.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(X, X_all[is_kept])
    np.testing.assert_array_equal(y, y_all[is_kept])


def test_missing_file_names_file_folder_publisher_and_remedy(tmp_path):
    write_svhn(tmp_path)
    message = r"the test rows of SVHN in the folder .*, as test_32x32.mat; .* fetch_digits\('svhn',"
    with pytest.raises(FileNotFoundError, match=message) as error:
        load_svhn(tmp_path, subset="all")
    assert repr(str(tmp_path)) in str(error.value)
    assert "http://ufldl.stanford.edu/housenumbers/" in str(error.value)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"subset": "extra"}, "Expected subset 'train', 'test' or 'all', got 'extra'"),
        ({"classes": (1, 10)}, r"Expected classes as different digits .* got \(1, 10\)"),
    ],
)
def test_invalid_parameters_raise(tmp_path, params, message):
    with pytest.raises(ValueError, match=message):
        load_svhn(tmp_path, **params)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"X": None}, r"Expected the arrays \('X', 'y'\) in train_32x32.mat, got \['y'\]; write"),
        ({"X": np.zeros((16, 3, 32, 32), np.uint8)}, r"\(32, 32, 3, n_samples\) in .* \(16, 3, 32"),
        ({"X": np.zeros((32, 32), np.uint8)}, r"got \(32, 32\); use the published cropped digits"),
        ({"X": np.zeros((32, 32, 3, 16))}, r"uint8 of shape \(16, 3, 32, 32\) .* got float64"),
        ({"X": np.zeros((32, 32, 3, 9), np.uint8)}, r"got uint8 of shape \(9, 3, 32, 32\); use"),
        ({"y": np.full((16, 1), 20)}, "Expected y as digits from 0 to 9 .* with 16 other values"),
        ({"y": np.full((16, 1), 10)}, r"Expected \(3, 2, 1.* rows of .* in train_32.* got \(16, 0"),
    ],
)
def test_wrong_arrays_raise(tmp_path, changed, message):
    write_svhn(tmp_path, **changed)
    with pytest.raises(ValueError, match=message):
        load_svhn(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:100],
        lambda content: content[:-20],
        lambda content: b"a web page" * 100,
        lambda content: b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + content,
    ],
    ids=["empty", "header", "short", "foreign", "hdf5"],
)
def test_damaged_file_raises(tmp_path, damage):
    path = write_svhn(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"in train_32x32\.mat, got a damaged or foreign file"):
        load_svhn(tmp_path)


@pytest.mark.slow
def test_published_files_have_the_published_rows():
    folder = os.environ.get("SKLEARN_CKM_DATA")
    if not folder or not os.path.exists(os.path.join(folder, "train_32x32.mat")):
        pytest.skip("set SKLEARN_CKM_DATA to a folder with the SVHN files to run this")
    assert load_svhn(folder, classes=range(5))[0].shape == (45349, 3, 32, 32)
    assert load_svhn(folder, subset="test")[0].shape == (26032, 3, 32, 32)


def test_published_counts_add_up(monkeypatch):
    monkeypatch.undo()
    assert [sum(_svhn._COUNTS[part]) for part in ("train", "test")] == [73257, 26032]
