"""Accuracy of a clustering under the best naming of its clusters."""

# License: BSD-3-Clause

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from ..utils._labels import find_missing


def clustering_accuracy(
    y_true: ArrayLike, y_pred: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """Accuracy after the best one-to-one matching of clusters to classes.

    Each cluster is given the name of at most one class, and each class is given to at
    most one cluster, so that as many rows as possible are named correctly.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Classes, of any dtype.
    y_pred : array-like of shape (n_samples,)
        Clusters, of any dtype; they need not share names, or a number, with the classes.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weight of each row. ``None`` counts every row once.

    Returns
    -------
    accuracy : float
        Between ``1 / max(n_classes, n_clusters)`` and 1; larger is better.

    Raises
    ------
    ValueError
        If there are no rows, the lengths differ, a label is missing (``NaN`` or ``None``), or
        the weights are negative or all zero.

    See Also
    --------
    sklearn.metrics.adjusted_rand_score : Agreement of pairs, corrected for chance.

    Notes
    -----
    With :math:`C_{jk}` the (weighted) number of rows of class :math:`j` in cluster :math:`k`,
    the score is :math:`\\max_m \\sum_j C_{j\\,m(j)} / \\sum_{jk} C_{jk}` over all one-to-one
    maps :math:`m`, found by the Hungarian method [1]_. Where the number of clusters differs
    from the number of classes, the unmatched ones count as errors. The score is not corrected
    for chance: a constant clustering scores the share of the largest class.

    References
    ----------
    .. [1] H. W. Kuhn, "The Hungarian method for the assignment problem", Naval Research
       Logistics Quarterly 2 (1955), 83-97.

    Examples
    --------
    >>> from sklearn_ckm.metrics import clustering_accuracy
    >>> clustering_accuracy(["cat", "cat", "dog", "dog"], [1, 1, 0, 1])
    0.75
    """
    y_true = _check_labels(y_true, "y_true")
    y_pred = _check_labels(y_pred, "y_pred")
    check_consistent_length(y_true, y_pred)
    sample_weight = _check_weights(sample_weight, y_true.shape[0])
    return _matched_share(_weighted_contingency(y_true, y_pred, sample_weight))


def _matched_share(contingency):
    """Share of the weight in the cells of the best matching."""
    # The two sums round differently, so a perfect score could exceed one by an ulp.
    return min(1.0, float(contingency[_match(contingency)].sum() / contingency.sum()))


def _match(contingency):
    """Classes and clusters of the best one-to-one matching, as indices of its rows and columns."""
    return linear_sum_assignment(contingency, maximize=True)


def _weighted_contingency(y_true, y_pred, sample_weight):
    """Sum of the weights by class and cluster.

    scikit-learn's ``contingency_matrix`` is the same with every weight one; it takes no
    weights, and it sorts the labels, which mixed types do not allow.
    """
    classes, clusters = _encode(y_true), _encode(y_pred)
    shape = classes.max() + 1, clusters.max() + 1
    cells = np.ravel_multi_index((classes, clusters), shape)
    return np.bincount(cells, weights=sample_weight, minlength=shape[0] * shape[1]).reshape(shape)


def _encode(labels):
    """Labels as codes 0, 1, ...; labels of mixed types need no order."""
    if labels.dtype != object:
        return np.unique(labels, return_inverse=True)[1]
    codes = {}
    return np.array([codes.setdefault(label, len(codes)) for label in labels])


def _check_labels(labels, name):
    """One-dimensional array of labels, none of them missing."""
    if isinstance(labels, (list, tuple)):
        labels = np.asarray(labels, dtype=object)  # a NaN among strings would become one
    labels = column_or_1d(labels)
    if labels.dtype.kind == "T":
        labels = labels.astype(object)
    if labels.shape[0] == 0:
        raise ValueError(f"Expected at least one label in {name}, got none; pass one label a row.")
    missing = find_missing(labels)
    if missing.any():
        raise ValueError(
            f"Expected a label for every row of {name}, got {int(missing.sum())} missing ones "
            f"(NaN or None), the first in row {int(missing.argmax())}; leave those rows out."
        )
    return labels


def _check_weights(sample_weight, n_samples):
    """Non-negative float64 weights of shape (n_samples,), ones for None."""
    if sample_weight is None:
        return np.ones(n_samples)
    sample_weight = check_array(
        sample_weight, dtype=np.float64, ensure_2d=False, input_name="sample_weight"
    )
    if sample_weight.shape != (n_samples,):
        raise ValueError(
            f"Expected sample_weight of shape {(n_samples,)!r}, got {sample_weight.shape!r}; "
            "pass one weight a row."
        )
    if sample_weight.min() < 0 or not sample_weight.any():
        raise ValueError(
            "Expected non-negative weights in sample_weight, at least one of them positive, got "
            f"values from {sample_weight.min():g} to {sample_weight.max():g}; pass None to count "
            "every row once."
        )
    return sample_weight
