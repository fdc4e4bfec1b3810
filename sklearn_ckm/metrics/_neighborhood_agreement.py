"""A label-free measure of a clustering, taken in a space the clustering did not learn."""

# License: BSD-3-Clause

from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_array, check_consistent_length, check_scalar

from ..utils._random import check_local_random_state
from ._clustering_accuracy import _check_labels, _check_weights, _encode


def neighborhood_agreement_score(
    X: ArrayLike,
    labels: ArrayLike,
    *,
    n_neighbors: int = 10,
    sample_size: int | None = 2000,
    sample_weight: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> float:
    """Share of nearest neighbours in the same cluster, corrected for chance.

    No class labels are needed. Give as `X` a space that the clustering did not learn, such as
    the input: distances in a learned embedding can be made small by shrinking it, or its
    clusters tight by collapsing them, without a better clustering. Here the neighbours are
    fixed by `X` before any clustering, so that only the labels can change the score.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows to find the neighbours among, by Euclidean distance. At least three. Flatten images
        first.
    labels : array-like of shape (n_samples,)
        Cluster of each row, of any dtype. No value is special: ``-1`` is a cluster as well.
    n_neighbors : int, default=10
        Neighbours of each row, itself excluded. Larger values look at a wider surrounding;
        clusters of fewer than ``n_neighbors + 1`` rows cannot reach 1.
    sample_size : int or None, default=2000
        Rows drawn without replacement where `X` has more of them, and scored in its place.
        ``None`` uses all rows; time grows with the square.
    sample_weight : array-like of shape (n_samples,), default=None
        Non-negative weight of each row's own agreement, and of its chance agreement. Rows of
        weight zero are left out, also as neighbours.
    random_state : int, RandomState instance or None, default=None
        Draws the rows. ``None`` draws anew at each call and leaves the global numpy state alone.

    Returns
    -------
    score : float
        At most 1, where all neighbours share their row's cluster; 0 in expectation for labels
        dealt at random, and exactly 0 if all rows share one label; negative where neighbours
        avoid each other's cluster.

    Raises
    ------
    ValueError
        If fewer than three rows (of positive weight) are given, the lengths differ, or a value
        is missing, infinite or out of range.

    See Also
    --------
    sklearn.metrics.silhouette_score : Compares distances within and between clusters.

    Notes
    -----
    With :math:`N_i` the neighbours of row :math:`i`, :math:`n_j` the size of cluster :math:`j`
    and weights :math:`w_i` (sum over rows, divided by the sum of the weights),

    .. math::

        A = \\frac{\\sum_i w_i |\\{l \\in N_i : c_l = c_i\\}| / |N_i|}{\\sum_i w_i}, \\quad
        E = \\frac{\\sum_i w_i (n_{c_i} - 1) / (n - 1)}{\\sum_i w_i}, \\quad
        \\mathrm{score} = \\frac{A - E}{1 - E}.

    :math:`E` is what :math:`A` would be, were the neighbours of each row drawn at random from
    the other rows: the sum of squared cluster shares, with the row itself left out. Unweighted,
    the mean score over all permutations of the labels is exactly 0.

    With fewer than ``n_neighbors + 1`` rows, all other rows are neighbours. Then :math:`A = E`
    and the score is 0 whatever the labels: such data say nothing at this `n_neighbors`.

    Rows at exactly equal distances are taken in an unspecified order.

    Examples
    --------
    >>> from sklearn_ckm.metrics import neighborhood_agreement_score
    >>> X = [[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]]
    >>> neighborhood_agreement_score(X, [0, 0, 0, 1, 1, 1], n_neighbors=2)
    1.0
    >>> neighborhood_agreement_score(X, [0, 0, 0, 0, 0, 0], n_neighbors=2)
    0.0
    """
    check_scalar(n_neighbors, "n_neighbors", Integral, min_val=1)
    if sample_size is not None:
        check_scalar(sample_size, "sample_size", Integral, min_val=3)
    X = check_array(X, dtype=np.float64, input_name="X")
    labels = _check_labels(labels, "labels")
    check_consistent_length(X, labels)
    sample_weight = _check_weights(sample_weight, X.shape[0])
    rows = np.flatnonzero(sample_weight)
    if len(rows) < 3:
        raise ValueError(
            f"Expected at least 3 rows of positive weight, got {len(rows)}; neighbours say nothing "
            "about so few, pass more rows."
        )
    if sample_size is not None and len(rows) > sample_size:
        rows = check_local_random_state(random_state).choice(rows, sample_size, replace=False)
    return _agreement(X[rows], _encode(labels[rows]), sample_weight[rows], n_neighbors)


def _agreement(X, codes, sample_weight, n_neighbors):
    """(A - E) / (1 - E) of the Notes; codes are integers from 0."""
    neighbors = _nearest_neighbors(X, min(n_neighbors, len(X) - 1))  # (n_samples, n_neighbors)
    agreement = np.mean(codes[neighbors] == codes[:, np.newaxis], axis=1)  # (n_samples,)
    chance = (np.bincount(codes)[codes] - 1) / (len(codes) - 1)  # (n_samples,)
    if np.all(chance == 1):
        return 0.0
    observed = np.average(agreement, weights=sample_weight)
    expected = np.average(chance, weights=sample_weight)
    return min(1.0, float((observed - expected) / (1 - expected)))


def _nearest_neighbors(X, n_neighbors):
    """Indices of shape (n_samples, n_neighbors); a row is never its own neighbour."""
    # Fast distances subtract large squares: centred and scaled rows do not cancel or overflow.
    X = X - X.mean(axis=0)
    X /= np.abs(X).max() or 1.0
    return NearestNeighbors(n_neighbors=n_neighbors).fit(X).kneighbors(return_distance=False)
