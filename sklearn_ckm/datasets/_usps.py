"""USPS from a folder of the user's own."""

# License: BSD-3-Clause

from collections.abc import Sequence
from os import PathLike

import numpy as np
from sklearn.datasets import load_svmlight_file

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

_IMAGE_SHAPE = (16, 16)
# Rows of each digit in complete files. Tests put small ones here.
_COUNTS = {
    "train": (1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644),
    "test": (359, 264, 198, 166, 200, 160, 170, 147, 166, 177),
}
_NPZ_FILE = "usps.npz"
_LIBSVM_FILES = {"train": ("usps", "usps.bz2"), "test": ("usps.t", "usps.t.bz2")}


def load_usps(
    folder: str | PathLike[str], *, classes: Sequence[int] | None = None, subset: str = "train"
) -> tuple[np.ndarray, np.ndarray]:
    """Load the USPS digits from a folder.

    Nothing is downloaded; :func:`fetch_digits` does that. The files are, the first one found being
    read:

    1. ``usps.npz`` with the arrays ``X``, uint8 of shape (9298, 16, 16), ``y``, the digits from 0
       to 9, and ``n_train``, which is 7291: the rows before it are the published training split,
       those from it on the test split;
    2. the files of LIBSVM, ``usps`` or ``usps.bz2`` with the training rows, ``usps.t`` or
       ``usps.t.bz2`` with the test rows. Only the files of the subset are needed.

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
    X : ndarray of shape (n_samples, 1, 16, 16)
        Images as uint8, 0 for the paper and 255 for the ink, in the order of the file.
    y : ndarray of shape (n_samples,)
        Digits as int64.

    Raises
    ------
    FileNotFoundError
        If no file of the subset is in the folder.
    ValueError
        If a file is damaged or does not hold the published data (by shape, dtype, range and rows
        of each digit), or `classes` or `subset` is not valid.

    Notes
    -----
    LIBSVM's labels go from 1 to 10 and its values :math:`v` from -1 (paper) to 1 (ink); the
    digits are the labels less one, and the pixels :math:`127.5 (v + 1)`, rounded to the nearest
    integer. torchvision rounds them down, so that its pixels may be one less.

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
    path = _first_file(folder, [_NPZ_FILE])
    if path:
        parts = _read_npz(path, subset_parts)
    else:
        parts = [_read_libsvm_part(folder, part) for part in subset_parts]
    return _select(parts, classes)


def _read_npz(path, subset_parts):
    """Images and digits of each split, from the one file that has both."""
    X, y, n_train = _read_arrays(path, ("X", "y", "n_train"))
    expected_n_train = sum(_COUNTS["train"])
    if n_train.size != 1 or n_train.item() != expected_n_train:
        raise ValueError(
            f"Expected n_train {expected_n_train} in {_NPZ_FILE}, got {n_train.tolist()!r}; "
            "rebuild the file with the published training rows first."
        )
    counts = np.sum(list(_COUNTS.values()), axis=0)
    _check_digits(X, y, _IMAGE_SHAPE, counts, _NPZ_FILE)
    rows = {"train": slice(None, expected_n_train), "test": slice(expected_n_train, None)}
    return [
        _check_digits(X[rows[part]], y[rows[part]], _IMAGE_SHAPE, _COUNTS[part], where)
        for part, where in ((part, f"the {part} rows of {_NPZ_FILE}") for part in subset_parts)
    ]


def _read_libsvm_part(folder, part):
    """Images and digits of one split."""
    path = _first_file(folder, _LIBSVM_FILES[part])
    if path is None:
        layouts = (_NPZ_FILE, " or ".join(_LIBSVM_FILES[part]))
        raise _missing_files_error("usps", part, folder, layouts)
    with _reading(path):
        values, labels = load_svmlight_file(str(path), n_features=256, zero_based=False)
    values = values.toarray()  # (n_samples, 256)
    if not np.all(np.abs(values) <= 1):
        raise ValueError(
            f"Expected values from -1 to 1 in {path.name}, got {values.min():g} to "
            f"{values.max():g}; use the published file, not a rescaled one."
        )
    X = np.rint(127.5 * (values + 1)).astype(np.uint8).reshape(-1, *_IMAGE_SHAPE)
    return _check_digits(X, labels - 1, _IMAGE_SHAPE, _COUNTS[part], path.name)
