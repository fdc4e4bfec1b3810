"""What the methods share that cluster learned features by k-means in the end."""

from numbers import Integral
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import metadata_routing
from sklearn.utils._param_validation import Interval

from .._training._inference import distances_in_blocks, embed
from .._training._phases import start_centers
from ..modules import Centers
from ..utils._random import phase_seed
from ..utils._validation import fit_context
from ._source_pretrained import BaseSourcePretrained


class BaseFeatureClusterer(BaseSourcePretrained):
    """Base of the clusterers: k-means, the best of twenty runs, on the embedding of the target.

    They are no :class:`sklearn.base.ClusterMixin`, whose classes fit without labels.
    """

    _parameter_constraints: dict = {
        **BaseSourcePretrained._parameter_constraints,
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
    }

    _needs_no_source_label = "ConcreteKMeans, which clusters a target alone"

    # the one request of these classes; X_tgt is for direct calls
    __metadata_request__fit = {"sample_domain": True, "X_tgt": metadata_routing.UNUSED}

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        X_tgt: ArrayLike | None = None,
        sample_domain: ArrayLike | None = None,
    ) -> Self:
        """Learn features with the help of the source, and cluster the target in them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            The source's rows where `X_tgt` is given; else both domains stacked, told apart by
            `sample_domain`; without either, every row is target, and source too if labelled.
        y : array-like of shape (n_samples,)
            Classes of the source rows, of any dtype; ``NaN`` and ``None`` mean unlabelled. What
            stands in a target row is never read.
        X_tgt : array-like of shape (n_target, n_features) or (n_target, channels, height, width)
            The target's rows, in direct calls. In a Pipeline, which would not transform them, or a
            search, which would cut them, stack both domains
            (:func:`~sklearn_ckm.utils.stack_domains`) and use `sample_domain`.
        sample_domain : array-like of shape (n_samples,), default=None
            Integers: ``>= 0`` for source rows, ``< 0`` for target rows.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If no source row is labelled, a domain is empty, the target has fewer rows than
            clusters, the domains' images differ in shape, dtype or range, or training diverges.
        """
        with self._as_before_on_error():
            if y is None:
                raise ValueError(
                    f"{type(self).__name__} requires y to be passed, but the target y is None. "
                    "Pass the classes of the source rows."
                )
            return self._fit(self._read_domains(X, y, X_tgt, sample_domain=sample_domain))

    def fit_predict(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        X_tgt: ArrayLike | None = None,
        sample_domain: ArrayLike | None = None,
    ) -> np.ndarray:
        """Fit, and return clusters.

        Parameters
        ----------
        X, y, X_tgt, sample_domain : array-like
            As in :meth:`fit`.

        Returns
        -------
        labels : ndarray of shape (n_target,) or (n_samples,)
            ``labels_`` where `X_tgt` is given, else one label per row of `X`.
        """
        self.fit(X, y, X_tgt=X_tgt, sample_domain=sample_domain)
        if X_tgt is not None or sample_domain is None:
            return self.labels_
        return self.predict(X)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Assign each row to its nearest centre in the embedding.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of the target.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int32
            Indices of clusters.
        """
        return self._predict(self._embed(self._check_X(X)))

    def _predict(self, z):
        distances = distances_in_blocks(z, self._net.module_.centers.positions.detach())
        return distances.argmin(1).int().cpu().numpy()

    def _check_enough(self, domains):
        if len(domains.X_target) < self.n_clusters:
            raise ValueError(
                "Expected at least as many target rows as clusters, got "
                f"n_samples={len(domains.X_target)} and n_clusters={self.n_clusters}."
            )

    def _place_centers(self, model, run):
        """Run k-means on the target's embedding."""
        z = embed(model, run.data.target, run.settings.device)
        seed = phase_seed(run.seed, "centers")
        model.centers = Centers(start_centers(z, int(self.n_clusters), seed=seed)).to(z.device)
        self.cluster_centers_ = model.centers.positions.detach().cpu().numpy().copy()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags
