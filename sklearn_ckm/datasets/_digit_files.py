"""MNIST and USPS from a folder of the user's own."""

# License: BSD-3-Clause

from numbers import Integral
from pathlib import Path

import numpy as np

# What complete files hold: file, image size, rows of each digit. Tests put small ones here.
_MNIST_PARTS = {
    "train": (
        "mnist_train.npz",
        (28, 28),
        (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    ),
    "test": (
        "mnist_test.npz",
        (28, 28),
        (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
    ),
}
_USPS_FILE, _USPS_SIZE = "usps.npz", (16, 16)
_USPS_COUNTS = {
    "train": (1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644),
    "test": (359, 264, 198, 166, 200, 160, 170, 147, 166, 177),
}
_MNIST_PUBLISHED = (
    "MNIST is published at yann.lecun.com/exdb/mnist, and as 'mnist_784' on openml.org"
)
_USPS_PUBLISHED = (
    "USPS is published at www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets, and as 'USPS' on "
    "openml.org"
)


def load_mnist(folder, *, classes=None, subset="train"):
    """Load the MNIST digits from a folder.

    Nothing is downloaded. The folder holds ``mnist_train.npz`` and ``mnist_test.npz``, each with
    the arrays ``X``, uint8 of shape (n_samples, 28, 28), and ``y``, the digits from 0 to 9, in
    the published order: 60,000 and 10,000 rows. Only the file of the subset is needed.

    Parameters
    ----------
    folder : str or path-like
        Where the files are.
    classes : sequence of int, default=None
        Digits to keep; ``None`` keeps all ten.
    subset : {"train", "test", "all"}, default="train"
        Published split; ``"all"`` is the training rows followed by the test rows.

    Returns
    -------
    X : ndarray of shape (n_samples, 1, 28, 28)
        Images as uint8, 0 for the paper and 255 for the ink, in the order of the file.
    y : ndarray of shape (n_samples,)
        Digits as int64.

    Raises
    ------
    FileNotFoundError
        If a file of the subset is not in the folder.
    ValueError
        If a file does not hold the published data (by shape, dtype and rows of each digit), or
        `classes` or `subset` is not valid.

    References
    ----------
    .. [1] Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to
       document recognition", Proceedings of the IEEE 86 (1998), 2278-2324.

    Examples
    --------
    >>> from sklearn_ckm.datasets import load_mnist
    >>> X, y = load_mnist("my_data", classes=(5, 6, 7, 8, 9))  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (29404, 1, 28, 28)
    """
    classes = _check_classes(classes, "classes")
    parts = []
    for part in _parts_of(subset):
        name, size, counts = _MNIST_PARTS[part]
        X, y = _read_arrays(folder, name, ("X", "y"), _MNIST_PUBLISHED)
        parts.append(_check_digits(X, y, size, counts, f"{name}"))
    return _select(parts, classes)


def load_usps(folder, *, classes=None, subset="train"):
    """Load the USPS digits from a folder.

    Nothing is downloaded. The folder holds ``usps.npz`` with the arrays ``X``, uint8 of shape
    (9298, 16, 16), ``y``, the digits from 0 to 9, and ``n_train``, which is 7291: the rows before
    it are the published training split, those from it on the test split. The LIBSVM files have
    labels from 1 to 10 and values from -1 to 1; both need converting first.

    Parameters
    ----------
    folder : str or path-like
        Where the file is.
    classes : sequence of int, default=None
        Digits to keep; ``None`` keeps all ten.
    subset : {"train", "test", "all"}, default="train"
        Published split; ``"all"`` is the training rows followed by the test rows.

    Returns
    -------
    X : ndarray of shape (n_samples, 1, 16, 16)
        Images as uint8, 0 for the paper and 255 for the ink, in the order of the file.
    y : ndarray of shape (n_samples,)
        Digits as int64.

    Raises
    ------
    FileNotFoundError
        If the file is not in the folder.
    ValueError
        If the file does not hold the published data (by shape, dtype and rows of each digit), or
        `classes` or `subset` is not valid.

    References
    ----------
    .. [1] J. J. Hull, "A database for handwritten text recognition research", IEEE Transactions
       on Pattern Analysis and Machine Intelligence 16 (1994), 550-554.

    Examples
    --------
    >>> from sklearn_ckm.datasets import load_usps
    >>> X, y = load_usps("my_data", classes=(0, 1, 2, 3, 4))  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (4240, 1, 16, 16)
    """
    classes = _check_classes(classes, "classes")
    subset_parts = _parts_of(subset)
    X, y, n_train = _read_arrays(folder, _USPS_FILE, ("X", "y", "n_train"), _USPS_PUBLISHED)
    expected_n_train = sum(_USPS_COUNTS["train"])
    if n_train.size != 1 or n_train.item() != expected_n_train:
        raise ValueError(
            f"Expected n_train {expected_n_train} in {_USPS_FILE}, got {n_train.tolist()!r}; "
            "rebuild the file with the published training rows first."
        )
    counts = np.sum(list(_USPS_COUNTS.values()), axis=0)
    _check_digits(X, y, _USPS_SIZE, counts, _USPS_FILE)
    rows = {"train": slice(None, expected_n_train), "test": slice(expected_n_train, None)}
    parts = [
        _check_digits(X[rows[part]], y[rows[part]], _USPS_SIZE, _USPS_COUNTS[part], where)
        for part, where in ((part, f"the {part} rows of {_USPS_FILE}") for part in subset_parts)
    ]
    return _select(parts, classes)


def _check_classes(classes, name):
    """Sorted digits as a tuple; None is all ten."""
    if classes is None:
        return tuple(range(10))
    digits = list(classes) if np.iterable(classes) and not isinstance(classes, str) else []
    if (
        not digits
        or not all(_is_digit(digit) for digit in digits)
        or len(set(digits)) < len(digits)
    ):
        raise ValueError(
            f"Expected {name} as different digits from 0 to 9, at least one, got {classes!r}; pass "
            "for example (0, 1, 2)."
        )
    return tuple(sorted(int(digit) for digit in digits))


def _is_digit(value):
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= value <= 9


def _parts_of(subset):
    if not isinstance(subset, str) or subset not in ("train", "test", "all"):
        raise ValueError(
            f"Expected subset 'train', 'test' or 'all', got {subset!r}; pass one of the three."
        )
    return ("train", "test") if subset == "all" else (subset,)


def _read_arrays(folder, name, keys, published):
    """The named arrays of one file."""
    path = Path(folder) / name
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the file {name!r} in the folder {str(folder)!r}, found none; put it there, "
            f"or pass the folder that has it. {published}."
        )
    archive = np.load(path)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(
            f"Expected an archive of the arrays {keys!r} in {name}, got a single array; write it "
            "with numpy.savez."
        )
    with archive:
        missing = [key for key in keys if key not in archive]
        if missing:
            raise ValueError(
                f"Expected the arrays {keys!r} in {name}, got {sorted(archive)!r}; write the file "
                f"with {missing!r} as well."
            )
        return [archive[key] for key in keys]


def _check_digits(X, y, size, counts, where):
    """X of shape (n_samples, 1, height, width) and y as int64, if they are the published rows."""
    n_samples = int(np.sum(counts))
    if X.shape != (n_samples, *size) or X.dtype != np.uint8:
        raise ValueError(
            f"Expected X as uint8 of shape {(n_samples, *size)!r} in {where}, got {X.dtype.name} "
            f"of shape {X.shape!r}; use the complete published data."
        )
    is_digit = np.isin(y, np.arange(10))
    if y.shape != (n_samples,) or not is_digit.all():
        raise ValueError(
            f"Expected y as digits from 0 to 9 of shape {(n_samples,)!r} in {where}, got shape "
            f"{y.shape!r} with {int((~is_digit).sum())} other values; map the labels to digits."
        )
    y = y.astype(np.int64)
    found = np.bincount(y, minlength=10)
    if not np.array_equal(found, counts):
        raise ValueError(
            f"Expected {tuple(map(int, counts))!r} rows of the digits 0 to 9 in {where}, got "
            f"{tuple(map(int, found))!r}; use the complete published data in its own split."
        )
    return X[:, np.newaxis], y


def _select(parts, classes):
    """Rows of the classes, part after part."""
    X = np.concatenate([X[np.isin(y, classes)] for X, y in parts])
    y = np.concatenate([y[np.isin(y, classes)] for _, y in parts])
    return X, y
