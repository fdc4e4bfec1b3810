"""What the loaders of digit files share: finding, reading, checking and selecting."""

# License: BSD-3-Clause

import zlib
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from scipy.io.matlab import MatReadError

# Folders of the official files, which keep their names there.
_URLS = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "svhn": "http://ufldl.stanford.edu/housenumbers/",
    "usps": "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/",
}
# What gzip, bz2, NumPy and SciPy raise for a file cut short or of another format.
_UNREADABLE = (
    BadZipFile,
    EOFError,
    IndexError,
    MatReadError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    zlib.error,
)


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


def _first_file(folder, names):
    """Path of the first of the names that is a file of the folder, or None."""
    paths = (Path(folder) / name for name in names)
    return next((path for path in paths if path.is_file()), None)


def _missing_files_error(data_set, part, folder, layouts):
    """The error for a folder that has none of the layouts, each a text that names its files."""
    return FileNotFoundError(
        f"Expected the {part} rows of {data_set.upper()} in the folder {str(folder)!r}, as "
        f"{', or '.join(layouts)}; found none of these complete. Pass the folder that has them, "
        f"get them with fetch_digits({data_set!r}, folder), or put the files there that "
        f"{_URLS[data_set]} publishes."
    )


@contextmanager
def _reading(path):
    """Turn the errors of a file that cannot be read into one that says which file."""
    try:
        yield
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the operating system, which names the file itself
        raise ValueError(
            f"Expected the published contents in {path.name}, got a damaged or foreign file "
            f"({error}); put a fresh copy in its place."
        ) from error


def _read_arrays(path, keys):
    """The named arrays of one file of `numpy.savez`."""
    # Opened here, as np.load leaves a damaged file open.
    with open(path, "rb") as file:
        with _reading(path):
            archive = np.load(file)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError(
                f"Expected an archive of the arrays {keys!r} in {path.name}, got a single array; "
                "write it with numpy.savez."
            )
        _check_keys(archive, keys, path)
        with _reading(path), archive:
            return [archive[key] for key in keys]


def _check_keys(found, keys, path):
    missing = [key for key in keys if key not in found]
    if missing:
        raise ValueError(
            f"Expected the arrays {keys!r} in {path.name}, got {sorted(found)!r}; write the file "
            f"with {missing!r} as well."
        )


def _check_digits(X, y, image_shape, counts, where):
    """X of shape (n_samples, channels, height, width) and y as int64, if the published rows."""
    n_samples = int(np.sum(counts))
    if X.shape != (n_samples, *image_shape) or X.dtype != np.uint8:
        raise ValueError(
            f"Expected X as uint8 of shape {(n_samples, *image_shape)!r} in {where}, got "
            f"{X.dtype.name} of shape {X.shape!r}; use the complete published data."
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
    # A view: an image without channels gains one.
    return X.reshape(n_samples, -1, *image_shape[-2:]), y


def _select(parts, classes):
    """Rows of the classes, part after part, as contiguous arrays."""
    kept = [np.isin(y, classes) for _, y in parts]
    y = np.concatenate([y[rows] for (_, y), rows in zip(parts, kept, strict=True)])
    X = np.empty((len(y), *parts[0][0].shape[1:]), dtype=np.uint8)
    starts = np.cumsum([np.count_nonzero(rows) for rows in kept])[:-1]
    for (X_part, _), rows, out in zip(parts, kept, np.split(X, starts), strict=True):
        out[:] = X_part[rows]
    return X, y
