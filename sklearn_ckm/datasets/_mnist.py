"""MNIST from a folder of the user's own."""

# License: BSD-3-Clause

import gzip
from collections.abc import Sequence
from math import prod
from os import PathLike
from pathlib import Path

import numpy as np

from ._digit_files import (
    _check_classes,
    _check_digits,
    _first_file,
    _missing_files_error,
    _parts_of,
    _read_arrays,
    _reading,
    _select,
)

_IMAGE_SHAPE = (28, 28)
# Rows of each digit in complete files. Tests put small ones here.
_COUNTS = {
    "train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}
_IDX_PREFIXES = {"train": "train", "test": "t10k"}
_IDX_FOLDERS = (".", "MNIST/raw")  # the second is torchvision's
_KERAS_FILE = "mnist.npz"
_UINT8_CODE = 8  # of the idx format


def load_mnist(
    folder: str | PathLike[str], *, classes: Sequence[int] | None = None, subset: str = "train"
) -> tuple[np.ndarray, np.ndarray]:
    """Load the MNIST digits from a folder.

    Nothing is downloaded; :func:`fetch_digits` does that. The files are, the first complete layout
    being read, for each split on its own:

    1. ``mnist_train.npz`` and ``mnist_test.npz``, each with the arrays ``X``, uint8 of shape
       (n_samples, 28, 28), and ``y``, the digits from 0 to 9;
    2. the official ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``,
       ``t10k-images-idx3-ubyte`` and ``t10k-labels-idx1-ubyte``, as they are or with ``.gz``, also
       spelled ``train-images.idx3-ubyte``, in the folder or in its subfolder ``MNIST/raw``, where
       torchvision puts them;
    3. ``mnist.npz`` of Keras, with the arrays ``x_train``, ``y_train``, ``x_test`` and ``y_test``.

    All have the 60,000 and 10,000 rows in the published order. Only the files of the subset are
    needed.

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
        If no layout of the subset is complete in the folder.
    ValueError
        If a file is damaged or does not hold the published data (by shape, dtype and rows of each
        digit), or `classes` or `subset` is not valid.

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
    return _select([_read_part(folder, part) for part in _parts_of(subset)], classes)


def _read_part(folder, part):
    """Images and digits of one split, from the first layout that is there."""
    found = _read_npz(folder, part) or _read_idx_pair(folder, part) or _read_keras(folder, part)
    if found is None:
        prefix = _IDX_PREFIXES[part]
        layouts = (
            f"mnist_{part}.npz",
            f"{prefix}-images-idx3-ubyte and {prefix}-labels-idx1-ubyte (plain or .gz)",
            _KERAS_FILE,
        )
        raise _missing_files_error("mnist", part, folder, layouts)
    X, y, where = found
    return _check_digits(X, y, _IMAGE_SHAPE, _COUNTS[part], where)


def _read_npz(folder, part):
    path = _first_file(folder, [f"mnist_{part}.npz"])
    return path and (*_read_arrays(path, ("X", "y")), path.name)


def _read_keras(folder, part):
    path = _first_file(folder, [_KERAS_FILE])
    return path and (*_read_arrays(path, (f"x_{part}", f"y_{part}")), path.name)


def _read_idx_pair(folder, part):
    for subfolder in _IDX_FOLDERS:
        images = _find_idx(Path(folder, subfolder), part, "images", "idx3")
        labels = _find_idx(Path(folder, subfolder), part, "labels", "idx1")
        if images and labels:
            return _read_idx(images, 3), _read_idx(labels, 1), f"{images.name} and {labels.name}"
    return None


def _find_idx(folder, part, kind, idx):
    stem = f"{_IDX_PREFIXES[part]}-{kind}"
    spellings = (f"{stem}-{idx}-ubyte", f"{stem}.{idx}-ubyte")
    return _first_file(folder, [name + ending for name in spellings for ending in ("", ".gz")])


def _read_idx(path, n_dimensions):
    """The uint8 array of an idx file: magic number, sizes as big-endian uint32, values."""
    with _reading(path), (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        content = file.read()
    magic = bytes((0, 0, _UINT8_CODE, n_dimensions))
    if content[:4] != magic:
        raise ValueError(
            f"Expected the magic number {magic!r} at the start of {path.name}, got "
            f"{content[:4]!r}; use the published idx file, and name it .gz if it is compressed."
        )
    start = 4 + 4 * n_dimensions
    shape = tuple(map(int, np.frombuffer(content[4:start].ljust(start - 4, b"\0"), dtype=">u4")))
    if len(content) != start + prod(shape):
        raise ValueError(
            f"Expected {start + prod(shape)} bytes in {path.name} for its sizes {shape!r}, got "
            f"{len(content)}; the file is cut short or damaged, put a fresh copy in its place."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
