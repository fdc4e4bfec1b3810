"""The number of clusters in an embedding, where nobody knows it."""

import warnings

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture

FEWEST_ROWS = 20  # of which estimators ask for an estimate
_MOST_ROWS = 1000  # the more rows, the finer the structure that BIC takes for clusters
_MOST_CLUSTERS = 20
_ROWS_PER_CLUSTER = 10
_MOST_DIRECTIONS = 10  # a full covariance has too many parameters in more
_KMEANS_STARTS = 5
_WORST_SILHOUETTE = -1.0
_RIDGE = 1e-3  # of the mean variance, on the diagonal of each covariance


def estimate_n_clusters(z, *, seed):
    """Estimate how many clusters an embedding has: by BIC, held down by the silhouette.

    Parameters
    ----------
    z : ndarray of shape (n_samples, n_components)
        Embedding of at least 20 rows.
    seed : int
        Seed of the sample of at most 1,000 rows, and of k-means.

    Returns
    -------
    n_clusters : int
        At least two, at most 20 and a tenth of the rows.
    curve : dict of str to ndarray of shape (n_candidates,)
        ``n_clusters``, and the criteria ``bic`` and ``silhouette`` of each; larger is better.

    Notes
    -----
    The BIC of a Gaussian mixture with full covariances, started from k-means, tends to divide
    clusters that are not Gaussian. The silhouette of k-means errs on either side, and farther. The
    estimate is the number of best BIC, less one where the silhouette is best at a smaller number.
    """
    z = _sample(np.asarray(z, dtype=np.float64), seed)
    most = max(2, min(_MOST_CLUSTERS, len(z) // _ROWS_PER_CLUSTER))
    candidates = np.arange(2, most + 1)
    with warnings.catch_warnings():
        # an unfinished mixture, or fewer distinct rows than clusters: no candidate to choose
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = np.array([_rate(z, int(k), seed) for k in candidates])
    curve = {"n_clusters": candidates, "bic": scores[:, 0], "silhouette": scores[:, 1]}
    by_bic, by_silhouette = candidates[scores.argmax(axis=0)]
    return int(by_bic - (by_silhouette < by_bic)), curve


def _sample(z, seed):
    """Some rows, in their principal directions."""
    if len(z) > _MOST_ROWS:
        rows = np.random.default_rng(seed).choice(len(z), _MOST_ROWS, replace=False)
        z = z[np.sort(rows)]
    n_directions = min(_MOST_DIRECTIONS, z.shape[1], len(z) - 1)
    with np.errstate(invalid="ignore"):  # shares of no variance, where all rows are one point
        return PCA(n_directions, svd_solver="full").fit_transform(z)


def _rate(z, n_clusters, seed):
    """BIC, larger for better models, and silhouette."""
    kmeans = KMeans(n_clusters, n_init=_KMEANS_STARTS, random_state=seed).fit(z)
    mixture = GaussianMixture(
        n_clusters,
        reg_covar=_RIDGE * z.var(axis=0).mean() + np.finfo(float).tiny,
        means_init=kmeans.cluster_centers_,
        random_state=seed,
    )
    is_divided = 1 < len(np.unique(kmeans.labels_)) < len(z)
    silhouette = silhouette_score(z, kmeans.labels_) if is_divided else _WORST_SILHOUETTE
    return -mixture.fit(z).bic(z), silhouette
