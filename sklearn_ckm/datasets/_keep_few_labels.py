"""Few labels of each class, for experiments with little supervision."""

# License: BSD-3-Clause

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..utils._labels import find_marked, find_missing
from ..utils._random import check_local_random_state


def keep_few_labels(
    y: ArrayLike,
    n_per_class: int,
    *,
    random_state: int | np.random.RandomState | None = None,
    unlabelled: Any = -1,
) -> np.ndarray:
    """Keep the labels of a few random rows of each class, and hide the others.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels, numbers or strings. Rows that are `unlabelled` already, NaN or None, are no class
        and have no label afterwards; so are rows with the text of an int `unlabelled`, as ``"-1"``.
    n_per_class : int
        Rows of each class that keep their label, the same for all; 0 hides all labels.
    random_state : int, RandomState instance or None, default=None
        Draws the rows. ``None`` draws anew at each call and leaves the global numpy state alone.
    unlabelled : object, default=-1
        Value of a row without label.

    Returns
    -------
    y_few : ndarray of shape (n_samples,)
        A copy of the labels with all others `unlabelled`. Numbers keep their dtype if it can hold
        `unlabelled`, and else have one that holds both, as int16 for uint8 labels and -1. Other
        labels, such as strings, become objects.

    Raises
    ------
    TypeError
        If the labels cannot be sorted, as numbers and strings together.
    ValueError
        If a class has fewer rows than `n_per_class`, `n_per_class` is not an integer from 0 on, or
        `y` is not one-dimensional.

    Notes
    -----
    Draws are nested: with one int as `random_state`, the rows kept at 2 per class are among those
    kept at 3. Rows are ranked by one random permutation, and each class keeps its first ones.

    Examples
    --------
    >>> from sklearn_ckm.datasets import keep_few_labels
    >>> keep_few_labels([0, 0, 0, 1, 1, 1], 1, random_state=0)
    array([ 0, -1, -1, -1,  1, -1])
    >>> keep_few_labels(["cat", "cat", "dog", "dog"], 1, random_state=0)
    array(['cat', -1, -1, 'dog'], dtype=object)
    """
    if isinstance(n_per_class, bool) or not isinstance(n_per_class, Integral) or n_per_class < 0:
        raise ValueError(
            f"Expected n_per_class as an integer from 0 on, got {n_per_class!r}; pass how many "
            "rows of each class keep their label."
        )
    y = _as_array(y)
    if y.ndim != 1:
        raise ValueError(
            f"Expected y of shape (n_samples,), got {y.shape!r}; pass one label for each row."
        )
    is_missing = find_missing(y)
    y = y.astype(_common_dtype(y, unlabelled))
    if isinstance(unlabelled, Integral) and not isinstance(unlabelled, bool):
        is_missing |= find_marked(y, unlabelled)
    else:
        is_missing |= np.array([label is unlabelled or label == unlabelled for label in y])
    is_labelled = ~is_missing
    y[is_missing] = unlabelled  # a missing one compares with nothing
    classes = _check_enough_rows(y[is_labelled], n_per_class)
    # not `permutation`, which a shuffled KFold of the same seed draws: its first fold would hold
    # every label
    order = check_local_random_state(random_state).random_sample(len(y)).argsort(kind="stable")
    y_few = np.full(len(y), unlabelled, dtype=y.dtype)
    for label in classes:
        rows = order[(y == label)[order]][:n_per_class]
        y_few[rows] = label
    return y_few


def _as_array(y):
    """As `np.asarray`, but -1 among strings stays a number."""
    array = np.asarray(y)
    return np.asarray(y, dtype=object) if array.dtype.kind in "UST" else array


def _common_dtype(y, unlabelled):
    """A dtype that holds the labels and the value of a row without one."""
    if y.dtype.kind in "iuf" and isinstance(unlabelled, Real):
        return np.result_type(y.dtype, np.min_scalar_type(unlabelled))
    return np.dtype(object)


def _check_enough_rows(y, n_per_class):
    """The classes, sorted."""
    try:
        classes, counts = np.unique(y, return_counts=True)
    except TypeError as error:
        raise TypeError(
            f"Expected labels y that can be sorted, got types that cannot be compared ({error}); "
            "pass numbers only or strings only."
        ) from error
    few = {
        label: count
        for label, count in zip(classes.tolist(), counts.tolist(), strict=True)
        if count < n_per_class
    }
    if few:
        raise ValueError(
            f"Expected at least {n_per_class} rows of each class, got {few!r}; pass n_per_class "
            f"up to {min(few.values())}, or leave these classes out."
        )
    return classes
