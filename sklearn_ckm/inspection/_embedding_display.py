"""Picture of the embedding of both domains in two dimensions."""

# License: BSD-3-Clause

from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.utils import _safe_indexing, check_array, check_scalar
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._plotting import _validate_style_kwargs

from ..utils._labels import check_labels, encode_labels
from ..utils._random import check_local_random_state, check_seed
from ._fitted_rows import FittedClusterer, read_domain_rows
from ._plotting import (
    DARK_GREY,
    GREY,
    MARKERS,
    N_STYLES,
    as_text,
    check_axes,
    group_style,
    place_long_legend,
    shorten_names,
    wrap_text,
)

_METHODS = ("auto", "pca", "umap")
_UNLABELLED = -1
_LINE = 24  # letters of a line of the legend
_SHORT = 2  # letters that fit into a circle
_CENTER_LINE = 14  # letters of a line at a centre
_LONG_MARGIN = 0.16  # share of the axes at each side, for long names of centres


def _make_projection(method, random_state):
    """Return an unfitted transformer to two dimensions, and how its axes are called."""
    if isinstance(method, str):
        if method not in _METHODS:
            raise ValueError(
                f"Expected one of {list(_METHODS)} or a transformer in method, got {method!r}."
            )
        umap_class = None if method == "pca" else _import_umap(is_needed=method == "umap")
        if umap_class is None:
            return PCA(2, svd_solver="full"), "component"
        seed = check_seed(random_state)  # with a seed UMAP allows one thread only
        return umap_class(n_components=2, n_jobs=1, random_state=seed), "UMAP"
    if not hasattr(method, "fit_transform"):
        raise TypeError(
            f"Expected one of {list(_METHODS)} or an object with fit_transform in method, got "
            f"{method!r}."
        )
    return clone(method), type(method).__name__


def _import_umap(*, is_needed):
    """Return the class of umap-learn, or None where that is not installed and not needed."""
    try:
        from umap import UMAP
    except ImportError as error:
        if not is_needed:
            return None
        raise ImportError(
            "method='umap' requires umap-learn. Install it with `pip install umap-learn`, or use "
            "method='pca'."
        ) from error
    return UMAP


def _axis_labels(projection, name):
    """Names of both axes; for principal components with their share of the variance."""
    if type(projection) is not PCA:
        return f"{name} 1", f"{name} 2"
    shares = projection.explained_variance_ratio_[:2]
    return tuple(
        f"component {i} ({share:.0%} of the variance)" for i, share in enumerate(shares, 1)
    )


def _project(projection, z):
    """Fit and apply the projection; a single column gets a second one of zeros."""
    points = np.asarray(projection.fit_transform(_two_columns(z)))
    if points.shape != (len(z), 2):
        raise ValueError(
            f"Expected method to give points of shape {(len(z), 2)!r}, got {points.shape!r}. Set "
            "its number of components to 2."
        )
    return points


def _read_embedding(z, labels, name, labels_name, random_state, max_samples):
    """Rows to show of an embedding, the index of each one's label, and the labels."""
    z = check_array(z, input_name=name)
    chosen = random_state.permutation(len(z))[:max_samples]
    if labels is None:
        return z[chosen], None, ()
    codes, classes = encode_labels(check_labels(labels, len(z), labels_name), labels_name)
    return z[chosen], codes[chosen], classes.tolist()


def _two_columns(z):
    return z if z.shape[1] > 1 else np.hstack([z, np.zeros_like(z)])


class EmbeddingDisplay:
    """Scatter plot of an embedding in two dimensions: the target by cluster, the source in grey.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All parameters are
    stored as attributes.

    Parameters
    ----------
    points : ndarray of shape (n_target, 2)
        Rows of the target, in the order in which they are drawn.
    labels : ndarray of shape (n_target,), int
        Index of each row's group, -1 for none.
    names : list of shape (n_groups,)
        What the legend calls the groups.
    source_points : ndarray of shape (n_source, 2), default=None
        Rows of the source.
    source_labels : ndarray of shape (n_source,), int, default=None
        Index of each row's class, -1 for none.
    source_names : list of shape (n_source_classes,), default=None
        What the legend calls the classes of the source.
    center_points : ndarray of shape (n_clusters, 2), default=None
        Centres of the clusters.
    center_names : list of shape (n_clusters,), default=None
        Written into the marks of the centres; their index by default. Long names are shortened to
        two lines, their beginning and their end, unless two would then be the same.
    axis_labels : tuple of str, default=("dimension 1", "dimension 2")
        Names of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the picture.
    figure_ : matplotlib Figure
        Figure of the axes.
    target_ : list of matplotlib PathCollection
        Marks of the target, one collection for each kind of marker.
    source_ : list of matplotlib PathCollection
        Marks of the source.
    centers_ : list of matplotlib Text
        Marks of the centres.
    legend_ : matplotlib Legend or None
        The legend.

    See Also
    --------
    ClusterSheetDisplay : Example images of each cluster.

    Notes
    -----
    Groups have one of seven colours that people with the common kinds of colour blindness can tell
    apart; from the eighth group on, the marker changes too, and from the 57th on the marks begin
    anew, as the legend says. A projection to two dimensions shows
    some of the structure only: clusters that overlap in the picture need not do so in the
    embedding, and with UMAP neither sizes nor distances of clusters have a meaning.

    Examples
    --------
    >>> from sklearn.datasets import make_blobs
    >>> from sklearn_ckm import ConcreteKMeans
    >>> from sklearn_ckm.inspection import EmbeddingDisplay
    >>> X, _ = make_blobs(100, centers=3, random_state=0, cluster_std=0.5)
    >>> model = ConcreteKMeans(3, pretrain_epochs=5, max_epochs=5, random_state=0).fit(X)
    >>> display = EmbeddingDisplay.from_estimator(model, X, method="pca")
    >>> display.center_points.shape
    (3, 2)
    """

    def __init__(
        self,
        points: np.ndarray,
        labels: np.ndarray,
        names: list[Any],
        *,
        source_points: np.ndarray | None = None,
        source_labels: np.ndarray | None = None,
        source_names: list[Any] | None = None,
        center_points: np.ndarray | None = None,
        center_names: list[Any] | None = None,
        axis_labels: tuple[str, str] = ("dimension 1", "dimension 2"),
    ) -> None:
        self.points = points
        self.labels = labels
        self.names = names
        self.source_points = source_points
        self.source_labels = source_labels
        self.source_names = source_names
        self.center_points = center_points
        self.center_names = center_names
        self.axis_labels = axis_labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        X_src: ArrayLike | None = None,
        y_src: ArrayLike | None = None,
        sample_domain: ArrayLike | None = None,
        method: str | TransformerMixin = "auto",
        max_samples: int | None = 2000,
        random_state: int | np.random.RandomState | None = 0,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Embed rows, project them to two dimensions and draw them.

        Parameters
        ----------
        estimator : object
            Fitted, with ``transform``, and ``predict`` where `y` is None; also at the end of a
            pipeline or in a search.
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of the target, as for ``predict``; of both domains where `sample_domain` is given.
        y : array-like of shape (n_samples,), default=None
            Classes of the rows of `X`, of any dtype; ``NaN`` and ``None`` mean unlabelled, and so
            does ``-1`` in rows that are tagged target, and for a classifier that knows no class -1.
            Where some target row has a class, colours stand for classes, else for the clusters that
            the estimator predicts.
        X_src : array-like of shape (n_source, n_features) or (n_source, channels, height, width), \
                default=None
            Rows of the source, to be shown as well.
        y_src : array-like of shape (n_source,), default=None
            Classes of the rows of `X_src`.
        sample_domain : array-like of shape (n_samples,), default=None
            Integers: ``>= 0`` for source rows, ``< 0`` for target rows, in place of `X_src`.
        method : {"auto", "pca", "umap"} or transformer, default="auto"
            The projection, fitted on the rows that are shown. ``"auto"`` is UMAP where umap-learn
            is installed, else the first two principal components. A transformer is cloned, and
            needs ``fit_transform``; without ``transform``, as of
            :class:`~sklearn.manifold.TSNE`, no centres are shown.
        max_samples : int or None, default=2000
            Most rows of each domain, drawn at random. None shows all.
        random_state : int, RandomState instance or None, default=0
            Draws the rows, orders them and seeds UMAP.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        display : EmbeddingDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If lengths differ, fewer than two rows are left, no row is target, `X_src` and
            `sample_domain` are both given, or `method` gives no two dimensions.
        TypeError
            If the estimator or `method` lacks a method.
        ImportError
            If matplotlib is missing, or umap-learn for ``method="umap"``.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        if max_samples is not None:
            check_scalar(max_samples, "max_samples", Integral, min_val=1)
        model = FittedClusterer(estimator)
        rows = read_domain_rows(
            X, y, X_src=X_src, y_src=y_src, sample_domain=sample_domain, unlabelled=model.unlabelled
        )
        random_state = check_local_random_state(random_state)
        projection, name = _make_projection(method, random_state)

        def choose(n_rows):
            return random_state.permutation(n_rows)[:max_samples]

        chosen = choose(len(rows.X))
        X_shown = model.prepare(_safe_indexing(rows.X, chosen))
        if rows.y is None:
            labels = model.predict(X_shown)
            names = [f"cluster {name}" for name in model.cluster_names(labels)]
        else:
            labels, names = rows.y[chosen], [f"class {name}" for name in rows.classes.tolist()]
        z_source = source_labels = None
        if rows.X_source is not None:
            chosen_source = choose(len(rows.X_source))
            z_source = model.embed(model.prepare(_safe_indexing(rows.X_source, chosen_source)))
            if rows.y_source is not None:
                source_labels = rows.y_source[chosen_source]
        display = cls._from_rows(
            projection,
            name,
            (model.embed(X_shown), labels, names),
            (z_source, source_labels, rows.source_classes),
            model.centers,
            model.cluster_names(),
        )
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        z: ArrayLike,
        labels: ArrayLike,
        *,
        z_src: ArrayLike | None = None,
        y_src: ArrayLike | None = None,
        centers: ArrayLike | None = None,
        method: str | TransformerMixin = "auto",
        max_samples: int | None = 2000,
        random_state: int | np.random.RandomState | None = 0,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Project a given embedding to two dimensions and draw it.

        Parameters
        ----------
        z : array-like of shape (n_samples, n_components)
            Embedding of the target, as by ``transform``.
        labels : array-like of shape (n_samples,)
            Cluster or class of each row, of any dtype; ``NaN`` and ``None`` mean none.
        z_src : array-like of shape (n_source, n_components), default=None
            Embedding of the source.
        y_src : array-like of shape (n_source,), default=None
            Classes of the source.
        centers : array-like of shape (n_clusters, n_components), default=None
            Centres of the clusters in the embedding, marked by their index.
        method : {"auto", "pca", "umap"} or transformer, default="auto"
            As in :meth:`from_estimator`.
        max_samples : int or None, default=2000
            Most rows of each domain, drawn at random. None shows all.
        random_state : int, RandomState instance or None, default=0
            Draws the rows, orders them and seeds UMAP.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs
            Passed to :meth:`plot`.

        Returns
        -------
        display : EmbeddingDisplay

        Raises
        ------
        ValueError
            If there are no `labels`, lengths or numbers of columns differ, values are not finite,
            there are fewer than two rows, or `method` gives no two dimensions.
        TypeError
            If `method` has no ``fit_transform``.
        ImportError
            If matplotlib is missing, or umap-learn for ``method="umap"``.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        if labels is None:
            raise ValueError("Expected a label for each row of z, got labels=None.")
        if max_samples is not None:
            check_scalar(max_samples, "max_samples", Integral, min_val=1)
        random_state = check_local_random_state(random_state)
        projection, name = _make_projection(method, random_state)
        target = _read_embedding(z, labels, "z", "labels", random_state, max_samples)
        source = None, None, ()
        if z_src is not None:
            source = _read_embedding(z_src, y_src, "z_src", "y_src", random_state, max_samples)
        elif y_src is not None:
            raise ValueError("Expected y_src beside z_src, got it alone. Pass z_src.")
        n_columns = target[0].shape[1]
        if centers is not None:
            centers = check_array(centers, input_name="centers")
        for other, values in (("z_src", source[0]), ("centers", centers)):
            if values is not None and values.shape[1] != n_columns:
                raise ValueError(
                    f"Expected {other} to have as many columns as z, which has {n_columns}, got "
                    f"{values.shape[1]}."
                )
        z, labels, names = target
        target = z, labels, [str(name) for name in names]
        return cls._from_rows(projection, name, target, source, centers, None).plot(ax=ax, **kwargs)

    @classmethod
    def _from_rows(cls, projection, name, target, source, centers, center_names):
        """Project what is shown; a domain is its embedding, its labels and their names."""
        (z, labels, names), (z_source, source_labels, source_names) = target, source
        stacked = z if z_source is None else np.concatenate([z, z_source])
        if len(stacked) < 2:
            raise ValueError(f"Expected at least two rows to show, got {len(stacked)}. Pass more.")
        points = _project(projection, stacked)
        center_points = _project_centers(projection, centers, z.shape[1])
        return cls(
            points[: len(z)],
            labels,
            names,
            source_points=None if z_source is None else points[len(z) :],
            source_labels=source_labels,
            source_names=[str(name) for name in source_names],
            center_points=center_points,
            center_names=None if center_points is None else center_names,
            axis_labels=_axis_labels(projection, name),
        )

    def plot(
        self,
        ax: Any = None,
        *,
        legend: bool = True,
        source_kw: dict[str, Any] | None = None,
        center_kw: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the picture.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        legend : bool, default=True
            Whether to draw a legend, to the right of the axes. One that would be higher than the
            axes has several columns: a figure of its own grows with them, beside given axes it has
            smaller letters and may still need more room than they have.
        source_kw : dict, default=None
            Keywords of ``scatter`` for the source.
        center_kw : dict, default=None
            Keywords of ``text`` for the centres.
        **kwargs
            Keywords of ``scatter`` for the target.

        Returns
        -------
        display : EmbeddingDisplay
            The display itself.
        """
        self.ax_ = check_axes(ax, type(self).__name__, figsize=(8, 5.5))
        self.figure_ = self.ax_.figure
        self.source_ = self._draw_source(source_kw or {})
        self.target_ = self._draw_target(kwargs)
        self.centers_ = self._draw_centers(center_kw or {})
        self.ax_.set(xlabel=self.axis_labels[0], ylabel=self.axis_labels[1])
        self.legend_ = self._draw_legend(may_grow=ax is None) if legend else None
        return self

    def _draw_source(self, source_kw):
        """Hollow grey marks; a marker for each class while there are enough of them."""
        if self.source_points is None:
            return []
        style = {"s": 20, "facecolor": "none", "edgecolor": GREY, "linewidth": 0.6}
        collections = []
        for label, marker, name in self._source_groups():
            is_member = slice(None) if label is None else self.source_labels == label
            points = self.source_points[is_member]
            if len(points):
                own = {**style, "marker": marker, "label": name}
                own = _validate_style_kwargs(own, source_kw)
                collections.append(self.ax_.scatter(*points.T, **own))
        return collections

    def _source_groups(self):
        """Label, marker and name of each class of the source."""
        if self.source_labels is None or len(self.source_names) > len(MARKERS):
            return [(None, MARKERS[0], "source")]
        groups = [
            (i, MARKERS[i], as_text(wrap_text(f"source {name}", _LINE)))
            for i, name in enumerate(self.source_names)
        ]
        return [*groups, (_UNLABELLED, ".", "source, unlabelled")]

    def _draw_target(self, kwargs):
        """Filled marks; those of one marker are drawn together, so that no colour hides another."""
        collections = []
        is_unlabelled = self.labels == _UNLABELLED
        styles = [group_style(i) for i in range(len(self.names))]
        markers = {style["marker"] for style in styles}
        if is_unlabelled.any():
            style = {"s": 6, "color": GREY, "linewidth": 0, "marker": "o"}
            points = self.points[is_unlabelled]
            collections.append(self.ax_.scatter(*points.T, **_validate_style_kwargs(style, kwargs)))
        for marker in sorted(markers, key=MARKERS.index):
            groups = [i for i, style in enumerate(styles) if style["marker"] == marker]
            is_member = np.isin(self.labels, groups)
            if not is_member.any():
                continue
            colors = [styles[label]["color"] for label in self.labels[is_member]]
            style = {
                "s": 14 if marker == "o" else 20,
                "alpha": 0.85,
                "linewidth": 0,
                "marker": marker,
                "color": colors,
            }
            points = self.points[is_member]
            collections.append(self.ax_.scatter(*points.T, **_validate_style_kwargs(style, kwargs)))
        return collections

    def _draw_centers(self, center_kw):
        """Names of the clusters in white boxes."""
        if self.center_points is None:
            return []
        names = self.center_names
        if names is None:
            names = range(len(self.center_points))
        names = shorten_names(names, _CENTER_LINE)
        texts = []
        for name, point in zip(names, self.center_points, strict=True):
            style = _validate_style_kwargs(_center_style(name), center_kw)
            # clipped as a whole, where its centre is outside: no name is cut at the edge
            texts.append(self.ax_.annotate(as_text(name), point, annotation_clip=True, **style))
        if max(map(len, names), default=0) > _CENTER_LINE:
            self.ax_.margins(x=_LONG_MARGIN)
        self.ax_.update_datalim(self.center_points)  # texts do not widen the axes
        self.ax_.autoscale_view()
        return texts

    def _draw_legend(self, *, may_grow):
        from matplotlib.lines import Line2D

        handles = [
            Line2D([], [], linestyle="", label=as_text(wrap_text(name, _LINE)), **group_style(i))
            for i, name in enumerate(self.names)
        ]
        if (self.labels == _UNLABELLED).any():
            style = {"color": GREY, "marker": "o", "markersize": 3}
            handles.append(Line2D([], [], linestyle="", label="unlabelled", **style))
        if self.centers_:
            style = {"marker": "o", "markerfacecolor": "white", "markeredgecolor": "black"}
            handles.append(Line2D([], [], linestyle="", markersize=9, label="centre", **style))
        style = {"handles": [*handles, *self.source_], "labelcolor": DARK_GREY}
        if len(self.names) > N_STYLES:
            style["title"] = f"marks repeat after {N_STYLES} groups"
        return place_long_legend(self.ax_, may_grow=may_grow, **style)


def _center_style(name):
    """Bold in a white box; long names are smaller, and the rows behind them shine through."""
    is_long = len(name) > _CENTER_LINE
    box = "circle" if len(name) <= _SHORT else "round"
    face = (1, 1, 1, 0.75) if is_long else "white"
    return {
        "ha": "center",
        "va": "center",
        "fontsize": 8 if is_long else 9,
        "weight": "bold",
        "zorder": 4,
        "bbox": {"boxstyle": f"{box},pad=0.2", "facecolor": face},
    }


def _project_centers(projection, centers, n_components):
    """Centres in the picture; None where there are none, or none that can be projected."""
    if centers is None or centers.shape[1] != n_components or not hasattr(projection, "transform"):
        return None
    return np.asarray(projection.transform(_two_columns(np.asarray(centers, dtype=np.float64))))
