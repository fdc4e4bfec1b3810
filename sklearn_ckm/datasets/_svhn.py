"""SVHN from a folder of the user's own."""

# License: BSD-3-Clause

from collections.abc import Sequence
from os import PathLike

import numpy as np
from scipy.io import loadmat

from ._digit_files import (
    _check_classes,
    _check_digits,
    _check_keys,
    _first_file,
    _missing_files_error,
    _parts_of,
    _reading,
    _select,
)

_IMAGE_SHAPE = (3, 32, 32)
# Rows of each digit in complete files. Tests put small ones here.
_COUNTS = {
    "train": (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
    "test": (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
}


def load_svhn(
    folder: str | PathLike[str], *, classes: Sequence[int] | None = None, subset: str = "train"
) -> tuple[np.ndarray, np.ndarray]:
    """Load the street view house numbers, cropped to single digits, from a folder.

    Nothing is downloaded; :func:`fetch_digits` does that. The folder holds the official
    ``train_32x32.mat`` and ``test_32x32.mat``, with 73,257 and 26,032 rows. Only the files of the
    subset are needed. The extra training set of 531,131 rows is not read.

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
    X : ndarray of shape (n_samples, 3, 32, 32)
        Images as uint8, red, green and blue, in the order of the file. All training rows are
        215 MiB, and reading them takes about three times that.
    y : ndarray of shape (n_samples,)
        Digits as int64. The files' label 10, which means zero, is 0 here.

    Raises
    ------
    FileNotFoundError
        If a file of the subset is not in the folder.
    ValueError
        If a file is damaged or does not hold the published data (by shape, dtype and rows of each
        digit), or `classes` or `subset` is not valid.

    References
    ----------
    .. [1] Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu and A. Y. Ng, "Reading digits in
       natural images with unsupervised feature learning", NIPS Workshop on Deep Learning and
       Unsupervised Feature Learning 2011.

    Examples
    --------
    >>> from sklearn_ckm.datasets import load_svhn
    >>> X, y = load_svhn("my_data", classes=(0, 1, 2, 3, 4))  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (45349, 3, 32, 32)
    """
    classes = _check_classes(classes, "classes")
    return _select([_read_part(folder, part) for part in _parts_of(subset)], classes)


def _read_part(folder, part):
    """Images and digits of one split."""
    name = f"{part}_32x32.mat"
    path = _first_file(folder, [name])
    if path is None:
        raise _missing_files_error("svhn", part, folder, [name])
    with _reading(path):
        arrays = loadmat(path, variable_names=("X", "y"))
    _check_keys([key for key in arrays if not key.startswith("__")], ("X", "y"), path)
    X, labels = arrays["X"], arrays["y"].ravel()
    if X.ndim != 4 or X.shape[:3] != (32, 32, 3):
        raise ValueError(
            f"Expected X of shape (32, 32, 3, n_samples) in {name}, got {X.shape!r}; use the "
            "published cropped digits (format 2)."
        )
    X = X.transpose(3, 2, 0, 1)  # (n_samples, 3, 32, 32)
    y = np.where(labels == 10, 0, labels)
    return _check_digits(X, y, _IMAGE_SHAPE, _COUNTS[part], name)
