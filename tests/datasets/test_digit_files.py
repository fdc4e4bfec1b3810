import os

import numpy as np
import pytest

from sklearn_ckm.datasets import _mnist, _usps, load_mnist, load_usps

COUNTS = {"train": (3, 2, 1, 2, 1, 2, 1, 1, 2, 1), "test": (1, 1, 2, 1, 1, 1, 1, 1, 1, 2)}


def make_digits(part, size):
    rng = np.random.default_rng(len(part))
    y = rng.permutation(np.repeat(np.arange(10), COUNTS[part])).astype(np.uint8)
    return rng.integers(256, size=(len(y), *size), dtype=np.uint8), y


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of small files, which the loaders take for complete ones."""
    monkeypatch.setattr(_mnist, "_COUNTS", COUNTS)
    monkeypatch.setattr(_usps, "_COUNTS", COUNTS)
    for part in COUNTS:
        X, y = make_digits(part, (28, 28))
        np.savez(tmp_path / f"mnist_{part}.npz", X=X, y=y)
    write_usps(tmp_path)
    return tmp_path


def write_usps(folder, **changed):
    (X_train, y_train), (X_test, y_test) = (make_digits(part, (16, 16)) for part in COUNTS)
    arrays = {
        "X": np.concatenate([X_train, X_test]),
        "y": np.concatenate([y_train, y_test]),
        "n_train": len(y_train),
    }
    arrays.update(changed)
    np.savez(folder / "usps.npz", **arrays)


LOADERS = pytest.mark.parametrize(
    "load, size", [(load_mnist, (28, 28)), (load_usps, (16, 16))], ids=["mnist", "usps"]
)


@LOADERS
@pytest.mark.parametrize("part", ["train", "test"])
def test_returns_the_rows_of_the_file(folder, load, size, part):
    X_file, y_file = make_digits(part, size)
    X, y = load(folder, subset=part)
    assert X.dtype == np.uint8 and y.dtype == np.int64
    assert X.shape == (len(y_file), 1, *size)
    np.testing.assert_array_equal(X[:, 0], X_file)
    np.testing.assert_array_equal(y, y_file)


@LOADERS
def test_all_is_train_followed_by_test(folder, load, size):
    X, y = load(str(folder), subset="all", classes=[8, 1])
    (X_train, y_train), (X_test, y_test) = (
        load(folder, subset=part, classes=(1, 8)) for part in ("train", "test")
    )
    np.testing.assert_array_equal(X, np.concatenate([X_train, X_test]))
    np.testing.assert_array_equal(y, np.concatenate([y_train, y_test]))


@LOADERS
def test_classes_keep_their_rows_in_order(folder, load, size):
    X_all, y_all = load(folder)
    X, y = load(folder, classes=np.array([7, 0, 3]))
    rows = [row for row, digit in enumerate(y_all) if digit in (0, 3, 7)]
    np.testing.assert_array_equal(y, y_all[rows])
    np.testing.assert_array_equal(X, X_all[rows])


def test_only_the_file_of_the_subset_is_needed(folder):
    (folder / "mnist_train.npz").unlink()
    X, y = load_mnist(folder, subset="test")
    assert len(X) == len(y) == sum(COUNTS["test"])


@LOADERS
def test_arrays_are_contiguous_and_writeable_copies(folder, load, size):
    X, y = load(folder, subset="all")
    for array in (X, y):
        assert array.flags["C_CONTIGUOUS"] and array.flags["WRITEABLE"] and array.base is None


@pytest.mark.parametrize(
    "load, name, place",
    [(load_mnist, "mnist", "ossci-datasets"), (load_usps, "usps", "libsvmtools")],
)
@pytest.mark.parametrize("part", ["train", "test"])
def test_missing_file_names_data_set_folder_publisher_and_remedy(tmp_path, load, name, place, part):
    message = f"Expected the {part} rows of {name.upper()} in the folder"
    with pytest.raises(FileNotFoundError, match=message) as error:
        load(tmp_path / "nowhere", subset=part)
    assert repr(str(tmp_path / "nowhere")) in str(error.value)
    assert place in str(error.value) and f"fetch_digits('{name}', folder)" in str(error.value)


def test_missing_file_names_the_files_of_every_layout(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        load_mnist(tmp_path, subset="test")
    for name in ("mnist_test.npz", "t10k-images-idx3-ubyte", "t10k-labels-idx1", "mnist.npz"):
        assert name in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"usps.npz, or usps.t or usps.t.bz2; found none"):
        load_usps(tmp_path, subset="test")


@LOADERS
@pytest.mark.parametrize(
    "params, message",
    [
        ({"subset": "valid"}, "Expected subset 'train', 'test' or 'all', got 'valid'"),
        ({"subset": None}, "Expected subset 'train', 'test' or 'all', got None"),
        ({"classes": ()}, r"Expected classes as different digits .* got \(\)"),
        ({"classes": 3}, "Expected classes as different digits .* got 3"),
        ({"classes": (1, 1)}, r"Expected classes as different digits .* got \(1, 1\)"),
        ({"classes": (1, 10)}, r"digits from 0 to 9, at least one, got \(1, 10\)"),
        ({"classes": (True,)}, r"digits from 0 to 9, at least one, got \(True,\)"),
        ({"classes": (0.5,)}, r"digits from 0 to 9, at least one, got \(0.5,\)"),
    ],
)
def test_invalid_parameters_raise(folder, load, size, params, message):
    with pytest.raises(ValueError, match=message):
        load(folder, **params)


def test_incomplete_file_raises(tmp_path):
    X, y = make_digits("train", (28, 28))
    np.savez(tmp_path / "mnist_train.npz", X=X, y=y)
    with pytest.raises(ValueError, match=r"\(60000, 28, 28\) in mnist_train.npz, got uint8 of sha"):
        load_mnist(tmp_path)
    write_usps(tmp_path)
    with pytest.raises(ValueError, match=r"Expected n_train 7291 in usps.npz, got 16; rebuild"):
        load_usps(tmp_path)


def test_other_digit_counts_raise(folder):
    X, y = make_digits("train", (28, 28))
    y[np.flatnonzero(y == 0)[0]] = 1
    np.savez(folder / "mnist_train.npz", X=X, y=y)
    with pytest.raises(ValueError, match=r"Expected \(3, 2, 1.* rows of .* got \(2, 3, 1"):
        load_mnist(folder)


def test_usps_with_split_rows_exchanged_raises(folder):
    (X_train, y_train), (X_test, y_test) = (make_digits(part, (16, 16)) for part in COUNTS)
    y = np.concatenate([y_test, y_train])
    write_usps(folder, X=np.concatenate([X_test, X_train]), y=y)
    with pytest.raises(ValueError, match="rows of the digits 0 to 9 in the train rows of usps"):
        load_usps(folder)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"X": np.zeros((28, 16, 16))}, "Expected X as uint8 of .* in usps.npz, got float64"),
        ({"X": np.zeros((28, 256), np.uint8)}, r"\(28, 16, 16\) in usps.npz, got .* \(28, 256\)"),
        ({"y": np.full(28, 10)}, r"Expected y as digits .* got shape \(28,\) with 28 other"),
        ({"y": np.arange(10)}, r"of shape \(28,\) in usps.npz, got shape \(10,\) with 0 other"),
        ({"n_train": [16, 12]}, r"Expected n_train 16 in usps.npz, got \[16, 12\]"),
    ],
)
def test_wrong_arrays_raise(folder, changed, message):
    write_usps(folder, **changed)
    with pytest.raises(ValueError, match=message):
        load_usps(folder)


def test_missing_array_raises(folder):
    np.savez(folder / "usps.npz", X=np.zeros(1), labels=np.zeros(1))
    with pytest.raises(ValueError, match=r"got \['X', 'labels'\]; write .* \['y', 'n_train'\]"):
        load_usps(folder)


def test_single_array_raises(folder):
    with open(folder / "usps.npz", "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"Expected an archive of the arrays .* a single array"):
        load_usps(folder)


@LOADERS
def test_damaged_archive_raises(folder, load, size):
    path = folder / ("usps.npz" if load is load_usps else "mnist_train.npz")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=f"in {path.name}, got a damaged or foreign file"):
        load(folder)


def test_unreadable_file_raises_the_error_of_the_operating_system(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(PermissionError, match="Permission denied"):
        load_usps(folder)


@pytest.mark.slow
def test_published_files_have_the_published_rows():
    folder = os.environ.get("SKLEARN_CKM_DATA")
    if not folder:
        pytest.skip("set SKLEARN_CKM_DATA to a folder with the MNIST and USPS files to run this")
    assert load_mnist(folder, classes=range(5, 10))[0].shape == (29404, 1, 28, 28)
    assert load_mnist(folder, classes=range(5, 10), subset="test")[0].shape == (4861, 1, 28, 28)
    assert load_mnist(folder, subset="all")[0].shape == (70000, 1, 28, 28)
    assert load_usps(folder, classes=range(5))[0].shape == (4240, 1, 16, 16)
    assert load_usps(folder, classes=range(5, 10))[0].shape == (3051, 1, 16, 16)
    X = load_usps(folder, subset="all")[0]
    assert X.shape == (9298, 1, 16, 16)
    # Ink is bright in both: the corners are paper.
    assert X[:, 0, 0, 0].mean() < 40 < X.mean()
