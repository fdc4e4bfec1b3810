"""The number of clusters, where nobody knows it."""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture

from ..utils._warnings import ignored_warnings

FEWEST_ROWS = 20  # of which estimators ask for an estimate
_DRAWS = 5
_ROWS_OF_A_DRAW = 100, 500  # half of the rows, within these limits
_MOST_CLUSTERS = 20
_ROWS_PER_CLUSTER = 10
_MOST_DIRECTIONS = 10  # a full covariance has too many parameters in more
_KMEANS_STARTS = 3
_WORST_SILHOUETTE = -1.0
_CLEAR_SILHOUETTE = 0.5
_RIDGE = 1e-3  # of the mean variance, on the diagonal of each covariance
_PATIENCE = 4  # numbers in a row that are no better, after which views look no further
_LEAST_GAIN = 0.75  # of what the number that views agree on best has brought


def most_clusters(n_rows):
    """Return the largest number that so many rows allow to look at."""
    return max(2, min(_MOST_CLUSTERS, n_rows // _ROWS_PER_CLUSTER))


def count_by_views(shared_information, n_rows):
    """Estimate the number of clusters: more of them must say more of a row's view.

    Parameters
    ----------
    shared_information : callable
        Called with a number of clusters; returns a lower bound of the mutual information, in nats,
        of the clusters of rows and those of their views, after a fine-tuning.
    n_rows : int
        How many rows it looks at.

    Returns
    -------
    n_clusters : int
        At least two.
    curve : dict of str to ndarray of shape (n_candidates,)
        ``n_clusters``, their ``mutual_information``, and the ``gain`` that decides; larger is
        better.

    Notes
    -----
    k clusters of equal size, all found again in a view, share log k nats. Up to the number of
    classes, a further cluster adds most of that; past it, a class is divided along a line that the
    views cross, and little is added. With the share of log k that the best number attains, called
    eta, the gain is I(k) - 0.75 eta log k, and its maximum is the estimate. Numbers are looked at
    from two on, until four in a row are no better than the best.
    """
    numbers, information = [], []
    for n_clusters in range(2, most_clusters(n_rows) + 1):
        numbers.append(n_clusters)
        information.append(shared_information(n_clusters))
        most = np.log(numbers)
        gain = np.round(information - _LEAST_GAIN * max(information / most) * most, 6)
        if len(gain) - 1 - gain.argmax() >= _PATIENCE:
            break
    curve = {"n_clusters": numbers, "mutual_information": information, "gain": gain}
    return numbers[gain.argmax()], {name: np.array(values) for name, values in curve.items()}


def estimate_n_clusters(z, *, seed):
    """Estimate how many clusters an embedding has: two criteria, averaged over random halves.

    Parameters
    ----------
    z : ndarray of shape (n_samples, n_components)
        Embedding of at least 20 rows.
    seed : int
        Draws the rows and starts k-means.

    Returns
    -------
    n_clusters : int
        At least two, at most 20 and a tenth of the rows of a draw.
    curve : dict of str to ndarray of shape (n_candidates,)
        ``n_clusters``, and the criteria ``bic`` and ``silhouette`` of each, the mean over the
        draws; larger is better.

    Notes
    -----
    Five times, half of the rows are drawn (at least 100 and at most 500), and the number of
    clusters is found at which the BIC of a Gaussian mixture with full covariances is best, and that
    at which the silhouette of k-means is. The estimate is the mean of these ten numbers, rounded.
    Either criterion alone, on one set of rows, errs more: the mixture divides clusters that are not
    Gaussian, the more so the more rows there are; the silhouette errs on either side. Where its
    mean exceeds one half, "a reasonable structure" [1]_, the silhouette decides alone: clear
    clusters of few rows have too many parameters for the mixture.

    References
    ----------
    .. [1] L. Kaufman, P. J. Rousseeuw. Finding Groups in Data. Wiley, 1990, chapter 2.
    """
    z = np.asarray(z, dtype=np.float64)
    fewest, most = _ROWS_OF_A_DRAW
    n_rows = min(len(z), int(np.clip(len(z) // 2, fewest, most)))
    candidates = np.arange(2, most_clusters(n_rows) + 1)
    rng = np.random.default_rng(seed)
    scores = np.empty((_DRAWS, len(candidates), 2))
    for i in range(_DRAWS):
        rows = np.sort(rng.choice(len(z), n_rows, replace=False))
        scores[i] = _rate(_principal_directions(z[rows]), candidates, int(rng.integers(2**31)))
    best = candidates[scores.argmax(axis=1)]  # (n_draws, 2)
    bic, silhouette = scores.mean(axis=0).T
    if silhouette.max() > _CLEAR_SILHOUETTE:
        best = best[:, 1]
    curve = {"n_clusters": candidates, "bic": bic, "silhouette": silhouette}
    return round(best.mean()), curve


def _principal_directions(z):
    n_directions = min(_MOST_DIRECTIONS, z.shape[1], len(z) - 1)
    with np.errstate(invalid="ignore"):  # shares of no variance, where all rows are one point
        return PCA(n_directions, svd_solver="full").fit_transform(z)


def _rate(z, candidates, seed):
    """BIC, larger for better models, and silhouette, of each number of clusters."""
    scores = []
    ridge = _RIDGE * z.var(axis=0).mean() + np.finfo(float).tiny
    # an unfinished mixture, or fewer distinct rows than clusters: no candidate to choose
    with ignored_warnings(ConvergenceWarning):
        for n_clusters in candidates.tolist():
            kmeans = KMeans(n_clusters, n_init=_KMEANS_STARTS, random_state=seed).fit(z)
            mixture = GaussianMixture(
                n_clusters,
                reg_covar=ridge,
                means_init=kmeans.cluster_centers_,
                random_state=seed,
            )
            is_divided = 1 < len(np.unique(kmeans.labels_)) < len(z)
            silhouette = silhouette_score(z, kmeans.labels_) if is_divided else _WORST_SILHOUETTE
            scores.append((-mixture.fit(z).bic(z), silhouette))
    return scores
