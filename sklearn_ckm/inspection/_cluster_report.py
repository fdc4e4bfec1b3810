"""Report of the clusters of a fitted model, in text or numbers."""

# License: BSD-3-Clause

from numbers import Integral
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
    pairwise_distances,
    silhouette_samples,
)
from sklearn.utils import check_scalar

from ..metrics._clustering_accuracy import _match, _matched_share, _weighted_contingency
from ..utils._labels import check_same_kind
from ..utils._random import check_local_random_state
from ._fitted_rows import FittedClusterer, group_means, read_domain_rows


@overload
def cluster_report(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike | None = ...,
    *,
    X_src: ArrayLike | None = ...,
    y_src: ArrayLike | None = ...,
    sample_domain: ArrayLike | None = ...,
    max_samples: int | None = ...,
    random_state: int | np.random.RandomState | None = ...,
    digits: int = ...,
    output_dict: Literal[False] = ...,
) -> str: ...


@overload
def cluster_report(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike | None = ...,
    *,
    X_src: ArrayLike | None = ...,
    y_src: ArrayLike | None = ...,
    sample_domain: ArrayLike | None = ...,
    max_samples: int | None = ...,
    random_state: int | np.random.RandomState | None = ...,
    digits: int = ...,
    output_dict: Literal[True],
) -> dict[str, Any]: ...


@overload
def cluster_report(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike | None = ...,
    *,
    X_src: ArrayLike | None = ...,
    y_src: ArrayLike | None = ...,
    sample_domain: ArrayLike | None = ...,
    max_samples: int | None = ...,
    random_state: int | np.random.RandomState | None = ...,
    digits: int = ...,
    output_dict: bool,
) -> str | dict[str, Any]: ...


def cluster_report(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike | None = None,
    *,
    X_src: ArrayLike | None = None,
    y_src: ArrayLike | None = None,
    sample_domain: ArrayLike | None = None,
    max_samples: int | None = 2000,
    random_state: int | np.random.RandomState | None = 0,
    digits: int = 2,
    output_dict: bool = False,
) -> str | dict[str, Any]:
    """Tell the size, the cohesion and the nearest source class of each cluster.

    With labels of the target, clusters are compared with classes as well.

    Parameters
    ----------
    estimator : object
        Fitted, with ``predict`` and ``transform``; also at the end of a pipeline or in a search.
        Where there is ``predict_cluster``, that is asked.
    X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
        Rows of the target, as for ``predict``; of both domains where `sample_domain` is given.
    y : array-like of shape (n_samples,), default=None
        Classes of the rows of `X`, of any dtype; ``NaN`` and ``None`` mean unlabelled, and so does
        ``-1`` in rows that are tagged target, and for a classifier that knows no class -1.
        Unlabelled rows do not count in the comparison.
    X_src : array-like of shape (n_source, n_features) or (n_source, channels, height, width), \
            default=None
        Rows of the source, for its classes.
    y_src : array-like of shape (n_source,), default=None
        Classes of the rows of `X_src`.
    sample_domain : array-like of shape (n_samples,), default=None
        Integers: ``>= 0`` for source rows, ``< 0`` for target rows, in place of `X_src`.
    max_samples : int or None, default=2000
        Most rows that the silhouette looks at, drawn at random, the same number from each cluster
        that has as many. Time grows with the square. None takes all.
    random_state : int, RandomState instance or None, default=0
        Draws these rows.
    digits : int, default=2
        Decimals of the text.
    output_dict : bool, default=False
        Whether to return the numbers instead of the text.

    Returns
    -------
    report : str or dict
        Text, or with `output_dict` the keys

        - ``"n_samples"``: int, target rows.
        - ``"clusters"``: dict of dict, by the name of the cluster (its index; the class that the
          estimator gives it, where it names clusters): ``"size"``, ``"share"`` of the rows,
          ``"silhouette"``, ``"confidence"`` and, with classes of the source,
          ``"nearest_source_class"``.
        - ``"source_accuracy"``: float, with classes of the source and an estimator that trained a
          classifier of them: the share of these rows that it names right.
        - with labels ``"n_labelled"``, ``"accuracy"``, ``"normalized_mutual_info"``,
          ``"adjusted_rand"``, and ``"classes"``: dict of dict, by the name of the class:
          ``"cluster"``, ``"recall"``, ``"precision"`` and ``"support"``.

        What cannot be said is NaN among numbers and None among names.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If lengths differ, no row is target, or `X_src` and `sample_domain` are both given.
    TypeError
        If the estimator lacks a method.

    See Also
    --------
    ClusterConfusionDisplay : All classes and clusters in a picture.
    sklearn.metrics.classification_report : For predictions that are named already.

    Notes
    -----
    *silhouette*: the mean over the cluster's rows of :func:`~sklearn.metrics.silhouette_samples` in
    the embedding: near 1 where a cluster is cohesive and far from others, 0 between two, below 0
    where its rows are nearer to another cluster. It compares clusters of one model. It does not
    compare models, because the training itself tightens clusters, right or wrong.

    *confidence*: the mean of the largest probability of each row; not calibrated.

    *nearest source class*: the one whose mean embedding is nearest to the centre of the cluster (to
    the mean of its rows, where the estimator has no centres). Some class is always nearest, also
    where none is near.

    *classes*: classes are matched to clusters one to one, so that as many rows as possible agree,
    as in :func:`~sklearn_ckm.metrics.clustering_accuracy`. Recall is the share of the class that
    is in its cluster, precision the share of its cluster that is of the class. A class without a
    cluster has recall 0.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_ckm import ConcreteKMeans
    >>> from sklearn_ckm.inspection import cluster_report
    >>> X, y = make_blobs(90, centers=3, random_state=0, cluster_std=0.5)
    >>> model = ConcreteKMeans(3, pretrain_epochs=5, max_epochs=0, random_state=0).fit(X)
    >>> report = cluster_report(model, X, y, output_dict=True)
    >>> sum(row["size"] for row in report["clusters"].values())
    90
    """
    if max_samples is not None:
        check_scalar(max_samples, "max_samples", Integral, min_val=1)
    check_scalar(digits, "digits", Integral, min_val=0)
    model = FittedClusterer(estimator)
    rows = read_domain_rows(
        X, y, X_src=X_src, y_src=y_src, sample_domain=sample_domain, unlabelled=model.unlabelled
    )
    X_prepared = model.prepare(rows.X)
    labels, z = model.predict(X_prepared), model.embed(X_prepared)
    names = model.cluster_names(labels)
    source_accuracy = None
    columns = {
        "size": np.bincount(labels, minlength=len(names)).tolist(),
        "share": (np.bincount(labels, minlength=len(names)) / len(labels)).tolist(),
        "silhouette": _cluster_silhouettes(z, labels, len(names), max_samples, random_state),
    }
    confidence = model.confidence(X_prepared)
    if confidence is not None:
        means = group_means(confidence[:, np.newaxis], labels, len(names))
        columns["confidence"] = means[:, 0].tolist()
    if rows.y_source is not None:
        X_source = model.prepare(rows.X_source)
        z_source = model.embed(X_source)
        positions = model.center_positions(z, labels, len(names))
        columns["nearest_source_class"] = _nearest_classes(
            positions, group_means(z_source, rows.y_source, len(rows.source_classes)), rows
        )
        source_accuracy = _source_accuracy(model.predict_source(X_source), rows)
    report = {
        "n_samples": len(labels),
        "clusters": {
            name: {key: column[k] for key, column in columns.items()}
            for k, name in enumerate(names)
        },
    }
    if source_accuracy is not None:
        report["source_accuracy"] = source_accuracy
    if rows.y is not None:
        is_labelled = rows.y >= 0
        truth = rows.y[is_labelled]
        report |= _compare(truth, labels[is_labelled], rows.classes.tolist(), names)
    return report if output_dict else _format(report, digits)


def _cluster_silhouettes(z, labels, n_clusters, max_samples, random_state):
    """Mean silhouette of the rows of each cluster; NaN without rows, or without another cluster."""
    chosen = _draw_evenly(labels, max_samples, random_state)
    z, labels = z[chosen], labels[chosen]
    if not 1 < len(np.unique(labels)) < len(labels):
        return [np.nan] * n_clusters
    return group_means(silhouette_samples(z, labels)[:, np.newaxis], labels, n_clusters)[
        :, 0
    ].tolist()


def _draw_evenly(labels, max_samples, random_state):
    """Indices of rows, at most as many of each cluster as make up `max_samples`."""
    if max_samples is None or len(labels) <= max_samples:
        return np.arange(len(labels))
    random_state = check_local_random_state(random_state)
    clusters = np.unique(labels)
    n_each = max(1, max_samples // len(clusters))
    members = (random_state.permutation(np.flatnonzero(labels == k)) for k in clusters)
    return np.concatenate([rows[:n_each] for rows in members])


def _nearest_classes(positions, class_means, rows):
    """Name of the source class whose mean is nearest to each position; None for no position."""
    classes = rows.source_classes.tolist()
    is_known = ~np.isnan(positions).any(axis=1)
    nearest = pairwise_distances(np.nan_to_num(positions), class_means).argmin(axis=1)
    return [classes[i] if known else None for i, known in zip(nearest, is_known, strict=True)]


def _source_accuracy(predicted, rows):
    """Share of the labelled source rows that are named right; None where nothing names them."""
    if predicted is None:
        return None
    is_labelled = rows.y_source >= 0
    truth = rows.source_classes[rows.y_source[is_labelled]].astype(object)
    check_same_kind(truth, np.unique(predicted))
    return float(np.mean(predicted[is_labelled].astype(object) == truth))


def _compare(truth, labels, classes, names):
    """Agreement of clusters with classes, over all and for each class."""
    contingency = _weighted_contingency(truth, labels, np.ones(len(truth)))
    present_classes, present_clusters = np.unique(truth), np.unique(labels)
    matched = dict(zip(*(indices.tolist() for indices in _match(contingency)), strict=True))
    per_class = {}
    for i, code in enumerate(present_classes):
        k = matched.get(i)
        n_shared = 0.0 if k is None else contingency[i, k]
        per_class[classes[code]] = {
            "cluster": names[present_clusters[k]] if n_shared else None,
            "recall": float(n_shared / contingency[i].sum()),
            "precision": float(n_shared / contingency[:, k].sum()) if n_shared else np.nan,
            "support": int(contingency[i].sum()),
        }
    return {
        "n_labelled": len(truth),
        "accuracy": _matched_share(contingency),
        "normalized_mutual_info": float(normalized_mutual_info_score(truth, labels)),
        "adjusted_rand": float(adjusted_rand_score(truth, labels)),
        "classes": per_class,
    }


def _format(report, digits):
    """Tables of the clusters and of the classes, and the numbers of the whole."""
    parts = [_table("cluster", report["clusters"], digits)]
    if "source_accuracy" in report:
        parts.append(f"accuracy on the source  {report['source_accuracy']:.{digits}f}")
    if "classes" in report:
        n_labelled, n_samples = report["n_labelled"], report["n_samples"]
        keys = ("accuracy", "normalized_mutual_info", "adjusted_rand")
        width = max(map(len, keys))
        lines = [f"{key.replace('_', ' '):>{width}}  {report[key]:.{digits}f}" for key in keys]
        parts.append(f"{n_labelled} of {n_samples} rows are labelled\n\n" + "\n".join(lines))
        parts.append(_table("class", report["classes"], digits))
    return "\n\n".join(parts) + "\n"


def _table(corner, rows, digits):
    """Columns aligned to the right, their names above."""
    keys = list(next(iter(rows.values())))
    cells = [[corner, *(key.replace("_", " ") for key in keys)]]
    cells += [
        [_one_line(name), *(_cell(row[key], digits) for key in keys)] for name, row in rows.items()
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(f"{c:>{w}}" for c, w in zip(line, widths, strict=True)) for line in cells]
    return "\n".join([lines[0], "", *lines[1:]])


def _cell(value, digits):
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else _one_line(value)


def _one_line(name):
    """Return a name without line breaks and tabs, which would break the columns."""
    return " ".join(str(name).split())
