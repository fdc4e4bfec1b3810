"""What pipelines and searches hand on to the estimator of this package at their end."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.metaestimators import available_if

from ._tag_params import last_estimator, reach_last_estimator


def _has(name):
    """Condition for ``available_if``: the estimator at the end has a method."""
    return lambda self: hasattr(last_estimator(self._unfitted()), name)


class LastEstimatorMixin:
    """Methods that scikit-learn's pipelines and searches do not hand on.

    Rows pass the steps in front first. A method is there where the estimator at the end has it.
    """

    def _unfitted(self):
        """Return the estimator or pipeline that tells which methods there are."""
        return self

    def _fitted(self):
        """Return the fitted estimator or pipeline that answers."""
        return self

    @available_if(_has("predict_source"))
    def predict_source(self, X: ArrayLike) -> np.ndarray:
        """Classify rows with the source's classifier of the estimator at the end.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows of either domain.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Classes of the source.
        """
        estimator, X = reach_last_estimator(self._fitted(), X)
        return estimator.predict_source(X)

    @available_if(_has("predict_cluster"))
    def predict_cluster(self, X: ArrayLike) -> np.ndarray:
        """Return the indices of the clusters of rows in the estimator at the end.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Indices of clusters.
        """
        estimator, X = reach_last_estimator(self._fitted(), X)
        return estimator.predict_cluster(X)

    @available_if(_has("predict_cluster_proba"))
    def predict_cluster_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probabilities of the clusters of rows in the estimator at the end.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Rows.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters)
            Rows sum to one.
        """
        estimator, X = reach_last_estimator(self._fitted(), X)
        return estimator.predict_cluster_proba(X)
