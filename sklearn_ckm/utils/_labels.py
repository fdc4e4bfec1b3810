"""Class labels of any dtype, some of them missing."""

from numbers import Real

import numpy as np
import torch
from sklearn.utils.multiclass import check_classification_targets

UNLABELLED = -1  # among the codes, never among the labels


def _is_missing(label):
    """Whether one label is None, NaN or a pandas NA."""
    if label is None or type(label).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(label, (float, complex, np.inexact)) and np.isnan(label)


def _is_homogeneous(labels):
    """Whether labels are of one type, or all of them numbers or text, numpy's own included."""
    kinds = (Real, np.bool_), str
    return len(set(map(type, labels))) == 1 or any(
        all(isinstance(label, kind) for label in labels) for kind in kinds
    )


def check_labels(y, n_samples, name="y"):
    """Validate the shape of labels and return them as an array.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels of any dtype.
    n_samples : int
        Number of rows they belong to.
    name : str, default="y"
        What the messages call it.

    Returns
    -------
    y : ndarray of shape (n_samples,)

    Raises
    ------
    ValueError
        If `y` has more than one column or another length.
    """
    if isinstance(y, torch.Tensor):
        y = y.detach().cpu()
    if isinstance(y, np.ma.MaskedArray):
        y = np.where(np.ma.getmaskarray(y), None, y.data.astype(object))
    if isinstance(y, (list, tuple)):
        y = np.asarray(y, dtype=object)  # strings and ints together would become strings
    y = np.asarray(y)
    if y.dtype.kind == "T":  # strings of any length, which few functions of numpy know
        y = y.astype(object)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(f"Expected {name} to have shape (n_samples,), got {y.shape}.")
    if len(y) != n_samples:
        raise ValueError(
            f"Expected one label per row in {name}, got {len(y)} labels for {n_samples} rows."
        )
    return y


def find_missing(y):
    """Where labels are missing.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels of any dtype.

    Returns
    -------
    is_missing : ndarray of shape (n_samples,), bool
        True for None, NaN, NaT and pandas' NA.
    """
    if y.dtype.kind not in "OfcmM":
        return np.zeros(len(y), bool)
    return np.fromiter(map(_is_missing, y.tolist()), bool, len(y))


def find_marked(y, marker):
    """Where labels equal an int that stands for "unlabelled", or its text among strings.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels of any dtype.
    marker : int
        What stands for "unlabelled".

    Returns
    -------
    is_marked : ndarray of shape (n_samples,), bool
    """
    if y.dtype.kind in "US":
        return y == np.array(str(marker)).astype(y.dtype.kind)
    if y.dtype.kind != "O":
        return np.zeros(len(y), bool) if y.dtype.kind in "bmM" else y == marker
    known = (marker, str(marker))
    is_bool = (bool, np.bool_)
    found = (
        not isinstance(label, is_bool) and not _is_missing(label) and label in known
        for label in y.tolist()
    )
    return np.fromiter(found, bool, len(y))


def unlabelled_beside(classes):
    """Return what means "unlabelled" among labels of known classes.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Their names.

    Returns
    -------
    unlabelled : int or None
        -1, but None where that, or its text, is the name of a class.
    """
    return None if find_marked(np.asarray(classes), UNLABELLED).any() else UNLABELLED


def check_same_kind(y, classes):
    """Raise ``ValueError`` where labels are text and the classes numbers, or the reverse.

    No label would equal a class, and every score would be 0.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels, none of them missing.
    classes : ndarray of shape (n_classes,)
        Names of the classes.
    """
    are_text = [{isinstance(label, str) for label in labels.tolist()} for labels in (y, classes)]
    if are_text in ([{True}, {False}], [{False}, {True}]):
        raise ValueError(
            "Mix of label input types (string and number): expected labels like the classes "
            f"{classes.tolist()}, got {y[:3].tolist()} ... in y. Convert them to one type."
        )


def encode_labels(y, name="y", *, unlabelled=None):
    """Encode labels as indices into their sorted classes.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Ints, strings, booleans or objects. ``NaN`` and ``None`` mean unlabelled.
    name : str, default="y"
        What the messages call it.
    unlabelled : int or None, default=None
        A further value that means unlabelled, as a number or, as numpy makes of it among strings,
        as text.

    Returns
    -------
    codes : ndarray of shape (n_samples,), int64
        -1 where the label is missing.
    classes : ndarray of shape (n_classes,)
        Sorted; whole numbers come as ints, since a NaN makes floats of its neighbours.

    Raises
    ------
    ValueError
        If `y` holds continuous values or infinity.
    TypeError
        If the labels cannot be ordered, as when strings and ints are mixed.
    """
    is_missing = find_missing(y)
    if unlabelled is not None:
        is_missing |= find_marked(y, unlabelled)
    labelled = y[~is_missing]
    if labelled.dtype.kind == "O" and _is_homogeneous(labelled):
        plain = np.array(labelled.tolist())  # objects of one type have a dtype of their own
        if plain.tolist() == labelled.tolist():  # not so for huge ints, which would become floats
            labelled = plain
    codes = np.full(len(y), UNLABELLED, dtype=np.int64)
    if not len(labelled):
        return codes, labelled
    if labelled.dtype.kind == "f":
        if np.isinf(labelled).any():
            raise ValueError(f"Expected class names in {name}, got infinity. Pass ints or strings.")
        check_classification_targets(labelled)
    try:
        classes, codes[~is_missing] = np.unique(labelled, return_inverse=True)
    except TypeError as error:
        types = sorted({type(label).__name__ for label in labelled})
        raise TypeError(
            f"Expected the labels in {name} to be of one type, got {types}. Convert them, for "
            "example to strings; None is a row without a label."
        ) from error
    if classes.dtype.kind == "f" and np.abs(classes).max() < 2**53:
        classes = classes.astype(np.int64)  # whole numbers: ints that stood beside a NaN
    return codes, classes
