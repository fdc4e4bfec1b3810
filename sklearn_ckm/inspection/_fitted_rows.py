"""What displays and report ask of a fitted estimator, whether or not a pipeline is around it."""

from typing import NamedTuple

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from ..utils._domains import check_target_rows
from ..utils._labels import UNLABELLED, check_labels, encode_labels, unlabelled_beside
from ..utils._stack_domains import _as_array, _frame_library


class DomainRows(NamedTuple):
    """Rows of the target, and of the source where there are any; labels as class indices.

    Attributes
    ----------
    X : array-like of shape (n_target, ...)
        Rows of the target.
    y : ndarray of shape (n_target,) or None
        Indices into `classes`, -1 where unlabelled; None where no label is given.
    classes : ndarray of shape (n_classes,)
        Sorted names.
    index : ndarray of shape (n_target,)
        Where the rows of the target stand in what was given.
    X_source : array-like of shape (n_source, ...) or None
        Rows of the source.
    y_source : ndarray of shape (n_source,) or None
        Indices into `source_classes`, -1 where unlabelled; None where no label is given.
    source_classes : ndarray of shape (n_source_classes,)
        Sorted names.
    """

    X: np.ndarray
    y: np.ndarray | None
    classes: np.ndarray
    index: np.ndarray
    X_source: np.ndarray | None
    y_source: np.ndarray | None
    source_classes: np.ndarray


def read_domain_rows(X, y=None, *, X_src=None, y_src=None, sample_domain=None, unlabelled=None):
    """Tell the domains apart: target rows in `X` and source rows beside them, or tagged rows.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
        Rows of the target, or of both domains where there are tags.
    y : array-like of shape (n_samples,) or None
        Their classes; ``NaN`` and ``None`` mean unlabelled, and so does -1 in rows tagged target.
    X_src : array-like of shape (n_source, ...) or None
        Rows of the source, where there are no tags.
    y_src : array-like of shape (n_source,) or None
        Their classes.
    sample_domain : array-like of shape (n_samples,) or None
        Tags.
    unlabelled : int or None
        What means unlabelled in `y` without tags.

    Returns
    -------
    rows : DomainRows

    Raises
    ------
    ValueError
        If lengths differ, no row is target, or the two ways are mixed.
    """
    _check_calling_style(X_src, y_src, sample_domain)
    X = _as_rows(X, "X")
    y = None if y is None else check_labels(y, len(X))
    index = np.arange(len(X))
    if sample_domain is not None:
        is_target = check_target_rows(sample_domain, len(X))
        unlabelled, index = UNLABELLED, np.flatnonzero(is_target)
        if not is_target.all():
            X_src, y_src = _safe_indexing(X, ~is_target), None if y is None else y[~is_target]
        X, y = _safe_indexing(X, is_target), None if y is None else y[is_target]
    elif X_src is not None:
        X_src = _as_rows(X_src, "X_src")
        y_src = None if y_src is None else check_labels(y_src, len(X_src), "y_src")
    codes, classes = _encode(y, "y", unlabelled)
    source_codes, source_classes = _encode(y_src, "the source's labels")
    return DomainRows(X, codes, classes, index, X_src, source_codes, source_classes)


def _check_calling_style(X_src, y_src, sample_domain):
    if X_src is not None and sample_domain is not None:
        raise ValueError(
            "Expected either X_src or sample_domain, got both. Pass the target's rows as X and the "
            "source's as X_src, or stack both in X and tag them with sample_domain."
        )
    if y_src is not None and X_src is None:
        raise ValueError(
            "Expected y_src together with X_src, got y_src alone. In stacked data the labels of "
            "the source's rows stand in y."
        )


def _as_rows(X, name):
    return X if _frame_library(X) is not None else _as_array(X, name)


def _encode(y, name, unlabelled=None):
    """Class indices and names; no label at all is as good as no labels."""
    if y is None:
        return None, np.empty(0, dtype=np.int64)
    codes, classes = encode_labels(y, name, unlabelled=unlabelled)
    return (codes if len(classes) else None), classes


def group_means(z, labels, n_groups):
    """Mean of the rows of each group, (n_groups, n_components); NaN for a group without rows.

    Rows with the label -1 belong to no group.
    """
    sums = np.zeros((n_groups, z.shape[1]))
    np.add.at(sums, labels[labels >= 0], z[labels >= 0])
    counts = np.bincount(labels[labels >= 0], minlength=n_groups)[:, np.newaxis]
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


class FittedClusterer:
    """A fitted estimator seen from outside: its clusters, their names, and their centres.

    Parameters
    ----------
    estimator : object
        Fitted: an estimator of this package, another one that predicts clusters, a pipeline that
        ends with one, or a search that holds one.

    Attributes
    ----------
    last : object
        The estimator itself, at the end of searches and pipelines.
    """

    def __init__(self, estimator):
        if not hasattr(estimator, "fit"):
            raise TypeError(
                f"Expected a fitted estimator first, got {type(estimator).__name__}. The rows come "
                "second."
            )
        check_is_fitted(estimator)
        self._steps = []
        while True:
            if hasattr(estimator, "best_estimator_"):
                estimator = estimator.best_estimator_
            elif isinstance(estimator, Pipeline):
                if len(estimator) > 1:
                    self._steps.append(estimator[:-1])
                estimator = estimator[-1]
            else:
                break
        self.last = estimator

    @property
    def unlabelled(self):
        """What means unlabelled among classes of the target: -1 where it cannot be one of them."""
        classes = getattr(self.last, "classes_", None)
        return None if classes is None else unlabelled_beside(classes)

    def prepare(self, X):
        """Rows as the last step sees them."""
        for steps in self._steps:
            X = steps.transform(X)
        return X

    def embed(self, X):
        """Embedding of prepared rows, (n_samples, n_components)."""
        return np.asarray(self._method("transform")(X), dtype=np.float64)

    def predict(self, X):
        """Cluster of each prepared row, as an index into :meth:`cluster_names`."""
        if hasattr(self.last, "predict_cluster"):  # whose `predict` names several centres alike
            return self.last.predict_cluster(X)
        predicted = np.asarray(self._method("predict")(X))
        if not hasattr(self.last, "classes_"):
            return predicted
        return np.searchsorted(self.last.classes_, predicted)

    def predict_source(self, X):
        """Source class of each prepared row, by name; None where no classifier was trained."""
        if not hasattr(self.last, "predict_source"):
            return None
        try:
            return np.asarray(self.last.predict_source(X))
        except ValueError:  # which it raises without a classifier
            return None

    def confidence(self, X):
        """Largest probability of each prepared row, (n_samples,); None where there is none."""
        for name in ("predict_cluster_proba", "predict_proba"):
            if hasattr(self.last, name):
                return np.asarray(getattr(self.last, name)(X)).max(axis=1)
        return None

    @property
    def centers(self):
        """Centres in the embedding, or None."""
        return getattr(self.last, "cluster_centers_", None)

    def center_distances(self, z, labels):
        """Distance of each embedding to the centre of its cluster, (n_samples,).

        Parameters
        ----------
        z : ndarray of shape (n_samples, n_components)
            Embeddings.
        labels : ndarray of shape (n_samples,)
            Their clusters.

        Returns
        -------
        distances : ndarray of shape (n_samples,)
        """
        centers = self.center_positions(z, labels, int(labels.max(initial=-1)) + 1)
        return np.linalg.norm(z - centers[labels], axis=1)

    def center_positions(self, z, labels, n_clusters):
        """Centres of the estimator; where it has none in this space, the means of the clusters.

        Parameters
        ----------
        z : ndarray of shape (n_samples, n_components)
            Embeddings.
        labels : ndarray of shape (n_samples,)
            Their clusters.
        n_clusters : int
            Number of clusters.

        Returns
        -------
        positions : ndarray of shape (n_clusters, n_components)
            NaN for the mean of no row.
        """
        if self.centers is not None and self.centers.shape[1] == z.shape[1]:
            return np.asarray(self.centers, dtype=np.float64)
        return group_means(z, labels, n_clusters)

    def cluster_names(self, labels=()):
        """Name of each cluster, by its index: the class where it has one.

        Parameters
        ----------
        labels : array-like of shape (n_samples,), default=()
            Indices that occur, for an estimator without centres.

        Returns
        -------
        names : list of int, str or object
        """
        classes = getattr(self.last, "classes_", None)
        n_clusters = int(np.max(labels, initial=-1)) + 1
        if self.centers is not None:
            n_clusters = max(n_clusters, len(self.centers))
        if classes is None:
            return list(range(n_clusters))
        if not hasattr(self.last, "predict_cluster"):
            return classes.tolist()
        n_named = len(classes) if len(classes) == n_clusters else len(classes) - 1
        names = classes[:n_named].tolist()
        for i in range(n_named, n_clusters):
            name = f"{classes[-1]} ({i})"
            while name in names:  # a class of that name
                name += "'"
            names.append(name)
        return names

    def _method(self, name):
        if not hasattr(self.last, name):
            raise TypeError(f"Expected an estimator with {name}, got {self.last!r}.")
        return getattr(self.last, name)
