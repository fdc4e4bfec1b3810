"""Picture of classes and clusters, matched to each other."""

# License: BSD-3-Clause

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing, check_consistent_length
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._plotting import _validate_style_kwargs
from sklearn.utils.validation import _num_samples

from ..metrics._clustering_accuracy import (
    _check_labels,
    _check_weights,
    _match,
    _matched_share,
    _weighted_contingency,
)
from ..utils._labels import encode_labels
from ._fitted_rows import FittedClusterer, read_domain_rows
from ._plotting import LETTER_INCHES, LINE_INCHES, as_text, check_axes, text_size, wrap_text

_NORMALIZE = ("true", "pred", "all")
_PALE = 0.5  # part of the colour scale up to which text is dark
_LINE = 24  # letters of a line of a name
_CELL = 0.5  # width and height of a cell, in inches, where names have few lines
_MARGINS = 2.2, 1.5  # in inches, least ones and those beside long names
_COLORBAR = 0.8  # in inches


def _order_along_diagonal(contingency):
    """Orders of classes and clusters such that those matched meet on the diagonal.

    Matched classes come first, in their order; then the others in theirs, the clusters by the
    class that they hold most of.
    """
    classes, clusters = _match(contingency)
    is_shared = contingency[classes, clusters] > 0  # a match of nothing is none
    classes, clusters = classes[is_shared], clusters[is_shared]
    spare_classes = np.setdiff1d(np.arange(contingency.shape[0]), classes)
    spare_clusters = np.setdiff1d(np.arange(contingency.shape[1]), clusters)
    rows = np.concatenate([classes, spare_classes])
    largest = contingency[rows][:, spare_clusters].argmax(axis=0)
    spare_clusters = spare_clusters[np.argsort(largest, kind="stable")]
    return rows, np.concatenate([clusters, spare_clusters])


def _normalized(matrix, normalize):
    """Shares of the rows, of the columns or of all; an empty row or column stays 0."""
    if normalize is None:
        return matrix
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    total = matrix.sum(axis=axis, keepdims=True)
    return np.divide(matrix, total, out=np.zeros(matrix.shape), where=total > 0)


def _check_normalize(normalize):
    if normalize is not None and normalize not in _NORMALIZE:
        raise ValueError(
            f"Expected None or one of {list(_NORMALIZE)} in normalize, got {normalize!r}."
        )


class ClusterConfusionDisplay:
    """Confusion matrix of classes and clusters, matched clusters on the diagonal.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All parameters are
    stored as attributes.

    Parameters
    ----------
    confusion_matrix : ndarray of shape (n_classes, n_clusters)
        Rows (or their share) by class and cluster, in the order in which they are drawn.
    class_labels : list of shape (n_classes,)
        Names of the classes, from the top.
    cluster_labels : list of shape (n_clusters,)
        Names of the clusters, from the left.
    accuracy : float, default=None
        Clustering accuracy, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the picture.
    figure_ : matplotlib Figure
        Figure of the axes.
    im_ : matplotlib AxesImage
        The matrix.
    text_ : ndarray of shape (n_classes, n_clusters), matplotlib Text, or None
        The values, where they are written.

    See Also
    --------
    sklearn_ckm.metrics.clustering_accuracy : Share of rows on the diagonal.
    sklearn.metrics.ConfusionMatrixDisplay : For predictions that are named already.
    cluster_report : The same in numbers.

    Notes
    -----
    Clusters are matched to classes one to one, such that as many rows as possible are on the
    diagonal. Matched classes come first, sorted. Classes without a cluster follow below, clusters
    without a class to the right, by the class that they hold most of: whether a class is split or
    two are merged can be seen there. Clusters that hold no row are left out.

    Examples
    --------
    >>> from sklearn_ckm.inspection import ClusterConfusionDisplay
    >>> y = ["cat", "cat", "dog", "dog"]
    >>> display = ClusterConfusionDisplay.from_predictions(y, [1, 1, 0, 1])
    >>> display.confusion_matrix, display.cluster_labels, display.accuracy
    (array([[2, 0], [1, 1]]), [1, 0], 0.75)
    """

    def __init__(
        self,
        confusion_matrix: np.ndarray,
        *,
        class_labels: list[Any],
        cluster_labels: list[Any],
        accuracy: float | None = None,
    ) -> None:
        self.confusion_matrix = confusion_matrix
        self.class_labels = class_labels
        self.cluster_labels = cluster_labels
        self.accuracy = accuracy

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_domain: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        normalize: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Predict clusters and draw them against true classes.

        Parameters
        ----------
        estimator : object
            Fitted, with ``predict``; also at the end of a pipeline or in a search. Where there is
            ``predict_cluster``, that is asked.
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of the target; of both domains where `sample_domain` is given.
        y : array-like of shape (n_samples,)
            Their classes, of any dtype; ``NaN`` and ``None`` mean unlabelled, and so does ``-1`` in
            rows that are tagged target, and for a classifier that knows no class -1. Such rows do
            not count.
        sample_domain : array-like of shape (n_samples,), default=None
            Domain tags; where given, only target rows (``< 0``) count.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows.
        normalize : {"true", "pred", "all"}, default=None
            Whether to show shares of each class, of each cluster or of all rows instead of counts.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        display : ClusterConfusionDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If lengths differ, no target row is labelled, or `normalize` is unknown.
        ImportError
            If matplotlib is missing.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        _check_normalize(normalize)
        model = FittedClusterer(estimator)
        if y is None:
            raise ValueError("Expected the true classes of the rows in y, got None.")
        rows = read_domain_rows(X, y, sample_domain=sample_domain, unlabelled=model.unlabelled)
        if rows.y is None:
            raise ValueError(
                f"Expected a labelled target row in y, got none among {len(rows.X)}. Pass the true "
                "classes."
            )
        is_labelled = rows.y >= 0
        labels = model.predict(model.prepare(_safe_indexing(rows.X, is_labelled)))
        if sample_weight is not None:
            sample_weight = _check_weights(sample_weight, _num_samples(X))
            sample_weight = sample_weight[rows.index[is_labelled]]
        display = cls._from_codes(
            (rows.y[is_labelled], rows.classes.tolist()),
            (labels, model.cluster_names(labels)),
            sample_weight,
            normalize,
        )
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        normalize: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw given clusters against true classes.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            Classes, of any dtype.
        y_pred : array-like of shape (n_samples,)
            Clusters, of any dtype.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights of the rows.
        normalize : {"true", "pred", "all"}, default=None
            Whether to show shares of each class, of each cluster or of all rows instead of counts.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        display : ClusterConfusionDisplay

        Raises
        ------
        ValueError
            If there are no rows, the lengths differ, a label is missing, the weights are negative
            or all zero, or `normalize` is unknown.
        TypeError
            If labels are of mixed types, such as ints and strings.
        ImportError
            If matplotlib is missing.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        _check_normalize(normalize)
        y_true, y_pred = _check_labels(y_true, "y_true"), _check_labels(y_pred, "y_pred")
        check_consistent_length(y_true, y_pred)
        (y_true, classes), (y_pred, clusters) = map(encode_labels, (y_true, y_pred))
        truth, predicted = (y_true, classes.tolist()), (y_pred, clusters.tolist())
        return cls._from_codes(truth, predicted, sample_weight, normalize).plot(ax=ax, **kwargs)

    @classmethod
    def _from_codes(cls, truth, predicted, sample_weight, normalize):
        """Count, match and order; `truth` and `predicted` are indices and the names of these."""
        (y_true, classes), (y_pred, clusters) = truth, predicted
        weights = _check_weights(sample_weight, len(y_true))
        matrix = _weighted_contingency(y_true, y_pred, weights)
        if sample_weight is None:
            matrix = matrix.astype(np.int64)
        accuracy = _matched_share(matrix)
        rows, columns = _order_along_diagonal(matrix)
        return cls(
            _normalized(matrix[np.ix_(rows, columns)], normalize),
            class_labels=[classes[i] for i in np.unique(y_true)[rows]],
            cluster_labels=[clusters[i] for i in np.unique(y_pred)[columns]],
            accuracy=accuracy,
        )

    def plot(
        self,
        ax: Any = None,
        *,
        include_values: bool = True,
        cmap: Any = "Blues",
        values_format: str | None = None,
        colorbar: bool = False,
        im_kw: dict[str, Any] | None = None,
        text_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the matrix. Long names are broken into lines.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure, as large as the names need. Axes of a figure with
            ``layout="constrained"`` leave them room, too.
        include_values : bool, default=True
            Whether to write the values into the cells.
        cmap : str or matplotlib Colormap, default="Blues"
            Colours of the cells.
        values_format : str, default=None
            Format of the values. None is ``"d"`` for counts, ``".2f"`` for shares and ``".3g"``
            for other sums of weights.
        colorbar : bool, default=False
            Whether to draw a scale of the colours.
        im_kw : dict, default=None
            Keywords of ``imshow``.
        text_kw : dict, default=None
            Keywords of ``text`` for the values.

        Returns
        -------
        display : ClusterConfusionDisplay
            The display itself.
        """
        matrix = np.asarray(self.confusion_matrix)
        classes, clusters = (
            [wrap_text(label, _LINE) for label in labels]
            for labels in (self.class_labels, self.cluster_labels)
        )
        is_turned = text_size(clusters)[0] > 3
        width, height = _figure_size(classes, clusters, is_turned)
        size = (width + _COLORBAR * colorbar, height)
        self.ax_ = check_axes(ax, type(self).__name__, figsize=size)
        self.figure_ = self.ax_.figure
        style = {"interpolation": "nearest", "cmap": cmap, "vmin": 0}
        self.im_ = self.ax_.imshow(matrix, **_validate_style_kwargs(style, im_kw or {}))
        self.text_ = None
        if include_values:
            self.text_ = self._write_values(matrix, values_format, text_kw or {})
        if colorbar:
            self.figure_.colorbar(self.im_, ax=self.ax_, fraction=0.046, pad=0.04)
        self.ax_.set(
            xticks=np.arange(matrix.shape[1]),
            yticks=np.arange(matrix.shape[0]),
            xticklabels=[as_text(label) for label in clusters],
            yticklabels=[as_text(label) for label in classes],
            xlabel="cluster",
            ylabel="true class",
        )
        if is_turned:
            self.ax_.tick_params(axis="x", labelrotation=90)
        if self.accuracy is not None:
            between = " " if matrix.shape[1] > 1 else "\n"  # a single column is narrow
            self.ax_.set_title(f"clustering{between}accuracy {self.accuracy:.3f}")
        return self

    def _write_values(self, matrix, values_format, text_kw):
        """Write each value in the colour that stands out from its cell."""
        if values_format is None:
            values_format = "d" if matrix.dtype.kind in "iu" else _float_format(matrix)
        shades = self.im_.norm(matrix)
        texts = np.empty(matrix.shape, dtype=object)
        for i, j in np.ndindex(matrix.shape):
            style = {"ha": "center", "va": "center"}
            style["color"] = self.im_.cmap(1.0 if shades[i, j] < _PALE else 0.0)
            style = _validate_style_kwargs(style, text_kw)
            texts[i, j] = self.ax_.text(j, i, format(matrix[i, j], values_format), **style)
        return texts


def _figure_size(classes, clusters, is_turned):
    """Inches that the cells and the names, broken into lines, take up."""
    (n_left, n_lines), (n_below, n_columns) = text_size(classes), text_size(clusters)
    cell = max(_CELL, LINE_INCHES * (max(n_lines, n_columns if is_turned else 0) + 1))
    names = LETTER_INCHES * np.array([n_left, n_below if is_turned else 0])
    margins = np.maximum(_MARGINS[0], _MARGINS[1] + names)
    return np.maximum(margins + cell * np.array([len(clusters), len(classes)]), 4.0)


def _float_format(matrix):
    return ".2f" if matrix.max() <= 1 else ".3g"
