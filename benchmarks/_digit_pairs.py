"""Pairs of digit domains with different classes, at a common size."""

from dataclasses import dataclass

import numpy as np

from sklearn_ckm.datasets import (
    blend_with_photos,
    fetch_digits,
    load_digits_on_photos,
    load_mnist,
    load_svhn,
    load_usps,
)
from sklearn_ckm.preprocessing import ImageFormatter

SOURCE, TARGET = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
N_CLUSTERS = len(TARGET)
BUNDLED_PIXELS = 8  # a side


def _mnist_on_photos(folder, *, classes, subset):
    X, y = load_mnist(folder, classes=classes, subset=subset)
    return blend_with_photos(X, color=True, random_state=0), y


def _usps_on_photos(folder, *, classes, subset):
    X, y = load_usps(folder, classes=classes, subset=subset)
    return blend_with_photos(X, color=True, random_state=1 if subset == "train" else 2), y


# title, files of the data sets, loader of the source, loader of the target, channels
PAIRS = {
    "svhn-mnist": ("SVHN 0-4 → MNIST 5-9", ("svhn", "mnist"), load_svhn, load_mnist, 3),
    "usps-mnist": ("USPS 0-4 → MNIST 5-9", ("usps", "mnist"), load_usps, load_mnist, 1),
    "mnist-usps": ("MNIST 0-4 → USPS 5-9", ("mnist", "usps"), load_mnist, load_usps, 1),
    "photos-mnist": (
        "MNIST 0-4 on photos → MNIST 5-9",
        ("mnist",),
        _mnist_on_photos,
        load_mnist,
        3,
    ),
    "photos-photos": (
        "MNIST 0-4 on photos → USPS 5-9 on photos",
        ("mnist", "usps"),
        _mnist_on_photos,
        _usps_on_photos,
        3,
    ),
    "bundled": ("bundled digits 0-4 on photos → 5-9", (), None, None, 1),
}


@dataclass
class Task:
    """Labelled source, unlabelled target, and what serves the report alone."""

    X_src: np.ndarray
    y_src: np.ndarray
    X_tgt: np.ndarray
    y_tgt: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def load_task(pair, folder, *, n_pixels, n_rows, run, download=False, target=TARGET):
    """Load a pair of domains, images of `n_pixels` a side.

    The training splits give source and target, at most `n_rows` rows of each (None: all), drawn
    anew for each run; the target's test split gives the rows that are reported. The photos behind
    digits are the same in every run. What is missing in the folder is fetched if `download` is set.
    """
    if pair == "bundled":
        return _bundled_task(n_rows, run, target)
    try:
        return _load_files(pair, folder, n_pixels, n_rows, run, target)
    except FileNotFoundError:
        if not download:
            raise
    fetch_digits(PAIRS[pair][1], folder)
    return _load_files(pair, folder, n_pixels, n_rows, run, target)


def _load_files(pair, folder, n_pixels, n_rows, run, classes):
    """Read and draw the rows of a pair from a folder."""
    _, _, load_source, load_target, n_channels = PAIRS[pair]
    rng = np.random.default_rng(run)
    formatter = ImageFormatter((n_channels, n_pixels, n_pixels))
    source = load_source(folder, classes=SOURCE, subset="train")
    target = load_target(folder, classes=classes, subset="train")
    test = load_target(folder, classes=classes, subset="test")
    parts = [_sample(rng, *source, n_rows), _sample(rng, *target, n_rows), test]
    return Task(*(part for X, y in parts for part in (formatter.transform(X), y)))


def _sample(rng, X, y, n_rows):
    if n_rows is None or n_rows >= len(X):
        return X, y
    rows = np.sort(rng.choice(len(X), n_rows, replace=False))
    return X[rows], y[rows]


def _bundled_task(n_rows, run, classes):
    """Digits that come with scikit-learn, for trying the scripts; half of the target is held out.

    They have 8x8 pixels, whatever the size that was asked for.
    """
    data = load_digits_on_photos(source_classes=SOURCE, target_classes=classes)
    rng = np.random.default_rng(run)
    is_test = rng.permutation(len(data.y_tgt)) % 2 == 0
    X_src, y_src = _sample(rng, data.X_src, data.y_src, n_rows)
    X_tgt, y_tgt = _sample(rng, data.X_tgt[~is_test], data.y_tgt[~is_test], n_rows)
    return Task(X_src, y_src, X_tgt, y_tgt, data.X_tgt[is_test], data.y_tgt[is_test])
