"""A clusterer that costs nothing, and is right or wrong as it is told."""

from zlib import crc32

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.metrics import euclidean_distances


class CheapClusterer(ClusterMixin, TransformerMixin, BaseEstimator):
    """k-means on the rows tagged target, or clusters that have nothing to do with the rows.

    Parameters
    ----------
    quality : {"right", "random", "frozen", "collapsed", "fails"}
        ``"right"`` is k-means. The others draw the cluster of a row: ``"random"`` by the seed,
        ``"frozen"`` whatever the seed is, and ``"collapsed"`` embeds each row, moreover, close to
        a point that stands for its cluster. ``"fails"`` cannot be fitted.
    """

    __metadata_request__fit = {"sample_domain": True}
    __metadata_request__score = {"sample_domain": True}

    def __init__(self, n_clusters=3, *, quality="right", random_state=0):
        self.n_clusters = n_clusters
        self.quality = quality
        self.random_state = random_state

    def fit(self, X, y=None, *, sample_domain=None):
        if self.quality == "fails":
            raise ValueError("It fails as planned.")
        X = np.ascontiguousarray(X)  # sums depend on the order in memory
        rows = X if sample_domain is None else X[np.ravel(sample_domain) < 0]
        self.kmeans_ = KMeans(self.n_clusters, n_init=3, random_state=self.random_state)
        self.labels_ = self.kmeans_.fit_predict(rows)
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        X = np.ascontiguousarray(X)
        if self.quality == "right":
            return self.kmeans_.predict(X)
        X = np.round(X, 6) + 0.0  # rounding may depend on the place of a row among others
        seed = self.random_state if self.quality == "random" else 0
        draws = [crc32(row.tobytes(), crc32(f"{seed}".encode())) for row in X]
        return np.array(draws) // 7 % self.n_clusters

    def transform(self, X):
        X = np.ascontiguousarray(X, dtype=np.float64)
        if self.quality != "collapsed":
            return X
        return np.eye(X.shape[1])[self.predict(X)] + 1e-3 * X

    def predict_proba(self, X):
        distances = euclidean_distances(np.asarray(X), self.kmeans_.cluster_centers_)
        return softmax(-distances, axis=1)

    def score(self, X, y=None, *, sample_domain=None):
        rows = slice(None) if sample_domain is None else np.ravel(sample_domain) < 0
        return float(np.asarray(X)[rows].sum() + self.n_clusters)


def within_cluster_scorer(estimator, X, y=None):
    """What no one should choose by: minus the scatter of the clusters in the embedding."""
    z, labels = np.asarray(estimator.transform(X), dtype=np.float64), estimator.predict(X)
    means = np.array([z[labels == label].mean(axis=0) for label in labels])
    return -((z - means) ** 2).sum(axis=1).mean()
