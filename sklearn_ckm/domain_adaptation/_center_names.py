"""Names of centres: the labelled classes, and one more for the centres without a label."""

from numbers import Real

import numpy as np


def name_centers(named, n_clusters, unknown_label):
    """Return the classes, with the unknown one where there are further centres.

    Parameters
    ----------
    named : ndarray of shape (n_named,)
        Labelled classes, each of which has a centre.
    n_clusters : int
        Number of centres, at least `n_named`.
    unknown_label : object
        Name of the further centres. ``"auto"`` is -1 for numeric classes, else ``"unknown"``.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        `named`, or one more.

    Raises
    ------
    ValueError
        If a labelled class has the name of the further centres.
    """
    if n_clusters == len(named):
        return named
    unknown, names = unknown_label, _as_list(named)
    if isinstance(unknown, str) and unknown == "auto":
        unknown = -1 if isinstance(names[0], Real) else "unknown"
    if unknown in names:
        raise ValueError(
            f"Expected an unknown_label that is no target class, got {unknown!r} and the "
            f"classes {names}. Choose another name for rows at unnamed centres."
        )
    return _with_unknown(named, unknown)


def _with_unknown(named, unknown):
    """Append a class: in the dtype of the others where it is of their kind, else as objects."""
    added, kinds = np.asarray(unknown), named.dtype.kind
    kinds = "iu" if kinds in "iu" else kinds
    if added.ndim == 0 and added.dtype.kind in kinds and np.result_type(named, added).kind in kinds:
        return np.append(named, added)
    classes = np.empty(len(named) + 1, dtype=object)
    classes[:-1], classes[-1] = _as_list(named), unknown
    return classes


def _as_list(named):
    """Plain values, but of times, which as such would be integers."""
    return list(named) if named.dtype.kind in "mM" else named.tolist()
