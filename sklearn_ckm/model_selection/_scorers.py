"""Scorers that look at the target's rows alone."""

import warnings
from collections.abc import Callable
from functools import partial
from inspect import signature
from numbers import Real
from typing import Any

import numpy as np
import sklearn.metrics
from sklearn.base import BaseEstimator, is_classifier
from sklearn.cluster import KMeans
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import _num_samples

from .. import metrics
from .._base import BaseDeepEstimator
from ..utils._domains import check_target_rows
from ..utils._labels import UNLABELLED, check_labels, check_same_kind, encode_labels
from ..utils._random import fixed_sample
from ..utils._tag_params import reach_last_estimator

_SCORED_ROWS = 2000
_HALVES = 10
_WORST_SILHOUETTE = -1.0


def make_target_scorer(
    metric: str | Callable[..., Any], *, greater_is_better: bool = True, **kwargs: Any
) -> "TargetScorer":
    """Make a scorer that compares predictions with known labels on target rows.

    For `scoring` of scikit-learn's searches. Rows tagged source do not count, nor do rows without
    a label (``-1``, ``NaN``, ``None``).

    Parameters
    ----------
    metric : str or callable
        Name of a function of ``sklearn_ckm.metrics`` or ``sklearn.metrics`` that takes true and
        predicted labels, with or without its ``_score``, or such a function:
        ``"adjusted_rand_score"``, ``"clustering_accuracy"``, ``"accuracy"``.
    greater_is_better : bool, default=True
        False changes the sign.
    **kwargs
        Further arguments of the metric.

    Returns
    -------
    scorer : TargetScorer
        ``scorer(estimator, X, y, sample_domain=None)``. It asks metadata routing for the tags;
        without routing a search hands on none, and all labelled rows of a test fold count: use
        :class:`TargetSplit`, whose test folds hold target rows only. Several scorers go into a
        dict.

    Raises
    ------
    ValueError
        If there is no such metric. When called, if no target row is labelled.
    TypeError
        If `metric` is neither name nor function.

    See Also
    --------
    make_label_free_scorer : Needs no label.

    Examples
    --------
    >>> from sklearn_ckm.model_selection import make_target_scorer
    >>> scoring = {name: make_target_scorer(name) for name in ("adjusted_rand", "rand")}
    """
    if isinstance(metric, str):
        if metric.endswith(("_loss", "_error")) and greater_is_better:
            raise ValueError(
                f"Expected a score, of which more is better, got the name {metric!r}. Set "
                "greater_is_better=False."
            )
        metric = _find_metric(metric)
    if not callable(metric):
        raise TypeError(f"Expected the name of a metric, or a function, got {metric!r}.")
    return TargetScorer(metric, sign=1 if greater_is_better else -1, kwargs=kwargs or None)


def _find_metric(name):
    for module in (metrics, sklearn.metrics):
        for full_name in (name, f"{name}_score"):
            metric = getattr(module, full_name, None)
            if full_name in module.__all__ and _takes_labels(metric):
                return metric
    raise ValueError(
        "Expected the name of a function in sklearn_ckm.metrics or sklearn.metrics, such as "
        "'adjusted_rand_score', that takes true and predicted labels and gives one number, got "
        f"{name!r}. "
        "make_label_free_scorer has criteria without labels."
    )


def _takes_labels(metric):
    """Whether a function rates predicted by true labels with one number.

    The names of its parameters tell, and what it gives for a few labels.
    """
    if not callable(metric):
        return False
    names = list(signature(metric).parameters)[:2]
    if names not in (["y_true", "y_pred"], ["labels_true", "labels_pred"]):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return isinstance(metric([0, 1], [0, 1]), Real)
        except (TypeError, ValueError):  # it needs further arguments
            return True


def make_label_free_scorer(criterion: str) -> "LabelFreeScorer":
    """Make a scorer of a clustering that reads no label, on target rows.

    Parameters
    ----------
    criterion : str
        What is rated, on a fixed sample of at most 2,000 target rows; larger is better.

        - ``"silhouette"``: :func:`sklearn.metrics.silhouette_score` of the predicted clusters in
          the embedding; -1 where only one cluster is used.
        - ``"information_maximization"``, ``"nuclear_norm"``, ``"soft_neighborhood_density"``:
          the functions of ``sklearn_ckm.metrics`` on ``predict_proba``; the first is normalised.
        - ``"neighborhood_agreement"``: :func:`~sklearn_ckm.metrics.neighborhood_agreement_score`
          of the predicted clusters, in the scaled inputs of an estimator of this package, as its
          ``score``, else in the inputs themselves; those of the last step of a pipeline.
        - ``"stability"``: mean adjusted Rand index of the predicted clusters and those of k-means
          on ten random halves of the embedding.

    Returns
    -------
    scorer : LabelFreeScorer
        ``scorer(estimator, X, y=None, sample_domain=None)``. It asks metadata routing for the
        tags; without routing a search hands on none, and all rows of a test fold count: use
        :class:`TargetSplit`, whose test folds hold target rows only.

    Raises
    ------
    ValueError
        If there is no such criterion.

    See Also
    --------
    make_target_scorer : Compares with labels.
    LabelFreeSearchCV : Searches by these and by criteria that need further fits.

    Notes
    -----
    None of them is the truth. The silhouette rises as a larger weight of the clustering term
    tightens the clusters, right or wrong; information maximisation and nuclear norm reward
    clusters of equal size; the soft neighbourhood density is highest where all rows share one
    cluster. Criteria that lean on shared classes (importance-weighted or reverse validation, deep
    embedded validation) have no meaning where the classes differ, and are not offered.

    Examples
    --------
    >>> from sklearn_ckm.model_selection import make_label_free_scorer
    >>> scorer = make_label_free_scorer("silhouette")
    """
    if criterion not in LABEL_FREE_CRITERIA:
        raise ValueError(
            f"Expected one of {sorted(LABEL_FREE_CRITERIA)}, got {criterion!r}. LabelFreeSearchCV "
            "has further criteria, which need fits of their own."
        )
    return LabelFreeScorer(criterion)


class BaseDomainScorer(BaseEstimator):
    """A scorer that asks for domain tags."""

    def get_metadata_routing(self):
        """Metadata that the scorer asks for: ``sample_domain``.

        Returns
        -------
        routing : MetadataRequest
        """
        # a class-level request would count for a method `score` only
        request = MetadataRequest(owner=self)
        request.score.add_request(param="sample_domain", alias=True)
        return request

    @staticmethod
    def _target_rows(X, sample_domain):
        n_samples = _num_samples(X)
        if sample_domain is None:
            return np.arange(n_samples)
        return np.flatnonzero(check_target_rows(sample_domain, n_samples))


class TargetScorer(BaseDomainScorer):
    """Scorer that compares predictions with labels; made by :func:`make_target_scorer`."""

    def __init__(self, metric, *, sign=1, kwargs=None):
        self.metric = metric
        self.sign = sign
        self.kwargs = kwargs

    def __call__(self, estimator, X, y, *, sample_domain=None):
        """Score the labelled target rows.

        Parameters
        ----------
        estimator : object
            Fitted, with ``predict``.
        X : array-like of shape (n_samples, ...)
            Rows.
        y : array-like of shape (n_samples,)
            Classes.
        sample_domain : array-like of shape (n_samples,), default=None
            Domain tags.

        Returns
        -------
        score : float
        """
        rows = self._target_rows(X, sample_domain)
        if y is None:
            raise ValueError(
                "Expected the classes of some target rows in y, got None. "
                "make_label_free_scorer needs none."
            )
        codes, classes = encode_labels(
            check_labels(y, _num_samples(X))[rows], unlabelled=UNLABELLED
        )
        is_labelled = codes >= 0
        if not is_labelled.any():
            raise ValueError(
                f"Expected a labelled target row to score, got none among {len(rows)}. "
                "make_label_free_scorer needs none."
            )
        predicted = np.asarray(estimator.predict(_safe_indexing(X, rows[is_labelled])))
        truth = classes[codes[is_labelled]]
        if is_classifier(estimator):
            check_same_kind(truth, np.asarray(getattr(estimator, "classes_", predicted)))
        truth, predicted, kwargs = _as_comparable(truth, predicted, self.kwargs or {})
        return self.sign * float(self.metric(truth, predicted, **kwargs))


def _as_comparable(truth, predicted, kwargs):
    """Labels of one type as they are; others, such as names beside a -1, as common indices.

    Labels among the metric's keywords become indices with them.
    """
    kinds = {truth.dtype.kind, predicted.dtype.kind}
    if kinds <= set("biuf") or (len(kinds) == 1 and kinds != {"O"}):
        return truth, predicted, kwargs
    known = {}
    codes = [
        known.setdefault(label, len(known)) for y in (truth, predicted) for label in y.tolist()
    ]
    kwargs = dict(kwargs)
    if kwargs.get("pos_label") is not None:
        kwargs["pos_label"] = known.setdefault(kwargs["pos_label"], len(known))
    if kwargs.get("labels") is not None:
        kwargs["labels"] = [known.setdefault(label, len(known)) for label in kwargs["labels"]]
    return np.array(codes[: len(truth)]), np.array(codes[len(truth) :]), kwargs


class LabelFreeScorer(BaseDomainScorer):
    """Scorer that reads no label; made by :func:`make_label_free_scorer`."""

    def __init__(self, criterion):
        self.criterion = criterion

    def __call__(self, estimator, X, y=None, *, sample_domain=None):
        """Score the target rows.

        Parameters
        ----------
        estimator : object
            Fitted, with ``predict``, ``predict_proba`` or ``transform`` as the criterion needs.
        X : array-like of shape (n_samples, ...)
            Rows.
        y : Ignored
            Present by convention.
        sample_domain : array-like of shape (n_samples,), default=None
            Domain tags.

        Returns
        -------
        score : float
        """
        self.check_estimator(estimator)
        rows = self._target_rows(X, sample_domain)
        rows = rows[fixed_sample(len(rows), _SCORED_ROWS)]
        rate, _ = LABEL_FREE_CRITERIA[self.criterion]
        return float(rate(estimator, _safe_indexing(X, rows)))

    def check_estimator(self, estimator):
        """Raise ``TypeError`` where an estimator lacks the method that the criterion reads.

        Parameters
        ----------
        estimator : object
            Fitted or not.
        """
        _, method = LABEL_FREE_CRITERIA[self.criterion]
        if not hasattr(estimator, method):
            raise TypeError(
                f"Expected an estimator with {method} for the criterion {self.criterion!r}, got "
                f"{estimator!r}. Choose another criterion, such as 'neighborhood_agreement', or "
                "'seed_stability' of LabelFreeSearchCV."
            )


def _silhouette(estimator, X):
    labels = estimator.predict(X)
    if not 1 < len(np.unique(labels)) < len(labels):
        return _WORST_SILHOUETTE
    return sklearn.metrics.silhouette_score(_embedding(estimator, X), labels)


def _neighborhood_agreement(estimator, X):
    last, rows = reach_last_estimator(estimator, X)
    if isinstance(last, BaseDeepEstimator):  # the space of its own score
        rows = last._scaled_inputs(rows).float()
    flat = np.asarray(rows).reshape(_num_samples(X), -1)
    return metrics.neighborhood_agreement_score(flat, estimator.predict(X), sample_size=None)


def _stability(estimator, X):
    """Agreement with k-means on halves of the embedding, a number of clusters that is in use."""
    labels, z = estimator.predict(X), _embedding(estimator, X)
    n_clusters = len(np.unique(labels))
    if n_clusters == 1:
        return 0.0
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(_HALVES):
        half = rng.choice(len(z), max(n_clusters, len(z) // 2), replace=False)
        kmeans = KMeans(n_clusters, n_init=3, random_state=int(rng.integers(2**31)))
        again = kmeans.fit(z[half]).predict(z)
        scores.append(sklearn.metrics.adjusted_rand_score(labels, again))
    return np.mean(scores)


def _embedding(estimator, X):
    return np.asarray(estimator.transform(X), dtype=np.float64)


def _on_probabilities(score):
    return lambda estimator, X: score(np.asarray(estimator.predict_proba(X)))


def _several_clusters_norm(p):
    """Nuclear norm, and 0 for one cluster, which would score best of all."""
    return metrics.nuclear_norm_score(p) if p.shape[1] > 1 else 0.0


# by name: the function, and the method of the estimator that it reads beside predict
LABEL_FREE_CRITERIA = {
    "information_maximization": (
        _on_probabilities(partial(metrics.information_maximization_score, normalize=True)),
        "predict_proba",
    ),
    "neighborhood_agreement": (_neighborhood_agreement, "predict"),
    "nuclear_norm": (_on_probabilities(_several_clusters_norm), "predict_proba"),
    "silhouette": (_silhouette, "transform"),
    "soft_neighborhood_density": (
        _on_probabilities(metrics.soft_neighborhood_density_score),
        "predict_proba",
    ),
    "stability": (_stability, "transform"),
}
